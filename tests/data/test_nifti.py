"""Files that nibabel accepts and that cannot be right (rows N1-N25 of the corpus of bad inputs)."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.data.nifti import check_tr, constant_voxels, read_header, read_mask, read_series

SHAPE = (4, 3, 2, 5)


@pytest.fixture
def whole(tmp_path):
    """A good, uncompressed file and its bytes."""
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.integers(0, 1000, SHAPE).astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_zooms((2.0, 2.0, 2.0, 1.5))
    image.header.set_xyzt_units("mm", "sec")
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    return path, bytearray(path.read_bytes())


def patched(path, content, offset, layout, *values):
    changed = bytearray(content)
    struct.pack_into("<" + layout, changed, offset, *values)
    path.write_bytes(bytes(changed))
    return path


def refused(code, path, call=read_header):
    with pytest.raises(InputError) as caught:
        call(path)
    message = str(caught.value)
    assert message.startswith(code + " "), message
    assert path.name in message
    assert message.count("\n") <= 1
    return message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_good_files_read_as_nibabel_reads_them(tmp_path, suffix, kind, dtype):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 200, SHAPE).astype(dtype)
    image = kind(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_zooms((2.0, 3.0, 4.0, 800.0))
    image.header.set_xyzt_units("mm", "msec")
    path = tmp_path / f"a{suffix}"
    nibabel.save(image, path)
    header = read_header(path)
    assert header.shape == SHAPE
    assert header.tr_s == pytest.approx(0.8)
    mask_path = tmp_path / "m.nii.gz"
    nibabel.save(nibabel.Nifti1Image((values[..., 0] > 100).astype(np.uint8), image.affine), mask_path)
    voxels = read_mask(mask_path, like=header)
    np.testing.assert_array_equal(
        read_series(header, voxels), nibabel.load(path).get_fdata()[voxels.mask].T.astype(np.float32)
    )


def test_scale_factors_are_applied(tmp_path, whole):
    path, content = whole
    patched(path, content, 112, "2f", 0.5, 10.0)
    header = read_header(path)
    mask = tmp_path / "m.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE[:3], np.uint8), header.affine), mask)
    values = read_series(header, read_mask(mask, like=header))
    np.testing.assert_allclose(values, nibabel.load(path).get_fdata().reshape(-1, SHAPE[3]).T, rtol=1e-6)


def test_big_endian(tmp_path):
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nibabel.Nifti1Image(values, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "b.nii")
    assert read_header(tmp_path / "b.nii").shape == SHAPE


@pytest.mark.parametrize(
    ("offset", "layout", "values", "code", "said"),
    [
        (40, "5h", (4, 30000, 30000, 30000, 30000), "E-SIZE", "header declares 1,620,000,000,000,000,352 bytes"),
        (42, "h", (40,), "E-TRUNC", "the file has"),
        (44, "h", (-4,), "E-HDR", "dim[2]"),
        (44, "h", (0,), "E-HDR", "dim[2]"),
        (40, "h", (0,), "E-HDR", "dim[0]"),
        (40, "h", (9,), "E-HDR", "dim[0]"),
        (40, "6h", (5, 4, 3, 2, 1, 5), "E-SHAPE", "3 or 4 axes"),
        (70, "h", (9999,), "E-HDR", "datatype"),
        (70, "h", (128,), "E-HDR", "datatype"),
        (108, "f", (-4.0,), "E-HDR", "vox_offset"),
        (108, "f", (1e9,), "E-HDR", "vox_offset"),
        (108, "f", (float("nan"),), "E-HDR", "vox_offset"),
        (112, "f", (float("nan"),), "E-HDR", "scl_slope"),
        (112, "f", (float("inf"),), "E-HDR", "scl_slope"),
        (116, "f", (float("nan"),), "E-HDR", "scl_inter"),
        (344, "4s", (b"abcd",), "E-FMT", "not a NIfTI"),
        (344, "4s", (b"ni1\0",), "E-FMT", ".hdr/.img pair"),
        (0, "i", (1,), "E-FMT", "not a NIfTI"),
        (123, "B", (1 | 8,), "E-HDR", "xyzt_units: found the unit of length 1, metres"),
        (123, "B", (3 | 16,), "E-HDR", "xyzt_units: found the unit of length 3, micrometres"),
        (123, "B", (5,), "E-HDR", "stands for no unit"),
    ],
)
def test_headers_that_cannot_be(whole, offset, layout, values, code, said):
    message = refused(code, patched(*whole, offset, layout, *values))
    assert said in message


def test_no_unit_of_length_means_millimetres(whole):
    header = read_header(patched(*whole, 123, "B", 8))
    np.testing.assert_array_equal(header.affine, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_units_of_length_in_nifti_2(tmp_path):
    image = nibabel.Nifti2Image(np.zeros(SHAPE, np.int16), np.diag([3e-3, 3e-3, 3e-3, 1.0]))
    image.header.set_xyzt_units("meter", "sec")
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert "set_xyzt_units('mm', 'sec')" in refused("E-HDR", tmp_path / "a.nii.gz")


def test_singular_affine(whole):
    path, content = whole
    changed = bytearray(content)
    struct.pack_into("<h", changed, 254, 1)  # sform_code
    struct.pack_into("<12f", changed, 280, *[0.0] * 12)
    path.write_bytes(bytes(changed))
    refused("E-HDR", path)


@pytest.mark.parametrize("pixdim4", [0.0, -2.0, float("nan")])
def test_repetition_time(whole, pixdim4):
    path, content = whole
    assert check_tr(read_header(path), None) == 1.5
    assert check_tr(read_header(path), 1.5) == 1.5
    with pytest.raises(InputError, match="1.5 s, expected 2 s"):
        check_tr(read_header(path), 2.0)
    header = read_header(patched(path, content, 92, "f", pixdim4))
    with pytest.raises(InputError, match="E-META"):
        check_tr(header, None)
    with pytest.raises(InputError, match="E-META"):
        check_tr(header, 2.0)


def test_a_slope_of_zero_means_unscaled(whole):
    path, content = whole
    assert read_header(patched(path, content, 112, "f", 0.0)).shape == SHAPE


def test_not_images_at_all(tmp_path):
    cases = {
        "empty.nii": (b"", "E-FMT", "empty"),
        "text.nii": (b"hello", "E-FMT", "5 bytes"),
        "lfs.nii": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "E-FMT", "Git-LFS"),
        "page.nii.gz": (b"<!doctype html><html>404</html>", "E-FMT", "web page"),
        "plain.nii.gz": (b"x" * 400, "E-FMT", "not gzip"),
        "cut.nii": (struct.pack("<i", 348) + b"\0" * 96, "E-TRUNC", "100 bytes"),
        "noise.nii": (np.random.default_rng(0).bytes(4000), "E-FMT", "not a NIfTI"),
    }
    for name, (content, code, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert said in refused(code, tmp_path / name)
    refused("E-REF", tmp_path / "absent.nii")
    refused("E-REF", tmp_path)
    (tmp_path / "annex.nii.gz").symlink_to(".git/annex/objects/none")
    assert "datalad get" in refused("E-REF", tmp_path / "annex.nii.gz")


def test_every_flipped_bit_of_a_compressed_file_is_noticed(tmp_path, whole):
    """nibabel reads some of these without a word, with other values."""
    _, content = whole
    packed = gzip.compress(bytes(content), mtime=0)
    path = tmp_path / "f.nii.gz"
    path.write_bytes(packed)
    good = read_header(path)
    rng = np.random.default_rng(2)
    noticed = set()
    for bit in rng.choice(len(packed) * 8, 200, replace=False):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bytes(flipped))
        try:
            header = read_header(path)
        except InputError as error:
            noticed.add(error.code)
        else:  # gzip's own header has bits that change nothing: then the content is the same
            assert gzip.decompress(bytes(flipped)) == bytes(content)
            assert header.shape == good.shape
    assert {"E-SUM"} <= noticed <= {"E-SUM", "E-TRUNC", "E-FMT", "E-HDR", "E-SIZE"}


def test_gzip_bombs(tmp_path, whole):
    _, content = whole
    path = tmp_path / "bomb.nii.gz"
    # Few bytes that unpack to 96 MiB after the declared volumes.
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(bytes(content))
        for _ in range(96):
            file.write(bytes(2**20))
    refused("E-SIZE", path)
    declared = bytearray(content)
    struct.pack_into("<5h", declared, 40, 4, 2000, 2000, 2000, 10)
    path.write_bytes(gzip.compress(bytes(declared)))
    assert "over 200 times" in refused("E-SIZE", path)


def test_unused_bytes_are_said(whole, caplog):
    path, content = whole
    path.write_bytes(bytes(content) + bytes(10))
    assert read_header(path).shape == SHAPE
    assert "10 bytes after the declared volumes" in caplog.text


def test_constant_voxels():
    values = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    values[:, 2] = 3
    assert constant_voxels(values).tolist() == [False, False, True, False]
