"""``events.tsv``: what happened when, and word-timed transcripts in the same format."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.study import Stimuli
from wernicke.data.bids_layout import BidsFolder
from wernicke.data.tsv import numbers, read_tsv

logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("text", "word")
_OURS = ("run", "subject", "onset_s", "duration_s", "text", "stimulus_id")


def read_events(path: Path, run: str, length_s: float, text_column: str | None = None) -> pd.DataFrame:
    """Read one run's events.

    Parameters
    ----------
    path : Path
    run : str
    length_s : float
        Of the run: no event may begin at its end or later.
    text_column : str, optional
        The column that becomes `text`; default: ``text`` or ``word``, where there is one.

    Returns
    -------
    DataFrame
        `run`, `onset_s`, `duration_s` (0 where the file has ``n/a``), `text`, `stimulus_id` (``stim_file``), and the
        file's other columns as text.

    Raises
    ------
    InputError
        E-META: a missing column, an onset or duration that is no number, a negative duration, an event after the end.
    """
    table = read_tsv(path)
    onset = numbers(table, "onset", path)
    duration = numbers(table, "duration", path, missing=0.0)
    for bad, field, problem in (
        (duration < 0, "duration", "a negative duration"),
        (onset >= length_s, "onset", f"an event after the end of the run ({length_s:g} s)"),
    ):
        if bad.any():
            row = int(bad.argmax())
            found = (duration if field == "duration" else onset)[row]
            hint = "onsets are seconds from the run's first volume" if field == "onset" else None
            raise InputError("E-META", f"line {row + 2} holds {found:g}: {problem}", path=path, field=field, hint=hint)
    unknown = table["duration"].isna()
    if unknown.any():
        logger.info("%s: %d events without a duration count as instants", path.name, int(unknown.sum()))
    if text_column is not None and text_column not in table.columns:
        raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected `{text_column}`", path=path,
                         field=text_column)  # fmt: skip
    source = text_column or next((name for name in TEXT_COLUMNS if name in table.columns), None)
    out = {"run": run, "onset_s": onset, "duration_s": duration}
    if source is not None:
        out["text"] = table[source]
    if "stim_file" in table.columns:
        out["stimulus_id"] = table["stim_file"]
    rest = {name: table[name] for name in table.columns if name not in (*_OURS, "onset", "duration") and name}
    return pd.DataFrame({**out, **rest}, index=table.index).reset_index(drop=True)


def stimuli_of(events: pd.DataFrame | None, raw: BidsFolder) -> Stimuli:
    """The catalogue of ``stim_file``s; `path` where the file lies in the data set's ``stimuli`` folder.

    Raises
    ------
    InputError
        E-UNSAFE for a name that leads out of that folder.
    """
    if events is None or "stimulus_id" not in events.columns:
        return Stimuli(pd.DataFrame({"stimulus_id": pd.Series([], dtype=object)}))
    names = sorted(set(events["stimulus_id"].dropna()))
    folder = raw.root / "stimuli"
    paths: list[str | None] = []
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise InputError("E-UNSAFE", f"found {name!r}, expected a file within {folder.name}", path=folder,
                             field="stim_file")  # fmt: skip
        path = folder / name
        paths.append(str(raw.check(path)) if path.is_file() else None)
    return Stimuli(pd.DataFrame({"stimulus_id": names, "path": pd.Series(paths, dtype=object)}))
