"""drama2brain's features and annotations: one row a second of film, run by run."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.checks import check_folder, check_option
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.data.drama2brain_folders import find_folders
from wernicke.data.drama2brain_tables import LEVELS, RUNS, row_table
from wernicke.store.files import read_bytes, read_npy

MAX_ANNOTATION_BYTES = 64 * 2**20
NO_CAPTION = ".."
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")

PathLike = str | os.PathLike[str]


def load_drama2brain_features(
    root: PathLike, bands: Mapping[str, str], *, folders: Mapping[str, PathLike] | None = None
) -> Features:
    """Read features that the authors' code made, in the rows of `load_drama2brain`.

    Parameters
    ----------
    root : path-like
        Folder that holds ``stim_features``.
    bands : mapping of str to str
        A name of yours to ``modality/hparams/model/layer``, such as
        ``{"story": "semantic/story_cw1_avgToken_ALL/Llama2/layer17"}``. Layers count from 1, the embeddings being
        layer1.
    folders : mapping, optional
        As in `load_drama2brain`.

    Returns
    -------
    Features
        Each band (29999, n_features) in the files' dtype, further axes flattened; indexed by `run` and `onset_s`. The
        20 s that a run repeats of the one before are dropped.

    Raises
    ------
    InputError
        E-REF (a folder or a run's file is absent), E-SHAPE (another length than the run, another width than the
        first run), E-NONFIN, E-FMT, E-UNSAFE (a path that leaves the tree).
    """
    stim = find_folders(root, folders).need("stim", root)
    values = {name: read_band(_layer_folder(stim, band)) for name, band in bands.items()}
    return Features(values, row_table()[["run", "onset_s"]], {"bands": dict(bands), "made_by": "drama2brain"})


def list_layers(
    root: PathLike, modality: str, hparams: str, model: str, *, folders: Mapping[str, PathLike] | None = None
) -> list[str]:
    """Return the layers of a model that have features, ``layer2`` before ``layer10``: their ``--select_layers all``."""
    model_folder = _layer_folder(find_folders(root, folders).need("stim", root), f"{modality}/{hparams}/{model}")
    found = [p.name for p in model_folder.iterdir() if p.is_dir() and re.fullmatch(r"layer(\d+|None)", p.name)]
    if not found:
        raise InputError("E-REF", "found no folder layer1, layer2, ...", path=model_folder)
    return sorted(found, key=lambda name: (not name[5:].isdigit(), int(name[5:]) if name[5:].isdigit() else 0))


def _layer_folder(stim: Path, band: str) -> Path:
    parts = band.split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        raise InputError("E-UNSAFE", f"found {band!r}, expected modality/hparams/model/layer", field="bands")
    folder = stim
    for part in parts:
        if not (folder / part).is_dir():
            there = sorted(p.name for p in folder.iterdir() if p.is_dir())
            raise InputError("E-REF", f"no folder `{part}`", path=folder, field=band,
                             hint=f"found {', '.join(there[:12]) or 'nothing'}")  # fmt: skip
        folder = folder / part
    return folder


def feature_shapes(folder: Path) -> list[tuple[int, ...]]:
    """Return each run's shape as (seconds, n_features) from the headers; raises what `load_drama2brain_features` does.

    Parameters
    ----------
    folder : Path
        One layer's.
    """
    shapes: list[tuple[int, ...]] = []
    for row in RUNS:
        path = folder / f"{row.run}.npy"
        array = read_npy(path, mmap=True)
        if array.dtype.kind not in "fiu" or array.ndim < 1:
            raise InputError("E-FMT", f"found {array.dtype} of shape {array.shape}, expected one row of numbers a "
                             "second", path=path)  # fmt: skip
        if array.shape[0] != row.kept_s or array.size == 0:
            raise InputError("E-SHAPE", f"found shape {array.shape}, expected {row.kept_s} rows, one a second",
                             path=path)  # fmt: skip
        shape = (array.shape[0], array.size // array.shape[0])
        if shapes and shape[1] != shapes[0][1]:
            raise InputError("E-SHAPE", f"found {shape[1]} features, the first run has {shapes[0][1]}", path=path)
        shapes.append(shape)
    return shapes


def read_band(folder: Path) -> np.ndarray:
    """Return one layer's features of all kept rows, shape (29999, n_features)."""
    shapes = feature_shapes(check_folder(folder))
    first = read_npy(folder / f"{RUNS[0].run}.npy", mmap=True)
    out = np.empty((sum(row.kept_s - row.first_s for row in RUNS), shapes[0][1]), dtype=first.dtype)
    start = 0
    for row in RUNS:
        path = folder / f"{row.run}.npy"
        values = np.array(read_npy(path, mmap=True)[row.first_s :])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError("E-NONFIN", f"found {int((~np.isfinite(values)).sum())} values that are NaN or infinite",
                             path=path)  # fmt: skip
        if not np.can_cast(values.dtype, out.dtype, "same_kind"):
            raise InputError("E-FMT", f"found {values.dtype}, the first run has {out.dtype}", path=path)
        out[start : start + len(values)] = values.reshape(len(values), -1)
        start += len(values)
    return out


def load_drama2brain_annotations(
    root: PathLike, levels: Iterable[str] | None = None, *, folders: Mapping[str, PathLike] | None = None
) -> pd.DataFrame:
    """Read what annotators wrote, second by second.

    Parameters
    ----------
    root : path-like
        Folder that holds the annotation files.
    levels : iterable of str, optional
        Of ``speechTranscription``, ``objectiveAnnot50chara``, ``story``, ``eventContent``, ``timePlace``; default: all
        that are there.

    Returns
    -------
    DataFrame
        `run`, `onset_s` (in the run, its overlap included), `duration_s` (1), `level` (the paper's name: Speech,
        Object, Story, Summary, TimePlace), `annotator` (from 0), `text`. Seconds without a caption have no row.

    Raises
    ------
    InputError
        E-REF (a run's file is absent), E-SHAPE (not one row a second), E-FMT, E-CFG (unknown level).
    """
    table = read_annotations(find_folders(root, folders).need("caption", root), levels)
    if table is None:
        raise InputError("E-REF", "found no annotation", path=Path(root))
    return table


def read_annotations(folder: Path, levels: Iterable[str] | None = None) -> pd.DataFrame | None:
    """Read the annotation files of a folder; None if there are none."""
    wanted = [check_option(level, LEVELS, "levels") for level in levels] if levels is not None else [
        level for level in LEVELS if next(folder.glob(f"*_run*_{level}_each1sec_en.txt"), None)
    ]  # fmt: skip
    tables = [
        _tidy(read_annotation(annotation_file(folder, row.title, row.number, level), row.kept_s), row.run, level)
        for level in wanted
        for row in RUNS
    ]
    return pd.concat(tables, ignore_index=True) if tables else None


def annotation_file(folder: Path, title: str, number: int, level: str) -> Path:
    """Return a run's file; files count runs from 1, `number` from 0."""
    return folder / f"{title}_run{number + 1}_{level}_each1sec_en.txt"


def read_annotation(path: Path, kept_s: int) -> list[list[str]]:
    """Return one list a second with a text an annotator, ``..`` where there is none.

    A file of one line more than the run has seconds begins with a header, which the authors' loader drops.
    """
    content = read_bytes(path)
    if len(content) > MAX_ANNOTATION_BYTES:
        raise InputError("E-SIZE", f"file has {len(content)} bytes, at most {MAX_ANNOTATION_BYTES} are read", path=path)
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter="\t"))
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not UTF-8 text (byte {error.start})", path=path) from None
    except csv.Error as error:
        raise InputError("E-FMT", f"not a tab-separated table: {error}", path=path) from None
    if len(rows) not in (kept_s, kept_s + 1):
        raise InputError("E-SHAPE", f"found {len(rows)} lines, expected {kept_s} (one more with a header)",
                         path=path)  # fmt: skip
    rows = rows[len(rows) - kept_s :]
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]) or not row:
            raise InputError("E-FMT", f"second {number} has {len(row)} columns, the first has {len(rows[0])}, one an "
                             "annotator", path=path)  # fmt: skip
    return rows


def _tidy(rows: list[list[str]], run: str, level: str) -> pd.DataFrame:
    texts = np.array(rows, dtype=object)
    second, annotator = np.nonzero((texts != NO_CAPTION) & (texts != ""))
    return pd.DataFrame(
        {
            "run": run,
            "onset_s": second.astype(float),
            "duration_s": 1.0,
            "level": LEVELS[level][0],
            "annotator": annotator,
            "text": texts[second, annotator],
        }
    )
