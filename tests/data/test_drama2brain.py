"""drama2brain's readers. Files are written here from the specification: its key names, dtypes and index bases."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io

from wernicke.core.errors import InputError
from wernicke.data.drama2brain import load_drama2brain, load_tvoxels
from wernicke.data.drama2brain_check import check_drama2brain
from wernicke.data.drama2brain_stimuli import (
    list_layers,
    load_drama2brain_annotations,
    load_drama2brain_features,
)
from wernicke.data.drama2brain_tables import RUNS, row_table

N_VOLUME = 12
TVOXELS = np.array([2, 5, 6, 12])  # counted from 1
STORY = "semantic/story_cw1_avgToken_ALL/Llama2"


def volume(run, seed=0):
    """All voxels of a session: 8 s longer than what is kept."""
    rng = np.random.default_rng([seed, RUNS.index(run)])
    return rng.standard_normal((run.kept_s + 8, N_VOLUME)).astype(np.float32)


def write_cached(folder, subject="DM01", seed=0):
    (folder / subject).mkdir(parents=True)
    for run in RUNS:
        np.save(folder / subject / f"{run.title}_{run.number}_CerebCortex.npy", volume(run, seed)[:, TVOXELS - 1])


def write_vset(folder, subject="DM01", tvoxels=TVOXELS):
    (folder / subject).mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / subject / "vset_099.mat", {"tvoxels": np.asarray(tvoxels)[:, None]})


def write_sessions(root, subject="DM01"):
    """Sessions as MATLAB 7.3 and subject.json, whose entries have no names and whose titles hold others too."""
    films = {}
    for i, run in enumerate(RUNS):
        name = f"{run.title}part{run.number}.mat"
        path = root / "raw" / subject / f"session{i % 3}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", userblock_size=512) as file:
            file.create_dataset("dataDT", data=volume(run), chunks=(100, N_VOLUME), compression="gzip")
        films.setdefault(run.title, []).append({"file": f"fmri/{subject}/session{i % 3}/{name}"})
    movies = [{"title": title, "run": runs} for title, runs in films.items()]
    movies.append({"title": "Localizer", "run": [{"file": "x"}]})
    (root / "exp").mkdir(exist_ok=True)
    (root / "exp" / "subject.json").write_text(json.dumps([{"mov": movies}, {"mov": []}]))


def write_features(root, layer="layer17", width=(3,), dtype=np.float16, start=0):
    folder = root / "stim_features" / STORY / layer
    folder.mkdir(parents=True)
    for i, run in enumerate(RUNS):
        values = np.random.default_rng([start, i]).standard_normal((run.kept_s, *width)).astype(dtype)
        np.save(folder / f"{run.title}_{run.number + 1:03d}.npy", values)
    return folder


def write_annotations(root, level="story", n_annotators=2, header=True):
    folder = root / "captions"
    folder.mkdir(exist_ok=True)
    for run in RUNS:
        rows = [["annotator"] * n_annotators] if header else []
        rows += [[f"{run.title} {run.number} s{s} a{a}" if (s + a) % 5 else ".." for a in range(n_annotators)]
                 for s in range(run.kept_s)]  # fmt: skip
        text = "".join("\t".join(row) + "\n" for row in rows)
        (folder / f"{run.title}_run{run.number + 1}_{level}_each1sec_en.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with everything in it."""
    root = tmp_path_factory.mktemp("drama2brain")
    write_cached(root / "pre")
    write_vset(root / "bbregister")
    write_sessions(root)
    write_features(root)
    write_annotations(root)
    return root


def refused(code, function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_tables_are_those_of_the_reference(shared):
    with np.load(shared / "data" / "reference" / "drama2brain" / "inputs.npz", allow_pickle=False) as file:
        table = {key: file[f"table/{key}"] for key in ("title", "run", "kept_len", "all", "splitA", "splitB", "fold")}
    names = ("title", "number", "kept_s", "part_all", "part_splitA", "part_splitB", "fold")
    for ours, theirs in zip(names, table.values(), strict=True):
        assert pd.DataFrame(RUNS)[ours].tolist() == theirs.tolist()


def test_rows_are_those_of_the_paper():
    rows = row_table()
    counts = {name: rows[name].value_counts().to_dict() for name in ("part_all", "part_splitA", "part_splitB")}
    assert counts["part_all"] == {"TRAIN": 22262, "VALID": 7737}
    assert (counts["part_splitA"]["TRAIN"], counts["part_splitA"]["VALID"]) == (11091, 7110)
    assert (counts["part_splitB"]["TRAIN"], counts["part_splitB"]["VALID"]) == (10424, 7110)
    for part, sizes in (("part_all", [5523, 6313, 5980, 4446]), ("part_splitA", [2611, 2934, 2986, 2560]),
                        ("part_splitB", [2912, 2632, 2994, 1886])):  # fmt: skip
        train = rows[rows[part] == "TRAIN"]
        assert train.groupby("fold").size().tolist() == sizes
        assert (train.groupby("title")["fold"].nunique() == 1).all()
    assert len(pd.DataFrame(RUNS)) == 41


def test_cached_runs_are_cut_and_joined(whole):
    study = load_drama2brain(whole)
    recording = study.recordings["DM01"]
    expected = np.concatenate([volume(run)[20 if run.number else 0 : run.kept_s, TVOXELS - 1] for run in RUNS])
    np.testing.assert_array_equal(recording.values, expected)
    assert recording.values.dtype == np.float32
    assert recording.tr_s == 1.0
    samples = recording.samples
    second = samples[samples["run"] == "BreakingBad_002"]
    assert second["onset_s"].tolist() == list(range(20, 709))
    assert second["sample_id"].iloc[0] == "DM01-BreakingBad_002-0020"
    assert samples["part_all"].value_counts().to_dict() == {"TRAIN": 22262, "VALID": 7737}
    assert study.source.licence.startswith("CC0")
    np.testing.assert_array_equal(load_tvoxels(whole, "DM01"), TVOXELS - 1)


def test_sessions_give_the_same_as_the_cache(whole, tmp_path):
    for name in ("raw", "exp", "bbregister"):
        (tmp_path / name).symlink_to(whole / name)
    study = load_drama2brain(tmp_path, ["DM01"])
    np.testing.assert_array_equal(study.recordings["DM01"].values, load_drama2brain(whole).recordings["DM01"].values)
    assert study.events is None


def test_folders_may_be_named(whole, tmp_path):
    (tmp_path / "elsewhere").symlink_to(whole / "pre")
    study = load_drama2brain(tmp_path, folders={"fmri_pre": "elsewhere"}, annotations=False)
    assert list(study.recordings) == ["DM01"]
    shutil.copytree(whole / "bbregister", tmp_path / "a")
    shutil.copytree(whole / "bbregister", tmp_path / "b")
    assert "folders={'fmri_bbregister'" in refused("E-META", load_drama2brain, tmp_path)
    load_drama2brain(tmp_path, folders={"fmri_bbregister": tmp_path / "a"}, annotations=False)
    assert "fmri_pre" in refused("E-CFG", load_drama2brain, tmp_path, folders={"fmri_pro": "a"})
    refused("E-REF", load_drama2brain, tmp_path, folders={"fmri_pre": "nowhere"})


def test_joined_runs_are_used_again_while_nothing_changed(whole, tmp_path):
    pre, joined = tmp_path / "pre", tmp_path / "joined"
    shutil.copytree(whole / "pre", pre)
    expected = load_drama2brain(tmp_path).recordings["DM01"].values
    first = load_drama2brain(tmp_path, joined=joined).recordings["DM01"].values
    np.testing.assert_array_equal(first, expected)
    assert isinstance(first, np.memmap)
    written = (joined / "DM01.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(load_drama2brain(tmp_path, joined=joined).recordings["DM01"].values, expected)
    assert (joined / "DM01.npy").stat().st_mtime_ns == written
    path = pre / "DM01" / "Crown_0_CerebCortex.npy"
    np.save(path, 2 * np.load(path))
    again = load_drama2brain(tmp_path, joined=joined).recordings["DM01"]
    changed = (again.samples["run"] == "Crown_001").to_numpy()
    np.testing.assert_array_equal(again.values[changed], 2 * expected[changed])
    np.testing.assert_array_equal(again.values[~changed], expected[~changed])


def test_responses_that_cannot_be_right(whole, tmp_path):
    pre = tmp_path / "pre"
    shutil.copytree(whole / "pre", pre)
    path = pre / "DM01" / "Heroes_2_CerebCortex.npy"
    good = np.load(path)

    def with_run(values):
        np.save(path, values)

    with_run(good[:511])
    message = refused("E-SHAPE", load_drama2brain, tmp_path)
    assert "Heroes_003" in message
    assert "511 seconds, expected at least 512" in message
    with_run(good[:, :3])
    assert "3 voxels" in refused("E-SHAPE", load_drama2brain, tmp_path)
    with_run(good[:, 0])
    refused("E-SHAPE", load_drama2brain, tmp_path)
    with_run(np.where(np.arange(len(good))[:, None] == 30, np.nan, good))
    assert "Heroes_003" in refused("E-NONFIN", load_drama2brain, tmp_path)
    with_run(good.astype("U3"))
    refused("E-FMT", load_drama2brain, tmp_path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("E-UNSAFE", load_drama2brain, tmp_path)
    shutil.copy(pre / "DM01" / "Mentalist_3_CerebCortex.npy", path)  # longer: cut to another length
    assert "Heroes_003 and Mentalist_004 are identical" in refused("E-META", load_drama2brain, tmp_path)
    path.unlink()
    assert "Heroes_003" in refused("E-REF", load_drama2brain, tmp_path)
    assert "DM02" in refused("E-CFG", load_drama2brain, tmp_path, ["DM02"])
    refused("E-REF", load_drama2brain, tmp_path, ["DM03"])
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("E-REF", load_drama2brain, empty)


@pytest.mark.parametrize(
    ("tvoxels", "code", "text"),
    [
        ([0, 5, 6, 12], "E-META", "from 1"),
        ([2, 5, 6.5, 12], "E-META", "6.5"),
        ([2, 5, 5, 12], "E-META", "twice"),
        ([2, 5, 6, 13], "E-SHAPE", "voxel 13 of 12"),
        ([2, 5, -6, 12], "E-META", "-6"),
        ([2, 5, 6, 1e300], "E-META", "1e+300"),
    ],
)
def test_voxel_indices_that_cannot_be_right(whole, tmp_path, tvoxels, code, text):
    for name in ("raw", "exp"):
        (tmp_path / name).symlink_to(whole / name)
    write_vset(tmp_path / "bbregister", tvoxels=tvoxels)
    assert text in refused(code, load_drama2brain, tmp_path)


def test_cache_and_voxels_must_agree(whole, tmp_path):
    (tmp_path / "pre").symlink_to(whole / "pre")
    write_vset(tmp_path / "bbregister", tvoxels=[1, 2, 3])
    assert "4 voxels, vset_099.mat has 3" in refused("E-SHAPE", load_drama2brain, tmp_path)


def test_subject_json_that_cannot_be_right(whole, tmp_path):
    for name in ("raw", "bbregister"):
        (tmp_path / name).symlink_to(whole / name)
    (tmp_path / "exp").mkdir()
    path = tmp_path / "exp" / "subject.json"
    content = json.loads((whole / "exp" / "subject.json").read_text())

    def with_content(content):
        path.write_text(json.dumps(content))
        return tmp_path

    assert "6 subjects" in refused("E-META", load_drama2brain, with_content([]))
    refused("E-META", load_drama2brain, with_content([{"film": []}]))
    fewer = json.loads(json.dumps(content))
    fewer[0]["mov"][2]["run"].pop()
    assert "4 runs of Crown, expected 5" in refused("E-META", load_drama2brain, with_content(fewer))
    outside = json.loads(json.dumps(content))
    outside[0]["mov"][2]["run"][0]["file"] = "a/b/../secret.mat"
    refused("E-UNSAFE", load_drama2brain, with_content(outside))
    absent = json.loads(json.dumps(content))
    absent[0]["mov"][2]["run"][0]["file"] = "a/b/session0/absent.mat"
    assert "Crown_001" in refused("E-REF", load_drama2brain, with_content(absent))


def test_features_stand_in_the_rows_of_the_responses(whole, tmp_path):
    write_features(tmp_path, "layer2", width=(2, 5), dtype=np.float32, start=7)
    write_features(tmp_path, "layer10", start=8)
    features = load_drama2brain_features(tmp_path, {"story": f"{STORY}/layer2"})
    expected = np.concatenate(
        [np.random.default_rng([7, i]).standard_normal((run.kept_s, 2, 5)).astype(np.float32)
         .reshape(run.kept_s, 10)[20 if run.number else 0 :] for i, run in enumerate(RUNS)]
    )  # fmt: skip
    np.testing.assert_array_equal(features.bands["story"], expected)
    samples = load_drama2brain(whole).recordings["DM01"].samples
    assert features.index["run"].tolist() == samples["run"].tolist()
    assert features.index["onset_s"].tolist() == samples["onset_s"].tolist()
    assert load_drama2brain_features(whole, {"x": f"{STORY}/layer17"}).bands["x"].dtype == np.float16
    assert list_layers(tmp_path, *STORY.split("/")) == ["layer2", "layer10"]


def test_features_that_cannot_be_right(tmp_path):
    folder = write_features(tmp_path)
    path = folder / "Glee_003.npy"
    good = np.load(path)
    bands = {"story": f"{STORY}/layer17"}

    def with_run(values):
        np.save(path, values)

    with_run(good[:-1])
    message = refused("E-SHAPE", load_drama2brain_features, tmp_path, bands)
    assert "Glee_003.npy" in message
    assert "expected 601 rows" in message
    with_run(good[:, :2])
    assert "2 features, the first run has 3" in refused("E-SHAPE", load_drama2brain_features, tmp_path, bands)
    bad = good.copy()
    bad[40, 0] = np.inf
    with_run(bad)
    refused("E-NONFIN", load_drama2brain_features, tmp_path, bands)
    with_run(good.astype("U4"))
    refused("E-FMT", load_drama2brain_features, tmp_path, bands)
    path.unlink()
    assert "Glee_003" in refused("E-REF", load_drama2brain_features, tmp_path, bands)
    message = refused("E-REF", load_drama2brain_features, tmp_path, {"story": f"{STORY}/layer3"})
    assert "found layer17" in message
    refused("E-UNSAFE", load_drama2brain_features, tmp_path, {"story": "semantic/../../secret"})
    refused("E-UNSAFE", load_drama2brain_features, tmp_path, {"story": "/etc"})


@pytest.mark.parametrize("header", [True, False])
def test_annotations_are_one_row_a_caption(tmp_path, header):
    write_annotations(tmp_path, header=header)
    write_annotations(tmp_path, "objectiveAnnot50chara", 5, header=header)
    table = load_drama2brain_annotations(tmp_path)
    assert set(table["level"]) == {"Story", "Object"}
    story = load_drama2brain_annotations(tmp_path, ["story"])
    crown = story[(story["run"] == "Crown_002") & (story["annotator"] == 1)]
    seconds = [s for s in range(625) if (s + 1) % 5]
    assert crown["onset_s"].tolist() == seconds
    assert crown["text"].tolist() == [f"Crown 1 s{s} a1" for s in seconds]
    assert (story["duration_s"] == 1).all()


def test_annotations_come_with_the_study(whole):
    events = load_drama2brain(whole).events.table
    assert set(events["level"]) == {"Story"}
    assert set(events["run"]) == {run.run for run in RUNS}


def test_annotations_that_cannot_be_right(tmp_path):
    folder = write_annotations(tmp_path)
    path = folder / "SUITS_run2_story_each1sec_en.txt"
    good = path.read_text()
    path.write_text(good.rsplit("\n", 3)[0] + "\n")
    assert "967 lines, expected 968" in refused("E-SHAPE", load_drama2brain_annotations, tmp_path)
    path.write_text(good.replace("SUITS 1 s44 a0\t", "SUITS 1 s44 a0 "))
    assert "second 44 has 1 columns" in refused("E-FMT", load_drama2brain_annotations, tmp_path)
    path.write_bytes(good.encode("utf-16"))
    refused("E-FMT", load_drama2brain_annotations, tmp_path)
    path.unlink()
    assert "SUITS_run2_story" in refused("E-REF", load_drama2brain_annotations, tmp_path)
    assert "story" in refused("E-CFG", load_drama2brain_annotations, tmp_path, ["stori"])


def test_quotes_and_words_such_as_null_stay_text(tmp_path):
    folder = write_annotations(tmp_path)
    path = folder / "SUITS_run2_story_each1sec_en.txt"
    good = path.read_text()
    path.write_text(good.replace("SUITS 1 s44 a0", '"He said ""no"", twice"').replace("SUITS 1 s46 a0", "null"))
    table = load_drama2brain_annotations(tmp_path)
    texts = table[(table["run"] == "SUITS_002") & (table["annotator"] == 0)].set_index("onset_s")["text"]
    assert texts[44.0] == 'He said "no", twice'
    assert texts[46.0] == "null"


def test_check_says_what_is_there(whole):
    findings = check_drama2brain(whole)
    lines = {(f.state, f.what): f.text for f in findings}
    assert lines["ok", "DM01"] == "41 runs (41 cached), 4 voxels"
    assert lines["ok", f"{STORY}/layer17"] == "41 runs, 3 features"
    assert lines["ok", "Story"] == "41 runs of story"
    assert "speechTranscription" in lines["note", "Speech"]
    assert not [f for f in findings if f.state == "error"]


def test_check_lists_every_fault(whole, tmp_path):
    for name in ("pre", "stim_features", "captions"):
        shutil.copytree(whole / name, tmp_path / name)
    short = tmp_path / "pre" / "DM01" / "Crown_1_CerebCortex.npy"
    np.save(short, np.load(short)[:100])
    wide = tmp_path / "pre" / "DM01" / "Crown_2_CerebCortex.npy"
    np.save(wide, np.zeros((720, 9), np.float32))
    (tmp_path / "stim_features" / STORY / "layer17" / "Glee_002.npy").unlink()
    for number in (1, 3):
        (tmp_path / "captions" / f"Heroes_run{number}_story_each1sec_en.txt").write_text("..\n")
    texts = [f.text for f in check_drama2brain(tmp_path) if f.state == "error"]
    assert len(texts) == 5
    assert any("Crown_002" in text and "100 seconds" in text for text in texts)
    assert any("1 runs of 9" in text for text in texts)
    assert any("Glee_002.npy" in text for text in texts)
    assert sum("Heroes_run" in text for text in texts) == 2
    (tmp_path / "empty").mkdir()
    assert [(f.state, f.what) for f in check_drama2brain(tmp_path / "empty")] == [
        ("error", "responses"), ("note", "features"), ("note", "annotations"),
    ]  # fmt: skip
    refused("E-REF", check_drama2brain, tmp_path / "nowhere")
