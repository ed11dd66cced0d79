"""Models side by side on one recording: r by TR and r of category contrasts, with intervals over runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.core.split import Split
from wernicke.encoding.arrays import delayed_bands, mean_delay_tr
from wernicke.encoding.by_run import mean_over_runs, scores_by_run
from wernicke.encoding.contrasts import block_responses, contrast_correlation, remove_shared
from wernicke.encoding.crossval import predict_left_out_runs

N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class ModelScore:
    """One model's held-out scores, means over voxels.

    Attributes
    ----------
    name, what : str
        `what` says in a few words what the model knows.
    r, contrast : float
        Mean over voxels of r by TR and of r of the category contrasts.
    r_ci, contrast_ci : (low, high)
        95 %, bootstrap over runs; of a control drawn at random, over its fits.
    r_draws, contrast_draws : array, shape (n_fits,)
        One value a fit; a single one for a model without chance.
    contrast_bootstrap : array, shape (n_bootstrap,), or None
        For paired differences between models: all models share the draws of runs.
    r_voxels, contrast_voxels : array, shape (n_voxels,), or None
    """

    name: str
    what: str
    r: float
    contrast: float
    r_ci: tuple[float, float]
    contrast_ci: tuple[float, float]
    r_draws: np.ndarray
    contrast_draws: np.ndarray
    r_bootstrap: np.ndarray | None = field(default=None, repr=False)
    contrast_bootstrap: np.ndarray | None = field(default=None, repr=False)
    r_voxels: np.ndarray | None = field(default=None, repr=False)
    contrast_voxels: np.ndarray | None = field(default=None, repr=False)

    @property
    def n_fits(self) -> int:
        return len(self.r_draws)

    def as_row(self) -> dict[str, Any]:
        """The row of ``models.json``."""
        return {
            "name": self.name, "what": self.what, "n_fits": self.n_fits,
            "r": self.r, "r_ci": list(self.r_ci), "r_draws": self.r_draws.tolist(),
            "contrast": self.contrast, "contrast_ci": list(self.contrast_ci),
            "contrast_draws": self.contrast_draws.tolist(),
        }  # fmt: skip


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The central 95 % of draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """What all models are fitted to and scored on.

    Parameters
    ----------
    responses : array, shape (n_samples, n_voxels)
        Voxels that vary; detrended and z-scored by run.
    runs, labels : array, shape (n_samples,)
    splits : sequence of Split
    alphas : sequence of float
    delays_tr : sequence of int
        FIR delays of every model but those that bring their own columns.
    baseline : hashable
    seed : int
    """

    responses: np.ndarray
    runs: np.ndarray
    labels: np.ndarray
    splits: Sequence[Split]
    alphas: Sequence[float]
    delays_tr: Sequence[int]
    baseline: Hashable = "rest"
    seed: int = 0

    @property
    def shift_tr(self) -> int:
        """Delay at which block responses are taken."""
        return mean_delay_tr(self.delays_tr)

    def delayed(self, design: np.ndarray) -> dict[str, np.ndarray]:
        """FIR columns of a design, shape (n_samples, n_features), with the same delays for every model."""
        return delayed_bands(design, self.runs, self.delays_tr)

    def contrasts(self, values: np.ndarray) -> np.ndarray:
        """Contrasts of a series, shape (n_runs, n_conditions, n_voxels)."""
        return remove_shared(
            block_responses(values, self.runs, self.labels, shift_tr=self.shift_tr, baseline=self.baseline)
        )

    @cached_property
    def measured(self) -> np.ndarray:
        return self.contrasts(self.responses)

    @cached_property
    def run_weights(self) -> np.ndarray:
        """How often each run counts in each bootstrap draw, shape (n_bootstrap, n_runs)."""
        n_runs = len(self.measured)
        return derive_rng(self.seed, "bootstrap over runs").multinomial(
            n_runs, np.full(n_runs, 1 / n_runs), size=N_BOOTSTRAP
        )

    def predict(self, bands: Mapping[str, np.ndarray]) -> np.ndarray:
        """Held-out predictions from delayed bands, shape (n_samples, n_voxels)."""
        held_out = predict_left_out_runs(
            bands, self.responses, self.runs, self.alphas, seed=self.seed, splits=self.splits
        )
        if not held_out.scored.all():
            raise InputError("E-SPLIT", f"the folds test {int(held_out.scored.sum())} of {len(self.runs)} samples, "
                             "expected all", field="splits")  # fmt: skip
        return held_out.predictions

    def score(self, name: str, what: str, predictions: np.ndarray) -> ModelScore:
        """Score one set of held-out predictions, with intervals by bootstrap over runs."""
        by_run = scores_by_run(predictions, self.responses, self.runs)
        predicted = self.contrasts(predictions)
        r_voxels = mean_over_runs(by_run, self.runs)
        contrast_voxels = contrast_correlation(predicted, self.measured)
        r_boot = np.nanmean(mean_over_runs(by_run, self.runs, run_weights=self.run_weights), axis=1)
        contrast_boot = np.nanmean(contrast_correlation(predicted, self.measured, run_weights=self.run_weights), axis=1)
        r, contrast = float(np.nanmean(r_voxels)), float(np.nanmean(contrast_voxels))
        return ModelScore(
            name, what, r, contrast, interval(r_boot), interval(contrast_boot), np.array([r]), np.array([contrast]),
            r_boot, contrast_boot, r_voxels, contrast_voxels,
        )  # fmt: skip

    def pool(self, fits: Sequence[ModelScore]) -> ModelScore:
        """Make one score of a control's repeated fits; the interval is over the fits."""
        r = np.array([fit.r for fit in fits])
        contrast = np.array([fit.contrast for fit in fits])
        return ModelScore(
            fits[0].name,
            fits[0].what,
            float(r.mean()),
            float(contrast.mean()),
            interval(r),
            interval(contrast),
            r,
            contrast,
        )


def paired_gain(model: ModelScore, other: ModelScore) -> tuple[float, float, float]:
    """Difference in contrast r, with its 95 % interval over the same draws of runs: (estimate, low, high)."""
    if model.contrast_bootstrap is None or other.contrast_bootstrap is None:
        raise ValueError(f"{model.name} and {other.name} were not both scored over runs")
    low, high = interval(model.contrast_bootstrap - other.contrast_bootstrap)
    return model.contrast - other.contrast, low, high
