"""Held-out predictions against scikit-learn, and audits that must fire."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from wernicke.core.errors import InputError
from wernicke.encoding import crossval
from wernicke.encoding.crossval import fit_fold, poison_audit, predict_left_out_runs

ALPHAS = (0.1, 10.0, 1000.0)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    runs = np.repeat([3, 1, 2, 0], [30, 25, 30, 28])
    features = 7 + 3 * rng.standard_normal((len(runs), 5))
    weights = rng.standard_normal((5, 6)) * (np.arange(6) < 3)
    return features, features @ weights + 4 * rng.standard_normal((len(runs), 6)) + 2, runs


def reference(features: np.ndarray, responses: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """The same by scikit-learn's Ridge and plain loops."""
    out = np.empty_like(responses)
    for run in np.unique(runs):
        train = runs != run
        part = features[train]
        scale = np.sqrt(part.var(0).sum())
        scores = np.zeros((len(ALPHAS), responses.shape[1]))
        for inner in np.unique(runs[train]):
            fit, held = train & (runs != inner), runs == inner
            for k, alpha in enumerate(ALPHAS):
                predicted = Ridge(alpha).fit(features[fit] / scale, responses[fit]).predict(features[held] / scale)
                for v in range(responses.shape[1]):
                    scores[k, v] += np.corrcoef(predicted[:, v], responses[held][:, v])[0, 1]
        for v, k in enumerate(scores.argmax(0)):
            model = Ridge(ALPHAS[k]).fit(features[train] / scale, responses[train][:, v])
            out[runs == run, v] = model.predict(features[runs == run] / scale)
    return out


def test_equals_scikit_learn(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, responses, runs = data
    held_out = predict_left_out_runs([features], responses, runs, ALPHAS)
    np.testing.assert_allclose(held_out.predictions, reference(features, responses, runs), atol=1e-6)
    assert [set(runs[split.test_rows]) for split in held_out.splits] == [{3}, {1}, {2}, {0}]


def test_bands_are_balanced_per_voxel(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, responses, runs = data
    noise = np.random.default_rng(2).standard_normal((len(runs), 40))
    both = predict_left_out_runs({"signal": features, "noise": noise}, responses, runs, ALPHAS).predictions
    stacked = predict_left_out_runs([np.hstack([features, noise])], responses, runs, ALPHAS).predictions

    def mean_r(predicted: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(predicted[:, v], responses[:, v])[0, 1] for v in range(3)]))

    assert mean_r(both) > mean_r(stacked)


def test_poison_audit_passes_a_clean_fit(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, responses, runs = data
    changed = poison_audit([features], responses, runs, ALPHAS)
    assert len(changed) == 5
    assert not any(changed.values())


def test_poison_audit_fires_on_a_leak(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, responses, runs = data

    def leaky(bands, responses, runs, train_rows, alphas, **keywords):  # noqa: ANN001, ANN003, ANN202
        centred = [band - band.mean(axis=0) for band in bands]  # over all rows, the left-out run included
        return fit_fold(centred, responses - responses.mean(axis=0), runs, train_rows, alphas, **keywords)

    monkeypatch.setattr(crossval, "fit_fold", leaky)
    assert poison_audit([features], responses, runs, ALPHAS)["intercept"]


def test_two_runs_are_refused(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, responses, runs = data
    rows = runs > 1
    with pytest.raises(InputError, match="E-SPLIT.*at least 2 .3 runs in all"):
        predict_left_out_runs([features[rows]], responses[rows], runs[rows], ALPHAS)


def test_folds_may_score_some_samples_and_none_twice(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, responses, runs = data
    whole = predict_left_out_runs([features], responses, runs, ALPHAS)
    part = predict_left_out_runs([features], responses, runs, ALPHAS, splits=whole.splits[:2])
    scored = (runs == 3) | (runs == 1)
    np.testing.assert_array_equal(part.scored, scored)
    np.testing.assert_array_equal(part.predictions[scored], whole.predictions[scored])
    assert np.isnan(part.predictions[~scored]).all()
    with pytest.raises(InputError, match="E-SPLIT splits: 30 samples are tested by several folds"):
        predict_left_out_runs([features], responses, runs, ALPHAS, splits=[*whole.splits, whole.splits[0]])
