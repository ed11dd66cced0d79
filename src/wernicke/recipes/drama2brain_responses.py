"""A subject's responses beside the design: standardised run by run, some voxels at a time, and written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.seeds import derive_rng
from wernicke.encoding.partition_fit import PartitionData
from wernicke.recipes.drama2brain_bands import Model, Subject
from wernicke.recipes.drama2brain_design import Design, Rows, design
from wernicke.ridge import correlation_score, solve_ridge_cv
from wernicke.stats.detrend import detrend_runs
from wernicke.stats.segments import centre_by_run, run_segments
from wernicke.store.atomic import atomic_path, check_free_space
from wernicke.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config


@dataclass(frozen=True)
class Responses:
    """A subject's responses, each voxel standardised within each run when it is read."""

    values: np.ndarray
    runs: np.ndarray
    how: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, index: tuple[slice, Any]) -> np.ndarray:
        """Return some voxels of all rows, float32."""
        values = np.asarray(self.values[:, index[1]], dtype=np.float32)
        if self.how == "zscore":
            return detrend_runs(values, self.runs, order=0)[index[0]].astype(np.float32)
        if self.how == "centre":
            return centre_by_run(values, run_segments(self.runs, len(values)))[index[0]].astype(np.float32)
        return values[index[0]]


def prepare(config: Config, recording: Recording, designs: Mapping[str, Design], rows: Rows) -> PartitionData:
    """Bring a subject's responses and the designs together."""
    responses = Responses(recording.values, recording.runs, config.data.standardise)
    varying = []
    for start in range(0, responses.shape[1], config.tile):
        values = np.asarray(recording.values[:, start : start + config.tile])
        varies = [np.ptp(values[part], axis=0) > 0 for part in (rows.train, rows.valid)]
        varying.append(start + np.flatnonzero(varies[0] & varies[1]))
    found = np.concatenate(varying)
    if not len(found):
        raise InputError("E-CONST", f"all {responses.shape[1]} voxels are constant", field=recording.subject)
    return PartitionData(
        names=tuple(designs),
        train=[one.columns[rows.train] for one in designs.values()],
        test=np.concatenate([one.columns[rows.valid] for one in designs.values()], axis=1),
        scales=[one.scale for one in designs.values()],
        responses=responses,
        train_rows=rows.train,
        test_rows=rows.valid,
        test_runs=recording.runs[rows.valid],
        cv=rows.cv,
        varying=found,
    )


def training_file(folder: Path, subject: Subject, data: PartitionData, config: Config) -> Path:
    """Write the standardised training rows of voxels that vary, some voxels at a time, unless they are there."""
    made_of = {"responses": subject.fingerprint, "data": {k: str(v) for k, v in vars(config.data).items()}}
    path = folder / f"{subject.recording.subject}-{fingerprint(made_of)[:12]}.npy"
    if path.exists():
        return path
    shape = (len(data.train_rows), len(data.varying))
    check_free_space(folder, 4 * shape[0] * shape[1])
    with atomic_path(path) as temporary:
        mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype="<f4", shape=shape)
        for at in range(0, shape[1], config.tile):
            columns = slice(at, at + config.tile)
            mapped[:, columns] = data.responses[:, data.varying[columns]][data.train_rows]
        mapped.flush()
        del mapped
    return path


def poison_audit(
    config: Config, model: Model, features: Mapping[str, np.ndarray], recording: Recording, rows: Rows
) -> dict[str, bool]:
    """Does anything that was fitted change when the scored rows are replaced by nonsense? On the first few voxels."""
    name, band = next(iter(model.bands.items()))
    rng = derive_rng(config.seed, "poison audit")
    clean = features[name], np.array(recording.values[:, :8], dtype=np.float32)
    poisoned = tuple(array.copy() for array in clean)
    for array in poisoned:
        array[rows.valid] = 1e6 * rng.standard_normal(array[rows.valid].shape)
    learnt = []
    for values, responses in (clean, poisoned):
        made = design(values, band, rows, seed=config.seed, name=name)
        Y = Responses(responses, recording.runs, config.data.standardise)[:, :][rows.train]
        Y = Y[:, np.ptp(clean[1][rows.train], axis=0) > 0]
        found = {"feature scale": np.float64(made.scale), "training features": made.columns[rows.train]}
        if Y.shape[1]:
            fitted = solve_ridge_cv(
                made.columns[rows.train], Y, alphas=config.alphas, cv=rows.cv, score_func=correlation_score,
                fit_intercept=True, warn=False,
            )  # fmt: skip
            found |= {"alpha": fitted.best_alphas, "weights": fitted.coef, "intercept": fitted.intercept}
        learnt.append({key: np.asarray(value).tobytes() for key, value in found.items()})
    return {key: learnt[0][key] != learnt[1][key] for key in learnt[0]}
