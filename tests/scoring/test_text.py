"""Text metrics against the packages they name, and against published tables."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.scoring.pairs import cider, cider_pairs, rouge1_pairs
from wernicke.scoring.text import METRICS, bleu, coco_rouge_l, rouge, text_scores
from wernicke.scoring.thought2text import clean
from wernicke.scoring.tokens import coco_tokens

WORDS = ["a", "the", "man", "dog", "red", "ball", "on", "in", "with", "white", "grass", "house", "sits", "runs"]


def made_up(n: int = 40, seed: int = 0) -> tuple[list[str], list[tuple[str, ...]]]:
    rng = np.random.default_rng(seed)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, rng.integers(1, 14)))

    texts = [sentence() for _ in range(n)]
    references = [tuple(sentence() for _ in range(rng.integers(1, 5))) for _ in range(n)]
    texts[3], texts[4] = "", "zebra"
    texts[5:12] = [f"{several[0]} {several[-1]}" for several in references[5:12]]
    return texts, references


@pytest.fixture(scope="module")
def tokenised() -> tuple[list[list[str]], list[list[list[str]]]]:
    texts, references = made_up()
    return [coco_tokens(t) for t in texts], [[coco_tokens(r) for r in several] for several in references]


def as_coco(tokens, references) -> tuple[dict, dict]:
    wanted = {i: [" ".join(r) for r in several] for i, several in enumerate(references)}
    return wanted, {i: [" ".join(words)] for i, words in enumerate(tokens)}


def test_cider_equals_pycocoevalcap(tokenised):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    mean, each = scorer.compute_score(*as_coco(*tokenised))
    ours = cider(*tokenised)
    np.testing.assert_allclose(ours, each, rtol=0, atol=1e-9)
    assert abs(ours.mean() - mean) < 1e-9


def test_bleu_and_rouge_l_equal_pycocoevalcap(tokenised):
    wanted, found = as_coco(*tokenised)
    theirs, _ = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4).compute_score(wanted, found, verbose=0)
    ours, _ = bleu(*tokenised)
    np.testing.assert_allclose([ours[f"bleu{n}"] for n in (1, 2, 3, 4)], theirs, rtol=0, atol=1e-9)
    _, each = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge().compute_score(wanted, found)
    np.testing.assert_allclose(coco_rouge_l(*tokenised), each, rtol=0, atol=1e-12)


def test_all_pairs_equal_the_scores_of_single_pairs(tokenised):
    texts, references = made_up()
    np.testing.assert_allclose(rouge1_pairs(texts, references).own, rouge(texts, references)["rouge1"], atol=1e-12)
    pairs = cider_pairs(texts, references, ("the dog runs",))
    np.testing.assert_allclose(pairs.own, cider(*tokenised), atol=1e-9)
    order = np.random.default_rng(1).permutation(len(texts))
    repaired = [references[i] for i in order]
    np.testing.assert_allclose(
        rouge1_pairs(texts, references).matrix[pairs.text, pairs.reference[order]],
        rouge(texts, repaired)["rouge1"], atol=1e-12,
    )  # fmt: skip
    # Re-pairing leaves the set of references, hence the idf, as it was.
    np.testing.assert_allclose(
        pairs.matrix[pairs.text, pairs.reference[order]],
        cider(tokenised[0], [tokenised[1][i] for i in order]), atol=1e-9,
    )  # fmt: skip
    assert pairs.matrix.shape[0] == len(pairs.rows) == len({*texts, "the dog runs"})


def test_sets_of_ngrams_equal_the_pypi_package():
    package = pytest.importorskip("rouge")
    from wernicke.scoring.thought2text import set_rouge

    texts, references = made_up()
    texts = [clean(f"A {t}. Then {t} more") for t in texts]
    single = [(f" {several[0]}. And so. ",) for several in references]
    theirs = package.Rouge().get_scores(texts, [s[0] for s in single])
    ours = set_rouge(texts, single)
    for key, name in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
        np.testing.assert_allclose(ours[key], [score[name]["f"] for score in theirs], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("", "No response."), ("  ", "No response."), ("\u2603", "No response."), ("a", "No response"),
     ("A dog. A cat.", "A dog."), ("A  dog\nruns", "A dog runs"), ("Hi! There", "Hi!"), ("3.5 dogs", "3.5 dogs")],
)  # fmt: skip
def test_cleaning_of_thought2text(text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize("preset", [None, "coco", "thought2text"])
def test_every_preset_gives_every_metric_and_names_it(preset, caplog):
    texts, references = made_up(12)
    with caplog.at_level(logging.WARNING):
        scores = text_scores(texts, references, preset=preset)
    assert caplog.records == []
    assert tuple(scores.metrics) == tuple(scores.items) == tuple(scores.implementations) == METRICS
    assert scores.n_empty == 1
    assert all(len(values) == 12 and np.isfinite(values).all() for values in scores.items.values())
    assert all(any(char.isdigit() for char in name) for name in scores.implementations.values())
    if preset != "thought2text":  # there an empty text becomes "No response."
        assert all(values[3] == 0 for values in scores.items.values())


def test_perfect_and_empty_texts():
    references = [("a man rides a horse in a field",), ("two dogs play with a red ball",)]
    perfect = text_scores([r[0] for r in references], references).metrics
    assert {round(perfect[name], 9) for name in METRICS if name != "cider"} == {1.0}
    assert perfect["cider"] == pytest.approx(10)
    empty = text_scores(["", " "], references)
    assert set(empty.metrics.values()) == {0.0}
    assert empty.n_empty == 2
    with pytest.raises(InputError, match="E-META"):
        text_scores(["a"], [("",)])
    with pytest.raises(InputError, match="E-SHAPE"):
        text_scores(["a"], [])
    with pytest.raises(InputError, match="did you mean `coco`"):
        text_scores(["a"], [("b",)], preset="coc")  # type: ignore[arg-type]
    assert text_scores(["..."], [("!?",)]).metrics["bleu1"] == 0


# BrainHub's leaderboard, subject 1, times 100 (BLEU-1, BLEU-4, ROUGE-L, CIDEr), and measured BLEU-2, BLEU-3.
BRAINHUB = {
    "sdrecon": {"bleu1": 36.21, "bleu2": 17.11, "bleu3": 7.72, "bleu4": 3.43, "rougeL": 25.13, "cider": 13.83},
    "braincap": {"bleu1": 55.96, "bleu2": 36.21, "bleu3": 22.70, "bleu4": 14.51, "rougeL": 40.69, "cider": 41.30},
}


@pytest.fixture(scope="module")
def brainhub(shared: Path) -> dict:
    folder = shared / "data/published/brainhub"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("refs", "sdrecon", "braincap")}


@pytest.mark.parametrize("system", BRAINHUB)
def test_brainhub_table(brainhub, system):
    references = brainhub["refs"]
    scores = text_scores([brainhub[system][key] for key in references], list(references.values()), preset="coco")
    ours = {name: 100 * scores.metrics[name] for name in BRAINHUB[system]}
    # Half of the last printed digit, and 0.0015 for the three captions in which our words differ from the Java ones.
    assert ours == pytest.approx(BRAINHUB[system], abs=0.0065)


def test_brainhub_controls(brainhub):
    references = list(brainhub["refs"].values())
    constant = ["a man is standing in a room with a table"] * len(references)
    ours = text_scores(constant, references, preset="coco").metrics
    published = {"bleu1": 48.56, "bleu2": 25.51, "bleu3": 11.01, "bleu4": 4.60, "rougeL": 34.31, "cider": 10.49}
    assert {name: 100 * ours[name] for name in published} == pytest.approx(published, abs=0.0065)


# Thought2Text, all subjects (BLEU-4, BLEU-1, ROUGE-1, ROUGE-2, ROUGE-L).
THOUGHT2TEXT = {
    "all": (0.061, 0.260, 0.306, 0.088, 0.280),
    "chance1": (0.025, 0.145, 0.176, 0.034, 0.148),
    "only_eeg": (0.042, 0.233, 0.267, 0.053, 0.235),
    "chance2": (0.029, 0.157, 0.179, 0.036, 0.151),
    "no_stage2_all": (0.050, 0.241, 0.292, 0.073, 0.265),
    "no_stage2_only_eeg": (0.037, 0.219, 0.251, 0.045, 0.218),
}
# Each subject (BLEU-1, ROUGE-L, ROUGE-1, ROUGE-2).
SUBJECTS = {
    1: (0.231, 0.253, 0.279, 0.067),
    2: (0.235, 0.247, 0.278, 0.064),
    3: (0.211, 0.240, 0.265, 0.066),
    4: (0.239, 0.253, 0.283, 0.074),
    5: (0.231, 0.255, 0.278, 0.071),
    6: (0.237, 0.249, 0.278, 0.066),
}


def thought2text(shared: Path, name: str) -> tuple[list[str], list[list[str]]]:
    path = shared / f"data/published/thought2text/results_Mistral-7B-Instruct-v0.3_{name}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["Generated Caption"] for row in rows], [[row["Expected Caption"]] for row in rows]


@pytest.mark.parametrize("variant", ["all", *(pytest.param(v, marks=pytest.mark.slow) for v in list(THOUGHT2TEXT)[1:])])
def test_thought2text_table_to_its_last_digit(shared, variant):
    ours = text_scores(*thought2text(shared, variant), preset="thought2text").metrics
    names = ("bleu4", "bleu1", "rouge1", "rouge2", "rougeL")
    assert tuple(np.round([ours[name] for name in names], 3)) == THOUGHT2TEXT[variant]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_thought2text_subjects_to_the_last_digit(shared, subject):
    ours = text_scores(*thought2text(shared, f"subject-{subject}"), preset="thought2text").metrics
    names = ("bleu1", "rougeL", "rouge1", "rouge2")
    assert tuple(np.round([ours[name] for name in names], 3)) == SUBJECTS[subject]


def test_thought2text_constant_control(shared):
    _, references = thought2text(shared, "all")
    constant = ["A man is standing in a field with a black and white background."] * len(references)
    ours = text_scores(constant, references, preset="thought2text").metrics
    found = np.round([ours[n] for n in ("bleu1", "bleu4", "rouge1", "rougeL")], 3)
    assert tuple(found) == (0.275, 0.046, 0.298, 0.255)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's dog, running!", "a man 's dog running"),
        ("Two close-up photos; black-and-white.", "two close-up photos black-and-white"),
        ("It can't cannot don't", "it ca n't can not do n't"),
        ("Mr. Smith at 3:30 p.m. in the U.S. today.", "mr. smith at 3:30 p.m. in the u.s. today"),
        ('A sign that says "stop" (red)', "a sign that says stop -lrb- red -rrb-"),
        ("Grüße, 猫", "grüße 猫"),
        ("", ""),
    ],
)
def test_coco_words(text, words):
    assert " ".join(coco_tokens(text)) == words


@pytest.mark.slow
def test_coco_words_equal_the_java_tokenizer_on_published_captions(brainhub, shared, tmp_path):
    spec = find_spec("pycocoevalcap")
    if shutil.which("java") is None or spec is None or not spec.submodule_search_locations:
        pytest.skip("needs Java and pycocoevalcap")
    jar = Path(next(iter(spec.submodule_search_locations))) / "tokenizer/stanford-corenlp-3.4.1.jar"
    texts = [t for several in brainhub["refs"].values() for t in several]
    texts += [*brainhub["sdrecon"].values(), *brainhub["braincap"].values()]
    for variant in THOUGHT2TEXT:
        found, references = thought2text(shared, variant)
        texts += [*found, *(r[0] for r in references)]
    texts = list(dict.fromkeys(text.replace("\n", " ") for text in texts))
    (tmp_path / "in.txt").write_text("\n".join(texts))
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    out = subprocess.run([*command, str(tmp_path / "in.txt")], capture_output=True, text=True, check=True).stdout
    dropped = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
    theirs = [[w for w in line.split(" ") if w and w not in dropped] for line in out.split("\n")]
    different = [text for text, words in zip(texts, theirs, strict=True) if coco_tokens(text) != words]
    assert len(texts) > 10_000
    assert len(different) <= 3, different
