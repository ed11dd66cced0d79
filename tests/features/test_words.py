"""Word vectors: files written by hand in the published formats."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.features.windows import annotation_windows
from wernicke.features.words import longest_words, read_word_vectors, word_features, words_of

VECTORS = {"cat": [1.0, 2.0], "dog": [3.0, 5.0], "new york": [7.0, 7.0]}


def text_file(path, header=True, vectors=VECTORS):
    lines = [f"{len(vectors)} 2"] * header + [f"{w} {a} {b}" for w, (a, b) in vectors.items()]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def binary_file(path, newline=b"\n"):
    content = b"3 2\n"
    for word, row in VECTORS.items():
        content += word.replace(" ", "_").encode() + b" " + np.array(row, "<f4").tobytes() + newline
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.vec", "a.txt", "a.vec.gz"])
def test_text_files(tmp_path, name):
    found = read_word_vectors(text_file(tmp_path / name))
    assert list(found.words) == ["cat", "dog", "new york"]
    np.testing.assert_array_equal(found.values, list(VECTORS.values()))


def test_glove_has_no_header(tmp_path):
    path = text_file(tmp_path / "g.txt", header=False)
    found = read_word_vectors(path, words=["dog", "bird"])
    assert found.words == {"dog": 0}
    assert found.values.tolist() == [[3, 5]]


def test_numbers_parted_by_tabs(tmp_path):
    path = tmp_path / "t.txt"
    for head in ("", "3 2\n", "3\t2\n"):
        path.write_text(
            head + "".join(f"{w}\t{a}\t{b}\n" for w, (a, b) in VECTORS.items() if " " not in w) + "x\t7\t7\n"
        )
        found = read_word_vectors(path)
        assert list(found.words) == ["cat", "dog", "x"]
        np.testing.assert_array_equal(found.values, list(VECTORS.values()))
    path.write_text("cat\t1 2\n")
    with pytest.raises(InputError, match="tabs and by blanks"):
        read_word_vectors(path)


def test_a_file_shorter_than_its_first_line_says(tmp_path):
    path = text_file(tmp_path / "a.vec")
    path.write_text(path.read_text().replace("3 2\n", "400000 2\n"))
    with pytest.raises(InputError, match="E-TRUNC.*holds 3 words.*400000"):
        read_word_vectors(path)


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_binary_files(tmp_path, newline):
    found = read_word_vectors(binary_file(tmp_path / "w.bin", newline))
    assert list(found.words) == ["cat", "dog", "new_york"]
    np.testing.assert_array_equal(found.values, list(VECTORS.values()))


def test_mean_over_words_then_annotators(tmp_path):
    vectors = read_word_vectors(text_file(tmp_path / "a.vec"))
    windows = annotation_windows([["Cat dog zebra", "dog"], ["zebra", ".."], ["zebra", "cat"]], run="r")
    found = word_features(windows, vectors)
    # The unknown word does not count; a text without any known word counts as none.
    np.testing.assert_allclose(found.bands["words"], [[(2 + 3) / 2, (3.5 + 5) / 2], [0, 0], [1, 2]])
    assert found.provenance["n_empty"] == 1
    assert found.provenance["n_words"] == 6
    assert found.provenance["n_unknown_words"] == 2
    assert found.provenance["unknown_words"] == ["zebra"]


def test_punctuation_is_only_lost_in_faithful(tmp_path):
    vectors = read_word_vectors(text_file(tmp_path / "a.vec"))
    windows = annotation_windows([["cat.,dog!"], ["cat"]], run="r")
    assert {"cat", "dog", "cat.,dog!"} <= words_of(windows)
    np.testing.assert_allclose(word_features(windows, vectors).bands["words"], [[2, 3.5], [1, 2]])
    np.testing.assert_allclose(word_features(windows, vectors, mode="faithful").bands["words"], [[0, 0], [1, 2]])


def test_no_known_word_is_refused(tmp_path):
    vectors = read_word_vectors(text_file(tmp_path / "a.vec"))
    with pytest.raises(InputError, match="none of 2 words"):
        word_features(annotation_windows([["zebra zoo"]], run="r"), vectors)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.vec", b"cat 1 2\ndog 1\n", "E-SHAPE"),
        ("a.vec", b"cat 1 2\ndog 1 x\n", "E-FMT"),
        ("a.vec", b"cat 1 nan\n", "E-NONFIN"),
        ("a.vec", b"\xff\xfe 1 2\n", "E-FMT"),
        ("a.vec", b"", "E-META"),
        ("a.vec", pickle.dumps({"cat": [1.0]}), "E-FMT"),
        ("a.vec", b"99999999999 300\n", "E-HDR"),
        ("a.bin", b"3 2\ncat " + bytes(8) + b"dog", "E-TRUNC"),
        ("a.bin", b"3 2\ncat " + bytes(4), "E-TRUNC"),
        ("a.bin", b"3 999999\n", "E-HDR"),
        ("a.bin", b"no header", "E-HDR"),
        ("a.vec.gz", b"cat 1 2\n", "E-FMT"),
        ("a.vec.gz", gzip.compress(b"cat 1 2\n" * 999)[:-20], "E-TRUNC"),
        ("a.pkl", b"", "E-FMT"),
    ],
)
def test_files_that_cannot_be_right(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_word_vectors(tmp_path / name)
    assert caught.value.code == code


def test_flat_puts_known_words_side_by_side(tmp_path):
    vectors = read_word_vectors(text_file(tmp_path / "a.vec"))
    windows = annotation_windows([["cat zebra dog", "dog"], ["..", ".."], ["cat", ".."]], run="r")
    assert longest_words(windows, vectors) == 2
    found = word_features(windows, vectors, pool="flat", n_words=3).bands["words"]
    np.testing.assert_allclose(found, [[(1 + 3) / 2, (2 + 5) / 2, 3 / 2, 5 / 2, 0, 0], [0] * 6, [1, 2, 0, 0, 0, 0]])
    with pytest.raises(InputError, match="n_words"):
        word_features(windows, vectors, pool="flat", n_words=1)
