"""Regions from atlas images, FreeSurfer labels and fsROI.mat; fixtures by nibabel and scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from nibabel import gifti
from nibabel.freesurfer import write_annot
from spheres import CENTRES, MOVE, PIAL_MM, WHITE_MM, centres_mm, directions, moved, recording, write_subject

from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.rois import name_units, read_atlas, read_freesurfer, read_fsroi
from wernicke.data.surfaces import read_cortex

AFFINE = np.diag([2.0, 2, 2, 1])


def labelled(tmp_path: Path, dtype: type = np.int16, affine: np.ndarray = AFFINE) -> tuple[Path, np.ndarray]:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)) * 10
    path = tmp_path / "atlas_dseg.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels.astype(dtype), affine), path)
    return path, labels


def units() -> Voxels:
    return Voxels(np.random.default_rng(1).random((5, 6, 7)) < 0.5, AFFINE)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_an_atlas_image_gives_a_mask_a_region(dtype: type, tmp_path: Path) -> None:
    path, labels = labelled(tmp_path, dtype)
    rois = read_atlas(path, units(), {0: "background", 10: "V1", 20: "V2", 30: "IFG", 99: "nowhere"})
    assert list(rois) == ["V1", "V2", "IFG"]
    for number, name in ((10, "V1"), (20, "V2"), (30, "IFG")):
        np.testing.assert_array_equal(rois[name], labels[units().mask] == number)
    assert list(read_atlas(path, units())) == ["label_10", "label_20", "label_30"]


def test_names_come_from_bids_tables_data_frames_and_colour_tables(tmp_path: Path) -> None:
    path, _ = labelled(tmp_path)
    table = pd.DataFrame({"index": [10, 20, 30], "name": ["V1", "V2", "V2"], "color": ["#fff"] * 3})
    table.to_csv(tmp_path / "atlas_dseg.tsv", sep="\t", index=False)
    lut = "#No. Label Name:   R G B A\n\n0 Unknown 0 0 0 0\n10  V1  70 130 180 0\n20 V2 1 2 3 0\n 30 V2 3 4 5 0\n"
    (tmp_path / "LUT.txt").write_text(lut, encoding="utf-8")
    for names in (table, tmp_path / "atlas_dseg.tsv", tmp_path / "LUT.txt"):
        rois = read_atlas(path, units(), names)
        assert list(rois) == ["V1", "V2"]  # two numbers of one name are one region
        assert sum(map(np.count_nonzero, rois.values())) == np.count_nonzero(labelled(tmp_path)[1][units().mask])


def test_another_grid_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    path, _ = labelled(tmp_path, affine=np.diag([3.0, 3, 3, 1]))
    with pytest.raises(InputError, match=r"differs from the recording's by up to 1") as error:
        read_atlas(path, units())
    assert error.value.code == "E-META"
    assert "nilearn.image.resample_to_img(" in str(error.value)
    assert 'interpolation="nearest"' in str(error.value)
    with pytest.raises(InputError, match=r"the recording's is \(5, 6, 8\)"):
        read_atlas(path, Voxels(np.ones((5, 6, 8), dtype=bool), AFFINE))


@pytest.mark.parametrize(
    ("values", "names", "code"),
    [
        (np.full((5, 6, 7), 0.5), None, "E-FMT"),
        (np.full((5, 6, 7), np.nan), None, "E-NONFIN"),
        (np.zeros((5, 6, 7)), None, "E-META"),
        (np.zeros((5, 6, 7, 2)), None, "E-SHAPE"),
        (np.ones((5, 6, 7)), {2: "V2"}, "E-META"),
        (np.ones((5, 6, 7)), pd.DataFrame({"index": [1, 1], "name": ["a", "b"]}), "E-META"),
        (np.ones((5, 6, 7)), pd.DataFrame({"index": ["x"], "name": ["a"]}), "E-META"),
        (np.ones((5, 6, 7)), pd.DataFrame({"label": [1]}), "E-META"),
    ],
)
def test_atlases_that_cannot_be_right_are_refused(values: np.ndarray, names: Any, code: str, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), tmp_path / "a.nii")
    with pytest.raises(InputError) as error:
        read_atlas(tmp_path / "a.nii", units(), names)
    assert error.value.code == code


# FreeSurfer ------------------------------------------------------------------------------------------------------

N = 600
NAMES = ["unknown", "bankssts", "insula"]


def surface() -> Surface:
    rng = np.random.default_rng(2)
    return Surface(rng.random(N) < 0.8, rng.random(N) < 0.7, "fsnative")


def label_file(path: Path, vertices: np.ndarray) -> Path:
    rows = [f"{v} 0.0 0.0 0.0 0.0" for v in vertices]
    path.write_text("\n".join(["#!ascii label , from subject x", str(len(rows)), *rows]) + "\n", encoding="utf-8")
    return path


def annot_file(path: Path, labels: np.ndarray) -> Path:
    colours = np.array([[25, 5, 25, 0, 0], [10, 100, 40, 0, 0], [255, 192, 32, 0, 0]])
    colours[:, 4] = colours[:, 0] + colours[:, 1] * 2**8 + colours[:, 2] * 2**16
    write_annot(path, labels, colours, NAMES, fill_ctab=False)
    return path


def test_labels_and_annotations_over_vertices(tmp_path: Path) -> None:
    units = surface()
    labels = np.random.default_rng(3).integers(0, 3, N)
    chosen = np.array([5, 6, 7, 100, 599])
    gii = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(labels.astype(np.int32), intent="NIFTI_INTENT_LABEL")])
    for number, name in enumerate(["???", "Vis", "Def"]):
        entry = gifti.GiftiLabel(number, 1, 1, 1, 1)
        entry.label = name
        gii.labeltable.labels.append(entry)
    nibabel.save(gii, tmp_path / "atlas_hemi-R.label.gii")
    rois = read_freesurfer(
        [label_file(tmp_path / "lh.V1_exvivo.thresh.label", chosen), annot_file(tmp_path / "rh.aparc.annot", labels),
         tmp_path / "atlas_hemi-R.label.gii"], units,
    )  # fmt: skip
    assert list(rois) == ["lh-V1_exvivo.thresh", "rh-bankssts", "rh-insula", "rh-Vis", "rh-Def"]
    assert units.left is not None
    assert units.right is not None
    n_left = int(units.left.sum())
    np.testing.assert_array_equal(rois["lh-V1_exvivo.thresh"][:n_left], np.isin(np.flatnonzero(units.left), chosen))
    assert not rois["lh-V1_exvivo.thresh"][n_left:].any()
    for k, name in ((1, "rh-bankssts"), (2, "rh-insula"), (1, "rh-Vis"), (2, "rh-Def")):
        np.testing.assert_array_equal(rois[name][n_left:], labels[units.right] == k)
        assert not rois[name][:n_left].any()


def test_annotations_over_voxels_follow_the_cortex(tmp_path: Path) -> None:
    voxels = recording(0.9)
    cortex = read_cortex(write_subject(tmp_path / "sub"), voxels, MOVE)
    upper = np.where(directions()[0][:, 2] > 0, 1, 2)
    paths = [annot_file(tmp_path / f"{short}.aparc.annot", upper) for short in CENTRES]
    rois = read_freesurfer(paths, voxels, cortex)
    assert list(rois) == ["lh-bankssts", "lh-insula", "rh-bankssts", "rh-insula"]
    where = moved(centres_mm(voxels), np.linalg.inv(MOVE))
    for short, centre in CENTRES.items():
        radius, height = np.linalg.norm(where - centre, axis=1), (where - centre)[:, 2]
        for region, sign in (("bankssts", 1), ("insula", -1)):
            inside = rois[f"{short}-{region}"]
            assert (radius[inside] > WHITE_MM - 2.7).all()  # half a voxel's diagonal
            assert (radius[inside] < PIAL_MM + 2.7).all()
            assert (sign * height[inside] > -2.7).all()
            sure = (np.abs(radius - 22) < 0.5) & (sign * height > 4)
            assert inside[sure].mean() > 0.9


def test_labels_need_a_hemisphere_and_for_voxels_a_cortex(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which hemisphere"):
        read_freesurfer([label_file(tmp_path / "V1.label", np.array([1]))], surface())
    with pytest.raises(InputError, match="read_cortex"):
        read_freesurfer([label_file(tmp_path / "lh.V1.label", np.array([1]))], recording())
    with pytest.raises(InputError, match="no right hemisphere"):
        read_freesurfer([label_file(tmp_path / "rh.V1.label", np.array([1]))],
                        Surface(np.ones(N, dtype=bool), None, "fsnative"))  # fmt: skip


def test_labels_of_another_mesh_and_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = annot_file(tmp_path / "lh.x.annot", np.ones(N, dtype=int)).read_bytes()
    huge = np.array([2**31 - 1], ">i4").tobytes() + whole[4:]
    table = 4 + 8 * N + 8
    hostile = whole[:table] + np.array([2**31 - 1], ">i4").tobytes() + whole[table + 4 :]
    cases = [
        (".annot", annot_file(tmp_path / "lh.y.annot", np.ones(50, dtype=int)).read_bytes(), "E-SHAPE"),
        (".annot", whole[:900], "E-TRUNC"), (".annot", huge, "E-TRUNC"), (".annot", hostile, "E-FMT"),
        (".annot", whole[:-40], "E-HDR"), (".annot", b"", "E-TRUNC"), (".label", b"\x80\x04", "E-FMT"),
        (".label", b"#x\n1\n600 0 0 0 0\n", "E-SHAPE"), (".label", b"#x\n1\n-1 0 0 0 0\n", "E-SHAPE"),
        (".label.gii", b"<?xml version='1.0'?><!DOCTYPE g [<!ENTITY a 'b'>]><GIFTI/>", "E-UNSAFE"),
        (".gii", b"<GIFTI/>", "E-FMT"),
    ]  # fmt: skip
    for k, (suffix, content, code) in enumerate(cases):
        path = tmp_path / f"lh.case{k}{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read_freesurfer([path], surface())
        assert error.value.code == code, (k, error.value)


# fsROI.mat -------------------------------------------------------------------------------------------------------


def cell(items: list[Any]) -> np.ndarray:
    column = np.empty((len(items), 1), dtype=object)
    column[:, 0] = items
    return column


def fsroi_file(path: Path, regions: dict[str, np.ndarray], **options: Any) -> Path:
    """As MATLAB stores it: a 1 x 1 structure, names and voxels in column cells, voxels as columns of doubles."""
    voxels = cell([np.asarray(v, dtype=float)[:, None] for v in regions.values()])
    structure = {"subject": "DM01", "label": cell(list(regions)), "voxel": voxels, "note": 3.0}
    scipy.io.savemat(path, {"other": 1.0, "fsROI": structure}, **options)
    return path


REGIONS = {"ctx-lh-bankssts": [3, 8, 2], "Left-Thalamus": [9, 1], "ctx-rh-insula": [5], "ctx-rh-gone": [999]}


def authors(path: Path, tvoxels: np.ndarray) -> dict[str, np.ndarray]:
    """The published code's steps on scipy's reading."""
    read = scipy.io.loadmat(path)["fsROI"][0][0]
    labels = [entry[0][0] for entry in read[1]]
    voxels = [entry[0][:, 0] - 1 for entry in read[2]]
    found = {name: np.where(np.isin(tvoxels, v))[0] for name, v in zip(labels, voxels, strict=True)}
    return {name: v for name, v in found.items() if name[:3] == "ctx"}


@pytest.mark.parametrize("packed", [False, True])
def test_fsroi_gives_the_authors_regions(packed: bool, tmp_path: Path) -> None:
    path = fsroi_file(tmp_path / "fsROI.mat", {k: np.array(v) for k, v in REGIONS.items()}, do_compression=packed)
    tvoxels = np.array([7, 4, 1, 2, 40])  # counted from 0, in the columns' order
    rois = read_fsroi(path, tvoxels)
    expected = authors(path, tvoxels)
    assert list(rois) == ["ctx-lh-bankssts", "ctx-rh-insula"]
    for name, inside in rois.items():
        np.testing.assert_array_equal(np.flatnonzero(inside), expected[name])
    assert rois["ctx-lh-bankssts"].tolist() == [True, False, True, True, False]
    assert list(read_fsroi(path, np.append(tvoxels, 8), cortex_only=False)) == [
        "ctx-lh-bankssts", "Left-Thalamus", "ctx-rh-insula",
    ]  # fmt: skip


def test_fsroi_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fsROI.mat"
    for content, code in (
        ({"fsROI": np.ones(3)}, "E-FMT"), ({"x": 1.0}, "E-META"), ({"fsROI": {"a": 1.0, "b": 2.0, "c": 3.0}}, "E-FMT"),
        ({"fsROI": {"a": 1.0, "b": cell(["ctx-a"]), "c": cell([np.array([[0.0]])])}}, "E-META"),
        ({"fsROI": {"a": 1.0, "b": cell(["ctx-a"]), "c": cell([np.array([[1.5]])])}}, "E-META"),
        ({"fsROI": {"a": 1.0, "b": cell(["ctx-a", "ctx-a"]), "c": cell([np.array([[1.0]])] * 2)}}, "E-META"),
        ({"fsROI": {"a": 1.0, "b": cell(["ctx-a", "ctx-b"]), "c": cell([np.array([[1.0]])])}}, "E-FMT"),
        ({"fsROI": {"a": 1.0, "b": cell([2.0]), "c": cell([np.array([[1.0]])])}}, "E-FMT"),
    ):  # fmt: skip
        scipy.io.savemat(path, content)
        with pytest.raises(InputError) as error:
            read_fsroi(path, np.arange(10))
        assert error.value.code == code, content
    with h5py.File(path, "w") as file:
        file.create_group("fsROI")
    with pytest.raises(InputError, match="-v7"):
        read_fsroi(path, np.arange(10))


def test_flipped_bytes_end_in_one_kind_of_error(tmp_path: Path) -> None:
    whole = fsroi_file(tmp_path / "fsROI.mat", {k: np.array(v) for k, v in REGIONS.items()}).read_bytes()
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(400):
        harmed = bytearray(whole)
        harmed[int(rng.integers(126, len(whole)))] ^= int(rng.integers(1, 256))
        (tmp_path / "x.mat").write_bytes(harmed)
        try:
            read_fsroi(tmp_path / "x.mat", np.arange(10))
        except InputError:
            n_refused += 1
    assert n_refused > 50


def test_units_are_named_by_their_regions() -> None:
    rois = {"a": np.array([True, True, False]), "b": np.array([False, True, False])}
    assert name_units(rois).tolist() == ["a", "a|b", ""]
