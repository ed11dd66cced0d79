"""Checkpoints that survive a kill at any moment: sealed folders ``checkpoints/ckpt-000123``, newest whole one first.

Each holds one safetensors file a group of tensors (``model``, ``state``), ``meta.json`` and ``MANIFEST.json`` with all
hashes, written last. Nothing is pickled. torch is imported only where tensors are written or read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import InputError
from wernicke.store.atomic import PathLike, check_free_space
from wernicke.store.files import read_json, refuse_tensors, save_tensors, write_json
from wernicke.store.sealed import building, discard, find_faults, remove_leftovers

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"ckpt-(\d{6,})(?:-(\d+))?")
_GROUP = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was verified.

    Attributes
    ----------
    folder : Path
    step : int
        The step after which it was saved.
    meta : dict
        What the training loop put in: plain values.
    is_best : bool
        Whether it was the best so far, by validation, when it was saved.
    """

    folder: Path
    step: int
    meta: dict[str, Any]
    is_best: bool

    def tensors(self, group: str, device: str = "cpu") -> dict[str, torch.Tensor]:
        """Return the tensors of one group by name.

        Raises
        ------
        InputError
            E-CKPT if the checkpoint has no such group, E-HDR if the file is not whole.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / f"{group}.safetensors"
        if not path.is_file():
            groups = sorted(item.stem for item in self.folder.glob("*.safetensors"))
            raise InputError("E-CKPT", f"no tensors `{group}`, found: {', '.join(groups)}", path=self.folder)
        try:
            # Cloned: in the file's own memory tensors lie unaligned, where sums may round in another order, so that an
            # optimizer that goes on from them (LBFGS does, without copying) would not repeat its steps bit for bit.
            return {name: tensor.clone() for name, tensor in load_file(path, device=device).items()}
        except SafetensorError as error:
            refuse_tensors(path, error)


def save_checkpoint(
    run_folder: PathLike,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    meta: Mapping[str, Any],
    *,
    keep: int = 2,
    best: bool = False,
) -> Path:
    """Save a checkpoint, then delete older ones; a kill at any moment leaves at least one whole checkpoint.

    Parameters
    ----------
    run_folder : path-like
        The run's folder, or a folder in it for each of several stages. The caller holds the run's lock.
    step : int
        Number of the finished step.
    tensors : mapping of str to (mapping of str to Tensor)
        Groups of named tensors, one file each: ``model``, ``state`` (optimizer, random number generators).
    meta : mapping
        Plain values: position in the data, config and data fingerprints, exposure, metrics. A value that may be
        infinite goes through `wernicke.store.state.pack_state`.
    keep : int
        How many of the newest to keep, besides the best.
    best : bool
        Whether this is the best so far, by validation.

    Raises
    ------
    DiskFullError
        Before anything is written, unless twice the checkpoint's size is free; or on a full disk later. The
        checkpoints that are there stay.
    """
    from safetensors.torch import save_file

    if keep < 1 or not tensors or not all(_GROUP.fullmatch(group) for group in tensors):
        raise ValueError("keep is at least 1; groups of tensors have names of lower-case letters, digits and _")
    parent = Path(run_folder) / CHECKPOINTS
    ready = {group: _own_memory(named) for group, named in tensors.items()}
    check_free_space(parent, 2 * sum(tensor.nbytes for named in ready.values() for tensor in named.values()))
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    # The step may be there already: damaged, or saved right before an interruption. It goes when the new one is whole.
    revisions = [revision for number, revision, _ in _list(parent) if number == step]
    folder = parent / (f"ckpt-{step:06d}" + (f"-{max(revisions) + 1}" if revisions else ""))
    with building(folder) as temporary:
        for group, named in ready.items():
            save_tensors(temporary / f"{group}.safetensors", named, save_file)
        write_json(temporary / "meta.json", {"step": step, "best": best, "meta": meta})
    _prune(parent, step, keep)
    return folder


def _own_memory(named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors on the CPU of which no two share memory (tied weights), as safetensors asks."""
    seen: set[int] = set()
    ready = {}
    for name, tensor in named.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        ready[name] = tensor
    return ready


def _prune(parent: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` steps and the best."""
    found = _list(parent)
    newest = {number: folder for number, _, folder in found}  # of each step its last revision
    # A higher number than the one just saved was not gone on from, so it was bad or belongs to a discarded course.
    past = [number for number in newest if number <= step]
    marked = [number for number in past if _is_best(newest[number])]
    stay = {newest[number] for number in past[-keep:] + marked[-1:]}
    for _, _, folder in found:
        if folder not in stay:
            discard(folder)
            log.debug("deleted %s", folder)


def _is_best(folder: Path) -> bool:
    try:
        return bool(read_json(folder / "meta.json")["best"])
    except (InputError, KeyError, TypeError):
        return False


def _list(parent: Path) -> list[tuple[int, int, Path]]:
    """Return (step, revision, folder) of all checkpoints, ascending."""
    found = []
    for folder in parent.iterdir() if parent.is_dir() else ():
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append((int(match.group(1)), int(match.group(2) or 0), folder))
    return sorted(found)


def find_checkpoints(run_folder: PathLike) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints that verify, oldest first, and what is wrong with the others, one text a file."""
    whole, faults = [], []
    for step, _, folder in _list(Path(run_folder) / CHECKPOINTS):
        found = find_faults(folder)
        faults += found
        if not found:
            content = read_json(folder / "meta.json")
            whole.append(Checkpoint(folder, step, content["meta"], is_best=content["best"]))
    return whole, faults


def latest_checkpoint(run_folder: PathLike) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, or None when the run has none at all.

    What is wrong with newer ones goes to the log.

    Raises
    ------
    InputError
        E-CKPT when there are checkpoints and none is whole: a run is never silently begun again.
    """
    whole, faults = find_checkpoints(run_folder)
    for fault in faults:
        log.warning("bad checkpoint: %s", fault)
    if faults and not whole:
        raise InputError(
            "E-CKPT", f"no checkpoint is whole ({faults[0]})", path=run_folder,
            hint="restore the file named, or begin again in a new folder",
        )  # fmt: skip
    if faults:
        log.warning("going on from %s", whole[-1].folder)
    return whole[-1] if whole else None


def best_checkpoint(run_folder: PathLike) -> Checkpoint | None:
    """Return the checkpoint last saved as the best, or None when none was marked.

    Raises
    ------
    InputError
        E-CKPT when a checkpoint that may be the best is damaged.
    """
    whole, faults = find_checkpoints(run_folder)
    if faults:
        raise InputError("E-CKPT", f"damaged: {faults[0]}", path=run_folder)
    marked = [checkpoint for checkpoint in whole if checkpoint.is_best]
    return marked[-1] if marked else None
