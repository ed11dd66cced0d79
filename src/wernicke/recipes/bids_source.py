"""What `bids_encode` reads: which files of a BIDS data set, which regions, and which texts stand for its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError
from wernicke.data.sheets import SheetFiles

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.study import Events
    from wernicke.data.bids import BidsData
    from wernicke.data.confounds import Preprocess
    from wernicke.data.mapper import Mapper
    from wernicke.data.surfaces import Cortex


@dataclass(frozen=True)
class BidsSource:
    """Which files of a BIDS data set are read.

    Parameters
    ----------
    layout : {"bids", "haxby"}
        ``haxby``: the sample in the package, or the folder that ``nilearn.datasets.fetch_haxby`` made; then only `root`
        and `mask` count, and a category is an event's text.
    root : path, optional
        Must be given for ``bids``: fMRIPrep's folder, or the data set that holds it in ``derivatives``.
    events_root : path, optional
        The raw data set with the events, where it lies elsewhere.
    task, space : str, optional
        Needed where there are several.
    kind : {"auto", "volume", "surface", "cifti"}
        Where a space has files of several kinds.
    sessions, runs : list of str, optional
        Default: all.
    entities : dict of str to str
        Values of further entities, such as ``res``.
    desc : str
    mask : path, optional
        A brain mask for all subjects, in place of the runs' own.
    tr_s : float, optional
        Overrules header and sidecar.
    rois : str, optional
        Regions: an atlas image on the recordings' grid, a ``.dlabel.nii`` for CIFTI, or for surfaces FreeSurfer's
        ``.annot`` and ``.label`` or ``.label.gii`` files; ``{subject}`` in it stands for the subject's label and
        ``*`` and ``?`` for any letters, such as ``fs/sub-{subject}/label/?h.aparc.annot``.
    roi_names : path, optional
        The atlas image's table of numbers and names.
    surfaces : str, optional
        Of volumes, maps on fsaverage5 too: the folder that holds subjects' folders (fMRIPrep's derivatives,
        FreeSurfer's SUBJECTS_DIR), or with ``{subject}`` in it a subject's own. Labels in `rois` lie on them.
    transform : str, optional
        With ``{subject}``: from the anatomy to the recording, as register.dat, LTA or 4 x 4 numbers; needed unless
        `space` is T1w.
    mapper : str, optional
        With ``{subject}``: pycortex's matrices (voxelwise-tutorials' HDF5) in place of `surfaces`.
    """

    layout: Literal["bids", "haxby"] = "bids"
    root: Path | None = None
    events_root: Path | None = None
    task: str | None = None
    space: str | None = None
    kind: Literal["auto", "volume", "surface", "cifti"] = "auto"
    sessions: list[str] | None = None
    runs: list[str] | None = None
    entities: dict[str, str] = field(default_factory=dict)
    desc: str = "preproc"
    mask: Path | None = None
    tr_s: float | None = None
    rois: str | None = None
    roi_names: Path | None = None
    surfaces: str | None = None
    transform: str | None = None
    mapper: str | None = None

    def __post_init__(self) -> None:
        _ = self.sheet  # refuses keys that do not go together

    @property
    def sheet(self) -> SheetFiles:
        """Each subject's way to the cortical sheet."""
        return SheetFiles(self.surfaces, self.transform, self.mapper)

    def need_root(self) -> Path:
        """Return the data set's folder; raises E-CFG where none was given."""
        if self.root is None:
            raise InputError("E-CFG", "no data set given", field="data.root", hint="add `--data.root DIR`")
        return Path(self.root)

    def load(
        self,
        subjects: Sequence[str] | None,
        preprocess: Preprocess,
        text_column: str | None,
        joined: Path | None = None,
    ) -> BidsData:
        """Read subjects (`wernicke.data.bids.read_bids`)."""
        from wernicke.data.bids import read_bids
        from wernicke.recipes.bids_haxby import read_haxby

        if self.layout == "haxby":
            return read_haxby(self.root, subjects, self.mask, preprocess)
        return read_bids(
            self.need_root(), subjects, task=self.task, space=self.space, kind=self.kind, sessions=self.sessions,
            runs=self.runs, entities=self.entities, desc=self.desc, mask=self.mask, events_root=self.events_root,
            text_column=text_column, tr_s=self.tr_s, preprocess=preprocess, joined=joined,
        )  # fmt: skip

    def subjects(self) -> list[str]:
        """Return the labels of all subjects in the derivatives (E-REF: none); of Haxby's those in sample or folder."""
        if self.layout == "haxby":
            found = [] if self.root is None else sorted(p.name[4:] for p in Path(self.root).glob("subj*") if p.is_dir())
            return found or ["1"]
        from wernicke.data.bids_layout import open_folders

        root = self.need_root()
        found = open_folders(root, self.events_root)[0].subjects()
        if not found:
            raise InputError("E-REF", "no subject's folder here, expected sub-01 and the like", path=root,
                             field="data.root")  # fmt: skip
        return found

    def check_sheets(self, subjects: Sequence[str]) -> None:
        """Refuse, before a recording is read, surfaces and regions that are absent, or one person's for several."""
        self.sheet.check(subjects)
        for subject in subjects:
            self.sheet.files(subject)
            self.roi_files(subject)

    def read_sheet(self, subject: str, found: BidsData) -> Cortex | Mapper | None:
        """Return a subject's surfaces or mapper, whose columns are the recording's voxels; None where none is named.

        Raises
        ------
        InputError
            E-CFG (a recording on a surface, or in another space than the surfaces), and what
            `wernicke.data.sheets.SheetFiles` raises.
        """
        from wernicke.core.recording import Voxels
        from wernicke.data.bids_runs import NATIVE

        if not self.sheet.given:
            return None
        units = found.study.recordings[subject].units
        key = "data.mapper" if self.mapper is not None else "data.surfaces"
        if not isinstance(units, Voxels):
            raise InputError("E-CFG", "these recordings lie on a surface themselves", field=key, hint="leave it out")
        spaces = {run.bids.entities.get("space", NATIVE) for run in found.runs}
        if self.surfaces is not None and self.transform is None and spaces - {"T1w"}:
            raise InputError("E-CFG", f"the surfaces lie in the anatomy's world, the recordings in space "
                             f"{', '.join(sorted(spaces))}", field=key,
                             hint="take `data.space: T1w`, or give data.transform")  # fmt: skip
        return self.sheet.read(subject, units, units.n_voxels)

    def roi_files(self, subject: str) -> list[Path]:
        """Return the files that `rois` names for a subject; E-REF where there is none."""
        if self.rois is None:
            return []
        pattern = str(Path(self.rois.replace("{subject}", subject)).expanduser())
        paths = [Path(name) for name in ([pattern] if Path(pattern).exists() else sorted(glob(pattern)))]
        if not paths:
            raise InputError("E-REF", "no such file", path=pattern, field="data.rois",
                             hint="{subject} stands for the label without sub-")  # fmt: skip
        return paths

    def regions(self, subject: str, units: Any, sheet: Cortex | Mapper | None = None) -> np.ndarray | None:
        """Return the name of each unit's region, shape (n_units,), empty where it has none; None without regions.

        FreeSurfer's labels reach voxels by the surfaces in `sheet`.

        Raises
        ------
        InputError
            E-REF (no file of that name), E-CFG (files that do not fit the recording's kind), and what
            `wernicke.data.rois` and `wernicke.data.cifti_labels` raise.
        """
        from wernicke.core.recording import Surface, Voxels
        from wernicke.data.cifti_labels import read_dlabel
        from wernicke.data.rois import name_units, read_atlas, read_freesurfer
        from wernicke.data.surfaces import Cortex

        paths = self.roi_files(subject)
        if not paths:
            return None
        surface = [path for path in paths if path.name.endswith((".annot", ".label", ".label.gii"))]
        if len(surface) == len(paths) and isinstance(units, (Surface, Voxels)):
            return name_units(read_freesurfer(paths, units, sheet if isinstance(sheet, Cortex) else None))
        if len(paths) > 1:
            raise InputError("E-CFG", f"found {len(paths)} files, expected one image of labels, or FreeSurfer's labels",
                             path=paths[0], field="data.rois")  # fmt: skip
        if paths[0].name.endswith(".dlabel.nii") and isinstance(units, Surface):
            return name_units(read_dlabel(paths[0], units))
        if isinstance(units, Voxels) and not paths[0].name.endswith(".dlabel.nii"):
            return name_units(read_atlas(paths[0], units, self.roi_names))
        kind = "vertices" if isinstance(units, Surface) else "voxels"
        raise InputError("E-CFG", f"this file says nothing of the recording's {kind}", path=paths[0], field="data.rois",
                         hint="images go with volumes, .annot, .label and .label.gii with surfaces, .dlabel.nii with "
                         "CIFTI")  # fmt: skip


@dataclass(frozen=True)
class Text:
    """From events to texts by time.

    Parameters
    ----------
    column : str, optional
        Which column of the events; default: ``text`` or ``word``.
    sentences : dict of value to sentence
        What stands for a value of that column, such as a category of ``trial_type``; empty: the cells are the texts.
    kind : {"words", "captions"}
        Word-timed transcript: a state for each word, with the words before it. Captions: each TR has the texts that
        hold in it.
    context_s : float
        Seconds of words before each word, or of captions up to the TR's end (at least a TR).
    pool : {"last", "mean"}
        Over tokens: the last one is the word, their mean a caption.
    resample : {"lanczos", "mean", "last"}
        From words to TR.
    """

    column: str | None = None
    sentences: dict[str, str] = field(default_factory=dict)
    kind: Literal["words", "captions"] = "words"
    context_s: float = 20.0
    pool: Literal["last", "mean"] = "last"
    resample: Literal["lanczos", "mean", "last"] = "lanczos"

    def __post_init__(self) -> None:
        check_range(self.context_s, "text.context_s", low=0, low_open=True)


def events_of(study_events: Events | None, subject: str, text: Text) -> Events:
    """The subject's events that say something, with `text` as the language model is to read it.

    Raises
    ------
    InputError
        E-META (no text column, no event with text), E-CFG (a value without a sentence).
    """
    from wernicke.core.study import Events

    if study_events is None or "text" not in study_events.table.columns:
        raise InputError("E-META", "the events have no column `text` or `word`", field="text.column",
                         hint="name the column that holds the texts, or the categories: text.column")  # fmt: skip
    table = study_events.table[study_events.table["subject"] == subject]
    table = table[table["text"].notna()].reset_index(drop=True)
    if text.sentences:
        unknown = sorted(set(table["text"]) - set(text.sentences))
        if unknown:
            raise InputError("E-CFG", f"no sentence for `{unknown[0]}`", field="text.sentences",
                             hint=f"found {', '.join(sorted(set(table['text']))[:12])}")  # fmt: skip
        table = table.assign(label=table["text"], text=table["text"].map(text.sentences))
    if not len(table):
        raise InputError("E-META", f"no event of subject {subject} has a text", field="text.column")
    return Events(table)
