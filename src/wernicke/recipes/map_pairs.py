"""Whether maps on the cortical surface differ: pairs of bands by spin test, in each subject and on average."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.data.maps import read_maps
from wernicke.data.surfaces import read_surface_map
from wernicke.stats.fdr import fdr
from wernicke.stats.spin_pairs import spin_pairs

#: The subject of the rows about the mean over subjects.
MEAN = "mean over subjects"

Maps = Mapping[str, Mapping[str, np.ndarray]]


def read_columns(unit: Path, columns: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return a unit's maps on fsaverage5 by name, shape (20484,); those that do not lie there are left out.

    Parameters
    ----------
    unit : Path
        A subject's and model's folder.
    columns : mapping
        Name to column, such as ``Speech`` to ``unique_Speech``.
    """
    table, units = read_maps(unit)
    found = {name: read_surface_map(unit, column, units) for name, column in columns.items() if column in table}
    return {name: values for name, values in found.items() if values is not None}


def pair_table(quantities: Mapping[str, Maps], *, n_permutations: int, seed: int) -> pd.DataFrame | None:
    """Compare every pair of maps of each quantity, subject by subject and as means over subjects.

    Parameters
    ----------
    quantities : mapping of str to (subject to (name to array, shape (20484,)))
        Such as ``unique R2`` to each subject's map of each band.
    n_permutations : int
        Rotations of the sphere.
    seed : int

    Returns
    -------
    DataFrame or None
        Columns ``quantity, subject, model, other, r, p_spin, p_spin_fdr, z, n_spins, n_vertices, difference, low,
        high, note``. r: correlation over vertices; p: two-sided, against the first map rotated on the sphere;
        p_spin_fdr: Benjamini-Hochberg over a subject's pairs. difference: mean of the first map less the second's; in
        the rows over subjects with its 95 % t interval over subjects. None where no subject has two maps.
    """
    rows: list[dict[str, Any]] = []
    for quantity, subjects in quantities.items():
        shared = [name for name in next(iter(subjects.values()), {}) if all(name in own for own in subjects.values())]
        for subject, maps in subjects.items():
            rows += _compare(quantity, subject, maps, n_permutations, seed)
        if len(subjects) > 1 and len(shared) > 1:
            means = {name: np.mean([own[name] for own in subjects.values()], axis=0) for name in shared}
            over = _compare(quantity, MEAN, means, n_permutations, seed)
            rows += [row | _interval(subjects, row["model"], row["other"]) for row in over]
    return pd.DataFrame(rows) if rows else None


def _compare(
    quantity: str, subject: str, maps: Mapping[str, np.ndarray], n_permutations: int, seed: int
) -> list[dict[str, Any]]:
    """One row a pair; a comparison that cannot be made says why in `note`."""
    names = list(maps)
    pairs = list(itertools.combinations(range(len(names)), 2))
    empty = dict.fromkeys(("r", "p_spin", "p_spin_fdr", "z"), np.nan) | {"n_spins": 0, "n_vertices": 0}
    try:
        found = spin_pairs(list(maps.values()), pairs, n_permutations=n_permutations, seed=seed) if pairs else None
        note = ""
    except InputError as error:
        if error.code not in ("E-SIZE", "E-CONST"):
            raise
        found, note = None, error.problem
    rows = []
    corrected = fdr(found.p).p_adjusted if found is not None else None
    for k, (i, j) in enumerate(pairs):
        row = {"quantity": quantity, "subject": subject, "model": names[i], "other": names[j], **empty}
        if found is not None and corrected is not None:
            row |= {"r": found.r[k], "p_spin": found.p[k], "p_spin_fdr": corrected[k], "z": found.z[k],
                    "n_spins": found.n_permutations, "n_vertices": found.n_vertices}  # fmt: skip
        rows.append(row | {"difference": _difference(maps, names[i], names[j]), "low": np.nan, "high": np.nan,
                           "note": note})  # fmt: skip
    return rows


def _difference(maps: Mapping[str, np.ndarray], model: str, other: str) -> float:
    """Mean over the vertices that both have."""
    less = maps[model] - maps[other]
    return float(less[np.isfinite(less)].mean()) if np.isfinite(less).any() else np.nan


def _interval(subjects: Maps, model: str, other: str) -> dict[str, float]:
    """Mean over subjects of their differences, 95 % by t."""
    values = np.array([_difference(own, model, other) for own in subjects.values()])
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"difference": float(values.mean()), "low": float(values.mean()) - half, "high": float(values.mean()) + half}
