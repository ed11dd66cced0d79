"""Maps are read back with nibabel, nilearn, pyarrow and zarr, never with what wrote them alone."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import zarr

from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.maps import read_maps, write_maps

AFFINE = np.array([[-2.0, 0, 0, 90.0], [0, 1.9, 0.1, -100.0], [0, -0.1, 1.9, -50.0], [0, 0, 0, 1]])


def voxels(seed: int = 0) -> Voxels:
    return Voxels(np.random.default_rng(seed).random((7, 6, 5)) < 0.4, AFFINE)


def surface(*, volume: bool = True, right: bool = True) -> Surface:
    rng = np.random.default_rng(1)
    return Surface(
        rng.random(50) < 0.8, rng.random(40) < 0.7 if right else None, "fsnative", voxels() if volume else None
    )


def digests(folder: Path) -> dict[str, str]:
    return {
        item.relative_to(folder).as_posix(): hashlib.sha256(item.read_bytes()).hexdigest()
        for item in sorted(folder.rglob("*"))
        if item.is_file()
    }


def columns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    r = rng.normal(size=n).astype(np.float32)
    r[3] = np.nan
    return {"r": r, "best_band": rng.integers(0, 5, n), "share_Llama2-layer32": rng.random(n), "kept": r > 0,
            "roi": np.array(["V1", "IFG"])[rng.integers(0, 2, n)], "coef_Story": rng.normal(size=(3, n))}  # fmt: skip


def test_a_volume_opens_in_nilearn_with_every_voxel_in_its_place(tmp_path: Path) -> None:
    from nilearn.image import load_img
    from nilearn.masking import apply_mask

    units = voxels()
    given = columns(units.n_voxels)
    write_maps(tmp_path, given, units)
    image = load_img(str(tmp_path / "maps" / "r.nii.gz"))
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 2)
    assert image.header.get_xyzt_units()[0] == "mm"
    data = image.get_fdata()
    assert np.isnan(data[~units.mask]).all()
    np.testing.assert_array_equal(data[units.mask].astype(np.float32), given["r"])
    mask = nibabel.Nifti1Image(units.mask.astype(np.uint8), AFFINE)
    picked = apply_mask(str(tmp_path / "maps" / "best_band.nii.gz"), mask, ensure_finite=False)
    np.testing.assert_array_equal(picked, given["best_band"])
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == [
        "best_band.nii.gz", "kept.nii.gz", "r.nii.gz", "share_Llama2-layer32.nii.gz",
    ]  # fmt: skip


def test_a_sheared_affine_has_no_quaternion(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.7
    write_maps(tmp_path, {"r": np.zeros(1)}, Voxels(np.ones((1, 1, 1), dtype=bool), sheared))
    image = nibabel.load(tmp_path / "maps" / "r.nii.gz")
    np.testing.assert_allclose(image.affine, sheared, atol=1e-6)
    assert int(image.header["qform_code"]) == 0


def test_table_and_zarr_hold_every_column_in_full(tmp_path: Path) -> None:
    units = voxels()
    given = columns(units.n_voxels)
    written = write_maps(tmp_path, given, units)
    assert [path.name for path in written[:2]] == ["scores.parquet", "maps.zarr"]
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(table) == ["voxel", "r", "best_band", "share_Llama2-layer32", "kept", "roi"]
    x, y, z = np.unravel_index(table["voxel"], units.mask.shape)
    assert units.mask[x, y, z].all()
    group = zarr.open_group(str(tmp_path / "maps.zarr"), mode="r")
    for name, values in given.items():
        if values.ndim == 1:
            np.testing.assert_array_equal(table[name].to_numpy(), values)
        if values.dtype.kind in "fib":
            assert group[name].dtype == values.dtype
            np.testing.assert_array_equal(group[name][...], values)
    assert sorted(group.array_keys()) == sorted([*(set(given) - {"roi"}), "voxel"])


def test_the_other_byte_order_is_written_as_well(tmp_path: Path) -> None:
    units = voxels()
    r = np.random.default_rng(3).standard_normal(units.n_voxels)
    numbers = np.arange(units.n_voxels)
    write_maps(tmp_path, {"r": r.astype(">f8"), "n": numbers.astype(">i4"), "w": r[None].astype(">f4")}, units)
    table, _ = read_maps(tmp_path)
    np.testing.assert_array_equal(table["r"], r)
    np.testing.assert_array_equal(table["n"], numbers)
    weights = zarr.open_group(str(tmp_path / "maps.zarr"), mode="r")["w"]
    np.testing.assert_array_equal(weights[...], r[None].astype(np.float32))


def test_hemispheres_open_in_nilearn(tmp_path: Path) -> None:
    from nilearn.surface import load_surf_data

    units = surface(volume=False)
    values = np.arange(units.n_units) + 0.5
    paths = write_maps(tmp_path, {"r": values}, units)
    assert [path.name for path in paths[2:]] == ["r.L.func.gii", "r.R.func.gii"]
    left, right = (load_surf_data(str(path)) for path in paths[2:])
    assert units.left is not None
    assert units.right is not None
    n_left = int(units.left.sum())
    np.testing.assert_array_equal(left[units.left], values[:n_left])
    np.testing.assert_array_equal(right[units.right], values[n_left:])
    assert np.isnan(left[~units.left]).all()
    assert nibabel.load(paths[2]).meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert nibabel.load(paths[3]).meta["AnatomicalStructurePrimary"] == "CortexRight"


def test_grayordinates_open_in_nibabel(tmp_path: Path) -> None:
    units = surface()
    values = np.arange(units.n_units, dtype=np.float32)
    (path,) = [path for path in write_maps(tmp_path, {"r": values}, units) if path.suffix == ".nii"]
    assert path.name == "r.dscalar.nii"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = nibabel.load(path)
    maps, models = (image.header.get_axis(k) for k in (0, 1))
    assert list(maps.name) == ["r"]
    data = np.asarray(image.dataobj)[0]
    np.testing.assert_array_equal(data, values)
    parts = {name: (models[where], data[where]) for name, where, _ in models.iter_structures()}
    left, _ = parts["CIFTI_STRUCTURE_CORTEX_LEFT"]
    np.testing.assert_array_equal(left.vertex, np.flatnonzero(units.left))
    assert left.nvertices["CIFTI_STRUCTURE_CORTEX_LEFT"] == 50
    volume, inside = parts["CIFTI_STRUCTURE_OTHER"]
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert units.volume is not None
    np.testing.assert_array_equal(
        units.volume.to_volume(inside)[tuple(volume.voxel.T)], values[-units.volume.n_voxels :]
    )


@pytest.mark.parametrize("units", [voxels(), surface(), surface(volume=False, right=False), None])
def test_what_was_written_is_read_back(units: Voxels | Surface | None, tmp_path: Path) -> None:
    n = 9 if units is None else units.n_voxels if isinstance(units, Voxels) else units.n_units
    write_maps(tmp_path, {"r": np.linspace(-1, 1, n)}, units)
    table, found = read_maps(tmp_path)
    np.testing.assert_array_equal(table["r"], np.linspace(-1, 1, n))
    assert type(found) is type(units)
    if isinstance(units, Voxels) and isinstance(found, Voxels):
        np.testing.assert_array_equal(found.mask, units.mask)
        np.testing.assert_array_equal(found.affine, units.affine)
    if isinstance(units, Surface) and isinstance(found, Surface):
        assert found.mesh == "fsnative"
        for side in ("left", "right"):
            np.testing.assert_array_equal(getattr(found, side), getattr(units, side))
        assert (found.volume is None) == (units.volume is None)
        assert set(table["hemisphere"]) == {"left", *(["right", "volume"] if units.volume is not None else [])}


def test_without_a_space_there_are_no_images_and_voxels_may_be_numbered(tmp_path: Path) -> None:
    assert [p.name for p in write_maps(tmp_path / "a", {"r": np.ones(3)}, None)] == ["scores.parquet", "maps.zarr"]
    assert not (tmp_path / "a" / "maps").exists()
    assert pd.read_parquet(tmp_path / "a" / "scores.parquet")["voxel"].tolist() == [0, 1, 2]
    write_maps(tmp_path / "b", {"voxel": np.array([7, 3, 5]), "r": np.ones(3)}, None)
    assert pd.read_parquet(tmp_path / "b" / "scores.parquet")["voxel"].tolist() == [7, 3, 5]


@pytest.mark.parametrize("units", [voxels(), surface()])
def test_same_inputs_same_bytes_also_over_an_older_result(units: Voxels | Surface, tmp_path: Path) -> None:
    n = units.n_voxels if isinstance(units, Voxels) else units.n_units
    write_maps(tmp_path / "a", columns(n), units)
    write_maps(tmp_path / "b", {"old": np.zeros(n), "r": np.zeros(n)}, units)
    write_maps(tmp_path / "b", columns(n), units)
    fresh, again = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert {name: again[name] for name in fresh} == fresh
    assert all(name.startswith("maps/old.") for name in set(again) - set(fresh))
    assert not [item for item in (tmp_path / "b").rglob(".t*")]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"../r": np.ones(3)}, "E-UNSAFE"),
        ({"a/b": np.ones(3)}, "E-UNSAFE"),
        ({".r": np.ones(3)}, "E-UNSAFE"),
        ({"": np.ones(3)}, "E-UNSAFE"),
        ({"r\0": np.ones(3)}, "E-UNSAFE"),
        ({"r": np.ones(3), "R": np.ones(3)}, "E-META"),
        ({}, "E-META"),
        ({"coef": np.ones((2, 3))}, "E-META"),
        ({"r": np.ones(3), "p": np.ones(4)}, "E-SHAPE"),
        ({"r": np.ones((2, 2, 3))}, "E-SHAPE"),
        ({"r": np.ones(0)}, "E-SHAPE"),
        ({"r": np.ones(3) + 1j}, "E-FMT"),
        ({"r": np.array([{}, {}, {}])}, "E-FMT"),
        ({"r": np.array([1.0, np.inf, 0.0])}, "E-NONFIN"),
    ],
)
def test_what_cannot_be_a_map_is_refused_and_nothing_is_written(
    given: dict[str, np.ndarray], code: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        write_maps(tmp_path / "run", given, None)
    assert error.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_columns_of_another_length_than_the_mask_and_reserved_names_are_refused(tmp_path: Path) -> None:
    units = voxels()
    with pytest.raises(InputError, match=f"expected {units.n_voxels} units"):
        write_maps(tmp_path, {"r": np.ones(units.n_voxels + 1)}, units)
    with pytest.raises(InputError, match="is made from `units`"):
        write_maps(tmp_path, {"r": np.ones(units.n_voxels), "voxel": np.ones(units.n_voxels)}, units)


def test_a_foreign_or_altered_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(InputError) as error:
        read_maps(tmp_path)
    assert error.value.code == "E-FMT"
    path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(InputError, match="pickle"):
        read_maps(tmp_path)
    table = pyarrow.table({"voxel": [0, 5], "r": [0.1, 0.2]})
    for note in (b"{", b"[]", b'{"shape": [2, 2, 1], "affine": 3}', b'{"shape": [99999, 99999, 99999], "affine": []}',
                 b'{"mesh": "x"}', b'{"shape": [-6, 1, 1], "affine": []}'):  # fmt: skip
        pyarrow.parquet.write_table(table.replace_schema_metadata({b"wernicke": note}), path)
        with pytest.raises(InputError) as error:
            read_maps(tmp_path)
        assert error.value.code == "E-META", note
