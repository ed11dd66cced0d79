"""Where drama2brain's files lie under a folder: found by what is in them, or named by the user."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wernicke.core.checks import check_folder, suggest
from wernicke.core.errors import InputError
from wernicke.data.drama2brain_tables import SUBJECTS

_DEPTH = 5


@dataclass(frozen=True)
class Folders:
    """The authors' folders; None where there is none. Names are those of their ``data_const``, in lower case."""

    fmri_raw: Path | None = None
    """``<subject>/<session>/<file>.mat``"""
    fmri_pre: Path | None = None
    """``<subject>/<title>_<number from 0>_CerebCortex.npy``"""
    fmri_bbregister: Path | None = None
    """``<subject>/vset_099.mat``"""
    fmri_exp2019: Path | None = None
    """``subject.json``"""
    stim: Path | None = None
    """``<modality>/<hparams>/<model>/layer<k>/<title>_<number from 001>.npy``"""
    caption: Path | None = None
    """``<title>_run<number from 1>_<annotation>_each1sec_en.txt``"""

    def need(self, name: str, root: str | os.PathLike[str]) -> Path:
        """Return a folder, or say what would have shown that it is there."""
        folder = getattr(self, name)
        if folder is None:
            raise InputError("E-REF", f"found no folder `{name}`", path=Path(root), field="folders",
                             hint=f"expected files such as {_LOOKS[name]}, or folders={{'{name}': PATH}}")  # fmt: skip
        return folder


_LOOKS = {
    "fmri_raw": "DM01/SESSION/FILE.mat",
    "fmri_pre": "DM01/Crown_0_CerebCortex.npy",
    "fmri_bbregister": "DM01/vset_099.mat",
    "fmri_exp2019": "subject.json",
    "stim": "stim_features/semantic/story_cw1_avgToken_ALL/Llama2/layer17/Crown_001.npy",
    "caption": "Crown_run1_story_each1sec_en.txt",
}


def find_folders(root: str | os.PathLike[str], folders: Mapping[str, str | os.PathLike[str]] | None = None) -> Folders:
    """Look for the authors' folders at most five levels below `root`.

    Parameters
    ----------
    root : path-like
    folders : mapping, optional
        Name of a field of `Folders` to its path (relative to `root`, or absolute): these are not looked for.

    Raises
    ------
    InputError
        E-REF (no such folder), E-CFG (unknown name), E-META (two places for one kind).
    """
    root = check_folder(root, "root")
    given: dict[str, Path] = {}
    for name, path in (folders or {}).items():
        if name not in _LOOKS:
            raise InputError("E-CFG", f"unknown key `{name}`", field="folders", hint=suggest(name, _LOOKS))
        given[name] = check_folder(root / path, f"folders.{name}")
    found: dict[str, set[Path]] = {name: set() for name in _LOOKS}
    for folder, subfolders, files in _walk(root):
        for name in _kinds(folder, files):
            up = {"fmri_pre": 1, "fmri_bbregister": 1, "fmri_raw": 2}.get(name, 0)
            found[name].add(folder.parents[up - 1] if up else folder)
        if folder.name == "stim_features":
            found["stim"].add(folder)
            subfolders.clear()
    for name, places in found.items():
        if name in given:
            continue
        if len(places) > 1:
            raise InputError("E-META", f"found two: {', '.join(str(p.relative_to(root)) for p in sorted(places)[:2])}",
                             path=root, field=name, hint=f"say which: folders={{'{name}': PATH}}")  # fmt: skip
        if places:
            given[name] = places.pop()
    return Folders(**given)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    base = len(root.parts)
    for name, subfolders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and len(folder.parts) - base < _DEPTH)
        yield folder, subfolders, files


def _kinds(folder: Path, files: list[str]) -> list[str]:
    """Say what kinds of the authors' folders these files belong to."""
    kinds = []
    if folder.name in SUBJECTS:
        kinds += ["fmri_pre"] if any(file.endswith("_CerebCortex.npy") for file in files) else []
        kinds += ["fmri_bbregister"] if "vset_099.mat" in files else []
    if folder.parent.name in SUBJECTS and any(file.endswith(".mat") for file in files):
        kinds.append("fmri_raw")
    kinds += ["fmri_exp2019"] if "subject.json" in files else []
    if any(re.fullmatch(r".+_run\d+_.+_each1sec_en\.txt", file) for file in files):
        kinds.append("caption")
    return kinds
