"""References and the methods paragraph: only what was used, every number from the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from simulated_runs import SOURCE, encoding_content, write_encoding_run

from wernicke.report.page import report_files
from wernicke.report.references import Citer, bibliography, library, reference, short
from wernicke.report.words import interval, listed, number


def test_every_entry_of_the_library_is_whole() -> None:
    text = (Path(__import__("wernicke.report").report.__file__).parent / "templates" / "library.bib").read_text()
    assert len(library()) == text.count("\n@") + 1
    for key, entry in library().items():
        assert entry.count("{") == entry.count("}")
        names = re.findall(r"^  (\w+)", entry, re.MULTILINE)
        assert {"author", "title", "year"} <= set(names), key
        assert all(line.endswith((",", "}")) for line in entry.splitlines()[:-1]), key
        shown = reference(key)["text"]
        assert not set("{}\\") & set(shown), shown
        assert re.search(r"\(\d{4}\)\. .+\.$", shown), shown


def test_names_as_they_stand_in_a_sentence() -> None:
    assert short("spearman1910") == "Spearman 1910"
    assert short("hoerl1970") == "Hoerl and Kennard 1970"
    assert short("dupre2022") == "Dupré la Tour et al. 2022"
    assert reference("huth2016") == {
        "key": "huth2016",
        "text": "Huth AG, de Heer WA, Griffiths TL et al. (2016). Natural speech reveals the semantic maps that tile "
        "human cerebral cortex. Nature 532, 453-458.",
        "url": "https://doi.org/10.1038/nature17637",
    }


def test_a_bibliography_holds_what_was_cited_once_in_order() -> None:
    cite = Citer()
    assert cite("huth2016", "hoerl1970") == "(Huth et al. 2016; Hoerl and Kennard 1970)"
    cite("huth2016")
    text = bibliography(cite.keys, [SOURCE, SOURCE])
    assert re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE) == ["nobody2026", "huth2016", "hoerl1970"]


def test_only_methods_that_were_used_are_cited(tmp_path: Path) -> None:
    content = encoding_content()
    bib = report_files([write_encoding_run(tmp_path / "bh", content)])["references.bib"]
    assert "benjamini1995" in bib
    assert "benjamini2001" not in bib
    assert "allal2025" not in bib
    content["facts"]["card"]["correction"]["method"] = "BY"
    content["facts"]["features"]["model"] = "SmolLM2-135M-Instruct"
    written = report_files([write_encoding_run(tmp_path / "by", content)])
    assert "benjamini2001" in written["references.bib"]
    assert "benjamini1995" not in written["references.bib"]
    assert "allal2025" in written["references.bib"]
    assert "Benjamini-Yekutieli (Benjamini and Yekutieli 2001)" in written["methods.txt"]


def test_every_number_of_the_methods_stands_in_the_files(tmp_path: Path) -> None:
    content = encoding_content()
    run = write_encoding_run(tmp_path / "run", content)
    methods = report_files([run])["methods.txt"]
    assert methods.startswith("SIMULATED DATA. ")
    text = re.sub(r"\((?:[A-ZD][^()]* \d{4}(?:; )?)+\)", "", methods)  # citations
    files = (run / "facts.json").read_text() + (run / "manifest.json").read_text() + (run / "models.json").read_text()
    known = {float(value) for value in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", files)}
    rounded = {round(value, digits) for value in known for digits in (0, 1, 2, 3)}
    derived = {
        95.0,
        3.0,
        4.0,
        5.0,
        float(content["facts"]["test"]["n_tests"] - 2),
        float(len(content["config"]["alphas"])),
    }
    versions = re.compile(r"(?:wernicke|Python|NumPy|SciPy|pandas|scikit-learn|PyTorch|transformers|NiBabel) [\d.]+\S*")
    for value in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)", versions.sub("", text)):
        assert float(value) in rounded | derived, value


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.0001, "0.000"), (-0.0449, "-0.045"), (None, "–"), (1.0, "1.000")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_lists_and_intervals() -> None:
    assert listed([1, 2, 3]) == "1, 2 and 3"
    assert listed(["a"]) == "a"
    assert listed([]) == ""
    assert interval((-0.1, 0.25)) == "-0.100 to 0.250"
    assert interval(None) == "–"
