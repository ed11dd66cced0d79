"""Sub-models from one pass equal models fitted by themselves."""

from __future__ import annotations

import numpy as np
import pytest

import wernicke.ridge as ours
from wernicke.core.errors import InputError
from wernicke.ridge.partition import SubModels, leave_one_out_subsets

ALPHAS = np.logspace(-2, 4, 7)


def simulate(n: int, widths: tuple[int, ...], n_targets: int = 9):
    rng = np.random.default_rng(0)
    Xs = [rng.standard_normal((n, width)) for width in widths]
    return Xs, Xs[0] @ rng.standard_normal((widths[0], n_targets)) + rng.standard_normal((n, n_targets)) * 3


@pytest.mark.parametrize("n", [150, 40])
def test_every_submodel_equals_one_fitted_alone(n):
    Xs, Y = simulate(n, (8, 12, 10, 20))
    models = ours.solve_submodels(Xs, Y, ALPHAS, cv=3, score_func=ours.r2_score, exhaustive=True)
    assert len(models) == 15
    for bands, model in models.items():
        X = np.concatenate([Xs[i] for i in bands], 1)
        alone = ours.solve_ridge_cv(X, Y, ALPHAS, cv=3, score_func=ours.r2_score, exhaustive=True, warn=False)
        np.testing.assert_allclose(model.cv_scores, alone.cv_scores[0], atol=1e-8)
        np.testing.assert_allclose(model.best_alphas, alone.best_alphas)
        inside = np.concatenate([np.full(X.shape[1], i in bands) for i, X in enumerate(Xs)])
        np.testing.assert_allclose(model.coef[inside], alone.coef, atol=1e-8)
        assert (model.coef[~inside] == 0).all()


def test_a_band_that_drives_the_responses_has_the_unique_variance():
    Xs, Y = simulate(400, (8, 12, 10))
    models = ours.solve_submodels(Xs, Y, ALPHAS, cv=4, score_func=ours.r2_score)
    full = models[0, 1, 2].cv_scores
    unique = [(full - models[rest].cv_scores).mean() for rest in ((1, 2), (0, 2), (0, 1))]
    assert unique[0] > 0.3
    assert max(abs(unique[1]), abs(unique[2])) < 0.05


def test_banded_submodels_tune_their_own_weights():
    Xs, Y = simulate(200, (8, 30))
    plain = ours.solve_submodels(Xs, Y, ALPHAS, cv=4, score_func=ours.r2_score)
    banded = ours.solve_submodels(Xs, Y, ALPHAS, cv=4, score_func=ours.r2_score, n_iter=10, random_state=0)
    np.testing.assert_allclose(banded[0,].cv_scores, plain[0,].cv_scores)
    assert banded[0, 1].cv_scores.mean() > plain[0, 1].cv_scores.mean()


def test_more_than_four_bands_are_refused():
    Xs, Y = simulate(40, (2, 2, 2, 2, 2))
    with pytest.raises(InputError, match="found 5 bands"):
        ours.solve_submodels(Xs, Y, ALPHAS)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n", [120, 50])
def test_leaving_one_of_five_bands_out_equals_banded_ridge_on_the_others(n, fit_intercept):
    Xs, Y = simulate(n, (8, 12, 10, 20, 6))
    Xs, Y = [X + 0.5 for X in Xs], Y + 2
    settings = {"cv": 3, "score_func": ours.correlation_score, "n_iter": 5, "random_state": 3, "exhaustive": True}
    models = ours.solve_submodels(
        Xs, Y, ALPHAS, subsets=leave_one_out_subsets(5), fit_intercept=fit_intercept, **settings
    )  # fmt: skip
    assert list(models) == [(0, 1, 2, 3, 4), (1, 2, 3, 4), (0, 2, 3, 4), (0, 1, 3, 4), (0, 1, 2, 4), (0, 1, 2, 3)]
    for bands, model in models.items():
        alone = ours.solve_group_ridge(
            [Xs[i] for i in bands], Y, alphas=ALPHAS, fit_intercept=fit_intercept, warn=False, **settings
        )
        inside = np.concatenate([np.full(X.shape[1], i in bands) for i, X in enumerate(Xs)])
        np.testing.assert_allclose(model.cv_scores, alone.cv_scores.max(0), atol=1e-8)
        np.testing.assert_allclose(model.best_alphas, alone.best_alphas)
        np.testing.assert_allclose(model.coef[inside], alone.coef, atol=1e-8)
        np.testing.assert_allclose(model.intercept, alone.intercept, atol=1e-8)


def test_voxels_some_at_a_time_give_the_same():
    Xs, Y = simulate(100, (8, 12, 10))
    solver = SubModels(Xs, ALPHAS, cv=3, score_func=ours.r2_score, n_iter=4, random_state=0, exhaustive=True)
    parts = [list(solver.fit(Y[:, part])) for part in (slice(0, 4), slice(4, 9))]
    for whole, first, second in zip(solver.fit(Y), *parts, strict=True):
        np.testing.assert_allclose(whole.coef, np.concatenate([first.coef, second.coef], 1), atol=1e-10)


@pytest.mark.parametrize("subsets", [[()], [(0, 5)], [(1, 1)], []])
def test_impossible_subsets_are_refused(subsets):
    Xs, Y = simulate(40, (2, 2))
    with pytest.raises(InputError, match="E-CFG subsets"):
        ours.solve_submodels(Xs, Y, ALPHAS, subsets=subsets)
