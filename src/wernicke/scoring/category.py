"""Does a text name the right category, and no other?

A category is named by its label, by the parts of a label such as "camp or camping", "fruits and vegetables" or
"cat/kitten", and by the synonyms that the caller gives; each also in the plural and with the usual irregular plurals.
Words are compared lower-cased, as whole words; where names overlap ("pool table", "table") the longer one counts. A
text that names several categories is ambiguous: it counts as wrong, and is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError

OUTCOMES = ("right", "wrong", "ambiguous", "none")

# One of each pair is a form of the other.
IRREGULAR = {
    "man": "men", "woman": "women", "person": "people", "child": "children", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "knife": "knives", "leaf": "leaves", "shelf": "shelves", "loaf": "loaves",
    "wolf": "wolves", "scarf": "scarves", "half": "halves", "life": "lives", "calf": "calves",
}  # fmt: skip
UNCHANGED = frozenset(
    {"scissors", "glasses", "trousers", "jeans", "shorts", "pants", "sheep", "deer", "series", "fish"}
)
_SINGULAR = {plural: singular for singular, plural in IRREGULAR.items()}
_PART = re.compile(r"\s+or\s+|\s+and\s+|/|,|;|\|")
_WORD = re.compile(r"[^\W_]+")

IMPLEMENTATION = "whole words, singular or plural, longest name first; several categories named: wrong"


@dataclass(frozen=True)
class NamedCategories:
    """What each text names.

    Parameters
    ----------
    outcomes : tuple of str
        "right", "wrong" (another category only), "ambiguous" (several) or "none", in the order of the texts.
    named : tuple of tuples of str
        The categories that each text names.
    synonyms : mapping of label to further names
    """

    outcomes: tuple[str, ...]
    named: tuple[tuple[str, ...], ...]
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def right(self) -> np.ndarray:
        """1 where the right category is named and no other, shape (n_items,)."""
        return np.array([outcome == "right" for outcome in self.outcomes], dtype=np.float64)

    @property
    def counts(self) -> dict[str, int]:
        """How many texts have each outcome."""
        return {outcome: self.outcomes.count(outcome) for outcome in OUTCOMES}


def named_categories(
    texts: Sequence[str], labels: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> NamedCategories:
    """Find which categories the texts name.

    Parameters
    ----------
    texts : sequence of str, length n_items
    labels : sequence of str, length n_items
        The true category of each; all categories that occur are looked for.
    synonyms : mapping of label to further names, optional
        Such as ``{"scrambledpix": ["scrambled picture", "texture"]}``. A label without occurrence is looked for too.

    Raises
    ------
    InputError
        E-SHAPE where lengths differ; E-CFG where one name stands for two categories.
    """
    if len(texts) != len(labels):
        raise InputError("E-SHAPE", f"{len(labels)} labels for {len(texts)} texts", field="label")
    categories = list(dict.fromkeys([*labels, *(synonyms or {})]))
    owner: dict[tuple[str, ...], str] = {}
    for category in categories:
        for name in _names(category, (synonyms or {}).get(category, ())):
            if owner.setdefault(name, category) != category:
                raise InputError("E-CFG", f"{' '.join(name)!r} names both {owner[name]!r} and {category!r}",
                                 field="synonyms", hint=suggest(category, categories))  # fmt: skip
    longest = max(map(len, owner), default=0)
    named = tuple(_found(text, owner, longest) for text in texts)
    outcomes = tuple(_outcome(names, label) for names, label in zip(named, labels, strict=True))
    return NamedCategories(outcomes, named, dict(synonyms or {}))


def _outcome(named: tuple[str, ...], label: str) -> str:
    if not named:
        return "none"
    if len(named) > 1:
        return "ambiguous"
    return "right" if named[0] == label else "wrong"


def _names(category: str, synonyms: Sequence[str]) -> set[tuple[str, ...]]:
    parts = [category, *_PART.split(category), *synonyms]
    words = [tuple(_WORD.findall(part.lower())) for part in parts]
    return {(*name[:-1], form) for name in words if name for form in _forms(name[-1])}


def _forms(word: str) -> set[str]:
    """The word, its singular and its plural."""
    if word in UNCHANGED:
        return {word}
    singulars = {word, _SINGULAR.get(word, word)}
    if len(word) > 3 and word.endswith("ies"):
        singulars.add(word[:-3] + "y")
    elif len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        singulars.add(word[:-2])
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        singulars.add(word[:-1])
    return singulars | {_plural(singular) for singular in singulars}


def _plural(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in _SINGULAR or (word.endswith("s") and not word.endswith(("ss", "us", "is"))):
        return word
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _found(text: str, owner: Mapping[tuple[str, ...], str], longest: int) -> tuple[str, ...]:
    words = _WORD.findall(text.lower())
    found: dict[str, None] = {}
    i = 0
    while i < len(words):
        for length in range(min(longest, len(words) - i), 0, -1):
            name = tuple(words[i : i + length])
            if name in owner:
                found[owner[name]] = None
                i += length
                break
        else:
            i += 1
    return tuple(found)
