"""`wernicke encode --config drama2brain_mono|multi` and `wernicke data` on a cut-down SIMULATED set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from wernicke import cli
from wernicke.core.errors import InputError, RunInUseError
from wernicke.data.drama2brain import load_drama2brain
from wernicke.data.drama2brain_stimuli import load_drama2brain_features
from wernicke.data.maps import read_maps
from wernicke.data.zarr_arrays import open_zarr
from wernicke.encoding.faithful import encode_faithful
from wernicke.features.reduce import load_projection
from wernicke.recipes import drama2brain_corrected, drama2brain_encode, drama2brain_simulate
from wernicke.recipes.config import build, load_config
from wernicke.recipes.drama2brain_bands import Drama2brainData
from wernicke.recipes.drama2brain_design import choose_rows
from wernicke.recipes.drama2brain_simulate import simulate_drama2brain
from wernicke.report.claims import unique_sentences
from wernicke.store.units import Share

SUBJECTS = ("DM01", "DM03")
FAST = ("--n_permutations", "19", "--tail", "counted", "--n_bootstrap", "100", "--n_iter", "3", "--alphas", "0.1", "10",
        "1000", "10000", "100000")  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two subjects of 40 and 24 voxels, two layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drama2brain_simulate, "SUBJECTS", SUBJECTS)
        patch.setattr(drama2brain_simulate, "LAYERS", ("layer1", "layer2"))
        patch.setitem(drama2brain_simulate.N_VOXELS, "small", (40, 24))
        return simulate_drama2brain(tmp_path_factory.mktemp("simulated") / "data", seed=1)


def make(root: Path, name: str, *flags: str) -> drama2brain_encode.Config:
    _, values, path = load_config(str(root / f"drama2brain_{name}.yaml"))
    return build(drama2brain_encode.Config, values, path, ["--data.root", str(root), *FAST, *flags], "test")


def run(config: drama2brain_encode.Config, folder: Path, part: str | None = None) -> Path:
    drama2brain_encode.encode(config, folder, part=part)
    return folder


def maps(folder: Path, subject: str, model: str) -> pd.DataFrame:
    """A unit's maps, in the order of the recording's columns."""
    return read_maps(folder / "subjects" / subject / model)[0].sort_values("column").reset_index(drop=True)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def mono(root, tmp_path_factory):
    return run(make(root, "mono"), tmp_path_factory.mktemp("runs") / "mono")


@pytest.fixture(scope="module")
def multi(root, tmp_path_factory):
    flags = ("--save_pred", "true", "--save_coef", "true", "--authors_files", "true", "--weight_pca", "3")
    config = make(root, "multi", *flags)
    return run(config, tmp_path_factory.mktemp("runs") / "multi")


# wernicke data ---------------------------------------------------------------------------------------------------


def test_data_check_prints_findings(root, capsys):
    assert cli.run(["data", "check", "drama2brain", str(root)]) == 0
    out = capsys.readouterr().out
    assert "ok     DM01 " in out
    assert "41 runs (41 cached), 40 voxels" in out
    assert out.splitlines()[-1] == "0 errors, 4 notes in 21 findings. SIMULATED data: nobody's brain."


def test_data_check_finds_what_cannot_be_read(root, tmp_path, capsys):
    folder = Path("fmri_pre/DM01")
    (tmp_path / folder).mkdir(parents=True)
    for file in (root / folder).glob("*.npy"):
        (tmp_path / folder / file.name).symlink_to(file)
    (tmp_path / folder / "Crown_2_CerebCortex.npy").unlink()
    assert cli.run(["data", "check", "drama2brain", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "error  DM01" in out
    assert "Crown_003" in out
    assert "1 errors" in out
    assert cli.run(["data", "check", "drama2brain", str(tmp_path / "absent")]) == 2


def test_data_simulate_leaves_a_folder_in_use_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.run(["data", "simulate", "drama2brain", "--out", str(tmp_path)]) == 2
    assert "holds something already" in capsys.readouterr().err


# What a run holds ------------------------------------------------------------------------------------------------


def test_the_layer_is_chosen_on_training_rows(mono):
    layers = pd.read_csv(mono / "tables/layers.csv")
    assert list(layers["layer"]) == [1, 1, 2, 2]
    assert set(layers.loc[layers["best"], "layer"]) == {2}
    group = pd.read_csv(mono / "tables/group.csv")
    assert list(group["n_subjects"]) == [2]
    assert group["mean"][0] == pytest.approx(layers.loc[layers["best"], "r"].mean())


def test_everything_says_that_it_is_simulated(mono, multi):
    for folder in (mono, multi):
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["recipe"] == "drama2brain_encode"
        assert facts["data"]["simulated"] is True
        assert "SIMULATED" in facts["data"]["source"]["name"]
        assert "SIMULATED" in json.loads((folder / "card.json").read_text())["subject"]
        tables = list((folder / "tables").glob("*.csv"))
        assert len(tables) >= 4
        for table in tables:
            assert set(pd.read_csv(table)["data"]) == {"SIMULATED"}


def test_scores_are_those_of_ridge_by_other_means(root, mono):
    """z-scored by run, shifted by 8, 9 and 10 s within titles, fitted by scikit-learn with the chosen penalty."""
    rows = choose_rows(Drama2brainData(root=root))
    table = rows.table
    path = "semantic/speechTranscription_cw1_avgToken_ALL/SimulatedLM/layer2"
    X = load_drama2brain_features(root, {"x": path}).bands["x"].astype(np.float64)
    shifted = np.zeros_like(X)
    for title in table["title"].unique():
        at = np.flatnonzero(table["title"] == title)
        for shift in (8, 9, 10):
            shifted[at[shift:]] += X[at[:-shift]] / 3
    shifted /= np.sqrt(shifted[rows.train].var(axis=0).sum())
    Y = load_drama2brain(root, ["DM01"], annotations=False).recordings["DM01"].values.astype(np.float64)
    for name in table["run"].unique():
        at = table["run"] == name
        Y[at] = (Y[at] - Y[at].mean(0)) / Y[at].std(0)
    found = maps(mono, "DM01", "Speech-SimulatedLM-layer2")
    for voxel in np.argsort(-found["r"].to_numpy())[:5]:
        ridge = Ridge(alpha=found["alpha"][voxel]).fit(shifted[rows.train], Y[rows.train, voxel])
        predicted = ridge.predict(shifted[rows.valid])
        assert found["r"][voxel] == pytest.approx(np.corrcoef(predicted, Y[rows.valid, voxel])[0, 1], abs=1e-4)
        assert found["r2"][voxel] == pytest.approx(ridge.score(shifted[rows.valid], Y[rows.valid, voxel]), abs=1e-4)


def test_rows_are_the_published_ones_less_borders():
    rows = choose_rows(Drama2brainData(trim_s=0, gap_s=0))
    assert (len(rows.train), len(rows.valid)) == (22262, 7737)
    assert sorted(len(test) for _, test in rows.cv) == [4446, 5523, 5980, 6313]
    rows = choose_rows(Drama2brainData())
    # Ten titles begin in training rows; nine films have a scored run after them.
    assert (len(rows.train), len(rows.valid)) == (22262 - 10 * 10 - 9 * 10, 7737)
    assert len(choose_rows(Drama2brainData(dataset="splitA", trim_s=0, gap_s=0)).train) == 11091


def test_a_multi_run_holds_all_files(root, multi):
    bands = ["Speech", "Object", "Story", "Summary", "TimePlace"]
    unit = multi / "subjects/DM01/all"
    found = maps(multi, "DM01", "all")
    wanted = ["voxel", "column", "r", "r2", "p", "p_fdr", "p_by", "cv_r2", "alpha"]
    wanted += [f"{kind}_{band}" for band in bands for kind in ("unique", "share")]
    wanted += [f"unique_{band}_{end}" for band in bands for end in ("low", "high", "p", "p_fdr")]
    assert set(wanted) <= set(found)
    assert len(found) == 40
    np.testing.assert_allclose(sum(found[f"share_{band}"] for band in bands), found["r"], atol=1e-5)
    assert (unit / "maps/unique_Story.nii.gz").exists()
    assert (unit / "maps.zarr/coef_Story").is_dir()
    assert np.load(unit / "predictions/valid_all.npy").shape == (7737, 40)
    folder = next((unit / "drama2brain").glob("TR8_10s/semantic_*/*/SimulatedLM_*/layer2_2_2_2_2"))
    key = "semantic_story_cw1_avgToken_ALL_SimulatedLM_2"
    assert set(p.stem for p in (folder / "cc_6PCs").iterdir()) >= {"all", key}
    np.testing.assert_allclose(np.load(folder / "cc_6PCs/all.npy"), found["r"], atol=1e-6)
    assert np.load(folder / f"coef_6PCs/{key}.npy").shape == (6, 40)
    assert (folder / "dist_6PCs.png").read_bytes()[:4] == b"\x89PNG"
    group = pd.read_csv(multi / "tables/group.csv")
    pairs = group[(group["quantity"] == "unique R2") & group["other"].notna()]
    assert len(pairs) == 10
    assert not json.loads((multi / "facts.json").read_text())["split"]["poison_audit"]["weights"]


def test_components_of_the_weights_are_of_the_features_and_say_who_carries_what(root, multi):
    """The paper's figure 4: scikit-learn's PCA of weights led back from six components to twelve features."""
    table = pd.read_csv(multi / "tables/weight_pca.csv")
    assert len(table) == 5 * 3 * 3
    carries = np.load(root / "planted/simulated_DM01_carries.npy")
    group = multi / "weight_pca/all"
    for band, planted in (("Speech", carries[:, 0]), ("Story", carries[:, 2])):
        unit = multi / "subjects/DM01/all"
        projection = load_projection(unit / f"projection_{band}.safetensors")
        coef = np.asarray(open_zarr(unit / "maps.zarr", f"coef_{band}")[...], dtype=float)
        weights = projection.components.T @ coef
        own = table[(table["band"] == band) & (table["subject"] == "DM01")]
        reference = PCA(3, svd_solver="full").fit(weights.T)
        np.testing.assert_allclose(own["share"], reference.explained_variance_ratio_, rtol=1e-4)
        components = np.load(group / f"components_{band}.npy")
        assert components.shape == (3, 12)
        found, where = read_maps(group / "DM01")
        scores = np.stack([found[f"{band}_pc{k}"] for k in (1, 2, 3)])
        np.testing.assert_allclose(scores, components @ (weights - weights.mean(axis=1, keepdims=True)), atol=1e-3)
        strength = np.zeros(len(planted))
        strength[maps_order(multi)] = (scores**2).sum(axis=0)
        assert roc_auc_score(planted, strength) > 0.8, band
        assert where is not None
        assert (group / f"DM01/maps/{band}_pc1.nii.gz").exists()


def maps_order(folder: Path) -> np.ndarray:
    """Columns of DM01's recording in the order of maps."""
    return read_maps(folder / "subjects/DM01/all")[0]["column"].to_numpy()


def test_maps_lie_where_the_voxels_are(root, multi):
    """tvoxels counts from 1 along the first axis first."""
    numbers = loadmat(root / "fmri_bbregister/DM01/vset_099.mat")["tvoxels"].ravel().astype(int) - 1
    at = np.unravel_index(numbers, (96, 96, 72), order="F")
    image = nib.load(multi / "subjects/DM01/all/maps/r.nii.gz")
    found = maps(multi, "DM01", "all")
    np.testing.assert_allclose(image.get_fdata()[at], found["r"], atol=1e-6)
    assert np.isfinite(image.get_fdata()).sum() == 40


def test_the_report_is_written(multi, tmp_path, capsys):
    assert cli.run(["report", "--run", str(multi), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page/report.html").read_text()
    assert "SIMULATED" in page
    assert "DM03" in page


def test_every_band_has_its_own_delays_and_reduction_beside_nuisances(root, tmp_path):
    flags = ["--subjects", "DM03", "--nuisance", "word_rate", "position"]
    flags += ["--bands.Speech.time_delays", "null", "--bands.Speech.delays_s", "4", "8", "--bands.Object.pca", "3"]
    flags += ["--bands.Story.pca", "null", "--bands.Story.time_delays", "0", "2"]
    atlas, labels = tmp_path / "atlas.nii.gz", np.ones((96, 96, 72), dtype=np.int16)
    labels[48:] = 2
    nib.save(nib.Nifti1Image(labels, np.diag([-2.0, 2, 2, 1])), atlas)
    flags += ["--data.reference", str(atlas), "--data.rois", str(atlas)]
    _, values, path = load_config(str(root / "drama2brain_multi.yaml"))
    values["bands"] = {name: values["bands"][name] for name in ("Speech", "Object", "Story")}
    config = build(drama2brain_encode.Config, values, path, ["--data.root", str(root), *FAST, *flags], "test")
    folder = run(config, tmp_path / "run")
    facts = json.loads((folder / "subjects/DM03/all/facts.json").read_text())
    columns = {name: band["n_columns"] for name, band in facts["bands"].items()}
    assert columns == {"Speech": 12, "Object": 3, "Story": 12, "word_rate": 5, "position": 2}
    found = maps(folder, "DM03", "all")
    assert {"unique_language", "r_full", "r_nuisance", "unique_Speech", "share_word_rate"} <= set(found)
    assert found["unique_language"].max() > 0.01
    assert found["r_nuisance"].abs().max() < found["r"].max()  # nothing was planted there
    assert set(found["roi"]) == {"label_1", "label_2"}
    profiles = pd.read_csv(folder / "tables/roi_profiles.csv")
    assert set(profiles["roi"]) == {"whole brain", "label_1", "label_2"}
    image = nib.load(folder / "subjects/DM03/all/maps/r.nii.gz")
    np.testing.assert_array_equal(image.affine, np.diag([-2.0, 2, 2, 1]))
    assert (np.isfinite(image.get_fdata()[:48]).sum(), 24) == ((found["roi"] == "label_1").sum(), len(found))
    assert "nuisance bands" in json.loads((folder / "card.json").read_text())["headline"]


def test_what_is_multimodal_is_told_from_both_of_its_parts(root, tmp_path):
    """SIMULATED: the "multimodal" states hold those of language, of vision, and of what else the film means (Story)."""
    for name in ("fmri_pre", "fmri_bbregister", "captions", "simulated.json"):
        (tmp_path / name).symlink_to(root / name)
    states = root / "stim_features/semantic"
    (tmp_path / "stim_features").mkdir()
    (tmp_path / "stim_features/semantic").symlink_to(states)
    parts = ("objectiveAnnot50chara", "speechTranscription", "story")
    makes = {"vision/avgToken/SimulatedVision": parts[1:2],
             "vision-semantic/default-objectiveAnnot50chara_avgToken/SimulatedBoth": parts}  # fmt: skip
    for place, levels in makes.items():
        (tmp_path / "stim_features" / place / "layer2").mkdir(parents=True)
        for file in (states / f"{parts[0]}_cw1_avgToken_ALL/SimulatedLM/layer2").iterdir():
            values = [np.load(states / f"{level}_cw1_avgToken_ALL/SimulatedLM/layer2" / file.name) for level in levels]
            np.save(tmp_path / "stim_features" / place / "layer2" / file.name, np.hstack(values))
    _, values, path = load_config("drama2brain_multimodal")
    models = {
        "Text": ("SimulatedLM", "6"),
        "Vision": ("SimulatedVision", "6"),
        "Multimodal": ("SimulatedBoth", "18"),
    }
    flags = ["--data.root", str(tmp_path), "--partition", "leave-one-out"]
    for band, (model, pca) in models.items():
        flags += [f"--bands.{band}.model", model, f"--bands.{band}.layer", "2", f"--bands.{band}.pca", pca]
        flags += [f"--bands.{band}.time_delays", "8", "10"]
    folder = run(build(drama2brain_encode.Config, values, path, [*FAST, *flags], "test"), tmp_path / "run")
    carries = [np.load(root / f"planted/simulated_{subject}_carries.npy") for subject in SUBJECTS]
    tables = [maps(folder, subject, "all") for subject in SUBJECTS]
    story = np.concatenate([planted[:, 2] for planted in carries])
    unique = {band: np.concatenate([table[f"unique_{band}"] for table in tables]) for band in models}
    assert roc_auc_score(story, unique["Multimodal"]) > 0.95
    # What the multimodal states hold as well is no longer the parts' own, wherever it was planted.
    assert unique["Multimodal"][story].mean() > 0.01 > max(abs(unique[band]).mean() for band in ("Text", "Vision"))
    group = pd.read_csv(folder / "tables/group.csv", keep_default_na=False, na_values=[""])
    rows = group[(group["quantity"] == "unique R2") & (group["roi"] == "whole brain")]
    whole = rows[rows["other"].isna()].set_index("model")
    assert whole["mean"].idxmax() == "Multimodal"
    assert whole.loc["Multimodal", ["n_positive", "n_best"]].tolist() == [2, 2]
    found = pd.concat(tables)
    shares = {band: (found[f"unique_{band}_p"] <= 0.05).to_numpy() for band in models}
    assert shares["Multimodal"][story].mean() > 0.8
    assert max(shares["Text"].mean(), shares["Vision"].mean()) < 0.15
    said = unique_sentences(json.loads((folder / "facts.json").read_text()), group, pd.read_csv(
        folder / "tables/unique_profiles.csv"))  # fmt: skip
    assert any(text.startswith("Multimodal explains a mean R2 of 0.0") and "beyond Text and Vision" in text
               and "above 0 in 2 of 2 subjects" in text for text in said)  # fmt: skip


# Faithful --------------------------------------------------------------------------------------------------------


def test_faithful_is_the_published_encoder(root, tmp_path):
    flags = ["--mode", "faithful", "--bands.Speech.layer", "2", "--authors_files", "true", "--save_pred", "true"]
    folder = run(make(root, "mono", "--subjects", "DM03", *flags), tmp_path / "run")
    recording = load_drama2brain(root, ["DM03"], annotations=False).recordings["DM03"]
    path = "semantic/speechTranscription_cw1_avgToken_ALL/SimulatedLM/layer2"
    samples = recording.samples
    found = encode_faithful(
        load_drama2brain_features(root, {"Speech": path}).bands, recording.values, parts=samples["part_all"],
        titles=samples["title"], runs=samples["run"], folds=samples["fold"], time_delays=(8, 10), nested=True,
        keep_predictions=True,
    )  # fmt: skip
    unit = folder / "subjects/DM03/Speech-SimulatedLM-layer2"
    saved = unit / "drama2brain/TR8_10s" / path
    expected = {
        "cc_raw": found.cc["all"], "cv_cc_raw": found.cv_cc, "pvalues_corrected_raw": found.pvalues_corrected["all"],
        "coef_raw": found.coef["Speech"], "preds_val_raw": found.predictions["all"],
        "preds_trn_raw": found.nested_predictions,
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_array_equal(
            np.load(saved / f"{name}.npy"), values.astype(np.load(saved / f"{name}.npy").dtype)
        )
    assert (saved / "dist_raw.png").exists()
    np.testing.assert_array_equal(maps(folder, "DM03", "Speech-SimulatedLM-layer2")["r"], found.cc["all"])


# Units, shares, workers ------------------------------------------------------------------------------------------


def test_finished_units_are_not_computed_again(root, mono, monkeypatch, caplog):
    before = files(mono)
    monkeypatch.setattr(drama2brain_corrected, "score", lambda *args: pytest.fail("computed again"))
    run(make(root, "mono"), mono)
    assert files(mono) == before
    monkeypatch.undo()
    damaged = mono / "subjects/DM03/Speech-SimulatedLM-layer1/scores.parquet"
    damaged.write_bytes(b"damage")
    run(make(root, "mono"), mono)
    assert "is computed again" in caplog.text
    after = files(mono)
    assert {name for name in before if after[name] != before[name]} <= {"history.jsonl"}


def test_subjects_share_the_features_part(root, tmp_path, monkeypatch):
    fitted, whole = [], drama2brain_corrected.fit_tiles

    def counted(Xs, files, *args, **kw):
        fitted.append(list(files))
        return whole(Xs, files, *args, **kw)

    monkeypatch.setattr(drama2brain_corrected, "fit_tiles", counted)
    run(make(root, "mono", "--bands.Speech.layer", "2"), tmp_path / "run")
    assert fitted == [list(SUBJECTS)]


@pytest.mark.slow
def test_two_processes_share_a_run(root, tmp_path):
    config = root / "drama2brain_mono.yaml"
    command = [sys.executable, "-m", "wernicke", "encode", "--config", str(config), "--data.root", str(root), *FAST]
    # The alone one is a process too: libraries that a test session has loaded may round otherwise.
    calls = (["shared", "--part", "1/2"], ["shared", "--part", "2/2"], ["alone"])
    started = [
        subprocess.Popen([*command, "--run", str(tmp_path / name), *flags], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
        for name, *flags in calls
    ]  # fmt: skip
    for process in started:
        _, error = process.communicate(timeout=500)
        assert process.returncode == 0, error
    assert (tmp_path / "shared/manifest.json").exists()  # by the last share
    alone, shared = files(tmp_path / "alone"), files(tmp_path / "shared")
    for name in alone:
        if name.startswith(("subjects/", "tables/")):
            assert shared[name] == alone[name], name
    run(make(root, "mono"), tmp_path / "shared", part="merge")
    assert files(tmp_path / "shared")["manifest.json"] == shared["manifest.json"]


def test_shares_are_locked_and_merged_when_all_are_there(root, tmp_path):
    config, folder = make(root, "mono", "--bands.Speech.layer", "2"), tmp_path / "run"
    run(config, folder, part="1/2")
    assert not (folder / "manifest.json").exists()
    with pytest.raises(InputError, match="1 of 2 units are not finished: subjects/DM03"):
        run(config, folder, part="merge")
    with Share(2, 2).locked(folder), pytest.raises(RunInUseError):
        run(config, folder, part="2/2")
    with pytest.raises(InputError, match="other settings: seed: 42 there, 7 given"):
        run(make(root, "mono", "--bands.Speech.layer", "2", "--seed", "7"), folder, part="2/2")
    run(make(root, "mono", "--bands.Speech.layer", "2", "--device", "cpu"), folder, part="2/2")
    assert (folder / "manifest.json").exists()
    assert len(pd.read_csv(folder / "tables/models.csv")) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_dask_workers_of_which_one_dies_give_the_same_maps(root, mono, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    import os
    import signal

    whole, killed = drama2brain_corrected.fit_tiles, []

    def deadly(*args, client, **kw):
        """Kill one of the two workers while it has tiles to do."""
        pids = client.run(os.getpid)
        assert len(pids) == 2 or killed
        if not killed:
            worker, pid = next(iter(pids.items()))
            killed.append(client.submit(os.kill, pid, signal.SIGKILL, workers=[worker], pure=False, retries=0))
        return whole(*args, client=client, **kw)

    monkeypatch.setattr(drama2brain_corrected, "fit_tiles", deadly)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster:
        flags = ["--tile", "4", "--bands.Speech.layer", "2"]
        config = make(root, "mono", "--cluster", cluster.scheduler_address, *flags)
        folder = run(config, tmp_path / "run")
    monkeypatch.undo()
    assert killed
    alone = run(make(root, "mono", *flags), tmp_path / "alone")
    for subject in SUBJECTS:
        unit = f"subjects/{subject}/Speech-SimulatedLM-layer2"
        assert (folder / unit / "scores.parquet").read_bytes() == (alone / unit / "scores.parquet").read_bytes()
        found, other = (
            maps(folder, subject, "Speech-SimulatedLM-layer2"),
            maps(mono, subject, "Speech-SimulatedLM-layer2"),
        )
        np.testing.assert_allclose(found["r"], other["r"], atol=1e-5)


# Bad inputs ------------------------------------------------------------------------------------------------------


BAD = [
    (["--bands.Speech.layer", "7"], "no folder `layer7`\n  found layer1, layer2"),
    (["--bands.Speech.model", "SimulatedML"], "no folder `SimulatedML`\n  found SimulatedLM"),
    (["--bands.Speech.annotation", "storry"], "unknown value `storry`\n  did you mean `story`?"),
    (["--bands.Speech.pca", "99"], "bands.Speech.pca: found 99, expected a number at least 1 and at most 12"),
    (["--bands.Speech.pca", "3", "--bands.Speech.srp", ".5"], "bands.Speech.pca: found srp beside it"),
    (["--bands.Speech.time_delays", "10", "8"], "found \\[10, 8\\], expected the first and the last shift"),
    (["--bands.Speech.delays_s", "4"], "found delays_s beside it"),
    (["--subjects", "DM02"], "unknown value `DM02`"),
    (["--subjects", "DM11"], "no responses of DM11\n  found DM01, DM03"),
    (["--subjects", "DM01", "DM01"], "expected each subject once"),
    (["--nuisance", "word_rat"], "unknown value `word_rat`\n  did you mean `word_rate`?"),
    (["--mode", "faithful", "--nuisance", "position"], "the published code knows no nuisance bands"),
    (["--cluster", "local"], "found 'local', expected local:N"),
    (["--reg_type", "multi"], "found 1 bands beside nuisances, expected at least 2"),
    (["--tail", "pareto"], "n_permutations: found 19, expected a number at least 500"),
    (["--data.folders.stim", "absent"], "folders.stim: no such folder"),
]


@pytest.mark.parametrize(("flags", "message"), BAD)
def test_what_cannot_be_is_refused(root, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        run(make(root, "mono", *flags), tmp_path / "run")


def test_faithful_has_one_delay_and_one_reduction(root):
    with pytest.raises(InputError, match="bands.Story: Story differs from Speech in its reduction"):
        make(root, "multi", "--mode", "faithful", "--bands.Story.pca", "3")
    with pytest.raises(InputError, match="bands.Object: Object differs from Speech in its shifts"):
        make(root, "multi", "--mode", "faithful", "--bands.Object.time_delays", "3", "5")


@pytest.mark.parametrize(("name", "model"), [("drama2brain_mono", "GPT2"), ("drama2brain_multi", "Llama2")])
def test_a_shipped_config_on_simulated_data_says_which_config_fits(root, tmp_path, name, model):
    _, values, path = load_config(name)
    config = build(drama2brain_encode.Config, values, path, ["--data.root", str(root)], "test")
    with pytest.raises(InputError, match=f"no folder `{model}`\n.*these data are simulated: --config .*drama2brain_"):
        run(config, tmp_path / "run")


def test_bad_features_are_refused_with_their_file(root, tmp_path):
    for name in ("fmri_pre", "fmri_bbregister", "simulated.json"):
        (tmp_path / name).symlink_to(root / name)
    layer = Path("stim_features/semantic/speechTranscription_cw1_avgToken_ALL/SimulatedLM/layer2")
    shutil.copytree(root / layer, tmp_path / layer)
    config = make(root, "mono", "--data.root", str(tmp_path), "--bands.Speech.layer", "2")
    file = tmp_path / layer / "Crown_002.npy"
    good = np.load(file)
    for bad, code, what in ((good[:-1], "E-SHAPE", "expected 625 rows"), (good[:, :3], "E-SHAPE", "found 3 features"),
                            (np.where(good == good[30, 2], np.nan, good), "E-NONFIN", "NaN or infinite")):  # fmt: skip
        np.save(file, bad)
        with pytest.raises(InputError, match=f"{code} .*Crown_002.npy.*{what}"):
            run(config, tmp_path / "run")
    file.unlink()
    with pytest.raises(InputError, match="E-REF .*Crown_002.npy"):
        run(config, tmp_path / "run")


def test_a_folder_of_another_run_is_left_alone(root, mono):
    before = files(mono)
    with pytest.raises(InputError, match="other settings: n_permutations: 19 there, 29 given"):
        run(make(root, "mono", "--n_permutations", "29"), mono)
    assert files(mono) == before


@pytest.mark.slow
def test_the_planted_map_of_six_subjects_is_recovered(tmp_path):
    """At the real map's strength, five bands reduced by PCA. Voxels that carry a level beside a stronger one, with
    little of it, are the ones that are missed."""
    data = simulate_drama2brain(tmp_path / "data")
    flags = ["--n_iter", "5", "--top_voxels", "40"]
    folder = run(make(data, "multi", *flags), tmp_path / "run")
    carries, found = [], []
    for subject in drama2brain_simulate.SUBJECTS:
        found.append(maps(folder, subject, "all"))
        carries.append(np.load(data / "planted" / f"simulated_{subject}_carries.npy"))
        strength = np.load(data / "planted" / f"simulated_{subject}_r.npy")
        assert roc_auc_score(strength > 0, found[-1]["r"]) > 0.97
        assert found[-1]["r"].mean() == pytest.approx(strength.mean(), abs=0.012)
    table, planted = pd.concat(found), np.concatenate(carries)
    levels = ("Speech", "Object", "Story", "Summary", "TimePlace")
    for i, level in enumerate(levels):
        assert roc_auc_score(planted[:, i], table[f"share_{level}"]) > 0.95, level
        assert roc_auc_score(planted[:, i], -table[f"unique_{level}_p"]) > 0.93, level
        assert roc_auc_score(planted[:, i], table[f"unique_{level}"]) > 0.85, level
        false = table.loc[~planted[:, i], f"unique_{level}_p"] <= 0.05
        assert false.mean() < 0.08, level
    group = pd.read_csv(folder / "tables/group.csv")
    whole = group[(group["quantity"] == "unique R2") & group["other"].isna()].set_index("model")
    assert (whole["n_subjects"] == 6).all()
    # Planted: speech, objects and stories in three times as many voxels as summaries and places.
    assert whole.loc[list(levels[:3]), "mean"].min() > whole.loc[list(levels[3:]), "mean"].max()


# The published code's own numbers, through the command ------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(shared, tmp_path_factory):
    """The reference data (simulated) in the authors' folders, and what the published code made of them."""
    folder, root = shared / "data" / "reference" / "drama2brain", tmp_path_factory.mktemp("reference")
    with np.load(folder / "inputs.npz", allow_pickle=False) as inputs:
        for name in inputs.files:
            kind, *rest, title, number = name.split("/") if name.count("/") > 1 else ("", "", "")
            if kind == "resp":
                path = root / "fmri_pre" / "DM01" / f"{title}_{number}_CerebCortex.npy"
            elif kind == "feat":
                path = root / "stim_features" / "semantic" / "/".join(rest) / f"{title}_{int(number) + 1:03d}.npy"
            else:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, inputs[name].astype(np.float32))
    outputs = {}
    for name in ("mono_default", "mono_pca8", "multi"):
        with np.load(folder / f"outputs_{name}.npz", allow_pickle=False) as file:
            outputs[name] = dict(file)
    return root, outputs


def published(root: Path, folder: Path, name: str, *flags: str) -> Path:
    """Run a shipped config in `faithful` on the reference data; return where the published files are."""
    _, values, path = load_config(name)
    if name.endswith("multi"):
        values["bands"] = {band: values["bands"][band] for band in ("Speech", "Object")}
    flags = ["--data.root", str(root), "--mode", "faithful", "--authors_files", "true", *flags]
    run(build(drama2brain_encode.Config, values, path, flags, "test"), folder)
    return folder / "subjects/DM01"


@pytest.mark.slow
def test_mono_gives_the_published_numbers(reference, tmp_path):
    root, outputs = reference
    units = published(root, tmp_path / "run", "drama2brain_mono")
    for layer in ("layer1", "layer2"):
        saved = units / f"Speech-GPT2-{layer}/drama2brain/TR8_10s/semantic/speechTranscription_cw1_avgToken_ALL/GPT2"
        for what, atol in (("cc", 1e-5), ("cv_cc", 1e-5), ("pvalues_corrected", 1e-12)):
            expected = outputs["mono_default"][f"{layer}/{what}"]
            np.testing.assert_allclose(np.load(saved / layer / f"{what}_raw.npy"), expected, rtol=0, atol=atol)
        coef = outputs["mono_default"][f"{layer}/coef"]
        np.testing.assert_allclose(np.load(saved / layer / "coef_raw.npy"), coef, atol=1e-4 * np.abs(coef).max())
    pca = published(root, tmp_path / "pca", "drama2brain_mono", "--bands.Speech.layer", "2", "--bands.Speech.pca", "8")
    (file,) = pca.rglob("cc_8PCs.npy")
    np.testing.assert_allclose(np.load(file), outputs["mono_pca8"]["layer2/cc"], atol=1e-5)


@pytest.mark.slow
def test_multi_gives_the_published_numbers(reference, tmp_path):
    root, outputs = reference
    flags = ["--n_iter", "2", "--bands.Speech.model", "GPT2", "--bands.Speech.layer", "2", "--bands.Object.layer", "3"]
    flags += ["--bands.Speech.pca", "null", "--bands.Object.pca", "null"]
    units = published(root, tmp_path / "run", "drama2brain_multi", *flags)
    (folder,) = units.glob("all/drama2brain/TR8_10s/semantic_semantic/*/GPT2_Llama2/layer2_3")
    keys = {"all": "all", "speech": "semantic_speechTranscription_cw1_avgToken_ALL_GPT2_2",
            "object": "semantic_objectiveAnnot50chara_cw1_avgToken_ALL_Llama2_3"}  # fmt: skip
    for theirs, ours in keys.items():
        np.testing.assert_allclose(
            np.load(folder / "cc_raw" / f"{ours}.npy"), outputs["multi"][f"cc/{theirs}"], rtol=0, atol=1e-5
        )
        assert np.load(folder / "preds_raw" / f"{ours}.npy").shape == outputs["multi"][f"preds/{theirs}"].shape
    found = maps(tmp_path / "run", "DM01", "all")
    # Planted: voxels 0-9 speech, 10-19 objects, 20-29 both.
    assert found["unique_Speech"][:10].min() > 0.05 > found["unique_Speech"][10:20].max()
    assert found["unique_Object"][10:20].min() > 0.05 > found["unique_Object"][:10].max()
