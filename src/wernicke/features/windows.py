"""Texts by time: dense annotations and word-timed transcripts -> what was said or described up to each moment.

A context window of W seconds (drama2brain's ``cwW``) ends with the sample that it belongs to: ``cw1`` is the current
second only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.core.units import seconds_to_tr

MISSING = ".."  # drama2brain's mark for "nothing annotated"
_ROUNDING = 1e-9  # of a step: times that miss a border by rounding only (0.3 s in steps of 0.1 s) lie on it


@dataclass(frozen=True)
class TextWindows:
    """One text a sample and annotator.

    Parameters
    ----------
    index : DataFrame, n_samples rows
        `run` and `onset_s`.
    texts : tuple of tuple of (str or None), n_samples by n_annotators
        None where an annotator says nothing in the window.
    annotators : tuple of str
    window_s : float
    """

    index: pd.DataFrame
    texts: tuple[tuple[str | None, ...], ...]
    annotators: tuple[str, ...]
    window_s: float

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.index) or any(len(row) != len(self.annotators) for row in self.texts):
            raise InputError("E-SHAPE", f"found {len(self.texts)} rows of texts for {len(self.index)} samples of "
                             f"{len(self.annotators)} annotators", field="texts")  # fmt: skip

    @property
    def unique(self) -> list[str]:
        """The distinct texts, in order of first appearance."""
        return list(dict.fromkeys(text for row in self.texts for text in row if text is not None))

    @property
    def n_empty(self) -> int:
        """Samples without a text of any annotator; their features are zeros."""
        return sum(all(text is None for text in row) for row in self.texts)

    def choose(self, annotators: Sequence[int]) -> TextWindows:
        """Return the windows of some annotators; drama2brain's splitA of five is ``[0, 1, 2]``, splitB ``[3, 4]``."""
        chosen = list(annotators)
        if not chosen or any(not 0 <= i < len(self.annotators) for i in chosen):
            raise InputError("E-CFG", f"found {chosen}, expected some of 0 to {len(self.annotators) - 1}",
                             field="annotators")  # fmt: skip
        texts = tuple(tuple(row[i] for i in chosen) for row in self.texts)
        return TextWindows(self.index, texts, tuple(self.annotators[i] for i in chosen), self.window_s)

    def average(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over annotators that say something, zeros where none does.

        Parameters
        ----------
        values : array, shape (len(unique), n_columns)

        Returns
        -------
        array, shape (n_samples, n_columns)
            In the dtype of `values`.
        """
        return average_texts(self.texts, self.unique, values)


def average_texts(rows: Sequence[tuple[str | None, ...]], unique: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Return for each row the mean of its texts' values, (len(rows), n_columns); `values` has a row a unique text."""
    from scipy.sparse import csr_matrix

    place = {text: i for i, text in enumerate(unique)}
    at, columns, weights = [], [], []
    for i, row in enumerate(rows):
        said = [place[text] for text in row if text is not None]
        at += [i] * len(said)
        columns += said
        weights += [1 / max(len(said), 1)] * len(said)
    mean = csr_matrix((np.array(weights, values.dtype), (at, columns)), shape=(len(rows), len(values)))
    return np.asarray(mean @ values)


def annotation_windows(
    table: pd.DataFrame | Sequence[Sequence[Any]] | np.ndarray,
    *,
    run: str,
    window_s: float = 1.0,
    step_s: float = 1.0,
    mode: Literal["corrected", "faithful"] = "corrected",
) -> TextWindows:
    """Return windows of a dense annotation: one row a `step_s`, one column an annotator, as drama2brain's TSVs.

    The distinct captions of the window are joined by commas: in order of time in ``corrected``; sorted as text, as
    drama2brain's code does, in ``faithful``, which also keeps blanks around a caption, since tokenizers see them.

    Parameters
    ----------
    table : DataFrame or array of str, shape (n_samples, n_annotators)
        ``".."``, an empty cell and a missing one say nothing.
    run : str
    window_s : float
        Whole number of `step_s`.
    step_s : float
        Time from row to row; the first row begins at 0 s.
    mode : str

    Raises
    ------
    InputError
        E-SHAPE (no table), E-META (a cell that is no text), E-CFG.
    """
    check_option(mode, ("corrected", "faithful"), "mode")
    width = seconds_to_tr([window_s], step_s, "window_s")[0]
    if width < 1:
        raise InputError("E-CFG", f"found {window_s:g} s, expected at least {step_s:g} s", field="window_s")
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(np.asarray(table, dtype=object))
    if frame.ndim != 2 or 0 in frame.shape:
        raise InputError("E-SHAPE", f"found shape {frame.shape}, expected samples by annotators", field="table")
    columns = [[_caption(cell, i, mode) for i, cell in enumerate(frame.iloc[:, j])] for j in range(frame.shape[1])]
    texts = []
    for i in range(len(frame)):
        first = max(0, i - width + 1)
        texts.append(tuple(_join(column[first : i + 1], mode) for column in columns))
    index = pd.DataFrame({"run": [run] * len(frame), "onset_s": np.arange(len(frame)) * float(step_s)})
    return TextWindows(index, tuple(texts), tuple(map(str, frame.columns)), float(window_s))


def event_windows(
    events: Events,
    *,
    n_samples: dict[str, int],
    step_s: float,
    window_s: float,
    kind: Literal["captions", "words"],
    mode: Literal["corrected", "faithful"] = "corrected",
) -> TextWindows:
    """Return windows at regular samples from timed captions or from a word-timed transcript.

    Parameters
    ----------
    events : Events
        With `text`, optionally `annotator`.
    n_samples : dict of str to int
        By run, in the order wanted.
    step_s : float
        Length of a sample (the TR, or 1 s); sample k of a run is [k step_s, (k + 1) step_s).
    window_s : float
        The window of a sample are the `window_s` seconds up to its end.
    kind : str
        ``"captions"``: those that hold at some time of the window, each once, joined by commas. ``"words"``: those that
        begin in it, in order, repeated ones too, joined by blanks.
    mode : str
        Order of captions, as in `annotation_windows`.

    Raises
    ------
    InputError
        E-META (no text column, an event of an unknown run, a cell that is no text), E-CFG.
    """
    check_option(kind, ("captions", "words"), "kind")
    check_option(mode, ("corrected", "faithful"), "mode")
    check_range(step_s, "step_s", low=0, low_open=True)
    check_range(window_s, "window_s", low=0, low_open=True)
    table = _texts_of(events, set(n_samples))
    names = tuple(dict.fromkeys(table["annotator"])) or ("1",)
    runs: list[str] = []
    onsets: list[float] = []
    texts: list[tuple[str | None, ...]] = []
    for run, n in n_samples.items():
        columns = []
        for name in names:
            own = table[(table["run"] == run) & (table["annotator"] == name)]
            columns.append(_by_sample(own, n, float(step_s), float(window_s), kind, mode))
        runs += [run] * n
        onsets += (np.arange(n) * float(step_s)).tolist()
        texts += list(zip(*columns, strict=True))
    index = pd.DataFrame({"run": runs, "onset_s": onsets})
    return TextWindows(index, tuple(texts), names, float(window_s))


def word_windows(events: Events, *, window_s: float) -> TextWindows:
    """Return one window a word, ending with it: its left context of `window_s` seconds.

    For states of each word in context (``pool="last"``), which `wernicke.features.resample` brings to TR, as in Jain
    & Huth (2018, NeurIPS). `onset_s` is the word's middle.

    Raises
    ------
    InputError
        E-META (no words, several annotators, a cell that is no text), E-CFG.
    """
    check_range(window_s, "window_s", low=0, low_open=True)
    table = _texts_of(events, None)
    if table["annotator"].nunique() != 1:
        raise InputError("E-META", f"found {table['annotator'].nunique()} annotators, expected one transcript",
                         field="events")  # fmt: skip
    texts: list[tuple[str | None, ...]] = []
    for _, own in table.groupby("run", sort=False):
        onset, words = own["onset_s"].to_numpy(), own["text"].to_list()
        first = np.searchsorted(onset, onset - window_s * (1 - _ROUNDING), side="right")
        texts += [(" ".join(words[a : i + 1]),) for i, a in enumerate(np.minimum(first, np.arange(len(own))))]
    index = pd.DataFrame({"run": table["run"], "onset_s": table["onset_s"] + table["duration_s"] / 2})
    order = np.concatenate([np.flatnonzero(table["run"] == run) for run in dict.fromkeys(table["run"])])
    return TextWindows(index.iloc[order].reset_index(drop=True), tuple(texts), ("1",), float(window_s))


def _texts_of(events: Events, runs: set[str] | None) -> pd.DataFrame:
    """Return run, onset_s, duration_s, annotator and text of events that say something, by onset."""
    if "text" not in events.table.columns:
        raise InputError("E-META", "column `text` is missing", field="events")
    table = events.table[["run", "onset_s", "duration_s"]].copy()
    for name in ("onset_s", "duration_s"):
        table[name] = table[name].astype(float)
    annotator = events.table.get("annotator")
    table["annotator"] = "1" if annotator is None else annotator.fillna("1").astype(str)
    table["text"] = [_caption(cell, i) for i, cell in enumerate(events.table["text"])]
    if runs is not None and not set(table["run"]) <= runs:
        unknown = next(run for run in table["run"] if run not in runs)
        raise InputError("E-META", f"an event of run {unknown!r}, expected {', '.join(map(repr, sorted(runs)[:8]))}",
                         field="run")  # fmt: skip
    table = table[table["text"].notna()].sort_values("onset_s", kind="stable").reset_index(drop=True)
    if not len(table):
        raise InputError("E-META", "no event says anything", field="events")
    return table


def _by_sample(table: pd.DataFrame, n: int, step_s: float, window_s: float, kind: str, mode: str) -> list[str | None]:
    """Return the text of each of `n` windows; borders are compared in steps, the same number for both neighbours."""
    texts = table["text"].to_numpy(dtype=object)
    onset = table["onset_s"].to_numpy() / step_s + _ROUNDING
    stop = (table["onset_s"] + table["duration_s"]).to_numpy() / step_s - _ROUNDING
    width = window_s / step_s
    found: list[str | None] = []
    for end in range(1, n + 1):
        begun = (onset >= end - width) & (onset < end)
        if kind == "words":
            found.append(" ".join(texts[begun]) or None)
        else:  # one of no duration holds at its onset
            found.append(_join(list(texts[begun | ((onset < end) & (stop > end - width))]), mode))
    return found


def _caption(cell: Any, row: int, mode: str = "corrected") -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)) or cell is pd.NA:
        return None
    if not isinstance(cell, str):
        raise InputError("E-META", f"row {row} holds {cell!r}, expected text", field="text",
                         hint="read the table with dtype=str")  # fmt: skip
    text = cell if mode == "faithful" else cell.strip()
    return None if text in ("", MISSING) else text


def _join(captions: list[str | None], mode: str) -> str | None:
    said = dict.fromkeys(caption for caption in captions if caption is not None)
    return ",".join(sorted(said) if mode == "faithful" else said) or None
