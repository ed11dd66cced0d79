"""Shared by all tests: one thread, and where the material outside the repository lies."""

from __future__ import annotations

import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402 - the threads are set before anything is imported that reads them
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("wernicke", deadline=None)  # shared machines stall; no test is about the clock
settings.load_profile("wernicke")

pytest_plugins = ["killing"]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of specifications and reference data beside the repository (or $WERNICKE_SHARED)."""
    folder = Path(os.environ.get("WERNICKE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        message = f"{folder} is absent: set WERNICKE_SHARED to the folder with the reference data"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
