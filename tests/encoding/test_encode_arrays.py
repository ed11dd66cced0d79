"""`wernicke.encode` on simulated arrays with a planted truth, and on input that cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import wernicke
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.split import Split
from wernicke.encoding.arrays import permute_predictions
from wernicke.stats.detrend import detrend_runs

N_RUNS, N_TR, TR_S = 8, 90, 2.0


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    """Simulated: 4 conditions in blocks; voxels 0-4 follow the features 2 TR later, 5-29 are autocorrelated noise."""
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(N_RUNS), N_TR)
    table = rng.standard_normal((4, 12)) + 0.5
    features = np.zeros((len(runs), 12))
    conditions = np.full(len(runs), "rest", dtype=object)
    for run in range(N_RUNS):
        for k, condition in enumerate([*rng.permutation(4), *rng.permutation(4)]):
            rows = run * N_TR + 4 + 10 * k + np.arange(6)
            features[rows], conditions[rows] = table[condition], "abcd"[condition]
    noise = rng.standard_normal((len(runs), 30))
    for t in range(1, len(runs)):
        noise[t] += 0.5 * noise[t - 1] * (runs[t] == runs[t - 1])
    responses = noise
    later = np.zeros_like(features)
    for run in range(N_RUNS):
        rows = slice(run * N_TR, (run + 1) * N_TR)
        later[rows][2:] = features[rows][:-2]
    responses[:, :5] += 0.5 * later @ rng.standard_normal((12, 5))
    return {"features": features, "responses": responses, "runs": runs, "conditions": conditions}


def encode(data: dict[str, Any], **changes: Any) -> Any:
    given = {**data, "tr_s": TR_S, "delays_s": (2, 4, 6), "n_permutations": 199, **changes}
    return wernicke.encode(given.pop("features"), given.pop("responses"), **given)


@pytest.fixture(scope="module")
def result(simulated: dict[str, Any]) -> Any:
    return encode(simulated)


def test_planted_voxels_are_found_and_noise_is_not(result: Any) -> None:
    assert (result.r[:5] > 0.3).all()
    assert (result.p_fdr[:5] < 0.05).all()
    assert (result.contrast_p_fdr[:5] < 0.05).all()
    assert np.abs(result.r[5:]).mean() < 0.1
    assert (result.p_fdr[5:] < 0.05).sum() <= 3


def test_r_is_the_mean_over_left_out_runs(simulated: dict[str, Any], result: Any) -> None:
    by_run = [
        [np.corrcoef(result.predictions[rows][:, v], simulated["responses"][rows][:, v])[0, 1] for v in range(30)]
        for rows in (simulated["runs"] == run for run in range(N_RUNS))
    ]
    np.testing.assert_allclose(result.r_by_run, by_run, atol=1e-9)
    np.testing.assert_allclose(result.r, np.mean(by_run, axis=0), atol=1e-9)


def test_ceiling_bounds_a_model_that_knows_the_truth(result: Any) -> None:
    assert np.isfinite(result.ceiling[:5]).all()
    assert (result.contrast_r[:5] < result.ceiling[:5] + 3 * result.ceiling_se[:5]).all()
    assert result.ceiling[:5].mean() > 0.5


def test_same_seed_same_bytes(simulated: dict[str, Any], result: Any) -> None:
    again = encode(simulated)
    for name in ("r", "p", "p_fwe", "contrast_p", "ceiling", "predictions"):
        assert getattr(result, name).tobytes() == getattr(again, name).tobytes(), name
    other = encode(simulated, seed=1)
    assert other.r.tobytes() == result.r.tobytes()
    assert other.p.tobytes() != result.p.tobytes()


def test_without_conditions_the_ceiling_is_none_and_says_why(simulated: dict[str, Any]) -> None:
    found = encode(simulated, conditions=None)
    assert found.ceiling is None
    assert "no conditions" in found.ceiling_reason
    assert "no conditions" in str(found)


def test_two_bands(simulated: dict[str, Any], result: Any) -> None:
    noise = np.random.default_rng(3).standard_normal((N_RUNS * N_TR, 8))
    found = encode(
        {**simulated, "features": {"sentences": simulated["features"], "noise": noise}}, n_iter=5, alphas=(1.0, 100.0)
    )
    assert (found.r[:5] > 0.3).all()


def test_a_constant_voxel_is_nan_in_every_map(simulated: dict[str, Any], result: Any) -> None:
    responses = simulated["responses"].copy()
    responses[:, 7] = 4.0
    found = encode({**simulated, "responses": responses})
    assert found.n_constant == 1
    for name in ("r", "p", "p_fdr", "contrast_r", "contrast_p", "ceiling"):
        assert np.isnan(getattr(found, name)[7]), name
    np.testing.assert_allclose(found.r[:7], result.r[:7])
    assert "1 constant" in str(found)


def test_wide_features_cost_no_more_than_their_rank(simulated: dict[str, Any], result: Any) -> None:
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((200, 12)))[0]
    found = encode({**simulated, "features": simulated["features"] @ rotation.T})
    np.testing.assert_allclose(found.r, result.r, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": np.zeros(N_RUNS * N_TR, int)}, "E-SPLIT.*found 1 run"),
        ({"runs": np.arange(N_RUNS * N_TR) % 8}, "E-META runs: a run is split"),
        ({"runs": np.zeros(3)}, "E-SHAPE runs"),
        ({"conditions": ["a"] * 7}, "E-SHAPE conditions"),
        ({"delays_s": (2, 3)}, "E-CFG delays_s: found 3 s, which is 1.500 TR"),
        ({"delays_s": (-2,)}, "E-CFG delays_s"),
        ({"tr_s": 0}, "E-CFG tr_s"),
        ({"alphas": (1.0, -1.0)}, "E-CFG alphas"),
        ({"responses": np.zeros((N_RUNS * N_TR, 3))}, "E-CONST.*all 3 voxels"),
        ({"responses": np.zeros(9)}, "E-SHAPE responses"),
        ({"features": np.zeros((9, 2))}, "E-SHAPE features: found 9 rows, expected 720"),
    ],
)
def test_wrong_input_is_one_clear_message(simulated: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        encode(simulated, **changes)
    assert str(caught.value).count("\n") <= 1


def test_nan_voxels_are_counted(simulated: dict[str, Any]) -> None:
    responses = simulated["responses"].copy()
    responses[3, 4] = responses[5, 6] = np.nan
    with pytest.raises(InputError, match=r"2 values .* in 2 of 30 columns, the first at index \(3, 4\)"):
        encode({**simulated, "responses": responses})


def test_a_run_without_stimulus_is_refused(simulated: dict[str, Any]) -> None:
    conditions = simulated["conditions"].copy()
    conditions[simulated["runs"] == 2] = "rest"
    with pytest.raises(InputError, match="run 2 has no stimulus"):
        encode({**simulated, "conditions": conditions})


def test_r_over_unequal_runs_is_weighted_by_their_length() -> None:
    """Against plain loops over runs: numpy's corrcoef, means weighted by run length; and the test's statistic is r."""
    rng = np.random.default_rng(6)
    lengths = [50, 90, 60, 40, 110]
    runs = np.repeat([3, 1, 2, 7, 5], lengths)
    features = rng.standard_normal((len(runs), 3))
    responses = features @ rng.standard_normal((3, 4)) + 3 * rng.standard_normal((len(runs), 4))
    responses[runs == 3, 0] = 7.0
    responses[(runs == 1) | (runs == 7), 1] = -2.0
    found = wernicke.encode(features, responses, runs=runs, tr_s=1.0, delays_s=(0,), n_permutations=99)
    for voxel, flat in enumerate(([3], [1, 7], [], [])):
        r, n = [], []
        for run in dict.fromkeys(runs.tolist()):
            if run not in flat:
                rows = runs == run
                r.append(np.corrcoef(found.predictions[rows, voxel], responses[rows, voxel])[0, 1])
                n.append(rows.sum())
        np.testing.assert_allclose(found.r[voxel], np.average(r, weights=n), atol=1e-12)
    assert np.isnan(found.r_by_run).sum() == 3
    test = permute_predictions(found.predictions, responses, runs, n_permutations=19, seed=0)
    np.testing.assert_allclose(test.r[2:], found.r[2:], atol=1e-12)
    share = np.array([1 - 50 / 350, 1 - 130 / 350])  # of the samples in runs where the voxel varies
    np.testing.assert_allclose(test.r[:2], found.r[:2] * np.sqrt(share), atol=1e-12)


def test_a_run_whose_prediction_is_flat_counts_as_zero() -> None:
    rng = np.random.default_rng(7)
    runs = np.repeat(np.arange(4), 60)
    features = rng.standard_normal((240, 2)) * (runs != 2)[:, None]
    responses = features @ rng.standard_normal((2, 3)) + rng.standard_normal((240, 3))
    found = wernicke.encode(features, responses, runs=runs, tr_s=1.0, delays_s=(0,), n_permutations=19)
    assert (found.r_by_run[2] == 0).all()
    np.testing.assert_allclose(found.r, found.r_by_run.mean(axis=0), atol=1e-12)


def test_null_of_a_voxel_that_is_flat_in_some_runs_is_as_wide_as_its_data_make_it() -> None:
    """Simulated noise: false positives at .05 of voxels constant in half the runs; 400 voxels, so .05 +- .022."""
    rng = np.random.default_rng(8)
    runs = np.repeat(np.arange(8), 40)
    predictions, responses = rng.standard_normal((2, 320, 400))
    responses[runs < 4] = 1.0
    test = permute_predictions(predictions, responses, runs, n_permutations=199, seed=0)
    assert 0.028 <= (test.p <= 0.05).mean() <= 0.072


def test_a_voxel_that_varies_in_one_run_is_left_out(simulated: dict[str, Any], result: Any) -> None:
    responses = simulated["responses"].copy()
    responses[simulated["runs"] > 0, 7] = 0.0
    found = encode({**simulated, "responses": responses})
    assert found.n_constant == 1
    for name in ("r", "p", "p_fdr", "contrast_r", "ceiling"):
        assert np.isnan(getattr(found, name)[7]), name
    np.testing.assert_allclose(found.r[:7], result.r[:7])


def film(rng: np.random.Generator, n_repeats: int = 3) -> dict[str, Any]:
    """Simulated: 3 training runs of 80 TR, then repeats of a film of 100 TR; a signal shared by the repeats."""
    runs = np.repeat([*(f"train_{i}" for i in range(3)), *(f"test_{i}" for i in range(n_repeats))],
                     [80] * 3 + [100] * n_repeats)  # fmt: skip
    stimuli = np.array(["film" if run.startswith("test") else run for run in runs])
    shown = rng.standard_normal((100, 3))
    features = np.concatenate([rng.standard_normal((240, 3)), *[shown] * n_repeats])
    own = rng.standard_normal((100, 40))
    shared = np.concatenate([rng.standard_normal((240, 40)), *[own] * n_repeats])
    responses = 2 * shared + rng.standard_normal((len(runs), 40))
    responses[:, :5] += 2 * features @ rng.standard_normal((3, 5))
    return {"features": features, "responses": responses, "runs": runs, "stimuli": stimuli}


def test_a_fixed_test_film_is_himalayas() -> None:
    """One fold, train runs against a repeated film: himalaya's RidgeCV and numpy's r are the reference."""
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import correlation_score

    data = film(np.random.default_rng(9))
    runs, features, responses = data["runs"], data["features"], data["responses"]
    train, test = np.flatnonzero(data["stimuli"] != "film"), np.flatnonzero(data["stimuli"] == "film")
    alphas = [0.01, 1.0, 100.0]
    found = wernicke.encode(**data, tr_s=1.0, delays_s=(0,), alphas=alphas, n_permutations=99, splits=[(train, test)])
    scale = np.sqrt(features[train].var(axis=0).sum())
    inner = runs[train]
    cv = [(np.flatnonzero(inner != run), np.flatnonzero(inner == run)) for run in dict.fromkeys(inner.tolist())]
    model = RidgeCV(alphas=alphas, cv=cv, fit_intercept=True,
                    solver_params={"score_func": correlation_score, "warn": False})  # fmt: skip
    model.fit(features[train] / scale, responses[train])
    np.testing.assert_allclose(found.predictions[test], model.predict(features[test] / scale), atol=1e-8)
    assert np.isnan(found.predictions[train]).all()
    by_run = [
        [np.corrcoef(found.predictions[runs == run, v], responses[runs == run, v])[0, 1] for v in range(40)]
        for run in ("test_0", "test_1", "test_2")
    ]
    np.testing.assert_allclose(found.r_by_run, by_run, atol=1e-12)
    np.testing.assert_allclose(found.r, np.mean(by_run, axis=0), atol=1e-12)
    assert found.scored_runs == ("test_0", "test_1", "test_2")
    assert found.n_scored == 300
    assert found.scored.tolist() == (data["stimuli"] == "film").tolist()
    assert "1 fold; 300 of 540 samples scored, in 3 runs" in str(found)
    assert (found.p[:5] == 0.01).all()


def test_repeats_of_a_film_are_no_independent_samples() -> None:
    """Simulated: voxels whose repeats share a signal that no feature predicts; .05 of 40 voxels x 8 films, +- .024."""
    p = []
    for seed in range(8):
        data = film(np.random.default_rng(seed), n_repeats=4)
        folds = [(np.flatnonzero(data["stimuli"] != "film"), np.flatnonzero(data["stimuli"] == "film"))]
        found = wernicke.encode(**data, tr_s=1.0, delays_s=(0,), alphas=1.0, n_permutations=99, splits=folds)
        p.append(found.p[5:])
        assert found.n_blocks * found.block_length_tr <= 100
    assert np.mean(np.array(p) <= 0.05) <= 0.1


def test_the_same_stimulus_on_both_sides_is_refused_unless_accepted_by_name() -> None:
    data = film(np.random.default_rng(9))
    runs, stimuli = data["runs"], data["stimuli"].astype(object)
    fold = [(np.isin(runs, ("train_0", "train_1", "test_0")), runs == "test_1")]
    settings = {"tr_s": 1.0, "delays_s": (0,), "alphas": 1.0, "n_permutations": 19}
    with pytest.raises(InputError, match="E-SPLIT stimulus_id: 1 of stimulus_id stand on both sides, such as 'film'"):
        wernicke.encode(**data, **settings, splits=fold)
    with pytest.raises(InputError, match="E-SPLIT stimulus_id"):
        wernicke.encode(**data, **settings)  # leaving one run out, the film stands on both sides
    found = wernicke.encode(**data, **settings, splits=fold, accepted_leaks=("stimulus_id",))
    assert found.splits[0].overlaps() == {"run": 0, "stimulus_id": 1}
    assert "accepted leak stimulus_id: up to 1" in str(found)
    stimuli[stimuli == "film"] = "rest"  # nothing shown is no stimulus
    assert wernicke.encode(**{**data, "stimuli": stimuli}, **settings, splits=fold).n_scored == 100
    within = [(np.arange(300), np.arange(300, 340))]
    with pytest.raises(InputError, match="E-SPLIT run: 1 of run stand on both sides"):
        wernicke.encode(**{**data, "stimuli": None}, **settings, splits=within)


def test_stimuli_of_a_recording_and_of_a_splits_samples() -> None:
    data = film(np.random.default_rng(9))
    runs = data["runs"]
    samples = pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(runs))], "run": runs,
                            "stimulus_id": data.pop("stimuli")})  # fmt: skip
    recording = Recording("S01", data["responses"], samples, tr_s=1.0)
    ids = samples["sample_id"].to_numpy()
    sides = (tuple(ids[runs != "test_1"]), tuple(ids[runs == "test_1"]))
    settings = {"tr_s": 1.0, "delays_s": (0,), "alphas": 1.0, "n_permutations": 19}
    with pytest.raises(InputError, match="E-SPLIT stimulus_id"):
        wernicke.encode(**data, **settings, stimuli=recording)
    with pytest.raises(InputError, match="E-SPLIT stimulus_id"):
        wernicke.encode(**data, **settings, splits=[Split(samples, *sides)])
    split = Split(samples, *sides, accepted_leaks=("stimulus_id",))
    assert wernicke.encode(**data, **settings, splits=[split]).splits == (split,)
    bare = Recording("S01", data["responses"], samples[["sample_id", "run"]])
    with pytest.raises(InputError, match="E-META stimuli: the recording's samples have no stimulus_id"):
        wernicke.encode(**data, **settings, stimuli=bare)


def test_contrasts_of_the_scored_runs_alone(simulated: dict[str, Any], result: Any) -> None:
    found = encode(simulated, splits=result.splits[:4])
    rows = np.isin(simulated["runs"], range(4))
    np.testing.assert_array_equal(found.predictions[rows], result.predictions[rows])
    np.testing.assert_allclose(found.r_by_run, result.r_by_run[:4])
    assert np.isfinite(found.contrast_r).all()
    half = [(np.flatnonzero(simulated["runs"] > 3), np.arange(330))]
    assert "parts of runs" in encode(simulated, splits=half, accepted_leaks=("run",)).ceiling_reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": []}, "E-SPLIT splits: no fold given"),
        ({"splits": [np.arange(3)]}, r"E-SPLIT splits\[0\]: expected a Split or a pair"),
        ({"splits": [(np.arange(3), [800])]}, r"E-SPLIT splits\[0\]: expected row numbers from 0 to 719"),
        ({"splits": [([0.5], [1])]}, r"E-SPLIT splits\[0\]: expected row numbers"),
        ({"splits": [(range(180), range(180, 270))] * 2}, "90 samples are tested by several folds"),
        ({"splits": [(range(90), range(90, 180))]}, "E-SPLIT runs: found 1 training run, expected at least 2"),
        ({"stimuli": ["a"]}, r"E-SHAPE stimuli: found shape \(1,\)"),
        ({"accepted_leaks": ("stimulus_id",)}, "E-SPLIT samples: the samples have no column `stimulus_id`"),
        ({"alphas": ()}, "E-CFG alphas: found shape .0,., expected one penalty or more"),
    ],
)
def test_wrong_folds(simulated: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(simulated, **changes)


def test_run_names_may_be_of_several_kinds_and_one_penalty_a_number() -> None:
    data = film(np.random.default_rng(9), n_repeats=1)
    names = np.array([3 if run == "train_1" else run for run in data["runs"]], dtype=object)
    del data["stimuli"]
    found, plain = (
        wernicke.encode(**{**data, "runs": runs}, tr_s=1.0, delays_s=(1, 2), alphas=10.0, n_permutations=19)
        for runs in (names, data["runs"])
    )
    np.testing.assert_array_equal(found.r, plain.r)
    assert found.scored_runs == ("train_0", 3, "train_2", "test_0")
    np.testing.assert_array_equal(detrend_runs(data["responses"], names), detrend_runs(data["responses"], data["runs"]))
