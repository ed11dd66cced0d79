"""What is read and what is fitted: a subject's runs, the events' text as language-model states, and nuisance bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.core.recording import Recording
    from wernicke.core.study import Events
    from wernicke.data.bids import BidsData
    from wernicke.data.confounds import Preprocess
    from wernicke.features.windows import TextWindows
    from wernicke.recipes.bids_encode import Config

NUISANCE = ("word_rate", "on_off", "position", "head_motion", "untrained_twin")
#: Bands that act at once, on the scanner or the clock: no haemodynamic delay.
UNDELAYED = ("position", "head_motion")
#: Delays where none are given: the whole TR nearest to these.
USUAL_DELAYS_S = (2.0, 4.0, 6.0, 8.0)


@dataclass(frozen=True)
class BidsSource:
    """Which files of a BIDS data set are read.

    Parameters
    ----------
    layout : {"bids", "haxby"}
        ``haxby``: the sample in the package, or the folder that ``nilearn.datasets.fetch_haxby`` made; then only `root`
        and `mask` count, and a category is an event's text.
    root : path, optional
        Must be given for ``bids``: fMRIPrep's folder, or the data set that holds it in ``derivatives``.
    events_root : path, optional
        The raw data set with the events, where it lies elsewhere.
    task, space : str, optional
        Needed where there are several.
    kind : {"auto", "volume", "surface", "cifti"}
        Where a space has files of several kinds.
    sessions, runs : list of str, optional
        Default: all.
    entities : dict of str to str
        Values of further entities, such as ``res``.
    desc : str
    mask : path, optional
        A brain mask for all subjects, in place of the runs' own.
    tr_s : float, optional
        Overrules header and sidecar.
    """

    layout: Literal["bids", "haxby"] = "bids"
    root: Path | None = None
    events_root: Path | None = None
    task: str | None = None
    space: str | None = None
    kind: Literal["auto", "volume", "surface", "cifti"] = "auto"
    sessions: list[str] | None = None
    runs: list[str] | None = None
    entities: dict[str, str] = field(default_factory=dict)
    desc: str = "preproc"
    mask: Path | None = None
    tr_s: float | None = None

    def need_root(self) -> Path:
        """Return the data set's folder; raises E-CFG where none was given."""
        if self.root is None:
            raise InputError("E-CFG", "no data set given", field="data.root", hint="add `--data.root DIR`")
        return Path(self.root)

    def load(self, subjects: Sequence[str] | None, preprocess: Preprocess, text_column: str | None) -> BidsData:
        """Read subjects (`wernicke.data.bids.read_bids`)."""
        from wernicke.data.bids import read_bids
        from wernicke.recipes.bids_haxby import read_haxby

        if self.layout == "haxby":
            return read_haxby(self.root, subjects, self.mask, preprocess)
        return read_bids(
            self.need_root(), subjects, task=self.task, space=self.space, kind=self.kind, sessions=self.sessions,
            runs=self.runs, entities=self.entities, desc=self.desc, mask=self.mask, events_root=self.events_root,
            text_column=text_column, tr_s=self.tr_s, preprocess=preprocess,
        )  # fmt: skip

    def subjects(self) -> list[str]:
        """Return the labels of all subjects in the derivatives; of Haxby's the sample's, or those in the folder."""
        if self.layout == "haxby":
            found = [] if self.root is None else sorted(p.name[4:] for p in Path(self.root).glob("subj*") if p.is_dir())
            return found or ["1"]
        from wernicke.data.bids_layout import open_folders

        return open_folders(self.need_root(), self.events_root)[0].subjects()


@dataclass(frozen=True)
class Text:
    """From events to texts by time.

    Parameters
    ----------
    column : str, optional
        Which column of the events; default: ``text`` or ``word``.
    sentences : dict of value to sentence
        What stands for a value of that column, such as a category of ``trial_type``; empty: the cells are the texts.
    kind : {"words", "captions"}
        Word-timed transcript: a state for each word, with the words before it. Captions: each TR has the texts that
        hold in it.
    context_s : float
        Seconds of words before each word, or of captions up to the TR's end (at least a TR).
    pool : {"last", "mean"}
        Over tokens: the last one is the word, their mean a caption.
    resample : {"lanczos", "mean", "last"}
        From words to TR.
    """

    column: str | None = None
    sentences: dict[str, str] = field(default_factory=dict)
    kind: Literal["words", "captions"] = "words"
    context_s: float = 20.0
    pool: Literal["last", "mean"] = "last"
    resample: Literal["lanczos", "mean", "last"] = "lanczos"

    def __post_init__(self) -> None:
        check_range(self.context_s, "text.context_s", low=0, low_open=True)


def events_of(study_events: Events | None, subject: str, text: Text) -> Events:
    """The subject's events that say something, with `text` as the language model is to read it.

    Raises
    ------
    InputError
        E-META (no text column, no event with text), E-CFG (a value without a sentence).
    """
    from wernicke.core.study import Events

    if study_events is None or "text" not in study_events.table.columns:
        raise InputError("E-META", "the events have no column `text` or `word`", field="text.column",
                         hint="name the column that holds the texts, or the categories: text.column")  # fmt: skip
    table = study_events.table[study_events.table["subject"] == subject]
    table = table[table["text"].notna()].reset_index(drop=True)
    if text.sentences:
        unknown = sorted(set(table["text"]) - set(text.sentences))
        if unknown:
            raise InputError("E-CFG", f"no sentence for `{unknown[0]}`", field="text.sentences",
                             hint=f"found {', '.join(sorted(set(table['text']))[:12])}")  # fmt: skip
        table = table.assign(label=table["text"], text=table["text"].map(text.sentences))
    if not len(table):
        raise InputError("E-META", f"no event of subject {subject} has a text", field="text.column")
    return Events(table)


@dataclass(frozen=True)
class Bands:
    """Delayed bands of one subject, on the kept rows.

    Parameters
    ----------
    values : dict of name to array, shape (n_kept, n_columns)
        ``language`` first.
    stimuli : array of str or None, shape (n_kept,)
        The text that holds in each row, None where none does: for the overlap of training and test.
    facts : dict
        Provenance of each band and its width.
    delays_tr : tuple of int
    """

    values: dict[str, np.ndarray]
    stimuli: np.ndarray
    facts: dict[str, Any]
    delays_tr: tuple[int, ...]


def make_bands(config: Config, recording: Recording, events: Events) -> Bands:
    """Language and nuisance bands at every TR, delayed within runs; then the rows that are kept."""
    import numpy as np

    from wernicke.encoding.arrays import delayed_bands
    from wernicke.features.windows import event_windows

    tr_s = recording.tr_s or 0.0  # a series from BIDS has one
    runs = recording.runs
    n_tr = {run: int((runs == run).sum()) for run in dict.fromkeys(runs)}
    delays_tr = find_delays(config.delays_s, tr_s)
    held = event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=tr_s, kind="captions")
    rows = np.ones(len(runs), bool) if recording.keep is None else recording.keep
    values, facts = {}, {}
    for name in ("language", *config.nuisance):
        features = _MAKERS[name](config, recording, events, n_tr)
        (band,) = features.bands.values()
        delayed = delayed_bands(np.asarray(band), runs, (0,) if name in UNDELAYED else delays_tr)["features"]
        values[name] = delayed[rows]
        facts[name] = {**features.provenance, "n_features": int(band.shape[1]), "n_columns": int(delayed.shape[1])}
    said = np.array([next((text for text in texts if text is not None), None) for texts in held.texts], dtype=object)
    return Bands(values, said[rows], facts, delays_tr)


def find_delays(delays_s: Sequence[float] | None, tr_s: float) -> tuple[int, ...]:
    """Delays in whole TR: those given, or the nearest to `USUAL_DELAYS_S`."""
    from wernicke.core.units import seconds_to_tr

    if delays_s is not None:
        return seconds_to_tr(delays_s, tr_s, "delays_s")
    return tuple(dict.fromkeys(max(1, round(delay / tr_s)) for delay in USUAL_DELAYS_S))


def _windows(config: Config, events: Events, n_tr: dict[Any, int], tr_s: float) -> TextWindows:
    from wernicke.features.windows import event_windows, word_windows

    if config.text.kind == "captions":
        return event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=max(tr_s, config.text.context_s),
                             kind="captions")  # fmt: skip
    # Word vectors know no context: the window is the word itself.
    return word_windows(events, window_s=1e-6 if config.word_vectors else config.text.context_s)


def _at_tr(config: Config, features: Features, n_tr: dict[Any, int], tr_s: float) -> Features:
    from wernicke.features.resample import resample_to_tr

    if config.text.kind == "captions":
        return features
    return resample_to_tr(features, n_tr=n_tr, tr_s=tr_s, how=config.text.resample)


def _language(
    config: Config, recording: Recording, events: Events, n_tr: dict[Any, int], twin: bool = False
) -> Features:
    from wernicke.features.language import language_features
    from wernicke.features.words import read_word_vectors, word_features, words_of
    from wernicke.pretrained.twin import untrained_twin

    tr_s = recording.tr_s or 0.0
    windows = _windows(config, events, n_tr, tr_s)
    if config.word_vectors is not None:
        vectors = read_word_vectors(config.word_vectors, words=words_of(windows))
        return _at_tr(config, word_features(windows, vectors), n_tr, tr_s)
    llm: Any = untrained_twin(config.llm, config.seed, device=config.device) if twin else config.llm
    features = language_features(windows, llm, layers=config.layer, pool=config.text.pool, device=config.device)
    return _at_tr(config, features, n_tr, tr_s)


def _twin(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    return _language(config, recording, events, n_tr, twin=True)


def _word_rate(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.features.nuisance import word_rate

    return word_rate(events, n_tr=n_tr, tr_s=recording.tr_s or 0.0)


def _on_off(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    """1 in TR in which some event with text holds, else 0."""
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.features.windows import event_windows

    tr_s = recording.tr_s or 0.0
    held = event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=tr_s, kind="captions")
    said = np.array([[any(text is not None for text in texts)] for texts in held.texts], dtype=np.float32)
    return Features({"on_off": said}, held.index, {"kind": "some event with text holds"})


def _position(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.features.nuisance import position_in_run

    return position_in_run(n_tr=n_tr, tr_s=recording.tr_s or 0.0)


def _head_motion(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.data.confounds import MOTION
    from wernicke.features.nuisance import head_motion

    if MOTION[0] not in recording.samples.columns:
        raise InputError("E-REF", f"no confounds file beside the series of subject {recording.subject}",
                         field="nuisance", hint="leave head_motion out")  # fmt: skip
    parameters = {run: recording.samples.loc[recording.runs == run, list(MOTION)] for run in n_tr}
    return head_motion(parameters, n_tr=n_tr, tr_s=recording.tr_s or 0.0)


_MAKERS: dict[str, Callable[..., Features]] = {
    "language": _language, "untrained_twin": _twin, "word_rate": _word_rate, "on_off": _on_off,
    "position": _position, "head_motion": _head_motion,
}  # fmt: skip
