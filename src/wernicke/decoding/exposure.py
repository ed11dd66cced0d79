"""What a model has seen: sample and stimulus ids of every stage, and the refusal to be evaluated on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from wernicke.core.errors import InputError


@dataclass(frozen=True)
class Exposure:
    """The ids that any stage of training saw, those of the stages it began from included.

    Parameters
    ----------
    samples, stimuli : frozenset of str
    """

    samples: frozenset[str] = frozenset()
    stimuli: frozenset[str] = frozenset()

    @classmethod
    def of(cls, samples: Iterable[Any] = (), stimuli: Iterable[Any] = ()) -> Exposure:
        """Make one from any ids."""
        return cls(frozenset(map(str, samples)), frozenset(map(str, stimuli)))

    def __or__(self, other: Exposure) -> Exposure:
        """Union over stages."""
        return Exposure(self.samples | other.samples, self.stimuli | other.stimuli)

    def to_meta(self) -> dict[str, list[str]]:
        """Return plain values for a checkpoint's meta."""
        return {"samples": sorted(self.samples), "stimuli": sorted(self.stimuli)}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Exposure:
        """Read what `to_meta` wrote; a checkpoint without it is refused (E-CKPT)."""
        found = meta.get("exposure")
        if not isinstance(found, Mapping) or not {"samples", "stimuli"} <= set(found):
            raise InputError("E-CKPT", "does not say which samples and stimuli it has seen", field="exposure",
                             hint="train it again; what an unknown model was trained on cannot be checked")  # fmt: skip
        return cls.of(found["samples"], found["stimuli"])


def check_exposure(exposure: Exposure, test: pd.DataFrame, accepted_leaks: Sequence[str] = ()) -> dict[str, int]:
    """Refuse to evaluate a model on what it was trained on.

    Parameters
    ----------
    exposure : Exposure
    test : DataFrame
        The rows to evaluate: `sample_id`, and `stimulus_id` where there are stimuli.
    accepted_leaks : sequence of str
        Columns whose overlap the user accepts (``Split.accepted_leaks``); ``sample_id`` cannot be accepted.

    Returns
    -------
    dict of str to int
        For each accepted column how many of its ids were seen; for the report.

    Raises
    ------
    InputError
        E-SPLIT: a test sample, or a test stimulus that was not accepted, was seen in training.
    """
    seen = {"sample_id": exposure.samples, "stimulus_id": exposure.stimuli}
    accepted = {}
    for column, ids in seen.items():
        if column not in test.columns:
            continue
        both = sorted(set(test[column].dropna().map(str)) & ids)
        if column in accepted_leaks and column != "sample_id":
            accepted[column] = len(both)
        elif both:
            kind = column.removesuffix("_id")
            raise InputError(
                "E-SPLIT",
                f"{len(both)} test {kind} ids were seen in training, such as {both[0]!r}",
                field=column,
                hint="evaluate on others"
                + ("" if column == "sample_id" else f", or name {column} in accepted_leaks, which reports will say"),
            )
    return accepted
