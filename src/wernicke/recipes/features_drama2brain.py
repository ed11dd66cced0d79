"""Features of drama2brain's films: levels x models x layers, in the authors' feature tree.

Here are the keys, what is to be done, and the loop over runs, which goes on file by file where it was stopped; what
each kind of model makes is in `wernicke.recipes.features_texts` and `wernicke.recipes.features_films`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wernicke.core.checks import check_option, check_range, suggest
from wernicke.core.errors import InputError

if TYPE_CHECKING:
    from wernicke.data.drama2brain_tables import Run
    from wernicke.recipes.features_jobs import Job, Stimuli

log = logging.getLogger(__name__)

#: Annotators of the halves, by level.
HALVES = {
    "objectiveAnnot50chara": {"splitA": [0, 1, 2], "splitB": [3, 4]},
    "story": {"splitA": [0], "splitB": [1]},
}
_MODALITIES = {"semantic": "semantic", "vision": "vision", "audio": "audio", "vision_semantic": "vision-semantic"}


@dataclass(frozen=True)
class Films:
    """Where annotations, pictures and sound are.

    Parameters
    ----------
    root : path, optional
        Folder that holds them, which has no default; what is not named below is looked for there.
    captions : path, optional
        Folder of ``<Title>_run<k>_<annotation>_each1sec_en.txt``, relative to root or absolute, as the next three.
    frames : path, optional
        Folder of ``<Title>_<NNN>/`` with one picture a frame.
    fps : float
        Frames a second in those folders.
    sound : path, optional
        Folder of ``<Title>_<NNN>.wav``.
    films : path, optional
        Folder of ``<Title>_<NNN>.mp4``: pictures and sound, where there are no frames or no sound files.
    """

    root: Path | None = None
    captions: Path | None = None
    frames: Path | None = None
    fps: float = 30.0
    sound: Path | None = None
    films: Path | None = None

    @property
    def folder(self) -> Path:
        """The root."""
        if self.root is None:
            raise InputError("E-CFG", "no folder given", field="data.root", hint="add `--data.root DIR`; for a "
                             "simulated one: `wernicke data simulate drama2brain --out DIR`")  # fmt: skip
        return self.root


@dataclass(frozen=True)
class Config:
    """Features of drama2brain's films.

    Parameters
    ----------
    models : list of str
        Names of the models to run, of those in the four tables below.
    data : Films
    semantic : dict of name to model
        Text models: a hub id, a folder, `smollm2`, `untrained:MODEL` for the same with random weights, or a file of
        word vectors (.bin, .txt, .vec, also .gz).
    vision : dict of name to model
        Picture models: a hub id, a folder, `efficientnet-lite0`; or `luminance`, `motion_energy`.
    audio : dict of name to model
        Sound models: a hub id or a folder; or `sound_level`.
    vision_semantic : dict of name to model
        Models that see a frame and read its captions: a hub id or a folder.
    levels : list of str
        Annotations, by the files' names or the paper's (Speech, Object, Story, Summary, TimePlace).
    titles : list of str
        Which titles; none named: all ten.
    layers : list of int
        Counted from 1, which is the embedding output; none named: all.
    windows_s : list of int
        Seconds of captions that are joined for each second (1 is cw1), one set of features each.
    tokens : {"avgToken", "flatToken"}
        Tokens of a text averaged, or side by side with zeros behind its end.
    n_tokens : int, optional
        Width of flatToken; by default the longest text's.
    annotators : {"ALL", "splitA", "splitB"}
        All annotators averaged, or one half of them (Object and Story only).
    places : {"flatToken", "avgToken"}
        Places of pictures and times of sound side by side, as drama2brain, or averaged.
    audio_window_s : int
        Seconds of sound that the model hears for each second.
    squeeze : bool
        Squeeze the whole frame into the model's square, or let its preprocessing crop the sides.
    mode : {"corrected", "faithful"}
        faithful: special tokens count, a window's captions are sorted as text, `..` is a caption of a frame.
    special_tokens : bool
        Whether tokens such as [CLS] count; always in faithful mode.
    long_texts : {"cut", "refuse"}
        What to do with a text beyond the model's context; cut: its end, as the authors; how many is recorded.
    save_as : {"float16", "float32"}
    batch_size : int
        Texts, windows or pictures a forward pass.
    seed : int
        Of untrained twins.
    device : str
        auto, cpu, cuda or cuda:N.
    dtype : str, optional
        float32, bfloat16 or float16 to compute in; default float32 on the CPU, bfloat16 on a GPU.
    """

    models: list[str]
    data: Films = field(default_factory=Films)
    semantic: dict[str, str] = field(default_factory=dict)
    vision: dict[str, str] = field(default_factory=dict)
    audio: dict[str, str] = field(default_factory=dict)
    vision_semantic: dict[str, str] = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    windows_s: list[int] = field(default_factory=lambda: [1])
    tokens: Literal["avgToken", "flatToken"] = "avgToken"
    n_tokens: int | None = None
    annotators: Literal["ALL", "splitA", "splitB"] = "ALL"
    places: Literal["flatToken", "avgToken"] = "flatToken"
    audio_window_s: int = 1
    squeeze: bool = True
    mode: Literal["corrected", "faithful"] = "corrected"
    special_tokens: bool = False
    long_texts: Literal["cut", "refuse"] = "cut"
    save_as: Literal["float16", "float32"] = "float16"
    batch_size: int = 16
    seed: int = 0
    device: str = "auto"
    dtype: str | None = None

    def __post_init__(self) -> None:
        from wernicke.data.drama2brain_tables import LEVELS, TITLES

        known = {**self.semantic, **self.vision, **self.audio, **self.vision_semantic}
        if not self.models:
            raise InputError("E-CFG", "no model named", field="models", hint=suggest("", known))
        for name in self.models:
            check_option(name, known, "models")
        papers = {paper: name for name, (paper, _) in LEVELS.items()}
        object.__setattr__(self, "levels", [papers.get(level, level) for level in self.levels])
        for level in self.levels:
            check_option(level, LEVELS, "levels")
            if self.annotators != "ALL" and level not in HALVES:
                raise InputError("E-CFG", f"{level} is not halved, only {' and '.join(HALVES)}", field="annotators",
                                 hint="choose others with levels")  # fmt: skip
        for title in self.titles:
            check_option(title, TITLES, "titles")
        for values, name in ((self.layers, "layers"), (self.windows_s, "windows_s")):
            for value in values:
                check_range(value, name, low=1)
            if len(set(values)) < len(values):
                raise InputError("E-CFG", f"found a value twice in {values}", field=name)
        check_range(self.audio_window_s, "audio_window_s", low=1)
        check_range(self.batch_size, "batch_size", low=1)
        check_range(self.data.fps, "data.fps", low=1)
        if not self.windows_s:
            raise InputError("E-CFG", "no value given", field="windows_s")

    @property
    def special(self) -> bool:
        """Whether special tokens count."""
        return self.special_tokens or self.mode == "faithful"

    @property
    def runs(self) -> list[Run]:
        """The runs of the chosen titles, in the authors' order."""
        from wernicke.data.drama2brain_tables import RUNS

        return [run for run in RUNS if not self.titles or run.title in self.titles]

    def chosen(self) -> list[tuple[str, str, str]]:
        """Return (modality in the tree, name, source) of the models to run, in the given order."""
        return [
            (_MODALITIES[table], name, getattr(self, table)[name])
            for name in dict.fromkeys(self.models)
            for table in _MODALITIES
            if name in getattr(self, table)
        ]


def features(config: Config, out: Path, command: Sequence[str] = ()) -> None:
    """Write all features that the config asks for below ``out/stim_features``.

    Files that stand there whole, made from the same content by the same code, are kept.

    Raises
    ------
    InputError
        E-REF (annotations, frames, sound or a model that are not there), E-SHAPE (an annotation or film of another
        length than the run), E-CFG (an unknown layer; the folder holds features of other settings), E-NONFIN, and what
        the readers raise.
    RunInUseError
        When another process writes one of the models' features.
    """
    from wernicke.recipes.features_jobs import Stimuli

    stimuli = Stimuli.find(config)
    for modality, name, source in config.chosen():
        stimuli.check(modality)
        check_model(modality, name, source)
    for modality, name, source in config.chosen():
        for job in make_jobs(config, stimuli, modality, name, source):
            _run(job, config, out / "stim_features", command)


def check_model(modality: str, name: str, source: str) -> None:
    """Refuse (E-REF, E-CFG, E-UNSAFE) a model that is not there before another one has run for hours."""
    from wernicke.core.checks import check_file
    from wernicke.pretrained.frozen import locate_model
    from wernicke.pretrained.locate import locate_llm
    from wernicke.pretrained.twin import UNTRAINED
    from wernicke.pretrained.vision import BUILT_IN
    from wernicke.recipes.features_films import MEASURES
    from wernicke.recipes.features_texts import is_vectors

    try:
        if modality == "semantic" and is_vectors(source):
            check_file(source)
        elif modality == "semantic":
            locate_llm(source.removeprefix(UNTRAINED))
        elif source not in (BUILT_IN, *MEASURES):
            locate_model(source)
    except InputError as error:
        field = f"{modality.replace('-', '_')}.{name}"
        raise InputError(error.code, error.problem, path=error.path, field=field,
                         hint=f"give another place, `--{field} FOLDER`, or choose others by --models; SmolLM2 needs "
                         "no hub") from None  # fmt: skip


def make_jobs(config: Config, stimuli: Stimuli, modality: str, name: str, source: str) -> Iterator[Job]:
    """Yield the folders of the tree that one model fills."""
    from wernicke.recipes import features_films as films
    from wernicke.recipes import features_texts as texts

    if modality == "semantic" and texts.is_vectors(source):
        yield from texts.word_jobs(config, stimuli, name, source)
    elif modality == "semantic":
        yield from texts.text_jobs(config, stimuli, name, source)
    elif source in films.MEASURES:
        yield films.measure_job(config, stimuli, modality, name, source)
    elif modality == "audio":
        yield films.sound_job(config, stimuli, name, source)
    elif modality == "vision":
        yield films.picture_job(config, stimuli, name, source)
    else:
        yield from films.pair_jobs(config, stimuli, name, source)


def _run(job: Job, config: Config, root: Path, command: Sequence[str]) -> None:
    from tqdm import tqdm

    from wernicke.data.drama2brain_tables import SIMULATED_NOTE
    from wernicke.features.tree import ModelFolder
    from wernicke.store.secret import redact_command

    simulated = (config.data.folder / "simulated.json").exists()
    facts = {**job.facts, "simulated": simulated, **({"note": SIMULATED_NOTE} if simulated else {}),
             "command": redact_command(command)}  # fmt: skip
    where = f"{job.modality}/{job.hparams}/{job.model}"
    n_made = 0
    with ModelFolder(root, job.modality, job.hparams, job.model, settings=job.settings, facts=facts, code=job.code,
                     dtype=config.save_as) as folder:  # fmt: skip
        for run in tqdm(config.runs, desc=where, unit="run", disable=None):
            content = job.content(run)
            missing = folder.missing(run.run, job.layers, content)
            if missing:
                folder.write(run.run, missing, run.kept_s, job.parts(run, missing), content)
                n_made += len(missing)
    log.info("%s: %d files made, %d were there", where, n_made, len(config.runs) * len(job.layers) - n_made)
