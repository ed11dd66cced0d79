"""Category contrasts: block responses after removing what every category shares.

In a block design most of the correlation by TR says only that something was shown. The contrast keeps what differs
between conditions: the mean response of each condition in each run, less the run's mean over conditions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from wernicke.core.errors import InputError
from wernicke.stats.correlation import columnwise_correlation


def why_no_contrasts(
    runs: np.ndarray, conditions: np.ndarray, *, shift_tr: int, baseline: Hashable = "rest"
) -> str | None:
    """Return why contrasts between conditions cannot be formed from this design, or None if they can.

    Raises
    ------
    InputError
        E-META when a run has no stimulus at all: nothing in it can be predicted.
    """
    names = condition_names(conditions, baseline)
    reason = None if len(names) > 1 else f"found {len(names)} conditions beside {baseline!r}, at least 2 are needed"
    for run in dict.fromkeys(runs.tolist()):
        labels = conditions[runs == run]
        if (labels == baseline).all():
            raise InputError("E-META", f"run {run!r} has no stimulus, only {baseline!r}", field="conditions",
                             hint="leave this run out: nothing in it can be predicted")  # fmt: skip
        answered = set(labels[: max(len(labels) - shift_tr, 0)].tolist())
        for name in names:
            if name not in answered and reason is None:
                reason = (
                    f"run {run!r} has no response to condition {name!r}; contrasts need every condition in every run"
                )
    return reason


def condition_names(conditions: np.ndarray, baseline: Hashable = "rest") -> list[Hashable]:
    """Return the conditions that occur, sorted, without the baseline."""
    return sorted({c for c in conditions.tolist() if c != baseline}, key=str)


def block_responses(
    values: np.ndarray, runs: np.ndarray, conditions: np.ndarray, *, shift_tr: int, baseline: Hashable = "rest"
) -> np.ndarray:
    """Average each condition's volumes within each run, later by the delay of the haemodynamic response.

    Parameters
    ----------
    values : array, shape (n_samples, n_voxels)
    runs, conditions : array, shape (n_samples,)
        Every condition occurs in every run (`why_no_contrasts`).
    shift_tr : int
        How many TR after a volume of the stimulus its response is taken; volumes beyond the run's end are left out.
    baseline : hashable
        The label of volumes without stimulus.

    Returns
    -------
    array, shape (n_runs, n_conditions, n_voxels)
        Runs in order of appearance, conditions as `condition_names` sorts them.
    """
    run_names = list(dict.fromkeys(runs.tolist()))
    names = condition_names(conditions, baseline)
    out = np.empty((len(run_names), len(names), values.shape[1]))
    for i, run in enumerate(run_names):
        rows = np.flatnonzero(runs == run)
        for j, name in enumerate(names):
            at = np.flatnonzero(conditions[rows] == name) + shift_tr
            out[i, j] = values[rows[at[at < len(rows)]]].mean(axis=0)
    return out


def remove_shared(responses: np.ndarray) -> np.ndarray:
    """Subtract from block responses, shape (n_runs, n_conditions, n_voxels), each run's mean over conditions."""
    return responses - responses.mean(axis=1, keepdims=True)


def contrast_sums(predicted: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per run and voxel the products from which contrast correlations are made, each (n_runs, n_voxels).

    `predicted` and `measured` are contrasts, shape (n_runs, n_conditions, n_voxels), so their means are zero.
    """
    return (
        np.einsum("rcv,rcv->rv", predicted, measured),
        np.einsum("rcv,rcv->rv", predicted, predicted),
        np.einsum("rcv,rcv->rv", measured, measured),
    )


def contrast_correlation(
    predicted: np.ndarray, measured: np.ndarray, *, run_weights: np.ndarray | None = None
) -> np.ndarray:
    """Correlate predicted with measured contrasts over all runs and conditions.

    A model that predicts the same for every condition explains no contrast: its value is 0, not undefined. A voxel
    whose measured contrast is constant gives NaN.

    Parameters
    ----------
    predicted, measured : array, shape (n_runs, n_conditions, n_voxels)
    run_weights : array, shape (n_draws, n_runs), optional
        How often each run counts, for bootstraps over runs.

    Returns
    -------
    array, shape (n_voxels,), or (n_draws, n_voxels) with weights
    """
    weights = np.ones((1, len(predicted))) if run_weights is None else run_weights
    cross, own, truth = (weights @ part for part in contrast_sums(predicted, measured))
    # Differences below rounding of the response scale are no prediction of a difference.
    silent = own <= 1e-20 * np.maximum(truth, 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(silent, 0.0, cross / np.sqrt(own * truth))
    r = np.where(truth > 0, r, np.nan)
    return r[0] if run_weights is None else r


def correlation_by_run(predictions: np.ndarray, responses: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return Pearson r of each held-out run, shape (n_runs, n_voxels), runs in order of appearance."""
    return np.stack(
        [
            columnwise_correlation(predictions[runs == run], responses[runs == run])
            for run in dict.fromkeys(runs.tolist())
        ]
    )


def permute_within_runs(
    predicted: np.ndarray, measured: np.ndarray, *, n_permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Contrast correlations with the measured conditions shuffled within each run, shape (n_permutations, n_voxels)."""
    n_runs, n_conditions, _ = measured.shape
    null = np.empty((n_permutations, measured.shape[2]))
    for k in range(n_permutations):
        order: Sequence[np.ndarray] = [rng.permutation(n_conditions) for _ in range(n_runs)]
        shuffled = np.stack([measured[i, order[i]] for i in range(n_runs)])
        null[k] = contrast_correlation(predicted, shuffled)
    return null
