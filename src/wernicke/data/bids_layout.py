"""Which files of a BIDS data set belong together, by their names alone.

``sub-01_ses-2_task-movie_run-1_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz``: entities, a suffix, an extension.
What a file lacks beside it is looked for in the folders above (BIDS's inheritance).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wernicke.core.checks import check_folder, check_identifier
from wernicke.core.errors import InputError
from wernicke.store.files import read_json

#: Entities that say how a run was processed, not which run it is.
PROCESSING = ("space", "cohort", "res", "den", "desc", "hemi")
_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")


@dataclass(frozen=True)
class BidsName:
    """A file and what its name says.

    Parameters
    ----------
    path : Path
    entities : mapping of str to str
        In the order of the name: ``{"sub": "01", "task": "movie", ...}``.
    suffix, extension : str
        ``bold``, ``.nii.gz``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    @property
    def run(self) -> str:
        """The run's name: all entities but the subject and `PROCESSING`, such as ``ses-2_task-movie_run-1``."""
        return "_".join(f"{k}-{v}" for k, v in self.entities.items() if k != "sub" and k not in PROCESSING)


def parse_name(path: Path) -> BidsName | None:
    """Read a file's name; None where it is none of BIDS's.

    Raises
    ------
    InputError
        E-META for an entity that occurs twice.
    """
    stem, dot, extension = path.name.partition(".")
    *pairs, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for match in map(_ENTITY.fullmatch, pairs):
        if match is None or not suffix.isalnum():
            return None
        if match[1] in entities:
            raise InputError("E-META", f"entity `{match[1]}` occurs twice in the name", path=path)
        entities[match[1]] = match[2]
    return BidsName(path, entities, suffix, dot + extension)


def same_value(key: str, a: str, b: str) -> bool:
    """Compare values of an entity; of indices the number counts (fMRIPrep has written ``run-1`` for ``run-01``)."""
    if key in ("run", "echo") and a.isdigit() and b.isdigit():
        return int(a) == int(b)
    return a == b


@dataclass(frozen=True)
class BidsFolder:
    """A BIDS data set, raw or derivative.

    Parameters
    ----------
    root : Path
    inside : tuple of Path
        Resolved folders that links may lead to: the data sets themselves and their annexes.
    """

    root: Path
    inside: tuple[Path, ...]

    def subjects(self) -> list[str]:
        """Return the labels of all ``sub-*`` folders, sorted."""
        return sorted(p.name[4:] for p in self.root.glob("sub-*") if p.is_dir() and p.name[4:].isalnum())

    def files(self, subject: str) -> Iterator[BidsName]:
        """Yield the named files of a subject's ``func`` folders, sorted.

        Raises
        ------
        InputError
            E-META (a file of another subject), E-UNSAFE (a link out of the data set).
        """
        folder = self.root / f"sub-{check_identifier(subject, 'subjects')}"
        for path in sorted([*folder.glob("func/*"), *folder.glob("ses-*/func/*")]):
            name = parse_name(path)
            if name is None or "sub" not in name.entities:
                continue
            if name.entities["sub"] != subject:
                raise InputError("E-META", f"a file of subject {name.entities['sub']} in the folder of {subject}",
                                 path=path)  # fmt: skip
            yield name

    def check(self, path: Path) -> Path:
        """Return the path if it does not lead out of the data set.

        Raises
        ------
        InputError
            E-UNSAFE; E-REF for a link to nowhere.
        """
        real = path.resolve()
        annex = (".git", "annex", "objects")
        annexed = any(real.parts[i : i + 3] == annex and self.root.resolve().is_relative_to(Path(*real.parts[:i]))
                      for i in range(1, len(real.parts) - 3))  # fmt: skip
        if not annexed and not any(real.is_relative_to(folder) for folder in self.inside):
            raise InputError("E-UNSAFE", "the link leads out of the data set", path=path,
                             hint="copy the file to its place, or give the folder that holds both as root")  # fmt: skip
        if not real.exists():
            raise InputError("E-REF", "the link points nowhere: annexed content is absent", path=path,
                             hint="fetch it: `datalad get FILE`")  # fmt: skip
        return path

    def inherited(self, name: BidsName, suffix: str, extension: str) -> list[Path]:
        """Return the files that apply to `name`: from the data set's root down to its own folder, each safe to open.

        A file applies when each of its entities is one of `name`'s with the same value.

        Raises
        ------
        InputError
            E-META when two of one folder apply equally.
        """
        folders = [self.root, self.root / f"sub-{name.entities['sub']}"]
        if "ses" in name.entities:
            folders.append(folders[-1] / f"ses-{name.entities['ses']}")
        folders += [folders[-1] / "func"]
        applied = []
        for folder in folders:
            here = []
            for path in sorted(folder.glob(f"*{suffix}{extension}")):
                other = parse_name(path)
                if other is None or other.suffix != suffix or other.extension != extension:
                    continue
                if all(same_value(k, v, name.entities.get(k, "")) for k, v in other.entities.items()):
                    here.append(other)
            here.sort(key=lambda other: len(other.entities))
            if len(here) > 1 and len(here[-1].entities) == len(here[-2].entities):
                raise InputError("E-META", f"{here[-2].path.name} and {here[-1].path.name} apply equally to it",
                                 path=name.path)  # fmt: skip
            applied += [self.check(other.path) for other in here]
        return applied

    def metadata(self, name: BidsName, key: str) -> tuple[Any, Path] | None:
        """Return the value of a key in the JSON files that apply to `name`, the nearest first, and its file."""
        for path in reversed(self.inherited(name, name.suffix, ".json")):
            content = read_json(path)
            if not isinstance(content, dict):
                raise InputError("E-FMT", "expected a JSON object", path=path)
            if key in content:
                return content[key], path
        return None


def open_folders(
    root: str | os.PathLike[str], events_root: str | os.PathLike[str] | None = None
) -> tuple[BidsFolder, BidsFolder]:
    """Find the derivatives and the raw data set with the events.

    Parameters
    ----------
    root : path-like
        The derivatives' folder (``.../derivatives/fmriprep``), or a data set with one in ``derivatives``.
    events_root : path-like, optional
        Where the raw data set lies; default: the folder above ``derivatives``, or ``sourcedata/raw``, or `root` itself.

    Raises
    ------
    InputError
        E-REF (no such folder), E-CFG (several folders of derivatives).
    """
    top = check_folder(root, "root")
    derived, raw = top, top
    if not _has_series(top):
        found = [p for p in sorted((top / "derivatives").glob("*")) if p.is_dir() and _has_series(p)]
        if len(found) > 1:
            raise InputError("E-CFG", f"found derivatives {', '.join(p.name for p in found)}", path=top, field="root",
                             hint="give one of these folders as root")  # fmt: skip
        derived = found[0] if found else top
    elif top.resolve().parent.name == "derivatives" and not _has_events(top):
        raw = top.resolve().parent.parent
    elif (top / "sourcedata" / "raw").is_dir() and not _has_events(top):
        raw = top / "sourcedata" / "raw"
    if events_root is not None:
        raw = check_folder(events_root, "events_root")
    inside = tuple(dict.fromkeys(folder.resolve() for folder in (top, derived, raw)))
    return BidsFolder(derived, inside), BidsFolder(raw, inside)


def _has_series(folder: Path) -> bool:
    patterns = ("*_desc-*_bold.nii*", "*_bold.func.gii", "*_bold.dtseries.nii")
    return any(True for place in ("func", "ses-*/func") for pattern in patterns
               for _ in folder.glob(f"sub-*/{place}/{pattern}"))  # fmt: skip


def _has_events(folder: Path) -> bool:
    return any(True for pattern in ("*_events.tsv", "sub-*/func/*_events.tsv", "sub-*/ses-*/func/*_events.tsv")
               for _ in folder.glob(pattern))  # fmt: skip


def choose(
    names: Sequence[BidsName], wanted: Mapping[str, str | Sequence[str]], path: Path
) -> list[BidsName]:  # fmt: skip
    """Keep the files whose entities are as wanted: one value or several for an entity.

    Raises
    ------
    InputError
        E-REF, with the values that are there, when an entity's values leave nothing.
    """
    kept = list(names)
    for key, values in wanted.items():
        allowed = [values] if isinstance(values, str) else list(values)
        left = [n for n in kept if any(same_value(key, n.entities.get(key, ""), str(v)) for v in allowed)]
        if not left:
            there = sorted({n.entities.get(key, "none") for n in kept})
            raise InputError("E-REF", f"no series with {key} {', '.join(map(str, allowed))}; found "
                             f"{', '.join(there) or 'nothing'}", path=path, field=key)  # fmt: skip
        kept = left
    return kept
