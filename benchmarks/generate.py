"""How much faster sentences are written in batches than one at a time, with embeddings given.

    python benchmarks/generate.py [--quick] [--json FILE] [--threads 2]

SmolLM2, a prompt with eight soft tokens, exactly 20 new tokens for every sample (the end-of-turn token is held back),
so that both sides do the same work. Both run alternately in one process; the median of the rounds counts. The projector
has random weights: only time is measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

N_NEW_TOKENS = 20
WANTED = {(16, 2): 7.0, (32, 2): 9.0, (16, 1): 4.9, (32, 1): 5.5}


def measure(bridge, embeddings, batch_size: int, rounds: int) -> tuple[float, float]:
    """Return median seconds a sample in batches, and one at a time; one sample a round stands for the latter."""
    settings = {"max_new_tokens": N_NEW_TOKENS, "min_new_tokens": N_NEW_TOKENS}
    n_single = min(4, len(embeddings))
    together, alone = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        written = bridge.generate_ids(embeddings, batch_size=batch_size, **settings)
        together.append((time.perf_counter() - start) / len(embeddings))
        start = time.perf_counter()
        single = bridge.generate_ids(embeddings[:n_single], batch_size=1, **settings)
        alone.append((time.perf_counter() - start) / n_single)
        if {len(ids) for ids in written + single} != {N_NEW_TOKENS}:
            raise RuntimeError(f"not every sample got {N_NEW_TOKENS} new tokens")
    return statistics.median(together), statistics.median(alone)


def run(quick: bool, threads: int) -> list[dict]:
    """Measure all cases."""
    import numpy as np
    import torch

    from wernicke.decoding.bridge import Bridge, BridgeConfig
    from wernicke.pretrained.llm import load_llm

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    llm = load_llm("smollm2", device="cpu")
    bridge = Bridge(BridgeConfig(d_in=64, n_tokens=8), llm)
    rounds = 2 if quick else 5
    rows = []
    for batch_size in (16,) if quick else (16, 32):
        embeddings = np.random.default_rng(0).standard_normal((batch_size, 64))
        bridge.generate_ids(embeddings[:2], max_new_tokens=2)  # the prefix, and first-call costs
        ours, rival = measure(bridge, embeddings, batch_size, rounds)
        rows.append(
            {
                "case": f"batch of {batch_size}",
                "ours": ours,
                "rival": rival,
                "rival_name": "one at a time",
                "unit": "s a sample",
                "ratio": rival / ours,
                "wanted": WANTED.get((batch_size, threads)),
                "settings": {
                    "llm": "smollm2", "threads": threads, "new_tokens": N_NEW_TOKENS, "soft_tokens": 8,
                    "prompt_tokens": len(bridge.prompt.prefix_ids) + 8 + len(bridge.prompt.suffix_ids()),
                    "rounds": rounds, "dtype": llm.dtype,
                },
            }
        )  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="one batch size, two rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    rows = run(arguments.quick, arguments.threads)
    for row in rows:
        print(
            f"{row['case']}: {row['ours']:.3f} {row['unit']}, {row['rival_name']} {row['rival']:.3f}: "
            f"{row['ratio']:.1f} times (wanted {row['wanted']})"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
