"""The layers import in one direction, and every module imports on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import wernicke

SOURCE = Path(wernicke.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[2]

# A child for each module, forked after the large packages are loaded: importing torch a hundred times would take long.
EACH_ALONE = """
import json, os, sys, traceback, warnings
import torch, transformers, sklearn.linear_model, pandas, scipy.stats, matplotlib.figure, nibabel
warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
torch.set_num_threads(1)
assert "wernicke" not in sys.modules
failed = []
for name in json.loads(sys.argv[1]):
    pid = os.fork()
    if not pid:
        try:
            __import__(name)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        failed.append(name)
print(json.dumps(failed))
"""


def modules() -> list[str]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE.parent).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


@pytest.mark.slow
def test_every_module_imports_on_its_own():
    names = modules()
    assert {"wernicke", "wernicke.cli", "wernicke.core.split", "wernicke.recipes.haxby_encode"} <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", EACH_ALONE, json.dumps(names)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr


def test_layers_import_in_one_direction():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
