"""Encode: what a language model makes of the events' text -> fMRI from BIDS derivatives, read top to bottom.

Volumes, GIFTI or CIFTI of fMRIPrep, with their events and confounds, to maps: each run is cleaned by itself, one run
at a time is left out, and what the language band explains is asked beyond nuisance bands (word rate, position in the
run, head motion, the untrained twin of the language model), which are tuned by themselves.

What is read: `bids_source`; what is fitted: `bids_bands`; how: `bids_fit`; how it is scored: `bids_scoring`; what is
written: `bids_encode_results` and `bids_encode_tables`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError, RunInUseError
from wernicke.data.confounds import Preprocess
from wernicke.recipes.bids_bands import NUISANCE, make_bands
from wernicke.recipes.bids_source import BidsSource, Text, events_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from wernicke.core.split import Split
    from wernicke.core.study import Events
    from wernicke.data.bids import BidsData
    from wernicke.data.mapper import Mapper
    from wernicke.data.surfaces import Cortex
    from wernicke.store.run import RunFolder
    from wernicke.store.units import Unit

log = logging.getLogger(__name__)

# A finished unit is not taken for the result of code that has since changed.
LAYERS = ("core", "data", "stats", "ridge", "pretrained", "features", "encoding", "scoring")
PARTS = ("source", "bands", "encode", "fit", "scoring", "encode_results", "encode_tables", "haxby")
CODE = (
    *(f"wernicke.{layer}" for layer in LAYERS), *(f"wernicke.recipes.bids_{part}" for part in PARTS),
    "wernicke.recipes.map_pairs",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """An encoding model of a BIDS data set.

    Parameters
    ----------
    data : BidsSource
    subjects : list of str, optional
        Labels without ``sub-``; all that are there by default.
    preprocess : Preprocess
    text : Text
    llm : str
        ``smollm2``, a hub id or a local folder.
    layer : int or "all"
        Hidden state; 0 is the embedding output. `all`: every layer, of which the training runs of each left-out run
        choose one for all voxels.
    word_vectors : path, optional
        word2vec, GloVe or fastText vectors in place of the language model.
    nuisance : list of str
        Of word_rate, on_off, position, head_motion and untrained_twin.
    pca : int, optional
        Principal components of language and untrained twin, fitted on training runs, before the delays.
    delays_s : list of float, optional
        FIR delays, whole TR; default: the TR nearest to 2, 4, 6 and 8 s.
    alphas : list of float
        Grid of penalties, for bands of a total variance of 1.
    n_iter : int
        Random draws of the bands' balance, beside all alike, each alone and all but each.
    n_permutations : int
        Of the block permutation test.
    tail : {"pareto", "counted"}
        Small p values from a generalised Pareto tail, which whole-brain correction needs, or counted.
    smallest_effect : float
        Smallest gain in r of interest, stated beforehand.
    save_pred : bool
        Keep the full model's held-out predictions.
    tile : int
        Voxels at a time: bounds memory. Fewer, larger tiles are faster where features are wide.
    seed : int
    device : str
        auto, cpu, cuda or cuda:N, for the language model and the fits.
    """

    data: BidsSource = field(default_factory=BidsSource)
    subjects: list[str] | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    text: Text = field(default_factory=Text)
    llm: str = "smollm2"
    layer: int | str = 15
    word_vectors: Path | None = None
    nuisance: list[str] = field(default_factory=lambda: ["word_rate", "position", "head_motion", "untrained_twin"])
    pca: int | None = None
    delays_s: list[float] | None = None
    alphas: list[float] = field(default_factory=lambda: [10.0 ** (k / 2) for k in range(-6, 13)])
    n_iter: int = 20
    n_permutations: int = 999
    tail: Literal["pareto", "counted"] = "pareto"
    smallest_effect: float = 0.01
    save_pred: bool = False
    tile: int = 8192
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        least = 500 if self.tail == "pareto" else 19
        for key, low in (("n_iter", 1), ("n_permutations", least), ("tile", 1)):
            check_range(getattr(self, key), key, low=low)
        if isinstance(self.layer, str):
            check_option(self.layer, ("all",), "layer")
        else:
            check_range(self.layer, "layer", low=0)
        if self.pca is not None:
            check_range(self.pca, "pca", low=1)
        for name in self.nuisance:
            check_option(name, NUISANCE, "nuisance")
        if len(set(self.nuisance)) < len(self.nuisance):
            raise InputError("E-CFG", f"found {self.nuisance}, expected each band once", field="nuisance")
        if not self.alphas or self.delays_s == []:
            raise InputError("E-CFG", "found an empty list", field="delays_s" if self.alphas else "alphas")
        for alpha in self.alphas:
            check_range(alpha, "alphas", low=0, low_open=True)
        if self.word_vectors is not None and "untrained_twin" in self.nuisance:
            raise InputError("E-CFG", "word vectors have no untrained twin", field="nuisance",
                             hint="leave untrained_twin out")  # fmt: skip
        if self.word_vectors is not None and self.layer == "all":
            raise InputError("E-CFG", "word vectors have no layers", field="layer", hint="give a number")

    @property
    def model(self) -> str:
        """Name of the model's folder in the run: letters, digits and hyphens."""
        layer = "all-layers" if self.layer == "all" else f"layer{self.layer}"
        source = Path(self.word_vectors).stem if self.word_vectors else f"{Path(self.llm).name}-{layer}"
        return "".join(c if c.isalnum() else "-" for c in source).strip("-")


def encode(config: Config, run: Path, command: Sequence[str] = (), part: str | None = None) -> None:
    """Fit, test and score every subject into the run folder `run`; a subject that is finished is not computed again.

    Parameters
    ----------
    part : str, optional
        ``2/8``: only the second eighth of the subjects; ``merge``: only the tables over all of them.

    Raises
    ------
    InputError
        What reading the data raises; E-SPLIT with fewer than three runs; E-REF to merge what is not finished.
    RunInUseError
        When another process works on the same share.
    """
    from wernicke.recipes import bids_encode_results as results
    from wernicke.store.run import RunFolder
    from wernicke.store.units import Share, unfinished

    subjects = [name.removeprefix("sub-") for name in config.subjects or config.data.subjects()]
    if part != "merge":
        config.data.check_sheets(subjects)
    settings = {key: value for key, value in asdict(config).items() if key != "device"}
    folder = RunFolder.create(run, step="encode", command=command, config=settings, seed=config.seed)
    folder.begin()
    if part != "merge":
        share = Share.parse(part or "1/1")
        with share.locked(folder.folder):
            folder.begin()  # again: until a share was held, another process could begin the folder anew
            for subject in share.of(subjects):
                encode_subject(config, folder, subject)
    missing = unfinished([results.unit_of(folder, subject, config.model) for subject in subjects])
    if not missing:
        merge(config, folder, subjects, asked=part is None or part == "merge")
    elif part == "merge":
        raise InputError("E-REF", f"{len(missing)} of {len(subjects)} subjects are not finished",
                         path=missing[0].folder, hint="run their `--part k/N` first")  # fmt: skip
    else:
        log.info("share %s is done; %d of %d subjects are left to others", part, len(missing), len(subjects))


def encode_subject(config: Config, folder: RunFolder, subject: str) -> None:
    """Read a subject, build the bands, fit with and without language, write maps."""
    import numpy as np

    from wernicke.pretrained.locate import locate_llm
    from wernicke.recipes import bids_encode_results as results
    from wernicke.store.files import sha256_file
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.sealed import discard
    from wernicke.store.units import WORK

    work = folder.path(f"{WORK}/{subject}")
    found = config.data.load([subject], config.preprocess, config.text.column, joined=work / "runs")
    recording = found.study.recordings[subject]
    sheet = config.data.read_sheet(subject, found)
    regions = config.data.regions(subject, recording.units, sheet)
    events = events_of(found.study.events, subject, config.text)
    model = sha256_file(config.word_vectors) if config.word_vectors else locate_llm(config.llm).fingerprint
    identity = {
        "responses": fingerprint(recording.values), "samples": fingerprint(recording.samples),
        "events": fingerprint(events.table), "model": model, "code": code_fingerprint(*CODE),
        **({"regions": fingerprint(np.asarray(regions, dtype=str))} if regions is not None else {}),
        **{f"surfaces {path.name}": fingerprint(path) for path in config.data.sheet.files(subject)},
    }  # fmt: skip
    unit = results.unit_of(folder, subject, config.model, identity)
    if unit.is_whole():
        log.info("already done: %s", unit.folder)
    else:
        fit_and_write(config, unit, found, events, regions, sheet, work / fingerprint(identity)[:12])
    if work.is_dir():
        discard(work)


def fit_and_write(
    config: Config,
    unit: Unit,
    found: BidsData,
    events: Events,
    regions: np.ndarray | None,
    sheet: Cortex | Mapper | None,
    work: Path,
) -> None:
    """Fit every fold, score all of them together, write the subject's folder."""
    from wernicke.recipes import bids_encode_results as results
    from wernicke.recipes.bids_fit import Responses, fit_folds, poison_audit
    from wernicke.recipes.bids_scoring import score

    (recording,) = found.study.recordings.values()
    bands = make_bands(config, recording, events)
    samples = recording.samples.iloc[bands.kept].reset_index(drop=True).assign(stimulus_id=bands.stimuli)
    splits = leave_runs_out(samples)
    responses = Responses(recording.values, bands.kept, samples["run"].to_numpy())
    voxels = responses.varying(config.tile)
    folds = fit_folds(config, bands, responses, voxels, splits, work)
    overlaps = {key: max(split.overlaps()[key] for split in splits) for key in splits[0].overlaps()}
    split = {
        "scheme": "leave one run out", "n_folds": len(splits), "overlaps": overlaps,
        "accepted_leaks": list(splits[0].accepted_leaks),
        "poison_audit": poison_audit(config, bands, responses, voxels, splits[0]),
        "fingerprints": [split.fingerprint for split in splits],
    }  # fmt: skip
    with unit.building() as place:
        save_to = place / "predictions.npy" if config.save_pred else None
        fitted = score(config, bands, responses, voxels, folds, save_to)
        results.write_subject(place, config, found, bands, fitted, split, regions, sheet)


def leave_runs_out(samples: pd.DataFrame) -> list[Split]:
    """One run out at a time. A text that several runs showed stands on both sides, which is said, not hidden."""
    from wernicke.core.split import leave_one_group_out

    if samples["run"].nunique() < 3:
        raise InputError("E-SPLIT", f"found {samples['run'].nunique()} runs, expected at least 3: one to score, two to "
                         "choose penalties between", field="runs")  # fmt: skip
    leaks = ("stimulus_id",) if samples["stimulus_id"].notna().any() else ()
    return list(leave_one_group_out(samples, "run", keys=("run",), accepted_leaks=leaks))


def merge(config: Config, folder: RunFolder, subjects: Sequence[str], asked: bool) -> None:
    """Tables over all subjects, facts, the card; then the manifest. What was kept to go on with is no longer needed."""
    from wernicke.recipes import bids_encode_results as results
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.units import read_identity, remove_work

    units = {subject: results.unit_of(folder, subject, config.model).folder for subject in subjects}
    inputs = {subject: fingerprint(read_identity(unit)) for subject, unit in units.items()}
    try:
        with folder:
            if not folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
                results.write_run(folder, config, subjects)
                folder.finish()
            remove_work(folder.folder)
    except RunInUseError:
        if asked:
            raise
        log.info("another process merges %s", folder.folder)
