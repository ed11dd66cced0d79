"""Category contrasts against brute force, and what a model without contrast scores."""

from __future__ import annotations

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.encoding.contrasts import (
    block_responses,
    contrast_correlation,
    correlation_by_run,
    permute_within_runs,
    remove_shared,
    why_no_contrasts,
)


@pytest.fixture
def contrasts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    measured = remove_shared(rng.standard_normal((6, 4, 3)))
    return remove_shared(0.5 * measured + rng.standard_normal((6, 4, 3))), measured


def test_block_responses_are_means_of_later_volumes() -> None:
    conditions = np.array(["rest", "a", "a", "rest", "b", "rest", "rest", "rest", "b", "a", "rest", "rest"])
    runs = np.repeat([0, 1], 6)
    values = np.arange(12.0)[:, None] ** 2
    blocks = block_responses(values, runs, conditions, shift_tr=1)
    expected = [[(4 + 9) / 2, 25], [100, 81]]
    np.testing.assert_allclose(blocks[:, :, 0], expected)
    assert why_no_contrasts(runs, conditions, shift_tr=1) is None


def test_correlation_equals_numpy(contrasts: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = contrasts
    expected = [np.corrcoef(predicted[:, :, v].ravel(), measured[:, :, v].ravel())[0, 1] for v in range(3)]
    np.testing.assert_allclose(contrast_correlation(predicted, measured), expected, atol=1e-12)


def test_run_weights_repeat_runs(contrasts: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = contrasts
    counts = np.array([2, 0, 1, 3, 0, 0])
    rows = np.repeat(np.arange(6), counts)
    np.testing.assert_allclose(
        contrast_correlation(predicted, measured, run_weights=counts[None])[0],
        contrast_correlation(predicted[rows], measured[rows]),
    )


def test_a_prediction_without_contrast_explains_none(contrasts: tuple[np.ndarray, np.ndarray]) -> None:
    _, measured = contrasts
    same_for_all = remove_shared(np.full_like(measured, 3.7))
    assert contrast_correlation(same_for_all, measured).tolist() == [0, 0, 0]
    assert np.isnan(contrast_correlation(measured, np.zeros_like(measured))).all()


def test_permutations_are_within_runs(contrasts: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = contrasts
    null = permute_within_runs(predicted, measured, n_permutations=400, rng=np.random.default_rng(6))
    assert null.shape == (400, 3)
    assert np.abs(null.mean(axis=0)).max() < 0.05
    # Of a correlation with 6 runs x 4 conditions, of which 6 x 3 are free.
    np.testing.assert_allclose(null.std(axis=0), 1 / np.sqrt(18), rtol=0.2)


def test_correlation_by_run_is_per_run() -> None:
    rng = np.random.default_rng(7)
    a, b, runs = rng.standard_normal((20, 2)), rng.standard_normal((20, 2)), np.repeat(["x", "y"], 10)
    found = correlation_by_run(a, b, runs)
    np.testing.assert_allclose(found[1, 0], np.corrcoef(a[10:, 0], b[10:, 0])[0, 1])


def test_why_no_contrasts() -> None:
    runs = np.repeat([0, 1], 4)
    assert "found 1 conditions" in why_no_contrasts(runs, np.array(["a", "rest"] * 4), shift_tr=1)
    lacking = np.array(["a", "b", "rest", "rest", "a", "rest", "rest", "rest"])
    assert "run 1 has no response to condition 'b'" in why_no_contrasts(runs, lacking, shift_tr=1)
    cut_off = np.array(["a", "b", "rest", "rest", "a", "rest", "rest", "b"])
    assert "run 1 has no response to condition 'b'" in why_no_contrasts(runs, cut_off, shift_tr=1)


def test_a_run_without_stimulus_is_refused() -> None:
    with pytest.raises(InputError, match="run 1 has no stimulus"):
        why_no_contrasts(np.repeat([0, 1], 4), np.array(["a", "b", "a", "b", *["rest"] * 4]), shift_tr=1)
