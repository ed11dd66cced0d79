"""What models give back: predictions, captions, pictures, and the scores made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError

Decoding = Literal["free", "teacher_forced", "unknown"]


@dataclass(frozen=True)
class Predictions:
    """Predicted values of samples.

    Parameters
    ----------
    sample_ids : tuple of str
    values : array, shape (n_samples, n_units)
    split_fingerprints : tuple of str
        The splits (one a fold) under which each value was held out.
    """

    sample_ids: tuple[str, ...]
    values: np.ndarray
    split_fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != len(self.sample_ids):
            raise InputError("E-SHAPE", f"found shape {self.values.shape} for {len(self.sample_ids)} samples",
                             field="predictions")  # fmt: skip


CAPTION_COLUMNS = ("label", "predicted_label", "subject", "stimulus", "order")


@dataclass(frozen=True)
class Captions:
    """Texts that a decoder wrote, with what they should have said.

    Parameters
    ----------
    table : DataFrame
        One row a caption: `id` (unique), `text`, and optionally `label`, `predicted_label`, `subject`, `stimulus`,
        `order` (presentation order).
    references : tuple of tuples of str
        At least one non-empty reference a caption, in the table's order; empty when nothing is known.
    decoding : {"free", "teacher_forced", "unknown"}
        How the texts were made. Files from elsewhere are "unknown"; a teacher-forced text cannot make a headline.
    parameters : mapping
        Decoding parameters (max_new_tokens, beams, ...). JSON-serialisable.
    split_fingerprints : tuple of str
        The splits under which they were held out.
    """

    table: pd.DataFrame
    references: tuple[tuple[str, ...], ...] = ()
    decoding: Decoding = "unknown"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    split_fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "text"):
            if name not in self.table.columns:
                raise InputError("E-META", f"column `{name}` is missing, found {list(self.table.columns)}",
                                 field="captions")  # fmt: skip
        if not len(self.table):
            raise InputError("E-META", "no captions", field="captions")
        twice = self.table["id"].duplicated()
        if twice.any():
            raise InputError("E-META", f"id {self.table['id'][twice].iloc[0]!r} occurs twice", field="id")
        if not self.table["text"].map(lambda text: isinstance(text, str)).all():
            row = int(self.table["text"].map(lambda text: not isinstance(text, str)).to_numpy().argmax())
            raise InputError("E-META", f"row {row} holds no text", field="text",
                             hint="an empty caption is written as an empty string and is scored")  # fmt: skip
        if self.references:
            if len(self.references) != len(self.table):
                raise InputError("E-SHAPE", f"{len(self.references)} references for {len(self.table)} captions",
                                 field="reference")  # fmt: skip
            for row, texts in enumerate(self.references):
                if not texts or any(not isinstance(t, str) or not t.strip() for t in texts):
                    raise InputError("E-META", f"id {self.table['id'].iloc[row]!r} has an empty reference",
                                     field="reference")  # fmt: skip

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Images:
    """Pictures that a decoder made: files by id, with the seed of each."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.paths) == len(self.seeds):
            raise InputError("E-SHAPE", "ids, paths and seeds differ in length", field="images")


@dataclass(frozen=True)
class Scores:
    """One metric of one model, never alone: its null, ceiling and interval travel with it.

    Parameters
    ----------
    model, metric : str
    mean : float
    n : int
        Number of items or units averaged.
    per_unit : array, shape (n,), optional
    ci : (low, high), optional
        95 % interval, and over what in `ci_over`.
    null : array, shape (n_null,), optional
        The statistic under the null or control named in `null_name`.
    ceiling : float, optional
        What a perfect model could reach; None with `ceiling_reason` where the data cannot tell.
    """

    model: str
    metric: str
    mean: float
    n: int
    per_unit: np.ndarray | None = None
    ci: tuple[float, float] | None = None
    ci_over: str = ""
    null: np.ndarray | None = None
    null_name: str = ""
    ceiling: float | None = None
    ceiling_reason: str = ""

    def as_row(self) -> dict[str, Any]:
        """The row of ``scores.json``."""
        return {
            "model": self.model,
            "metric": self.metric,
            "mean": float(self.mean),
            "n": int(self.n),
            "ci": None if self.ci is None else [float(v) for v in self.ci],
            "ci_over": self.ci_over,
            "null": None if self.null is None else [float(v) for v in np.asarray(self.null)],
            "null_name": self.null_name,
            "ceiling": None if self.ceiling is None else float(self.ceiling),
            "ceiling_reason": self.ceiling_reason,
        }
