"""The Haxby reader on the bundled slice and on folders laid out as nilearn makes them."""

from __future__ import annotations

import gzip
import shutil
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.data.haxby import CATEGORIES, MOTION_COLUMNS, SOURCE, load_haxby

BUNDLED = Path(str(files("wernicke.data") / "haxby2001"))
N_RUNS, N_VOLUMES, TR_S = 2, 12, 2.5


@pytest.fixture(scope="module")
def study():
    return load_haxby()


def test_bundled_values_are_nibabels(study):
    recording = study.recordings["1"]
    bold = nibabel.load(BUNDLED / "bold.nii.gz").get_fdata()
    mask = nibabel.load(BUNDLED / "mask.nii.gz").get_fdata() > 0
    assert recording.values.dtype == np.float32
    np.testing.assert_array_equal(recording.values, bold[mask].T)
    assert recording.values.shape == (1452, 530)
    assert recording.tr_s == 2.5
    np.testing.assert_array_equal(recording.units.affine, nibabel.load(BUNDLED / "bold.nii.gz").affine)
    # The way back to the grid is the inverse.
    volume = recording.units.to_volume(recording.values[7])
    np.testing.assert_array_equal(volume[mask], bold[..., 7][mask])


def test_bundled_labels_are_the_papers_design(study):
    samples = study.recordings["1"].samples
    table = pd.read_csv(BUNDLED / "attributes_literal.txt", sep=" ", header=None, keep_default_na=False)
    assert samples["label"].tolist() == table[0].tolist()
    assert samples["run"].tolist() == table[1].tolist()
    shown = samples[samples["label"] != "rest"]
    assert set(shown["stimulus_id"]) == set(CATEGORIES) == set(study.stimuli.table["stimulus_id"])
    assert (shown.groupby("label").size() == 108).all()
    assert samples[samples["label"] == "rest"][["block", "stimulus_id"]].isna().all(axis=None)
    # 12 runs of 8 blocks of 9 volumes, each of one category, each category once a run
    blocks = shown.groupby("block")
    assert len(blocks) == 96
    assert (blocks.size() == 9).all()
    assert (blocks["label"].nunique() == 1).all()
    assert (shown.groupby("run")["block"].nunique() == 8).all()
    assert (shown.groupby(["run", "label"])["block"].nunique() == 1).all()
    assert (samples.groupby("run")["onset_s"].agg(["min", "max"]) == [0, 120 * 2.5]).all(axis=None)


def test_events_are_openfmris_onsets(study, shared):
    """Onsets and durations against the OpenfMRI files of the same subject, which were made from another source."""
    root = shared / "data" / "haxby2001" / "openfmri"
    names = {}
    for line in (root / "models/model001/condition_key.txt").read_text().splitlines():
        _, condition, name = line.split()
        names[condition] = name
    expected = set()
    for run in range(12):
        for condition, name in names.items():
            path = root / f"sub001/model/model001/onsets/task001_run{run + 1:03d}/{condition}.txt"
            onset_s, duration_s, _ = map(float, path.read_text().split())
            expected.add((run, onset_s, duration_s, name))
    events = study.events.table
    found = set(zip(events["run"], events["onset_s"], events["duration_s"], events["stimulus_id"], strict=True))
    assert found == expected


def test_motion_belongs_to_the_series(study, shared):
    """The motion files' runs are this series' runs: their slices are equal voxel by voxel."""
    root = shared / "data" / "haxby2001" / "openfmri" / "sub001" / "BOLD"
    recording = study.recordings["1"]
    for run in (0, 6, 11):
        folder = root / f"task001_run{run + 1:03d}"
        rows = recording.runs == run
        slice_ = nibabel.load(folder / "bold_1slice.nii.gz").get_fdata()
        np.testing.assert_array_equal(slice_[recording.units.mask].T, recording.values[rows])
        motion = np.loadtxt(folder / "bold_moest.txt")
        np.testing.assert_array_equal(recording.samples.loc[rows, list(MOTION_COLUMNS)], motion)
    # MCFLIRT refers to the middle volume of what it is given: here volume 726 of 1452, the first of run 6. So one
    # estimate was made over all runs, and rotations (rad) come before translations (mm).
    motion = recording.samples[list(MOTION_COLUMNS)].to_numpy()
    assert np.abs(motion).sum(axis=1).argmin() == 726
    assert np.abs(motion[726]).max() == 0
    assert motion[:, :3].std() < 0.01 < motion[:, 3:].std()


def test_every_category_shows_in_the_data(study):
    """A fact about the data, not the reader alone: block means tell faces from houses in runs left out."""
    recording = study.recordings["1"]
    samples = recording.samples
    runs = recording.runs
    values = recording.values.astype(float)
    for run in np.unique(runs):
        values[runs == run] -= values[runs == run].mean(0)
    shown = samples["block"].notna().to_numpy()
    means = pd.DataFrame(values[shown]).groupby(samples["block"][shown].to_numpy()).mean()
    first = samples[shown].groupby("block").first().loc[means.index]
    correct = []
    for run in np.unique(runs):
        train, test = (first["run"] != run).to_numpy(), (first["run"] == run).to_numpy()
        face = means[train & (first["label"] == "face").to_numpy()].mean()
        house = means[train & (first["label"] == "house").to_numpy()].mean()
        axis, middle = (face - house).to_numpy(), ((face + house) / 2).to_numpy()
        for label, sign in (("face", 1), ("house", -1)):
            block = means[test & (first["label"] == label).to_numpy()].to_numpy()[0]
            correct.append(sign * axis @ (block - middle) > 0)
    assert np.mean(correct) > 0.8  # chance .5; one label shifted by a run gives about .5


def test_source_names_licence_and_citation():
    assert SOURCE.licence == "CC BY-SA 3.0"
    assert "10.1126/science.1063736" in SOURCE.bibtex
    assert (BUNDLED / "LICENSE.md").read_text().count("CC BY-SA 3.0")


# ------------------------------------------------------------------------------------------------ nilearn's folder


def labels_of(n_runs=N_RUNS):
    runs = []
    for run in range(n_runs):
        one = ["rest", "rest", "face", "face", "face", "rest", "house", "house", "house", "house", "rest", "rest"]
        runs += [(label, run) for label in one]
    return runs


def write_subject(folder: Path, *, n_volumes=N_RUNS * N_VOLUMES, seed=0, tr_s=TR_S, dtype=np.int16):
    folder.mkdir(parents=True)
    affine = np.diag([3.5, 3.75, 3.75, 1.0])
    rng = np.random.default_rng(seed)
    bold = nibabel.Nifti1Image(rng.integers(100, 900, (5, 4, 3, n_volumes)).astype(dtype), affine)
    bold.header.set_zooms((3.5, 3.75, 3.75, tr_s))
    bold.header.set_xyzt_units("mm", "sec")
    nibabel.save(bold, folder / "bold.nii.gz")
    vt = np.zeros((5, 4, 3), np.int16)
    vt[1:4, 1, 1:] = 1
    for name in ("mask4_vt", "mask8_face_vt", "mask8b_house_vt"):
        nibabel.save(nibabel.Nifti1Image(vt, affine), folder / f"{name}.nii.gz")
    lines = ["labels chunks", *(f"{label} {run}" for label, run in labels_of())]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def nilearn_root(tmp_path):
    root = tmp_path / "haxby2001"
    write_subject(root / "subj2")
    brain = nibabel.Nifti1Image(np.ones((5, 4, 3), np.uint8), np.diag([3.5, 3.75, 3.75, 1.0]))
    nibabel.save(brain, root / "mask.nii.gz")
    return root


def test_nilearn_folder_by_every_name_of_it(nilearn_root):
    from_outer = load_haxby(nilearn_root, subject=2)
    for study in (
        load_haxby(nilearn_root),
        load_haxby(nilearn_root / "subj2"),
        load_haxby(nilearn_root.parent, subject="2"),
        load_haxby(str(nilearn_root / "subj2"), subject=2),
    ):
        np.testing.assert_array_equal(study.recordings["2"].values, from_outer.recordings["2"].values)
    recording = from_outer.recordings["2"]
    assert recording.values.shape == (24, 6)
    assert not set(MOTION_COLUMNS) & set(recording.samples.columns)
    bold = nibabel.load(nilearn_root / "subj2" / "bold.nii.gz").get_fdata()
    np.testing.assert_array_equal(recording.values, bold[recording.units.mask].T)
    assert recording.samples["block"].dropna().unique().tolist() == [
        "run00block0", "run00block1", "run01block0", "run01block1",
    ]  # fmt: skip
    assert from_outer.events.table["onset_s"].tolist() == [5.0, 15.0, 5.0, 15.0]
    assert from_outer.events.table["duration_s"].tolist() == [7.5, 10.0, 7.5, 10.0]


def test_masks_by_name_and_path(nilearn_root):
    assert load_haxby(nilearn_root, mask="brain").recordings["2"].values.shape == (24, 60)
    assert load_haxby(nilearn_root, mask="house").recordings["2"].values.shape == (24, 6)
    own = nilearn_root / "mask.nii.gz"
    assert load_haxby(nilearn_root, mask=own).recordings["2"].values.shape == (24, 60)


def test_two_blocks_of_one_category_in_a_row_are_one_block_only_within_a_run(nilearn_root):
    lines = ["labels chunks", *["face 0"] * 12, *["face 1"] * 12]
    (nilearn_root / "subj2" / "labels.txt").write_text("\n".join(lines))
    samples = load_haxby(nilearn_root).recordings["2"].samples
    assert samples["block"].tolist() == ["run00block0"] * 12 + ["run01block0"] * 12


def test_runs_can_be_left_out(nilearn_root):
    study = load_haxby(nilearn_root, leave_out_runs=(0,))
    full = load_haxby(nilearn_root)
    assert set(study.recordings["2"].runs) == {1}
    np.testing.assert_array_equal(study.recordings["2"].values, full.recordings["2"].values[12:])
    with pytest.raises(InputError, match="no run 7"):
        load_haxby(nilearn_root, leave_out_runs=(7,))
    with pytest.raises(InputError, match="every run"):
        load_haxby(nilearn_root, leave_out_runs=(0, 1))


def refused(code: str, *args, **kwargs) -> str:
    """Return the message, after checking its code and that it is at most two lines."""
    with pytest.raises(InputError) as caught:
        load_haxby(*args, **kwargs)
    message = str(caught.value)
    assert message.startswith(code + " "), message
    assert message.count("\n") <= 1
    return message


def test_wrong_places(nilearn_root, tmp_path):
    assert "nothere" in refused("E-REF", tmp_path / "nothere")
    (tmp_path / "empty").mkdir()
    assert "fetch_haxby" in refused("E-REF", tmp_path / "empty")
    assert "found subjects 2, not 5" in refused("E-CFG", nilearn_root, subject=5)
    write_subject(nilearn_root / "subj3")
    assert "2, 3; say which" in refused("E-CFG", nilearn_root)
    assert "of subject '2'" in refused("E-CFG", nilearn_root / "subj2", subject=3)
    refused("E-META", nilearn_root, subject="../../etc")
    refused("E-CFG", subject=2)
    refused("E-CFG", nilearn_root / "subj2", mask="vtt")
    refused("E-REF", nilearn_root / "subj2", mask=tmp_path / "no.nii.gz")
    (nilearn_root / "subj2" / "bold.nii.gz").unlink()
    assert "bold.nii.gz" in refused("E-REF", nilearn_root / "subj2")


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda lines: lines[:-1], "E-SHAPE", "found 23 labels, bold.nii.gz has 24 volumes"),
        (lambda lines: [*lines, "rest 1"], "E-SHAPE", "found 25 labels"),
        (lambda lines: [line.replace("house", "hause") for line in lines], "E-META", "unknown label 'hause'"),
        (lambda lines: [lines[0], *(f"rest {line.split()[1]}" for line in lines[1:])], "E-META", "no stimulus"),
        (lambda lines: [*lines[:13], *(["rest 1"] * 12)], "E-META", "run 1 shows no stimulus"),
        (lambda lines: [*lines[:5], "face"], "E-FMT", "entry 4 is 'face'"),
        (lambda lines: [line.replace(" ", ",") for line in lines], "E-FMT", "expected a label and a run number"),
        (lambda lines: lines[:13] + [line[:-1] + "0" for line in lines[13:-1]] + ["rest 3"], None, None),
        (lambda lines: [*lines[:4], "face 1", *lines[5:]], "E-META", "contiguous"),
    ],
)
def test_label_files_that_cannot_be(nilearn_root, change, code, said):
    path = nilearn_root / "subj2" / "labels.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert (said or "run 3 shows no stimulus") in refused(code or "E-META", nilearn_root)


def test_label_file_of_bytes(nilearn_root):
    (nilearn_root / "subj2" / "labels.txt").write_bytes(b"\xff\xfe\x00\x01" * 20)
    refused("E-FMT", nilearn_root)


def test_repetition_time_is_checked_and_can_be_overruled(tmp_path):
    write_subject(tmp_path / "subj1", tr_s=2.0)
    assert "2 s, expected 2.5 s" in refused("E-META", tmp_path)
    assert load_haxby(tmp_path, tr_s=2.0).recordings["1"].tr_s == 2.0
    write_subject(tmp_path / "zero" / "subj1", tr_s=0.0)
    refused("E-META", tmp_path / "zero")


def test_masks_that_do_not_fit(nilearn_root):
    folder = nilearn_root / "subj2"
    affine = np.diag([3.5, 3.75, 3.75, 1.0])

    def put(values, affine):
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / "mask4_vt.nii.gz")

    put(np.ones((5, 4, 4), np.uint8), affine)
    assert "(5, 4, 4), bold.nii.gz has (5, 4, 3)" in refused("E-SHAPE", nilearn_root)
    moved = affine.copy()
    moved[0, 3] = 1.0
    put(np.ones((5, 4, 3), np.uint8), moved)
    assert "differs from bold.nii.gz by up to 1" in refused("E-META", nilearn_root)
    put(np.zeros((5, 4, 3), np.uint8), affine)
    assert "empty" in refused("E-META", nilearn_root)
    put(np.full((5, 4, 3), np.nan, np.float32), affine)
    refused("E-NONFIN", nilearn_root)
    put(np.ones((5, 4, 3, 2), np.uint8), affine)
    refused("E-SHAPE", nilearn_root)


def test_motion_files_that_do_not_fit(tmp_path):
    folder = tmp_path / "slice"
    shutil.copytree(BUNDLED, folder)
    (folder / "bold_moest.txt").write_text("0 0 0 0 0 0\n" * 19)
    assert "(19, 6), expected (1452, 6)" in refused("E-SHAPE", folder)
    (folder / "bold_moest.txt").write_text("a b c d e f\n" * 1452)
    refused("E-FMT", folder)
    (folder / "bold_moest.txt").write_text("nan 0 0 0 0 0\n" * 1452)
    refused("E-NONFIN", folder)


def test_values_that_cannot_be(nilearn_root, caplog):
    path = nilearn_root / "subj2" / "bold.nii.gz"
    image = nibabel.load(path)
    values = image.get_fdata().astype(np.float32)
    header = image.header.copy()
    header.set_data_dtype(np.float32)

    def put(values):
        nibabel.save(nibabel.Nifti1Image(values, image.affine, header), path)

    nan = values.copy()
    nan[2, 1, 1, 3] = np.nan
    put(nan)
    assert "1 values that are NaN or infinite in 1 of 6 columns" in refused("E-NONFIN", nilearn_root)
    outside = values.copy()
    outside[0, 0, 0] = np.nan  # not in the mask: nobody reads it
    put(outside)
    assert np.isfinite(load_haxby(nilearn_root).recordings["2"].values).all()
    constant = values.copy()
    constant[2, 1, 1] = 5
    put(constant)
    assert load_haxby(nilearn_root).recordings["2"].values.shape == (24, 6)
    assert "1 of 6 voxels are constant" in caplog.text
    put(np.full_like(values, 7))
    refused("E-CONST", nilearn_root)
    put(values[..., 0])
    refused("E-SHAPE", nilearn_root)


def test_a_run_that_occurs_twice(nilearn_root):
    path = nilearn_root / "subj2" / "bold.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    values[..., 12:] = values[..., :12]
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    assert "runs 0 and 1 are identical" in refused("E-META", nilearn_root)
    assert set(load_haxby(nilearn_root, leave_out_runs=(1,)).recordings["2"].runs) == {0}


def test_damaged_files(nilearn_root):
    path = nilearn_root / "subj2" / "bold.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    refused("E-TRUNC", nilearn_root)
    plain = gzip.decompress(whole)
    path.write_bytes(gzip.compress(plain[:-500]))
    refused("E-TRUNC", nilearn_root)
    trailer = bytearray(whole)
    trailer[-6] ^= 1  # the checksum itself
    path.write_bytes(bytes(trailer))
    refused("E-SUM", nilearn_root)
