"""Mapper files as voxelwise-tutorials' `save_hdf5_dataset` writes them, made here with h5py and scipy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse

from wernicke.core.errors import InputError
from wernicke.data.mapper import read_mapper
from wernicke.data.surfaces import write_surface_maps

N_VOXELS, N_VERTICES = 300, 2 * 163842
MASK = np.random.default_rng(5).random((30, 20)) < 0.6


def matrices() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    vertices = scipy.sparse.random(N_VERTICES, N_VOXELS, density=0.004, format="csr", random_state=rng)
    pixels = scipy.sparse.random(int(MASK.sum()), N_VOXELS, density=0.02, format="csr", random_state=rng)
    return {"voxel_to_fsaverage": vertices, "voxel_to_flatmap": pixels, "flatmap_mask": MASK,
            "flatmap_curvature": rng.random(MASK.shape), "roi_mask_V1": np.arange(N_VOXELS) < 7}  # fmt: skip


def write(path: Path, content: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            if scipy.sparse.issparse(array):
                for part in ("data", "indices", "indptr", "shape"):
                    file.create_dataset(f"{name}_{part}", data=getattr(array, part), compression="gzip")
            else:
                file.create_dataset(name, data=array, compression="gzip")
    return path


def theirs(voxels: np.ndarray, content: dict[str, Any]) -> np.ndarray:
    """The picture by the tutorials' rules: pixels without weight empty, axes swapped, turned upside down."""
    matrix = content["voxel_to_flatmap"]
    inside = np.full(matrix.shape[0], np.nan)
    weighted = np.asarray(matrix.sum(1)).ravel() > 0
    inside[weighted] = (matrix @ voxels)[weighted]
    picture = np.full(MASK.shape, np.nan)
    picture[MASK] = inside
    return np.swapaxes(picture, 0, 1)[::-1]


def test_vertices_and_pixels_are_those_of_the_tutorials(tmp_path: Path) -> None:
    content = matrices()
    mapper = read_mapper(write(tmp_path / "S01_mappers.hdf", content), N_VOXELS)
    values = np.random.default_rng(1).normal(size=N_VOXELS)
    np.testing.assert_allclose(mapper.flat_image(values), theirs(values, content))
    whole = content["voxel_to_fsaverage"] @ values
    weighted = np.asarray(content["voxel_to_fsaverage"].sum(1)).ravel() > 0
    found = mapper.project(values)
    for side, start in (("left", 0), ("right", 163842)):
        rows = slice(start, start + 10242)
        np.testing.assert_allclose(found[side], np.where(weighted[rows], whole[rows], np.nan))
    assert mapper.rois["V1"].sum() == 7
    assert mapper.curvature is not None
    assert mapper.curvature.shape == MASK.shape


def test_older_names_are_understood(tmp_path: Path) -> None:
    content = matrices()
    both = content["voxel_to_fsaverage"]
    old = {"pixmap": content["voxel_to_flatmap"], "pixmask": MASK, "vox_to_fsavg_left": both[:163842],
           "vox_to_fsavg_right": both[163842:]}  # fmt: skip
    values = np.arange(N_VOXELS, dtype=float)
    new = read_mapper(write(tmp_path / "new.hdf", content))
    mapper = read_mapper(write(tmp_path / "old.hdf", old))
    np.testing.assert_array_equal(mapper.flat_image(values), new.flat_image(values))
    for side in ("left", "right"):
        np.testing.assert_array_equal(mapper.project(values)[side], new.project(values)[side])


def test_voxels_without_a_value_count_for_nothing_and_labels_are_not_averaged(tmp_path: Path) -> None:
    mapper = read_mapper(write(tmp_path / "m.hdf", matrices()))
    values = np.where(np.arange(N_VOXELS) % 3 == 0, np.nan, 4.0)
    weights = matrices()["voxel_to_flatmap"]
    flat = mapper.flat_image(values)
    total = mapper.flat_image(np.ones(N_VOXELS))
    np.testing.assert_allclose(flat[np.isfinite(flat)], 4.0 * total[np.isfinite(flat)])
    share = theirs((np.arange(N_VOXELS) % 3 != 0).astype(float), matrices()) / total
    np.testing.assert_array_equal(np.isfinite(flat), share >= 0.25)
    labels = mapper.flat_image(np.arange(N_VOXELS, dtype=float), nearest=True)
    heaviest = np.asarray(weights.argmax(axis=1)).ravel()[np.asarray(weights.sum(1)).ravel() > 0]
    assert sorted(labels[np.isfinite(labels)]) == sorted(heaviest)


def test_surface_maps_of_a_mapper(tmp_path: Path) -> None:
    from nilearn.surface import load_surf_data

    mapper = read_mapper(write(tmp_path / "m.hdf", matrices()))
    values = np.random.default_rng(1).normal(size=N_VOXELS)
    written = write_surface_maps(tmp_path / "out", {"r": values}, mapper)
    assert [path.name for path in written] == ["r.L.func.gii", "r.R.func.gii", "r.flatmap.npy"]
    np.testing.assert_allclose(load_surf_data(str(written[0])), mapper.project(values)["left"], rtol=1e-5)
    flat = np.load(written[2], allow_pickle=False)
    assert flat.dtype == np.float32
    np.testing.assert_allclose(flat, theirs(values, matrices()), rtol=1e-5)


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return apply


def put(array: np.ndarray, index: int, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (changed("voxel_to_flatmap_indices", lambda a: put(a, 0, N_VOXELS)), "E-HDR"),
        (changed("voxel_to_flatmap_indices", lambda a: put(a, 0, -1)), "E-HDR"),
        (changed("voxel_to_flatmap_indptr", lambda a: put(a, 1, 10**6)), "E-HDR"),
        (changed("voxel_to_flatmap_indptr", lambda a: a[:-1]), "E-SHAPE"),
        (changed("voxel_to_flatmap_data", lambda a: a[:-1]), "E-HDR"),
        (changed("voxel_to_flatmap_data", lambda a: put(a, 0, np.nan)), "E-NONFIN"),
        (changed("voxel_to_flatmap_shape", lambda a: a[:1]), "E-SHAPE"),
        (changed("voxel_to_flatmap_indices", lambda a: a.astype(float)), "E-FMT"),
        (changed("flatmap_mask", lambda a: ~a), "E-SHAPE"),
        (changed("roi_mask_V1", lambda a: a[1:]), "E-SHAPE"),
        (lambda file: file.__setitem__("flatmap_curvature2", h5py.ExternalLink("/etc/passwd", "x")), "E-UNSAFE"),
    ],
)
def test_matrices_that_cannot_be_are_refused(harm: Callable[[h5py.File], None], code: str, tmp_path: Path) -> None:
    content = {name: array for name, array in matrices().items() if name != "voxel_to_fsaverage"}
    path = write(tmp_path / "m.hdf", content)
    read_mapper(path)
    with h5py.File(path, "r+") as file:
        harm(file)
    with pytest.raises(InputError) as error:
        read_mapper(path)
    assert error.value.code == code


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither `voxel_to_fsaverage_data`"):
        read_mapper(write(tmp_path / "x.hdf", {"a": np.ones(3)}))
    with pytest.raises(InputError, match=r"responses differ: \[300, 301\]"):
        read_mapper(write(tmp_path / "m.hdf", matrices()), 301)
    (tmp_path / "p").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="pickle"):
        read_mapper(tmp_path / "p")
    flat = {name: array for name, array in matrices().items() if name != "voxel_to_fsaverage"}
    with pytest.raises(InputError, match="no matrix to fsaverage"):
        read_mapper(write(tmp_path / "f.hdf", flat)).project(np.ones(N_VOXELS))


def test_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "register.dat").write_text("DM01\n2.0\n")
    with pytest.raises(InputError, match="not an HDF5 file but .*") as error:
        read_mapper(tmp_path / "register.dat")
    assert error.value.code == "E-FMT"
    assert "_mappers.hdf" in str(error.value)
