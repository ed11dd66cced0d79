"""Several processes under ``torchrun``: who am I, sums over all, one writer.

Only trainable parameters are synchronised, once a step, by one sum over all processes: the large models here are
frozen, so nothing would be gained by overlapping communication with the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that ``torchrun`` started (gloo on CPU, NCCL on GPUs); alone, do nothing."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized()
    if not alone:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        if not alone:
            dist.destroy_process_group()


def rank() -> int:
    """Return this process's number; 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(tensors: Iterable[Tensor]) -> None:
    """Replace tensors of one dtype and device, in place, by their sum over all processes."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Replace tensors, in place, by those of process 0."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()
