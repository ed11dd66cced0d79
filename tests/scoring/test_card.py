"""The card's verdicts follow from its lines, survive JSON, and foreign text in it does no harm."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from wernicke.core.errors import InputError
from wernicke.scoring.card import Card, CardLine, Claim, verify_card
from wernicke.scoring.encoding_card import FACTS, encoding_card
from wernicke.scoring.show import printable

PASSED = CardLine("V3", "re-pairing", "PASS", "p .001")


def card(*lines: CardLine, gain: tuple[float, float, float] | None = (0.1, 0.05, 0.15), **other: object) -> Card:
    return Card("96 texts", "ROUGE-1 .5", (Claim("brain", ("V3", "V6"), gain),), lines, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "gain", "verdict"),
    [
        ("PASS", (0.1, 0.05, 0.15), "SUPPORTED"),
        ("WARN", (0.1, 0.05, 0.15), "SUPPORTED"),
        ("NOT APPLICABLE", None, "SUPPORTED"),
        ("NOT RUN", (0.1, 0.05, 0.15), "UNDETERMINED"),
        ("CANNOT TELL", (0.1, 0.05, 0.15), "UNDETERMINED"),
        ("FAIL", (0.1, 0.05, 0.15), "UNDETERMINED"),
        ("PASS", (0.02, -0.01, 0.05), "UNDETERMINED"),
        ("PASS", (0.0, -0.005, 0.005), "NOT SUPPORTED"),
    ],
)
def test_the_verdict_follows_from_lines_and_gain(result, gain, verdict):
    assert card(PASSED, CardLine("V6", "order", result, ""), gain=gain).verdict == verdict


def test_a_control_that_is_absent_from_the_card_never_passes():
    assert card(PASSED).verdict == "UNDETERMINED"


def test_a_fatal_failure_outweighs_everything_and_strikes_the_headline():
    bad = card(PASSED, CardLine("V6", "order", "PASS", ""), CardLine("V7", "leak", "FAIL", "3 stimuli", fatal=True))
    assert bad.verdict == "NOT SUPPORTED"
    assert bad.failed_fatally
    assert "<del>ROUGE-1 .5</del>" in bad._repr_html_()
    assert "VOID" in str(bad)
    good = card(PASSED, CardLine("V6", "order", "PASS", ""), CardLine("V7", "leak", "PASS", "", fatal=True))
    assert not good.failed_fatally
    assert "<del>" not in good._repr_html_()
    assert "VOID" not in str(good)


def test_json_round_trip_and_an_edited_verdict():
    before = card(PASSED, CardLine("V6", "order", "PASS", ""), hashes={"captions": "ab" * 32}, cannot_tell=("x",),
                  summary=(("Best", "y"),))  # fmt: skip
    stored = json.dumps(before.to_json())
    assert Card.from_json(stored) == before
    edited = json.loads(stored)
    edited["lines"][1]["result"] = "NOT RUN"
    with pytest.raises(InputError, match="E-SUM") as error:
        Card.from_json(edited)
    assert len(str(error.value).splitlines()) <= 2
    typed = json.loads(stored) | {"verdict": "NOT SUPPORTED"}
    with pytest.raises(InputError, match="E-SUM"):
        Card.from_json(typed)


@pytest.mark.parametrize("broken", ["{", "[]", '{"schema": "other/1"}', '{"schema": "wernicke.card/1"}', "null"])
def test_what_is_not_a_card_is_refused(broken):
    with pytest.raises(InputError, match="E-FMT"):
        Card.from_json(broken)


def test_an_unknown_result_is_refused():
    with pytest.raises(InputError, match="unknown result"):
        CardLine("V3", "x", "OK", "")  # type: ignore[arg-type]


def test_verify_names_every_difference():
    old = card(PASSED, CardLine("V6", "order", "PASS", "a"), hashes={"captions": "aa"})
    assert verify_card(old, Card.from_json(old.to_json())) == ()
    new = card(PASSED, CardLine("V6", "order", "FAIL", "a"), hashes={"captions": "bb"})
    found = "\n".join(verify_card(old, new))
    assert "hash of captions" in found
    assert "V6: card PASS a, now FAIL a" in found
    assert "verdict" in found


PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "a\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil\x07link\x1b]8;;\x07", "\x9b2Jgone", "bell\x07", "nul\x00", "\u202egnp.exe", "line\nbreak\r",
    "\x1b]52;c;cm0=\x1b\\", "\x85next", "\x1bPq#0\x1b\\", "lone \ud800 surrogate",
]  # fmt: skip


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_is_shown_and_does_nothing(payload):
    line = CardLine(payload, payload, "PASS", payload)
    shown = Card(payload, payload, (Claim(payload, ("V3",)),), (line,), ((payload, payload),), (payload,))
    text = str(shown)
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E]
    text.encode()
    parser = _Tags()
    parser.feed(shown._repr_html_())
    assert parser.seen <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "small", "del"}


def test_printable_keeps_text_and_cuts_what_is_huge():
    assert printable("a\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link") == "ared link"
    assert printable("Grüße, 猫 𝛼") == "Grüße, 猫 𝛼"
    cut = printable("x" * 1_000_000)
    assert len(cut) < 600
    assert "1,000,000 characters" in cut


GOOD = {
    "subject": "Haxby 2001, subject 1",
    "claim": "block responses follow the category",
    "headline": "r .20",
    "gain": {"estimate": 0.05, "low": 0.03, "high": 0.07, "over": "on/off"},
    "cross_validation": {"scheme": "leave one run out", "n_folds": 12, "shuffled": False, "oasm": 0.01, "score": 0.2},
    "borders": {"gap_tr": 0, "delays_tr": [1, 2, 3, 4], "n_crossing": 0, "whole_runs": True},
    "poison_audit": {"n_steps": 4, "changed": []},
    "overlaps": {"stimulus_id": 8, "run": 0},
    "accepted_leaks": ["stimulus_id"],
    "voxel_selection": {"on": "none"},
    "null": {"type": "block permutation", "n_permutations": 999, "block_length_tr": 30, "n_blocks": 48},
    "correction": {"method": "BH", "q": 0.05, "n_tests": 530, "n_significant": 200},
    "ceiling": {"median": 0.3, "method": "split half", "n_without": 3},
    "nuisance": {"names": ["on/off"], "gain": 0.05, "low": 0.03, "high": 0.07, "metric": "contrast r"},
    "reassigned": {"score": 0.196, "null": [0.198] * 20, "what": "sentences of the wrong categories"},
    "selection": {"what": ["alpha"], "on": "training"},
    "n_subjects": 1,
    "n_seeds": 3,
    "cannot_tell": ["eight categories cannot separate language from category"],
}


def results(facts: dict) -> dict[str, str]:
    return {line.code: line.result for line in encoding_card(facts).lines}


def test_encoding_card_of_a_sound_fit_supports_the_category_but_not_the_language():
    made = encoding_card(GOOD)
    assert made.verdict == "SUPPORTED"
    assert made.claims[1].verdict(made.lines) == "UNDETERMINED"
    found = results(GOOD)
    assert found["V7"] == "WARN"
    assert found["V3"] == "FAIL"
    assert found["V16"] == "WARN"
    assert "eight categories" in str(made)
    assert Card.from_json(made.to_json()) == made


def test_encoding_card_without_facts_runs_nothing_and_supports_nothing():
    empty = encoding_card({})
    assert {line.result for line in empty.lines} <= {"NOT RUN", "CANNOT TELL"}
    assert empty.verdict == "UNDETERMINED"


PLANTED = [
    ("V9", {"cross_validation": {"scheme": "shuffled", "n_folds": 5, "shuffled": True}}),
    ("V9", {"cross_validation": {"scheme": "x", "n_folds": 5, "shuffled": False, "oasm": 0.3, "score": 0.2}}),
    ("V10", {"borders": {"gap_tr": 0, "delays_tr": [1], "n_crossing": 11, "whole_runs": True}}),
    ("V10", {"borders": {"gap_tr": 2, "delays_tr": [1, 4], "n_crossing": 0, "whole_runs": False}}),
    ("V11", {"poison_audit": {"n_steps": 4, "changed": ["scaler"]}}),
    ("V7", {"accepted_leaks": []}),
    ("V8", {"overlaps": {"stimulus_id": 0, "run": 1}}),
    ("V12", {"voxel_selection": {"on": "test"}}),
    ("V15", {"null": {"type": "iid permutation", "n_permutations": 999}}),
    ("V15", {"null": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 10,
                      "autocorrelation_tr": 5.0}}),
    ("V15", {"null": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 90, "n_blocks": 9}}),
    ("V15", {"null": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 10,
                      "autocorrelation_tr": 5.0, "n_slow_significant": 1}}),
    ("V14", {"correction": {"method": "none", "q": 0.05, "n_tests": 530, "n_significant": 20}}),
    ("V20", {"nuisance": {"names": ["on/off"], "gain": 0.01, "low": -0.01, "high": 0.03}}),
    ("V21", {"selection": {"what": ["layer"], "on": "test"}}),
]  # fmt: skip


def test_blocks_may_be_short_for_voxels_that_nothing_is_claimed_of() -> None:
    null = {"type": "block permutation", "n_permutations": 99, "block_length_tr": 10, "autocorrelation_tr": 5.0}
    (line,) = (one for one in encoding_card({"null": {**null, "n_slow_significant": 0}}).lines if one.code == "V15")
    assert line.result == "PASS"
    assert "of 0 significant voxels" in line.detail


@pytest.mark.parametrize(("code", "fact"), PLANTED)
def test_every_planted_failure_is_found_and_lowers_the_verdict(code, fact):
    assert results(GOOD)[code] != "FAIL"
    bad = encoding_card(GOOD | fact)
    assert {line.code: line.result for line in bad.lines}[code] == "FAIL"
    fatal = code in {"V7", "V8", "V9", "V11", "V12", "V21"}
    assert bad.verdict == ("NOT SUPPORTED" if fatal else "UNDETERMINED")
    assert bad.failed_fatally == fatal


@pytest.mark.parametrize("left_out", ["cross_validation", "borders", "poison_audit", "overlaps", "voxel_selection",
                                      "null", "correction", "nuisance", "selection"])  # fmt: skip
def test_a_missing_fact_is_not_run_and_lowers_the_verdict(left_out):
    facts = {key: value for key, value in GOOD.items() if key != left_out}
    assert encoding_card(facts).verdict == "UNDETERMINED"


def test_few_reassignments_and_too_few_permutations_are_said():
    few = GOOD | {"reassigned": {"score": 0.3, "null": [0.1] * 5, "what": "x"}}
    assert results(few)["V3"] == "CANNOT TELL"
    none_found = GOOD | {"correction": {"method": "BH", "q": 0.05, "n_tests": 530, "n_significant": 0}}
    assert results(none_found)["V14"] == "WARN"
    assert results(GOOD | {"reassigned": {"score": 0.3, "null": [0.1] * 20, "what": "x"}})["V3"] == "PASS"


def test_a_mistyped_fact_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="did you mean `ceiling`"):
        encoding_card({"cieling": {}})
    assert set(GOOD) <= set(FACTS)
