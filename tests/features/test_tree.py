"""The authors' feature tree: what is written, what is kept, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wernicke.core.errors import InputError, RunInUseError
from wernicke.features.tree import RECORD, ModelFolder

SETTINGS = {"model_fingerprint": "f", "mode": "corrected"}


def folder(root, *, settings=SETTINGS, code="c", dtype="float16", model="GPT2", hparams="story_cw1_avgToken_ALL"):
    return ModelFolder(root, "semantic", hparams, model, settings=settings, facts={}, code=code, dtype=dtype)


def parts(values, step=3, layers=("layer1", "layer2")):
    for start in range(0, len(values), step):
        yield {layer: values[start : start + step] * (i + 1) for i, layer in enumerate(layers)}


VALUES = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)


def test_files_are_the_authors_and_nothing_is_made_twice(tmp_path):
    with folder(tmp_path) as tree:
        assert tree.missing("Crown_001", ["layer1", "layer2"], "x") == ["layer1", "layer2"]
        tree.write("Crown_001", ["layer1", "layer2"], 8, parts(VALUES), "x")
    path = tmp_path / "semantic/story_cw1_avgToken_ALL/GPT2/layer2/Crown_001.npy"
    found = np.load(path)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, (2 * VALUES).astype(np.float16))
    with folder(tmp_path) as tree:
        assert tree.missing("Crown_001", ["layer1", "layer2", "layer3"], "x") == ["layer3"]
        assert tree.verify() == []
    record = json.loads((path.parents[1] / RECORD).read_text())
    assert sorted(record["files"]) == ["layer1/Crown_001.npy", "layer2/Crown_001.npy"]
    assert not any("layer" in p.name for p in path.parents[1].iterdir() if p.is_file())  # theirs lists by that word


def test_damage_other_content_and_other_code_are_made_again(tmp_path, caplog):
    with folder(tmp_path) as tree:
        tree.write("Crown_001", ["layer1", "layer2"], 8, parts(VALUES), "x")
        path = tree.folder / "layer1/Crown_001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with folder(tmp_path) as tree:
        assert tree.missing("Crown_001", ["layer1", "layer2"], "x") == ["layer1"]
        assert tree.missing("Crown_001", ["layer2"], "y") == ["layer2"]
    with folder(tmp_path, code="d") as tree:
        assert tree.missing("Crown_001", ["layer2"], "x") == ["layer2"]
    path.unlink()
    with folder(tmp_path) as tree:
        assert tree.missing("Crown_001", ["layer1"], "x") == ["layer1"]
    assert "E-SUM" in caplog.text
    assert "code has changed" in caplog.text


def test_other_settings_are_refused_and_nothing_changes(tmp_path):
    with folder(tmp_path) as tree:
        tree.write("Crown_001", ["layer1", "layer2"], 8, parts(VALUES), "x")
        before = {p: p.read_bytes() for p in tree.folder.rglob("*.npy")}
    for other in ({"settings": {**SETTINGS, "mode": "faithful"}}, {"dtype": "float32"}):
        with pytest.raises(InputError, match="other settings") as caught, folder(tmp_path, **other):
            pass
        assert caught.value.code == "E-CFG"
    assert {p: p.read_bytes() for p in before} == before


def test_what_somebody_else_made_is_left_alone(tmp_path):
    path = tmp_path / "semantic/story_cw1_avgToken_ALL/GPT2/layer1/Crown_001.npy"
    path.parent.mkdir(parents=True)
    np.save(path, VALUES)
    with pytest.raises(InputError, match="did not write"), folder(tmp_path):
        pass
    np.testing.assert_array_equal(np.load(path), VALUES)
    with folder(tmp_path, model="BERT") as tree:
        tree.write("Crown_001", ["layer1", "layer2"], 8, parts(VALUES), "x")
    np.save(tree.folder / "layer1/Crown_002.npy", VALUES)
    with pytest.raises(InputError, match="Crown_002"), folder(tmp_path, model="BERT"):
        pass


def test_a_stop_leaves_no_half_file(tmp_path):
    def stops():
        yield from parts(VALUES[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), folder(tmp_path) as tree:
        tree.write("Crown_001", ["layer1", "layer2"], 8, stops(), "x")
    assert [p.name for p in tree.folder.rglob("*") if p.is_file()] in (
        ["features.json", ".lock"],
        [".lock", "features.json"],
    )
    # Killed between the last rename and the record: the file is there, the record says that it was being written.
    with folder(tmp_path) as tree:
        tree._write_record(writing=["layer1/Crown_001.npy"])
        (tree.folder / "layer1").mkdir(exist_ok=True)
        np.save(tree.folder / "layer1/Crown_001.npy", VALUES)
    with folder(tmp_path) as tree:
        assert tree.missing("Crown_001", ["layer1"], "x") == ["layer1"]


def test_rows_and_values_that_cannot_be(tmp_path):
    with folder(tmp_path) as tree:
        tree.write("Crown_001", ["layer1", "layer2"], 5, parts(VALUES), "x")  # what comes behind the run is left out
        assert np.load(tree.folder / "layer1/Crown_001.npy").shape == (5, 5)
        for values, n, code in (
            (VALUES, 9, "E-SHAPE"),
            (VALUES * np.nan, 8, "E-NONFIN"),
            (VALUES * 1e6, 8, "E-NONFIN"),
        ):
            with pytest.raises(InputError) as caught:
                tree.write("Crown_002", ["layer1"], n, parts(values, layers=("layer1",)), "x")
            assert caught.value.code == code
            assert not (tree.folder / "layer1/Crown_002.npy").exists()
        with pytest.raises(InputError, match="E-SHAPE"):
            tree.write("Crown_002", ["layer1"], 3, iter(()), "x")


def test_names_and_the_lock(tmp_path):
    for kind in ({"model": "../x"}, {"hparams": "a/b"}, {"model": ""}):
        with pytest.raises(InputError, match="E-CFG"):
            folder(tmp_path, **kind)
    with folder(tmp_path), pytest.raises(RunInUseError), folder(tmp_path):
        pass


@pytest.mark.parametrize("content", ["[]", '{"schema": "other"}', '{"schema": "wernicke-features/1"}', "{"])
def test_a_damaged_record_is_refused(tmp_path, content):
    with folder(tmp_path) as tree:
        pass
    (tree.folder / RECORD).write_text(content)
    with pytest.raises(InputError, match=RECORD), folder(tmp_path):
        pass
