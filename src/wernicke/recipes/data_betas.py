"""`wernicke data betas`: one response a trial, from BIDS derivatives by least squares separate, or from GLMsingle.

A folder a subject (`wernicke.data.saved_betas`): betas.npy, trials.tsv, mask and maps.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import EXIT_DONE, EXIT_USER, InputError
from wernicke.data.confounds import Preprocess
from wernicke.recipes.arguments import Arguments
from wernicke.recipes.bids_source import BidsSource

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from wernicke.core.recording import Recording
    from wernicke.core.study import Events
    from wernicke.data.bids import BidsData
    from wernicke.store.run import RunFolder

log = logging.getLogger(__name__)

CODE = ("wernicke.core", "wernicke.data", "wernicke.recipes.data_betas", "wernicke.recipes.bids_source")
USAGE = """\
usage: wernicke data betas --data.root DS --out DIR [--KEY VALUE ...]
       wernicke data betas --glmsingle FILE --trials TSV --subjects 01 --out DIR [--data.mask MASK]

"""


@dataclass(frozen=True)
class Config:
    """Single-trial betas, one folder a subject: betas.npy, trials.tsv, mask.nii.gz, maps.

    Parameters
    ----------
    data : BidsSource
    subjects : list of str, optional
        Labels without ``sub-``; all that are there by default. With `glmsingle` the one it is of.
    preprocess : Preprocess
        Smoothing, trim, confounds and censoring as anywhere; `high_pass` cosine or none, since drift, like confounds,
        stands in each trial's model. Series are not standardised.
    conditions : list of str, optional
        Values of ``trial_type`` whose events become trials; the others stay as regressors. All by default.
    others : {"by_condition", "together"}
        The events that are not the trial: one regressor a condition, as nilearn's example, or all in one (Mumford).
    hrf_model : {"glover", "spm"}
    noise_model : {"ols", "ar1"}
        ``ar1`` fits each trial by nilearn's `run_glm`; slow.
    slice_time_ref : float
        Where in its TR a volume stands for the slices: 0.5 after fMRIPrep's slice-time correction, 0 without one.
    percent : bool
        In per cent of the voxel's mean; false: in the series' unit.
    glmsingle : path, optional
        GLMsingle's ``TYPED_FITHRF_GLMDENOISE_RR`` (.npy, .hdf5 or .mat; or its type B or C) in place of a series.
    trials : path, optional
        With `glmsingle`: a table (TSV), one line a trial in order of time, with `run`, and `label` (or `trial_type`),
        `stimulus_id`, `session`, `onset_s` (or `onset`) where known.
    """

    data: BidsSource = field(default_factory=BidsSource)
    subjects: list[str] | None = None
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(detrend=False, standardise="none"))
    conditions: list[str] | None = None
    others: Literal["by_condition", "together"] = "by_condition"
    hrf_model: Literal["glover", "spm"] = "glover"
    noise_model: Literal["ols", "ar1"] = "ols"
    slice_time_ref: float = 0.0
    percent: bool = True
    glmsingle: Path | None = None
    trials: Path | None = None

    def __post_init__(self) -> None:
        check_range(self.slice_time_ref, "slice_time_ref", low=0, high=1)
        check_option(self.preprocess.high_pass, ("cosine", "none"), "preprocess.high_pass")
        if self.preprocess.detrend or self.preprocess.standardise != "none":
            name = "detrend" if self.preprocess.detrend else "standardise"
            problem = f"found {getattr(self.preprocess, name)!s}: betas are estimated from the series as it is"
            raise InputError("E-CFG", problem, field=f"preprocess.{name}", hint="z-score betas within runs afterwards")
        if (self.glmsingle is None) != (self.trials is None):
            missing = "trials" if self.trials is None else "glmsingle"
            raise InputError("E-CFG", "GLMsingle's file and the table of its trials go together, one was given",
                             field=missing)  # fmt: skip
        if self.glmsingle is not None and len(self.subjects or ()) != 1:
            raise InputError("E-CFG", f"found {self.subjects}, GLMsingle's file is of one subject", field="subjects",
                             hint="such as `--subjects 01`")  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Write betas, going on where an earlier call stopped."""
    from wernicke.recipes.config import build, load_config

    parser = Arguments(prog="wernicke data betas", add_help=False)
    parser.add_argument("--config")
    parser.add_argument("--out", type=Path)
    parser.add_argument("-h", "--help", action="store_true")
    given, rest = parser.parse_known_args(list(argv))
    values: dict[str, Any] = {"preprocess": {"detrend": False, "standardise": "none"}}
    path = Path("wernicke data betas")
    if given.config is not None:
        recipe, values, path = load_config(given.config)
        check_option(recipe, ("data_betas",), "recipe", path)
    if given.help:
        sys.stdout.write(USAGE)
        build(Config, values, path, ["--help"], "wernicke data betas --out DIR")
    if not argv:
        sys.stdout.write(f"{USAGE}`wernicke data betas --help` lists the keys.\n")
        return EXIT_USER
    if given.out is None:
        parser.error("--out is missing")
    config = build(Config, values, path, rest, "wernicke data betas --out DIR")
    betas(config, given.out, command=["wernicke", "data", "betas", *argv])
    sys.stdout.write(f"betas: {given.out.absolute()}\n")
    return EXIT_DONE


def betas(config: Config, out: Path, command: Sequence[str] = ()) -> None:
    """Write every subject's betas into the folder `out`; runs and subjects that are finished are not computed again.

    Raises
    ------
    InputError
        What reading the data and `wernicke.data.betas` raise.
    RunInUseError
        When another process writes there.
    """
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder
    from wernicke.store.units import Unit, read_identity, remove_work

    if config.glmsingle is None and config.data.layout == "bids":
        config.data.need_root()
    folder = RunFolder.create(out, step="betas", command=command, config=asdict(config), seed=0)
    with folder:
        subjects = [name.removeprefix("sub-") for name in config.subjects or config.data.subjects()]
        make = write_lss if config.glmsingle is None else write_glmsingle
        for subject in subjects:
            make(config, folder, subject)
        units = [Unit(folder.path(f"sub-{subject}"), {}) for subject in subjects]
        inputs = {unit.folder.name: fingerprint(read_identity(unit.folder)) for unit in units}
        if not folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            folder.finish()
        remove_work(folder.folder)


def write_glmsingle(config: Config, folder: RunFolder, subject: str) -> None:
    """GLMsingle's betas and maps, in our form."""
    from wernicke.data.betas import load_glmsingle
    from wernicke.data.nifti import read_mask
    from wernicke.data.saved_betas import write_betas
    from wernicke.store.files import sha256_file, write_json
    from wernicke.store.fingerprint import code_fingerprint
    from wernicke.store.units import Unit

    if config.glmsingle is None or config.trials is None:
        raise InputError("E-CFG", "no file given", field="glmsingle")
    trials = read_trials(config.trials)
    units = None if config.data.mask is None else read_mask(config.data.mask)
    found = load_glmsingle(config.glmsingle, trials, subject=subject, units=units)
    files = {"glmsingle": config.glmsingle, "trials": config.trials, "mask": config.data.mask}
    known = {name: sha256_file(path) for name, path in files.items() if path is not None}
    unit = Unit(folder.path(f"sub-{subject}"), {**known, "code": code_fingerprint(*CODE)})
    if unit.is_whole():
        log.info("already done: %s", unit.folder)
        return
    regions = {} if units is None else regions_of(config, subject, units)
    with unit.building() as place:
        write_betas(place, found.recording, {**{k: v.astype("float32") for k, v in found.maps.items()}, **regions})
        write_json(place / "facts.json", {**facts_of(found.recording), "by": f"GLMsingle, {config.glmsingle.name}"})


def read_trials(path: Path) -> pd.DataFrame:
    """Read the table of trials, BIDS's names of columns allowed.

    Raises
    ------
    InputError
        E-META (no run), and what `read_tsv` raises.
    """
    from wernicke.data.tsv import numbers, read_tsv

    table = read_tsv(path)
    for theirs, ours in (("onset", "onset_s"), ("trial_type", "label"), ("run_id", "run")):
        if theirs in table.columns and ours not in table.columns:
            table = table.rename(columns={theirs: ours})
    if "run" not in table.columns or table["run"].isna().any():
        raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected a run in every line", path=path,
                         field="run")  # fmt: skip
    if "onset_s" in table.columns:
        table["onset_s"] = numbers(table, "onset_s", path)
    return table


def write_lss(config: Config, folder: RunFolder, subject: str) -> None:
    """Read a subject, estimate its trials run by run, write them."""
    import numpy as np
    import pandas as pd
    from tqdm import tqdm

    from wernicke.core.recording import Recording
    from wernicke.data.saved_betas import write_betas
    from wernicke.store.files import write_json
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.units import Unit

    found = config.data.load([subject], replace(config.preprocess, confounds=[], high_pass="none"), None)
    series, events = found.study.recordings[subject], found.study.events
    if events is None:
        raise InputError("E-META", f"subject {subject} has no events", field="data.events_root")
    series, confounds = with_confounds(config.preprocess, found, series)
    settings = {key: value for key, value in asdict(config).items() if key not in ("data", "subjects")}
    keep = np.ones(series.n_samples, dtype=bool) if series.keep is None else series.keep
    known = {
        "responses": fingerprint(series.values), "samples": fingerprint(series.samples), "keep": fingerprint(keep),
        "events": fingerprint(events.table), "confounds": fingerprint(confounds), "settings": fingerprint(settings),
        "code": code_fingerprint(*CODE),
    }  # fmt: skip
    unit = Unit(folder.path(f"sub-{subject}"), known)
    if unit.is_whole():
        log.info("already done: %s", unit.folder)
        return
    runs = tqdm(list(dict.fromkeys(series.runs)), desc=f"betas of {subject}", disable=None)
    parts = [estimate_run(config, folder, one_run(series, run), events, confounds, known) for run in runs]
    samples = pd.concat([part.samples for part in parts], ignore_index=True)
    joined = Recording(subject, np.concatenate([part.values for part in parts]), samples, units=series.units)
    records = [
        {**record, "n_kept": int(keep[series.runs == record["run"]].sum()),
         "confounds": list(confounds[record["run"]].columns) if record["run"] in confounds else []}
        for record in found.records
    ]  # fmt: skip
    with unit.building() as place:
        write_betas(place, joined, regions_of(config, subject, series.units))
        write_json(place / "facts.json", {**facts_of(joined), "by": "least squares separate", "runs": records})


def with_confounds(
    settings: Preprocess, found: BidsData, series: Recording
) -> tuple[Recording, dict[str, pd.DataFrame]]:
    """Return the series with volumes censored, and each run's confounds; none where none were asked for."""
    import numpy as np

    from wernicke.data.confounds import load_confounds

    keep = np.ones(series.n_samples, dtype=bool) if series.keep is None else series.keep.copy()
    confounds: dict[str, pd.DataFrame] = {}
    for run in found.runs:
        rows = np.flatnonzero(series.runs == run.name)
        table, uncensored = load_confounds(run.images, settings, len(rows))
        if table is not None and table.shape[1]:
            confounds[run.name] = table
        if uncensored is not None:
            censored = np.setdiff1d(np.arange(len(rows)), np.asarray(uncensored))
            keep[rows[censored]] = False
    return replace(series, keep=None if keep.all() else keep), confounds


def one_run(series: Recording, run: Any) -> Recording:
    """A run by itself."""
    rows = series.runs == run
    samples = series.samples[rows].reset_index(drop=True)
    return replace(series, values=series.values[rows], samples=samples,
                   keep=None if series.keep is None else series.keep[rows])  # fmt: skip


def estimate_run(
    config: Config, folder: RunFolder, series: Recording, events: Events, confounds: dict[str, pd.DataFrame],
    known: dict[str, str],
) -> Recording:  # fmt: skip
    """One run's trials, taken from disk where an earlier call that was stopped had come so far."""
    from wernicke.data.betas import lss_betas
    from wernicke.data.saved_betas import load_betas, write_betas
    from wernicke.store.units import WORK, Unit

    (run,) = set(series.runs)
    unit = Unit(folder.path(f"{WORK}/betas/{series.subject}/{run}"), {**known, "run": str(run)})
    if not unit.is_whole():
        nuisance = {run: confounds[run].to_numpy(dtype=float)} if run in confounds else None
        try:
            made = lss_betas(
                series, events, trials=config.conditions, others=config.others, hrf_model=config.hrf_model,
                drift_model="cosine" if config.preprocess.high_pass == "cosine" else None,
                high_pass_hz=config.preprocess.high_pass_hz, slice_time_ref=config.slice_time_ref,
                noise_model=config.noise_model, percent=config.percent, confounds=nuisance,
            )  # fmt: skip
        except InputError as error:
            if error.field != "trials":
                raise
            raise InputError(error.code, error.problem, field="conditions") from None
        with unit.building() as place:
            write_betas(place, made)
    return load_betas(unit.folder)


def regions_of(config: Config, subject: str, units: Any) -> dict[str, np.ndarray]:
    """The name of each unit's region as a column, where regions were given."""
    regions = config.data.regions(subject, units)
    return {} if regions is None else {"roi": regions}


def facts_of(recording: Recording) -> dict[str, Any]:
    """What was written, as plain values."""
    labels = recording.samples["label"] if "label" in recording.samples.columns else None
    return {
        "subject": recording.subject, "n_trials": recording.n_samples, "n_units": recording.values.shape[1],
        "n_runs": len(set(recording.runs)),
        "trials_by_label": {} if labels is None else {str(k): int(n) for k, n in labels.value_counts().items()},
    }  # fmt: skip
