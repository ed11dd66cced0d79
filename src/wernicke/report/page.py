"""One static page from one or several finished runs: a summary dict a run, a template, a standalone file.

The page holds no script and loads nothing; every foreign text in it is escaped, every figure inlined. The same files
give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wernicke.core.errors import InputError
from wernicke.report import decoding, encoding, whole_brain
from wernicke.report.references import bibliography, reference
from wernicke.report.runs import FinishedRun, open_runs
from wernicke.report.tables import to_csv
from wernicke.scoring.show import printable
from wernicke.store import files
from wernicke.store.provenance import wernicke_version

MAX_BYTES = 2_000_000
PAGE = "report.html"
MARKER = b'<meta name="generator" content="wernicke'
SECTIONS = (encoding, decoding)


def build_page(runs: Sequence[str | os.PathLike[str]], out: Path) -> Path:
    """Write the report of finished runs into the folder `out`: the page, its numbers and its references.

    Parameters
    ----------
    runs : sequence of path-like
        Run folders; only read.
    out : Path
        Made if absent. ``report.html``, ``references.bib``, ``methods.txt`` and CSV files are (over)written there.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        What `report_files` raises; E-REF when `out` cannot be written; E-CFG when it holds files of these names
        that no report wrote.
    """
    written = report_files(runs)
    check_nothing_foreign(out, written)
    for name, text in written.items():  # the page first: it marks the others as a report's
        files.write_text(out / name, text)
    return out / PAGE


def check_nothing_foreign(folder: Path, names: Iterable[str], ours: Collection[str] = ()) -> None:
    """Refuse (E-CFG) to overwrite files that no report wrote.

    Parameters
    ----------
    folder : Path
    names : iterable of str
        What is to be written.
    ours : collection of str
        What a manifest vouches for.
    """
    there = [name for name in names if name not in ours and (folder / name).exists()]
    page = folder / PAGE
    if there and not (page.is_file() and MARKER in page.read_bytes()[:2000]):
        raise InputError("E-CFG", f"holds `{there[0]}`, which no report wrote", path=folder,
                         hint="nothing was changed; choose another folder, or move the file")  # fmt: skip


def report_files(runs: Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    """Return every file of a report by name, without writing anything.

    Raises
    ------
    InputError
        E-REF (no run, not finished, nothing to report), E-SUM (a file changed since), E-FMT (written by another
        version), E-SIZE (too many runs for one page of 2 MB).
    """
    sections = [summarise(run) for run in open_runs(runs)]
    for i, section in enumerate(sections):
        section |= {"anchor": f"run{i + 1}", "brief": False}
        if len(sections) > 1:
            rename_viewers(section, f"{section['anchor']}-")
    sources = list({section["source"]["bibtex"]: section["source"] for section in sections}.values())
    keys = list(dict.fromkeys(key for section in sections for key in section["citations"]))
    tables: dict[str, list[dict[str, Any]]] = {}
    for section in sections:
        for name, rows in section["tables"].items():
            tables.setdefault(name, []).extend(rows)
    beside = [*tables, "methods.txt", "references.bib"]
    page = render(sections, sources, keys, beside)
    if len(page.encode()) > MAX_BYTES and len(sections) > 1:
        page = render([{**section, "brief": True} for section in sections], sources, keys, beside)
    if len(page.encode()) > MAX_BYTES:
        raise InputError("E-SIZE", f"the page of {len(sections)} runs has {len(page.encode()):,} bytes, at most "
                         f"{MAX_BYTES:,} are written", field="--run", hint="report fewer runs at a time")  # fmt: skip
    methods = "\n\n".join(section["methods"] for section in sections) + "\n"
    written = {PAGE: page, "references.bib": bibliography(keys, sources), "methods.txt": methods}
    return written | {name: to_csv(rows) for name, rows in tables.items()} | viewer_pages(sections)


def viewer_pages(sections: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The interactive views that stand beside the page, by file name."""
    return {name: page for section in sections for name, page in section.get("pages", {}).items()}


def rename_viewers(section: dict[str, Any], prefix: str) -> None:
    """Tell the interactive views of several runs apart."""
    section["pages"] = {prefix + name: page for name, page in section.get("pages", {}).items()}
    section["viewers"] = [{**view, "name": prefix + view["name"]} for view in section.get("viewers", [])]


def summarise(run: FinishedRun) -> dict[str, Any]:
    """Let the section that knows this kind of run summarise it."""
    whole = run.facts.get("recipe") in whole_brain.RECIPES
    for section in (whole_brain,) if whole else SECTIONS:
        if whole or section.MARK in run.files:
            try:
                return section.summarise(run)
            except KeyError as error:
                raise InputError(
                    "E-FMT", f"the run's files have no {error}: written by wernicke {run.manifest['wernicke']}, this "
                    f"is {wernicke_version()}", path=run.folder.folder, hint="run it again with this version",
                ) from None  # fmt: skip
    known = ", ".join(section.MARK for section in SECTIONS)
    raise InputError("E-REF", f"nothing to report: none of {known} among the run's files", path=run.folder.folder)


def render(
    sections: Sequence[dict[str, Any]], sources: Sequence[Mapping[str, Any]], keys: Sequence[str], beside: Sequence[str]
) -> str:
    """Fill the template."""
    environment = Environment(
        loader=PackageLoader("wernicke.report"), autoescape=True, undefined=StrictUndefined, finalize=clean,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = environment.loader.get_source(environment, "style.css")[0]  # type: ignore[union-attr]
    single = sections[0] if len(sections) == 1 else None
    return environment.get_template("page.html").render(
        runs=sections,
        title=single["kind"] if single else f"{len(sections)} runs side by side",
        subtitle="; ".join(dict.fromkeys(section["subtitle"] for section in sections)),
        simulated=any(section["simulated"] for section in sections),
        style=Markup(style),
        sources=[{**source, "link": web_address(source.get("url"))} for source in sources],
        references=[reference(key) for key in keys],
        comparisons=comparisons(sections),
        version=wernicke_version(),
        beside=", ".join(beside),
    )


def clean(value: Any) -> Any:
    """Take control characters and marks that turn the writing direction out of foreign text, line by line."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(printable(line, 20_000) for line in value.split("\n"))
    return value


def web_address(url: str | None) -> str | None:
    """Return a link only if it is one to the web."""
    return url if url and url.startswith(("https://", "http://")) else None


def comparisons(sections: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables of each metric over runs of one kind, for the models that more than one of them has."""
    tables = []
    for template in dict.fromkeys(section["template"] for section in sections):
        alike = [section for section in sections if section["template"] == template]
        if len(alike) < 2:
            continue
        names = list(dict.fromkeys(row["name"] for section in alike for row in section["scores"]["rows"]))
        for k, metric in enumerate(alike[0]["scores"]["metrics"]):
            rows = []
            for name in names:
                cells = []
                for section in alike:
                    found = [row["cells"][k] for row in section["scores"]["rows"] if row["name"] == name]
                    cells.append(found[0] if found else ("–", "not run"))
                rows.append((name, cells))
            caption = f"{alike[0]['kind']}: {metric['name']}, with 95 % intervals"
            tables.append({"caption": caption, "columns": [section["name"] for section in alike], "rows": rows})
    return tables
