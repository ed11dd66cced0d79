"""What the demo's recipes write is what the report reads: real recording, SIMULATED sentences or vectors, no LLM."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Page

from wernicke.core.recording import Voxels
from wernicke.core.results import Captions
from wernicke.data.captions import write_captions
from wernicke.data.haxby import load_haxby
from wernicke.recipes import haxby_decode, haxby_decode_results, haxby_encode
from wernicke.recipes.config import build, load_config
from wernicke.recipes.haxby import HaxbyData
from wernicke.report.page import MAX_BYTES, report_files
from wernicke.store.run import RunFolder


@pytest.mark.slow
def test_a_decoding_run_written_by_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, values, path = load_config("haxby_decode")
    config = build(haxby_decode.Config, values, path, [], "test")
    blocks = haxby_decode.blocks_of(config.data.load(), config)
    samples, names = blocks.samples, sorted(config.sentences)
    rng = np.random.default_rng(0)

    def simulated(share_right: float) -> Captions:
        texts = [config.sentences[str(label if rng.random() < share_right else rng.choice(names))]
                 for label in samples["label"]]  # fmt: skip
        table = pd.DataFrame({"id": samples["sample_id"], "text": texts, "label": samples["label"],
                              "subject": blocks.subject, "stimulus": samples["stimulus_id"], "run": samples["run"],
                              "order": np.arange(len(samples))})  # fmt: skip
        references = tuple((config.sentences[name],) for name in samples["stimulus_id"])
        return Captions(table, references, "free", {"max_new_tokens": 30, "num_beams": 1, "do_sample": False})

    settings = {"recipe": "haxby_decode", **asdict(config)}
    with RunFolder.create(tmp_path / "run", step="train", config=settings, seed=0) as run:
        bridge = {"d_in": 576, "n_tokens": 1, "d_hidden": None, "messages": [{"role": "user", "content": "<brain>"}]}
        run.write_json("bridge/config.json", {"bridge": bridge, "llm": {"name": "none: simulated", "fingerprint": ""}})
        run.write_json("exposure.json", {"exposure": {"samples": [], "stimuli": names}})
        run.write_json("learning_curve.json", [{"step": 1, "epoch": 0, "loss": 1.0}])
        run.write_npy("sentence_embeddings.npy", np.eye(len(names)))
        run.finish()
    with RunFolder.open(tmp_path / "run", step="decode") as run:
        with run.atomic_path("captions.json") as file:
            write_captions(simulated(0.8), file)
        run.finish()

    def controls(*_: object):
        thing = haxby_decode_results.same_text("A thing.", blocks, config)
        for name in ("no_brain", "constant"):
            yield name, 0, lambda *_: thing
        for draw in range(5):
            yield "shuffled", draw, lambda *_: simulated(0.0)
            yield "noise", draw, lambda *_: simulated(0.0)

    monkeypatch.setattr(haxby_decode_results, "control_draws", controls)
    monkeypatch.setattr(haxby_decode_results, "load_decoder", lambda *_: "no decoder: simulated")
    haxby_decode_results.evaluate_run(tmp_path / "run")
    written = report_files([tmp_path / "run"])
    page = Page(written["report.html"])
    assert len(written["report.html"].encode()) < MAX_BYTES
    assert len([row for row in page.rows if len(row) == 6 and row[0].isdigit()]) == 96
    assert page.row("linear SVM")[1].startswith("0.")
    assert "haxby2001" in written["references.bib"]


@pytest.mark.slow
def test_an_encoding_run_written_by_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wernicke.core.features import Features

    _, values, path = load_config("haxby_encode")
    flags = ["--controls", "none", "--n_permutations", "19", "--alphas", "1", "1000"]
    config = build(haxby_encode.Config, values, path, flags, "test")
    names = sorted(config.sentences)
    provenance = {"kind": "SIMULATED: random vectors", "model": "none", "layers": [0], "pool": "mean", "chat": False,
                  "dtype": "float32", "revision": None}  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(len(names), 16))
    features = Features({"layer0": rows}, pd.DataFrame({"stimulus_id": names}), provenance)
    monkeypatch.setattr(haxby_encode, "sentence_features", lambda config: features)
    whole = load_haxby(leave_out_runs=range(5, 12))
    (recording,) = whole.recordings.values()
    mask = np.zeros_like(recording.units.mask)
    mask.flat[np.flatnonzero(recording.units.mask)[::20]] = True
    few = replace(recording, values=recording.values[:, ::20], units=Voxels(mask, recording.units.affine))
    monkeypatch.setattr(HaxbyData, "load", lambda self: replace(whole, recordings={"1": few}))
    haxby_encode.encode(config, tmp_path / "run")
    written = report_files([tmp_path / "run"])
    page = Page(written["report.html"])
    assert len(written["report.html"].encode()) < MAX_BYTES
    assert page.row("Volumes") == ["Volumes", "605 (TR 2.5 s)"]
    assert page.row("Voxel size") == ["Voxel size", "3.1 × 3.75 × 3.75 mm"]
    assert "wrong categories were not tried" in written["report.html"]
