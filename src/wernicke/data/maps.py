"""Results by voxel or vertex, written as everybody reads them: parquet, Zarr, NIfTI, GIFTI, CIFTI.

`write_maps` fills a folder with

- ``scores.parquet``: one row a unit, with the unit's number (`voxel`) and, on a surface, its `hemisphere`; what the
  units are (grid and affine, or mesh) stands in the file's own metadata, so that `read_maps` needs nothing else;
- ``maps.zarr``: the same columns as arrays, and two-dimensional ones (weights, one row a feature) besides;
- ``maps/``: an image a column, when it is known where the units lie.

The same inputs give the same bytes.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.store.atomic import atomic_path
from wernicke.store.files import PathLike, describe_start, write_bytes
from wernicke.store.sealed import replacing

TABLE, ARRAYS, IMAGES = "scores.parquet", "maps.zarr", "maps"
INDEX = ("voxel", "hemisphere")
MAX_UNITS = 2**27
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
_KEY = b"wernicke"
_HEMISPHERES = (("left", "L", "CIFTI_STRUCTURE_CORTEX_LEFT"), ("right", "R", "CIFTI_STRUCTURE_CORTEX_RIGHT"))
# "Aligned": world coordinates are those of the recording that the map was made from, whatever those are.
_ALIGNED = 2


def write_maps(folder: PathLike, columns: Mapping[str, np.ndarray], units: Voxels | Surface | None) -> list[Path]:
    """Write one value a unit, for every column.

    Parameters
    ----------
    folder : path-like
        Made if absent; files of these names are replaced.
    columns : mapping of str to array
        Numbers or truth values of shape (n_units,), NaN for "no value"; texts of shape (n_units,) (table only);
        numbers of shape (n_rows, n_units) (``maps.zarr`` only). Names become file names: letters, digits and
        ``_ . + -``.
    units : Voxels, Surface or None
        Where the columns' units lie. With None there are no images; `voxel` may then be one of the columns, else it
        counts from 0.

    Returns
    -------
    list of Path
        ``scores.parquet``, ``maps.zarr`` (a folder), then the images, column by column: ``maps/<column>.nii.gz`` for
        voxels (float32, NaN outside the mask), ``maps/<column>.L.func.gii`` and ``.R.func.gii`` for a surface, and
        ``maps/<column>.dscalar.nii`` besides where the surface has a volume part.

    Raises
    ------
    InputError
        E-UNSAFE (a name that is no file name), E-META (names that differ by case only, reserved or no columns),
        E-SHAPE, E-FMT (complex numbers, objects), E-NONFIN (infinite).
    DiskFullError
    """
    folder = Path(folder)
    if units is not None and (made := [name for name in INDEX if name in columns]):
        raise InputError("E-META", f"`{made[0]}` is made from `units`", field="columns", hint="leave it out")
    arrays = check_columns(columns, n_units_of(units))
    plain = {name: values for name, values in arrays.items() if values.ndim == 1}
    n_units = len(next(iter(plain.values())))
    index = _index(units, n_units)
    table = pd.DataFrame({**{name: v for name, v in index.items() if name not in plain}, **plain})
    written = [_write_table(folder / TABLE, table, units), _write_arrays(folder / ARRAYS, {**index, **arrays}, units)]
    if units is not None:
        for name, values in plain.items():
            if values.dtype.kind in "fiub":
                written += _write_images(folder / IMAGES, name, values.astype(np.float64), units)
    return written


def read_maps(folder: PathLike) -> tuple[pd.DataFrame, Voxels | Surface | None]:
    """Return the table that `write_maps` wrote, one row a unit, and where the units lie.

    Raises
    ------
    InputError
        E-REF, E-FMT (not parquet), E-SIZE, E-META (the table and its metadata disagree).
    """
    import pyarrow
    import pyarrow.parquet

    path = check_file(Path(folder) / TABLE)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        if file.metadata.num_rows > MAX_UNITS:
            raise InputError("E-SIZE", f"declares {file.metadata.num_rows:,} units", path=path)
        table = file.read()
        frame = table.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        with open(path, "rb") as raw:
            head = raw.read(64)
        problem = str(error).splitlines()[0][:100] if head[:4] == b"PAR1" else f"not parquet but {describe_start(head)}"
        raise InputError("E-FMT", problem, path=path) from None
    note = (table.schema.metadata or {}).get(_KEY)
    return frame, None if note is None else _units_of(note, frame, path)


# Checks ----------------------------------------------------------------------------------------------------------


def check_columns(columns: Mapping[str, np.ndarray], n_units: int | None) -> dict[str, np.ndarray]:
    """Return columns as arrays if their names can be file names and their lengths agree; raises as `write_maps`."""
    arrays: dict[str, np.ndarray] = {}
    lower: dict[str, str] = {}
    for name, given in columns.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError("E-UNSAFE", f"found the column {str(name)[:60]!r}; it would not be a file name",
                             field="columns", hint="use letters, digits, `_`, `.`, `+` and `-`")  # fmt: skip
        if lower.setdefault(name.lower(), name) != name:
            raise InputError("E-META", f"columns {lower[name.lower()]!r} and {name!r} differ by case only, which not "
                             "every file system can hold", field="columns")  # fmt: skip
        values = _check_values(np.asarray(given), name)
        n_units = values.shape[-1] if n_units is None else n_units
        if values.shape[-1] != n_units:
            raise InputError("E-SHAPE", f"found shape {values.shape}, expected {n_units} units", field=name)
        arrays[name] = values
    if not any(values.ndim == 1 for values in arrays.values()):
        raise InputError("E-META", "no column with one value a unit", field="columns")
    return arrays


def _check_values(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise InputError("E-SHAPE", f"found shape {values.shape}, expected (n_units,) or (n_rows, n_units)", field=name)
    if values.ndim == 1 and (values.dtype.kind == "U" or all(isinstance(text, str) for text in values)):
        return values.astype(object)
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise InputError("E-FMT", f"found {values.dtype}, expected real numbers", field=name)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise InputError("E-NONFIN", f"found {int(np.isinf(values).sum())} infinite values; NaN stands for no value",
                         field=name)  # fmt: skip
    return values.astype(values.dtype.newbyteorder("="), copy=False)  # parquet has one byte order


def n_units_of(units: Voxels | Surface | None) -> int | None:
    """How many voxels or vertices there are; None where that is not known."""
    return None if units is None else units.n_voxels if isinstance(units, Voxels) else units.n_units


def _index(units: Voxels | Surface | None, n_units: int) -> dict[str, np.ndarray]:
    """`voxel` (flat C index of the grid, or vertex number; from 0) and, on a surface, `hemisphere` of every unit."""
    if units is None:
        return {"voxel": np.arange(n_units)}
    if isinstance(units, Voxels):
        return {"voxel": np.flatnonzero(units.mask)}
    parts = [("left", units.left), ("right", units.right)]
    parts.append(("volume", units.volume.mask if units.volume is not None else None))
    found = [(side, np.flatnonzero(mask)) for side, mask in parts if mask is not None]
    sides = np.concatenate([np.full(len(numbers), side) for side, numbers in found]).astype(object)
    return {"voxel": np.concatenate([numbers for _, numbers in found]), "hemisphere": sides}


# Table and arrays ------------------------------------------------------------------------------------------------


def _write_table(path: Path, table: pd.DataFrame, units: Voxels | Surface | None) -> Path:
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.Table.from_pandas(table, preserve_index=False)
    metadata = {**(content.schema.metadata or {}), **({} if units is None else {_KEY: _note(units).encode()})}
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), temporary, compression="zstd")
    return path


def _grid(voxels: Voxels) -> dict[str, Any]:
    return {"shape": [int(n) for n in voxels.mask.shape], "affine": np.asarray(voxels.affine, float).tolist()}


def _note(units: Voxels | Surface) -> str:
    """What cannot be seen from the table's rows: the grid, or the mesh and its size."""
    if isinstance(units, Voxels):
        return json.dumps(_grid(units), sort_keys=True)
    sizes = {side: None if mask is None else len(mask) for side, mask in (("left", units.left), ("right", units.right))}
    volume = None if units.volume is None else _grid(units.volume)
    return json.dumps({"mesh": units.mesh, "n_vertices": sizes, "volume": volume}, sort_keys=True)


def _units_of(note: bytes, table: pd.DataFrame, path: Path) -> Voxels | Surface:
    try:
        told = json.loads(note)
        voxel = table["voxel"].to_numpy()
        if "mesh" not in told:
            return _voxels_of(told, voxel)
        sides = table["hemisphere"].to_numpy()
        masks = {
            side: None if n is None else _mask(voxel[sides == side], (n,)) for side, n in told["n_vertices"].items()
        }
        volume = None if told["volume"] is None else _voxels_of(told["volume"], voxel[sides == "volume"])
        return Surface(masks["left"], masks["right"], str(told["mesh"]), volume)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("E-META", "the table and what it says of its units disagree", path=path) from None


def _voxels_of(told: Mapping[str, Any], numbers: np.ndarray) -> Voxels:
    return Voxels(_mask(numbers, tuple(told["shape"])), np.asarray(told["affine"], dtype=float))


def _mask(numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if not all(isinstance(n, int) and n > 0 for n in shape) or math.prod(shape) > MAX_UNITS:
        raise ValueError(f"shape {shape}")
    if numbers.dtype.kind not in "iu" or (np.diff(numbers) <= 0).any() or (len(numbers) and numbers[0] < 0):
        raise ValueError("units are not in order")
    mask = np.zeros(math.prod(shape), dtype=bool)
    mask[numbers] = True
    return mask.reshape(shape)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray], units: Voxels | Surface | None) -> Path:
    """Write the Zarr folder under a temporary name, then put it in the place of the old one."""
    import zarr

    with replacing(path, sum(values.nbytes for values in arrays.values())) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        if units is not None:
            group.attrs["units"] = json.loads(_note(units))
        for name, values in sorted(arrays.items()):
            if values.dtype.kind in "fiub":
                rows = (min(len(values), 256),) if values.ndim == 2 else ()
                chunks = (*rows, min(values.shape[-1], 65_536))
                # A chunk of zeros that is not there cannot be told from one that was lost.
                group.create_array(name, data=values, chunks=chunks, config={"write_empty_chunks": True})
    return path


# Images ----------------------------------------------------------------------------------------------------------


def _write_images(folder: Path, name: str, values: np.ndarray, units: Voxels | Surface) -> list[Path]:
    if isinstance(units, Voxels):
        path = folder / f"{name}.nii.gz"
        # No time and no name in gzip's header: the same map is the same file.
        write_bytes(path, gzip.compress(volume_image(values, units, name).to_bytes(), 6, mtime=0))
        return [path]
    paths = []
    for side, letter, structure in _HEMISPHERES:
        if getattr(units, side) is not None:
            paths.append(folder / f"{name}.{letter}.func.gii")
            write_bytes(paths[-1], hemisphere_image(units.to_hemisphere(values, side), structure, name).to_bytes())
    if units.volume is not None:
        paths.append(folder / f"{name}.dscalar.nii")
        with atomic_path(paths[-1]) as temporary:
            grayordinate_image(values, units, name).to_filename(temporary)
    return paths


def volume_image(values: np.ndarray, voxels: Voxels, name: str = "") -> Any:
    """Return a nibabel Nifti1Image, float32, NaN outside the mask, the affine as sform and (unless sheared) qform."""
    import nibabel

    affine = np.asarray(voxels.affine, dtype=np.float64)
    image = nibabel.Nifti1Image(voxels.to_volume(values).astype(np.float32), affine)
    image.set_sform(affine, _ALIGNED)
    image.set_qform(affine, _ALIGNED)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):  # a quaternion has no shear
        image.set_qform(None, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"wernicke: {name}".encode()[:79]
    return image


def hemisphere_image(values: np.ndarray, structure: str, name: str = "") -> Any:
    """Return a nibabel GiftiImage with one value a vertex, float32."""
    from nibabel import gifti

    side = "CortexLeft" if structure.endswith("LEFT") else "CortexRight"
    array = gifti.GiftiDataArray(values.astype(np.float32), intent="NIFTI_INTENT_NONE",
                                 datatype="NIFTI_TYPE_FLOAT32", meta=gifti.GiftiMetaData({"Name": name}))  # fmt: skip
    return gifti.GiftiImage(darrays=[array], meta=gifti.GiftiMetaData({"AnatomicalStructurePrimary": side}))


def grayordinate_image(values: np.ndarray, surface: Surface, name: str) -> Any:
    """Return a nibabel Cifti2Image with one map over the kept vertices of both hemispheres and the volume's voxels."""
    import nibabel
    from nibabel.cifti2 import BrainModelAxis, ScalarAxis

    axes = [
        BrainModelAxis.from_surface(np.flatnonzero(mask), len(mask), name=structure)
        for mask, structure in ((getattr(surface, side), structure) for side, _, structure in _HEMISPHERES)
        if mask is not None and mask.any()
    ]
    if surface.volume is not None:
        volume = surface.volume
        axes.append(BrainModelAxis.from_mask(volume.mask, name="CIFTI_STRUCTURE_OTHER", affine=volume.affine))
    models = axes[0]
    for axis in axes[1:]:
        models = models + axis
    return nibabel.Cifti2Image(values[None].astype(np.float32), (ScalarAxis([name]), models))
