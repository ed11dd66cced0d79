"""Encode: sentences about eight kinds of pictures -> the fMRI of a person who saw them, read top to bottom.

Eight sentences span eight dimensions, and a block design makes most of r by TR say only "a picture was shown". So the
headline is the gain over an on/off regressor on category contrasts, and beside the language model stand a one-hot
code, the same sentences given to the wrong categories, random vectors, and sentences shuffled within runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.recipes.haxby import HaxbyData, check_sentences, leave_runs_out

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.core.recording import Recording
    from wernicke.core.study import Study
    from wernicke.encoding.arrays import EncodingResult
    from wernicke.encoding.compare import Comparison, ModelScore

log = logging.getLogger(__name__)

# A finished run is not taken for the result of code that has since changed.
LAYERS = ("core", "data", "stats", "ridge", "pretrained", "features", "encoding", "scoring")
CODE = tuple(
    f"wernicke.{name}" for name in (*LAYERS, "recipes.haxby", "recipes.haxby_encode", "recipes.haxby_encode_results")
)


@dataclass(frozen=True)
class Config:
    """The encoding half of the demo.

    Parameters
    ----------
    sentences : dict of category to sentence
    data : HaxbyData
    llm : str
        ``smollm2``, a hub id or a local folder.
    layer : int
        Hidden state; 0 is the embedding output.
    pool : {"mean", "last"}
        How a sentence's tokens become one vector.
    delays_s : list of float
        FIR delays, seconds.
    alphas : list of float
        Grid of ridge penalties.
    n_permutations : int
        Of the block permutation test and of the contrasts.
    n_repeats : int
        Fits of each control that is drawn at random, at least 20.
    controls : {"fast", "full", "none"}
        ``full`` repeats five times as often.
    smallest_effect : float
        Smallest gain in contrast r of interest.
    seed : int
    device : str
        auto, cpu, cuda or cuda:N, for the language model.
    """

    sentences: dict[str, str]
    data: HaxbyData = field(default_factory=HaxbyData)
    llm: str = "smollm2"
    layer: int = 15
    pool: Literal["mean", "last"] = "mean"
    delays_s: list[float] = field(default_factory=lambda: [2.5, 5.0, 7.5, 10.0])
    alphas: list[float] = field(default_factory=lambda: [10.0**k for k in range(-3, 7)])
    n_permutations: int = 999
    n_repeats: int = 20
    controls: Literal["fast", "full", "none"] = "fast"
    smallest_effect: float = 0.01
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_range(self.n_permutations, "n_permutations", low=19)
        check_range(self.n_repeats, "n_repeats", low=20)
        check_range(self.layer, "layer", low=0)
        check_option(self.controls, ("fast", "full", "none"), "controls")
        if not self.delays_s or not self.alphas:
            raise InputError("E-CFG", "found an empty list", field="delays_s" if not self.delays_s else "alphas")
        for alpha in self.alphas:
            check_range(alpha, "alphas", low=0, low_open=True)


def encode(config: Config, run: Path, command: Sequence[str] = ()) -> None:
    """Fit, test and score the encoding model and its controls into the run folder `run`.

    Raises
    ------
    InputError
        For a root that is not a Haxby folder, sentences that do not name the categories, an LLM without weights.
    RunInUseError
        When another process writes this run folder.
    """
    from wernicke.pretrained.locate import locate_llm
    from wernicke.recipes import haxby_encode_results as results
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    study = config.data.load()
    check_sentences(config.sentences, study)
    recording = next(iter(study.recordings.values()))
    inputs = {
        "responses": fingerprint(recording.values),
        "samples": fingerprint(recording.samples),
        "llm": locate_llm(config.llm).fingerprint,
    }
    with RunFolder.create(run, step="encode", command=command, config=asdict(config), seed=config.seed) as folder:
        if folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            return
        features = sentence_features(config)
        comparison, result = fit_language_model(config, study, features)
        models = compare_models(config, study, comparison, result, features)
        audit = audit_fold(config, comparison, features)
        results.write(folder, config, study, features, comparison, result, models, audit)
        folder.finish()


def sentence_features(config: Config) -> Features:
    """One vector a category: the hidden state of the language model, averaged over its sentence."""
    from wernicke.features.text import text_features

    sentences = dict(sorted(config.sentences.items()))
    return text_features(sentences, config.llm, layers=config.layer, pool=config.pool, device=config.device)


def fit_language_model(config: Config, study: Study, features: Features) -> tuple[Comparison, EncodingResult]:
    """FIR ridge from the sentences' vectors to every voxel, one left-out run at a time, with its tests."""
    import numpy as np

    import wernicke
    from wernicke.core.units import seconds_to_tr
    from wernicke.encoding.compare import Comparison
    from wernicke.features.align import align_to_stimuli
    from wernicke.stats.detrend import detrend_runs

    recording = next(iter(study.recordings.values()))
    tr_s = recording.tr_s or 0.0  # none is refused below, as 0 is
    runs, labels = recording.runs, recording.samples["label"].to_numpy()
    responses = detrend_runs(recording.values, runs, order=config.data.detrend_order)
    splits = leave_runs_out(recording.samples)
    result = wernicke.encode(
        align_to_stimuli(features, recording.samples), responses, runs=runs, tr_s=tr_s,
        delays_s=config.delays_s, conditions=labels, alphas=config.alphas, n_permutations=config.n_permutations,
        seed=config.seed, splits=splits,
    )  # fmt: skip
    delays_tr = seconds_to_tr(config.delays_s, tr_s, "delays_s")
    comparison = Comparison(
        responses[:, np.isfinite(result.r)], runs, labels, splits, config.alphas, delays_tr=delays_tr, seed=config.seed
    )
    return comparison, result


def compare_models(
    config: Config, study: Study, comparison: Comparison, result: EncodingResult, features: Features
) -> list[ModelScore]:
    """The language model beside what it must be compared with; controls drawn at random are fitted again each time."""
    import numpy as np
    from tqdm import tqdm

    from wernicke.core.seeds import derive_rng
    from wernicke.encoding import designs

    (table,) = features.bands.values()
    names = list(features.index["stimulus_id"])
    labels, runs = comparison.labels, comparison.runs
    on_off = comparison.delayed(designs.on_off(labels))
    nuisance = np.hstack([*on_off.values(), head_motion(next(iter(study.recordings.values())))])

    def of_table(rows: np.ndarray, labels: np.ndarray = labels) -> dict[str, np.ndarray]:
        return comparison.delayed(designs.place(rows, labels, names))

    def shuffled(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return of_table(table, designs.shuffle_within_runs(labels, runs, names, rng))

    window_tr = longest_block(labels, runs) + max(comparison.delays_tr) + 2
    fixed = {
        "on/off": ("one regressor: a picture was shown", on_off),
        "nuisance": ("on/off and six head-motion estimates", {"nuisance": nuisance}),
        "language + nuisance": (
            "the sentences beside on/off and motion (banded)",
            {**of_table(table), "nuisance": nuisance},
        ),
        "one-hot": ("one regressor a category", comparison.delayed(designs.one_hot(labels, names))),
        "saturated FIR": (
            f"one regressor a category and TR after onset ({window_tr} TR)",
            {"saturated": designs.saturated(labels, runs, names, window_tr=window_tr)},
        ),
    }
    drawn = {
        "wrong category": (
            "the same sentences, each given to another category",
            lambda rng: of_table(designs.wrong_conditions(table, rng)),
        ),
        "random vectors": (
            "random vectors with the sentences' common mean",
            lambda rng: of_table(designs.random_vectors(table, rng)),
        ),
        "shuffled in runs": ("the sentences shuffled anew within each run", shuffled),
    }
    held_out = result.predictions[:, np.isfinite(result.r)]
    scores = [comparison.score("language", f"{config.llm}, layer {config.layer}", held_out)]
    n_fits = {"none": 0, "fast": config.n_repeats, "full": 5 * config.n_repeats}[config.controls]
    with tqdm(total=len(fixed) + n_fits * len(drawn), desc="controls", disable=None) as progress:
        for name, (what, bands) in fixed.items():
            scores.append(comparison.score(name, what, comparison.predict(bands)))
            progress.update()
        for name, (what, draw) in drawn.items():
            fits = []
            for k in range(n_fits):
                predictions = comparison.predict(draw(derive_rng(config.seed, name, k)))
                fits.append(comparison.score(name, what, predictions))
                progress.update()
            if fits:
                scores.append(comparison.pool(fits))
    return scores


def head_motion(recording: Recording) -> np.ndarray:
    """Motion estimates, z-scored within runs, shape (n_samples, 6); zero columns where none came with the data."""
    import numpy as np

    from wernicke.data.haxby import MOTION_COLUMNS
    from wernicke.stats.detrend import detrend_runs

    if MOTION_COLUMNS[0] not in recording.samples.columns:
        log.warning("no motion estimates with this recording: the nuisance model is on/off alone")
        return np.zeros((recording.n_samples, 0))
    return detrend_runs(recording.samples[list(MOTION_COLUMNS)].to_numpy(), recording.runs, order=0)


def longest_block(labels: np.ndarray, runs: np.ndarray, baseline: str = "rest") -> int:
    """Length in TR of the longest block of one condition."""
    longest = length = 0
    for i, label in enumerate(labels):
        same = i > 0 and label == labels[i - 1] and runs[i] == runs[i - 1]
        length = 0 if label == baseline else (length + 1 if same else 1)
        longest = max(longest, length)
    return longest


def audit_fold(config: Config, comparison: Comparison, features: Features) -> dict[str, bool]:
    """Does anything a fold fitted change when its left-out run is replaced by nonsense?"""
    from wernicke.encoding import designs
    from wernicke.encoding.crossval import poison_audit

    (table,) = features.bands.values()
    bands = comparison.delayed(designs.place(table, comparison.labels, list(features.index["stimulus_id"])))
    return poison_audit(list(bands.values()), comparison.responses, comparison.runs, config.alphas, seed=config.seed)
