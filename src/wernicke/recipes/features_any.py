"""Features of anybody's stimuli: timed texts, pictures, sound, films, films with texts -> bands with an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError

if TYPE_CHECKING:
    from wernicke.core.features import Features

CODE = ("wernicke.features", "wernicke.pretrained", "wernicke.data.transcripts", "wernicke.recipes.features_any",
        "wernicke.recipes.features_kinds")  # fmt: skip
_NEEDS = {"captions": ("events",), "transcript": ("events",), "words": ("events",), "pictures": ("pictures", "films"),
          "sound": ("sounds", "films"), "pairs": ("films",)}  # fmt: skip
_STEPPED = ("captions", "transcript", "sound")  # kinds with a row each step
_STILL_S = 0.5  # films: the first and the middle picture of each second


@dataclass(frozen=True)
class Stimuli:
    """Where the stimuli are.

    Parameters
    ----------
    events : path, optional
        Timed texts: a .tsv, .csv or .TextGrid file, or a folder with one a run.
    text : str, optional
        The column, or tier, that holds the text.
    pictures : path, optional
        A folder of pictures; their names are the stimuli's ids.
    sounds : path, optional
        A folder of sound or video files, one a run.
    films : path, optional
        A folder of video files, one a run.
    """

    events: Path | None = None
    text: str | None = None
    pictures: Path | None = None
    sounds: Path | None = None
    films: Path | None = None


@dataclass(frozen=True)
class Config:
    """Features of your own stimuli.

    Parameters
    ----------
    kind : {"captions", "transcript", "words", "pictures", "sound", "pairs"}
        captions: the texts that hold in each window, joined by commas. transcript: the words that begin in each window,
        joined by blanks. words: a row a word, in its left context. pictures: of a folder, or the first and middle
        picture of each second of films. pairs: those pictures with the texts that hold.
    data : Stimuli
    model : str
        A hub id, a folder, `smollm2`, `untrained:MODEL`, `efficientnet-lite0`, or a file of word vectors.
    layers : list of int
        As transformers counts them, 0 being the embedding output; none named: all.
    window_s : float, optional
        Seconds that a row looks back on, its own included; default step_s. words: seconds of left context; default 1.
    step_s : float, optional
        Captions, transcript and sound: seconds from row to row, at most tr_s; default tr_s, or 1 s. pairs: seconds that
        share their captions; default 1.
    pool : {"mean", "last", "first", "flat"}
        Over tokens, places or times; not every kind has every one.
    special_tokens : bool
        Whether tokens such as [CLS] count.
    squeeze : bool
        Squeeze the whole picture into the model's square, or let its preprocessing crop the sides.
    tr_s : float, optional
        Resample to this repetition time.
    n_tr : dict of run to int
        Volumes of each run; without them as many as the stimulus lasts.
    resample : {"mean", "last", "lanczos"}
    form : {"npy", "zarr"}
    save_as : {"float32", "float16"}
    long_texts : {"cut", "refuse"}
        What to do with a text beyond the model's context; cut: its beginning, which was said longest ago.
    batch_size : int
    seed : int
        Of an untrained twin.
    device : str
        auto, cpu, cuda or cuda:N.
    dtype : str, optional
        float32, bfloat16 or float16 to compute in; default float32 on the CPU, bfloat16 on a GPU.
    """

    kind: Literal["captions", "transcript", "words", "pictures", "sound", "pairs"] = "captions"
    data: Stimuli = field(default_factory=Stimuli)
    model: str = "smollm2"
    layers: list[int] = field(default_factory=list)
    window_s: float | None = None
    step_s: float | None = None
    pool: Literal["mean", "last", "first", "flat"] = "mean"
    special_tokens: bool = False
    squeeze: bool = True
    tr_s: float | None = None
    n_tr: dict[str, int] = field(default_factory=dict)
    resample: Literal["mean", "last", "lanczos"] = "mean"
    form: Literal["npy", "zarr"] = "npy"
    save_as: Literal["float32", "float16"] = "float32"
    long_texts: Literal["cut", "refuse"] = "cut"
    batch_size: int = 16
    seed: int = 0
    device: str = "auto"
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("window_s", "step_s", "tr_s"):
            if getattr(self, name) is not None:
                check_range(getattr(self, name), name, low=0, low_open=True)
        check_range(self.batch_size, "batch_size", low=1)
        if self.n_tr and self.tr_s is None:
            raise InputError("E-CFG", "n_tr counts volumes of tr_s seconds, and tr_s is not given", field="tr_s")
        if self.tr_s is not None and self.data.pictures is not None:
            raise InputError("E-CFG", "pictures without times cannot be resampled", field="tr_s")
        self._check_times()

    def _check_times(self) -> None:
        """Refuse times that leave a TR without a row, or leave out what is said between two windows."""
        if self.kind in ("pictures", "pairs") and self.tr_s is not None and self.tr_s < _STILL_S:
            raise InputError("E-CFG", f"found {self.tr_s:g} s, films give a picture each {_STILL_S:g} s", field="tr_s",
                             hint=f"use {_STILL_S:g} s or more; volumes between would have no features")  # fmt: skip
        if self.kind not in _STEPPED:
            return
        if self.tr_s is not None and self.step > self.tr_s * (1 + 1e-9):
            raise InputError("E-CFG", f"found {self.step:g} s, above the TR of {self.tr_s:g} s", field="step_s",
                             hint="leave it out; volumes without a row would have no features")  # fmt: skip
        if self.window < self.step * (1 - 1e-9):
            raise InputError("E-CFG", f"found {self.window:g} s, below the step of {self.step:g} s", field="window_s",
                             hint="leave it out, or set step_s; what lies between is in no window")  # fmt: skip

    @property
    def step(self) -> float:
        """Seconds from row to row."""
        return self.step_s or (self.tr_s if self.kind in _STEPPED else None) or 1.0

    @property
    def window(self) -> float:
        """Seconds that a row looks back on."""
        return self.window_s or (1.0 if self.kind == "words" else self.step)

    def check_stimuli(self) -> None:
        """Refuse a kind of features whose stimuli are not named."""
        needs = _NEEDS[self.kind]
        if not any(getattr(self.data, name) is not None for name in needs):
            raise InputError("E-CFG", f"kind {self.kind} needs {' or '.join(f'data.{name}' for name in needs)}",
                             field=f"data.{needs[0]}")  # fmt: skip
        if self.kind == "pairs" and self.data.events is None:
            raise InputError("E-CFG", "kind pairs needs the texts too", field="data.events")

    @property
    def wanted(self) -> Any:
        """The layers as the feature functions take them."""
        return self.layers or "all"


def features(config: Config, out: Path, command: Sequence[str] = ()) -> None:
    """Write the features that the config asks for into `out`.

    A killed call goes on where it stood (the user's cache holds what was computed); a finished folder is kept.

    Raises
    ------
    InputError
        What the readers, the models and `write_features` raise; E-CFG if the folder holds something else.
    RunInUseError
        When another process writes this folder.
    """
    config.check_stimuli()
    from wernicke.features.resample import resample_to_tr
    from wernicke.features.saved import write_features
    from wernicke.recipes.features_kinds import MAKERS
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    paths = {name: path for name, path in asdict(config.data).items() if isinstance(path, Path)}
    inputs = {name: fingerprint(path) for name, path in paths.items()}
    with RunFolder.create(out, step="features", command=command, config=asdict(config), seed=config.seed) as run:
        if run.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            return
        found = MAKERS[config.kind](config)
        if config.tr_s is not None:
            found = resample_to_tr(found, n_tr=_n_tr(config, found), tr_s=config.tr_s, how=config.resample)
        write_features(run.folder, found, form=config.form, dtype=config.save_as)
        run.finish()


def _n_tr(config: Config, found: Features) -> dict[str, int]:
    """Volumes of each run: as given, else up to the one in which the last row begins; no step is longer than a TR."""
    import math

    last = found.index.groupby("run", sort=False)["onset_s"].max()
    tr_s = float(config.tr_s or 0)
    return config.n_tr or {str(run): math.floor(onset / tr_s + 1e-9) + 1 for run, onset in last.items()}
