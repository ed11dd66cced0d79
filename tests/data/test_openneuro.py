"""OpenNeuro ds005531 by the names, keys and index bases of nkmjm/fMRI_Narrative_movie's ``dataInfo.mat`` and loader."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from wernicke.core.errors import InputError
from wernicke.data.openneuro import RUNS, load_openneuro, load_openneuro_features, load_tvoxels, row_table

N_VOXELS = 30
TVOXELS = np.array([[3], [8], [9], [30]], dtype=float)  # from 1, as MATLAB's column


def bold(run: int, seconds: int) -> np.ndarray:
    return np.random.default_rng(run).standard_normal((seconds, N_VOXELS)).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("ds005531")
    data = top / "derivatives" / "preprocessed_data" / "sub-S02"
    data.mkdir(parents=True)
    scipy.io.savemat(data / "vset_100.mat", {"tvoxels": TVOXELS})
    for i, run in enumerate(RUNS):
        with h5py.File(data / f"sub-S02_task-{run.run}.mat", "w") as file:
            file.create_dataset("dataDT", data=bold(i, run.seconds))
    feature = top / "derivatives" / "feature"
    annotation = top / "derivatives" / "annotation"
    feature.mkdir()
    annotation.mkdir()
    for i, run in enumerate(RUNS):
        stim = np.full((run.seconds, 2), float(i))
        stim[:, 1] = np.arange(run.seconds)
        scipy.io.savemat(feature / f"{run.run}_story_GPT2medium_jp_layer12_mean.mat", {"stim": stim})
        rows = ["a\t.." if k % 2 else "..\t.." for k in range(run.seconds)]
        (annotation / f"{run.run}_story_each1sec.txt").write_text("\n".join(rows))
    return top


def test_the_runs_are_those_of_datainfo() -> None:
    """43 runs of 11 episodes, 31,905 s: the 8.86 h of the release's description."""
    assert len(RUNS) == 43
    assert len({run.run for run in RUNS}) == 43
    assert {run.run for run in RUNS} >= {"dreamgirlsSess2_run-04", "bigbangtheory_run-04", "gis_run-03", "suits_run-03"}
    assert sum(run.seconds for run in RUNS) == 31_905
    assert len(row_table()) == 31_905 - 43 * 20


def test_responses(root: Path) -> None:
    study = load_openneuro(root, ["S02"])
    recording = study.recordings["S02"]
    assert recording.values.shape == (len(row_table()), 4)
    columns = TVOXELS.ravel().astype(int) - 1
    np.testing.assert_array_equal(recording.values[:659], bold(0, 679)[20:][:, columns])
    assert recording.samples["onset_s"].iloc[659] == 20  # every run begins at 20, the second one too
    assert recording.samples["run"].iloc[659] == "breakingbad_run-02"
    np.testing.assert_array_equal(load_tvoxels(root / "derivatives", "S02"), columns)
    assert study.source.url is not None
    assert "ds005531" in study.source.url


def test_features_and_annotations_stand_in_the_same_rows(root: Path) -> None:
    features = load_openneuro_features(root, ["story_GPT2medium_jp_layer12_mean"])
    (band,) = features.bands.values()
    table = row_table()
    assert len(band) == len(table)
    np.testing.assert_array_equal(band[:, 1], table["onset_s"])
    assert (band[:659, 0] == 0).all()
    assert band[659, 0] == 1
    events = load_openneuro(root, annotations=["story"]).events
    assert events is not None
    own = events.table[events.table["run"] == "suits_run-01"]
    assert own["onset_s"].tolist() == list(range(1, 754, 2))
    assert set(own["annotator"]) == {0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: load_openneuro(r, ["S03"]), "no such file"),
        (lambda r: load_openneuro(r, ["DM01"]), "unknown value `DM01`"),
        (lambda r: load_openneuro(r, annotations=["plot"]), "unknown value `plot`"),
        (lambda r: load_openneuro_features(r, ["../x"]), "E-UNSAFE"),
        (lambda r: load_openneuro_features(r, ["story_x"]), "no such file"),
        (lambda r: load_openneuro(r / "derivatives" / "feature"), "no such folder"),
    ],
)
def test_wrong_wishes(root: Path, call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(root)


def test_a_run_too_short(root: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(root / "derivatives" / "preprocessed_data", tmp_path / "derivatives" / "preprocessed_data")
    with h5py.File(copy / "sub-S02" / "sub-S02_task-glee_run-02.mat", "w") as file:
        file.create_dataset("dataDT", data=bold(0, 811))
    with pytest.raises(InputError, match="glee_run-02: found 811 seconds, expected at least 812"):
        load_openneuro(tmp_path)
