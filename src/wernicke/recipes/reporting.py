"""`wernicke report`: results of one or several runs -> one static page."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wernicke.core.errors import InputError
from wernicke.recipes.arguments import Arguments


def main(argv: Sequence[str]) -> None:
    """Write a page from finished runs: into the run's own folder, or into --out."""
    parser = Arguments(prog="wernicke report", description=main.__doc__)
    parser.add_argument("--run", nargs="+", required=True, type=Path, metavar="DIR", help="one or several run folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the page; needed for several runs")
    given = parser.parse_args(argv)
    if len(given.run) > 1 and given.out is None:
        raise InputError("E-CFG", f"{len(given.run)} runs and no folder for their page", field="--out",
                         hint="add `--out DIR`; with a single run the page goes into its folder")  # fmt: skip
    page = report(given.run, given.out, command=["wernicke", "report", *argv])
    sys.stdout.write(f"report: {page}\n")


def report(
    runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None, command: Sequence[str] = ()
) -> Path:
    """Write ``report.html``, ``references.bib``, ``methods.txt`` and the CSV files; return the page's absolute path.

    Parameters
    ----------
    runs : sequence of path-like
        Finished run folders.
    out : path-like, optional
        Where to; without it a single run's own folder, whose manifest then lists the report too.
    command : sequence of str
        The command line, for the manifest.

    Raises
    ------
    InputError
        E-REF (no run, unfinished, nothing to report), E-SUM (a file changed since the run finished), E-CFG (several
        runs without `out`, or `out` is a run folder), E-FMT, E-SIZE.
    RunInUseError
        When another process writes the run folder that the page goes into.
    """
    from wernicke.report.page import PAGE, build_page, check_nothing_foreign, report_files
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    folders = [Path(path) for path in runs]
    if out is not None and not (len(folders) == 1 and Path(out).resolve() == folders[0].resolve()):
        check_out(Path(out))
        return build_page(folders, Path(out)).absolute()
    if len(folders) != 1:
        raise InputError("E-CFG", f"found {len(folders)} runs, expected one, or a folder for the page", field="runs")
    with RunFolder.open(folders[0], command=command, step="report") as folder:
        written = report_files(folders)
        manifest = folder.manifest or {"files": {}}
        ours = [name for name, entry in manifest["files"].items() if entry["step"] == "report"]
        check_nothing_foreign(folder.folder, written, ours)
        shown = {name: entry["sha256"] for name, entry in manifest["files"].items() if name not in ours}
        for name, text in written.items():
            folder.write_text(name, text)
        folder.finish(inputs={"files": fingerprint(shown)}, code=code_fingerprint("wernicke.report"))
    return folder.path(PAGE).absolute()


def check_out(out: Path) -> None:
    """Refuse a file, and a run folder: its manifest would no longer be true."""
    if out.exists() and not out.is_dir():
        raise InputError("E-CFG", "is a file, expected a folder for the page", path=out, field="--out")
    if any((out / name).exists() for name in ("manifest.json", ".wernicke-run.json")):
        raise InputError("E-CFG", "holds a run, expected another folder for the page", path=out, field="--out",
                         hint="without --out a single run's page goes into its own folder")  # fmt: skip
