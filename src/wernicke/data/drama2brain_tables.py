"""drama2brain's subjects, titles, runs, splits and folds (yu-takagi/drama2brain, commit 133915c, ``data_const``).

A run is named as its feature file is: ``BreakingBad_002`` is the second run of Breaking Bad.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from wernicke.core.study import Source

SUBJECTS = ("DM01", "DM03", "DM06", "DM07", "DM09", "DM11")
TR_S = 1.0
#: Every run but a title's first begins with the last seconds of the run before; they are dropped.
OVERLAP_S = 20

#: Title to, for each run: seconds that are kept (overlap included), use in the data sets "all", "splitA", "splitB" (T
#: for TRAIN, V for VALID, - for neither); and the title's fold in the cross-validation.
TITLES: dict[str, tuple[tuple[int, ...], str, str, str, int]] = {
    "BigBangTheory1": ((747, 647), "TV", "--", "--", 1),
    "BreakingBad": ((679, 709, 715, 722, 734), "TTTTV", "TT--V", "--TTV", 0),
    "Crown": ((638, 625, 711, 844, 769), "TTTTV", "TT--V", "--TTV", 0),
    "DreamGirls": ((764, 821, 817, 592, 1118, 691, 883, 684, 1271), "TTTTTTTVV", "TTTT---VV", "----TTTVV", 1),
    "GIS1": ((804, 726), "TT", "TT", "--", 2),
    "GIS2": ((673, 852), "TV", "-V", "TV", 2),
    "Glee": ((722, 812, 601, 808), "TTTV", "T--V", "-TTV", 2),
    "Heroes": ((617, 639, 512, 774, 732), "TTTTV", "TT--V", "--TTV", 3),
    "Mentalist": ((737, 607, 660, 760), "TTTV", "TT-V", "--TV", 3),
    "SUITS": ((754, 968, 680), "TTV", "T-V", "-TV", 2),
}
_PARTS = {"T": "TRAIN", "V": "VALID", "-": ""}

#: Name in annotation files to the paper's name and its number of annotators.
LEVELS = {
    "speechTranscription": ("Speech", 1),
    "objectiveAnnot50chara": ("Object", 5),
    "story": ("Story", 2),
    "eventContent": ("Summary", 3),
    "timePlace": ("TimePlace", 3),
}

SOURCE = Source(
    name="Narrative movies of drama2brain (Nakagi, Matsuyama et al. 2024)",
    licence="CC0 (OpenNeuro ds005531)",
    terms="For research; nobody may be re-identified. Name the authors and OpenNeuro ds005531.",
    citation="Nakagi, Matsuyama, Koide-Majima, Yamaguchi, Kubo, Nishimoto & Takagi (2024). Unveiling Multi-level and "
    "Multi-modal Semantic Representations in the Human Brain using Large Language Models. EMNLP 2024, 20313-20338.",
    bibtex="""@inproceedings{nakagi2024,
  author    = {Nakagi, Yuko and Matsuyama, Takuya and Koide-Majima, Naoko and Yamaguchi, Hiroto Q. and Kubo, Rieko and
               Nishimoto, Shinji and Takagi, Yu},
  title     = {Unveiling Multi-level and Multi-modal Semantic Representations in the Human Brain using Large Language
               Models},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  pages     = {20313--20338},
  year      = {2024}
}""",
    url="https://aclanthology.org/2024.emnlp-main.1133/",
)


SIMULATED_NOTE = (
    "SIMULATED data in the layout of drama2brain: responses, model states and annotations are random numbers with a "
    "planted relation. No recording of anyone."
)
SIMULATED_SOURCE = Source(
    name="SIMULATED data in drama2brain's layout",
    licence="none needed",
    terms=SIMULATED_NOTE,
    citation="Simulated by wernicke.",
    bibtex="@misc{simulated, title = {SIMULATED data in the layout of drama2brain, made by wernicke}}",
)


class Run(NamedTuple):
    """One run of a title."""

    run: str
    """Stem of its feature file"""
    title: str
    number: int
    """Within the title, from 0"""
    kept_s: int
    """Length, overlap included"""
    first_s: int
    """First second that is kept: 0, or 20 where the overlap is dropped"""
    part_all: str
    """TRAIN, VALID or empty, in the data set "all"; the same for the two splits"""
    part_splitA: str
    part_splitB: str
    fold: int


def _runs() -> Iterator[Run]:
    for title, (kept, in_all, in_a, in_b, fold) in TITLES.items():
        for i, kept_s in enumerate(kept):
            first_s = OVERLAP_S if i else 0
            parts = [_PARTS[letters[i]] for letters in (in_all, in_a, in_b)]
            yield Run(f"{title}_{i + 1:03d}", title, i, kept_s, first_s, parts[0], parts[1], parts[2], fold)


#: All 41 runs in the authors' order.
RUNS = tuple(_runs())


def row_table() -> pd.DataFrame:
    """Return one row a kept second, 29,999 in all: `run`, `title`, `onset_s` within the run, `part_*`, `fold`."""
    runs = pd.DataFrame(RUNS)
    lengths = (runs["kept_s"] - runs["first_s"]).to_numpy()
    rows = runs.loc[np.repeat(np.arange(len(runs)), lengths)].reset_index(drop=True)
    rows["onset_s"] = rows.groupby("run", sort=False).cumcount() + rows["first_s"] + 0.0
    return rows.drop(columns=["number", "kept_s", "first_s"])
