"""How captions are cut into words: as the COCO caption evaluation does, without Java.

COCO's evaluation runs Stanford's PTBTokenizer (CoreNLP 3.4.1, lower case) and drops punctuation. `coco_tokens` follows
its rules for the English of captions. What differs on real captions is measured in ``tests/scoring/test_tokens.py``.
"""

from __future__ import annotations

import re

# Tokens that COCO's evaluation drops. Brackets appear as -lrb- and so on: lower-cased, they are not in the list of
# COCO's own script, which has them in capitals, and therefore stay.
_DROPPED = frozenset({'"', "'", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|st|ave|blvd|rd|jr|sr|vs|etc|inc|co|corp|ltd|dept|no|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct"
    "|nov|dec|mt|ft|gen|gov|sen|rep|capt|col|sgt|lt"
)
_TOKEN = re.compile(
    rf"""
      (?:[a-z]\.)+[a-z]\.?(?![a-z])                           # u.s. a.m.
    | (?:{_ABBREVIATIONS})\.(?=\s+\S)                         # mr. and the like, not at the end
    | \$|\#(?=\d)|[£€]                                        # currency
    | \d+(?:[.,:/]\d+)+                                       # 3.5 1,000 10:30 1/2
    | (?:o')?[^\W_]+(?:[-_&/.][^\W_]+)*                       # words, hyphened words, o'clock
      (?:'(?:s|m|d|re|ve|ll|t)(?![^\W_])|(?<!s)'[^\W\d_]+)?   # ... with a clitic, or an apostrophe within
    | \.\.\.|-+|\S
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?:n't|'(?:s|m|d|re|ve|ll))$")
_SPLIT_WORDS = {"cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"], "wanna": ["wan", "na"],
                "gimme": ["gim", "me"], "lemme": ["lem", "me"]}  # fmt: skip


def coco_tokens(text: str) -> list[str]:
    """Return the lower-cased words of a caption, clitics apart (``man 's``), punctuation left out."""
    tokens: list[str] = []
    for word in _TOKEN.findall(text.lower().replace("’", "'").replace("‘", "'")):
        if word in _DROPPED:
            continue
        clitic = _CLITIC.search(word)
        if clitic and clitic.start():
            tokens += [word[: clitic.start()], clitic[0]]
        else:
            tokens += _SPLIT_WORDS.get(word, [_BRACKETS.get(word, word)])
    return tokens
