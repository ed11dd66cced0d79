"""Time and peak memory of the demo's encoding steps, beside the plain way of doing each.

1. hidden states of the sentences: `wernicke.features.text` beside transformers used as its documentation shows;
2. ridge per voxel, leave-one-run-out inside leave-one-run-out: `wernicke.encoding` beside loops over
   `sklearn.linear_model.Ridge`, which see the language model's full width;
3. block permutation: `wernicke.stats` beside a loop over shuffles in numpy.

Both sides run on one thread, alternately, each in a process of its own; their results are compared before any number
is printed. Peak memory is the whole process's (`ru_maxrss`), libraries included.

    python benchmarks/demo.py --json demo.json            # all 12 runs of the recording
    python benchmarks/demo.py --quick --json demo.json    # 4 runs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N_PERMUTATIONS = 999
DELAYS_TR = (1, 2, 3, 4)
LAYER = 15


def prepare(work: Path, n_runs: int) -> None:
    """Write what the steps start from: sentences, the recording, the sentences' vectors, held-out predictions."""
    from wernicke.encoding import designs
    from wernicke.pretrained.smollm2 import smollm2
    from wernicke.recipes.config import load_config
    from wernicke.recipes.haxby import HaxbyData
    from wernicke.stats.detrend import detrend_runs

    sentences = load_config("haxby_encode")[1]["sentences"]
    names = sorted(sentences)
    recording = next(iter(HaxbyData().load().recordings.values()))
    kept = np.isin(recording.runs, list(dict.fromkeys(recording.runs.tolist()))[:n_runs])
    labels, runs = recording.samples["label"].to_numpy()[kept].astype(str), recording.runs[kept]
    (work / "sentences.json").write_text(json.dumps([[sentences[name] for name in names], str(smollm2())]))
    np.save(work / "runs.npy", runs)
    np.save(work / "responses.npy", detrend_runs(recording.values[kept], runs, order=2))
    np.save(work / "table.npy", states(work))
    np.save(work / "features.npy", designs.place(np.load(work / "table.npy"), labels, names))
    np.save(work / "predictions.npy", ridge(work))


def states(work: Path) -> np.ndarray:
    """Ours: one vector a sentence."""
    from wernicke.features.text import text_features

    texts, folder = json.loads((work / "sentences.json").read_text())
    return text_features(texts, folder, layers=LAYER, cache=False, device="cpu").bands[f"layer{LAYER}"]


def plain_states(work: Path) -> np.ndarray:
    """transformers: load, one forward pass a sentence, mean over tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts, folder = json.loads((work / "sentences.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    vectors = []
    with torch.no_grad():
        for text in texts:
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            vectors.append(output.hidden_states[LAYER][0].mean(dim=0).numpy())
    return np.stack(vectors)


def ridge(work: Path) -> np.ndarray:
    """Ours: held-out predictions, shape (n_samples, n_voxels)."""
    from wernicke.encoding.arrays import DEFAULT_ALPHAS, delayed_bands
    from wernicke.encoding.crossval import predict_left_out_runs

    runs = np.load(work / "runs.npy")
    bands = delayed_bands(np.load(work / "features.npy"), runs, DELAYS_TR)
    return predict_left_out_runs(bands, np.load(work / "responses.npy"), runs, DEFAULT_ALPHAS).predictions


def plain_ridge(work: Path) -> np.ndarray:
    """scikit-learn: for each outer fold, inner fold and alpha one fit; the best alpha per voxel; one refit an alpha."""
    from sklearn.linear_model import Ridge

    from wernicke.encoding.arrays import DEFAULT_ALPHAS
    from wernicke.features.align import delay

    runs, responses = np.load(work / "runs.npy"), np.load(work / "responses.npy").astype(np.float64)
    X = delay(np.load(work / "features.npy").astype(np.float64), DELAYS_TR, runs)
    predictions = np.empty_like(responses)
    for run in np.unique(runs):
        train = runs != run
        scaled = X / np.sqrt(X[train].var(axis=0).sum())
        scores = np.zeros((len(DEFAULT_ALPHAS), responses.shape[1]))
        for inner in np.unique(runs[train]):
            fit, test = train & (runs != inner), runs == inner
            for i, alpha in enumerate(DEFAULT_ALPHAS):
                predicted = Ridge(alpha).fit(scaled[fit], responses[fit]).predict(scaled[test])
                scores[i] += np.nan_to_num(columnwise_r(predicted, responses[test]))
        best = scores.argmax(axis=0)
        for i in np.unique(best):
            voxels = best == i
            model = Ridge(DEFAULT_ALPHAS[i]).fit(scaled[train], responses[train][:, voxels])
            predicted = model.predict(scaled[runs == run])
            predictions[np.ix_(runs == run, voxels)] = predicted.reshape(-1, voxels.sum())  # one voxel comes flat
    return predictions


def permutation(work: Path) -> np.ndarray:
    """Ours: p values, shape (n_voxels,)."""
    from wernicke.encoding.arrays import permute_predictions

    predictions, responses, runs = (np.load(work / f"{name}.npy") for name in ("predictions", "responses", "runs"))
    return permute_predictions(predictions, responses, runs, n_permutations=N_PERMUTATIONS, seed=0).p


def plain_permutation(work: Path) -> np.ndarray:
    """numpy: shuffle blocks of the responses, correlate, count; blocks as long as ours."""
    from wernicke.stats.autocorrelation import block_length
    from wernicke.stats.detrend import detrend_runs

    runs = np.load(work / "runs.npy")
    predictions = detrend_runs(np.load(work / "predictions.npy"), runs, order=0)
    responses = detrend_runs(np.load(work / "responses.npy"), runs, order=0)
    length = block_length(predictions, responses, runs)
    blocks, rest = [], []
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        whole = len(rows) // length * length
        blocks += np.split(rows[:whole], whole // length) if whole else []
        rest += rows[whole:].tolist()
    rng, observed = np.random.default_rng(0), columnwise_r(predictions, responses)
    target, hits = np.concatenate([*blocks, np.array(rest, dtype=int)]), np.zeros(responses.shape[1])
    for _ in range(N_PERMUTATIONS):
        order = np.concatenate([*(blocks[i] for i in rng.permutation(len(blocks))), np.array(rest, dtype=int)])
        hits += columnwise_r(predictions[target], responses[order]) >= observed
    return (1 + hits) / (1 + N_PERMUTATIONS)


def columnwise_r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson r of each column."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))


def check_states(ours: np.ndarray, plain: np.ndarray) -> str:
    """Largest difference relative to the vectors' size."""
    worst = float(np.abs(ours - plain).max() / np.abs(plain).max())
    if worst > 1e-4:
        raise SystemExit(f"hidden states differ by {worst:.2g}")
    return f"relative difference {worst:.1g}"


def check_ridge(ours: np.ndarray, plain: np.ndarray) -> str:
    """How well held-out predictions agree, voxel by voxel."""
    agreement = np.nanmedian(columnwise_r(ours, plain))
    if agreement < 0.999:
        raise SystemExit(f"predictions correlate by {agreement:.4f} only")
    return f"median correlation of predictions {agreement:.5f}"


def check_permutation(ours: np.ndarray, plain: np.ndarray) -> str:
    """Mean difference of p values; two draws of 999 differ by at most .025 at p = .5."""
    difference = float(np.abs(ours - plain).mean())
    if difference > 0.03:
        raise SystemExit(f"p values differ by {difference:.3f} on average")
    return f"p values differ by {difference:.4f} on average"


Step = Callable[[Path], np.ndarray]
CASES: dict[str, tuple[Step, Step, Callable[[np.ndarray, np.ndarray], str], str]] = {
    "hidden states of 8 sentences": (states, plain_states, check_states, "transformers, one sentence at a time"),
    "ridge, nested leave-one-run-out": (ridge, plain_ridge, check_ridge, "scikit-learn Ridge in loops"),
    "block permutation test": (permutation, plain_permutation, check_permutation, "numpy loop over shuffles"),
}


def measure(step: Step, work: Path, out: Path) -> None:
    """In a process of its own: run a step, write its result, CPU seconds and peak memory."""
    import torch
    from transformers.utils import logging  # so that no side pays for imports

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    began = time.process_time()
    result = step(work)
    seconds = time.process_time() - began
    np.save(out.with_suffix(".npy"), result)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.write_text(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def in_process(function: Callable[..., None], *arguments: Any) -> None:
    """Call in a new interpreter: nothing of this one counts towards its memory."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} ended with {process.exitcode}")


def compare(case: str, work: Path, n_rounds: int, settings: str) -> list[dict[str, Any]]:
    """Both sides of one case, alternately: a row for time and one for memory."""
    ours, plain, check, rival = CASES[case]
    found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(n_rounds):
        for side, step in (("ours", ours), ("plain", plain)):
            out = work / f"{side}.json"
            in_process(measure, step, work, out)
            found[side].append(json.loads(out.read_text()))
    agreement = check(np.load(work / "ours.npy"), np.load(work / "plain.npy"))
    rows = []
    for name, unit, key in (("time", "CPU-s", "seconds"), ("peak memory", "MB", "peak_mb")):
        mine, theirs = (statistics.median(run[key] for run in found[side]) for side in ("ours", "plain"))
        rows.append(row(f"{case}: {name}", mine, theirs, rival, unit, f"{settings}; {agreement}"))
    return rows


def row(case: str, ours: float, rival: float, rival_name: str, unit: str, settings: str) -> dict[str, Any]:
    """One line of the table; `ratio` says how many times better ours is."""
    return {"case": case, "ours": ours, "rival": rival, "rival_name": rival_name, "unit": unit,
            "ratio": rival / ours, "wanted": None, "settings": settings}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 runs of the recording, each side once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    n_runs, n_rounds = (4, 1) if arguments.quick else (12, 3)
    settings = f"{n_runs} runs of Haxby 2001, SmolLM2, 1 thread, median of {n_rounds}"
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        in_process(prepare, Path(folder), n_runs)
        print("| case | ours | plain | unit | times better |\n|---|---|---|---|---|", flush=True)
        for case in CASES:
            # The loops of scikit-learn take minutes with all runs: once is enough.
            rounds = 1 if case.startswith("ridge") else n_rounds
            for line in compare(case, Path(folder), rounds, settings):
                rows.append(line)
                print(f"| {line['case']} | {line['ours']:.2f} | {line['rival']:.2f} | {line['unit']} "
                      f"| {line['ratio']:.2f} |", flush=True)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
