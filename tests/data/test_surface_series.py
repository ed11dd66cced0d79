"""GIFTI and CIFTI files that nibabel wrote, and broken and hostile ones."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

import tiny_bids as tiny
from wernicke.core.errors import InputError
from wernicke.data.surface_series import join_hemispheres, mesh_name, read_cifti, read_gifti

DATA = np.random.default_rng(0).standard_normal((6, 20)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["ASCII", "B64BIN", "B64GZ"])
@pytest.mark.parametrize("two_d", [False, True])
def test_gifti_as_nibabel_writes_it(tmp_path: Path, encoding: str, two_d: bool) -> None:
    arrays = [DATA.T] if two_d else list(DATA)
    image = GiftiImage(
        darrays=[GiftiDataArray(np.ascontiguousarray(a), encoding=f"GIFTI_ENCODING_{encoding}") for a in arrays],
        meta=GiftiMetaData({"TimeStep": "800"}),
    )
    nib.save(image, tmp_path / "a.func.gii")
    values, tr_s = read_gifti(tmp_path / "a.func.gii")
    np.testing.assert_allclose(values, DATA, atol=1e-5 if encoding == "ASCII" else 0)
    assert tr_s == 0.8


def test_gifti_column_major_and_big_endian(tmp_path: Path) -> None:
    text = base64.b64encode(DATA.T.astype(">f4").tobytes(order="F")).decode()
    path = gifti(tmp_path, text, Encoding="Base64Binary", Endian="BigEndian",
                 ArrayIndexingOrder="ColumnMajorOrder", Dim0="20", Dim1="6")  # fmt: skip
    np.testing.assert_array_equal(read_gifti(path)[0], DATA)
    np.testing.assert_array_equal(nib.load(path).darrays[0].data, DATA.T)  # nibabel reads our fixture the same way


def gifti(folder: Path, text: str, prolog: str = "", **attributes: str) -> Path:
    given = {"DataType": "NIFTI_TYPE_FLOAT32", "Dim0": "20", "Encoding": "GZipBase64Binary", "Endian": "LittleEndian",
             "ArrayIndexingOrder": "RowMajorOrder"} | attributes  # fmt: skip
    given["Dimensionality"] = str(sum(key.startswith("Dim") for key in given))
    words = " ".join(f'{k}="{v}"' for k, v in given.items())
    path = folder / "bad.func.gii"
    path.write_text(f'<?xml version="1.0"?>{prolog}<GIFTI Version="1.0" NumberOfDataArrays="1"><DataArray {words}>'
                    f"<Data>{text}</Data></DataArray></GIFTI>")  # fmt: skip
    return path


WHOLE = base64.b64encode(zlib.compress(DATA[0].tobytes())).decode()
BOMB = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()


@pytest.mark.parametrize(
    ("text", "attributes", "code"),
    [
        ("", {"Encoding": "ExternalFileBinary", "ExternalFileName": "/etc/passwd"}, "E-UNSAFE"),
        (WHOLE, {"ExternalFileName": "x.bin"}, "E-UNSAFE"),
        (WHOLE, {"DataType": "NIFTI_TYPE_RGB24"}, "E-HDR"),
        (WHOLE, {"Dim0": "-3"}, "E-HDR"),
        (WHOLE, {"Dim0": "2000000000"}, "E-SIZE"),
        (WHOLE, {"Dim0": "21"}, "E-TRUNC"),
        (WHOLE, {"Dim0": "19"}, "E-FMT"),
        (BOMB, {}, "E-FMT"),
        ("!!!!", {}, "E-TRUNC"),
        ("a b", {"Encoding": "ASCII"}, "E-FMT"),
    ],
)
def test_bad_gifti(tmp_path: Path, text: str, attributes: dict, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_gifti(gifti(tmp_path, text, **attributes))
    assert caught.value.code == code


def test_gifti_entities_and_other_files(tmp_path: Path) -> None:
    path = gifti(tmp_path, WHOLE, prolog='<!DOCTYPE GIFTI [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>')
    with pytest.raises(InputError, match="declares XML entities"):
        read_gifti(path)
    for content in (b"", b"PK\x03\x04", b"<?xml version='1.0'?><GIFTI><DataArray>"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="E-FMT"):
            read_gifti(path)


def test_a_vertex_that_is_nan_some_of_the_time(tmp_path: Path) -> None:
    left = DATA.copy()
    left[2, 4] = np.nan
    with pytest.raises(InputError, match="vertex 4 of the left hemisphere"):
        join_hemispheres(left, DATA, "fsaverage5", tmp_path)
    with pytest.raises(InputError, match="left has 5 time points, right 6"):
        join_hemispheres(DATA[:5], DATA, "fsaverage5", tmp_path)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    axis = tiny.cifti_axis(np.array([0, 2]), np.array([1]), np.array([[0, 1, 2]]))
    tiny.write_cifti(tmp_path / "a.dtseries.nii", DATA[:, :4], axis)
    return tmp_path / "a.dtseries.nii"


def change(path: Path, at: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("at", "content", "code"),
    [
        (4, b"n+1\0", "E-FMT"),
        (16 + 8 * 5, struct.pack("<q", 10**12), "E-SIZE"),
        (16 + 8 * 5, struct.pack("<q", 7), "E-TRUNC"),
        (16, struct.pack("<q", 3), "E-HDR"),
        (12, struct.pack("<h", 1792), "E-HDR"),
        (168, struct.pack("<q", 10**9), "E-HDR"),
        (560, b"<!ENTITY a 'b'>", "E-UNSAFE"),
        (560, b"\0" * 60, "E-FMT"),
    ],
)
def test_bad_cifti(dense: Path, at: int, content: bytes, code: str) -> None:
    read_cifti(dense)
    change(dense, at, content)
    with pytest.raises(InputError) as caught:
        read_cifti(dense)
    assert caught.value.code == code


def test_cifti_that_is_no_series_or_not_finite(tmp_path: Path) -> None:
    axis = tiny.cifti_axis(np.array([0, 2]), np.array([1]), np.array([[0, 1, 2]]))
    data = DATA[:, :4].copy()
    data[1, 1] = np.inf
    tiny.write_cifti(tmp_path / "a.dtseries.nii", data, axis)
    with pytest.raises(InputError, match="E-NONFIN"):
        read_cifti(tmp_path / "a.dtseries.nii")
    scalars = nib.cifti2.ScalarAxis([str(i) for i in range(6)])
    nib.save(nib.Cifti2Image(DATA[:, :4], (scalars, axis)), tmp_path / "b.dscalar.nii")
    with pytest.raises(InputError, match="found axes ScalarAxis, BrainModelAxis"):
        read_cifti(tmp_path / "b.dscalar.nii")


@pytest.mark.parametrize("read", [read_cifti, read_gifti])
def test_mutations_raise_nothing_else(dense: Path, tmp_path: Path, read) -> None:
    if read is read_gifti:
        dense = tmp_path / "a.func.gii"
        nib.save(GiftiImage(darrays=[GiftiDataArray(row) for row in DATA]), dense)
    whole = np.frombuffer(dense.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    path = tmp_path / f"m{''.join(dense.suffixes)}"
    n_refused = 0
    for i in range(300):
        changed = whole.copy()
        changed[rng.integers(0, min(len(whole), 600 if i % 2 else 3000), 1 + i % 4)] = rng.integers(0, 256)
        path.write_bytes(changed.tobytes())
        try:
            read(path)
        except InputError:
            n_refused += 1
    assert n_refused > 50


@pytest.mark.parametrize(
    ("n_vertices", "space", "name"),
    [
        (10242, "fsaverage5", "fsaverage5"),
        (10242, "", "fsaverage5"),
        (10242, "fsaverage", "fsaverage"),  # den-10k
        (32492, "fsLR", "fsLR"),
        (9000, "fsnative", "fsnative"),
        (9000, "", "fsnative"),
    ],
)
def test_names_of_meshes(n_vertices, space, name):
    assert mesh_name(n_vertices, space) == name


@pytest.mark.parametrize(("n_vertices", "space"), [(642, "fsaverage5"), (10242, "fsaverage6"), (9000, "fsaverage")])
def test_a_mesh_of_another_number_of_vertices_is_refused(n_vertices, space):
    with pytest.raises(InputError, match=f"E-META space: found {n_vertices} vertices, {space} has"):
        mesh_name(n_vertices, space)
