"""What is to be made of drama2brain's runs: one `Job` a folder of the feature tree, and the stimuli that jobs read.

Parts come some seconds at a time, so that memory stays small however wide a flattened layer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.data.drama2brain_folders import Folders, find_folders
from wernicke.data.drama2brain_media import Media, find_media, media_file
from wernicke.data.drama2brain_stimuli import annotation_file, read_annotation
from wernicke.data.drama2brain_tables import Run
from wernicke.features.windows import TextWindows, annotation_windows
from wernicke.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from wernicke.recipes.features_drama2brain import Config

Parts = Iterator[Mapping[str, np.ndarray]]
CHUNK_S = 16
#: Modules whose code every job depends on.
RECIPE = ("wernicke.recipes.features_jobs", "wernicke.recipes.features_texts", "wernicke.recipes.features_films",
          "wernicke.features.windows")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One model's features of one kind: a folder of the tree."""

    modality: str
    hparams: str
    model: str
    layers: list[str]
    """``layer1``, ..., or ``layerNone``"""
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    code: str
    content: Callable[[Run], str]
    """Fingerprint of what a run's features are made from"""
    parts: Callable[[Run, Sequence[str]], Parts]
    """From a run and some layers to their rows, in order"""


@dataclass(frozen=True)
class Stimuli:
    """Annotations, pictures and sound, read run by run."""

    config: Config
    captions: Path | None
    media: Media

    @classmethod
    def find(cls, config: Config) -> Stimuli:
        """Look for everything below ``data.root``."""
        data = config.data
        # Only captions are looked for: that there are two feature trees, or none, is of no concern here.
        settled = dict.fromkeys((f.name for f in fields(Folders) if f.name != "caption"), ".")
        named = {"caption": data.captions} if data.captions is not None else {}
        folders = find_folders(data.folder, {**settled, **named})
        return cls(config, folders.caption, find_media(data.folder, frames=data.frames, sound=data.sound,
                                                       films=data.films))  # fmt: skip

    def check(self, modality: str) -> None:
        """Refuse (E-REF) what is missing for a modality, all runs, before anything is computed."""
        if modality in ("semantic", "vision-semantic"):
            if not self.config.levels:
                raise InputError("E-CFG", "no level named", field="levels")
            for level in self.config.levels:
                for run in self.config.runs:
                    self.rows(level, run)
        if modality in ("vision", "vision-semantic"):
            self._check_media("frames")
        if modality == "audio":
            self._check_media("sound")

    def _check_media(self, kind: str) -> None:
        for run in self.config.runs:
            if kind == "sound":
                self.sound_file(run)
            elif self.media.frames is None:
                self.film(run, kind)
            elif not (self.media.frames / run.run).is_dir():
                raise InputError("E-REF", f"no frames of run {run.run}", path=self.media.frames, field="data.frames")

    def rows(self, level: str, run: Run) -> list[list[str]]:
        """Return one list a second with a caption an annotator."""
        if self.captions is None:
            raise InputError("E-REF", "found no annotations", path=self.config.data.folder, field="data.captions",
                             hint="expected files such as Crown_run1_story_each1sec_en.txt")  # fmt: skip
        return read_annotation(annotation_file(self.captions, run.title, run.number, level), run.kept_s)

    def windows(self, level: str, run: Run, window_s: int) -> TextWindows:
        """Return the texts of a run, of the chosen annotators."""
        from wernicke.recipes.features_drama2brain import HALVES

        found = annotation_windows(self.rows(level, run), run=run.run, window_s=window_s, mode=self.config.mode)
        half = self.config.annotators
        return found if half == "ALL" else found.choose(HALVES[level][half])

    def film(self, run: Run, kind: str = "frames") -> Path:
        """Return a run's video file; `kind` is what is looked for in it."""
        if self.media.films is None:
            example = "Crown_001/" if kind == "frames" else "Crown_001.wav"
            raise InputError("E-REF", f"no {kind} and no films", path=self.config.data.folder, field=f"data.{kind}",
                             hint=f"expected {example} or Crown_001.mp4")  # fmt: skip
        return media_file(self.media.films, run.run, "films")

    def sound_file(self, run: Run) -> Path:
        """Return the file with a run's sound."""
        if self.media.sound is None:
            return self.film(run, "sound")
        return media_file(self.media.sound, run.run, "sound")

    def stills(self, run: Run) -> Iterator[list[Any]]:
        """Yield the first and the middle frame of each second: files, or pictures out of a film."""
        if self.media.frames is not None:
            from wernicke.features.picture_files import film_frames

            files, _ = film_frames(self.media.frames / run.run, run=run.run, fps=self.config.data.fps)
            yield from (list(pair) for pair in zip(files[::2], files[1::2], strict=True))
            return
        from wernicke.features.media import film_stills

        yield from (pictures for _, pictures in film_stills(self.film(run)))

    def film_print(self, run: Run) -> str:
        """Return a fingerprint of the pictures that `stills` yields of a run."""
        if self.media.frames is None:
            return fingerprint(self.film(run))
        return fingerprint([fingerprint(path) for pair in islice(self.stills(run), run.kept_s) for path in pair])

    def frames_print(self, run: Run) -> str:
        """Return a fingerprint of all of a run's pictures."""
        return fingerprint(self.film(run) if self.media.frames is None else self.media.frames / run.run)


def layers_of(config: Config, n_states: int, name: str) -> list[str]:
    """Return the folders of the chosen layers, which count from 1."""
    wanted = config.layers or list(range(1, n_states + 1))
    if max(wanted) > n_states:
        raise InputError("E-CFG", f"{name} has no layer {max(wanted)}, expected 1 (embeddings) to {n_states}",
                         field="layers")  # fmt: skip
    return [f"layer{k}" for k in wanted]


def indices(layers: Sequence[str]) -> list[int]:
    return [int(layer.removeprefix("layer")) - 1 for layer in layers]


def renamed(states: Mapping[str, np.ndarray], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Give the states, which count from 0, the names of the tree, which count from 1."""
    return {layer: states[f"layer{k}"] for layer, k in zip(layers, indices(layers), strict=True)}


def chunks(items: Iterator[Any], size: int = CHUNK_S) -> Iterator[list[Any]]:
    while chunk := list(islice(items, size)):
        yield chunk
