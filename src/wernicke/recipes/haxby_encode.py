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
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option, check_range, suggest
from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.core.recording import Recording
    from wernicke.core.split import Split
    from wernicke.core.study import Study
    from wernicke.encoding.arrays import EncodingResult
    from wernicke.encoding.compare import Comparison, ModelScore
    from wernicke.store.run import RunFolder

log = logging.getLogger(__name__)

# A finished run is not taken for the result of code that has since changed.
CODE = tuple(
    f"wernicke.{name}"
    for name in (
        "core",
        "data",
        "stats",
        "ridge",
        "pretrained",
        "features",
        "encoding",
        "scoring",
        "recipes.haxby_encode",
    )
)

CANNOT_TELL = (
    "Eight categories cannot separate language from category: any eight distinct vectors span the same contrasts, and "
    "the same sentences given to the wrong categories predict as well.",
    "One subject and one slice: nothing here speaks for other people or for the whole brain.",
    "Every category was shown once a run, so the contrasts of a category rest on one block response a run.",
)


@dataclass(frozen=True)
class HaxbyData:
    """Where the recording is and how it is prepared.

    Parameters
    ----------
    root : path, optional
        The folder that ``nilearn.datasets.fetch_haxby`` made; None for the sample in the package.
    detrend_order : int
        Degree of the polynomial drift removed from each run and voxel before z-scoring.
    """

    root: Path | None = None
    detrend_order: int = 2


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
        check_range(self.data.detrend_order, "data.detrend_order", low=0, high=10)
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
    from wernicke.data.haxby import load_haxby
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    study = load_haxby(config.data.root)
    check_sentences(config, study)
    recording = next(iter(study.recordings.values()))
    inputs = {"responses": fingerprint(recording.values), "samples": fingerprint(recording.samples)}
    with RunFolder.create(run, step="encode", command=command, config=asdict(config), seed=config.seed) as folder:
        if folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            return
        features = sentence_features(config)
        comparison, result = fit_language_model(config, study, features)
        models = compare_models(config, study, comparison, result, features)
        audit = audit_fold(config, comparison, features)
        write_results(folder, config, study, features, comparison, result, models, audit)
        folder.finish()


def check_sentences(config: Config, study: Study) -> None:
    """Refuse sentences that miss a category or name one that was not shown."""
    shown = set(study.stimuli.table["stimulus_id"])
    for name in config.sentences:
        if name not in shown:
            raise InputError("E-CFG", f"`{name}` was not shown", field="sentences", hint=suggest(name, shown))
    missing = sorted(shown - set(config.sentences))
    if missing:
        raise InputError("E-CFG", f"no sentence for category `{missing[0]}`", field="sentences")


def sentence_features(config: Config) -> Features:
    """One vector a category: the hidden state of the language model, averaged over its sentence."""
    from wernicke.features.text import text_features
    from wernicke.pretrained.llm import load_llm

    names = sorted(config.sentences)
    llm = load_llm(config.llm, device=config.device)
    return text_features(
        [config.sentences[name] for name in names], llm, layers=[config.layer], pool=config.pool, stimulus_ids=names
    )


def fit_language_model(config: Config, study: Study, features: Features) -> tuple[Comparison, EncodingResult]:
    """FIR ridge from the sentences' vectors to every voxel, one left-out run at a time, with its tests."""
    import numpy as np

    import wernicke
    from wernicke.core.units import seconds_to_tr
    from wernicke.encoding.compare import Comparison
    from wernicke.features.align import align_to_stimuli
    from wernicke.stats.detrend import detrend_runs

    recording = next(iter(study.recordings.values()))
    runs, labels = recording.runs, recording.samples["label"].to_numpy()
    responses = detrend_runs(recording.values, runs, order=config.data.detrend_order)
    splits = leave_runs_out(recording.samples)
    result = wernicke.encode(
        align_to_stimuli(features, recording.samples), responses, runs=runs, tr_s=recording.tr_s,
        delays_s=config.delays_s, conditions=labels, alphas=config.alphas, n_permutations=config.n_permutations,
        seed=config.seed, splits=splits,
    )  # fmt: skip
    delays_tr = seconds_to_tr(config.delays_s, recording.tr_s, "delays_s")
    comparison = Comparison(
        responses[:, np.isfinite(result.r)], runs, labels, splits, config.alphas, delays_tr=delays_tr, seed=config.seed
    )
    return comparison, result


def leave_runs_out(samples: Any) -> list[Split]:
    """One run out at a time. The eight stimuli stand on both sides of every split, which is said, not hidden."""
    from wernicke.core.split import leave_one_group_out

    return list(leave_one_group_out(samples, "run", keys=("run",), accepted_leaks=("stimulus_id",)))


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
    motion = head_motion(next(iter(study.recordings.values())))

    def of_table(rows: np.ndarray, labels: np.ndarray = labels) -> dict[str, np.ndarray]:
        return comparison.delayed(designs.place(rows, labels, names))

    def shuffled(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return of_table(table, designs.shuffle_within_runs(labels, runs, names, rng))

    window_tr = longest_block(labels, runs) + max(comparison.delays_tr) + 2
    fixed = {
        "on/off": ("one regressor: a picture was shown", comparison.delayed(designs.on_off(labels))),
        "on/off + motion": (
            "on/off and six head-motion estimates",
            {"nuisance": np.hstack([*comparison.delayed(designs.on_off(labels)).values(), motion])},
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


def write_results(
    folder: RunFolder,
    config: Config,
    study: Study,
    features: Features,
    comparison: Comparison,
    result: EncodingResult,
    models: list[ModelScore],
    audit: dict[str, bool],
) -> None:
    """Maps, scores, facts and the credibility card, in plain files."""
    import numpy as np

    from wernicke.scoring.encoding_card import encoding_card

    recording = next(iter(study.recordings.values()))
    write_maps(folder, recording.units, result)
    folder.write_npy("predictions/predictions.npy", result.predictions.astype(np.float32))
    folder.write_json("models.json", [model.as_row() for model in models])
    folder.write_json("scores.json", [score.as_row() for score in score_rows(result, models)])
    facts = describe(config, study, features, comparison, result, models, audit)
    folder.write_json("facts.json", facts)
    folder.write_json("card.json", encoding_card(facts["card"]).to_json())


MAPS = {
    "r": "Pearson r of held-out predictions, by TR",
    "p_fdr": "block permutation p, Benjamini-Hochberg",
    "contrast_r": "r of category contrasts: the gain over on/off, which predicts none",
    "contrast_p_fdr": "p of category contrasts, conditions shuffled within runs, Benjamini-Hochberg",
    "ceiling": "noise ceiling of category contrasts",
}


def write_maps(folder: RunFolder, voxels: Any, result: EncodingResult) -> None:
    """One array a map, shape (n_voxels,), and the same on the recording's grid as NIfTI."""
    import gzip

    import nibabel as nib
    import numpy as np
    import pandas as pd

    table = {}
    for name in (*MAPS, "p", "p_fwe", "contrast_p", "ceiling_se"):
        values = getattr(result, name)
        folder.write_npy(f"maps/{name}.npy", values)
        image = nib.Nifti1Image(voxels.to_volume(values).astype(np.float32), voxels.affine)
        # Without the time of day in the gzip header the same numbers are the same bytes.
        folder.write_bytes(f"maps/{name}.nii.gz", gzip.compress(image.to_bytes(), mtime=0))
        table[name] = values
    folder.write_npy("maps/mask.npy", voxels.mask)
    x, y, z = np.nonzero(voxels.mask)
    folder.write_text("maps/voxels.csv", pd.DataFrame({"x": x, "y": y, "z": z, **table}).to_csv(index=False))


def score_rows(result: EncodingResult, models: list[ModelScore]) -> list[Any]:
    """The rows of scores.json: two metrics a model, each with its interval, null and ceiling."""
    import numpy as np

    from wernicke.core.results import Scores

    by_name = {model.name: model for model in models}
    wrong, shuffled, best = (by_name.get(n) for n in ("wrong category", "shuffled in runs", "saturated FIR"))
    rows = []
    for model in models:
        over = "runs" if model.n_fits == 1 else "fits"
        rows.append(
            Scores(
                model.name,
                "r by TR",
                model.r,
                len(result.r),
                model.r_voxels,
                model.r_ci,
                over,
                None if wrong is None else wrong.r_draws,
                "the same sentences on the wrong categories",
                best.r,
                "saturated FIR model",
            )  # fmt: skip
        )
        rows.append(
            Scores(
                model.name,
                "contrast r",
                model.contrast,
                len(result.r),
                model.contrast_voxels,
                model.contrast_ci,
                over,
                None if shuffled is None else shuffled.contrast_draws,
                "sentences shuffled within runs",
                float(np.nanmean(result.ceiling)),
                "split-half over runs, voxels with a ceiling",
            )  # fmt: skip
        )
    return rows


def describe(
    config: Config,
    study: Study,
    features: Features,
    comparison: Comparison,
    result: EncodingResult,
    models: list[ModelScore],
    audit: dict[str, bool],
) -> dict[str, Any]:
    """Everything the report says about this run, as plain facts."""
    import numpy as np

    from wernicke.encoding.compare import paired_gain

    recording = next(iter(study.recordings.values()))
    by_name = {model.name: model for model in models}
    language, on_off, nuisance = by_name["language"], by_name["on/off"], by_name["on/off + motion"]
    gain = paired_gain(language, on_off)
    n_tests, n_hits = int(np.isfinite(result.p).sum()), int(np.nansum(result.p_fdr <= 0.05))
    n_contrast = int(np.nansum(result.contrast_p_fdr <= 0.05))
    overlaps = {key: max(split.overlaps()[key] for split in result.splits) for key in result.splits[0].overlaps()}
    card: dict[str, Any] = {
        "subject": f"{config.llm} layer {config.layer} -> {study.source.name}, subject {recording.subject}",
        "claim": "sentence features predict category contrasts of held-out runs",
        "headline": f"gain in contrast r over on/off {gain[0]:+.3f} (95 % over runs {gain[1]:+.3f} to {gain[2]:+.3f})",
        "gain": {"estimate": gain[0], "low": gain[1], "high": gain[2], "over": "an on/off regressor"},
        "smallest_effect": config.smallest_effect,
        "cross_validation": {"scheme": "leave one run out", "n_folds": len(result.splits), "shuffled": False},
        "borders": {"gap_tr": 0, "delays_tr": list(comparison.delays_tr), "n_crossing": 0, "whole_runs": True},
        "poison_audit": {"n_steps": len(audit), "changed": [name for name, changed in audit.items() if changed]},
        "overlaps": overlaps,
        "accepted_leaks": list(result.splits[0].accepted_leaks),
        "voxel_selection": {"on": "none", "detail": f"all {recording.values.shape[1]} voxels of the mask are scored"},
        "null": {"type": "block permutation", "n_permutations": result.n_permutations,
                 "block_length_tr": result.block_length_tr, "n_blocks": result.n_blocks},
        "correction": {"method": "BH", "q": 0.05, "n_tests": n_tests, "n_significant": n_hits},
        "ceiling": {"median": float(np.nanmedian(result.ceiling)), "method": "split-half over runs, Spearman-Brown",
                    "n_without": int(np.isnan(result.ceiling).sum())},
        "nuisance": dict(zip(("gain", "low", "high"), paired_gain(language, nuisance), strict=True),
                         names=["on/off", "head motion"], metric="contrast r"),
        "selection": {"what": ["alpha, per voxel, inside the training runs; layer fixed beforehand"], "on": "training"},
        "n_subjects": 1,
        "n_seeds": 1,
        "stimuli_public_since": 2001,
        "cannot_tell": list(CANNOT_TELL),
    }  # fmt: skip
    if "wrong category" in by_name:
        wrong = by_name["wrong category"]
        card["reassigned"] = {"score": language.contrast, "null": wrong.contrast_draws.tolist(),
                              "what": "contrast r, each sentence given to another category"}  # fmt: skip
    return {
        "recipe": "haxby_encode",
        "data": describe_data(config, study),
        "features": {**features.provenance, "sentences": config.sentences},
        "split": {"scheme": "leave one run out", "n_folds": len(result.splits), "overlaps": overlaps,
                  "accepted_leaks": list(result.splits[0].accepted_leaks), "poison_audit": audit,
                  "fingerprints": [split.fingerprint for split in result.splits]},
        "delays_tr": list(comparison.delays_tr),
        "test": {"n_permutations": result.n_permutations, "block_length_tr": result.block_length_tr,
                 "n_blocks": result.n_blocks, "n_tests": n_tests, "n_significant": n_hits,
                 "n_contrast_significant": n_contrast, "n_constant": result.n_constant},
        "ceiling": {"mean": float(np.nanmean(result.ceiling)), "n_without": int(np.isnan(result.ceiling).sum())},
        "gain": {"estimate": gain[0], "low": gain[1], "high": gain[2]},
        "controls": config.controls,
        "maps": MAPS,
        "cannot_tell": list(CANNOT_TELL),
        "card": card,
    }  # fmt: skip


def describe_data(config: Config, study: Study) -> dict[str, Any]:
    """What was recorded, from whom, and on what terms."""
    recording = next(iter(study.recordings.values()))
    return {
        "source": asdict(study.source),
        "subject": recording.subject,
        "n_runs": int(recording.samples["run"].nunique()),
        "n_volumes": recording.n_samples,
        "n_voxels": int(recording.values.shape[1]),
        "grid": list(recording.units.mask.shape),
        "affine": recording.units.affine.tolist(),
        "tr_s": recording.tr_s,
        "conditions": sorted(config.sentences),
        "detrend_order": config.data.detrend_order,
        "simulated": False,
    }


def summary(run: Path) -> str:
    """The short table that the demo ends with, from the run's own files."""
    from wernicke.store.run import RunFolder

    folder = RunFolder.open(run)
    facts, models = folder.read_json("facts.json"), folder.read_json("models.json")
    lines = [f"{'model':<18}{'r by TR':>9}{'contrast r':>12}   95 % of contrast r    fits"]
    for model in models:
        low, high = model["contrast_ci"]
        lines.append(
            f"{model['name']:<18}{model['r']:>9.3f}{model['contrast']:>12.3f}   {low:>7.3f} to {high:<7.3f}"
            f"{model['n_fits']:>9}"
        )
    lines.append(f"{'noise ceiling':<18}{'':>9}{facts['ceiling']['mean']:>12.3f}")
    gain = facts["gain"]
    lines.append(
        f"\nGain of the sentences over on/off on category contrasts: {gain['estimate']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}, 95 % over runs)."
    )
    lines.append(facts["cannot_tell"][0])
    return "\n".join(lines)
