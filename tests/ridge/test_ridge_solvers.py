"""The solvers against float64 references, what screening loses, and what is refused."""

from __future__ import annotations

import himalaya.ridge
import himalaya.scoring
import numpy as np
import pytest
from scipy.signal import lfilter

import wernicke.ridge as ours
from wernicke.core.errors import InputError
from wernicke.ridge.basis import gram64, quadratic_form
from wernicke.ridge.draws import clamp_gammas, make_gammas, refine_gammas
from wernicke.ridge.screen import Screen

DRAMA_ALPHAS = np.logspace(-12, 12, 25)


def simulate(n: int, p: int, n_targets: int, seed: int = 0, dtype: str = "float32"):
    """Autocorrelated features with a power-law spectrum; 40 % of targets carry signal."""
    rng = np.random.default_rng(seed)
    latent = lfilter([0.6], [1, -0.8], rng.standard_normal((n + 50, p)), axis=0)[50:]
    size = 1 / np.arange(1, p + 1)
    X = latent * size @ np.linalg.qr(rng.standard_normal((p, p)))[0] * np.sqrt(p) / 3
    k = min(p, 60)
    signal = latent[:, :k] * size[:k] @ (rng.standard_normal((k, n_targets)) / np.sqrt(size[:k, None]))
    strength = np.where(rng.random(n_targets) < 0.4, rng.uniform(0.1, 0.8, n_targets), 0)
    Y = signal / signal.std(0) * strength + rng.standard_normal((n, n_targets))
    return X.astype(dtype), (Y - Y.mean(0)).astype(dtype)


def reference_scores(X, Y, alphas, folds, score):
    """Exact scores in float64 from predictions, (n_alphas, n_targets), by normal equations, alpha by alpha."""
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    scores = np.zeros((len(folds), len(alphas), Y.shape[1]))
    for k, (train, test) in enumerate(folds):
        for a, alpha in enumerate(alphas):
            if X.shape[1] <= len(train):
                system = X[train].T @ X[train] + alpha * np.eye(X.shape[1])
                weights = np.linalg.solve(system, X[train].T @ Y[train])
            else:
                system = X[train] @ X[train].T + alpha * np.eye(len(train))
                weights = X[train].T @ np.linalg.solve(system, Y[train])
            scores[k, a] = score(Y[test], X[test] @ weights)
    return scores.mean(0)


def contiguous(sizes):
    ends = np.cumsum(sizes)
    rows = np.arange(ends[-1])
    return [
        (np.setdiff1d(rows, rows[end - size : end]), rows[end - size : end])
        for end, size in zip(ends, sizes, strict=True)
    ]


CASES = {
    "large folds": (800, 60, 9, [200, 200, 250, 150]),
    "tall": (120, 20, 9, [30, 30, 30, 30]),
    "test folds smaller than features": (120, 50, 9, [30, 30, 30, 30]),
    "uneven folds": (120, 20, 9, [70, 5, 15, 30]),
    "wide": (60, 90, 9, [20, 20, 20]),
    "one voxel": (80, 12, 1, [40, 40]),
    "one feature": (80, 1, 5, [20, 60]),
    "more features than training samples": (60, 55, 7, [30, 30]),
}


@pytest.mark.parametrize("score", ["correlation_score", "r2_score", "l2_neg_loss"])
@pytest.mark.parametrize("case", CASES)
def test_scores_equal_a_float64_reference(case, score):
    n, p, n_targets, sizes = CASES[case]
    X, Y = simulate(n, p, n_targets)
    alphas = np.logspace(-2, 5, 8)
    folds = contiguous(sizes)
    want = reference_scores(X, Y, alphas, folds, getattr(ours, score))
    found = ours.solve_ridge_cv(X, Y, alphas, cv=folds, score_func=getattr(ours, score), warn=False)
    chosen = np.searchsorted(alphas, found.best_alphas * 0.999)
    np.testing.assert_allclose(found.cv_scores[0], want[chosen, np.arange(n_targets)], atol=2e-5)
    assert (want.max(0) - found.cv_scores[0]).max() < 1e-3


def test_one_fold_and_folds_that_do_not_partition():
    X, Y = simulate(90, 15, 6, dtype="float64")
    alphas = np.logspace(-2, 4, 7)
    rows = np.arange(90)
    one = [(rows[:60], rows[60:])]
    overlapping = [(rows[:50], rows[50:]), (rows[20:], rows[:20]), (rows[30:70], rows[75:])]
    for folds in (one, overlapping):
        for intercept in (False, True):
            found = ours.solve_ridge_cv(X, Y, alphas, cv=folds, fit_intercept=intercept, exhaustive=True, warn=False)
            other = himalaya.ridge.solve_ridge_cv_svd(X, Y, alphas, cv=folds, fit_intercept=intercept)
            np.testing.assert_allclose(found.cv_scores, other[2], atol=1e-10)
            np.testing.assert_allclose(found.coef, other[1], atol=1e-9)


@pytest.mark.parametrize("kind", ["duplicated", "collinear", "zero column"])
def test_degenerate_columns(kind):
    X, Y = simulate(100, 12, 8)
    extra = {"duplicated": X[:, :4], "collinear": X @ np.ones((12, 1), "f4"), "zero column": np.zeros((100, 2), "f4")}
    X = np.concatenate([X, extra[kind]], 1)
    alphas, folds = np.logspace(-1, 4, 6), contiguous([50, 50])
    want = reference_scores(X, Y, alphas, folds, ours.correlation_score)
    found = ours.solve_ridge_cv(X, Y, alphas, cv=folds, score_func=ours.correlation_score, warn=False)
    assert np.isfinite(found.coef).all()
    np.testing.assert_allclose(found.cv_scores[0], want.max(0), atol=1e-3)
    if kind == "duplicated":  # the penalty shares weight equally among copies
        np.testing.assert_allclose(found.coef[:4], found.coef[12:], atol=1e-4)


@pytest.mark.parametrize(("n", "p"), [(1200, 300), (400, 300), (300, 500)])
def test_screening_loses_little(n, p):
    X, Y = simulate(n, p, 600)
    settings = {"cv": 4, "score_func": ours.correlation_score, "warn": False}
    exact = ours.solve_ridge_cv(X, Y, DRAMA_ALPHAS, exhaustive=True, **settings)
    fast = ours.solve_ridge_cv(X, Y, DRAMA_ALPHAS, **settings)
    loss = (exact.cv_scores - fast.cv_scores)[0]
    assert loss.mean() < 1e-5
    assert (loss > 1e-3).mean() <= 1e-3


def test_screening_saves_most_evaluations(monkeypatch):
    X, Y = simulate(1200, 100, 300)
    evaluated = []
    verify = Screen.verify
    monkeypatch.setattr(
        Screen, "verify", lambda self, rows, index: evaluated.append(len(rows)) or verify(self, rows, index)
    )
    ours.solve_ridge_cv(X, Y, DRAMA_ALPHAS, cv=4, score_func=ours.correlation_score, warn=False)
    assert sum(evaluated) < 4 * 300  # of 25 an exhaustive search makes


def test_predictions_agree_with_float64_at_equal_alphas():
    X, Y = simulate(600, 250, 80)
    found = ours.solve_ridge_cv(X, Y, np.logspace(-3, 6, 10), cv=4, score_func=ours.correlation_score, warn=False)
    X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
    values, vectors = np.linalg.eigh(X64.T @ X64)
    weights = vectors @ ((vectors.T @ X64.T @ Y64) / (values[:, None] + found.best_alphas))
    want = X64 @ weights
    error = np.linalg.norm(X @ found.coef - want, axis=0) / np.linalg.norm(want, axis=0)
    assert error.max() < 1e-3


def test_banded_screening_finds_the_exhaustive_choice():
    X, Y = simulate(500, 90, 150)
    Xs = [X[:, :30], X[:, 30:50], X[:, 50:]]
    gammas = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    settings = {"n_iter": gammas, "alphas": np.logspace(-3, 6, 10), "cv": 4, "warn": False}
    for score in (ours.correlation_score, ours.r2_score):
        exact = ours.solve_group_ridge(Xs, Y, score_func=score, exhaustive=True, **settings)
        fast = ours.solve_group_ridge(Xs, Y, score_func=score, **settings)
        loss = exact.cv_scores.max(0) - fast.cv_scores.max(0)
        assert abs(loss).mean() < 1e-4
        assert (loss > 1e-3).mean() <= 0.01


def test_extreme_and_zero_bands():
    X, Y = simulate(200, 40, 10, dtype="float64")
    Xs = [X[:, :20], X[:, 20:]]
    eye = ours.solve_group_ridge(Xs, Y, n_iter=np.eye(2), alphas=np.logspace(-2, 4, 7), warn=False)
    alone = [ours.solve_ridge_cv(part, Y, np.logspace(-2, 4, 7), warn=False) for part in Xs]
    np.testing.assert_allclose(eye.cv_scores, [part.cv_scores[0] for part in alone], atol=1e-9)
    left_out = np.isneginf(eye.deltas)
    assert left_out.sum() == 10
    assert (eye.coef[:20, left_out[0]] == 0).all()
    np.testing.assert_array_equal(clamp_gammas(np.array([[1e-12, 0.0, 2.0]])), [[2e-8, 0.0, 2.0]])


def test_refinement_improves_on_its_start():
    X, Y = simulate(300, 40, 60)
    Xs = [X[:, :20] * 10, X[:, 20:] / 10]
    settings = {
        "alphas": np.logspace(-3, 6, 10),
        "cv": 4,
        "random_state": 0,
        "score_func": ours.r2_score,
        "warn": False,
    }
    start = ours.solve_group_ridge(Xs, Y, n_iter=4, **settings)
    refined = ours.solve_group_ridge(Xs, Y, n_iter=4, n_refine=8, **settings)
    assert refined.cv_scores.shape == (12, 60)
    np.testing.assert_array_equal(refined.cv_scores[:4], start.cv_scores)
    assert refined.cv_scores.max(0).mean() > start.cv_scores.max(0).mean()
    winners = refine_gammas(np.array([[0.5, 0.5], [0.9, 0.1]]), np.ones(5, int), 6, np.random.default_rng(0))
    np.testing.assert_allclose(winners.sum(1), 1)
    assert (winners[:, 0] > winners[:, 1]).mean() > 0.5


def test_options_of_the_search_equal_himalaya():
    X, Y = simulate(150, 30, 12, dtype="float64")
    Xs, alphas = [X[:, :10], X[:, 10:]], np.logspace(-2, 5, 8)
    gammas = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    for options in ({"local_alpha": False}, {"conservative": True}, {"jitter_alphas": True, "random_state": 3}):
        mine = ours.solve_group_ridge(Xs, Y, n_iter=gammas, alphas=alphas, cv=3, exhaustive=True, warn=False, **options)
        other = himalaya.ridge.solve_group_ridge_random_search(
            Xs, Y, n_iter=gammas, alphas=alphas, cv=3, progress_bar=False, return_weights=True, **options
        )
        np.testing.assert_allclose(mine.deltas, other[0], atol=1e-8, err_msg=str(options))
        np.testing.assert_allclose(mine.coef, other[1], atol=1e-8, err_msg=str(options))


def test_any_score_function_works():
    X, Y = simulate(80, 10, 4, dtype="float64")
    seen = []

    def negative_absolute_error(y_true, y_pred):
        seen.append((y_true.shape, y_pred.shape))
        return -abs(y_true - y_pred).mean(-2)

    found = ours.solve_ridge_cv(X, Y, np.logspace(0, 3, 4), cv=2, score_func=negative_absolute_error, warn=False)
    want = reference_scores(X, Y, np.logspace(0, 3, 4), contiguous([40, 40]), negative_absolute_error)
    np.testing.assert_allclose(found.cv_scores[0], want.max(0), atol=1e-10)
    assert ((40, 4), (4, 40, 4)) in seen


def test_batches_of_targets_change_nothing_that_matters():
    X, Y = simulate(200, 30, 50)
    Xs = [X[:, :10], X[:, 10:]]
    settings = {"n_iter": 3, "random_state": 0, "alphas": np.logspace(-2, 4, 7), "exhaustive": True, "warn": False}
    whole = ours.solve_group_ridge(Xs, Y, **settings)
    parts = ours.solve_group_ridge(Xs, Y, n_targets_batch=17, **settings)
    np.testing.assert_allclose(whole.coef, parts.coef, atol=1e-5)
    np.testing.assert_allclose(whole.cv_scores, parts.cv_scores, atol=1e-5)


def test_floored_and_edge_choices_are_counted_and_warned_of_once():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    Y = X @ rng.standard_normal((3, 2))  # without noise, on a grid far below the eigenvalues
    with pytest.warns(
        ours.AlphaGridWarning, match="2 of 2 targets chose an alpha below 1e-08.*2 of 2 targets"
    ) as caught:
        model = ours.RidgeCV(np.logspace(-12, -9, 4)).fit(X, Y)
    assert len(caught) == 1
    assert model.n_edge_ == 2
    assert model.n_floored_ == 2


BAD = {
    "NaN": ("E-NONFIN", "Y"),
    "constant voxel": ("E-CONST", "1 of 4 targets"),
    "rows": ("E-SHAPE", "expected \\(20, n_targets\\)"),
    "empty band": ("E-SHAPE", "width 0"),
    "empty fold": ("E-SPLIT", "fold 1 has a test set of shape \\(0,\\)"),
    "row beyond": ("E-SPLIT", "names row 25"),
    "leak": ("E-SPLIT", "2 rows in both"),
    "negative alpha": ("E-CFG", "alphas"),
    "gamma": ("E-SHAPE", "one weight a band"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_right_is_refused(what):
    X, Y = simulate(20, 6, 4)
    Xs, settings = [X[:, :3], X[:, 3:]], {"n_iter": 2, "cv": 2}
    rows = np.arange(20)
    if what == "NaN":
        Y[3, 2] = np.nan
    elif what == "constant voxel":
        Y[:, 1] = 4.0
    elif what == "rows":
        Y = Y[:-1]
    elif what == "empty band":
        Xs[1] = X[:, :0]
    elif what == "empty fold":
        settings["cv"] = [(rows[:10], rows[10:]), (rows[10:], rows[:0])]
    elif what == "row beyond":
        settings["cv"] = [(rows[:10], rows[10:] + 6)]
    elif what == "leak":
        settings["cv"] = [(rows[:12], rows[10:])]
    elif what == "negative alpha":
        settings["alphas"] = [-1.0, 1.0]
    else:
        settings["n_iter"] = np.ones((2, 3))
    code, message = BAD[what]
    with pytest.raises(InputError, match=message) as caught:
        ours.solve_group_ridge(Xs, Y, **settings)
    assert caught.value.code == code
    assert str(caught.value).count("\n") <= 1


def test_building_blocks():
    import torch

    rng = np.random.default_rng(0)
    M = torch.from_numpy(rng.standard_normal((70, 33)))
    np.testing.assert_allclose(gram64(M, values_at_once=500), M.T @ M, atol=1e-12)
    rows = torch.from_numpy(rng.standard_normal((5, 33)))
    np.testing.assert_allclose(quadratic_form(M.T @ M, rows), ((rows @ M.T) ** 2).sum(1), rtol=1e-12)
    assert make_gammas(3, 2, 1.0, 0)[0].tolist() == [0.5, 0.5]


def test_r2_split_warns_when_targets_are_not_centred():
    X, Y = simulate(30, 4, 3)
    with pytest.warns(UserWarning, match="not zero-mean"):
        ours.r2_score_split(Y + 5, np.stack([Y, Y]))


@pytest.mark.parametrize(
    "score", ["correlation_score", "r2_score", "l2_neg_loss", "r2_score_split", "correlation_score_split"]
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_scores_equal_himalayas(score, ndim):
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((40, 5))
    Y -= Y.mean(0)
    prediction = rng.standard_normal((3, 40, 5)) if ndim == 3 else rng.standard_normal((40, 5))
    if score == "correlation_score_split" and ndim == 2:
        want = himalaya.scoring.correlation_score(Y, prediction)  # himalaya 0.4.11 returns its first target only
    else:
        want = getattr(himalaya.scoring, score)(Y, prediction)
    np.testing.assert_allclose(getattr(ours, score)(Y, prediction), want, atol=1e-12)


@pytest.mark.parametrize("spectrum", ["power law", "duplicated columns", "low rank", "bands apart"])
@pytest.mark.parametrize("n_features", [3, 130, 400])
def test_eigendecompositions_in_parts_equal_lapacks(spectrum, n_features, monkeypatch):
    import torch

    import wernicke.ridge.eigen as eigen

    monkeypatch.setattr(eigen, "SMALL", 0)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2 * n_features, n_features)) / np.arange(1, n_features + 1)
    if spectrum == "duplicated columns":
        X[:, n_features // 2 :] = X[:, : n_features - n_features // 2]
    elif spectrum == "low rank":
        X = X[:, :2] @ rng.standard_normal((2, n_features))
    elif spectrum == "bands apart":
        X[:, 1:] *= 1e-4
        X[:, 0] = 0
    gram = X.T @ X
    want = np.linalg.eigvalsh(gram)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        values, vectors = eigen.eigh64(torch.from_numpy(gram), dtype)
        assert vectors.dtype == dtype
        basis = vectors.double().numpy()
        np.testing.assert_allclose(values, want, atol=1e-12 * want[-1])
        np.testing.assert_allclose(basis.T @ basis, np.eye(n_features), atol=tolerance)
        np.testing.assert_allclose(basis * values.numpy() @ basis.T, gram, atol=tolerance * want[-1])


@pytest.mark.parametrize(("n", "p"), [(400, 300), (300, 500)])
@pytest.mark.parametrize("share", [1e-8, 1e-6, 1e-3])
def test_small_alphas_agree_with_float64(n, p, share, monkeypatch):
    import wernicke.ridge.eigen as eigen

    monkeypatch.setattr(eigen, "SMALL", 100)
    X, Y = simulate(n, p, 60)
    alpha = [share * float(np.linalg.norm(X.astype(np.float64), 2)) ** 2]
    settings = {"cv": 4, "score_func": ours.correlation_score, "exhaustive": True, "warn": False}
    want = ours.solve_ridge_cv(X.astype(np.float64), Y.astype(np.float64), alpha, **settings)
    found = ours.solve_ridge_cv(X, Y, alpha, **settings)
    np.testing.assert_allclose(found.cv_scores, want.cv_scores, atol=2e-4)
    prediction, reference = X.astype(np.float64) @ found.coef, X.astype(np.float64) @ want.coef
    error = np.linalg.norm(prediction - reference, axis=0) / np.linalg.norm(reference, axis=0)
    assert error.max() < 1e-3


BANDED = {
    "tall": ((12, 8, 10), [30, 30, 30, 30], 6),
    "wide": ((50, 40, 30), [25, 25, 30], 6),
    "one fold": ((12, 8), [40, 60], 5),
    "one voxel": ((12, 8), [40, 40], 1),
    "one feature a band": ((1, 1), [30, 50], 4),
    "uneven folds": ((15, 6), [70, 5, 15, 30], 6),
    "collinear across bands": ((10, 10), [30, 30], 5),
    "test folds smaller than features": ((30, 25), [25, 25, 25, 25], 6),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", BANDED)
def test_banded_scores_equal_a_float64_reference(case, dtype):
    widths, sizes, n_targets = BANDED[case]
    X, Y = simulate(sum(sizes), sum(widths), n_targets, dtype=dtype)
    Xs = np.split(X, np.cumsum(widths)[:-1], axis=1)
    if case == "collinear across bands":
        Xs[1] = Xs[0] @ np.diag(np.arange(1, 11)).astype(dtype)
    folds = contiguous(sizes)[1:] if case == "one fold" else contiguous(sizes)
    gammas = np.random.default_rng(0).dirichlet([1.0] * len(widths), 4)
    gammas[3, 0] = 0
    alphas = np.logspace(-2, 5, 8)
    want = [
        reference_scores(np.concatenate([X * np.sqrt(g) for X, g in zip(Xs, gamma, strict=True)], 1), Y, alphas, folds,
                         ours.correlation_score).max(0)
        for gamma in gammas.astype(np.float64)
    ]  # fmt: skip
    settings = {"n_iter": gammas, "alphas": alphas, "cv": folds, "score_func": ours.correlation_score, "warn": False}
    found = ours.solve_group_ridge(Xs, Y, exhaustive=True, **settings)
    np.testing.assert_allclose(found.cv_scores, want, atol=1e-9 if dtype == "float64" else 5e-5)
    fast = ours.solve_group_ridge(Xs, Y, **settings)
    assert (np.max(want, axis=0) - fast.cv_scores.max(0)).max() < 1e-3
