"""What the decoding half of the demo is compared with, and what it writes: controls, scores, facts, the card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_option
from wernicke.core.recording import Recording
from wernicke.core.results import Captions, Scores
from wernicke.core.seeds import derive_rng
from wernicke.core.study import Study
from wernicke.data.captions import read_captions, write_captions
from wernicke.decoding.linear import cross_predict_labels, linear_svm, ridge_classifier
from wernicke.recipes.haxby import leave_runs_out
from wernicke.recipes.haxby_decode import (
    ACCEPTED_LEAKS,
    CANNOT_TELL,
    CODE,
    Config,
    blocks_of,
    config_of,
    decode_left_out_runs,
    load_decoder,
    map_fold,
)
from wernicke.scoring.category import named_categories
from wernicke.scoring.controls import matched_noise, shuffle_pairing
from wernicke.scoring.evaluate import Evaluation, evaluate
from wernicke.stats.bootstrap import bootstrap_interval
from wernicke.stats.equivalence import equivalence_to_chance
from wernicke.store.files import write_json
from wernicke.store.fingerprint import code_fingerprint, fingerprint
from wernicke.store.run import RunFolder

N_DRAWS = {"none": 0, "fast": 5, "full": 20}


def evaluate_run(
    run: Path,
    *,
    controls: Literal["fast", "full", "none"] = "fast",
    out: Path | None = None,
    command: Sequence[str] = (),
) -> Evaluation:
    """Score the run's captions beside controls that go through the same fit and generation, and write the card.

    Parameters
    ----------
    run : path
        Of `train` and `decode`.
    controls : {"fast", "full", "none"}
        Shuffled pairings and noise inputs: 5 or 20 draws of each, or none, which the card then says. Where an earlier
        call ran more of them, its result stands.
    out : path, optional
        The JSON of the evaluation (``docs/evaluate-json.md``).
    """
    check_option(controls, N_DRAWS, "controls")
    config = config_of(run)
    study = config.data.load()
    blocks = blocks_of(study, config)
    with RunFolder.open(run, step="evaluate", command=command) as folder:
        folder.check_finished("decode")
        captions = read_captions(folder.path("captions.json"))
        inputs = {"captions": fingerprint(captions.table)}
        done = folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE, "wernicke.scoring", __name__))
        if done:
            facts = folder.read_json("facts.json")
            controls = max(controls, facts["controls"], key=list(N_DRAWS).index)  # what was run is not thrown away
            done, audit = facts["controls"] == controls, facts["split"]["poison_audit"]
        if not done:
            audit = audit_fold(folder, config, study, blocks)
        generated = {} if controls == "none" else run_controls(folder, config, study, blocks, N_DRAWS[controls])
        found = evaluate(
            captions, controls=controls, seed=config.seed, groups="run", synonyms=config.synonyms,
            smallest_effect=config.smallest_effect, generated=generated, facts=facts_of(blocks, audit),
        )  # fmt: skip
        if not done:
            write(folder, config, study, blocks, captions, generated, found, audit, controls)
            folder.finish()
    if out is not None:
        write_json(out, found.to_json())
    return found


def run_controls(
    folder: RunFolder, config: Config, study: Study, blocks: Recording, n_draws: int
) -> dict[str, list[Captions]]:
    """Captions of every control, by name; what an earlier, interrupted call wrote is taken up."""
    decoder = None
    generated: dict[str, list[Captions]] = {}
    for name, draw, make in control_draws(config, study, blocks, n_draws):
        path = f"controls/{name}-{draw:02d}.json"
        if not folder.is_kept(path):
            decoder = decoder or load_decoder(folder, config)
            with folder.atomic_path(path) as file:
                write_captions(make(decoder, folder), file)
            folder.keep(path)
        generated.setdefault(name, []).append(read_captions(folder.path(path)))
    return generated


Make = Callable[[Any, RunFolder], Captions]
Control = Callable[[Study, None, int], Study]


def control_draws(config: Config, study: Study, blocks: Recording, n_draws: int) -> Iterator[tuple[str, int, Make]]:
    """Name, number and maker of each control."""

    def through_decoder(control: Control, draw: int) -> Make:
        def make(decoder: Any, folder: RunFolder) -> Captions:
            altered = blocks_of(control(study, None, config.seed + draw), config)
            return decode_left_out_runs(decoder, altered, blocks, config, folder)

        return make

    def without_brain(decoder: Any, folder: RunFolder) -> Captions:
        text = decoder.bridge.generate_without_brain(max_new_tokens=config.max_new_tokens)
        return same_text(text, blocks, config)

    def constant(decoder: Any, folder: RunFolder) -> Captions:
        return same_text(config.sentences[sorted(config.sentences)[0]], blocks, config)

    yield "no_brain", 0, without_brain
    yield "constant", 0, constant
    for draw in range(n_draws):
        yield "shuffled", draw, through_decoder(shuffle_pairing, draw)
        yield "noise", draw, through_decoder(matched_noise, draw)


def same_text(text: str, blocks: Recording, config: Config) -> Captions:
    """One sentence for every block."""
    samples = blocks.samples
    table = pd.DataFrame({"id": samples["sample_id"], "text": text, "label": samples["label"], "run": samples["run"]})
    return Captions(table, tuple((config.sentences[name],) for name in samples["stimulus_id"]), decoding="free")


def audit_fold(folder: RunFolder, config: Config, study: Study, blocks: Recording) -> dict[str, bool]:
    """Does anything that a fold fits change when the volumes of its left-out run are replaced by nonsense?"""
    split = leave_runs_out(blocks.samples)[0]
    left_out = blocks.samples["run"].iloc[split.test_rows].unique()
    recording = next(iter(study.recordings.values()))
    values = np.array(recording.values, dtype=np.float64)
    poisoned = values.copy()
    rows = np.isin(recording.runs, left_out)
    poisoned[rows] = 1e6 * derive_rng(config.seed, "poison audit").standard_normal(values[rows].shape)
    embeddings = folder.read_npy("sentence_embeddings.npy")
    clean, dirty = (
        map_fold(embeddings, blocks_of(with_values(study, recording, part), config), split, config).learnt()
        for part in (values, poisoned)
    )
    return {name: clean[name].tobytes() != dirty[name].tobytes() for name in clean}


def with_values(study: Study, recording: Recording, values: np.ndarray) -> Study:
    """The study with other responses of one recording."""
    return replace(study, recordings={recording.subject: replace(recording, values=values)})


def counted_overlaps(blocks: Recording) -> dict[str, int]:
    """Groups on both sides of a split, the largest over folds."""
    found = [split.overlaps() for split in leave_runs_out(blocks.samples)]
    return {key: max(overlaps[key] for overlaps in found) for key in found[0]}


def facts_of(blocks: Recording, audit: dict[str, bool]) -> dict[str, Any]:
    """What the card should know and a file of captions does not say."""
    return {
        "overlaps": counted_overlaps(blocks),
        "accepted_leaks": list(ACCEPTED_LEAKS),
        "poison_audit": {"n_steps": len(audit), "changed": [name for name, changed in audit.items() if changed]},
        "selection": {"what": ["alpha (by leave-one-run-out)"], "on": "training"},
        "n_seeds": 1,
        "stimuli_public_since": 2001,
        "cannot_tell": list(CANNOT_TELL),
    }


def accuracy(captions: Captions, config: Config) -> np.ndarray:
    """Which texts name the right category and no other, shape (n_items,)."""
    table = captions.table
    return np.asarray(named_categories(table["text"].tolist(), table["label"].tolist(), config.synonyms).right)


def accuracy_rows(
    config: Config, blocks: Recording, captions: Captions, generated: dict[str, list[Captions]]
) -> list[dict[str, Any]]:
    """The sentence decoder, its linear rivals on the same folds, and the controls: share of blocks named right."""
    labels, runs = blocks.samples["label"].to_numpy(), blocks.samples["run"].to_numpy()
    chance = 1 / len(config.sentences)
    models = {
        "sentences": ("the category that the sentence names", accuracy(captions, config)),
        "linear SVM": ("C = 1, one against the rest, on the same block responses", None),
        "ridge classifier": ("alpha by leave-one-out inside the training runs", None),
    }
    rows = []
    for name, (what, right) in models.items():
        if right is None:
            model = linear_svm(config.seed) if name == "linear SVM" else ridge_classifier()
            right = (cross_predict_labels(model, blocks.values, labels.tolist(), runs.tolist()) == labels).astype(float)
        ends = bootstrap_interval(right, runs, seed=config.seed)
        share, interval = float(right.mean()), [float(ends.low), float(ends.high)]
        rows.append({"name": name, "what": what, "accuracy": share, "ci": interval, "ci_level": 0.95, "ci_over": "runs",
                     "draws": [share], "verdict": None})  # fmt: skip
    for name, draws in generated.items():
        shares = [float(accuracy(draw, config).mean()) for draw in draws]
        row = {"name": name, "what": WHAT[name], "accuracy": float(np.mean(shares)), "ci": None,
               "ci_level": 0.90, "ci_over": "draws", "draws": shares, "verdict": None}  # fmt: skip
        if len(shares) > 1:
            judged = equivalence_to_chance(shares, chance, config.chance_margin)
            row |= {"ci": [chance + judged.low, chance + judged.high], "verdict": judged.verdict}
        rows.append(row)
    return rows


WHAT = {
    "shuffled": "pairing shuffled within runs, mapping fitted again",
    "noise": "noise with the spectrum and covariance of the recording, mapping fitted again",
    "no_brain": "the prompt without brain tokens",
    "constant": "one of the eight sentences for every block",
}


def write(
    folder: RunFolder,
    config: Config,
    study: Study,
    blocks: Recording,
    captions: Captions,
    generated: dict[str, list[Captions]],
    found: Evaluation,
    audit: dict[str, bool],
    controls: str,
) -> None:
    """Scores, items, facts and the card, in plain files."""
    rows = accuracy_rows(config, blocks, captions, generated)
    chance = 1 / len(config.sentences)
    folder.write_json("evaluation.json", found.to_json())
    folder.write_json("items.json", found.to_json()["items"])
    folder.write_json("card.json", found.card.to_json())
    shuffled = next((row["draws"] for row in rows if row["name"] == "shuffled"), None)
    scores = [
        Scores(
            row["name"], "category named right", row["accuracy"], len(blocks.samples),
            ci=None if row["ci"] is None else tuple(row["ci"]), ci_over=row["ci_over"],
            null=None if shuffled is None else np.asarray(shuffled), null_name=WHAT["shuffled"],
            ceiling_reason="blocks have no repeats within a run, so no ceiling is known",
        ).as_row()
        for row in rows
    ]  # fmt: skip
    scores += [
        Scores("sentences", name, value, len(captions), ceiling_reason="no second annotator").as_row()
        for name, value in found.metrics.items()
    ]
    folder.write_json("scores.json", scores)
    recording = next(iter(study.recordings.values()))
    folder.write_json(
        "facts.json",
        {
            "recipe": "haxby_decode",
            "data": {
                "source": asdict(study.source), "subject": recording.subject, "tr_s": recording.tr_s,
                "n_runs": int(blocks.samples["run"].nunique()), "n_blocks": blocks.n_samples,
                "n_volumes": recording.n_samples, "n_voxels": int(blocks.values.shape[1]),
                "conditions": sorted(config.sentences), "detrend_order": config.data.detrend_order,
                "shift_s": config.shift_s, "simulated": False,
            },
            "controls": controls,
            "split": {"scheme": "leave one run out", "n_folds": int(blocks.samples["run"].nunique()),
                      "overlaps": counted_overlaps(blocks), "accepted_leaks": list(ACCEPTED_LEAKS),
                      "poison_audit": audit,
                      "fingerprints": [split.fingerprint for split in leave_runs_out(blocks.samples)]},
            "bridge": {"llm": config.llm, **folder.read_json("bridge/config.json")},
            "sentences": config.sentences,
            "exposure": folder.read_json("exposure.json")["exposure"],
            "baselines": rows,
            "chance": chance,
            "chance_margin": config.chance_margin,
            "implementations": found.controls["implementations"],
            "metrics": found.metrics,
            "cannot_tell": list(CANNOT_TELL),
        },
    )  # fmt: skip


def summary(run: Path) -> str:
    """The short table that the demo ends with, from the run's own files."""
    facts = RunFolder.open(run).read_json("facts.json")
    lines = [f"{'category named right':<22}{'share':>7}   {'interval':<31}against chance {facts['chance']:.3f}"]
    for row in facts["baselines"]:
        ends = "" if row["ci"] is None else interval_text(row)
        verdict = row["verdict"] or ""
        lines.append(f"{row['name']:<22}{row['accuracy']:>7.3f}   {ends:<31}{verdict}")
    return "\n".join(lines)


def interval_text(row: dict[str, Any]) -> str:
    """An interval in words: over runs at 95 %; over a control's draws the 90 % of two one-sided tests."""
    return f"{row['ci'][0]:.3f} to {row['ci'][1]:.3f} ({100 * row['ci_level']:.0f} % over {row['ci_over']})"
