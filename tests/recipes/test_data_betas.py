"""`wernicke data betas` on the real Haxby slice: against nilearn's own model, interrupted, fitted; GLMsingle's file."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score

import wernicke
from haxby_bids import SPACE, TR_S, make_haxby
from wernicke import cli
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording, Surface
from wernicke.data import betas as lss
from wernicke.data.maps import read_maps
from wernicke.data.plain import load_arrays
from wernicke.data.saved_betas import load_betas, write_betas
from wernicke.stats.detrend import detrend_runs

N_RUNS = 5
CONFOUNDS = ("--preprocess.confounds", "motion", "--preprocess.motion", "basic")


@pytest.fixture(scope="module")
def haxby(shared, tmp_path_factory) -> Path:
    return make_haxby(tmp_path_factory.mktemp("bids") / "ds", shared / "data/haxby2001", N_RUNS)


@pytest.fixture(scope="module")
def written(haxby, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("betas") / "out"
    assert run(haxby, out, *CONFOUNDS) == 0
    return out


def run(root: Path, out: Path, *flags: str) -> int:
    return cli.run(["data", "betas", "--data.root", str(root), "--out", str(out), *flags])


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_betas_are_those_of_nilearns_model_with_the_confounds(haxby: Path, written: Path):
    from nilearn.glm.first_level import FirstLevelModel

    found = load_betas(written / "sub-01")
    assert found.values.shape == (8 * N_RUNS, 530)
    derived = haxby / "derivatives/fmriprep/sub-01/func"
    stem = "sub-01_task-objectviewing_run-02"
    events = pd.read_csv(haxby / f"sub-01/func/{stem}_events.tsv", sep="\t")
    motion = pd.read_csv(derived / f"{stem}_desc-confounds_timeseries.tsv", sep="\t")
    for row in (0, 5):
        table = events.copy()
        table.loc[row, "trial_type"] = "thisone"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = FirstLevelModel(t_r=TR_S, mask_img=str(derived / f"{stem}_space-{SPACE}_desc-brain_mask.nii.gz"),
                                    noise_model="ols", minimize_memory=False)  # fmt: skip
            image = nib.load(derived / f"{stem}_space-{SPACE}_desc-preproc_bold.nii.gz")
            model.fit(image, events=table, confounds=motion - motion.mean())
            effect = model.compute_contrast("thisone", output_type="effect_size").get_fdata()
        mask = nib.load(written / "sub-01/mask.nii.gz").get_fdata() > 0
        np.testing.assert_allclose(found.values[8 + row], effect[mask], rtol=2e-3, atol=2e-3)
    samples = found.samples
    assert samples["run"].tolist()[7:9] == ["task-objectviewing_run-01", "task-objectviewing_run-02"]
    assert samples["label"].tolist()[8:16] == events["trial_type"].tolist()


def test_the_files_open_as_plain_arrays_and_as_images(written: Path):
    place = written / "sub-01"
    values, trials = np.load(place / "betas.npy"), pd.read_csv(place / "trials.tsv", sep="\t", dtype=str)
    assert len(values) == len(trials)
    (recording,) = load_arrays(place / "betas.npy", tr_s=1.0, runs=trials["run"].to_numpy()).recordings.values()
    np.testing.assert_array_equal(recording.values, values)
    table, units = read_maps(place)
    assert units is not None
    np.testing.assert_allclose(table["mean_beta"], values.mean(axis=0), rtol=1e-4, atol=1e-5)
    mean = nib.load(place / "maps/mean_beta.nii.gz").get_fdata()
    mask = nib.load(place / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(mean[mask], table["mean_beta"], rtol=1e-6)
    assert (written / "manifest.json").exists()


def test_betas_can_be_fitted(written: Path):
    """Betas say which category was shown in a run that is left out, and categories predict its betas."""
    found = load_betas(written / "sub-01")
    labels = found.samples["label"].to_numpy()
    onehot = (labels[:, None] == np.unique(labels)).astype(float)
    responses = detrend_runs(found.values, found.runs, order=0)

    folds = LeaveOneGroupOut()
    correct = cross_val_score(RidgeClassifier(100.0), responses, labels, groups=found.runs, cv=folds)
    assert correct.mean() > 0.3  # .40, with all twelve runs .66; chance is .125

    def best(features: np.ndarray) -> float:
        result = wernicke.encode(features, responses, runs=found.runs, tr_s=1.0, delays_s=(0,), alphas=(0.1, 10, 1e3),
                                 n_permutations=19)  # fmt: skip
        return float(np.sort(result.r)[-50:].mean())

    rng = np.random.default_rng(0)
    shuffled = [
        onehot[
            np.concatenate([rng.permutation(np.flatnonzero(found.runs == run)) for run in dict.fromkeys(found.runs)])
        ]
        for _ in range(2)
    ]
    assert best(onehot) > 0.1 + max(map(best, shuffled))  # .56 against .40: chance of the best 50 of 530 voxels


def test_a_run_that_is_done_is_not_estimated_again(haxby: Path, written: Path, tmp_path: Path, monkeypatch):
    whole, done = lss.lss_betas, []

    def stopping(series, *args, **kw):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(series.runs[0])
        return whole(series, *args, **kw)

    monkeypatch.setattr(lss, "lss_betas", stopping)
    assert run(haxby, tmp_path / "out", *CONFOUNDS) == 130
    assert not (tmp_path / "out/sub-01").exists()
    first = list(done)
    monkeypatch.setattr(
        lss, "lss_betas", lambda series, *a, **kw: (done.append(series.runs[0]), whole(series, *a, **kw))[1]
    )
    assert run(haxby, tmp_path / "out", *CONFOUNDS) == 0
    assert len(set(first)) == 3
    assert not set(first) & set(done[3:])
    assert len(done) == N_RUNS
    assert run(haxby, tmp_path / "out", *CONFOUNDS) == 0
    assert len(done) == N_RUNS
    ours, theirs = files(tmp_path / "out/sub-01"), files(written / "sub-01")
    assert ours == theirs


def test_conditions_trim_and_another_models_settings(haxby: Path, tmp_path: Path, capsys):
    flags = ("--conditions", "face", "house", "--others", "together", "--preprocess.high_pass", "none",
             "--preprocess.trim_start_s", "5", "--percent", "false")  # fmt: skip
    assert run(haxby, tmp_path / "out", *flags) == 0
    found = load_betas(tmp_path / "out/sub-01")
    assert set(found.samples["label"]) == {"face", "house"}
    assert found.n_samples == 2 * N_RUNS
    assert '"n_kept": 119' in (tmp_path / "out/sub-01/facts.json").read_text()
    assert run(haxby, tmp_path / "out", "--conditions", "face") == 2
    assert "other settings" in capsys.readouterr().err


REFUSED = [
    (["--preprocess.standardise", "zscore"], "preprocess.standardise: found zscore: betas are estimated from the"),
    (["--preprocess.high_pass", "median"], "preprocess.high_pass: unknown value `median`"),
    (["--conditions", "unicorn"], "conditions: no event of 'unicorn'; found bottle, cat"),
    (["--subjects", "07"], "E-REF"),
    (["--glmsingle", "x.npy"], "trials: GLMsingle's file and the table of its trials go together"),
    (["--preprocess.trim_start_s", "280"], "no kept volume of run task-objectviewing_run-01 sees trial 0"),
    (["--preprocess.confounds", "wm_csf"], "nilearn cannot load confounds"),
    (["--hrf", "spm"], "unknown flag `--hrf`"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_two_lines(haxby: Path, tmp_path: Path, capsys, flags: list[str], message: str):
    assert run(haxby, tmp_path / "out", *flags) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") <= 2


def test_help_and_missing_root(tmp_path: Path, capsys):
    assert cli.run(["data", "betas", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: wernicke data betas")
    assert "--preprocess.confounds" in out
    assert cli.run(["data", "betas", "--out", str(tmp_path / "out")]) == 2
    assert "data.root: no data set given" in capsys.readouterr().err
    assert cli.run(["data", "betas", "--data.root", str(tmp_path)]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# GLMsingle ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def glmsingle(written: Path, tmp_path: Path) -> list[str]:
    """A file with the keys of GLMsingle's type D, SIMULATED, on the Haxby slice's grid; NaN outside the brain."""
    mask = nib.load(written / "sub-01/mask.nii.gz").get_fdata() > 0
    grid = np.full((*mask.shape, 6), np.nan, np.float32)
    grid[mask] = np.random.default_rng(0).standard_normal((mask.sum(), 6))
    content = {"betasmd": grid, "R2": np.where(mask, 5.0, np.nan), "HRFindex": np.zeros(mask.shape, int)}
    np.save(tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    rows = [f"{1 + i // 3}\t{3.5 * (i % 3)}\tcat" for i in range(6)]
    (tmp_path / "trials.tsv").write_text("\n".join(["run\tonset\ttrial_type", *rows]) + "\n")
    shutil.copy(written / "sub-01/mask.nii.gz", tmp_path / "mask.nii.gz")
    return ["--glmsingle", str(tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.npy"), "--trials", str(tmp_path / "trials.tsv")]


def glm(*flags: str) -> int:
    return cli.run(["data", "betas", *flags])


def test_glmsingles_file_becomes_the_same_files(glmsingle: list[str], tmp_path: Path, capsys):
    flags = [*glmsingle, "--subjects", "sub-01", "--data.mask", str(tmp_path / "mask.nii.gz"), "--out"]
    assert glm(*flags, str(tmp_path / "out")) == 0
    found = load_betas(tmp_path / "out/sub-01")
    expected = np.random.default_rng(0).standard_normal((530, 6)).astype(np.float32).T
    np.testing.assert_array_equal(found.values, expected)
    assert found.samples["run"].tolist() == list("111222")
    assert found.samples["onset_s"].tolist() == [0, 3.5, 7] * 2
    assert set(found.samples["label"]) == {"cat"}
    table, _ = read_maps(tmp_path / "out/sub-01")
    assert set(table["R2"]) == {5.0}
    assert glm(*flags, str(tmp_path / "out")) == 0  # nothing is done twice
    (tmp_path / "trials.tsv").write_text("run\n1\n1\n")
    assert glm(*flags, str(tmp_path / "other")) == 2
    assert "found 6 trials, the table has 2" in capsys.readouterr().err


def test_glmsingle_needs_its_subject_and_its_mask(glmsingle: list[str], tmp_path: Path, capsys):
    assert glm(*glmsingle, "--out", str(tmp_path / "out")) == 2
    assert "subjects: found None, GLMsingle's file is of one subject" in capsys.readouterr().err
    assert glm(*glmsingle, "--subjects", "01", "--out", str(tmp_path / "out")) == 2
    assert "E-NONFIN" in capsys.readouterr().err


def test_a_pickle_that_would_run_something_is_not_run(glmsingle: list[str], tmp_path: Path, capsys):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.save(glmsingle[1], np.array({"betasmd": Evil()}, dtype=object), allow_pickle=True)
    assert glm(*glmsingle, "--subjects", "01", "--out", str(tmp_path / "out")) == 2
    assert "E-UNSAFE" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


# The files themselves ----------------------------------------------------------------------------------------------


def test_vertices_and_odd_labels_come_back(tmp_path: Path):
    surface = Surface(np.arange(6) > 1, np.ones(5, bool), "fsaverage5")
    samples = pd.DataFrame({"sample_id": ["a", "b"], "run": ["1", "1"], "label": ['say "hi"', None], "n_repeats": 1})
    values = np.arange(18, dtype=np.float32).reshape(2, 9)
    write_betas(tmp_path / "sub-02", Recording("02", values, samples, units=surface))
    found = load_betas(tmp_path / "sub-02")
    np.testing.assert_array_equal(found.values, values)
    assert found.subject == "02"
    assert found.samples["label"].tolist() == ['say "hi"', None]
    assert isinstance(found.units, Surface)
    np.testing.assert_array_equal(found.units.left, surface.left)


def test_files_that_disagree_are_refused(tmp_path: Path):
    samples = pd.DataFrame({"sample_id": ["a", "b"], "run": [1, 1]})
    write_betas(tmp_path, Recording("02", np.ones((2, 3), np.float32), samples))
    np.save(tmp_path / "betas.npy", np.ones((3, 3), np.float32))
    with pytest.raises(InputError, match="E-SHAPE .*betas.npy.* trials.tsv has 2 trials"):
        load_betas(tmp_path)
    np.save(tmp_path / "betas.npy", np.array([[1, 2, 3], [4, np.nan, 6]], np.float32))
    with pytest.raises(InputError, match="E-NONFIN"):
        load_betas(tmp_path)
    (tmp_path / "trials.tsv").write_text("sample_id\trun\na\t1\nb\t1\n")
    np.save(tmp_path / "betas.npy", np.ones((2, 3), np.float32))
    with pytest.raises(InputError, match="expected `subject`"):
        load_betas(tmp_path)
