"""`evaluate`: what comes out has the published schema, and its card says what the file shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.data.captions import write_captions
from wernicke.scoring.card import Card, verify_card
from wernicke.scoring.evaluate import Evaluation, evaluate
from wernicke.scoring.text import METRICS

NOUNS = ["cat", "house", "shoe", "chair"]
DOCS = Path(__file__).resolve().parents[2] / "docs/evaluate-json.md"


def made_up(kind: str = "good", n: int = 48, decoding: str = "free", seed: int = 0) -> Captions:
    """Simulated captions: `good` names its item, `class` its class only, `constant` nothing."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, n)
    extra = [f"item{k} by place{k}" for k in range(n)]
    text = {
        "good": [f"a {NOUNS[c]} {e}" for c, e in zip(true, extra, strict=True)],
        "class": [f"a {NOUNS[c]} of some sort" for c in true],
        "constant": ["a cat of some sort"] * n,
    }[kind]
    labels = [NOUNS[c] for c in true]
    table = pd.DataFrame({"id": [f"t{i}" for i in range(n)], "text": text, "label": labels, "predicted_label": labels,
                          "subject": ["1", "2"] * (n // 2), "stimulus": [f"s{i // 2}" for i in range(n)],
                          "order": rng.permutation(n).astype(float)})  # fmt: skip
    references = tuple((f"one {NOUNS[c]} {e} here",) for c, e in zip(true, extra, strict=True))
    return Captions(table, references, decoding)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def good() -> Evaluation:
    return evaluate(made_up(), similarity=False)


def results(found: Evaluation, code: str) -> set[str]:
    return {line.result for line in found.card.lines if line.code == code}


def keys_in_docs(heading: str) -> set[str]:
    section = DOCS.read_text().split(f"## `{heading}`")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE))


def test_json_has_the_published_schema(good):
    data = json.loads(json.dumps(good.to_json(), allow_nan=False))
    assert set(data) == {"metrics", "items", "controls", "card"}
    assert set(data["metrics"]) <= keys_in_docs("metrics")
    assert {*METRICS, "category_accuracy", "label_accuracy"} == set(data["metrics"])
    assert set(data["items"][0]) == {"id", "text", *data["metrics"], "named", "outcome"}
    assert len(data["items"]) == 48
    assert set(data["controls"]) == keys_in_docs("controls")
    assert set(data["card"]) == keys_in_docs("card")
    assert all(0 <= value <= 1 for name, value in data["metrics"].items() if name != "cider")
    for name, value in data["metrics"].items():
        if not name.startswith("bleu"):
            assert np.mean([item[name] for item in data["items"]]) == pytest.approx(value)
            low, high = data["controls"]["intervals"][name]
            assert low - 1e-12 <= value <= high + 1e-12


def test_card_of_good_captions(good):
    assert results(good, "V1") == {"PASS"}
    assert results(good, "V2") == {"NOT RUN"}
    assert results(good, "V3") == results(good, "V4") == results(good, "V5") == results(good, "V6") == {"PASS"}
    assert good.card.verdict == "UNDETERMINED"  # noise and leaks cannot be judged from the file
    assert [claim.verdict(good.card.lines) for claim in good.card.claims[1:]] == ["SUPPORTED", "SUPPORTED"]
    assert Card.from_json(good.to_json()["card"]) == good.card


def test_with_all_that_a_recipe_knows_the_claim_is_supported():
    rng = np.random.default_rng(1)
    base = made_up()
    noise = [Captions(base.table.assign(text=rng.permutation(base.table["text"].to_numpy())), base.references)]
    facts = {
        "target_swap": {"n": 48, "changed": 0},
        "overlaps": {"stimulus": 0, "run": 0},
        "n_seeds": 3,
        "selection": {"what": ["alpha"], "on": "training"},
        "poison_audit": {"n_steps": 2, "changed": []},
    }
    found = evaluate(base, similarity=False, generated={"noise": noise, "shuffled": noise * 2}, facts=facts)
    assert results(found, "V2") == {"PASS"}
    assert found.card.verdict == "SUPPORTED"
    assert found.controls["generated"]["shuffled"]["n_repeats"] == 2
    same = evaluate(base, similarity=False, generated={"noise": [base]}, facts=facts)
    assert results(same, "V2") == {"FAIL"}
    assert same.card.verdict == "UNDETERMINED"
    leak = evaluate(base, similarity=False, facts=facts | {"overlaps": {"stimulus": 3, "run": 0}})
    assert leak.card.failed_fatally
    assert leak.card.verdict == "NOT SUPPORTED"


def test_planted_failures():
    only_class = evaluate(made_up("class"), similarity=False)
    assert results(only_class, "V3") == {"PASS"}
    assert results(only_class, "V4") == {"FAIL"}
    assert only_class.card.claims[2].verdict(only_class.card.lines) == "NOT SUPPORTED"
    constant = evaluate(made_up("constant"), similarity=False)
    assert "FAIL" in results(constant, "V3")
    assert results(constant, "V5") == {"FAIL"}
    assert results(constant, "V18") == {"FAIL"}
    assert "SUPPORTED" not in {claim.verdict(constant.card.lines) for claim in constant.card.claims}
    forced = evaluate(made_up(decoding="teacher_forced"), similarity=False)
    assert results(forced, "V1") == {"FAIL"}
    assert forced.card.failed_fatally
    blocked = made_up()
    rank = blocked.table["label"].argsort().argsort().astype(float)
    timed = evaluate(Captions(blocked.table.assign(order=rank, subject="1"), blocked.references), similarity=False)
    assert results(timed, "V6") <= {"WARN", "FAIL"}


def test_without_controls_everything_is_not_run_and_nothing_supported():
    found = evaluate(made_up(), controls="none", similarity=False)
    assert results(found, "V3") == results(found, "V5") == {"NOT RUN"}
    assert {claim.verdict(found.card.lines) for claim in found.card.claims} == {"UNDETERMINED"}
    json.dumps(found.to_json(), allow_nan=False)
    assert "UNDETERMINED" in str(found)


def test_the_same_seed_gives_the_same_bytes_and_the_card_verifies(good):
    again = evaluate(made_up(), similarity=False)
    assert json.dumps(again.to_json()) == json.dumps(good.to_json())
    assert verify_card(good.card, again.card) == ()
    other = made_up()
    other.table.loc[0, "text"] = "a house"
    assert any("hash of captions" in line for line in verify_card(good.card, evaluate(other, similarity=False).card))


def test_a_file_and_plain_lists_give_the_same(tmp_path):
    captions = made_up()
    write_captions(captions, tmp_path / "a.csv")
    by_path = evaluate(tmp_path / "a.csv", controls="none", similarity=False).metrics
    texts, references = captions.table["text"].tolist(), list(captions.references)
    plain = evaluate(texts, references, controls="none", similarity=False).metrics
    assert plain == {name: value for name, value in by_path.items() if name in METRICS}
    (tmp_path / "r.json").write_text(json.dumps({str(i): list(r) for i, r in enumerate(references)}))
    assert evaluate(texts, tmp_path / "r.json", controls="none", similarity=False).metrics == plain
    assert evaluate(texts, [r[0] for r in references], controls="none", similarity=False).metrics == plain


def test_empty_texts_are_scored_and_counted():
    found = evaluate(["", "a dog", "  "], ["a cat", "a dog", "a cow"], similarity=False)
    assert found.controls["n_empty"] == 2
    assert found.metrics["rouge1"] == pytest.approx(1 / 3)
    assert "empty texts, scored 0: 2" in str(found)


@pytest.mark.parametrize(
    ("texts", "references", "code"),
    [
        (["a"], None, "E-META"),
        (["a"], ["b", "c"], "E-SHAPE"),
        (["a"], [""], "E-META"),
        (["a"], [[]], "E-META"),
        (["a"], {"1": "b"}, "E-REF"),
        (["a", None], ["b", "c"], "E-META"),
        ([], [], "E-META"),
    ],
)
def test_what_cannot_be_right_is_one_message(texts, references, code):
    with pytest.raises(InputError) as error:
        evaluate(texts, references)
    assert error.value.code == code
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("option", [{"controls": "quick"}, {"preset": "bleu"}, {"groups": "session"},
                                    {"facts": {"overlap": {}}}, {"smallest_effect": -1}])  # fmt: skip
def test_unknown_options_are_refused(option):
    with pytest.raises(InputError):
        evaluate(["a", "b"], ["c", "d"], similarity=False, **option)


def test_hostile_captions_are_shown_and_do_nothing():
    texts = ["<script>alert(1)</script>", "a\x1b[31mred\x1b[0m", "\u202egnp", "=1+1", "nul\x00", "x" * 100_000]
    captions = Captions(pd.DataFrame({"id": list("abcdef"), "text": texts, "label": [*texts[:5], "y"]}),
                        tuple((t,) for t in texts))  # fmt: skip
    found = evaluate(captions, similarity=False)
    page, text = found._repr_html_(), str(found)
    assert "<script" not in page
    assert len(page) < 100_000
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or ord(c) == 0x202E]


def test_one_caption_and_one_cluster():
    found = evaluate(["a dog"], ["a dog"], similarity=False)
    assert found.controls["intervals"] == {}
    assert found.card.verdict == "UNDETERMINED"
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.slow
def test_similarity_by_the_sentence_encoder():
    pytest.importorskip("transformers")
    found = evaluate(["a dog runs on grass", "", "the moon"], ["a puppy runs on a lawn", "a car", "the moon"],
                     controls="none", similarity=True)  # fmt: skip
    near = found.items["similarity"].tolist()
    assert near[1] == 0
    assert near[2] == pytest.approx(1, abs=1e-5)
    assert 0.4 < near[0] < 0.99


@pytest.mark.slow
def test_brainhub_people_and_shuffled_captions(shared):
    """Published measurements (x 100): first human reference against the others, and captions shuffled over pictures."""
    folder = shared / "data/published/brainhub"
    found = evaluate(folder / "braincap.json", folder / "refs.json", preset="coco", similarity=False)
    human = {"bleu1": 64.22, "bleu2": 44.33, "bleu3": 29.47, "bleu4": 19.65, "rougeL": 47.90, "cider": 95.35}
    ours = found.controls["columns"]["human"]
    assert {name: 100 * ours[name] for name in human} == pytest.approx(human, abs=0.0065)
    shuffled = found.controls["columns"]["repaired"]  # one shuffle of many; published is another
    for name, value, tolerance in (("bleu1", 38.37, 1.0), ("rougeL", 29.10, 0.8), ("cider", 4.57, 0.6)):
        assert 100 * shuffled[name] == pytest.approx(value, abs=tolerance)
