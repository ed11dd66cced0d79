"""What ridge sees stays the same: against scikit-learn on the full width."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from wernicke.core.errors import InputError
from wernicke.features.align import delay
from wernicke.features.compact import isometric

DELAYS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def design():
    """Eight vectors of 576, as sentences give, shown in blocks over four runs; responses of 20 voxels."""
    rng = np.random.default_rng(0)
    sentences = rng.standard_normal((8, 576)) + 3 * rng.standard_normal(576)  # a large common part, as LLMs have
    runs = np.repeat(np.arange(4), 80)
    X = np.zeros((320, 576))
    for run in range(4):
        for block, category in enumerate(rng.permutation(8)):
            start = 80 * run + 10 * block
            X[start + 2 : start + 9] = sentences[category]
    return X, rng.standard_normal((320, 20)), runs


def test_rank_and_inner_products(design):
    X, _, _ = design
    small = isometric(X)
    assert small.shape == (320, 8)
    np.testing.assert_allclose(small @ small.T, X @ X.T, rtol=0, atol=1e-9 * np.abs(X @ X.T).max())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("when", ["before the delays", "after the delays"])
def test_ridge_predicts_the_same(design, fit_intercept, alpha, when):
    X, Y, runs = design
    wide = delay(X, DELAYS, runs)
    narrow = delay(isometric(X), DELAYS, runs) if when == "before the delays" else isometric(wide)
    assert wide.shape[1] == 2304
    assert narrow.shape[1] == 32
    for left_out in range(2):
        train, test = runs != left_out, runs == left_out
        one = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(wide[train], Y[train]).predict(wide[test])
        two = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(narrow[train], Y[train]).predict(narrow[test])
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-6 * np.abs(one).max())


def test_scaling_columns_afterwards_is_another_model(design):
    """The documented limit, so that nobody loses it: z-scored columns are no longer the same geometry."""
    X, Y, _ = design

    def predicted(columns):
        scaled = (columns - columns.mean(0)) / columns.std(0)
        return Ridge(1e3).fit(scaled, Y).predict(scaled)

    assert np.abs(predicted(isometric(X)) - predicted(X)).max() > 1e-3


def test_same_input_same_output_whatever_the_order_of_rows(design):
    X, _, _ = design
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(isometric(X), isometric(X.copy()))
    np.testing.assert_allclose(isometric(X[order]), isometric(X)[order], atol=1e-9)


def test_dtypes_and_edges():
    X = np.random.default_rng(2).standard_normal((5, 40)).astype(np.float32)
    small = isometric(X)
    assert small.dtype == np.float32
    assert small.shape == (5, 5)
    np.testing.assert_allclose(small @ small.T, X @ X.T, rtol=1e-4, atol=1e-4)
    tall = np.random.default_rng(3).standard_normal((50, 3))
    assert isometric(tall).shape == (50, 3)
    np.testing.assert_array_equal(isometric(np.zeros((4, 6))), np.zeros((4, 1)))
    with pytest.raises(InputError, match="E-NONFIN"):
        isometric(np.full((2, 2), np.inf))
