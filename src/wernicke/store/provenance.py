"""What a result depends on besides its inputs: versions, platform, threads. Nothing here imports a heavy package."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import sys
from datetime import UTC, datetime
from typing import Any

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@functools.cache
def wernicke_version() -> str:
    """Return the installed version of this package."""
    return importlib.metadata.version("wernicke")


@functools.cache  # installed packages do not change under a running process
def package_versions() -> dict[str, str]:
    """Return the version of each package that wernicke's metadata names, where installed (no developers' tools)."""
    versions = {}
    for requirement in importlib.metadata.requires("wernicke") or ():
        match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
        if match is None or re.search(r"extra == .(?:dev|docs)", requirement):
            continue
        try:
            versions[match.group().lower()] = importlib.metadata.version(match.group())
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_environment() -> dict[str, Any]:
    """Return python, platform, package versions and thread counts as plain values.

    No host name, user name or path: a manifest may be published.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": dict(package_versions()),
        "threads": count_threads(),
    }


def count_threads() -> dict[str, Any]:
    """Return thread counts as set in the environment and as the libraries loaded so far use them.

    Results are bit-identical only for the same counts.
    """
    from threadpoolctl import threadpool_info

    counts: dict[str, Any] = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    for pool in threadpool_info():
        name = str(pool["internal_api"])
        counts[name] = max(int(pool["num_threads"]), counts.get(name, 0))
    torch = sys.modules.get("torch")
    if torch is not None:
        counts["torch"] = torch.get_num_threads()
    return counts


def utc_now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
