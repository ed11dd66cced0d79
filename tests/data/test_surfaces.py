"""Voxels reach the cortex where formulas say; every kind of transform says the same."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.freesurfer import write_geometry
from scipy.ndimage import map_coordinates
from spheres import CENTRES, GRID, MOVE, PIAL_MM, RECORDING, SCAN, SCAN_SHAPE, WHITE_MM

from spheres import centres_mm, directions, moved, recording, tkr, volume_info, write_subject  # isort: skip

from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels
from wernicke.data.surfaces import read_cortex, read_surface, write_surface_maps

SIDE = {"left": "lh", "right": "rh"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_subject(tmp_path_factory.mktemp("subjects") / "sub01")


def text(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:.12f}" for value in row) for row in matrix)


def register_dat(matrix: np.ndarray = MOVE) -> str:
    """R takes the scan's tkregister coordinates to the recording's, the matrix worlds to worlds."""
    scan = SCAN @ np.linalg.inv(tkr(SCAN_SHAPE, SCAN))
    back = tkr(GRID, RECORDING) @ np.linalg.inv(RECORDING)
    return f"sub01\n3.000000\n3.000000\n0.150000\n{text(back @ matrix @ scan)}\nround\n"


def lta(kind: int, *, inverse: bool = False, shape: tuple[int, ...] = GRID) -> str:
    matrix = MOVE if kind == 1 else np.linalg.inv(RECORDING) @ MOVE @ SCAN
    scans = [volume_info(), volume_info(shape, RECORDING)]
    matrix, scans = (np.linalg.inv(matrix), scans[::-1]) if inverse else (matrix, scans)
    said = []
    for name, told in zip(("src", "dst"), scans, strict=True):
        lines = [f"{name} volume info", "valid = 1  # volume info valid", "filename = x.mgz",
                 "volume = " + " ".join(str(n) for n in told["volume"])]  # type: ignore[attr-defined]  # fmt: skip
        lines += [f"{key:9s}= " + " ".join(f"{v:.12e}" for v in told[key])  # type: ignore[attr-defined]
                  for key in ("voxelsize", "xras", "yras", "zras", "cras")]  # fmt: skip
        said += lines
    head = f"type      = {kind} # a linear transform\nnxforms   = 1\nmean      = 0.0 0.0 0.0\nsigma     = 1.0\n1 4 4\n"
    return f"# transform file\n{head}{text(matrix)}\n" + "\n".join(said) + "\nsubject sub01\nfscale 0.15\n"


def expected(side: str, radius: float) -> np.ndarray:
    return moved(radius * directions()[0] + CENTRES[SIDE[side]], MOVE)


@pytest.mark.parametrize(
    "kind", ["register.dat", "ras.lta", "vox.lta", "back.lta", "back-vox.lta", "plain.txt", "array"]
)
def test_every_kind_of_transform_puts_the_cortex_in_the_same_place(kind: str, subject: Path, tmp_path: Path) -> None:
    content = {"register.dat": register_dat(), "ras.lta": lta(1), "vox.lta": lta(0), "back.lta": lta(1, inverse=True),
               "back-vox.lta": lta(0, inverse=True), "plain.txt": text(MOVE) + "\n", "array": ""}[kind]  # fmt: skip
    (tmp_path / kind).write_text(content, encoding="utf-8")
    cortex = read_cortex(subject, recording(), MOVE if kind == "array" else tmp_path / kind)
    for side in SIDE:
        np.testing.assert_allclose(cortex.white[side], expected(side, WHITE_MM), atol=1e-3)
        np.testing.assert_allclose(cortex.pial[side], expected(side, PIAL_MM), atol=1e-3)


def test_without_a_transform_both_share_one_world(subject: Path) -> None:
    cortex = read_cortex(subject / "surf", recording())
    np.testing.assert_allclose(cortex.white["left"], WHITE_MM * directions()[0] + CENTRES["lh"], atol=1e-3)


def test_a_linear_field_is_sampled_where_the_vertices_are(tmp_path: Path) -> None:
    voxels = recording()
    cortex = read_cortex(write_subject(tmp_path / "sub", sphere=False), voxels, MOVE)
    slope = np.array([0.3, -0.2, 0.5])
    found = cortex.project(centres_mm(voxels) @ slope + 2.0)
    for side in SIDE:
        middle = expected(side, (WHITE_MM + PIAL_MM) / 2)  # depths are symmetrical around the middle
        np.testing.assert_allclose(found[side], middle @ slope + 2.0, atol=1e-2)


def test_voxels_without_a_value_count_for_nothing(tmp_path: Path) -> None:
    voxels = recording(0.7)
    cortex = read_cortex(write_subject(tmp_path / "sub", sphere=False), voxels, MOVE)
    values = np.full(voxels.n_voxels, 3.0)
    values[::5] = np.nan
    found = cortex.project(values)["left"]
    np.testing.assert_allclose(found[np.isfinite(found)], 3.0, atol=1e-5)
    known = np.zeros(GRID)
    known[voxels.mask] = np.isfinite(values)
    points = [d * expected("left", WHITE_MM) + (1 - d) * expected("left", PIAL_MM) for d in (0.1, 0.3, 0.5, 0.7, 0.9)]
    share = np.mean([map_coordinates(known, moved(p, np.linalg.inv(RECORDING)).T, order=1) for p in points], axis=0)
    sure = np.abs(share - 0.25) > 1e-3
    np.testing.assert_array_equal(np.isfinite(found)[sure], (share > 0.25)[sure])


def test_complete_volumes_are_sampled_as_nilearn_does(tmp_path: Path) -> None:
    from nilearn.surface import vol_to_surf

    voxels = recording()
    subject = write_subject(tmp_path / "sub", sphere=False)
    cortex = read_cortex(subject, voxels, MOVE)
    values = np.random.default_rng(3).normal(size=voxels.n_voxels)
    image = nibabel.Nifti1Image(values.reshape(GRID), RECORDING)
    faces = directions()[1]
    for side in SIDE:
        theirs = vol_to_surf(image, (expected(side, PIAL_MM), faces), inner_mesh=(expected(side, WHITE_MM), faces),
                             depth=[0.1, 0.3, 0.5, 0.7, 0.9])  # fmt: skip
        np.testing.assert_allclose(cortex.project(values)[side], theirs, atol=1e-3)


def test_labels_are_never_averaged(tmp_path: Path) -> None:
    voxels = recording()
    cortex = read_cortex(write_subject(tmp_path / "sub", sphere=False), voxels, MOVE)
    labels = np.where(centres_mm(voxels)[:, 0] > 0, 7.0, 2.0)
    found = cortex.project(labels, nearest=True)
    assert set(np.unique(np.concatenate(list(found.values())))) <= {2.0, 7.0}
    assert set(found["left"][expected("left", 22)[:, 0] < -4]) == {2.0}


def test_labels_of_complete_volumes_are_those_of_nilearn(tmp_path: Path) -> None:
    from nilearn.surface import vol_to_surf

    voxels = recording()
    cortex = read_cortex(write_subject(tmp_path / "sub", sphere=False), voxels, MOVE)
    labels = np.random.default_rng(0).integers(0, 3, voxels.n_voxels).astype(float)
    image = nibabel.Nifti1Image(labels.reshape(GRID), RECORDING)
    found = cortex.project(labels, nearest=True)
    for side in SIDE:
        theirs = vol_to_surf(image, (expected(side, PIAL_MM), directions()[1]), depth=[0.1, 0.3, 0.5, 0.7, 0.9],
                             inner_mesh=(expected(side, WHITE_MM), directions()[1]),
                             interpolation="nearest_most_frequent")  # fmt: skip
        assert (found[side] == theirs).mean() > 0.995  # but for points on the border of two voxels


def test_fsaverage5_takes_the_nearest_vertex_of_the_registered_sphere(subject: Path) -> None:
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    voxels = recording()
    cortex = read_cortex(subject, voxels, MOVE)
    assert cortex.mesh == "fsaverage5"
    found = cortex.project(centres_mm(voxels)[:, 2])["left"]
    assert found.shape == (10242,)
    # The subject's registered sphere is its own shape here, so a direction on fsaverage5 is a direction in the head.
    sphere = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")["sphere_left"]).coordinates / 100
    there = moved(22 * sphere + CENTRES["lh"], MOVE)[:, 2]
    assert np.abs(found - there).max() < 22 * 0.1  # 600 vertices: at most some 5 degrees away
    assert np.abs(found - there).mean() < 0.8


def test_surface_maps_open_in_nilearn(subject: Path, tmp_path: Path) -> None:
    from nilearn.surface import load_surf_data

    voxels = recording()
    cortex = read_cortex(subject, voxels, MOVE)
    r = centres_mm(voxels)[:, 1]
    columns = {"r": r, "best": (r > 0).astype(int), "roi": np.full(len(r), "x"), "coef": np.ones((2, len(r)))}
    written = write_surface_maps(tmp_path, columns, cortex)
    names = ["r.L.func.gii", "r.R.func.gii", "best.L.func.gii", "best.R.func.gii"]
    assert [path.name for path in written] == names
    loaded = load_surf_data(str(written[1]))
    np.testing.assert_allclose(loaded, cortex.project(r)["right"], rtol=1e-6)
    assert set(np.unique(load_surf_data(str(written[2])))) == {0.0, 1.0}


def test_vertices_outside_the_grid_have_no_value(tmp_path: Path) -> None:
    """A slab that ends in the middle of both shells, and no warning of it."""
    whole = recording()
    slab = Voxels(whole.mask[:, :, :20], whole.affine)
    cortex = read_cortex(write_subject(tmp_path / "sub", sphere=False), slab, MOVE)
    for nearest in (False, True):
        found = cortex.project(np.full(slab.n_voxels, 3.0), nearest=nearest)["left"]
        height = expected("left", 22)[:, 2]
        top = whole.affine[2, 3] + 3.0 * 19
        assert np.isnan(found[height > top + 4]).all()
        np.testing.assert_allclose(found[height < top - 4], 3.0, atol=1e-5)


def test_a_cortex_elsewhere_is_refused(subject: Path) -> None:
    away = MOVE.copy()
    away[0, 3] = 400.0
    with pytest.raises(InputError, match="of the recording's voxels lie on this cortex") as error:
        read_cortex(subject, recording(), away)
    assert error.value.code == "E-META"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lta(1, shape=(9, 9, 9)), "E-META"),
        (lta(1).replace("type      = 1", "type      = 14"), "E-FMT"),
        (lta(1).replace("valid = 1", "valid = 0"), "E-META"),
        (lta(1).replace("dst volume info", "other volume info"), "E-FMT"),
        ("1 0 0 0\n0 1 0 0\n", "E-FMT"),
        ("1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n", "E-HDR"),
        ("1 0 0 0\n0 nan 0 0\n0 0 1 0\n0 0 0 1\n", "E-HDR"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 5 1\n", "E-HDR"),
        ("#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0\n", "E-FMT"),
        ("", "E-FMT"),
        ("\x80\x04", "E-FMT"),
    ],
)
def test_a_transform_that_cannot_be_right_is_refused(content: str, code: str, subject: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as error:
        read_cortex(subject, recording(), tmp_path / "x")
    assert error.value.code == code


def test_a_surface_that_does_not_know_its_scan_needs_register_dat(tmp_path: Path) -> None:
    subject = write_subject(tmp_path / "sub", info=False)
    (tmp_path / "register.dat").write_text(register_dat(), encoding="utf-8")
    cortex = read_cortex(subject, recording(), tmp_path / "register.dat")
    np.testing.assert_allclose(cortex.white["right"], expected("right", WHITE_MM), atol=1e-3)
    with pytest.raises(InputError, match="no volume information"):
        read_cortex(subject, recording(), MOVE)


def test_damaged_surfaces_are_refused(tmp_path: Path) -> None:
    points, faces = directions(40)
    path = tmp_path / "lh.white"
    write_geometry(path, points, faces)
    whole = path.read_bytes()
    start = whole.index(b"\n\n") + 2
    huge = whole[:start] + np.array([2**31 - 1, 4], ">i4").tobytes() + whole[start + 8 :]
    wrong = whole[:-4] + np.array([40], ">i4").tobytes()
    holed = whole[: start + 8] + np.array([np.nan], ">f4").tobytes() + whole[start + 12 :]
    for content, code in ((b"", "E-FMT"), (b"\x80\x04", "E-FMT"), (whole[:20], "E-TRUNC"), (whole[:-30], "E-TRUNC"),
                          (huge, "E-TRUNC"), (wrong, "E-HDR"), (holed, "E-NONFIN")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read_surface(path)
        assert error.value.code == code
    assert read_surface_of(path, whole)[0].shape == (40, 3)


def read_surface_of(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    path.write_bytes(content)
    points, faces, geometry = read_surface(path)
    assert geometry is None
    return points, faces


def test_white_and_pial_of_different_meshes_are_refused(tmp_path: Path) -> None:
    subject = write_subject(tmp_path / "sub")
    points, faces = directions(40)
    write_geometry(subject / "surf" / "lh.pial", points, faces, volume_info=volume_info())
    with pytest.raises(InputError, match="does not belong to lh.white"):
        read_cortex(subject, recording())


def test_values_of_other_voxels_are_refused(subject: Path) -> None:
    cortex = read_cortex(subject, recording(), MOVE)
    with pytest.raises(InputError, match="found shape"):
        cortex.project(np.zeros(5))
    assert isinstance(cortex.voxels, Voxels)
