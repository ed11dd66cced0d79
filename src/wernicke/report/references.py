"""What a run used and must cite: entries of ``templates/library.bib``, and the data set's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_ENTRY = re.compile(r"^@(\w+)\{([^,\s]+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^ *(\w+) *= \{(.*)\},?$", re.MULTILINE)
_ACCENT = {"\\'e": "é", '\\"e': "ë"}


@cache
def library() -> dict[str, str]:
    """BibTeX entries by key."""
    text = (files("wernicke.report") / "templates" / "library.bib").read_text(encoding="utf-8")
    return {match[2]: match[0] for match in _ENTRY.finditer(text)}


def fields(key: str) -> dict[str, str]:
    """The fields of an entry as plain text, braces and TeX accents resolved."""
    found = dict(_FIELD.findall(library()[key]))
    for name, value in found.items():
        for tex, letter in _ACCENT.items():
            value = value.replace("{" + tex + "}", letter)
        found[name] = value.replace("{", "").replace("}", "").replace("--", "-")
    return found


def short(key: str) -> str:
    """``Huth et al. 2016``, as it stands in a sentence."""
    entry = fields(key)
    family = [author.split(",")[0].strip() for author in entry["author"].split(" and ")]
    names = family[0] if len(family) == 1 else " and ".join(family) if len(family) == 2 else f"{family[0]} et al."
    return f"{names} {entry['year']}"


def reference(key: str) -> dict[str, str]:
    """An entry for the list at the end of a page: `key`, `text`, `url` (may be empty)."""
    entry = fields(key)
    authors = [author.strip() for author in entry["author"].split(" and ")]
    names = [_initials(author) for author in authors]
    shown = ", ".join(names[:3]) + (" et al." if len(names) > 3 or "others" in names else "")
    shown = shown.replace(", others et al.", " et al.")
    where = entry.get("journal") or entry.get("booktitle") or ""
    if "eprint" in entry:
        where = f"arXiv:{entry['eprint']}"
    place = " ".join(part for part in (where, entry.get("volume", "")) if part)
    place += f", {entry['pages']}" if "pages" in entry else ""
    url = f"https://doi.org/{entry['doi']}" if "doi" in entry else ""
    url = f"https://arxiv.org/abs/{entry['eprint']}" if "eprint" in entry else url
    return {"key": key, "text": f"{shown} ({entry['year']}). {entry['title']}. {place}".rstrip(". ") + ".", "url": url}


def _initials(author: str) -> str:
    family, _, given = author.partition(",")
    return " ".join([family.strip(), "".join(name[0] for name in given.split())]).strip()


class Citer:
    """Collects what a text cites, in order of first mention."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Return ``(Hoerl and Kennard 1970; Huth et al. 2016)`` and remember the keys."""
        self.keys += [key for key in keys if key not in self.keys]
        return f"({'; '.join(short(key) for key in keys)})"


def bibliography(keys: Iterable[str], sources: Iterable[Mapping[str, Any]]) -> str:
    """Text of ``references.bib``: the data sets' own entries first, then the cited ones in order."""
    entries = [str(source["bibtex"]).strip() for source in sources if source.get("bibtex")]
    entries += [library()[key] for key in keys]
    return "\n\n".join(dict.fromkeys(entries)) + "\n"
