"""Variance partitioning against planted truths and against models fitted one by one by himalaya and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from wernicke.core.errors import InputError
from wernicke.encoding.partition import commonality, partition
from wernicke.encoding.partition_fit import leading_directions

TITLES = np.repeat(np.arange(4), 75)
TRAIN, TEST = np.arange(300), np.arange(300, 500)


def simulate(widths=(6, 9, 7), n_voxels=8, seed=0):
    rng = np.random.default_rng(seed)
    bands = {f"band{i}": rng.standard_normal((500, width)) for i, width in enumerate(widths)}
    weights = rng.standard_normal((sum(widths), n_voxels)) * np.linspace(0, 1, n_voxels)
    responses = np.concatenate(list(bands.values()), 1) @ weights + 3 * rng.standard_normal((500, n_voxels)) + 1
    return bands, responses


def fit(bands, responses, **options):
    defaults = {"train_rows": TRAIN, "test_rows": TEST, "folds": TITLES, "block_tr": 5, "n_permutations": 99,
                "n_bootstrap": 200, "n_iter": 4}  # fmt: skip
    return partition(bands, responses, **{**defaults, **options})


@pytest.mark.filterwarnings("ignore")
def test_faithful_equals_separate_banded_fits_by_himalaya():
    from himalaya.ridge import GroupRidgeCV, RidgeCV
    from himalaya.scoring import correlation_score, correlation_score_split
    from sklearn.model_selection import PredefinedSplit

    bands, responses = simulate()
    alphas = np.logspace(-2, 4, 7)
    found = fit(bands, responses, mode="faithful", alphas=alphas, n_iter=2, exhaustive=True, keep_coef=True)
    assert found.score == "r"
    cv = list(PredefinedSplit(TITLES).split())
    r = {}
    for names in found.subsets:
        X = [bands[name] - bands[name][TRAIN].mean(0) for name in names]
        if len(X) == 1:
            model = RidgeCV(alphas=alphas, cv=cv, fit_intercept=False, solver_params={"score_func": correlation_score})
        else:
            params = {"alphas": alphas, "n_iter": 2, "score_func": correlation_score, "progress_bar": False}
            groups = np.repeat(np.arange(len(X)), [x.shape[1] for x in X])
            model = GroupRidgeCV(
                groups=groups, cv=cv, fit_intercept=False, random_state=42, solver_params=params
            )  # fmt: skip
        stacked = np.concatenate(X, 1)
        model.fit(stacked[TRAIN], responses[TRAIN])
        prediction = model.predict(stacked[TEST])
        r[names] = correlation_score(responses[TEST], prediction)
        np.testing.assert_allclose(found.subsets[names]["r"], r[names], atol=1e-6)
        if len(X) == 3:
            split = correlation_score_split(responses[TEST], model.predict(stacked[TEST], split=True))
            np.testing.assert_allclose(np.stack(list(found.product_r.values())), split, atol=1e-6)
            np.testing.assert_allclose(np.concatenate(list(found.coef.values())), model.coef_, atol=1e-6)
    everything = tuple(bands)
    for name in bands:
        np.testing.assert_allclose(
            found.unique[name], r[everything] - r[tuple(n for n in everything if n != name)], atol=2e-6
        )


def test_faithful_is_the_difference_of_published_fits():
    """`encode_faithful` gives the published code's numbers (see `test_faithful.py`): with and without a band."""
    from wernicke.encoding.faithful import encode_faithful

    bands, responses = simulate()
    found = fit(bands, responses.astype(np.float32), mode="faithful", n_iter=3, exhaustive=True)
    parts, titles = np.repeat(["TRAIN", "VALID"], [300, 200]), np.concatenate([TITLES, np.full(200, 9)])
    rows = {"parts": parts, "titles": titles, "runs": titles, "folds": titles, "time_delays": (0, 0), "n_iter": 3}
    full = encode_faithful(bands, responses, **rows)
    np.testing.assert_allclose(found.r, full.cc["all"], atol=1e-5)
    np.testing.assert_allclose(found.cv, full.cv_cc, atol=1e-5)
    for name in bands:
        reduced = encode_faithful({other: band for other, band in bands.items() if other != name}, responses, **rows)
        np.testing.assert_allclose(found.unique[name], full.cc["all"] - reduced.cc["all"], atol=2e-5)
        np.testing.assert_allclose(found.product_r[name], full.cc[name], atol=1e-5)


def test_corrected_equals_separate_grid_searches_by_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GridSearchCV, PredefinedSplit

    bands, responses = simulate((4, 5, 6), n_voxels=3)
    alphas = np.logspace(-1, 3, 5)
    found = fit(bands, responses, alphas=alphas, n_iter=1, exhaustive=True, keep_coef=True)
    scale = {name: np.sqrt(band[TRAIN].var(0).sum()) for name, band in bands.items()}
    for names, scores in found.subsets.items():
        X = np.concatenate([bands[name] / scale[name] for name in names], 1)
        for voxel in range(3):
            search = GridSearchCV(Ridge(), {"alpha": alphas}, scoring="r2", cv=PredefinedSplit(TITLES))
            search.fit(X[TRAIN], responses[TRAIN, voxel])
            truth, prediction = responses[TEST, voxel], search.predict(X[TEST])
            assert scores["cv"][voxel] == pytest.approx(search.best_score_, abs=1e-8)
            assert scores["r2"][voxel] == pytest.approx(r2_score(truth, prediction), abs=1e-8)
            assert scores["r"][voxel] == pytest.approx(np.corrcoef(truth, prediction)[0, 1], abs=1e-8)
            if len(names) == 3:
                weights = np.concatenate([found.coef[name][:, voxel] * scale[name] for name in names])
                np.testing.assert_allclose(weights, search.best_estimator_.coef_, atol=1e-8)
    full = found.subsets[tuple(bands)]["r2"]
    for name in bands:
        reduced = found.subsets[tuple(n for n in bands if n != name)]["r2"]
        np.testing.assert_allclose(found.unique[name], full - reduced, atol=1e-12)


def test_planted_unique_and_shared_variance_is_found():
    rng = np.random.default_rng(1)
    n = 6000
    common, own_a, own_b, idle = rng.standard_normal((4, n, 1))
    # Planted: 4 units of common variance, 1 of a's own, 1 of b's own, 4 of noise; the common part is in both bands.
    responses = 2 * common + own_a + own_b + 2 * rng.standard_normal((n, 1))
    bands = {"a": np.hstack([own_a, common]), "b": np.hstack([own_b, common]), "idle": idle}
    found = partition(
        bands, responses, train_rows=np.arange(3000), test_rows=np.arange(3000, n), folds=3, n_iter=1, block_tr=20,
        n_permutations=99, n_bootstrap=300,
    )  # fmt: skip
    parts = {names: float(values[0]) for names, values in found.shared.items()}
    assert parts["a",] == pytest.approx(0.1, abs=0.015)
    assert parts["b",] == pytest.approx(0.1, abs=0.015)
    assert parts["a", "b"] == pytest.approx(0.4, abs=0.025)
    assert sum(abs(value) for names, value in parts.items() if "idle" in names) < 0.005
    assert found.unique_p["a"][0] == 0.01
    assert found.unique_p["idle"][0] > 0.05
    assert found.unique_low["a"][0] < parts["a",] < found.unique_high["a"][0]
    assert found.unique_low["a"][0] > 0.06


def test_parts_and_product_measure_sum_to_the_score():
    bands, responses = simulate()
    found = fit(bands, responses, keep_coef=True)
    np.testing.assert_allclose(sum(found.shared.values()), found.r2, atol=1e-9)
    for name in bands:
        np.testing.assert_allclose(found.shared[name,], found.unique[name], atol=1e-12)
    np.testing.assert_allclose(sum(found.product_r.values()), found.r, atol=1e-9)
    features = np.concatenate([band - band[TRAIN].mean(0) for band in bands.values()], 1)[TEST]
    prediction = features @ np.concatenate(list(found.coef.values())) + responses[TRAIN].mean(0)
    truth = responses[TEST]
    residual = (truth - truth.mean(0)) - (prediction - prediction.mean(0))
    about_means = 1 - (residual**2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(sum(found.product_r2.values()), about_means, atol=1e-9)
    columns = found.columns()
    assert {"r", "r2", "cv_r2", "unique_band0", "unique_band0_p", "share_band2", "shared_band0+band1"} <= set(columns)
    assert all(values.shape == (8,) for values in columns.values())


def test_five_bands_leave_one_out():
    bands, responses = simulate((3, 4, 5, 4, 3), n_voxels=5)
    responses = responses + 4 * bands["band2"][:, :1]
    found = fit(bands, responses)
    assert len(found.subsets) == 6
    assert found.shared is None
    assert list(found.unique) == list(bands)
    assert found.unique["band2"].mean() > 0.2
    assert (found.unique_p["band2"] == 0.01).all()


def test_voxels_some_at_a_time_and_constant_voxels():
    bands, responses = simulate(n_voxels=7)
    settings = {"exhaustive": True, "n_iter": 2, "alphas": np.logspace(-1, 3, 5)}
    whole = fit(bands, responses, **settings)
    with_constant = np.insert(responses, 3, 5.0, axis=1)
    some = fit(bands, with_constant, voxels_at_once=3, **settings)
    for name, values in whole.columns().items():
        found = some.columns()[name]
        assert np.isnan(found[3])
        np.testing.assert_allclose(np.delete(found, 3), values, atol=1e-8)


def test_block_length_comes_from_the_data():
    rng = np.random.default_rng(0)
    noise = signal.lfilter([1.0], [1.0, -0.7], rng.standard_normal((1200, 14)), axis=0)
    found = partition({"a": noise[:, :2], "b": noise[:, 2:4]}, noise[:, 4:], train_rows=np.arange(600),
                      test_rows=np.arange(600, 1200), runs=np.repeat(np.arange(8), 150), n_permutations=19,
                      n_bootstrap=100, n_iter=2)  # fmt: skip
    assert 10 <= found.block_tr <= 60
    assert found.n_blocks >= 10


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"test_rows": np.arange(290, 500)}, "E-SPLIT"),
        ({"test_rows": np.arange(300, 501)}, "E-SPLIT"),
        ({"folds": np.zeros(300)}, "E-SPLIT"),
        ({"folds": TITLES[:-1]}, "E-SHAPE"),
        ({"mode": "exact"}, "E-CFG"),
        ({"block_tr": 50}, "E-SIZE"),
    ],
)
def test_impossible_requests_are_refused(change, code):
    bands, responses = simulate()
    with pytest.raises(InputError, match=code):
        fit(bands, responses, **change)


def test_p_is_the_partial_correlation_by_block_permutation():
    """Written out: least squares on the other bands for share and response, then the permutation test."""
    from wernicke.stats.permutation import permutation_test

    bands, responses = simulate()
    found = fit(bands, responses, keep_coef=True)
    for name in bands:
        others = np.column_stack([np.ones(200), *(bands[other][TEST] for other in bands if other != name)])
        share = bands[name][TEST] @ found.coef[name]
        share, rest = (y - others @ np.linalg.lstsq(others, y, rcond=None)[0] for y in (share, responses[TEST]))
        expected = permutation_test(share, rest, n_permutations=99, block_length=5, seed=42).p
        np.testing.assert_allclose(found.unique_p[name], expected, atol=1e-12)


def test_leading_directions_of_many_features():
    rng = np.random.default_rng(0)
    for n_features in (30, 300):
        features = rng.standard_normal((200, n_features)) * np.linspace(3, 0.1, n_features)
        basis = leading_directions(features, 21)
        u = np.linalg.svd(features - features.mean(0), full_matrices=False)[0][:, :20]
        assert basis.shape == (200, 21)
        np.testing.assert_allclose(basis.T @ basis, np.eye(21), atol=1e-10)
        np.testing.assert_allclose(basis[:, 1:] @ basis[:, 1:].T, u @ u.T, atol=1e-8)


def test_one_band_is_refused():
    bands, responses = simulate((3,))
    with pytest.raises(InputError, match="found 1 band"):
        fit(bands, responses)


def test_commonality_of_two_bands_is_the_textbook_formula():
    scores = {("a",): np.array([0.3]), ("b",): np.array([0.25]), ("a", "b"): np.array([0.4])}
    parts = commonality(scores)
    assert parts["a",] == pytest.approx(0.15)
    assert parts["b",] == pytest.approx(0.1)
    assert parts["a", "b"] == pytest.approx(0.15)
