"""What a model sees of the stimuli: named bands with an index and their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_matrix
from wernicke.core.errors import InputError


@dataclass(frozen=True)
class Features:
    """Named bands of one row an index entry.

    Parameters
    ----------
    bands : mapping of str to array, shape (n_rows, n_features)
        Finite; may be memory-mapped.
    index : DataFrame, n_rows rows
        Either `stimulus_id`, or `run` and `onset_s`; optionally `annotator`.
    provenance : mapping
        What made them: model, revision, layer, tokens, code version. JSON-serialisable.
    """

    bands: Mapping[str, np.ndarray]
    index: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.bands:
            raise InputError("E-META", "no band given", field="bands")
        columns = set(self.index.columns)
        if not ("stimulus_id" in columns or {"run", "onset_s"} <= columns):
            raise InputError("E-META", f"found columns {sorted(columns)}, expected stimulus_id, or run and onset_s",
                             field="index")  # fmt: skip
        for name, band in self.bands.items():
            check_matrix(band, f"band `{name}`", n_rows=len(self.index))
