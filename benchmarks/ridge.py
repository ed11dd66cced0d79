"""Ridge solvers side by side with himalaya 0.4.11, in one run: CPU-seconds at one thread, float32.

    OMP_NUM_THREADS=1 python benchmarks/ridge.py --quick            # under 3 minutes
    OMP_NUM_THREADS=1 python benchmarks/ridge.py --rows ridge-8000  # one row of the full table
    OMP_NUM_THREADS=1 python benchmarks/ridge.py --json rows.json   # all rows: about an hour and a half
    python benchmarks/ridge.py --rows gpu-88000                     # beside himalaya's torch_cuda backend

Settings are those of drama2brain: 25 alphas from 1e-12 to 1e12, 4 contiguous folds, correlation score. Data are
simulated: autocorrelated features with a power-law spectrum, 40 % of the voxels with signal. Each row is a process of
its own, so that peak memory can be told; both sides do the same problem alternately in it, each warmed up before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

ALPHAS = np.logspace(-12, 12, 25)
N_FOLDS = 4


@dataclass(frozen=True)
class Row:
    """One problem of the table."""

    name: str
    n: int
    widths: tuple[int, ...]
    n_targets: int
    rivals: tuple[str, ...]
    wanted: float
    draws: int = 1
    repeats: int = 1
    device: str = "cpu"


# For rows over 100 s the rival is the one that was fastest among himalaya's solvers and backends when all were run.
FULL = [
    Row("ridge-8000", 8000, (512,), 10000, ("RidgeCV torch", "Huth"), 90),
    Row("ridge-3000", 3000, (2000,), 5000, ("KernelRidgeCV torch", "Huth"), 5, repeats=3),
    Row("ridge-6000", 6000, (4000,), 10000, ("RidgeCV torch",), 5),
    Row("banded-3000", 3000, (300,) * 3, 3000, ("GroupRidgeCV numpy",), 15, draws=20),
    Row("banded-8000", 8000, (170,) * 3, 6000, ("GroupRidgeCV numpy",), 120, draws=4),
    Row("wide-2000", 2000, (6000,), 10000, ("KernelRidgeCV torch",), 4, repeats=3),
    Row("drama2brain-tile", 22262, (1280,), 8000, (), 2.5, repeats=3),
]
# The same: numpy was the faster backend in each of these.
QUICK = [
    Row("quick-mono", 2000, (300,), 1500, ("RidgeCV numpy",), 10, repeats=3),
    Row("quick-banded", 1200, (100,) * 3, 800, ("GroupRidgeCV numpy",), 5, draws=4, repeats=3),
    Row("quick-wide", 800, (2400,), 3000, ("KernelRidgeCV numpy",), 2, repeats=3),
]
# Wall-clock seconds; the way of the data to the card is in both sides' time.
GPU = [Row("gpu-88000", 22262, (1280,), 88000, ("RidgeCV torch_cuda",), 1, repeats=3, device="cuda")]


def simulate(row: Row, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return bands (n, width) and responses (n, n_targets), float32, responses centred."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    bands, signal = [], np.zeros((row.n, row.n_targets), dtype=np.float32)
    for width in row.widths:
        noise = rng.standard_normal((row.n + 50, width), dtype=np.float32)
        latent = lfilter([0.6], [1, -0.8], noise, axis=0)[50:].astype(np.float32)
        size = (1 / np.arange(1, width + 1)).astype(np.float32)
        mixing = np.linalg.qr(rng.standard_normal((width, width), dtype=np.float32))[0]
        bands.append((latent * size) @ mixing * np.float32(np.sqrt(width) / 3))
        k = min(width, 200)
        weights = rng.standard_normal((k, row.n_targets), dtype=np.float32) * np.sqrt(size[:k, None])
        part = latent[:, :k] @ weights
        signal += part / part.std(0) * rng.random(row.n_targets, dtype=np.float32)
    strength = np.where(rng.random(row.n_targets) < 0.4, rng.uniform(0.05, 0.6, row.n_targets), 0)
    noise = rng.standard_normal((row.n, row.n_targets), dtype=np.float32)
    Y = signal / signal.std(0) * strength.astype(np.float32)
    for i in range(1, row.n):  # AR(.4) noise, in place
        noise[i] += np.float32(0.4) * noise[i - 1]
    Y += noise * np.float32(np.sqrt(1 - 0.16))
    return bands, Y - Y.mean(0)


def run_ours(row: Row, bands: list[np.ndarray], Y: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """Fit with wernicke; return each voxel's best CV score."""
    import torch

    from wernicke.ridge import correlation_score, solve_group_ridge

    placed = [torch.from_numpy(part).to(row.device) for part in (*bands, Y)] if row.device != "cpu" else [*bands, Y]
    found = solve_group_ridge(
        placed[:-1], placed[-1], n_iter=gammas, alphas=ALPHAS, cv=N_FOLDS, score_func=correlation_score, warn=False
    )
    return np.asarray(torch.as_tensor(found.cv_scores).cpu()).max(0)


def run_himalaya(kind: str, row: Row, bands: list[np.ndarray], Y: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """Fit with himalaya at drama2brain's batch sizes; return each voxel's best CV score."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import GroupRidgeCV, RidgeCV
    from himalaya.scoring import correlation_score

    solver, backend_name = kind.split()
    backend = set_backend(backend_name)
    batches = {"n_targets_batch": 3000, "n_alphas_batch": 20, "n_targets_batch_refit": 200}
    params: dict = {"score_func": correlation_score, **batches}
    if solver == "GroupRidgeCV":
        batches = dict.fromkeys(batches, 1000)
        params |= {**batches, "n_iter": backend.asarray(gammas.astype("f4")), "alphas": ALPHAS, "progress_bar": False}
        model = GroupRidgeCV("input", solver_params=params | {"warn": False}, cv=N_FOLDS).fit(bands, Y)
        scores = np.asarray(model.cv_scores_).max(0)
    elif solver == "KernelRidgeCV":
        scores = KernelRidgeCV(ALPHAS, solver_params=params, cv=N_FOLDS).fit(bands[0], Y).cv_scores_
    else:
        scores = RidgeCV(ALPHAS, solver_params=params | {"warn": False}, cv=N_FOLDS).fit(bands[0], Y).cv_scores_
    return np.asarray(scores.cpu() if hasattr(scores, "cpu") else scores)


def run_huth(kind: str, row: Row, bands: list[np.ndarray], Y: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """Fit as the Huth lab's ``ridge_corr`` does: one SVD a fold, predictions for every alpha, then one refit."""
    X, scores = bands[0], np.zeros((len(ALPHAS), Y.shape[1]), dtype=np.float32)
    for test in np.array_split(np.arange(row.n), N_FOLDS):
        train = np.setdiff1d(np.arange(row.n), test)
        U, s, Vt = np.linalg.svd(X[train], full_matrices=False)
        UR, PV = U.T @ Y[train], X[test] @ Vt.T
        truth = (Y[test] - Y[test].mean(0)) / Y[test].std(0)
        for a, alpha in enumerate(ALPHAS):
            prediction = (PV * (s / (s**2 + alpha)).astype(np.float32)) @ UR
            spread = prediction.std(0)
            scores[a] += (truth * (prediction - prediction.mean(0))).mean(0) / np.where(spread > 0, spread, 1) / N_FOLDS
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    UR, best = U.T @ Y, scores.argmax(0)
    weights = np.zeros((X.shape[1], Y.shape[1]), dtype=np.float32)
    for a in np.unique(best):
        weights[:, best == a] = (Vt.T * (s / (s**2 + ALPHAS[a])).astype(np.float32)) @ UR[:, best == a]
    return scores.max(0)


def clock(device: str) -> float:
    """Return CPU-seconds so far; on a GPU, wall-clock seconds once all it was given is done."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def sgemm_rate(device: str = "cpu", n: int = 2000) -> float:
    """Return this machine's rate of float32 matrix products now, in FLOP per (CPU-)second."""
    A = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    if device != "cpu":
        import torch

        A = torch.from_numpy(A).to(device)
    A @ A
    start = clock(device)
    for _ in range(3):
        A @ A
    return 3 * 2 * n**3 / (clock(device) - start)


def timed(work: Callable[[], np.ndarray], device: str) -> tuple[float, np.ndarray]:
    """Return the time taken and the result."""
    start = clock(device)
    result = work()
    return clock(device) - start, result


def resident(key: str) -> float:
    """Return this process's memory in GB: VmRSS, now, or VmHWM, the most since `forget_peak`."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{key}:")) * 1024 / 1e9


def forget_peak() -> None:
    """Let VmHWM start again from what is held now."""
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")


def run_row(row: Row, ours_only: bool) -> dict:
    """Measure one row in this process."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    gammas = rng.dirichlet([1.0] * len(row.widths), row.draws) if row.draws > 1 else np.ones((1, len(row.widths)))
    runs: dict[str, Callable] = {"wernicke": run_ours}
    for kind in () if ours_only else row.rivals:
        runs[kind] = lambda *args, kind=kind: (run_huth if kind == "Huth" else run_himalaya)(kind, *args)
    small = Row("warm-up", 200, tuple(min(w, 20) for w in row.widths), 100, (), 0, device=row.device)
    for run in runs.values():
        run(small, *simulate(small), gammas[:1])
    bands, Y = simulate(row)
    times: dict[str, list[float]] = {name: [] for name in runs}
    scores, peaks, rates = {}, {}, []
    for _ in range(row.repeats):
        for name, run in runs.items():
            rates.append(sgemm_rate(row.device, 2000 if row.device == "cpu" else 8000))
            forget_peak()
            base = resident("VmRSS")
            seconds, scores[name] = timed(lambda run=run: run(row, bands, Y, gammas), row.device)
            times[name].append(seconds)
            print(f"    {row.name}: {name} {seconds:.2f} CPU-s", file=sys.stderr, flush=True)
            peaks.setdefault(name, resident("VmHWM") - base)
    best = {name: float(np.median(values)) for name, values in times.items()}
    rival = min((name for name in best if name not in ("wernicke", "Huth")), key=best.__getitem__, default=None)
    p, rate = sum(row.widths), float(np.median(rates))
    floor = (2.0 * row.n * p * row.n_targets + row.n * p * min(row.n, p)) / rate
    result = {
        "case": row.name, "ours": best["wernicke"], "rival": None if rival is None else best[rival],
        "rival_name": None if rival is None else f"himalaya {rival}",
        "unit": "CPU-seconds" if row.device == "cpu" else "seconds",
        "ratio": best["wernicke"] / floor if rival is None else best[rival] / best["wernicke"], "wanted": row.wanted,
        "settings": asdict(row)
        | {"alphas": "logspace(-12, 12, 25)", "folds": N_FOLDS, "dtype": "float32", "threads": 1},
        "date": time.strftime("%Y-%m-%d %H:%M"), "load": os.getloadavg()[0],
        "all_times": times, "gflops": rate / 1e9, "floor": floor, "ours_over_floor": best["wernicke"] / floor,
        "peak_gb_beyond_data": peaks,
    }  # fmt: skip
    if rival is not None:
        loss = scores[rival] - scores["wernicke"]
        result["cv_score_loss"] = {
            "mean": float(loss.mean()), "q999": float(np.quantile(loss, 0.999)), "max": float(loss.max())
        }  # fmt: skip
    return result


def describe(row: dict) -> str:
    """Return one row of the table as text."""
    rival = "-" if row["rival"] is None else f"{row['rival']:.2f} ({row['rival_name']})"
    others = ", ".join(f"{k} {np.median(v):.2f}" for k, v in row["all_times"].items())
    memory = ", ".join(f"{k} {v:.2f}" for k, v in row["peak_gb_beyond_data"].items())
    loss = "" if "cv_score_loss" not in row else ", CV score lost mean {mean:.1e} q99.9 {q999:.1e}".format(
        **row["cv_score_loss"]
    )  # fmt: skip
    kind = "of the floor" if row["rival"] is None else "times faster"
    return (
        f"{row['case']}: ours {row['ours']:.2f}, rival {rival} {row['unit']}: {row['ratio']:.1f} {kind} (wanted "
        f"{row['wanted']:g}); {row['ours_over_floor']:.1f} x floor at {row['gflops']:.0f} GFLOP/CPU-s{loss}\n"
        f"    all: {others}; peak GB beyond data: {memory}"
    )


def main() -> None:
    """Run the rows asked for, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three scaled-down rows, under 3 minutes")
    parser.add_argument("--rows", nargs="+", help="names of rows")
    parser.add_argument("--ours-only", action="store_true", help="leave the rivals out")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    known = {row.name: row for row in FULL + QUICK + GPU}
    if given.child:
        name, out = given.child.split("=", 1)
        with open(out, "w") as file:
            json.dump(run_row(known[name], given.ours_only), file)
        return
    names = given.rows or [row.name for row in (QUICK if given.quick else FULL)]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"unknown row {unknown[0]}; known: {', '.join(known)}")
    if any(known[name].device == "cuda" for name in names):
        import torch

        if not torch.cuda.is_available():
            parser.error("gpu-88000 needs a GPU with CUDA")
    results = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "row.json")
            command = [sys.executable, __file__, "--child", f"{name}={out}"]
            subprocess.run(command + ["--ours-only"] * given.ours_only, check=True)
            with open(out) as file:
                results.append(json.load(file))
        print(describe(results[-1]), flush=True)
        if given.json:
            with open(given.json, "w") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
