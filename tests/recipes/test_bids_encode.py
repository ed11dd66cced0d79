"""BIDS derivatives to maps by command: real volumes of Haxby et al. 2001, and simulated surfaces with a planted map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

import tiny_bids as tiny
from haxby_bids import SPACE, make_haxby
from wernicke import cli
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface
from wernicke.data.bids import load_bids
from wernicke.data.confounds import MOTION, Preprocess
from wernicke.recipes import bids_encode, bids_fit, planning_bids
from wernicke.recipes.bids_bands import find_delays, make_bands
from wernicke.recipes.bids_source import BidsSource, events_of
from wernicke.recipes.config import build, load_config
from wernicke.ridge.draws import draw_balances
from wernicke.stats.autocorrelation import block_length, cap_blocks

NUISANCE = ["on_off", "position", "head_motion", "untrained_twin"]
QUICK = {"n_iter": 1, "alphas": [1.0, 10.0, 100.0], "n_permutations": 99, "tail": "counted", "layer": 1}


def write_config(path: Path, **changes) -> Path:
    """The shipped config with some keys changed, those in dictionaries one by one."""
    _, values, _ = load_config("bids_encode")
    for key, value in (QUICK | changes).items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump({"recipe": "bids_encode", **values}))
    return path


def config_of(path: Path) -> bids_encode.Config:
    _, values, where = load_config(str(path))
    return build(bids_encode.Config, values, where, [], "test")


def columns(run: Path, subject: str = "01") -> pd.DataFrame:
    (table,) = (run / "subjects" / subject).glob("*/scores.parquet")
    return pd.read_parquet(table)


# Real volumes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def haxby(shared: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """(data set, run, command): eight of the twelve runs of one slice, from volumes to maps with nuisance bands."""
    folder = tmp_path_factory.mktemp("haxby")
    root = make_haxby(folder / "ds", shared / "data" / "haxby2001", n_runs=8)
    sentences = load_config("haxby_encode")[1]["sentences"]
    config = write_config(
        folder / "haxby.yaml", nuisance=NUISANCE, llm=str(tiny_llm),
        text={"column": "trial_type", "sentences": sentences, "kind": "captions", "context_s": 2.5, "pool": "mean"},
    )  # fmt: skip
    run = folder / "run"
    command = ["encode", "--config", str(config), "--data.root", str(root), "--data.space", SPACE, "--subjects", "01",
               "--run", str(run)]  # fmt: skip
    assert cli.run(command) == 0
    return root, run, command


@pytest.mark.slow
def test_haxby_from_volumes_to_maps(haxby: tuple[Path, Path, list[str]]) -> None:
    _, run, _ = haxby
    table = columns(run)
    assert len(table) == 530
    assert {"r", "p", "p_fdr", "alpha", "r_nuisance", "unique_language", "unique_language_p_fdr"} <= set(table.columns)
    image = nib.load(run / "subjects/01/llama-layer1/maps/r.nii.gz")
    assert image.shape == (40, 20, 1)
    np.testing.assert_allclose(image.get_fdata().ravel()[table["voxel"]], table["r"], atol=1e-6)
    # A picture block is the largest thing in this slice, and on/off and motion predict it.
    assert table["r"].mean() > 0.15
    assert (table["p_fdr"] <= 0.05).mean() > 0.5


@pytest.mark.slow
def test_eight_sentences_are_nothing_beyond_their_twin(haxby: tuple[Path, Path, list[str]]) -> None:
    """Any eight distinct vectors span the same contrasts, so the trained model can have no unique variance here."""
    table = columns(haxby[1])
    assert abs(table["unique_language"].mean()) < 0.005
    assert not (table["unique_language_p_fdr"] <= 0.05).any()


@pytest.mark.slow
def test_facts_and_card_say_what_was_done(haxby: tuple[Path, Path, list[str]]) -> None:
    _, run, _ = haxby
    facts = json.loads((run / "facts.json").read_text())
    assert facts["recipe"] == "bids_encode"
    assert not facts["data"]["simulated"]
    assert facts["data"]["source"]["licence"] == "CC BY-SA 3.0"
    assert facts["features"]["bands"]["language"]["delays_s"] == [2.5, 5.0, 7.5]  # nearest to 2, 4, 6 and 8 s
    assert facts["features"]["bands"]["head_motion"]["delays_s"] == [0.0]
    assert facts["split"]["overlaps"] == {"run": 0, "stimulus_id": 8}
    assert not any(facts["split"]["poison_audit"].values())
    assert [r["n_kept"] for r in facts["preprocess"]["runs"]["01"]] == [121] * 8
    assert facts["preprocess"]["settings"]["high_pass"] == "cosine"
    card = {line["code"]: line["result"] for line in json.loads((run / "card.json").read_text())["lines"]}
    assert card["V11"] == card["V9"] == card["V10"] == "PASS"
    assert card["V7"] == "WARN"  # the eight categories stand in every run, which is said
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["preprocess"]["standardise"] == "zscore"


@pytest.mark.slow
def test_a_second_call_computes_nothing_and_the_report_shows_it(haxby: tuple[Path, Path, list[str]]) -> None:
    _, run, command = haxby
    before = {path: path.stat().st_mtime_ns for path in (run / "subjects").rglob("*") if path.is_file()}
    assert cli.run(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert cli.run(["report", "--run", str(run)]) == 0
    assert "Haxby et al. 2001" in (run / "report.html").read_text()


# Simulated surfaces with a planted map -------------------------------------------------------------------------------

N_RUNS, N_TR, TR_S, N_VERTICES, N_PLANTED = 4, 90, 2.0, 24, 8
REGIONS = ("planted", "near", "far")
WORDS = ("the", "cat", "saw", "a", "house", "and", "every", "shoe", "in", "that", "quiet", "street", "while", "one")


def write_series(root: Path, values: np.ndarray) -> None:
    """(n_runs * N_TR, 2 * N_VERTICES) as GIFTI files; random numbers, no recording."""
    func = root / "sub-01" / "func"
    for run in range(N_RUNS):
        part = values[run * N_TR : (run + 1) * N_TR].astype(np.float32)
        for side, hemi in enumerate("LR"):
            stem = f"sub-01_task-story_run-{run + 1}_hemi-{hemi}_space-fsnative_bold"
            tiny.write_gifti(func / f"{stem}.func.gii", part[:, side * N_VERTICES : (side + 1) * N_VERTICES])
            tiny.write_json(func / f"{stem}.json", {"RepetitionTime": TR_S})


@pytest.fixture(scope="module")
def planted(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(config, run): the first vertices of the left hemisphere follow the language band, the others are noise."""
    folder = tmp_path_factory.mktemp("planted")
    root, rng = folder / "ds", np.random.default_rng(0)
    for run in range(N_RUNS):
        onsets = np.arange(0.2, N_TR * TR_S - 1, 0.9)
        rows = [(round(t, 2), 0.3, rng.choice(WORDS)) for t in onsets]
        tiny.write_events(root / f"sub-01/func/sub-01_task-story_run-{run + 1}_events.tsv", rows,
                          "onset\tduration\tword")  # fmt: skip
        tiny.write_confounds(root / f"sub-01/func/sub-01_task-story_run-{run + 1}_desc-confounds_timeseries.tsv", N_TR,
                             run)  # fmt: skip
    tiny.write_json(root / "simulated.json", {})
    noise = rng.standard_normal((N_RUNS * N_TR, 2 * N_VERTICES))
    write_series(root, noise)
    tiny.write_label_gifti(folder / "atlas/sub-01_hemi-L.label.gii", np.arange(N_VERTICES) // N_PLANTED, REGIONS)
    path = write_config(
        folder / "c.yaml", data={"root": str(root), "rois": f"{folder}/atlas/sub-{{subject}}_hemi-?.label.gii"},
        llm=str(tiny_llm), layer="all", nuisance=["word_rate", "position"], n_permutations=199,
        preprocess={"confounds": ["motion"], "motion": "basic", "trim_start_s": 8.0}, text={"context_s": 6.0},
        alphas=[0.1, 1.0, 10.0, 100.0],
    )  # fmt: skip
    config = config_of(path)
    recording = load_bids(root).recordings["01"]
    bands = make_bands(config, recording, events_of(load_bids(root).events, "01", config.text))
    language = bands.columns(1, bands.kept)["language"]
    signal = language @ rng.standard_normal((language.shape[1], N_PLANTED))
    noise[:, :N_PLANTED] += (signal - signal.mean(axis=0)) / signal.std(axis=0)
    write_series(root, noise)
    run = folder / "run"
    bids_encode.encode(config, run)
    return path, run


@pytest.mark.slow
def test_planted_vertices_are_found_beyond_nuisances(planted: tuple[Path, Path]) -> None:
    table = columns(planted[1])
    truth = (table["hemisphere"] == "left") & (table["voxel"] < N_PLANTED)
    assert truth.sum() == N_PLANTED
    found, rest = table.loc[truth, "unique_language"], table.loc[~truth, "unique_language"]
    area = (found.to_numpy()[:, None] > rest.to_numpy()).mean()
    assert area > 0.95
    assert (table.loc[truth, "unique_language_p_fdr"] <= 0.05).mean() >= 0.75
    # 40 null vertices at .05: more than 6 has a probability of .001
    assert (table.loc[~truth, "unique_language_p"] <= 0.05).sum() <= 6


@pytest.mark.slow
def test_trimmed_rows_are_in_no_fit_and_surfaces_get_maps(planted: tuple[Path, Path]) -> None:
    _, run = planted
    facts = json.loads((run / "facts.json").read_text())
    assert facts["data"]["simulated"]
    assert [r["n_kept"] for r in facts["preprocess"]["runs"]["01"]] == [N_TR - 4] * N_RUNS
    assert len(facts["preprocess"]["runs"]["01"][0]["confounds"]) == 6
    (left,) = run.rglob("unique_language.L.func.gii")
    assert len(nib.load(left).darrays[0].data) == N_VERTICES
    table = pd.read_csv(run / "tables" / "models.csv")
    assert table["data"].tolist() == ["SIMULATED"]
    assert not list((run / ".work").glob("01*"))  # what was kept to go on with


@pytest.mark.slow
def test_training_runs_choose_the_planted_layer(planted: tuple[Path, Path]) -> None:
    _, run = planted
    facts = json.loads((run / "facts.json").read_text())
    assert facts["features"]["layer_by_fold"] == {"01": [1] * N_RUNS}
    assert facts["split"]["poison_audit"].keys() >= {"layer", "weights"}
    assert not any(facts["split"]["poison_audit"].values())
    layers = pd.read_csv(run / "tables" / "layers.csv")
    assert layers["layer"].tolist() == [0, 1, 2]
    assert layers["n_folds"].tolist() == [0, N_RUNS, 0]
    assert layers["best"].tolist() == [False, True, False]
    table = columns(run)
    assert (table["best_layer"][:N_PLANTED] == 1).mean() >= 0.75
    assert cli.run(["report", "--run", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "3 layers" in page  # the curve
    assert "chosen among 0 to 2" in page


@pytest.mark.slow
def test_tables_by_region_and_by_what_was_fitted(planted: tuple[Path, Path]) -> None:
    _, run = planted
    profiles = pd.read_csv(run / "tables" / "roi_profiles.csv").set_index(["roi", "model"])["mean"]
    assert set(profiles.index.get_level_values("roi")) == {"whole brain", *(f"lh-{name}" for name in REGIONS)}
    assert profiles["lh-planted", "language alone"] > 0.3 > 0.1 > abs(profiles["lh-near", "language alone"])
    won = pd.read_csv(run / "tables" / "winners.csv").set_index(["roi", "winner"])["share"]
    assert won["lh-planted", "language alone"] == 1.0
    unique = pd.read_csv(run / "tables" / "unique_profiles.csv").set_index(["roi", "model"])["mean"]
    assert unique["lh-planted", "language"] > 0.1 > unique["lh-far", "language"]
    pairs = pd.read_csv(run / "tables" / "group.csv", keep_default_na=False)
    row = pairs[(pairs["roi"] == "lh-planted") & (pairs["model"] == "all bands") & (pairs["other"] == "nuisance alone")]
    expected = profiles["lh-planted", "all bands"] - profiles["lh-planted", "nuisance alone"]
    assert float(row["mean"].iloc[0]) == pytest.approx(expected)
    table = columns(run)
    shares = table[[c for c in table if c.startswith("share_")]]
    np.testing.assert_allclose(shares.sum(axis=1), table["r"], atol=1e-5)  # the product measure divides r


@pytest.mark.slow
def test_other_settings_are_refused_and_nothing_is_touched(planted: tuple[Path, Path]) -> None:
    path, run = planted
    before = (run / "manifest.json").read_bytes()
    assert cli.run(["encode", "--config", str(path), "--layer", "2", "--run", str(run)]) == 2
    assert (run / "manifest.json").read_bytes() == before


# One fold against other people's solvers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fold(planted: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first left-out run of the planted set at layer 1, with what it was made from."""
    config = replace(config_of(planted[0]), layer=1, data=replace(config_of(planted[0]).data, rois=None))
    found = config.data.load(["01"], config.preprocess, None)
    recording = found.study.recordings["01"]
    bands = make_bands(config, recording, events_of(found.study.events, "01", config.text))
    samples = recording.samples.iloc[bands.kept].reset_index(drop=True).assign(stimulus_id=None)
    responses = bids_fit.Responses(recording.values, bands.kept, samples["run"].to_numpy())
    split = bids_encode.leave_runs_out(samples)[0]
    work = tmp_path_factory.mktemp("work")
    voxels = responses.varying(7)
    arguments = (replace(config, tile=7), bands, responses, voxels, [split], work)
    return {"config": config, "bands": bands, "responses": responses, "split": split, "arguments": arguments,
            "fold": bids_fit.fit_folds(*arguments)[0]}  # fmt: skip


def scaled_by_hand(fold: dict[str, Any]) -> list[np.ndarray]:
    """Columns of each band, delayed and scaled by a few lines of our own."""
    bands, train = fold["bands"], fold["split"].train_rows
    made = []
    for name, by_layer in bands.features.items():
        values = by_layer.get(1, by_layer.get(None))
        parts = []
        for delay in (0,) if name == "position" else bands.delays_tr:
            shifted = np.zeros(values.shape)
            for run in np.unique(bands.runs):
                rows = np.flatnonzero(bands.runs == run)
                shifted[rows[delay:]] = values[rows[: len(rows) - delay]]
            parts.append(shifted[bands.kept])
        columns = np.hstack(parts)
        columns = columns - columns[train].mean(axis=0)
        made.append(columns / np.sqrt(columns[train].var(axis=0).sum()))
    return made


def inner_folds(fold: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    runs = fold["responses"].runs[fold["split"].train_rows]
    return [(np.flatnonzero(runs != run), np.flatnonzero(runs == run)) for run in dict.fromkeys(runs)]


@pytest.mark.slow
def test_language_alone_is_ridge_of_sklearn(fold: dict[str, Any]) -> None:
    """Penalties tried one by one by leaving training runs out, by Pearson r; then the run that was left out."""
    from sklearn.linear_model import Ridge

    split, alphas = fold["split"], fold["config"].alphas
    X, Y = scaled_by_hand(fold)[0], fold["responses"].values[fold["bands"].kept].astype(float)
    X_train, Y_train = X[split.train_rows], Y[split.train_rows]
    scores = np.zeros((len(alphas), Y.shape[1]))
    for i, alpha in enumerate(alphas):
        for fit, choose in inner_folds(fold):
            predicted = Ridge(alpha=alpha).fit(X_train[fit], Y_train[fit]).predict(X_train[choose])
            scores[i] += [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, Y_train[choose].T, strict=True)]
    scores /= len(inner_folds(fold))
    models = fold["fold"].facts["models"]
    np.testing.assert_allclose(fold["fold"].array("cv_r")[models.index("language")], scores.max(axis=0), atol=1e-4)
    predicted = np.stack([
        Ridge(alpha=alphas[best]).fit(X_train, y).predict(X[split.test_rows])
        for best, y in zip(scores.argmax(axis=0), Y_train.T, strict=True)
    ], axis=1)  # fmt: skip
    np.testing.assert_allclose(fold["fold"].array("language"), predicted, atol=1e-3)


@pytest.mark.slow
def test_all_bands_are_himalayas_group_ridge(fold: dict[str, Any]) -> None:
    from himalaya.ridge import solve_group_ridge_random_search
    from himalaya.scoring import correlation_score

    split, config = fold["split"], fold["config"]
    Xs = scaled_by_hand(fold)
    Y = fold["responses"].values[fold["bands"].kept].astype(float)[split.train_rows]
    (gammas,) = draw_balances([(0, 1, 2)], config.n_iter, config.seed).values()
    gammas = np.maximum(gammas, 1e-9)  # himalaya divides by them
    deltas, coef, cv, intercept = solve_group_ridge_random_search(
        [X[split.train_rows] for X in Xs], Y, n_iter=gammas, alphas=np.array(config.alphas), cv=inner_folds(fold),
        score_func=correlation_score, fit_intercept=True, return_weights=True, progress_bar=False, local_alpha=True,
        warn=False,
    )  # fmt: skip
    ours = fold["fold"]
    np.testing.assert_allclose(ours.array("cv_r")[0], np.max(cv, axis=0), atol=1e-4)
    # Where two penalties or balances come within float32 of one another, either is right.
    clear = np.diff(np.sort(cv, axis=0)[-2:], axis=0)[0] > 1e-5
    clear &= np.isclose(1 / np.exp(deltas).sum(axis=0), ours.array("alpha"), rtol=1e-4)
    assert clear.mean() > 0.75
    X, width = np.hstack(Xs)[split.test_rows], Xs[0].shape[1]
    np.testing.assert_allclose(ours.array("full")[:, clear], (X @ coef + intercept)[:, clear], atol=1e-3)
    share = X[:, :width] @ coef[:width]
    np.testing.assert_allclose(ours.array("share")[:, clear], (share - share.mean(axis=0))[:, clear], atol=1e-3)


def test_predictions_that_follow_the_clock_do_not_end_the_run() -> None:
    """Where nothing but the time in a run predicts, three autocorrelation times are longer than a tenth of the data."""
    rng, runs = np.random.default_rng(0), np.repeat(["a", "b", "c", "d", "e", "f"], 200)
    clock = np.tile(np.linspace(-1, 1, 200), 6)[:, None] * rng.standard_normal(30)
    noise = rng.standard_normal((1200, 30))
    with pytest.raises(InputError, match="expected at least 10"):
        block_length(clock, noise, runs)
    blocks = cap_blocks(clock, noise, runs)
    assert blocks["block_length_tr"] == 50  # the longest of which 20 fit
    assert blocks["autocorrelation_tr"] > 50 / 3


@pytest.mark.slow
def test_a_finished_fold_is_kept_and_a_damaged_one_is_not(
    fold: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = np.array(fold["fold"].array("full"))
    done = []
    fit_fold = bids_fit.fit_fold
    monkeypatch.setattr(bids_fit, "fit_fold", lambda *arguments: done.append(fit_fold(*arguments)))
    bids_fit.fit_folds(*fold["arguments"])
    assert not done
    file = fold["fold"].folder / "full.npy"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    bids_fit.fit_folds(*fold["arguments"])
    assert len(done) == 1
    np.testing.assert_array_equal(fold["fold"].array("full"), before)


# What needs no fit ---------------------------------------------------------------------------------------------------


def test_every_nuisance_band_at_every_tr(tiny_llm: Path, tmp_path: Path) -> None:
    tiny.make_volumes(tmp_path / "ds")
    config = config_of(write_config(tmp_path / "c.yaml", data={"root": str(tmp_path / "ds")}, llm=str(tiny_llm),
                                    nuisance=["word_rate", *NUISANCE], delays_s=[1.5, 3.0]))  # fmt: skip
    study = load_bids(tmp_path / "ds")
    recording, events = study.recordings["01"], events_of(study.events, "01", config.text)
    bands = make_bands(config, recording, events)
    assert bands.delays_tr == (1, 2)
    columns = bands.columns(1, bands.kept)
    assert list(columns) == ["language", "word_rate", *NUISANCE]
    assert all(len(values) == recording.n_samples for values in columns.values())
    rate = columns["word_rate"]
    assert rate[:2, 0].tolist() == [0, pytest.approx(1 / 1.5)]  # a word at 0.5 s, one TR later
    assert columns["head_motion"].shape[1] == 24
    np.testing.assert_allclose(columns["head_motion"][:, 0], recording.samples["trans_x"], rtol=1e-5)
    assert not np.allclose(columns["untrained_twin"], columns["language"])


def test_the_bundled_sample_is_the_bids_one(shared: Path, tmp_path: Path) -> None:
    """`layout: haxby` reads the package's slice; the same volumes as BIDS derivatives give the same series."""
    config = config_of(Path("haxby_bands"))
    ours = config.data.load(None, config.preprocess, None)
    theirs = load_bids(make_haxby(tmp_path / "ds", shared / "data" / "haxby2001"), preprocess=config.preprocess)
    (one,), (other,) = ours.study.recordings.values(), theirs.recordings.values()
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    np.testing.assert_allclose(one.samples[list(MOTION)], other.samples[list(MOTION)], atol=1e-7)
    assert len(ours.records) == 12
    events = events_of(ours.study.events, "1", config.text)
    assert len(events.table) == 96
    assert set(events.table["label"]) == set(config.text.sentences)
    with pytest.raises(InputError, match="no fMRIPrep outputs"):
        config.data.load(None, Preprocess(confounds=["motion"]), None)


def test_components_are_those_of_the_training_runs(tiny_llm: Path, tmp_path: Path) -> None:
    tiny.make_volumes(tmp_path / "ds")
    path = write_config(tmp_path / "c.yaml", data={"root": str(tmp_path / "ds")}, llm=str(tiny_llm), pca=2,
                        delays_s=[0.0], nuisance=["untrained_twin", "position"])  # fmt: skip
    config, study = config_of(path), load_bids(tmp_path / "ds")
    bands = make_bands(config, study.recordings["01"], events_of(study.events, "01", config.text))
    train = np.flatnonzero(bands.runs != bands.runs[0])
    found = bands.columns(1, train)["language"]
    assert found.shape[1] == 2
    other = {"language": {1: np.where((bands.runs == bands.runs[0])[:, None], 1e3, bands.features["language"][1])}}
    changed = replace(bands, features=bands.features | other).columns(1, train)["language"]
    np.testing.assert_array_equal(found[train], changed[train])
    centred = bands.features["language"][1][train] - bands.features["language"][1][train].mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[1][:2]
    np.testing.assert_allclose(np.linalg.norm(found[train], axis=0), expected, rtol=1e-5)
    with pytest.raises(InputError, match="different columns"):
        replace(bands, pca=500).columns(1, train)


def test_regions_of_every_kind_of_recording(tmp_path: Path) -> None:
    tiny.make_volumes(tmp_path / "ds")
    recording = load_bids(tmp_path / "ds").recordings["01"]
    labels = np.arange(np.prod(tiny.SHAPE)).reshape(tiny.SHAPE) % 3
    tiny.write_volume(tmp_path / "atlas.nii.gz", labels.astype(np.int16))
    (tmp_path / "names.tsv").write_text("index\tname\n1\tV1\n2\tV2\n")
    source = BidsSource(rois=str(tmp_path / "atlas.nii.gz"), roi_names=tmp_path / "names.tsv")
    expected = np.array(["", "V1", "V2"])[labels[tiny.MASK]]
    assert source.regions("01", recording.units).tolist() == expected.tolist()
    assert BidsSource().regions("01", recording.units) is None
    with pytest.raises(InputError, match="no such file"):
        replace(source, rois=str(tmp_path / "sub-{subject}.nii")).regions("01", recording.units)
    surface = Surface(np.ones(12, bool), None, "fsLR")
    with pytest.raises(InputError, match="says nothing of the recording's vertices"):
        source.regions("01", surface)
    (tmp_path / "atlas2.nii.gz").write_bytes((tmp_path / "atlas.nii.gz").read_bytes())
    with pytest.raises(InputError, match="found 2 files"):
        replace(source, rois=str(tmp_path / "atlas*.nii.gz")).regions("01", recording.units)


def test_the_plan_is_from_the_files_headers(tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.make_volumes(tmp_path / "ds")
    path = write_config(tmp_path / "c.yaml", data={"root": str(tmp_path / "ds")}, llm=str(tiny_llm), pca=4, layer="all",
                        delays_s=[1.5, 3.0], nuisance=["word_rate", "untrained_twin"])  # fmt: skip
    assert cli.run(["plan", "--config", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"120 volumes in 3 runs x {tiny.MASK.sum()} voxels" in text
    assert "columns: language 8, word_rate 2, untrained_twin 8, 3 layers of language compared" in text
    assumed = planning_bids.plan_bids(config_of(write_config(path, llm=str(tiny_llm), n_iter=1)))
    assert "100,000 voxels, 1.2 GB (assumed: no data.root given)" in assumed.what[0]
    assert assumed.disk_bytes > 5 * 1.2e9  # runs joined, and four kinds of predictions of every fold
    size, flops = planning_bids.Sizes(10, 3000, 100_000, 500_000), []
    for changes in ({"pca": 4}, {}, {"n_iter": 20}):
        config = config_of(write_config(path, llm=str(tiny_llm), **changes))
        widths, n_layers, _ = planning_bids.band_widths(config)
        flops.append(planning_bids.plan_fold(config, size, list(widths.values()), n_layers).flops)
    assert flops[0] < flops[1] < flops[2]
    with pytest.raises(InputError, match="found 2 runs, expected at least 3"):
        planning_bids.plan_bids(config_of(write_config(path, data={"root": str(tmp_path / "ds"), "runs": ["1", "2"]})))


def test_delays_are_whole_tr() -> None:
    assert find_delays(None, 2.0) == (1, 2, 3, 4)
    assert find_delays(None, 1.0) == (2, 4, 6, 8)
    assert find_delays(None, 3.0) == (1, 2, 3)
    with pytest.raises(InputError, match="expected whole TR"):
        find_delays([2.0], 1.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nuisance": ["wordrate"]}, "did you mean `word_rate`"),
        ({"nuisance": ["position", "position"]}, "expected each band once"),
        ({"tail": "pareto", "n_permutations": 99}, "at least 500"),
        ({"alphas": []}, "found an empty list"),
        ({"word_vectors": "x.vec"}, "word vectors have no untrained twin"),
        ({"preprocess": {"high_pas": "none"}}, "did you mean `high_pass`"),
        ({"preprocess": {"confounds": ["moton"]}}, "did you mean `motion`"),
        ({"text": {"context_s": 0}}, "context_s"),
        ({"layer": "al"}, "did you mean `all`"),
        ({"layer": "all", "word_vectors": "x.vec", "nuisance": []}, "word vectors have no layers"),
        ({"pca": 0}, "pca"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config_of(write_config(tmp_path / "c.yaml", **({"data": {"root": str(tmp_path)}} | changes)))
    assert str(caught.value).count("\n") <= 1


def test_no_data_set_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.root: no data set given"):
        bids_encode.encode(config_of(write_config(tmp_path / "c.yaml")), tmp_path / "run")
    (tmp_path / "sub-01.txt").touch()
    with pytest.raises(InputError, match="data.root: no subject's folder here"):
        bids_encode.encode(config_of(write_config(tmp_path / "c.yaml", data={"root": str(tmp_path)})), tmp_path / "run")


def test_texts_that_cannot_be(tmp_path: Path, tiny_llm: Path) -> None:
    root = tmp_path / "ds"
    tiny.make_volumes(root)
    study = load_bids(root)
    path = tmp_path / "c.yaml"
    some = config_of(
        write_config(path, data={"root": str(root)}, text={"column": "word", "sentences": {"dog": "A dog."}})
    )
    with pytest.raises(InputError, match='no sentence for `"`'):
        events_of(study.events, "01", some.text)
    with pytest.raises(InputError, match="no column `text` or `word`"):
        events_of(None, "01", some.text)
    two = config_of(write_config(path, data={"root": str(root), "runs": ["1", "2"]}, llm=str(tiny_llm),
                                 nuisance=["position"]))  # fmt: skip
    with pytest.raises(InputError, match="found 2 runs, expected at least 3"):
        bids_encode.encode(two, tmp_path / "run")
