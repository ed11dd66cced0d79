"""`wernicke.encode` on simulated arrays with a planted truth, and on input that cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wernicke
from wernicke.core.errors import InputError

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
