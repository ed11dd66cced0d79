"""Train, validation and test samples, and the groups that must not stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError


@dataclass(frozen=True)
class Split:
    """One division of samples.

    Parameters
    ----------
    samples : DataFrame
        The recording's table; `sample_id` and every column named in `keys`.
    train, test, valid : tuple of sample ids
    keys : tuple of str
        Columns whose groups must not stand both in train or valid and in test (stimulus_id, run, block, session,
        subject).
    accepted_leaks : tuple of str
        Columns in which a group does stand on both sides and the user accepts it; named in every report.

    Raises
    ------
    InputError
        E-SPLIT when a side is empty, an id is unknown or stands on two sides, or a group of `keys` stands on both.
    """

    samples: pd.DataFrame
    train: tuple[str, ...]
    test: tuple[str, ...]
    valid: tuple[str, ...] = ()
    keys: tuple[str, ...] = ("run",)
    accepted_leaks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sample_id", *self.keys, *self.accepted_leaks):
            if name not in self.samples.columns:
                raise InputError("E-SPLIT", f"the samples have no column `{name}`", field="samples")
        self._check_sides()
        for key in self.keys:
            crossing = self._crossing(key)
            if crossing and key not in self.accepted_leaks:
                raise InputError(
                    "E-SPLIT",
                    f"{len(crossing)} of {key} stand on both sides, such as {sorted(crossing, key=str)[0]!r}",
                    field=key,
                    hint=f"split by {key}, or name it in accepted_leaks, which every report will then say",
                )

    def _check_sides(self) -> None:
        known = set(self.samples["sample_id"])
        place: dict[str, str] = {}
        for side in ("train", "valid", "test"):
            ids = getattr(self, side)
            if not ids and side != "valid":
                raise InputError("E-SPLIT", f"no samples in {side}", field=side)
            for sample in ids:
                if sample not in known:
                    raise InputError("E-SPLIT", f"unknown sample {sample!r}", field=side)
                if sample in place:
                    where = f"in {place[sample]} and in {side}" if place[sample] != side else f"twice in {side}"
                    raise InputError("E-SPLIT", f"sample {sample!r} stands {where}", field=side)
                place[sample] = side

    def _crossing(self, key: str) -> set[Any]:
        """Groups of the column `key` that stand both in train or valid and in test; missing entries are no group."""
        ids, groups = self.samples["sample_id"], self.samples[key]
        seen = groups[ids.isin([*self.train, *self.valid])].dropna()
        return set(seen) & set(groups[ids.isin(self.test)].dropna())

    @cached_property
    def train_rows(self) -> np.ndarray:
        """Row numbers of the training samples, in the table's order."""
        return self._rows(self.train)

    @cached_property
    def test_rows(self) -> np.ndarray:
        """Row numbers of the test samples, in the table's order."""
        return self._rows(self.test)

    def _rows(self, ids: Sequence[str]) -> np.ndarray:
        return np.flatnonzero(self.samples["sample_id"].isin(ids).to_numpy())

    def overlaps(self) -> dict[str, int]:
        """Return how many groups of each key and accepted leak stand on both sides (0 unless accepted)."""
        return {key: len(self._crossing(key)) for key in dict.fromkeys((*self.keys, *self.accepted_leaks))}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sides, in order, and the keys."""
        digest = hashlib.sha256()
        for side in (self.train, self.valid, self.test, self.keys, self.accepted_leaks):
            digest.update("\x1f".join(map(str, side)).encode() + b"\x1e")
        return digest.hexdigest()


def leave_one_group_out(
    samples: pd.DataFrame,
    group: str = "run",
    *,
    keys: tuple[str, ...] = ("run",),
    accepted_leaks: tuple[str, ...] = (),
) -> Iterator[Split]:
    """Yield one Split for each value of the column `group`, in order of appearance, which is the test side.

    Raises
    ------
    InputError
        E-SPLIT with fewer than two groups, or what `Split` raises.
    """
    for name in (group, "sample_id"):
        if name not in samples.columns:
            raise InputError("E-SPLIT", f"the samples have no column `{name}`", field="samples")
    values = list(pd.unique(samples[group]))
    if len(values) < 2:
        raise InputError(
            "E-SPLIT",
            f"found {len(values)} {group}, expected at least 2 to leave one out",
            field=group,
            hint="cross-validation leaves whole runs out; with a single run nothing independent is left to test on",
        )
    ids = samples["sample_id"].to_numpy()
    for value in values:
        held_out = (samples[group] == value).to_numpy()
        yield Split(samples, tuple(ids[~held_out]), tuple(ids[held_out]), keys=keys, accepted_leaks=accepted_leaks)
