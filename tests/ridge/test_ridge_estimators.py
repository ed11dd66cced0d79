"""The estimators beside himalaya's, and under scikit-learn's checks."""

from __future__ import annotations

import inspect
import warnings

import himalaya.ridge
import himalaya.scoring
import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import wernicke.ridge as ours
from wernicke.core.errors import InputError

ALPHAS = np.logspace(-2, 4, 7)
QUIET = {"warn": False}


def simulate(n: int, widths: tuple[int, ...], n_targets: int, dtype: str = "float64", seed: int = 0):
    rng = np.random.default_rng(seed)
    Xs = [rng.standard_normal((n, p)).astype(dtype) for p in widths]
    Y = sum(X @ rng.standard_normal((X.shape[1], n_targets)) * (i + 1) / 10 for i, X in enumerate(Xs))
    Y = Y + rng.standard_normal((n, n_targets))
    return Xs, (Y - Y.mean(0)).astype(dtype)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        ours.Ridge(),
        ours.Ridge(fit_intercept=True),
        ours.RidgeCV(),
        ours.RidgeCV(fit_intercept=True),
        ours.GroupRidgeCV(solver_params={"n_iter": 2}),
    ]
)
def test_scikit_learn_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["Ridge", "RidgeCV", "GroupRidgeCV", "BandedRidgeCV"])
def test_constructor_keywords_are_himalayas(name):
    theirs = himalaya.ridge.GroupRidgeCV if name == "BandedRidgeCV" else getattr(himalaya.ridge, name)
    want = {k: p.default for k, p in inspect.signature(theirs).parameters.items()}
    have = {k: p.default for k, p in inspect.signature(getattr(ours, name)).parameters.items()}
    assert list(have) == list(want)
    for key, default in want.items():
        assert list(have[key]) == default if isinstance(default, list) else have[key] == default


@pytest.mark.parametrize("score", ["correlation_score", "r2_score", "l2_neg_loss"])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(("n", "p"), [(90, 20), (60, 100), (100, 60)])
def test_ridgecv_equals_himalaya(n, p, fit_intercept, score):
    (X,), Y = simulate(n, (p,), 6)
    X = X + 3 * fit_intercept
    Y = Y + 2 * fit_intercept
    mine = ours.RidgeCV(
        ALPHAS, fit_intercept, cv=4, solver_params={"score_func": getattr(ours, score), "exhaustive": True, **QUIET}
    ).fit(X, Y)
    other = himalaya.ridge.RidgeCV(
        ALPHAS, fit_intercept, cv=4, solver_params={"score_func": getattr(himalaya.scoring, score), "warn": False}
    ).fit(X, Y)
    np.testing.assert_allclose(mine.cv_scores_, other.cv_scores_, atol=1e-10)
    np.testing.assert_allclose(mine.best_alphas_, other.best_alphas_, rtol=1e-10)
    np.testing.assert_allclose(mine.coef_, other.coef_, atol=1e-10)
    np.testing.assert_allclose(mine.predict(X), other.predict(X), atol=1e-9)
    np.testing.assert_allclose(mine.score(X, Y), other.score(X, Y), atol=1e-10)
    assert (mine.n_features_in_, mine.dtype_) == (other.n_features_in_, other.dtype_)
    if fit_intercept:
        np.testing.assert_allclose(mine.intercept_, other.intercept_, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n", [110, 50])
def test_groupridgecv_equals_himalaya(n, fit_intercept):
    Xs, Y = simulate(n, (15, 30, 20), 6)
    gammas = np.array([[1, 1, 1], [0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [1e-4, 1, 1]])
    common = {"n_iter": gammas, "alphas": ALPHAS}
    mine = ours.GroupRidgeCV(
        "input", fit_intercept=fit_intercept, cv=3,
        solver_params={**common, "score_func": ours.r2_score, "exhaustive": True, **QUIET},
    ).fit(Xs, Y)  # fmt: skip
    other = himalaya.ridge.GroupRidgeCV(
        "input", fit_intercept=fit_intercept, cv=3,
        solver_params={**common, "score_func": himalaya.scoring.r2_score, "progress_bar": False, "warn": False},
    ).fit(Xs, Y)  # fmt: skip
    for name in ("cv_scores_", "deltas_", "coef_", "best_alphas_"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), atol=1e-9, err_msg=name)
    if not fit_intercept:
        np.testing.assert_allclose(mine.predict(Xs, split=True), other.predict(Xs, split=True), atol=1e-9)
        np.testing.assert_allclose(mine.score(Xs, Y, split=True), other.score(Xs, Y, split=True), atol=1e-9)
        np.testing.assert_allclose(mine.predict(Xs, split=True).sum(0), mine.predict(Xs), atol=1e-9)


@pytest.mark.parametrize("shape", ["1d", "2d"])
@pytest.mark.parametrize("kind", ["Ridge", "RidgeCV", "GroupRidgeCV"])
def test_shapes_are_himalayas(kind, shape):
    (X,), Y = simulate(40, (8,), 3)
    y = Y[:, 0] if shape == "1d" else Y
    mine, other = getattr(ours, kind)(), getattr(himalaya.ridge, kind)()
    if kind == "GroupRidgeCV":
        groups = np.repeat([0, 1, -1], [3, 4, 1])
        mine.set_params(groups=groups, solver_params={"n_iter": 3})
        other.set_params(groups=groups, solver_params={"n_iter": 3, "progress_bar": False})
    mine.fit(X, y)
    other.fit(X, y)
    names = {"coef_", "deltas_", "best_alphas_", "cv_scores_", "dtype_", "n_features_in_"}
    assert names & set(vars(other)) <= set(vars(mine))
    for name in names & set(vars(other)) - {"dtype_", "n_features_in_"}:
        assert getattr(mine, name).shape == getattr(other, name).shape, name
    assert mine.predict(X).shape == other.predict(X).shape
    assert np.shape(mine.score(X, y)) == np.shape(other.score(X, y))
    if kind == "GroupRidgeCV":
        assert mine.predict(X, split=True).shape == other.predict(X, split=True).shape
        # For one 1-D target himalaya 0.4.11 broadcasts samples against groups here; ours is one value a group.
        assert np.shape(mine.score(X, y, split=True)) == ((2,) if shape == "1d" else (2, 3))


def test_ridge_equals_himalaya_with_one_alpha_a_target():
    (X,), Y = simulate(50, (12,), 4)
    alpha = np.array([0.1, 1.0, 10.0, 100.0])
    mine = ours.Ridge(alpha, fit_intercept=True).fit(X, Y)
    other = himalaya.ridge.Ridge(alpha, fit_intercept=True).fit(X, Y)
    np.testing.assert_allclose(mine.coef_, other.coef_, atol=1e-11)
    np.testing.assert_allclose(mine.intercept_, other.intercept_, atol=1e-11)


def test_same_seed_draws_what_himalaya_draws():
    from himalaya.kernel_ridge import generate_dirichlet_samples

    for concentration in ([0.1, 1.0], 1.0, [np.inf, 0.5]):
        mine = ours.generate_dirichlet_samples(7, 3, concentration, random_state=42)
        np.testing.assert_array_equal(mine, generate_dirichlet_samples(7, 3, concentration, random_state=42))


def test_pipeline_with_column_transformer():
    Xs, Y = simulate(60, (4, 6), 3)
    X = np.concatenate(Xs, 1)
    spaces = [("a", StandardScaler(), slice(0, 4)), ("b", "passthrough", list(range(4, 10)))]
    scores = {}
    for module in (ours, himalaya.ridge):
        model = module.GroupRidgeCV("input", random_state=0, solver_params={"n_iter": 5, "alphas": ALPHAS})
        if module is himalaya.ridge:
            model.solver_params["progress_bar"] = False
        else:
            model.solver_params.update(exhaustive=True, **QUIET)
        scores[module] = make_pipeline(module.ColumnTransformerNoStack(spaces), model).fit(X, Y).score(X, Y)
    np.testing.assert_allclose(scores[ours], scores[himalaya.ridge], atol=1e-6)
    made = ours.make_column_transformer_no_stack((StandardScaler(), [0, 1]), ("passthrough", slice(2, 10)))
    assert [part.shape for part in made.fit_transform(X)] == [(60, 2), (60, 8)]


def test_torch_gives_torch_and_the_same_numbers():
    Xs, Y = simulate(70, (9, 11), 5, "float32")
    made = {}
    for kind, convert in (("numpy", np.asarray), ("torch", torch.from_numpy)):
        model = ours.GroupRidgeCV("input", random_state=1, solver_params={"n_iter": 4, "alphas": ALPHAS, **QUIET})
        made[kind] = model.fit([convert(X) for X in Xs], convert(Y))
        assert isinstance(model.coef_, np.ndarray if kind == "numpy" else torch.Tensor)
        assert isinstance(model.predict([convert(X) for X in Xs]), type(model.coef_))
    for name in ("coef_", "deltas_", "cv_scores_"):
        np.testing.assert_array_equal(getattr(made["numpy"], name), getattr(made["torch"], name).numpy())


def test_tensors_that_track_gradients_are_taken():
    (X,), Y = simulate(40, (6,), 3)
    tracked = torch.from_numpy(X).requires_grad_(True)
    model = ours.RidgeCV(ALPHAS, solver_params=QUIET).fit(tracked, torch.from_numpy(Y))
    assert not model.predict(tracked).requires_grad
    np.testing.assert_array_equal(model.coef_, ours.RidgeCV(ALPHAS, solver_params=QUIET).fit(X, Y).coef_)


@pytest.mark.parametrize("cv", ["groups", "logo", "pairs", "masks", "generator"])
def test_cv_may_be_a_splitter_or_pairs(cv):
    (X,), Y = simulate(48, (5,), 3)
    runs = np.repeat(np.arange(4), [6, 12, 20, 10])
    pairs = [(np.flatnonzero(runs != r), np.flatnonzero(runs == r)) for r in range(4)]
    wanted = ours.RidgeCV(ALPHAS, cv=pairs, solver_params=QUIET).fit(X, Y)
    given = {
        "groups": list(GroupKFold(4).split(X, Y, runs)),
        "logo": list(LeaveOneGroupOut().split(X, Y, runs)),
        "pairs": pairs,
        "masks": [(runs != r, runs == r) for r in range(4)],
        "generator": (pair for pair in pairs),
    }[cv]
    model = ours.RidgeCV(ALPHAS, cv=given, solver_params=QUIET).fit(X, Y)
    np.testing.assert_allclose(model.cv_scores_, wanted.cv_scores_, atol=1e-12)


def test_unknown_solver_parameter_is_named_with_a_suggestion():
    (X,), Y = simulate(20, (3,), 2)
    with pytest.raises(InputError, match="unknown key `score_fun`.*\n.*did you mean `score_func`"):
        ours.RidgeCV(solver_params={"score_fun": ours.r2_score}).fit(X, Y)
    with pytest.raises(InputError, match="`cv` is a parameter of RidgeCV itself"):
        ours.RidgeCV(solver_params={"cv": 3}).fit(X, Y)
    with pytest.raises(InputError, match="unknown value `svdd`.*\n.*did you mean `svd`"):
        ours.RidgeCV(solver="svdd").fit(X, Y)


def test_importing_the_package_loads_neither_torch_nor_scikit_learn():
    import subprocess
    import sys

    code = "import sys, wernicke.ridge; print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_himalaya_script_runs_with_only_its_imports_changed():
    script = """
from {package} import GroupRidgeCV, RidgeCV, ColumnTransformerNoStack
from {scores} import correlation_score, r2_score, correlation_score_split
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rng = np.random.RandomState(0)
X = rng.randn(80, 12).astype("float32")
Y = (X[:, :6] @ rng.randn(6, 5) + 3 * rng.randn(80, 5)).astype("float32")
Y -= Y[:60].mean(0)
mono = make_pipeline(StandardScaler(with_std=False), RidgeCV(alphas=np.logspace(-2, 4, 7), cv=4, solver="svd",
    solver_params=dict(score_func=correlation_score, n_targets_batch=3, n_alphas_batch=2, n_targets_batch_refit=2)))
mono.fit(X[:60], Y[:60])
spaces = ColumnTransformerNoStack([("a", StandardScaler(), slice(0, 6)), ("b", StandardScaler(), slice(6, 12))])
banded = make_pipeline(spaces, GroupRidgeCV(groups="input", random_state=42, cv=4, solver="random_search",
    solver_params=dict(n_iter=6, alphas=np.logspace(-2, 4, 7), score_func=correlation_score, progress_bar=False,
                       n_targets_batch=4, local_alpha=True, diagonalize_method="svd")))
banded.fit(X[:60], Y[:60])
split = banded.predict(X[60:], split=True)
out = [mono[-1].cv_scores_, correlation_score(Y[60:], mono.predict(X[60:])), banded[-1].cv_scores_.max(0),
       correlation_score_split(Y[60:], split), r2_score(Y[60:], banded.predict(X[60:])), banded.score(X[60:], Y[60:])]
"""
    results = {}
    for package, scores in (("himalaya.ridge", "himalaya.scoring"), ("wernicke.ridge", "wernicke.ridge")):
        space: dict = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exec(script.format(package=package, scores=scores), space)
        results[package] = space["out"]
    for mine, other in zip(results["wernicke.ridge"], results["himalaya.ridge"], strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("Ridge", "solve_ridge_svd"),
        ("RidgeCV", "solve_ridge_cv_svd"),
        ("GroupRidgeCV", "solve_group_ridge_random_search"),
    ],
)
def test_every_keyword_of_himalayas_solver_is_taken(name, solver):
    (X,), Y = simulate(40, (6,), 3)
    own = set(inspect.signature(getattr(himalaya.ridge, name)).parameters)
    keywords = inspect.signature(getattr(himalaya.ridge, solver)).parameters
    params = {
        key: p.default
        for key, p in keywords.items()
        if key not in {"X", "Xs", "Y", "score_func", "return_weights"} | own
    }
    params |= {"score_func": ours.r2_score} if "score_func" in keywords else {}
    params |= {"warn": False, "n_targets_batch": 2} | ({"progress_bar": False} if "progress_bar" in params else {})
    mine = getattr(ours, name)(solver_params=params).fit(X, Y)
    params |= {"score_func": himalaya.scoring.r2_score} if "score_func" in keywords else {}
    if name == "GroupRidgeCV":
        params["n_iter"] = 1  # the first draw is the same for all seeds
        mine.set_params(solver_params=params | {"score_func": ours.r2_score}).fit(X, Y)
    other = getattr(himalaya.ridge, name)(solver_params=params).fit(X, Y)
    np.testing.assert_allclose(mine.coef_, other.coef_, atol=1e-9)


def test_clamped_band_weights_are_counted():
    Xs, Y = simulate(60, (4, 4), 5)
    settings = {"n_iter": np.array([[1.0, 1e-12]]), "alphas": ALPHAS, **QUIET}
    model = ours.GroupRidgeCV("input", solver_params=settings).fit(Xs, Y)
    assert model.n_clamped_ == 5
    model.set_params(solver_params={"n_iter": np.array([[1.0, 0.0]]), "alphas": ALPHAS, **QUIET}).fit(Xs, Y)
    assert model.n_clamped_ == 0


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([-1] * 6, "E-META groups: all 6 groups are negative"),
        (list("aabbcc"), "E-FMT groups: found <U1 such as a, expected finite numbers"),
        ([0, 0, 1, 1, 1, np.nan], "E-FMT groups: found float64"),
        ([0, 1], r"E-SHAPE groups: found shape \(2,\)"),
    ],
)
def test_groups_that_cannot_be(groups, message):
    (X,), Y = simulate(30, (6,), 2)
    with pytest.raises(InputError, match=message):
        ours.GroupRidgeCV(groups, solver_params={"n_iter": 2, **QUIET}).fit(X, Y)


def test_arrays_of_other_widths_than_fitted_are_refused():
    Xs, Y = simulate(30, (2, 4), 2)
    model = ours.GroupRidgeCV("input", solver_params={"n_iter": 2, **QUIET}).fit(Xs, Y)
    assert model.n_features_by_group_ == (2, 4)
    X = np.hstack(Xs)
    for parts in ([X[:, :3], X[:, 3:]], [X], [X[:, :2], X[:, 2:4], X[:, 4:]]):
        with pytest.raises(InputError, match="E-SHAPE X: found arrays of .* features, fitted on 2, 4"):
            model.predict(parts, split=True)
    with pytest.raises(InputError, match="E-SHAPE X: found no array"):
        model.predict([])
