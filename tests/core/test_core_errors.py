"""Messages of two lines at most, without anything that a terminal would obey; exit codes; errors as pickles."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wernicke.core import errors

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\r\nsecond\nthird\x00\u202e\udcff"


def test_message_names_code_file_field_and_hint():
    error = errors.InputError("E-SHAPE", "found 3 rows", path="x/bold.nii.gz", field="mask", hint="trim it")
    assert str(error) == "E-SHAPE x/bold.nii.gz: mask: found 3 rows\n  trim it"
    assert isinstance(error, ValueError)
    assert (error.code, error.field, error.exit_code) == ("E-SHAPE", "mask", 2)


@settings(deadline=None)
@given(st.text(), st.text(min_size=1), st.text(min_size=1), st.text())
def test_input_errors_are_printable_and_at_most_two_lines(problem, path, field, hint):
    lines = str(errors.InputError("E-FMT", problem, path=path, field=field, hint=hint)).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    "\n".join(lines).encode("utf-8")


@pytest.mark.parametrize(
    "kind",
    [errors.RunInUseError, errors.ControlFailedError, errors.NonFiniteLossError, errors.DiskFullError],
)
def test_other_errors_too(kind):
    lines = str(kind(f"run folder is in use: {HOSTILE}")).split("\n")
    assert len(lines) <= 2
    assert all(line.isprintable() for line in lines)


def test_long_text_is_cut():
    error = errors.InputError("E-FMT", "x" * 10**6, path="p" * 10**6, hint="h" * 10**6)
    assert len(str(error)) < 1300


def test_exit_codes_are_those_of_the_design():
    codes = {
        errors.InputError: 2,
        errors.RunInUseError: 3,
        errors.ControlFailedError: 4,
        errors.NonFiniteLossError: 5,
        errors.DiskFullError: 6,
    }
    assert {kind: kind.exit_code for kind in codes} == codes
    assert errors.Interrupted("stopped", 2).exit_code == 130
    assert errors.Interrupted("stopped", 15).exit_code == 143


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("E-REF", "no such file", path="a", field="b", hint="c"),
        errors.InputError("E-REF", "no such file"),
        errors.RunInUseError("in use"),
        errors.DiskFullError("disk full"),
        errors.Interrupted("stopped", 15),
    ],
)
def test_errors_travel_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.exit_code == error.exit_code
    assert getattr(copy, "code", None) == getattr(error, "code", None)
