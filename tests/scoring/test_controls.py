"""Controls of captions fire on planted failures and stay silent on clean twins."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.scoring.baselines import baseline_texts, baselines
from wernicke.scoring.category import named_categories
from wernicke.scoring.pairing import repair, time_only
from wernicke.scoring.pairs import rouge1_pairs
from wernicke.scoring.text import rouge

CLASSES = ["cat", "house", "shoe", "bottle"]
DETAILS = [f"{a} {b}" for a in ("red", "blue", "old", "small") for b in ("left", "right", "near", "far")]


def planted(kind: str, n: int = 60, seed: int = 0) -> tuple[list[str], list[tuple[str]], list[str], list[str]]:
    """Texts that know nothing, the class, or the class and a detail; simulated."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, len(CLASSES), n)
    detail = rng.integers(0, len(DETAILS), n)
    said = true if kind != "prior" else rng.integers(0, len(CLASSES), n)
    word = detail if kind == "detail" else rng.integers(0, len(DETAILS), n)
    texts = [f"a {DETAILS[d]} {CLASSES[c]} seen here" for c, d in zip(said, word, strict=True)]
    references = [(f"a {DETAILS[d]} {CLASSES[c]} in view",) for c, d in zip(true, detail, strict=True)]
    return texts, references, [CLASSES[c] for c in true], [CLASSES[c] for c in said]


def p_of(kind: str, seed: int, within: str) -> float:
    texts, references, true, said = planted(kind, seed=seed)
    strata = {"all": [0] * len(texts), "class": list(zip(true, said, strict=True))}[within]
    return repair(rouge1_pairs(texts, references), strata, n_permutations=199, seed=seed).p


@pytest.mark.parametrize(
    ("kind", "within", "low", "high"),
    [("prior", "all", 0, 6), ("class", "all", 36, 40), ("class", "class", 0, 6), ("detail", "class", 36, 40)],
)
def test_repairing_fires_on_what_is_planted_and_only_then(kind, within, low, high):
    fired = sum(p_of(kind, seed, within) <= 0.05 for seed in range(40))
    assert low <= fired <= high


def test_p_values_under_the_null_are_uniform_and_never_zero():
    p = np.array([p_of("prior", seed, "all") for seed in range(150)])
    assert p.min() >= 1 / 200
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_repairing_equals_the_permutation_test_by_hand_and_keeps_to_its_strata():
    texts, references, true, said = planted("class", n=12)
    pairs = rouge1_pairs(texts, references)
    test = repair(pairs, true, n_permutations=300, seed=3)
    rng = np.random.default_rng(9)
    strata = [np.flatnonzero(np.array(true) == label) for label in dict.fromkeys(true)]
    by_hand = []
    for _ in range(300):
        order = np.arange(12)
        for group in strata:
            order[group] = rng.permutation(group)
        by_hand.append(rouge(texts, [references[i] for i in order])["rouge1"].mean())
    assert test.score == pytest.approx(rouge(texts, references)["rouge1"].mean(), abs=1e-12)
    assert test.null.mean() == pytest.approx(np.mean(by_hand), abs=4 * np.std(by_hand) / np.sqrt(150))
    assert test.null.std() == pytest.approx(np.std(by_hand), rel=0.25)
    assert test.score - test.gains.mean() == pytest.approx(test.null.mean(), abs=4 * np.std(by_hand) / np.sqrt(150))
    again = repair(pairs, true, n_permutations=300, seed=3)
    np.testing.assert_array_equal(test.null, again.null)
    assert not np.array_equal(test.null, repair(pairs, true, n_permutations=300, seed=4).null)


def test_nothing_can_be_exchanged_where_all_references_are_the_same():
    test = repair(rouge1_pairs(["a", "b"], [("x",), ("x",)]), [0, 0], n_permutations=19)
    assert (test.p, test.n_movable) == (1.0, 0)
    with pytest.raises(InputError, match="E-SHAPE"):
        repair(rouge1_pairs(["a"], [("x",)]), [0, 0])


def blocked(seed: int, block: bool) -> tuple[np.ndarray, list[str], list[int]]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(CLASSES, 20) if block else rng.permutation(np.repeat(CLASSES, 20))
    return np.arange(80.0), labels.tolist(), [0] * 80


def test_time_alone_tells_blocked_classes_and_not_interleaved_ones():
    for seed in range(5):
        found = time_only(*blocked(seed, block=True), n_permutations=99)
        assert found.accuracy > 0.95
        assert found.p == pytest.approx(0.01)
    fired = sum(time_only(*blocked(seed, block=False), n_permutations=99).p <= 0.05 for seed in range(40))
    assert fired <= 6
    assert time_only(np.array([0.0, 1.0]), ["a", "a"], [0, 1], n_permutations=9).accuracy == 0


def test_a_constant_decoder_gains_nothing_over_the_baselines():
    _, references, true, said = planted("class", n=80)
    pairs = rouge1_pairs(["a red left cat in view"] * 80, references, baseline_texts(references, said))
    found = {b.name: b for b in baselines(pairs, references, true, said)}
    assert pairs.own.mean() <= found["constant text"].mean + 1e-12
    texts, references, true, said = planted("detail", n=80)
    # In the references' own wording, so that only what is told apart counts.
    texts = [text.replace("seen here", "in view") for text in texts]
    pairs = rouge1_pairs(texts, references, baseline_texts(references, said))
    assert pairs.own.mean() > max(b.mean for b in baselines(pairs, references, true, said)) + 0.1


def test_baselines_by_hand():
    references = [("a b",), ("a c",), ("a b",), ("x y",)]
    true, said = ["p", "p", "p", "q"], ["p", "q", "p", "q"]
    pairs = rouge1_pairs(["a", "b", "c", "d"], references, baseline_texts(references, said))
    found = {b.name: b for b in baselines(pairs, references, true, said)}
    # Another item's reference, own ones left out: "a b" -> (a c: .5, x y: 0) / 2; "a c" -> (a b, a b, x y) ...
    np.testing.assert_allclose(found["random reference"].items, [0.25, 1 / 3, 0.25, 0])
    # Of the predicted class: item 1 is said to be q, whose only reference is "x y"; item 3 has no other q.
    np.testing.assert_allclose(found["random reference of the predicted class"].items, [0.5, 0, 0.5, 0])
    # Best elsewhere, own reference barred.
    np.testing.assert_allclose(found["constant reference"].items, [0.5, 0.5, 0.5, 0])
    assert found["class template"].example == "A photo of a p."
    assert [b.brain_free for b in found.values()] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("text", "label", "outcome"),
    [
        ("Two CATS sit.", "cat", "right"),
        ("A cathedral", "cat", "none"),
        ("a cat on a chair", "cat", "ambiguous"),
        ("a chair", "cat", "wrong"),
        ("a pair of scissors", "scissors", "right"),
        ("people smile", "person", "right"),
        ("old knives", "knife", "right"),
        ("two boxes", "box", "right"),
        ("some puppies", "puppy", "right"),
        ("a pool table", "pool table", "right"),
        ("a table", "pool table", "wrong"),
        ("fresh fruit", "fruits and vegetables", "right"),
        ("a random texture", "scrambledpix", "right"),
        ("a coffee mug", "coffee mug", "right"),
        ("", "cat", "none"),
    ],
)
def test_named_category(text, label, outcome):
    labels = ["cat", "chair", "scissors", "person", "knife", "box", "puppy", "pool table", "table",
              "fruits and vegetables", "scrambledpix", "coffee mug", "coffee maker"]  # fmt: skip
    found = named_categories([text, *labels], [label, *labels], {"scrambledpix": ["scrambled picture", "texture"]})
    assert found.outcomes[0] == outcome
    # Every label names itself.
    assert found.outcomes[1:10] == ("right",) * 9


def test_a_name_of_two_categories_is_refused():
    with pytest.raises(InputError, match="names both"):
        named_categories(["x"], ["cat"], {"kitten": ["cat"]})


def test_published_controls_of_thought2text(shared: Path):
    """ROUGE-1 x 100 of the published captions: 32.3; within (true, predicted) class 32.35 +- 0.12, p .64 (measured)."""
    path = shared / "data/published/thought2text/results_Mistral-7B-Instruct-v0.3_all.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts, references = [r["Generated Caption"] for r in rows], [(r["Expected Caption"],) for r in rows]
    classes = [(r["Expected object"], r["Predicted object"]) for r in rows]
    pairs = rouge1_pairs(texts, references)
    test = repair(pairs, classes, n_permutations=499)
    assert 100 * test.score == pytest.approx(32.3, abs=0.05)
    assert 100 * test.null.mean() == pytest.approx(32.35, abs=0.03)
    assert 100 * test.null.std() == pytest.approx(0.12, abs=0.02)
    assert 0.5 < test.p < 0.8
    predicted = repair(pairs, [p for _, p in classes], n_permutations=499)
    assert 0.05 < predicted.p < 0.25  # measured: .158
    constant = rouge(["A photo of a person with an object on a white background."] * len(rows), references)["rouge1"]
    assert 100 * constant.mean() == pytest.approx(30.8, abs=0.05)
