"""The simulated drama2brain set: readable by the reader, at the real map's strength, with a map that can be found."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wernicke.core.errors import InputError
from wernicke.data.drama2brain import load_drama2brain
from wernicke.data.drama2brain_check import check_drama2brain
from wernicke.data.drama2brain_stimuli import load_drama2brain_features
from wernicke.data.drama2brain_tables import LEVELS, SUBJECTS
from wernicke.encoding.faithful import encode_faithful
from wernicke.recipes import drama2brain_simulate
from wernicke.recipes.drama2brain_simulate import LAYERS, MODEL, N_VOXELS, simulate_drama2brain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_drama2brain(tmp_path_factory.mktemp("simulated") / "data")


@pytest.fixture(scope="module")
def study(simulated):
    return load_drama2brain(simulated)


def planted(root, subject):
    return tuple(np.load(root / "planted" / f"simulated_{subject}_{what}.npy") for what in ("carries", "r"))


def features(root, layer):
    bands = {level: f"semantic/{level}_cw1_avgToken_ALL/{MODEL}/{layer}" for level in LEVELS}
    return load_drama2brain_features(root, bands).bands


def options(study, subject):
    samples = study.recordings[subject].samples
    return {"parts": samples["part_all"], "titles": samples["title"], "runs": samples["run"],
            "folds": samples["fold"], "time_delays": (8, 10)}  # fmt: skip


def test_the_check_finds_nothing_wrong(simulated):
    findings = check_drama2brain(simulated)
    assert {finding.state for finding in findings} == {"ok"}
    assert len(findings) == 6 + 5 * len(LAYERS) + 5


def test_everything_says_that_it_is_simulated(simulated, study):
    assert "SIMULATED" in study.source.name
    assert (simulated / "SIMULATED.txt").read_text().startswith("SIMULATED")
    assert study.events.table["text"].str.startswith("simulated ").all()
    assert b"SIMULATED" in (simulated / "fmri_bbregister" / "DM01" / "vset_099.mat").read_bytes()[:116]


def test_subjects_differ_in_size(study):
    sizes = [study.recordings[subject].values.shape[1] for subject in SUBJECTS]
    assert sizes == list(N_VOXELS["small"])
    assert len(set(sizes)) == 6


def test_planted_strength_is_that_of_the_real_map(simulated):
    r = np.concatenate([planted(simulated, subject)[1] for subject in SUBJECTS])
    assert r.mean() == pytest.approx(0.045, abs=0.003)
    assert np.quantile(r, 0.99) == pytest.approx(0.28, abs=0.02)
    assert (r > 0.05).mean() == pytest.approx(0.36, abs=0.02)


@pytest.mark.parametrize("subject", ["DM01", "DM09"])
def test_the_planted_map_is_found(simulated, study, subject):
    carries, r = planted(simulated, subject)
    found = encode_faithful(
        features(simulated, "layer2"), study.recordings[subject].values, n_iter=10, **options(study, subject)
    )
    assert roc_auc_score(r > 0, found.cc["all"]) > 0.95
    for i, level in enumerate(LEVELS):
        assert roc_auc_score(carries[:, i], found.cc[level]) > 0.95
    assert found.cc["all"].mean() == pytest.approx(0.045, abs=0.01)
    # Voxels without signal stay at chance, those with it near what was planted.
    assert abs(found.cc["all"][r == 0].mean()) < 0.01
    assert found.cc["all"][r > 0].mean() == pytest.approx(r[r > 0].mean(), abs=0.02)


def test_the_driving_layer_predicts_best(simulated, study):
    carries, _ = planted(simulated, "DM01")
    values = study.recordings["DM01"].values
    for i, level in enumerate(LEVELS):
        cv = [
            encode_faithful({level: features(simulated, layer)[level]}, values, **options(study, "DM01"))
            .cv_cc[carries[:, i]].mean()
            for layer in LAYERS
        ]  # fmt: skip
        assert np.argmax(cv) == 1


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    # One subject and one layer are enough to see it.
    monkeypatch.setattr(drama2brain_simulate, "SUBJECTS", SUBJECTS[:1])
    monkeypatch.setattr(drama2brain_simulate, "LAYERS", ("layer2",))
    monkeypatch.setitem(drama2brain_simulate.N_VOXELS, "small", (9,))
    files = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        root = simulate_drama2brain(tmp_path / name, seed=seed)
        files.append({p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()})
    assert files[0] == files[1]
    drawn = [name for name in files[0] if name.endswith(".npy") and "planted" not in name]
    assert len(drawn) == 41 * (len(LEVELS) + 1)
    assert all(files[0][name] != files[2][name] for name in drawn)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="E-CFG"):
        simulate_drama2brain(tmp_path)
    with pytest.raises(InputError, match="E-CFG"):
        simulate_drama2brain(tmp_path / "new", size="huge")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
