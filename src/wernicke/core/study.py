"""A study: one recording a subject, the stimuli they met, and what happened when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording


@dataclass(frozen=True)
class Source:
    """Where data come from and on what terms; printed in every report.

    Parameters
    ----------
    name, licence, terms : str
        `terms` says in a sentence what the licence asks of a user.
    citation : str
        One line for a reader.
    bibtex : str
        The entry for the report's ``.bib``.
    url : str, optional
    """

    name: str
    licence: str
    terms: str
    citation: str
    bibtex: str
    url: str | None = None


@dataclass(frozen=True)
class Stimuli:
    """The catalogue of stimuli.

    Parameters
    ----------
    table : DataFrame
        One row a stimulus: `stimulus_id` (unique), optionally `path` (picture), `label`, `text`.
    texts : mapping of stimulus_id to tuple of str
        All descriptions of a stimulus, one an annotator; may be empty.
    """

    table: pd.DataFrame
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "stimulus_id" not in self.table.columns:
            raise InputError("E-META", "column `stimulus_id` is missing", field="stimuli")
        if self.table["stimulus_id"].duplicated().any():
            raise InputError("E-META", "a stimulus_id occurs twice", field="stimuli")
        unknown = set(self.texts) - set(self.table["stimulus_id"])
        if unknown:
            raise InputError("E-REF", f"texts name the unknown stimulus {sorted(unknown)[0]!r}", field="texts")


EVENT_COLUMNS = ("run", "onset_s", "duration_s")


@dataclass(frozen=True)
class Events:
    """A long table in BIDS's words: run, `onset_s`, `duration_s`; optionally level, annotator, text, stimulus_id."""

    table: pd.DataFrame

    def __post_init__(self) -> None:
        for name in EVENT_COLUMNS:
            if name not in self.table.columns:
                raise InputError("E-META", f"column `{name}` is missing", field="events")
        for name in EVENT_COLUMNS[1:]:
            values = pd.to_numeric(self.table[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
            bad = ~np.isfinite(values) | ((values < 0) & (name == "duration_s"))
            if bad.any():
                row = int(bad.argmax())
                raise InputError("E-META", f"row {row} holds {self.table[name].iloc[row]!r}, expected seconds",
                                 field=name)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Recordings by subject, one shared catalogue of stimuli, one space of sample ids.

    Subjects may differ in voxels.
    """

    recordings: Mapping[str, Recording]
    stimuli: Stimuli
    source: Source
    events: Events | None = None

    def __post_init__(self) -> None:
        if not self.recordings:
            raise InputError("E-META", "a study needs at least one recording", field="recordings")
        known = set(self.stimuli.table["stimulus_id"])
        seen: set[str] = set()
        for subject, recording in self.recordings.items():
            if subject != recording.subject:
                raise InputError("E-META", f"recording of {recording.subject!r} filed under {subject!r}",
                                 field="recordings")  # fmt: skip
            ids = set(recording.samples["sample_id"])
            if ids & seen:
                raise InputError("E-META", f"sample_id {sorted(ids & seen)[0]!r} occurs in two subjects",
                                 field="samples")  # fmt: skip
            seen |= ids
            if "stimulus_id" in recording.samples.columns:
                unknown = set(recording.samples["stimulus_id"].dropna()) - known
                if unknown:
                    raise InputError("E-REF", f"samples name the unknown stimulus {sorted(unknown)[0]!r}",
                                     field="stimulus_id")  # fmt: skip
