"""The encoding recipe on the real slice, with a tiny random language model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import wernicke
from wernicke.core.errors import InputError
from wernicke.data.haxby import load_haxby
from wernicke.features.align import align_to_stimuli
from wernicke.recipes import haxby_encode
from wernicke.recipes.haxby_encode_results import MAPS, summary
from wernicke.stats.detrend import detrend_runs
from wernicke.store.run import RunFolder

pytestmark = pytest.mark.slow


def rows(run: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((run / "models.json").read_text())}


def test_reference_numbers_of_this_file(encoded: Path) -> None:
    """Plain scikit-learn gives .182 for on/off and for one-hot categories on this file (mean held-out r by TR)."""
    found = rows(encoded)
    assert found["on/off"]["r"] == pytest.approx(0.182, abs=0.002)
    assert found["one-hot"]["r"] == pytest.approx(0.182, abs=0.002)
    assert found["on/off"]["contrast"] == 0
    assert found["one-hot"]["contrast"] > 0.1


def test_the_same_from_python(encoded: Path, encode_config: haxby_encode.Config) -> None:
    recording = next(iter(load_haxby().recordings.values()))
    features = align_to_stimuli(haxby_encode.sentence_features(encode_config), recording.samples)
    result = wernicke.encode(
        features, detrend_runs(recording.values, recording.runs, order=2), runs=recording.runs, tr_s=2.5,
        delays_s=(2.5, 5, 7.5, 10), conditions=recording.samples["label"].to_numpy(), alphas=encode_config.alphas,
        n_permutations=49,
    )  # fmt: skip
    for name in ("r", "p", "p_fdr", "contrast_r", "ceiling"):
        np.testing.assert_array_equal(getattr(result, name), np.load(encoded / f"maps/{name}.npy"), err_msg=name)


def test_maps_are_on_the_grid(encoded: Path) -> None:
    values = np.load(encoded / "maps/r.npy")
    image = nib.load(encoded / "maps/r.nii.gz")
    mask = np.load(encoded / "maps/mask.npy")
    np.testing.assert_allclose(image.get_fdata()[mask], values, atol=1e-6)
    assert np.isnan(image.get_fdata()[~mask]).all()
    assert set(MAPS) <= {path.stem for path in (encoded / "maps").glob("*.npy")}


def test_split_says_its_leak_and_the_audit_is_clean(encoded: Path) -> None:
    facts = json.loads((encoded / "facts.json").read_text())
    assert facts["split"]["overlaps"] == {"run": 0, "stimulus_id": 8}
    assert facts["split"]["accepted_leaks"] == ["stimulus_id"]
    assert not any(facts["split"]["poison_audit"].values())
    card = json.loads((encoded / "card.json").read_text())
    assert {line["code"]: line["result"] for line in card["lines"]}["V3"] == "NOT RUN"  # controls: none


def test_a_second_call_computes_nothing(encoded: Path, encode_config: haxby_encode.Config) -> None:
    before = {path: path.stat().st_mtime_ns for path in encoded.rglob("*") if path.is_file() and path.name != ".lock"}
    haxby_encode.encode(encode_config, encoded)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_same_seed_gives_the_same_bytes(encoded: Path, encode_config: haxby_encode.Config, tmp_path: Path) -> None:
    haxby_encode.encode(encode_config, tmp_path / "again")
    ours, theirs = (RunFolder.open(run).manifest["files"] for run in (encoded, tmp_path / "again"))
    assert {name: entry["sha256"] for name, entry in ours.items()} == {
        name: entry["sha256"] for name, entry in theirs.items()
    }


def test_another_config_is_refused_and_nothing_is_touched(encoded: Path, encode_config: haxby_encode.Config) -> None:
    before = (encoded / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="other settings: layer: 1 there, 2 given"):
        haxby_encode.encode(replace(encode_config, layer=2), encoded)
    assert (encoded / "manifest.json").read_bytes() == before


def test_summary_is_a_table(encoded: Path) -> None:
    text = summary(encoded)
    assert "language" in text
    assert "noise ceiling" in text
    assert "cannot separate language from category" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": {"cat": "A cat."}}, "no sentence for category `bottle`"),
        ({"layer": 99}, "E-CFG"),
        ({"llm": "/nowhere/model"}, "/nowhere/model"),
    ],
)
def test_wrong_settings(encode_config: haxby_encode.Config, changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        haxby_encode.encode(replace(encode_config, **changes), tmp_path / "run")
    assert str(caught.value).count("\n") <= 1


def test_an_unknown_category_says_which_are_known(encode_config: haxby_encode.Config, tmp_path: Path) -> None:
    sentences = {**encode_config.sentences, "hause": "A house."}
    with pytest.raises(InputError, match="`hause` was not shown\n.*did you mean `house`"):
        haxby_encode.encode(replace(encode_config, sentences=sentences), tmp_path / "run")
    assert not (tmp_path / "run").exists()
