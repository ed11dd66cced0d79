"""Encode: what a language model makes of the events' text -> fMRI from BIDS derivatives, read top to bottom.

Volumes, GIFTI or CIFTI of fMRIPrep, with their events and confounds, to maps: each run is cleaned by itself, one run
at a time is left out, and what the language band explains is asked beyond nuisance bands (word rate, position in the
run, head motion, the untrained twin of the language model), which are tuned by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError, RunInUseError
from wernicke.data.confounds import Preprocess
from wernicke.recipes.bids_bands import NUISANCE, BidsSource, Text, events_of, make_bands

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from wernicke.core.split import Split
    from wernicke.recipes.bids_bands import Bands
    from wernicke.store.run import RunFolder

log = logging.getLogger(__name__)

# A finished unit is not taken for the result of code that has since changed.
LAYERS = ("core", "data", "stats", "ridge", "pretrained", "features", "encoding", "scoring")
PARTS = ("bids_bands", "bids_encode", "bids_encode_results", "bids_haxby")
CODE = (*(f"wernicke.{layer}" for layer in LAYERS), *(f"wernicke.recipes.{part}" for part in PARTS))


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
    layer : int
        Hidden state; 0 is the embedding output.
    word_vectors : path, optional
        word2vec, GloVe or fastText vectors in place of the language model.
    nuisance : list of str
        Of word_rate, on_off, position, head_motion and untrained_twin.
    delays_s : list of float, optional
        FIR delays, whole TR; default: the TR nearest to 2, 4, 6 and 8 s.
    alphas : list of float
        Grid of penalties, for bands of a total variance of 1.
    n_iter : int
        Random draws of the bands' balance.
    n_permutations : int
        Of the block permutation test.
    tail : {"pareto", "counted"}
        Small p values from a generalised Pareto tail, which whole-brain correction needs, or counted.
    smallest_effect : float
        Smallest gain in r of interest, stated beforehand.
    save_pred : bool
        Keep the full model's held-out predictions.
    tile : int
        Voxels at a time: bounds memory.
    seed : int
    device : str
        auto, cpu, cuda or cuda:N, for the language model.
    """

    data: BidsSource = field(default_factory=BidsSource)
    subjects: list[str] | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    text: Text = field(default_factory=Text)
    llm: str = "smollm2"
    layer: int = 15
    word_vectors: Path | None = None
    nuisance: list[str] = field(default_factory=lambda: ["word_rate", "position", "head_motion", "untrained_twin"])
    delays_s: list[float] | None = None
    alphas: list[float] = field(default_factory=lambda: [10.0 ** (k / 2) for k in range(-6, 13)])
    n_iter: int = 20
    n_permutations: int = 999
    tail: Literal["pareto", "counted"] = "pareto"
    smallest_effect: float = 0.01
    save_pred: bool = False
    tile: int = 4096
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        least = 500 if self.tail == "pareto" else 19
        for key, low in (("n_iter", 1), ("n_permutations", least), ("tile", 1), ("layer", 0)):
            check_range(getattr(self, key), key, low=low)
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

    @property
    def model(self) -> str:
        """Name of the model's folder in the run: letters, digits and hyphens."""
        source = Path(self.word_vectors).stem if self.word_vectors else f"{Path(self.llm).name}-layer{self.layer}"
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
    settings = {key: value for key, value in asdict(config).items() if key != "device"}
    folder = RunFolder.create(run, step="encode", command=command, config=settings, seed=config.seed)
    folder.begin()
    if part != "merge":
        share = Share.parse(part or "1/1")
        with share.locked(folder.folder):
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

    found = config.data.load([subject], config.preprocess, config.text.column)
    recording = found.study.recordings[subject]
    events = events_of(found.study.events, subject, config.text)
    model = sha256_file(config.word_vectors) if config.word_vectors else locate_llm(config.llm).fingerprint
    unit = results.unit_of(folder, subject, config.model, {
        "responses": fingerprint(recording.values), "samples": fingerprint(recording.samples),
        "events": fingerprint(events.table), "model": model, "code": code_fingerprint(*CODE),
    })  # fmt: skip
    if unit.is_whole():
        log.info("already done: %s", unit.folder)
        return
    bands = make_bands(config, recording, events)
    rows = np.ones(recording.n_samples, bool) if recording.keep is None else recording.keep
    samples = recording.samples[rows].reset_index(drop=True).assign(stimulus_id=bands.stimuli)
    fitted = fit(config, bands, recording.values[rows], samples)
    with unit.building() as place:
        results.write_subject(place, config, found, bands, fitted)


@dataclass(frozen=True)
class Fitted:
    """What one subject's fits came to.

    Parameters
    ----------
    columns : dict of str to array, shape (n_voxels,)
        NaN where a voxel is constant within every run.
    facts : dict
        The test, the split, the audit, r by run of each model.
    predictions : array, shape (n_kept, n_voxels), or None
    """

    columns: dict[str, np.ndarray]
    facts: dict[str, Any]
    predictions: np.ndarray | None


def fit(config: Config, bands: Bands, responses: np.ndarray, samples: pd.DataFrame) -> Fitted:
    """Leave one run out at a time: all bands, the nuisance bands alone, language alone; score and test each voxel."""
    import numpy as np
    from tqdm import tqdm

    from wernicke.encoding.crossval import poison_audit
    from wernicke.stats.fdr import fdr

    runs = samples["run"].to_numpy()
    splits = leave_runs_out(samples)
    varies = np.zeros(responses.shape[1], dtype=bool)
    for run in dict.fromkeys(runs):
        varies |= np.ptp(responses[runs == run], axis=0) > 0
    if not varies.any():
        raise InputError("E-CONST", f"all {len(varies)} voxels are constant within every run", field="responses")
    voxels = np.flatnonzero(varies)
    columns: dict[str, np.ndarray] = {}
    r_by_run: dict[str, Any] = {}
    kept = np.full(responses.shape, np.nan, dtype=np.float32) if config.save_pred else None
    blocks: dict[str, int] = {}
    # Every n-th voxel together, so that the first tile stands for the whole brain when the block length is estimated.
    n_tiles = -(-len(voxels) // config.tile)
    for first in tqdm(range(n_tiles), desc="encode", disable=None if n_tiles > 1 else True):
        at = voxels[first::n_tiles]
        scored, by_run, predictions = fit_tile(config, bands, responses[:, at], runs, splits, blocks)
        for name, values in scored.items():
            columns.setdefault(name, np.full(len(varies), np.nan))[at] = values
        for name, total in by_run.items():
            r_by_run[name] = r_by_run.get(name, 0.0) + total / len(voxels)
        if kept is not None:
            kept[:, at] = predictions
    for name in [column for column in columns if column == "p" or column.endswith("_p")]:
        columns[f"{name}_fdr"] = fdr(columns[name]).p_adjusted
    # As float64, which the audit's nonsense is: otherwise bytes would differ by their type alone.
    exact = [band.astype(np.float64) for band in bands.values.values()]
    audit = poison_audit(exact, responses[:, voxels[:100]].astype(np.float64), runs, config.alphas, seed=config.seed)
    overlaps = {key: max(split.overlaps()[key] for split in splits) for key in splits[0].overlaps()}
    facts = {
        "n_constant": int((~varies).sum()),
        "r_by_run": {name: values.tolist() for name, values in r_by_run.items()},
        "null": {"type": "block permutation", "n_permutations": config.n_permutations, "tail": config.tail, **blocks},
        "split": {"scheme": "leave one run out", "n_folds": len(splits), "overlaps": overlaps,
                  "accepted_leaks": list(splits[0].accepted_leaks), "poison_audit": audit,
                  "fingerprints": [split.fingerprint for split in splits]},
    }  # fmt: skip
    return Fitted(columns, facts, kept)


def leave_runs_out(samples: pd.DataFrame) -> list[Split]:
    """One run out at a time. A text that several runs showed stands on both sides, which is said, not hidden."""
    from wernicke.core.split import leave_one_group_out

    if samples["run"].nunique() < 3:
        raise InputError("E-SPLIT", f"found {samples['run'].nunique()} runs, expected at least 3: one to score, two to "
                         "choose penalties between", field="runs")  # fmt: skip
    leaks = ("stimulus_id",) if samples["stimulus_id"].notna().any() else ()
    return list(leave_one_group_out(samples, "run", keys=("run",), accepted_leaks=leaks))


def fit_tile(
    config: Config,
    bands: Bands,
    responses: np.ndarray,
    runs: np.ndarray,
    splits: Sequence[Split],
    blocks: dict[str, int],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Some voxels: scores by voxel, r by run (sums over voxels), and held-out predictions of the full model.

    `blocks` holds the block length, which the first tile finds.
    """
    import numpy as np

    from wernicke.encoding.contrasts import correlation_by_run
    from wernicke.encoding.crossval import predict_left_out_runs
    from wernicke.ridge import r2_score
    from wernicke.stats.autocorrelation import block_length
    from wernicke.stats.detrend import detrend_runs
    from wernicke.stats.permutation import permutation_test

    full, share, alphas = predict_full(config, bands, responses, runs, splits)
    predicted = {"full": full}
    nuisance = {name: band for name, band in bands.values.items() if name != "language"}
    if nuisance:
        for name, of in (("nuisance", nuisance), ("language", {"language": bands.values["language"]})):
            predicted[name] = predict_left_out_runs(
                of, responses, runs, config.alphas, seed=config.seed, n_iter=config.n_iter, splits=splits
            ).predictions
    truth = detrend_runs(responses, runs, order=0).astype(np.float64)
    scaled = detrend_runs(full, runs, order=0)
    if not blocks:
        blocks["block_length_tr"] = block_length(scaled, truth, runs)

    def test(prediction: np.ndarray, response: np.ndarray) -> np.ndarray:
        tested = permutation_test(
            prediction, response, runs, block_length=blocks["block_length_tr"], n_permutations=config.n_permutations,
            tail=config.tail, seed=config.seed,
        )  # fmt: skip
        blocks["n_blocks"] = tested.n_blocks
        # A model that predicts the same for every row predicts nothing.
        return np.where(np.isnan(tested.p), 1.0, tested.p)

    columns: dict[str, np.ndarray] = {}
    by_run: dict[str, np.ndarray] = {}
    for name, prediction in predicted.items():
        r = np.nan_to_num(correlation_by_run(prediction, responses, runs))
        ending = "" if name == "full" else f"_{name}"
        columns[f"r{ending}"] = r.mean(axis=0)
        columns[f"r2{ending}"] = np.asarray(r2_score(responses, prediction))
        by_run[name] = r.sum(axis=1)
    columns["alpha"] = np.exp(np.log(alphas).mean(axis=0))
    columns["p"] = test(scaled, truth)
    if nuisance:
        columns["unique_language"] = columns["r2"] - columns["r2_nuisance"]
        columns["unique_nuisance"] = columns["r2"] - columns["r2_language"]
        own, rest = beyond(nuisance, share, truth, runs)
        columns["unique_language_p"] = np.where(own.any(axis=0), test(own, rest), 1.0)
    return columns, by_run, full


def predict_full(
    config: Config, bands: Bands, responses: np.ndarray, runs: np.ndarray, splits: Sequence[Split]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out predictions of all bands, the language band's share of them, and the penalties, by fold."""
    from contextlib import nullcontext

    import numpy as np

    from wernicke.encoding.crossval import SMALL_WORK, fit_fold, one_thread

    parts = list(bands.values.values())
    width = parts[0].shape[1]
    full, share = np.empty((2, *responses.shape))
    alphas = np.empty((len(splits), responses.shape[1]))
    work = responses.size * sum(part.shape[1] for part in parts)
    with one_thread() if work < SMALL_WORK else nullcontext():
        for fold, split in enumerate(splits):
            fitted = fit_fold(
                parts, responses, runs, split.train_rows, config.alphas, seed=config.seed, n_iter=config.n_iter
            )
            rows = split.test_rows
            full[rows] = fitted.predict([part[rows] for part in parts])
            share[rows] = (parts[0][rows] / fitted.scales[0]) @ np.asarray(fitted.model.coef_)[:width]
            alphas[fold] = fitted.model.best_alphas_
    return full, share, alphas


def beyond(
    nuisance: dict[str, np.ndarray], share: np.ndarray, truth: np.ndarray, runs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take what the nuisance features predict linearly off the language band's share and off the response.

    Their correlation is the partial one that `wernicke.encoding.partition` tests: what a fit gains over a reduced one
    also depends on how well either was tuned. Zeros where the share lies within the nuisance features: under 0.01 % of
    its variance is its own.
    """
    import numpy as np

    from wernicke.encoding.partition_fit import leading_directions
    from wernicke.stats.segments import centre_by_run, run_segments

    segments = run_segments(runs, len(runs))
    others, share, truth = (
        centre_by_run(values.astype(np.float64), segments) for values in (np.hstack([*nuisance.values()]), share, truth)
    )
    basis = leading_directions(others, len(runs) // 10)
    own, rest = (values - basis @ (basis.T @ values) for values in (share, truth))
    return np.where((own**2).sum(axis=0) > 1e-4 * (share**2).sum(axis=0), own, 0.0), rest


def merge(config: Config, folder: RunFolder, subjects: Sequence[str], asked: bool) -> None:
    """Tables over all subjects, facts, the card; then the manifest."""
    from wernicke.recipes import bids_encode_results as results
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.units import read_identity

    units = {subject: results.unit_of(folder, subject, config.model).folder for subject in subjects}
    inputs = {subject: fingerprint(read_identity(unit)) for subject, unit in units.items()}
    try:
        with folder:
            if not folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
                results.write_run(folder, config, subjects)
                folder.finish()
    except RunInUseError:
        if asked:
            raise
        log.info("another process merges %s", folder.folder)
