"""Regions of interest: from an atlas image, from FreeSurfer labels, from the authors' ``fsROI.mat``.

Every reader returns a dict of name to a mask over the units of a recording, array of bool, shape (n_units,). Regions
without a unit are left out, and the log says so. Nothing is resampled.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.matlab import read_mat_struct
from wernicke.data.nifti import read_header, read_values
from wernicke.data.surface_series import read_gifti
from wernicke.data.surfaces import Cortex
from wernicke.data.tsv import read_tsv
from wernicke.store.files import PathLike, read_bytes

logger = logging.getLogger(__name__)

MAX_BYTES = 2**28
_LUT_LINE = re.compile(r"^\s*(\d+)\s+(\S+)")
_NO_REGION = {"", "unknown", "???", "medial_wall", "background+freesurfer_defined_medial_wall"}
_SIDES = {"lh": "left", "rh": "right"}


def read_atlas(
    path: PathLike, units: Voxels, names: PathLike | Mapping[int, str] | pd.DataFrame | None = None
) -> dict[str, np.ndarray]:
    """Return the regions of a labelled image.

    Parameters
    ----------
    path : path-like
        A 3-D NIfTI of whole numbers on the recording's own grid; 0 is background.
    units : Voxels
    names : path-like, mapping or DataFrame, optional
        Number to name: a mapping, a table with the columns ``index`` and ``name`` (BIDS' ``_dseg.tsv``, the `lut` of
        nilearn's atlases), or FreeSurfer's colour table (``FreeSurferColorLUT.txt``). Without it regions are called
        ``label_<number>``.

    Raises
    ------
    InputError
        E-SHAPE, E-META (another grid; a number without a name; no region inside the mask), E-FMT (not whole
        numbers), and what `wernicke.data.nifti.read_header` raises.
    """
    header = read_header(path)
    if len(header.shape) != 3:
        raise InputError("E-SHAPE", f"found shape {header.shape}, expected a 3-D image of labels", path=header.path,
                         hint="a probabilistic atlas has to be turned into labels first")  # fmt: skip
    off_mm = float(np.abs(header.affine - units.affine).max()) if header.shape == units.mask.shape else np.inf
    if off_mm > 1e-3:
        problem = f"grid {header.shape}, the recording's is {units.mask.shape}"
        if np.isfinite(off_mm):
            problem = f"the affine differs from the recording's by up to {off_mm:.3g} mm"
        raise InputError(
            "E-SHAPE" if not np.isfinite(off_mm) else "E-META", problem, path=header.path,
            hint='resample it first: nilearn.image.resample_to_img(atlas, bold_mean, interpolation="nearest")',
        )  # fmt: skip
    labels = check_finite(np.asarray(read_values(header)), "labels", path=header.path)[units.mask]
    if (labels != np.rint(labels)).any() or np.abs(labels).max() > 2**31:
        raise InputError("E-FMT", f"found {labels[labels != np.rint(labels)][:1]}, expected whole numbers",
                         path=header.path, hint="resample labels with interpolation='nearest'")  # fmt: skip
    return _named(labels.astype(np.int64), read_names(names), Path(header.path))


def read_names(names: PathLike | Mapping[int, str] | pd.DataFrame | None) -> dict[int, str] | None:
    """Read a table of regions: see `read_atlas`."""
    if isinstance(names, Mapping):
        return {int(number): str(name) for number, name in names.items()}
    if names is None:
        return None
    path = None if isinstance(names, pd.DataFrame) else check_file(names, "names")
    if path is not None and path.suffix.lower() != ".tsv":
        found = _colour_table(path)
    else:
        table = names if isinstance(names, pd.DataFrame) else read_tsv(names)
        if not {"index", "name"} <= set(table.columns):
            raise InputError("E-META", f"found columns {', '.join(map(str, table.columns))}, expected `index` and "
                             "`name`", path=path, field="names")  # fmt: skip
        try:
            found = [(int(number), str(name)) for number, name in zip(table["index"], table["name"], strict=True)]
        except (ValueError, TypeError):
            raise InputError("E-META", "found an entry that is no whole number", path=path, field="index") from None
    if len(dict(found)) != len(found):
        raise InputError("E-META", "a number stands twice", path=path, field="index")
    return dict(found)


def _colour_table(path: Path) -> list[tuple[int, str]]:
    content = read_bytes(path)
    if len(content) > MAX_BYTES:
        raise InputError("E-SIZE", f"found {len(content):,} bytes, at most {MAX_BYTES:,} are read", path=path)
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputError("E-FMT", "not text in UTF-8", path=path) from None
    matches = [_LUT_LINE.match(line) for line in lines if not line.lstrip().startswith("#")]
    if not matches or not all(matches):
        raise InputError("E-FMT", "not a colour table: expected lines of a number and a name", path=path,
                         hint="BIDS tables of labels end in .tsv")  # fmt: skip
    return [(int(match[1]), match[2]) for match in matches if match]


def _named(labels: np.ndarray, names: Mapping[int, str] | None, path: Path) -> dict[str, np.ndarray]:
    """Turn one number a unit, 0 for none, into masks by name; regions of one name become one."""
    rois: dict[str, np.ndarray] = {}
    for number in np.unique(labels[labels != 0]).tolist():
        if names is not None and number not in names:
            raise InputError("E-META", f"label {number} has no name in the table", path=path, field="names")
        name = f"label_{number}" if names is None else names[number]
        rois[name] = rois.get(name, False) | (labels == number)
    if not rois:
        raise InputError("E-META", "no region has a unit of this recording", path=path)
    absent = sorted(set((names or {}).values()) - set(rois))
    if absent:
        logger.info("%s: %d of the table's regions have no unit here, such as %s", path.name, len(absent), absent[0])
    return rois


# FreeSurfer ------------------------------------------------------------------------------------------------------


def read_freesurfer(
    paths: Sequence[PathLike], units: Surface | Voxels, cortex: Cortex | None = None
) -> dict[str, np.ndarray]:
    """Return the regions of FreeSurfer's ``.label`` and ``.annot`` files and of GIFTI's ``.label.gii``.

    Parameters
    ----------
    paths : sequence of path-like
        The hemisphere is read from the name: ``lh.``, ``rh.``, ``hemi-L``, ``.L.`` and so on.
    units : Surface or Voxels
        Of a Surface, vertices are compared by number; voxels need `cortex`.
    cortex : Cortex, optional
        The same subject's surfaces (`wernicke.data.surfaces.read_cortex`): a voxel belongs to the region that most
        of the cortex inside it belongs to.

    Returns
    -------
    dict
        Named ``lh-<region>`` and ``rh-<region>``; ``unknown``, ``???`` and what has no name are left out.

    Raises
    ------
    InputError
        E-CFG (no hemisphere in the name, no cortex for voxels), E-FMT, E-TRUNC, E-HDR, E-SHAPE (another mesh), E-META.
    """
    if isinstance(units, Voxels) and cortex is None:
        raise InputError("E-CFG", "labels on the surface, a recording in voxels", field="cortex",
                         hint="give the subject's surfaces: wernicke.data.surfaces.read_cortex")  # fmt: skip
    rois: dict[str, np.ndarray] = {}
    for given in paths:
        path = check_file(given)
        short = _hemisphere(path)
        side = _SIDES[short]
        if isinstance(units, Voxels):
            labels, names = _read_labels(path, len(cortex.white[side]))  # type: ignore[union-attr]
            numbers = cortex.label_voxels({side: labels})  # type: ignore[union-attr]
        elif getattr(units, side) is None:
            raise InputError("E-META", f"the recording has no {side} hemisphere", path=path)
        else:
            labels, names = _read_labels(path, len(getattr(units, side)))
            numbers = _at_vertices(labels, units, side)
        for number, name in names.items():
            key, mask = f"{short}-{name}", numbers == number
            if key in rois:
                raise InputError("E-META", f"region {key} occurs twice", path=path)
            if mask.any():
                rois[key] = mask
            else:
                logger.info("%s: %s has no unit here", path.name, key)
    if not rois:
        raise InputError("E-META", "no region has a unit of this recording", field="paths")
    return rois


def _hemisphere(path: Path) -> str:
    match = re.search(r"(?:^|[._-])(lh|rh|[LR]|left|right)(?:[._-]|$)", path.name)
    if match is None:
        raise InputError("E-CFG", "the file's name does not say which hemisphere", path=path,
                         hint="expected such as lh.V1.label or hemi-L_atlas-x.label.gii")  # fmt: skip
    return "lh" if match[1] in ("lh", "L", "left") else "rh"


def _at_vertices(labels: np.ndarray, surface: Surface, side: str) -> np.ndarray:
    """Labels of a recording's columns, 0 outside this hemisphere."""
    mask = getattr(surface, side)
    start = int(surface.left.sum()) if side == "right" and surface.left is not None else 0
    numbers = np.zeros(surface.n_units, dtype=int)
    numbers[start : start + int(mask.sum())] = labels[mask]
    return numbers


def _read_labels(path: Path, n_vertices: int) -> tuple[np.ndarray, dict[int, str]]:
    """Return one number a vertex, from 1, 0 for none, and the numbers' names."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError("E-SIZE", f"found {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are read", path=path)
    if path.suffix == ".label":
        return _read_label(path, n_vertices), {1: re.sub(r"^[lr]h\.", "", path.name.removesuffix(".label"))}
    if path.suffix == ".annot":
        labels, names = _read_annot(path)
    elif path.name.endswith(".label.gii"):
        labels, names = _read_label_gifti(path)
    else:
        raise InputError("E-FMT", "expected a .label, .annot or .label.gii file", path=path)
    if labels.shape != (n_vertices,):
        raise InputError("E-SHAPE", f"found {labels.shape[0]} vertices, the recording's mesh has {n_vertices}",
                         path=path)  # fmt: skip
    return labels, {k: name for k, name in names.items() if name.lower() not in _NO_REGION}


def _read_label(path: Path, n_vertices: int) -> np.ndarray:
    from nibabel.freesurfer import read_label

    try:
        vertices = np.atleast_1d(read_label(str(path)))
    except (ValueError, OSError, IndexError, OverflowError) as error:
        raise InputError("E-FMT", f"not a FreeSurfer label ({error})", path=path) from None
    if not len(vertices) or vertices.min() < 0 or vertices.max() >= n_vertices:
        found = f"vertices {vertices.min()} to {vertices.max()}" if len(vertices) else "no vertex"
        raise InputError("E-SHAPE", f"found {found}, the recording's mesh has {n_vertices}", path=path)
    labels = np.zeros(n_vertices, dtype=int)
    labels[vertices] = 1
    return labels


def _read_annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    from nibabel.freesurfer import read_annot

    content = read_bytes(path)
    n_vertices = int(np.frombuffer(content[:4], ">i4")[0]) if len(content) >= 4 else -1
    end = 4 + 8 * n_vertices
    if n_vertices < 1 or len(content) < end + 12:
        raise InputError("E-TRUNC", f"declares {n_vertices} vertices, has {len(content)} bytes", path=path)
    tagged, version, n_regions = np.frombuffer(content[end : end + 12], ">i4")
    if tagged != 1 or version != -2 or not 0 < n_regions <= len(content):
        raise InputError("E-FMT", "no colour table of version 2 behind the vertices", path=path,
                         hint="write it again with a current FreeSurfer")  # fmt: skip
    try:
        labels, _, names = read_annot(str(path))
        texts = [name.decode("utf-8") for name in names]
    except (ValueError, IndexError, OverflowError, TypeError, MemoryError, UnicodeDecodeError) as error:
        raise InputError("E-HDR", f"the colour table cannot be read ({error})", path=path) from None
    return labels + 1, dict(enumerate(texts, 1))  # nibabel: -1 for no region


def _read_label_gifti(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    import nibabel

    values, _ = read_gifti(path)  # refuses what nibabel would follow out of the file
    if len(values) != 1 or (values != np.rint(values)).any():
        raise InputError("E-FMT", "expected one array of whole numbers", path=path)
    image = nibabel.load(path)
    names = image.labeltable.get_labels_as_dict()  # type: ignore[attr-defined]
    return values[0].astype(int), {number: name for number, name in names.items() if number != 0}


# drama2brain -----------------------------------------------------------------------------------------------------


def read_fsroi(path: PathLike, tvoxels: np.ndarray, *, cortex_only: bool = True) -> dict[str, np.ndarray]:
    """Return the regions of drama2brain's ``fsROI.mat`` over a subject's voxels.

    The file holds one structure, `fsROI`. As in the authors' ``prepare_roi``, its second field lists the regions'
    names and its third their voxels: indices into the flattened volume in MATLAB's order, counted from 1.

    Parameters
    ----------
    path : path-like
    tvoxels : array of int, shape (n_voxels,)
        As `wernicke.data.drama2brain.load_tvoxels` returns it: counted from 0.
    cortex_only : bool
        Keep names that begin with ``ctx``, as the authors do.

    Raises
    ------
    InputError
        What `wernicke.data.matlab.read_mat_struct` raises; E-FMT (other fields), E-META (an index below 1, a name
        twice, no region with a voxel).
    """
    fields = list(read_mat_struct(path, "fsROI").values())

    def refuse(code: str, problem: str) -> NoReturn:
        raise InputError(code, problem, path=Path(path), field="fsROI")

    if len(fields) < 3 or not all(isinstance(field, list) for field in fields[1:3]):
        refuse("E-FMT", "expected names as the second field and voxels as the third, both in cells")
    names, voxels = fields[1:3]
    if len(names) != len(voxels) or not all(isinstance(name, str) and name for name in names):
        refuse("E-FMT", f"found {len(names)} names and {len(voxels)} lists of voxels")
    rois: dict[str, np.ndarray] = {}
    for name, indices in zip(names, voxels, strict=True):
        if not isinstance(indices, np.ndarray) or (indices != np.floor(indices)).any() or (indices < 1).any():
            refuse("E-META", f"region {name} does not list whole numbers from 1")
        if name in rois:
            refuse("E-META", f"region {name} occurs twice")
        if not cortex_only or name.startswith("ctx"):
            rois[name] = np.isin(tvoxels, indices.astype(np.int64) - 1)
    rois = {name: inside for name, inside in rois.items() if inside.any()}
    if not rois:
        refuse("E-META", "no region has a voxel of this subject")
    return rois


def name_units(rois: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return each unit's region as text, shape (n_units,): empty for none, ``a|b`` where regions overlap."""
    masks = list(rois.values())
    names = np.full(len(masks[0]), "", dtype=object)
    for name, inside in rois.items():
        names[inside] = [f"{before}|{name}" if before else name for before in names[inside]]
    return names
