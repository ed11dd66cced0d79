"""The runs of a subject in BIDS derivatives: which series, mask, events, confounds and repetition time go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wernicke.core.errors import InputError
from wernicke.core.study import Source
from wernicke.data.bids_layout import PROCESSING, BidsFolder, BidsName, choose
from wernicke.store.files import read_json

ENDINGS = {"volume": (".nii", ".nii.gz"), "surface": (".func.gii",), "cifti": (".dtseries.nii",)}
#: The space of files that name none: the run's own grid.
NATIVE = "func"


@dataclass(frozen=True)
class BidsRun:
    """The files of one run.

    Parameters
    ----------
    subject, name : str
        `name` is all entities but the subject and the processing ones: ``ses-2_task-movie_run-1``.
    kind : {"volume", "surface", "cifti"}
    images : tuple of Path
        One file; the left and the right hemisphere's for surfaces.
    bids : BidsName
    tr_s : float or None
        The sidecar's RepetitionTime.
    mask, events, confounds : Path or None
    """

    subject: str
    name: str
    kind: str
    images: tuple[Path, ...]
    bids: BidsName
    tr_s: float | None
    mask: Path | None
    events: Path | None
    confounds: Path | None

    @property
    def session(self) -> str | None:
        return self.bids.entities.get("ses")


def find_runs(
    derived: BidsFolder,
    raw: BidsFolder,
    subject: str,
    wanted: Mapping[str, str | Sequence[str]],
    *,
    space: str | None,
    kind: str,
    desc: str,
    events: bool,
) -> list[BidsRun]:
    """Return the runs of a subject, sorted by session, task and run; raises as `read_bids`."""
    folder = derived.root / f"sub-{subject}"
    every = list(derived.files(subject))
    series = [n for n in every if n.suffix == "bold" and _kind(n) and _has_desc(n, desc)]
    if not series:
        there = f"subjects: {', '.join(derived.subjects()[:12]) or 'none'}"
        raise InputError("E-REF", f"no series with desc-{desc} of subject {subject}", path=folder, hint=there)
    series = choose(series, wanted, folder)
    series = _one(series, "space", lambda n: n.entities.get("space", NATIVE), space, folder)
    series = _one(series, "kind", lambda n: str(_kind(n)), None if kind == "auto" else kind, folder)
    if "task" not in wanted:
        series = _one(series, "task", lambda n: n.entities.get("task", ""), None, folder)
    grouped: dict[str, list[BidsName]] = {}
    for name in series:
        grouped.setdefault(name.run, []).append(name)
    runs = []
    for run in sorted(grouped, key=_in_order):
        images = _images(grouped[run], str(_kind(grouped[run][0])))
        first = images[0]
        found = raw.inherited(_unprocessed(first), "events", ".tsv") if events else []
        if events and not found:
            raise InputError("E-REF", f"run {run} has no events.tsv", path=raw.root / f"sub-{subject}",
                             hint="name the raw data set's folder as events_root, or set events to false")  # fmt: skip
        runs.append(
            BidsRun(
                subject,
                run,
                str(_kind(first)),
                tuple(derived.check(image.path) for image in images),
                first,
                _sidecar_tr(first, derived, raw),
                _beside(first, every, "mask", (".nii", ".nii.gz"), derived),
                found[-1] if found else None,
                _confounds(first, every, derived),
            )  # fmt: skip
        )
    return runs


def _kind(name: BidsName) -> str | None:
    return next((kind for kind, endings in ENDINGS.items() if name.extension in endings), None)


def _has_desc(name: BidsName, desc: str) -> bool:
    return name.entities.get("desc") == desc or ("desc" not in name.entities and _kind(name) != "volume")


def _one(names: list[BidsName], what: str, value: Any, wanted: str | None, folder: Path) -> list[BidsName]:
    """Keep the files of one value; without a wish there must be a single one."""
    there = sorted({value(name) for name in names})
    if wanted is None and len(there) > 1:
        raise InputError("E-CFG", f"found {what} {', '.join(there)}; say which", path=folder, field=what)
    kept = [name for name in names if wanted is None or value(name) == wanted]
    if not kept:
        raise InputError("E-REF", f"no series of {what} {wanted}; found {', '.join(there)}", path=folder, field=what)
    return kept


def _in_order(name: str) -> list[tuple[str, int, str]]:
    pairs = [part.split("-", 1) for part in name.split("_")]
    order = {"ses": "0", "task": "1"}
    return [(order.get(k, "2" + k), int(v) if v.isdigit() else -1, v) for k, v in pairs]


def _images(names: list[BidsName], kind: str) -> list[BidsName]:
    """Return the one file of a run, or its two hemispheres."""
    names = sorted(names, key=lambda n: n.entities.get("hemi", ""))
    expected = ["L", "R"] if kind == "surface" else [""]
    hemispheres = [n.entities.get("hemi", "") for n in names]
    if hemispheres == expected:
        return names
    missing = [h for h in expected if h not in hemispheres]
    if missing:
        raise InputError("E-REF", f"run {names[0].run} lacks hemisphere {missing[0]}", path=names[0].path)
    differing = [k for k in PROCESSING if len({n.entities.get(k, "none") for n in names}) > 1 and k != "hemi"]
    said = f"differ in {', '.join(differing)}" if differing else "have the same entities"
    raise InputError("E-META", f"{names[0].path.name} and {names[-1].path.name} are both run {names[0].run} and {said}",
                     path=names[0].path.parent, field=differing[0] if differing else None,
                     hint="choose by entities, such as res: 2" if differing else None)  # fmt: skip


def _unprocessed(name: BidsName) -> BidsName:
    kept = {k: v for k, v in name.entities.items() if k not in PROCESSING}
    return BidsName(name.path, kept, name.suffix, name.extension)


def _beside(
    name: BidsName, every: Sequence[BidsName], suffix: str, endings: tuple[str, ...], folder: BidsFolder
) -> Path | None:
    """The brain mask of a volume: the same entities with ``desc-brain``."""
    wanted = {**name.entities, "desc": "brain"}
    found = [n for n in every if n.suffix == suffix and n.extension in endings and dict(n.entities) == wanted]
    return folder.check(found[0].path) if found else None


def _confounds(name: BidsName, every: Sequence[BidsName], folder: BidsFolder) -> Path | None:
    wanted = {**_unprocessed(name).entities, "desc": "confounds"}
    found = [n for n in every if n.suffix in ("timeseries", "regressors") and n.extension == ".tsv"
             and dict(n.entities) == wanted]  # fmt: skip
    return folder.check(found[0].path) if found else None


def _sidecar_tr(name: BidsName, derived: BidsFolder, raw: BidsFolder) -> float | None:
    found = derived.metadata(name, "RepetitionTime") or raw.metadata(_unprocessed(name), "RepetitionTime")
    if found is None:
        return None
    value, path = found
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1000:
        raise InputError("E-META", f"found {value!r}, expected seconds above 0", path=path, field="RepetitionTime")
    return float(value)


def describe_source(derived: BidsFolder, raw: BidsFolder) -> Source:
    """Name the data set by its ``dataset_description.json``, the raw one's before the derivatives'."""
    content: dict[str, Any] = {}
    for folder in (raw, derived):
        path = folder.root / "dataset_description.json"
        if not content and path.is_file():
            found = read_json(folder.check(path))
            content = found if isinstance(found, dict) else {}

    def text(key: str, otherwise: str) -> str:
        value = content.get(key)
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        return " ".join(str(value).split())[:500] if value else otherwise

    name = text("Name", "BIDS data set without a name")
    authors, doi = text("Authors", ""), text("DatasetDOI", "")
    plain = {key: "".join(c for c in value if c not in "{}\\@%#") for key, value in
             (("author", authors.replace(", ", " and ")), ("title", name), ("doi", doi)) if value}  # fmt: skip
    return Source(
        name=name,
        licence=text("License", "not stated"),
        terms=text("HowToAcknowledge", "The data set states no terms; ask its authors."),
        citation=f"{authors}. {name}." if authors else f"{name}.",
        bibtex="@misc{bidsdataset,\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in plain.items()) + "}",
        url=f"https://doi.org/{doi.removeprefix('doi:')}" if doi else None,
    )
