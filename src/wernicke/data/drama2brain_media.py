"""Where drama2brain's frames, sound and films lie under a folder: one folder or file a run, named ``<Title>_<NNN>``."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from wernicke.core.checks import check_folder
from wernicke.core.errors import InputError
from wernicke.data.drama2brain_tables import RUNS

_DEPTH = 3
_NAMES = {run.run for run in RUNS}
_SOUND = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
_FILM = (".mp4", ".mkv", ".mov", ".avi", ".m4v", ".webm", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Media:
    """Folders of the films' pictures and sound; None where there is none."""

    frames: Path | None = None
    """``<Title>_<NNN>/`` with one picture a frame: the authors' ``FRAME_DIR/frames``"""
    sound: Path | None = None
    """``<Title>_<NNN>.wav``: the authors' ``AUDIO_DIR/audio``"""
    films: Path | None = None
    """``<Title>_<NNN>.mp4``, frames and sound in one"""


def find_media(
    root: str | os.PathLike[str],
    *,
    frames: str | os.PathLike[str] | None = None,
    sound: str | os.PathLike[str] | None = None,
    films: str | os.PathLike[str] | None = None,
) -> Media:
    """Look for frames, sound and films at most three levels below `root`.

    Parameters
    ----------
    root : path-like
    frames, sound, films : path-like, optional
        Relative to `root`, or absolute: these are not looked for.

    Raises
    ------
    InputError
        E-REF (no such folder), E-META (two places for one kind).
    """
    root = check_folder(root, "root")
    found: dict[str, set[Path]] = {field.name: set() for field in fields(Media)}
    for name, subfolders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        if _NAMES & set(subfolders):
            found["frames"].add(folder)
        stems = {(Path(file).stem, Path(file).suffix.lower()) for file in files}
        for kind, endings in (("sound", _SOUND), ("films", _FILM)):
            if any(stem in _NAMES and ending in endings for stem, ending in stems):
                found[kind].add(folder)
        deep = len(folder.parts) - len(root.parts) >= _DEPTH
        # The authors' feature tree has files of the same names, and many of them.
        subfolders[:] = [] if deep else sorted(s for s in subfolders if s != "stim_features" and s not in _NAMES)
    given = {"frames": frames, "sound": sound, "films": films}
    places: dict[str, Path] = {}
    for kind, path in given.items():
        if path is not None:
            places[kind] = check_folder(root / path, f"data.{kind}")
        elif len(found[kind]) > 1:
            names = ", ".join(str(p.relative_to(root)) for p in sorted(found[kind])[:2])
            raise InputError("E-META", f"found two: {names}", path=root, field=kind, hint=f"say which: --data.{kind}")
        elif found[kind]:
            places[kind] = found[kind].pop()
    return Media(**places)


def media_file(folder: Path, run: str, what: str) -> Path:
    """Return the sound or film of a run (`what`: ``"sound"`` or ``"films"``), E-REF if it is absent."""
    for ending in _SOUND if what == "sound" else _FILM:
        if (folder / f"{run}{ending}").is_file():
            return folder / f"{run}{ending}"
    raise InputError("E-REF", f"no {what} of run {run}, expected {run}{_SOUND[0] if what == 'sound' else _FILM[0]}",
                     path=folder, field=what)  # fmt: skip
