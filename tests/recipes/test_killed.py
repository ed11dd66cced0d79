"""A decoding run killed at any moment and started again ends with the same captions."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from wernicke.recipes import haxby_decode

pytestmark = pytest.mark.slow


def command(run: Path, config: haxby_decode.Config) -> list[str]:
    flags = ["--llm", config.llm, "--max_new_tokens", str(config.max_new_tokens)]
    return [sys.executable, "-m", "wernicke", "train", "--config", "haxby_decode", "--run", str(run), *flags]


def checkpoints(run: Path) -> int:
    return len(list(run.glob("checkpoints/**/MANIFEST.json")))


def test_killed_and_started_again(decoded: Path, decode_config: haxby_decode.Config, tmp_path: Path) -> None:
    run, rng, killed = tmp_path / "run", np.random.default_rng(0), 0
    for _ in range(3):
        process = subprocess.Popen(command(run, decode_config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not checkpoints(run):
            time.sleep(0.02)  # it is training now
        time.sleep(float(rng.uniform(0, 0.3)))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    last = subprocess.run(command(run, decode_config), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    haxby_decode.decode(run)
    assert killed > 0
    assert (run / "captions.json").read_bytes() == (decoded / "captions.json").read_bytes()
    assert (run / "bridge/model.safetensors").read_bytes() == (decoded / "bridge/model.safetensors").read_bytes()
