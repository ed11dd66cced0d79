"""fMRIPrep's surfaces lie where FreeSurfer's do; what a config names is found, or refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse
from nibabel import gifti
from spheres import CENTRES, MOVE, PIAL_MM, WHITE_MM, directions, recording, write_subject

from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.sheets import SheetFiles, describe_sheet
from wernicke.data.surface_files import find_surfaces, read_surface
from wernicke.data.surfaces import Cortex, read_cortex, read_surface_map

LETTER = {"lh": "L", "rh": "R"}


def surf_gii(path: Path, points: np.ndarray, **metadata: str) -> Path:
    """As mris_convert and fMRIPrep write surfaces, by nibabel."""
    arrays = [
        gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET", datatype="NIFTI_TYPE_FLOAT32",
                             meta=gifti.GiftiMetaData(metadata)),
        gifti.GiftiDataArray(directions()[1].astype(np.int32), intent="NIFTI_INTENT_TRIANGLE",
                             datatype="NIFTI_TYPE_INT32"),
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    gifti.GiftiImage(darrays=arrays).to_filename(path)
    return path


def fmriprep(root: Path, subject: str = "sub-01", *, white: str = "white", sphere: bool = True) -> Path:
    """The cortex of `write_subject` in the scan's world, as fMRIPrep names it."""
    points = directions()[0]
    for short, letter in LETTER.items():
        start = root / subject / "anat" / f"{subject}_hemi-{letter}"
        for kind, mm in ((white, WHITE_MM), ("pial", PIAL_MM), ("midthickness", 22.0)):
            surf_gii(Path(f"{start}_{kind}.surf.gii"), mm * points + CENTRES[short])
        surf_gii(Path(f"{start}_space-fsLR_desc-reg_sphere.surf.gii"), 100 * points[::-1])
        if sphere:
            surf_gii(Path(f"{start}_desc-reg_sphere.surf.gii"), 100 * points)
    return root


def test_fmriprep_and_freesurfer_give_the_same_cortex(tmp_path: Path) -> None:
    theirs = read_cortex(write_subject(tmp_path / "fs"), recording(), MOVE)
    root = fmriprep(tmp_path / "prep")
    for folder in (root / "sub-01", root / "sub-01" / "anat"):
        ours = read_cortex(folder, recording(), MOVE)
        for side in ("left", "right"):
            np.testing.assert_allclose(ours.white[side], theirs.white[side], atol=1e-3)
            np.testing.assert_allclose(ours.pial[side], theirs.pial[side], atol=1e-3)
            np.testing.assert_allclose(ours.spheres[side], theirs.spheres[side], atol=1e-3)
    values = np.random.default_rng(0).normal(size=recording().n_voxels)
    np.testing.assert_allclose(ours.project(values)["left"], theirs.project(values)["left"], atol=1e-3)


def test_older_names_and_freesurfers_sphere_are_found(tmp_path: Path) -> None:
    root = fmriprep(tmp_path / "prep", white="smoothwm", sphere=False)
    assert read_cortex(root / "sub-01", recording()).mesh == "fsnative"
    write_subject(root / "sourcedata" / "freesurfer" / "sub-01")
    found = find_surfaces(root / "sub-01")
    assert found["left"].white.name == "sub-01_hemi-L_smoothwm.surf.gii"
    assert found["right"].sphere == root / "sourcedata" / "freesurfer" / "sub-01" / "surf" / "rh.sphere.reg"
    assert read_cortex(root / "sub-01", recording()).mesh == "fsaverage5"


def test_surfaces_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    points = directions()[0]
    centre = {f"VolGeomC_{axis}": value for axis, value in zip("RAS", ("1.5", "-17", "8"), strict=True)}
    with pytest.raises(InputError, match="tkregister coordinates") as error:
        read_surface(surf_gii(tmp_path / "lh.surf.gii", points, **centre))
    assert error.value.code == "E-META"
    holed = points.copy()
    holed[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        read_surface(surf_gii(tmp_path / "holed.surf.gii", holed))
    with pytest.raises(InputError, match="of 4"):
        read_surface(surf_gii(tmp_path / "few.surf.gii", points[:4]))
    (tmp_path / "cut.surf.gii").write_bytes((tmp_path / "lh.surf.gii").read_bytes()[:900])
    with pytest.raises(InputError) as error:
        read_surface(tmp_path / "cut.surf.gii")
    assert error.value.code == "E-FMT"
    (tmp_path / "register.dat").write_text(
        "s\n3\n3\n0.15\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\nround\n", encoding="utf-8"
    )
    root = fmriprep(tmp_path / "prep")
    with pytest.raises(InputError, match="moves tkregister coordinates"):
        read_cortex(root / "sub-01", recording(), tmp_path / "register.dat")
    (root / "sub-01" / "anat" / "sub-01_hemi-R_pial.surf.gii").unlink()
    with pytest.raises(InputError, match="hemi-R_pial"):
        find_surfaces(root / "sub-01")
    surf_gii(root / "sub-01" / "anat" / "sub-01_run-2_hemi-L_white.surf.gii", points)
    with pytest.raises(InputError, match="expected one"):
        find_surfaces(root / "sub-01")
    with pytest.raises(InputError, match="no cortical surfaces"):
        find_surfaces(root)


# What a config names ---------------------------------------------------------------------------------------------


def refused(code: str, match: str, **given: Any) -> None:
    read = {"subject": "01", "voxels": recording(), "n_voxels": recording().n_voxels, **given.pop("read", {})}

    def use() -> None:
        files = SheetFiles(**given)
        files.check(["01", "02"])
        files.read(**read)

    with pytest.raises(InputError, match=match) as error:
        use()
    assert error.value.code == code
    assert len(str(error.value).splitlines()) <= 2


def test_subjects_folders_are_found_by_name(tmp_path: Path) -> None:
    for name in ("sub-01", "02", "fsaverage"):
        write_subject(tmp_path / "fs" / name)
    files = SheetFiles(surfaces=str(tmp_path / "fs"))
    files.check(["01", "02"])
    for subject, folder in (("01", "sub-01"), ("02", "02")):
        assert {path.parents[1].name for path in files.files(subject)} == {folder}
        assert len(files.files(subject)) == 6
        sheet = files.read(subject, recording(), recording().n_voxels)
        assert isinstance(sheet, Cortex)
        assert describe_sheet(sheet) == "fsaverage5, by the subject's surfaces"
    own = SheetFiles(surfaces=str(tmp_path / "fs" / "sub-{subject}"))
    own.check(["01"])
    assert own.files("01") == files.files("01")
    single = SheetFiles(surfaces=str(tmp_path / "fs" / "sub-01" / "surf"))
    single.check(["01"])
    assert single.files("01") == files.files("01")
    assert SheetFiles().read("01", None, 5) is None
    assert SheetFiles().files("01") == []


def test_wrong_keys_and_paths_are_refused(tmp_path: Path) -> None:
    for name in ("sub-01", "sub-02"):
        write_subject(tmp_path / "fs" / name)
    fs = str(tmp_path / "fs")
    matrix = tmp_path / "matrix.txt"
    matrix.write_text("1 0 0 400\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", encoding="utf-8")
    refused("E-CFG", "one of the two", surfaces=fs, mapper="x.hdf")
    refused("E-CFG", "no data.surfaces", transform="x.lta")
    refused("E-REF", "data.surfaces", surfaces=str(tmp_path / "absent"))
    refused("E-REF", "no folder 03 or sub-03", surfaces=fs, read={"subject": "03"})
    refused("E-CFG", "one folder for 2 subjects", surfaces=f"{fs}/sub-01")
    refused("E-CFG", "one file for 2 subjects", surfaces=fs, transform=str(matrix))
    refused("E-CFG", "nothing says where 01's voxels lie", surfaces=fs, read={"voxels": None})
    refused("E-CFG", "only the grid is known", surfaces=fs, read={"in_world": False})
    refused("E-META", "another subject or transform", surfaces=fs, transform=str(matrix).replace("matrix", "{subject}"),
            read={"subject": matrix.rename(tmp_path / "01.txt").stem})  # fmt: skip
    (tmp_path / "fs" / "sub-01" / "surf" / "rh.pial").unlink()
    refused("E-REF", "rh.pial", surfaces=fs)


def mapper_file(path: Path, matrix: scipy.sparse.csr_matrix) -> str:
    with h5py.File(path, "w") as file:
        for part in ("data", "indices", "indptr", "shape"):
            file[f"voxel_to_fsaverage_{part}"] = getattr(matrix, part)
    return str(path)


def test_a_mappers_columns_follow_pycortex(tmp_path: Path) -> None:
    """pycortex's volumes are (z, y, x): of a mask it takes voxels with x running fastest, of a volume all of them."""
    mask = np.random.default_rng(0).random((4, 3, 5)) < 0.6
    voxels = Voxels(mask, np.eye(4))
    volume = np.random.default_rng(1).normal(size=mask.shape)
    turned = volume.transpose(2, 1, 0)  # as pycortex holds it
    vertex = np.arange(2 * 10242)
    for name, given in (("mask", turned[mask.transpose(2, 1, 0)]), ("grid", turned.ravel())):
        matrix = scipy.sparse.csr_matrix(
            (np.ones(len(vertex)), (vertex, vertex % len(given))), shape=(len(vertex), len(given))
        )
        files = SheetFiles(mapper=mapper_file(tmp_path / f"{name}.hdf", matrix))
        sheet = files.read("01", voxels, voxels.n_voxels)
        assert sheet is not None
        assert sheet.n_voxels == voxels.n_voxels
        found = sheet.project(volume[mask])["left"]
        expected = given if name == "mask" else np.where(mask.transpose(2, 1, 0).ravel(), given, np.nan)
        np.testing.assert_allclose(found[: len(given)], expected)
    with pytest.raises(InputError, match="grid's 72") as error:
        files.read("01", Voxels(np.ones((3, 4, 6), bool), np.eye(4)), 72)
    assert error.value.code == "E-META"
    with pytest.raises(InputError, match="the recording has 7"):
        files.read("01", None, 7)


def test_a_map_on_fsaverage5_is_read_from_finer_meshes_and_one_hemisphere(tmp_path: Path) -> None:
    fine = np.arange(40962, dtype=np.float32)
    (tmp_path / "maps").mkdir()
    image = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(fine, intent="NIFTI_INTENT_NONE")])
    image.to_filename(tmp_path / "maps" / "r.R.func.gii")
    found = read_surface_map(tmp_path, "r")
    assert found is not None
    np.testing.assert_array_equal(found[10242:], np.arange(10242))
    assert np.isnan(found[:10242]).all()
    assert read_surface_map(tmp_path, "p") is None
    assert read_surface_map(tmp_path, "r", Surface(None, np.ones(40962, bool), "fsLR")) is None
