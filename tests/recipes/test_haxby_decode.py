"""The decoding recipe on the real slice with a tiny random language model: plumbing, controls, honesty of the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.data.captions import read_captions
from wernicke.data.haxby import load_haxby
from wernicke.decoding.linear import cross_predict_labels, linear_svm, ridge_classifier
from wernicke.recipes import haxby_decode, haxby_decode_results
from wernicke.recipes.haxby import average_blocks
from wernicke.recipes.haxby_decode_results import (
    accuracy_rows,
    audit_fold,
    control_draws,
    counted_overlaps,
    evaluate_run,
    summary,
)
from wernicke.store.run import RunFolder

pytestmark = pytest.mark.slow


def test_block_averages_carry_the_categories() -> None:
    """Plain scikit-learn on block averages, leave-one-run-out: linear SVM .79, ridge classifier .85."""
    blocks = average_blocks(next(iter(load_haxby().recordings.values())), detrend_order=1, shift_s=0.0)
    labels, runs = blocks.samples["label"].to_numpy(), blocks.samples["run"].to_numpy()
    assert blocks.values.shape == (96, 530)
    shares = [
        (cross_predict_labels(model, blocks.values, labels.tolist(), runs.tolist()) == labels).mean()
        for model in (linear_svm(), ridge_classifier())
    ]
    assert shares[0] > 0.72
    assert shares[1] > 0.78


def test_every_block_is_written_freely_with_its_truth_beside_it(decoded: Path) -> None:
    captions = read_captions(decoded / "captions.json")
    assert len(captions) == 96
    assert captions.decoding == "free"
    assert len(captions.split_fingerprints) == 12
    assert captions.table["label"].value_counts().tolist() == [12] * 8


def test_deciding_the_texts_never_sees_the_references(decoded: Path, decode_config: haxby_decode.Config) -> None:
    """Other labels on the blocks that are decoded change the references only, not one word of the texts."""
    from dataclasses import replace

    folder = RunFolder.open(decoded)
    blocks = haxby_decode.blocks_of(load_haxby(), decode_config)
    decoder = haxby_decode.load_decoder(folder, decode_config)
    swapped = blocks.samples.assign(stimulus_id=blocks.samples["stimulus_id"].to_numpy()[::-1])
    texts = [
        haxby_decode.decode_left_out_runs(decoder, blocks, b, decode_config, folder).table["text"].tolist()
        for b in (blocks, replace(blocks, samples=swapped))
    ]
    assert texts[0] == texts[1]
    assert texts[0] == read_captions(decoded / "captions.json").table["text"].tolist()


def test_evaluation_without_controls_says_so(decoded: Path, tmp_path: Path) -> None:
    found = evaluate_run(decoded, controls="none", out=tmp_path / "e.json")
    written = json.loads((tmp_path / "e.json").read_text())
    assert set(written) == {"metrics", "items", "controls", "card"}
    assert written["metrics"]["bleu1"] == pytest.approx(found.metrics["bleu1"])
    facts = json.loads((decoded / "facts.json").read_text())
    assert facts["exposure"] == {"samples": [], "stimuli": sorted(facts["sentences"])}
    assert facts["split"]["accepted_leaks"] == ["stimulus_id"]
    assert "linear SVM" in summary(decoded)


def test_nothing_a_fold_fits_depends_on_its_left_out_run(decoded: Path, decode_config: haxby_decode.Config) -> None:
    study = load_haxby()
    blocks = haxby_decode.blocks_of(study, decode_config)
    audit = audit_fold(RunFolder.open(decoded), decode_config, study, blocks)
    assert set(audit) >= {"weights", "alpha", "voxel mean", "embedding length"}
    assert not any(audit.values())
    assert counted_overlaps(blocks) == {"run": 0, "stimulus_id": 8}


def test_a_leak_shows_in_the_audit(
    decoded: Path, decode_config: haxby_decode.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were blocks z-scored over all runs together, the left-out run would be in every mean."""
    import wernicke.stats.detrend

    def over_all_runs(values: np.ndarray, runs: np.ndarray, *, order: int) -> np.ndarray:
        return (values - values.mean(0)) / values.std(0)

    monkeypatch.setattr(wernicke.stats.detrend, "detrend_runs", over_all_runs)
    study = load_haxby()
    blocks = haxby_decode.blocks_of(study, decode_config)
    assert audit_fold(RunFolder.open(decoded), decode_config, study, blocks)["weights"]


def test_a_damaged_control_is_made_again(decoded: Path, tmp_path: Path) -> None:
    """Of an evaluation that was interrupted, only what still has its hash is taken up."""
    run = shutil.copytree(decoded, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(haxby_decode_results, "N_DRAWS", {"none": 0, "fast": 5, "full": 6})
        first = evaluate_run(run, controls="fast").to_json()
        control = run / "controls/shuffled-00.json"
        good, other = control.read_bytes(), (run / "controls/noise-00.json").stat().st_mtime_ns
        control.write_bytes(good.replace(b'"text": "', b'"text": "a', 1))
        assert evaluate_run(run, controls="fast").to_json() == first
        assert control.read_bytes() == good
        assert (run / "controls/noise-00.json").stat().st_mtime_ns == other
        evaluate_run(run, controls="full")
        assert len(list((run / "controls").glob("shuffled-*"))) == 6
        evaluate_run(run, controls="none")
        assert RunFolder.open(run).read_json("facts.json")["controls"] == "full"


def test_controls_alter_what_they_say(decode_config: haxby_decode.Config) -> None:
    study = load_haxby()
    blocks = haxby_decode.blocks_of(study, decode_config)
    names = [name for name, _, _ in control_draws(decode_config, study, blocks, 2)]
    assert names == ["no_brain", "constant", "shuffled", "noise", "shuffled", "noise"]
    rows = accuracy_rows(decode_config, blocks, truth(blocks, decode_config), {})
    assert rows[0]["accuracy"] == 1.0


def truth(blocks, config):  # noqa: ANN001, ANN201
    from wernicke.core.results import Captions

    texts = [config.sentences[name] for name in blocks.samples["stimulus_id"]]
    table = blocks.samples.rename(columns={"sample_id": "id"}).assign(text=texts)
    return Captions(table, tuple((text,) for text in texts), decoding="free")


def test_an_encoding_run_is_no_decoder(encoded: Path) -> None:
    with pytest.raises(InputError, match="expected haxby_decode"):
        haxby_decode.decode(encoded)


def test_decode_before_train_is_refused(decode_config: haxby_decode.Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        haxby_decode.decode(tmp_path / "nothing")
