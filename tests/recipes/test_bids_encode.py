"""BIDS derivatives to maps by command: real volumes of Haxby et al. 2001, and simulated surfaces with a planted map."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

import tiny_bids as tiny
from haxby_bids import SPACE, make_haxby
from wernicke import cli
from wernicke.core.errors import InputError
from wernicke.data.bids import load_bids
from wernicke.data.confounds import MOTION, Preprocess
from wernicke.recipes import bids_encode
from wernicke.recipes.bids_bands import find_delays, make_bands
from wernicke.recipes.bids_source import events_of
from wernicke.recipes.config import build, load_config

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
    """(data set, run, command): twelve runs of one slice, from volumes to maps with nuisance bands."""
    folder = tmp_path_factory.mktemp("haxby")
    root = make_haxby(folder / "ds", shared / "data" / "haxby2001")
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
    assert facts["delays_tr"] == [1, 2, 3]  # nearest to 2, 4, 6 and 8 s at 2.5 s
    assert facts["split"]["overlaps"] == {"run": 0, "stimulus_id": 8}
    assert not any(facts["split"]["poison_audit"].values())
    assert [r["n_kept"] for r in facts["preprocess"]["runs"]["01"]] == [121] * 12
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
WORDS = ("the", "cat", "saw", "a", "house", "and", "every", "shoe", "in", "that", "quiet", "street", "while", "one")


def write_series(root: Path, values: np.ndarray) -> None:
    """(n_runs * N_TR, 2 * N_VERTICES) as GIFTI files; random numbers, no recording."""
    func = root / "sub-01" / "func"
    for run in range(N_RUNS):
        part = values[run * N_TR : (run + 1) * N_TR].astype(np.float32)
        for side, hemi in enumerate("LR"):
            stem = f"sub-01_task-story_run-{run + 1}_hemi-{hemi}_space-fsaverage5_bold"
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
    path = write_config(
        folder / "c.yaml", data={"root": str(root)}, llm=str(tiny_llm), nuisance=["word_rate", "position"],
        preprocess={"confounds": ["motion"], "motion": "basic", "trim_start_s": 8.0}, text={"context_s": 6.0},
        alphas=[0.1, 1.0, 10.0, 100.0], n_permutations=199,
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


@pytest.mark.slow
def test_other_settings_are_refused_and_nothing_is_touched(planted: tuple[Path, Path]) -> None:
    path, run = planted
    before = (run / "manifest.json").read_bytes()
    assert cli.run(["encode", "--config", str(path), "--layer", "2", "--run", str(run)]) == 2
    assert (run / "manifest.json").read_bytes() == before


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
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config_of(write_config(tmp_path / "c.yaml", **({"data": {"root": str(tmp_path)}} | changes)))
    assert str(caught.value).count("\n") <= 1


def test_no_data_set_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.root: no data set given"):
        bids_encode.encode(config_of(write_config(tmp_path / "c.yaml")), tmp_path / "run")


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
