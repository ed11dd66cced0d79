"""False-positive rates of the significance tests over independently drawn SIMULATED nulls.

Every null is its own pair of series that have nothing to do with one another, with its own permutations, so that the
rates are over independent tests and not over voxels that share features. Prints a table; `--json FILE` writes it.
Ends with exit code 1 if the recommended test (block permutation, block length from the data) gives P(p < .05) above
.065, or, with few nulls, above what .065 explains (99.9 % binomial).

    python benchmarks/calibrate.py --json calibration.json          # 2,000 nulls a row, about 6 CPU minutes
    python benchmarks/calibrate.py --quick --json calibration.json  # 200 nulls a row
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy import signal, stats
from tqdm import tqdm

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.stats.autocorrelation import block_length
from wernicke.stats.correlation import columnwise_correlation
from wernicke.stats.permutation import permutation_test
from wernicke.stats.pooled_null import pooled_block_null, pooled_p

WANTED = 0.065
RECOMMENDED = "block permutation, length from the data"
N_PERMUTATIONS = 999

Pair = tuple[np.ndarray, np.ndarray]


def autoregressive(rng: np.random.Generator, phi: float | np.ndarray, n_samples: int, n_columns: int) -> np.ndarray:
    """First-order series (n_samples, n_columns) after 600 samples of warming up; `phi` may differ by column."""
    noise = rng.standard_normal((n_samples + 600, n_columns))
    columns = np.broadcast_to(phi, n_columns)
    series = [signal.lfilter([1.0], [1.0, -columns[i]], noise[:, i]) for i in range(n_columns)]
    return np.stack(series, axis=1)[600:]


def block_design(rng: np.random.Generator, n_columns: int, n_runs: int = 12, n_samples: int = 121) -> np.ndarray:
    """Predictions like those for a block design: 8 blocks of 24 s and 12 s of rest a run, TR 2.5 s, z-scored by run.

    Each block has the amplitude of its category, plus what eight categories share; their order differs by run. The
    haemodynamic response is a gamma density (shape 6, 1 s).
    """
    tr_s = 2.5
    response = stats.gamma.pdf(np.arange(0, 30, tr_s), 6)
    runs = []
    amplitudes = 1.0 + 0.5 * rng.standard_normal((8, n_columns))
    for _ in range(n_runs):
        design = np.zeros((n_samples, n_columns))
        for i, category in enumerate(rng.permutation(8)):
            start = int((12 + 36 * i) / tr_s)
            design[start : start + 10] = amplitudes[category]
        runs.append(stats.zscore(signal.lfilter(response, [1.0], design, axis=0), axis=0))
    return np.concatenate(runs)


def null_sets(case: str, n_nulls: int, seed: int) -> tuple[list[Pair], np.ndarray | None]:
    """Data sets of one case, each (prediction, response), and its run labels.

    One column a set, but for "mixed" (50 columns, coefficients uniform from .2 to .95) and "slow fifth" (50 columns,
    of which the first ten, the ones judged, have .95 in both series and the others .6).
    """
    rng = derive_rng(seed, "calibrate", case)
    kind, _, n_samples = case.partition(" n ")
    if kind in ("mixed", "slow fifth"):
        sets = []
        for _ in range(max(1, n_nulls // (50 if kind == "mixed" else 10))):
            phi = rng.uniform(0.2, 0.95, (2, 50)) if kind == "mixed" else np.repeat([[0.95, 0.6]], [10, 40], axis=1)
            first, second = (np.broadcast_to(phi, (2, 50))[i] for i in (0, 1))
            sets.append(
                (autoregressive(rng, first, int(n_samples), 50), autoregressive(rng, second, int(n_samples), 50))
            )
        return sets, None
    if kind.startswith("block design"):
        phi = float(kind.rsplit(" ", 1)[1])
        runs = np.repeat(np.arange(12), 121)
        sets = []
        for _ in range(n_nulls):
            response = autoregressive(rng, phi, 12 * 121, 1).reshape(12, 121)
            sets.append((block_design(rng, 1), stats.zscore(response, axis=1).reshape(-1, 1)))
        return sets, runs
    first, second = (float(phi) for phi in kind.removeprefix("AR ").split("/"))
    n = int(n_samples)
    return [(autoregressive(rng, first, n, 1), autoregressive(rng, second, n, 1)) for _ in range(n_nulls)], None


def run_case(case: str, n_nulls: int, seed: int) -> list[dict[str, object]]:
    """Rows of one case: one a method, with the rates over its independent nulls."""
    sets, runs = null_sets(case, n_nulls, seed)
    judged = 10 if case.startswith("slow fifth") else None
    lengths: list[int | None] = []
    for prediction, response in sets:
        try:
            lengths.append(block_length(prediction, response, runs))
        except InputError:
            lengths.append(None)

    def test(method: str, length: int | None = None) -> Callable[[int], np.ndarray]:
        def p_of(i: int) -> np.ndarray:
            used = lengths[i] if length is None else length
            x, y = sets[i]
            if used is None:
                return np.full(x.shape[1], np.nan)
            return permutation_test(
                x, y, runs, method=method, block_length=used, n_permutations=N_PERMUTATIONS, seed=i
            ).p  # fmt: skip

        return p_of

    def parametric(i: int) -> np.ndarray:
        n_samples = sets[i][0].shape[0]
        r = columnwise_correlation(*sets[i])
        return stats.t.sf(r * np.sqrt((n_samples - 2) / (1 - r**2)), n_samples - 2)

    methods = {
        RECOMMENDED: test("block"),
        "normal approximation, length from the data": test("normal"),
        "circular shift": test("circular"),
        "blocks of 10 samples (normal approximation)": test("normal", 10),
        "single samples (normal approximation)": test("normal", 1),
        "parametric p of Pearson's r": parametric,
    }
    rows = []
    for name, p_of in methods.items():
        p = np.concatenate(
            [p_of(i)[:judged] for i in tqdm(range(len(sets)), desc=f"{case}: {name}", disable=None, leave=False)]
        )
        rows.append(summarise(case, name, p, lengths))
    everything = [np.concatenate(side, axis=1) for side in zip(*sets, strict=True)]
    p = pooled_p(columnwise_correlation(*everything), pooled_block_null(*everything), corrected=False)
    p = np.concatenate([part[:judged] for part in np.split(p, len(sets))])
    rows.append(summarise(case, "pooled null, blocks of 10 (drama2brain, faithful)", p, lengths))
    return rows


def summarise(case: str, method: str, p: np.ndarray, lengths: list[int | None]) -> dict[str, object]:
    """Rates of one method over the nulls it did not refuse."""
    tested = p[np.isfinite(p)]
    used = [length for length in lengths if length is not None]
    return {
        "case": case,
        "method": method,
        "n": len(tested),
        "refused": int(len(p) - len(tested)),
        "rate_05": float((tested < 0.05).mean()),
        "se": float(np.sqrt(0.05 * 0.95 / len(tested))),
        "rate_01": float((tested < 0.01).mean()),
        "ks_p": float(stats.kstest(tested, "uniform").pvalue),
        "block_length_median": float(np.median(used)) if used else None,
    }


def benchmark_rows(rows: list[dict[str, object]], n_nulls: int, seed: int) -> list[dict[str, object]]:
    """The rows as every benchmark writes them: the recommended method beside each other one."""
    ours = {row["case"]: row for row in rows if row["method"] == RECOMMENDED}
    settings = f"{n_nulls} independent simulated nulls, {N_PERMUTATIONS} permutations, seed {seed}"
    return [
        {
            "case": row["case"],
            "ours": ours[row["case"]]["rate_05"],
            "rival": row["rate_05"],
            "rival_name": row["method"],
            "unit": "P(p < .05) under the null",
            "ratio": row["rate_05"] / ours[row["case"]]["rate_05"],
            "wanted": None,
            "settings": settings,
            "details": row,
        }
        for row in rows
    ]


CASES = ("AR .8/.6 n 1452", "AR .8/.6 n 7737", "AR .95/.8 n 1452", "AR .95/.8 n 7737", "block design, AR .8",
         "block design, AR .95", "mixed n 1452", "mixed n 7737", "slow fifth n 1452", "slow fifth n 7737")  # fmt: skip
QUICK_CASES = ("AR .8/.6 n 1452", "AR .95/.8 n 7737", "block design, AR .8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 nulls and three cases")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--nulls", type=int, help="independent nulls a case")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="only these")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    n_nulls = arguments.nulls or (200 if arguments.quick else 2000)
    rows: list[dict[str, object]] = []
    print("| simulated null | test | P(p < .05) | P(p < .01) | KS p | refused | median block |")
    print("|---|---|---|---|---|---|---|")
    for case in arguments.cases or (QUICK_CASES if arguments.quick else CASES):
        for row in run_case(case, n_nulls, arguments.seed):
            rows.append(row)
            mark = "" if row["rate_05"] <= WANTED else " FAILS"
            print(
                f"| {case} | {row['method']} | {row['rate_05']:.3f}{mark} | {row['rate_01']:.3f} | {row['ks_p']:.2g} "
                f"| {row['refused']} of {row['n'] + row['refused']} | {row['block_length_median']:.0f} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(benchmark_rows(rows, n_nulls, arguments.seed), indent=1) + "\n")
    limits = {n: WANTED if n >= 1900 else stats.binom.ppf(0.999, n, WANTED) / n for n in {row["n"] for row in rows}}
    failed = [row["case"] for row in rows if row["method"] == RECOMMENDED and row["rate_05"] > limits[row["n"]]]
    if failed:
        print(f"above {WANTED}: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
