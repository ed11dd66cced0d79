"""Validation verbs: what they pass on, and what they refuse with which code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wernicke.core import checks
from wernicke.core.errors import InputError


def refused(function, *arguments, **keywords) -> InputError:
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    return caught.value


def test_suggestion_names_the_nearest_or_all():
    assert checks.suggest("alhpas", ["alphas", "layer"]) == "did you mean `alphas`?"
    assert checks.suggest("zzz", ["layer", "alphas"]) == "known: alphas, layer"


def test_option():
    assert checks.check_option("mean", ("mean", "last"), "pool") == "mean"
    error = refused(checks.check_option, "meen", ("mean", "last"), "pool", "c.yaml")
    assert error.code == "E-CFG"
    assert str(error) == "E-CFG c.yaml: pool: unknown value `meen`\n  did you mean `mean`?"


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), np.int64(1)])
def test_range_returns_what_lies_within(value):
    assert checks.check_range(value, "x", low=0, high=1) == value


@pytest.mark.parametrize("value", [-1, 1.5, float("nan"), float("inf"), -float("inf"), True, "1", None, 10**400])
def test_range_refuses_what_does_not(value):
    assert refused(checks.check_range, value, "x", low=0, high=1).code == "E-CFG"


def test_range_with_open_end_and_without_bounds():
    assert "above 0" in str(refused(checks.check_range, 0, "alphas", low=0, low_open=True))
    assert checks.check_range(-3.5, "x") == -3.5
    assert str(refused(checks.check_range, float("nan"), "x")).endswith("expected a number")


@settings(deadline=None)
@given(st.text())
def test_an_identifier_never_leads_out_of_a_folder(text):
    if text.isascii() and text.isalnum():
        assert checks.check_identifier(text, "subject") == text
    else:
        assert refused(checks.check_identifier, text, "subject").code == "E-META"


@pytest.mark.parametrize("text", ["../../etc", "a b", "", "sub-01", "a\n", "é", 3, None])
def test_identifiers_refused(text):
    assert refused(checks.check_identifier, text, "subject").code == "E-META"


def test_file_and_folder(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("x")
    assert checks.check_file(str(file)) == file
    assert checks.check_folder(str(tmp_path)) == tmp_path
    for function, path, words in (
        (checks.check_file, tmp_path, "is a folder"),
        (checks.check_file, tmp_path / "b", "no such file"),
        (checks.check_folder, file, "is a file"),
        (checks.check_folder, tmp_path / "b", "no such folder"),
    ):
        error = refused(function, path, "root")
        assert error.code == "E-REF"
        assert words in str(error)
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [("int16", "float64"), ("bool", "float64"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_matrix_dtype(given_dtype, expected):
    assert checks.check_matrix(np.ones((3, 2), dtype=given_dtype), "features").dtype == expected


def test_matrix_is_not_copied_without_need():
    array = np.ones((3, 2), dtype=np.float32)
    assert checks.check_matrix(array, "features") is array


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.ones(3), "E-SHAPE"),
        (np.ones((3, 2, 1)), "E-SHAPE"),
        (np.ones((0, 2)), "E-SHAPE"),
        (np.ones((3, 0)), "E-SHAPE"),
        (np.ones((2, 2)), "E-SHAPE"),
        ([[1.0, 2.0], [3.0]], "E-SHAPE"),
        ([["a", "b"]] * 3, "E-FMT"),
        (np.ones((3, 2), dtype=complex), "E-FMT"),
        (np.array([[None, 1]] * 3), "E-FMT"),
        ([[1.0, np.nan]] * 3, "E-NONFIN"),
        ([[1.0, np.inf]] * 3, "E-NONFIN"),
        (np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 4), "E-NONFIN"),
    ],
)
def test_matrix_refused(values, code):
    error = refused(checks.check_matrix, values, "responses", n_rows=3)
    assert error.code == code
    assert "responses" in str(error)


def test_nonfinite_values_are_counted_and_placed():
    array = np.ones((4, 5))
    array[2, 3] = np.nan
    array[3, 3] = np.inf
    message = str(refused(checks.check_finite, array, "responses"))
    assert "2 values" in message
    assert "1 of 5 columns" in message
    assert "(2, 3)" in message


def test_half_precision_overflow_is_refused():
    with np.errstate(over="ignore"):
        values = np.full((2, 2), 1e6).astype(np.float16)
    assert refused(checks.check_matrix, values, "features").code == "E-NONFIN"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_missing_labels_are_refused_whatever_they_are_called(missing):
    error = refused(checks.check_labels, np.array(["a", missing, "b"], dtype=object), "runs", 3)
    assert error.code == "E-META"
    assert "entry 1" in str(error)


def test_labels():
    assert checks.check_labels(["NA", "null", "b"], "conditions", 3).tolist() == ["NA", "null", "b"]
    assert refused(checks.check_labels, ["a"], "runs", 2).code == "E-SHAPE"
    assert refused(checks.check_labels, [["a", "b"]], "runs", 2).code == "E-SHAPE"
    assert refused(checks.check_labels, [[1], [1, 2]], "runs", 2).code == "E-SHAPE"
    assert refused(checks.check_labels, [1.0, np.nan], "runs", 2).code == "E-NONFIN"
    assert refused(checks.check_labels, pd.array(["a", None], dtype="string"), "runs", 2).code == "E-META"
