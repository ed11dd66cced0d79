"""The page of simulated decoding runs: sentences, their truth, the controls, and nothing chosen by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import Page
from payloads import PAYLOADS
from simulated_runs import (
    NAMES,
    decoding_content,
    encoding_content,
    simulated_captions,
    write_decoding_run,
    write_encoding_run,
)

from wernicke.core.errors import InputError
from wernicke.report.decoding import confusion, examples
from wernicke.report.page import MAX_BYTES, report_files
from wernicke.store.files import read_json
from wernicke.store.run import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoding_run(tmp_path_factory.mktemp("home") / "decoded")


@pytest.fixture(scope="module")
def written(run: Path) -> dict[str, str]:
    return report_files([run])


@pytest.fixture(scope="module")
def page(written: dict[str, str]) -> Page:
    return Page(written["report.html"])


def item(outcome: str, label: str, named: str, rouge1: float) -> dict[str, Any]:
    return {"outcome": outcome, "label": label, "named": named, "rouge1": rouge1}


def test_every_sentence_stands_in_the_table_with_what_it_names(run: Path, page: Page) -> None:
    captions, items = read_json(run / "captions.json")["captions"], read_json(run / "items.json")
    rows = {row[1]: row for row in page.rows if len(row) == 6 and row[0].isdigit()}
    assert len(rows) == len(captions) == 12
    for caption, scored in zip(captions, items, strict=True):
        row = rows[caption["id"]]
        assert row[2:4] == [caption["label"], caption["text"]]
        assert row[4] == f"{scored['named'] or 'none'} ({scored['outcome']})"
        assert float(row[5]) == pytest.approx(scored["rouge1"], abs=5.1e-4)


def test_the_headline_stands_beside_rivals_and_chance(run: Path, page: Page) -> None:
    facts, items = read_json(run / "facts.json"), read_json(run / "items.json")
    rows = {row["name"]: row for row in facts["baselines"]}
    text = " ".join(page.of("p"))
    n_right = sum(scored["outcome"] == "right" for scored in items)
    assert f"{100 * rows['sentences']['accuracy']:.0f} % of held-out blocks ({n_right} of 12)" in text
    for name in ("linear SVM", "ridge classifier"):
        assert f"{name} {rows[name]['accuracy']:.3f}" in text
    assert "chance 0.333" in text
    assert f"shuffled {rows['shuffled']['accuracy']:.3f} (what shuffled is, 5 draws; equivalent)" in text
    assert "a category route through sentences" in text


def test_scores_of_models_and_controls_are_those_of_the_files(run: Path, page: Page) -> None:
    for row in read_json(run / "facts.json")["baselines"]:
        shown = page.row(row["name"])
        assert float(shown[1].split()[0]) == pytest.approx(row["accuracy"], abs=5.1e-4)
        assert shown[2:] == [str(len(row["draws"])), row["verdict"] or "–", row["what"]]


def test_metrics_are_times_100_and_name_their_implementation(run: Path, page: Page) -> None:
    evaluation = read_json(run / "evaluation.json")
    for title, name in (("BLEU-4", "bleu4"), ("ROUGE-1", "rouge1"), ("CIDEr", "cider")):
        row = page.row(title)
        assert float(row[1]) == pytest.approx(100 * evaluation["metrics"][name], abs=5.1e-3)
        assert row[-1] == evaluation["controls"]["implementations"][name]


def test_exposure_and_accepted_leak_are_said(page: Page) -> None:
    assert page.row("stimuli") == ["stimuli", "3", "bottle, cat, face"]
    assert page.row("stimulus_id") == ["stimulus_id", "3", "accepted leak"]
    assert any("Accepted leak: stimulus_id" in text for text in page.of("p"))


def test_examples_are_chosen_by_rank_and_by_the_seed() -> None:
    rng = np.random.default_rng(2)
    items = [item("right", "cat", "cat", float(value)) for value in rng.permutation(21) / 20]
    found = examples(items, seed=4)
    assert [one["why"] for one in found] == ["best", "median", "worst", "random", "random", "random"]
    assert [one["rouge1"] for one in found[:3]] == [1.0, 0.5, 0.0]
    assert found == examples(items, seed=4)
    drawn = {tuple(one["rouge1"] for one in examples(items, seed)[3:]) for seed in range(20)}
    assert len(drawn) > 10
    assert found[0]["n_ties"] == 1
    assert examples([item("right", "cat", "cat", 1.0)] * 2, 0)[0]["n_ties"] == 2


def test_controls_stand_beside_each_example_with_their_own_score(
    run: Path, page: Page, written: dict[str, str]
) -> None:
    terms = [text for text in page.of("dt") if text not in ("Reference", "Decoded")]
    assert sorted(set(terms)) == ["constant", "no_brain", "noise", "shuffled"]
    rows = list(csv.DictReader(io.StringIO(written["items.csv"])))
    first = read_json(run / "controls" / "noise-00.json")["captions"]
    assert [row["control_noise"] for row in rows] == [caption["text"] for caption in first]
    for row in rows:
        same = row["control_noise"] == row["reference"]
        assert (float(row["control_noise_rouge1"]) == pytest.approx(1.0)) == same
    assert any(float(row["control_noise_rouge1"]) < 1 for row in rows)


def test_confusion_counts_several_and_none_apart() -> None:
    items = [item("right", "cat", "cat", 1), item("wrong", "cat", "face", 1), item("ambiguous", "face", "cat; face", 1),
             item("none", "face", "", 0), item("wrong", "face", "dog", 0)]  # fmt: skip
    counts, truths, named = confusion(items)
    assert (truths, named) == (["cat", "face"], ["cat", "face", "dog", "several", "none"])
    assert counts.tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert confusion(items[:2])[2] == ["cat", "face"]


def test_simulated_sentences_are_called_simulated(page: Page) -> None:
    for tag in ("h1", "h2", "h3", "figcaption"):
        for text in page.of(tag):
            assert "SIMULATED" in text or text == "Warnings", text
    assert all(alt.startswith("SIMULATED") for alt in page.attributes("alt"))


def test_without_controls_the_page_says_so(tmp_path: Path) -> None:
    run = write_decoding_run(tmp_path / "bare", decoding_content(controls=False))
    html = report_files([run])["report.html"]
    assert "nothing here says that the sentences come from the brain" in html
    assert "NOT RUN" in html


def test_empty_sentences_are_shown_and_warned_of(tmp_path: Path) -> None:
    content = decoding_content()
    content["captions"].table.loc[0, "text"] = ""
    page = Page(report_files([write_decoding_run(tmp_path / "empty", content)])["report.html"])
    assert any(text == "1 sentence empty, scored 0." for text in page.of("li"))
    assert next(row for row in page.rows if row[:1] == ["1"])[3] == "(empty)"


def test_payloads_in_sentences_references_and_labels_stay_text(tmp_path: Path) -> None:
    content = decoding_content()
    table = content["captions"].table
    labels = {name: f"<img onerror={name}1 src=x>{name}" for name in NAMES}  # no word in common: each must be namable
    table["label"] = table["label"].map(labels)
    table["text"] = [PAYLOADS[k + 8] for k in range(len(table))]
    object.__setattr__(content["captions"], "references", tuple((PAYLOADS[k + 20],) for k in range(len(table))))
    content["generated"] = {}
    page = Page(report_files([write_decoding_run(tmp_path / "hostile", content)])["report.html"])
    harmless = Page(report_files([write_decoding_run(tmp_path / "harmless")])["report.html"])
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in harmless.elements} | {"del"}
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    shown = [row[3] for row in page.rows if len(row) == 6 and row[0].isdigit()]
    assert shown == [" ".join(text.split()) for text in table["text"]]


def test_many_sentences_are_cut_on_the_page_and_whole_in_the_table(tmp_path: Path) -> None:
    content = decoding_content(controls=False)
    samples = pd.DataFrame(
        [
            {"id": f"7-run{run:02d}block{k}", "label": NAMES[k % 3], "subject": "7", "stimulus": NAMES[k % 3],
             "run": str(run)}
            for run in range(4)
            for k in range(150)
        ]
    )  # fmt: skip
    content["captions"] = simulated_captions(samples, np.random.default_rng(0), 0.5)
    written = report_files([write_decoding_run(tmp_path / "many", content)])
    page = Page(written["report.html"])
    assert len([row for row in page.rows if len(row) == 6 and row[0].isdigit()]) == 400
    assert page.of("summary")[0] == "All 600 sentences (the first 400 here, all in items.csv)"
    assert len(list(csv.DictReader(io.StringIO(written["items.csv"])))) == 600
    assert len(written["report.html"].encode()) < MAX_BYTES


def test_both_directions_stand_on_one_page(run: Path, tmp_path: Path) -> None:
    other = write_encoding_run(tmp_path / "encoded", encoding_content())
    written = report_files([other, run])
    page = Page(written["report.html"])
    assert len(written["report.html"].encode()) < MAX_BYTES
    assert [text for text in page.of("h2") if text.startswith(("encoded:", "decoded:"))]
    assert {row["run"] for row in csv.DictReader(io.StringIO(written["scores.csv"]))} == {"encoded", "decoded"}
    assert written["references.bib"].count("@misc{nobody2026") == 1
    assert written["methods.txt"].count("SIMULATED DATA") == 2
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {a[1:] for a in page.attributes("href") if a.startswith("#")} <= set(ids)


def test_a_decoder_that_was_not_evaluated_yet(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "trained", step="train", config={"recipe": "x"}, seed=0) as run:
        run.write_json("learning_curve.json", [])
        run.finish()
    with pytest.raises(InputError, match="wernicke evaluate --run"):
        report_files([tmp_path / "trained"])
