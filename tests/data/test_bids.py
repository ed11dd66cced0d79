"""BIDS derivatives, from files that nibabel wrote by BIDS's and fMRIPrep's names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import tiny_bids as tiny
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.bids import load_bids, read_bids
from wernicke.data.confounds import Preprocess


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    root = tmp_path_factory.mktemp("bids")
    return root, tiny.make_volumes(root)


@pytest.fixture
def root(made: tuple[Path, list[np.ndarray]], tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made[0], tmp_path / "ds"))


def func(root: Path) -> Path:
    return root / "derivatives" / "fmriprep" / "sub-01" / "func"


def first(root: Path, ending: str) -> Path:
    return func(root) / f"sub-01_task-movie_run-1{ending}"


BOLD = f"_space-{tiny.MNI}_desc-preproc_bold"


def test_volumes(made: tuple[Path, list[np.ndarray]]) -> None:
    root, data = made
    study = load_bids(root, ["01"], space=tiny.MNI)
    recording = study.recordings["01"]
    assert isinstance(recording.units, Voxels)
    assert recording.tr_s == tiny.TR_S
    np.testing.assert_array_equal(recording.units.mask, tiny.MASK)
    np.testing.assert_allclose(recording.units.affine, tiny.AFFINE)
    np.testing.assert_array_equal(recording.values, np.concatenate([d[tiny.MASK].T for d in data]))
    assert list(dict.fromkeys(recording.runs)) == ["task-movie_run-1", "task-movie_run-2", "task-movie_run-3"]
    np.testing.assert_allclose(recording.samples["onset_s"][:3], [0, 1.5, 3])
    assert {"trans_x", "rot_z"} <= set(recording.samples.columns)
    assert recording.keep is None
    assert study.source.name == "Random numbers"
    assert study.source.licence == "CC0"


def test_confounds_without_motion_are_no_fault(root: Path) -> None:
    for run in (1, 2, 3):
        path = func(root) / f"sub-01_task-movie_run-{run}_desc-confounds_timeseries.tsv"
        path.write_text("\n".join(["global_signal", *["1.5"] * 40]))
    assert "trans_x" not in load_bids(root, ["sub-01"]).recordings["01"].samples.columns
    path.write_text("\n".join(["trans_x", *["1.5"] * 40]))
    with pytest.raises(InputError, match="expected `trans_y`"):
        load_bids(root)


def test_events_are_words_and_text_stays_text(made: tuple[Path, list[np.ndarray]]) -> None:
    study = load_bids(made[0] / "derivatives" / "fmriprep", ["01"])
    assert study.events is not None
    table = study.events.table
    assert list(table["text"][:4]) == ["null", "NA", '"', "dog"]
    assert table["text"].isna().tolist()[:5] == [False] * 4 + [True]  # BIDS's n/a
    assert table["onset_s"][:2].tolist() == [0.5, 2.5]
    assert set(table["subject"]) == {"01"}
    assert set(table["run"]) == {f"task-movie_run-{k}" for k in (1, 2, 3)}  # events are of run-01, the series of run-1


def test_two_subjects_share_run_names_not_sample_ids(root: Path) -> None:
    tiny.make_volumes(root, n=30, subject="02")
    study = load_bids(root)
    assert list(study.recordings) == ["01", "02"]
    assert study.recordings["02"].n_samples == 90
    assert study.events is not None
    assert set(study.events.table["subject"]) == {"01", "02"}


def test_masks_in_common(root: Path) -> None:
    smaller = tiny.MASK.copy()
    smaller[1, 1, :] = False
    tiny.write_volume(first(root, f"_space-{tiny.MNI}_desc-brain_mask.nii.gz"), smaller.astype(np.uint8))
    assert load_bids(root).recordings["01"].values.shape[1] == smaller.sum()


def test_sessions_filters_and_order(root: Path) -> None:
    for session in ("1", "2"):
        for run in (1, 2, 10):
            stem = f"sub-03/ses-{session}/func/sub-03_ses-{session}_task-movie_run-{run}"
            data = np.random.default_rng([int(session), run]).standard_normal((*tiny.SHAPE, 20)).astype(np.float32)
            base = root / "derivatives" / "fmriprep" / stem
            tiny.write_volume(Path(f"{base}_desc-preproc_bold.nii.gz"), data)
            tiny.write_volume(Path(f"{base}_desc-brain_mask.nii.gz"), tiny.MASK.astype(np.uint8))
    tiny.write_events(root / "task-movie_events.tsv", [(0, 1, "a")])  # inherited by all
    recording = load_bids(root, ["03"], space="func").recordings["03"]
    order = list(dict.fromkeys(recording.runs))
    assert order[:3] == ["ses-1_task-movie_run-1", "ses-1_task-movie_run-2", "ses-1_task-movie_run-10"]
    assert recording.samples["session"].tolist() == ["1"] * 60 + ["2"] * 60
    assert load_bids(root, ["03"], sessions=["2"], runs=["2"]).recordings["03"].n_samples == 20


def test_gifti(tmp_path: Path) -> None:
    where = tmp_path / "sub-01" / "func"
    rng = np.random.default_rng(0)
    sides = {}
    for hemi in "LR":
        data = rng.standard_normal((15, 10242)).astype(np.float32)
        data[:, [3, 7]] = np.nan  # the medial wall
        sides[hemi] = data
        stem = f"sub-01_task-rest_hemi-{hemi}_space-fsaverage5_bold"
        tiny.write_gifti(where / f"{stem}.func.gii", data)
        tiny.write_json(where / f"{stem}.json", {"RepetitionTime": 2.0})
    recording = load_bids(tmp_path, events=False).recordings["01"]
    assert isinstance(recording.units, Surface)
    assert recording.units.mesh == "fsaverage5"
    assert recording.tr_s == 2.0
    assert recording.units.n_units == 2 * 10240
    np.testing.assert_array_equal(recording.units.to_hemisphere(recording.values[4], "right"), sides["R"][4])
    np.testing.assert_array_equal(recording.units.to_hemisphere(recording.values[4], "left"), sides["L"][4])
    (where / "sub-01_task-rest_hemi-R_space-fsaverage5_bold.func.gii").unlink()
    with pytest.raises(InputError, match="lacks hemisphere R"):
        load_bids(tmp_path, events=False)


def test_cifti(tmp_path: Path) -> None:
    voxels = np.array([[3, 0, 0], [0, 1, 2], [0, 1, 1]])  # not in C order
    axis = tiny.cifti_axis(np.array([0, 2, 5]), np.array([1, 11]), voxels)
    data = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)
    path = tmp_path / "sub-01" / "func" / "sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii"
    tiny.write_cifti(path, data, axis)
    recording = load_bids(tmp_path, events=False).recordings["01"]
    units = recording.units
    assert isinstance(units, Surface)
    assert recording.tr_s == tiny.TR_S
    assert units.mesh == "fsLR"
    left, right = (units.to_hemisphere(recording.values[2], side) for side in ("left", "right"))
    np.testing.assert_array_equal(left[[0, 2, 5]], data[2, :3])
    np.testing.assert_array_equal(right[[1, 11]], data[2, 6:])
    assert units.volume is not None
    volume = units.volume.to_volume(recording.values[2, 5:])
    np.testing.assert_array_equal(volume[tuple(voxels.T)], data[2, 3:6])
    tiny.write_json(path.with_name("sub-01_task-rest_space-fsLR_den-91k_bold.json"), {"RepetitionTime": 2.0})
    with pytest.raises(InputError, match="header has a repetition time of 1.5 s, the sidecar 2 s"):
        load_bids(tmp_path, events=False)


def test_preprocess_per_run_and_its_record(made: tuple[Path, list[np.ndarray]]) -> None:
    settings = Preprocess(confounds=["motion"], motion="basic", trim_start_s=3.0, high_pass="cosine")
    found = read_bids(made[0], preprocess=settings)
    recording = found.study.recordings["01"]
    assert recording.keep is not None
    np.testing.assert_array_equal(recording.keep[:40], [False, False] + [True] * 38)
    for run in dict.fromkeys(recording.runs):
        rows = (recording.runs == run) & recording.keep
        np.testing.assert_allclose(recording.values[rows].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(recording.values[rows].std(axis=0, ddof=1), 1, atol=1e-5)
        motion = recording.samples.loc[rows, "trans_x"].to_numpy()
        overlap = recording.values[rows].T @ (motion - motion.mean())
        np.testing.assert_allclose(overlap, 0, atol=1e-4)
    assert (recording.values[~recording.keep] == 0).all()
    record = found.records[1]
    assert record["run"] == "task-movie_run-2"
    assert (record["n_volumes"], record["n_kept"], len(record["confounds"])) == (40, 38, 6)
    assert found.runs[0].confounds is not None


def test_smoothing_is_nilearns_masker(made: tuple[Path, list[np.ndarray]]) -> None:
    from nilearn.maskers import NiftiMasker

    root, data = made
    settings = Preprocess(smooth_fwhm_mm=4.0, high_pass="none", detrend=False, standardise="none")
    values = load_bids(root, preprocess=settings).recordings["01"].values
    masker = NiftiMasker(nib.Nifti1Image(tiny.MASK.astype(np.uint8), tiny.AFFINE), smoothing_fwhm=4.0, standardize=None)
    np.testing.assert_allclose(values[:40], masker.fit_transform(nib.Nifti1Image(data[0], tiny.AFFINE)), rtol=1e-5)


def test_smoothing_takes_nan_outside_the_mask_as_nilearn_does(
    made: tuple[Path, list[np.ndarray]], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from nilearn.image import smooth_img

    data = made[1][0].copy()
    data[0] = np.nan
    data[-1, 0, 0, 3] = np.inf
    tiny.write_volume(first(root, f"{BOLD}.nii.gz"), data)
    settings = Preprocess(smooth_fwhm_mm=4.0, high_pass="none", detrend=False, standardise="none")
    values = load_bids(root, preprocess=settings).recordings["01"].values
    smoothed = smooth_img(nib.Nifti1Image(data, tiny.AFFINE), 4.0).get_fdata()
    np.testing.assert_allclose(values[:40], smoothed[tiny.MASK].T, rtol=1e-5)
    assert "16 voxels outside the mask are NaN or infinite and count as 0" in caplog.text
    data[tiny.MASK.nonzero()[0][0], 1, 0, 5] = np.nan
    tiny.write_volume(first(root, f"{BOLD}.nii.gz"), data)
    with pytest.raises(InputError, match="E-NONFIN .*: voxels inside the mask: found 1 values"):
        load_bids(root, preprocess=settings)


def _tr(root: Path) -> None:
    tiny.write_json(first(root, f"{BOLD}.json"), {"RepetitionTime": 2.0})


def _tr_text(root: Path) -> None:
    tiny.write_json(first(root, f"{BOLD}.json"), {"RepetitionTime": "1.5"})


def _runs_differ(root: Path) -> None:
    tiny.write_volume(first(root, f"{BOLD}.nii.gz"), np.random.default_rng(9).random((*tiny.SHAPE, 40)), tr_s=2.0)
    _tr(root)


def _no_events(root: Path) -> None:
    (root / "sub-01/func/sub-01_task-movie_run-02_events.tsv").unlink()


def _events(*rows: tuple, header: str = "onset\tduration\ttrial_type"):
    def change(root: Path) -> None:
        tiny.write_events(root / "sub-01/func/sub-01_task-movie_run-02_events.tsv", list(rows), header)

    return change


def _mask_grid(root: Path) -> None:
    tiny.write_volume(first(root, f"_space-{tiny.MNI}_desc-brain_mask.nii.gz"), np.ones((4, 5, 4), np.uint8))


def _grid(root: Path) -> None:
    data = np.random.default_rng(9).random((4, 5, 4, 40))
    tiny.write_volume(func(root) / f"sub-01_task-movie_run-2{BOLD}.nii.gz", data)


def _no_mask(root: Path) -> None:
    first(root, f"_space-{tiny.MNI}_desc-brain_mask.nii.gz").unlink()


def _entity_twice(root: Path) -> None:
    (func(root) / "sub-01_task-movie_task-other_desc-preproc_bold.nii.gz").write_bytes(b"")


def _second_file(root: Path) -> None:
    shutil.copy(first(root, f"{BOLD}.nii.gz"), first(root, f"_space-{tiny.MNI}_res-2_desc-preproc_bold.nii.gz"))


def _other_space(root: Path) -> None:
    shutil.copy(first(root, f"{BOLD}.nii.gz"), first(root, "_space-T1w_desc-preproc_bold.nii.gz"))


def _other_task(root: Path) -> None:
    name = f"sub-01_task-rest{BOLD}.nii.gz"
    shutil.copy(first(root, f"{BOLD}.nii.gz"), func(root) / name)


def _stranger(root: Path) -> None:
    (func(root) / f"sub-09_task-movie{BOLD}.nii.gz").write_bytes(b"")


def _link_out(root: Path) -> None:
    outside = root.parent / "outside.nii.gz"
    shutil.move(first(root, f"{BOLD}.nii.gz"), outside)
    first(root, f"{BOLD}.nii.gz").symlink_to(outside)


def _link_events_out(root: Path) -> None:
    path = root / "sub-01/func/sub-01_task-movie_run-02_events.tsv"
    outside = root.parent / "events.tsv"
    shutil.move(path, outside)
    path.symlink_to(outside)


def _copied_run(root: Path) -> None:
    shutil.copy(first(root, f"{BOLD}.nii.gz"), func(root) / f"sub-01_task-movie_run-2{BOLD}.nii.gz")


def _confound_rows(root: Path) -> None:
    tiny.write_confounds(first(root, "_desc-confounds_timeseries.tsv"), 39, 0)


def _confounds_gone(root: Path) -> None:
    first(root, "_desc-confounds_timeseries.tsv").unlink()


def _stimulus_out(root: Path) -> None:
    _events((0, 1, "../../etc/passwd"), header="onset\tduration\tstim_file")(root)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (_tr, "E-META", "header has a repetition time of 1.5 s, the sidecar 2 s"),
        (_tr_text, "E-META", "RepetitionTime: found '1.5', expected seconds"),
        (_runs_differ, "E-META", "run task-movie_run-1 has a repetition time of 2 s"),
        (_no_events, "E-REF", "run task-movie_run-2 has no events.tsv"),
        (_events(("0", 1, "a"), ("60", 1, "b")), "E-META", "line 3 holds 60: an event after the end of the run .60 s"),
        (_events(("soon", 1, "a")), "E-META", "onset: line 2 holds 'soon', expected a number"),
        (_events(("1_0", 1, "a")), "E-META", "line 2 holds '1_0'"),
        (_events(("nan", 1, "a")), "E-META", "line 2 holds 'nan'"),
        (_events(("n/a", 1, "a")), "E-META", "line 2 holds 'n/a'"),
        (_events((0, -1, "a")), "E-META", "a negative duration"),
        (_events((0, 1), header="onset\tlength"), "E-META", "expected `duration`"),
        (_events((0, 1)), "E-FMT", "line 2 has 2 cells, the header has 3"),
        (_events(header="onset\tonset"), "E-META", "column `onset` occurs twice"),
        (_mask_grid, "E-SHAPE", "brain_mask.nii.gz: found .4, 5, 4."),
        (_grid, "E-SHAPE", "the grid .* differs"),
        (_no_mask, "E-REF", "no desc-brain_mask"),
        (_entity_twice, "E-META", "entity `task` occurs twice"),
        (_second_file, "E-META", "are both run task-movie_run-1 and differ in res"),
        (_other_space, "E-CFG", "found space MNI152NLin2009cAsym, T1w; say which"),
        (_other_task, "E-CFG", "found task movie, rest; say which"),
        (_stranger, "E-META", "a file of subject 09 in the folder of 01"),
        (_link_out, "E-UNSAFE", "leads out of the data set"),
        (_link_events_out, "E-UNSAFE", "leads out of the data set"),
        (_copied_run, "E-META", "runs task-movie_run-1 and task-movie_run-2 are identical"),
        (_confound_rows, "E-SHAPE", "found 39 rows, the series has 40"),
        (_confounds_gone, "E-REF", "run task-movie_run-1 has no head-motion parameters"),
        (_stimulus_out, "E-UNSAFE", "expected a file within stimuli"),
    ],
)
def test_bad_data_sets(root: Path, change, code: str, message: str) -> None:
    change(root)
    with pytest.raises(InputError, match=message) as caught:
        load_bids(root)
    assert caught.value.code == code
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": ["09"]}, "no series with desc-preproc of subject 09\n.*subjects: 01"),
        ({"subjects": ["../../etc"]}, "expected letters and digits"),
        ({"space": "T1w"}, "no series of space T1w; found MNI152NLin2009cAsym"),
        ({"task": "rest"}, "no series with task rest; found movie"),
        ({"runs": ["9"]}, "no series with run 9; found 1, 2, 3"),
        ({"text_column": "speech"}, "expected `speech`"),
        ({"kind": "cifti"}, "no series of kind cifti; found volume"),
        ({"mask": "/nowhere.nii.gz"}, "no such file"),
    ],
)
def test_wrong_wishes(made: tuple[Path, list[np.ndarray]], settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_bids(made[0], **settings)


def test_links_into_the_data_sets_own_annex_are_read(root: Path) -> None:
    """DataLad keeps each file's content in .git/annex/objects of the data set above."""
    annex = root / ".git" / "annex" / "objects" / "aa"
    annex.mkdir(parents=True)
    shutil.move(first(root, f"{BOLD}.nii.gz"), annex / "key.nii.gz")
    first(root, f"{BOLD}.nii.gz").symlink_to(annex / "key.nii.gz")
    assert load_bids(root / "derivatives" / "fmriprep").recordings["01"].n_samples == 120
    (annex / "key.nii.gz").unlink()
    with pytest.raises(InputError, match="annexed content is absent"):
        load_bids(root)


def test_header_without_tr_takes_the_sidecars(root: Path) -> None:
    for run in (1, 2, 3):
        path = func(root) / f"sub-01_task-movie_run-{run}{BOLD}.nii.gz"
        data = nib.load(path).get_fdata(dtype=np.float32)
        tiny.write_volume(path, data, tr_s=0)
    assert load_bids(root).recordings["01"].tr_s == tiny.TR_S
    for path in func(root).glob("*bold.json"):
        path.write_text("{}")
    with pytest.raises(InputError, match="neither header nor sidecar has a repetition time"):
        load_bids(root)
    (root / "task-movie_bold.json").write_text(json.dumps({"RepetitionTime": 3.0}))  # inherited from the raw data set
    assert load_bids(root).recordings["01"].tr_s == 3.0
