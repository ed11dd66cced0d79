"""Optimizer and generator states as tensors and plain values, so that a checkpoint needs no pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import torch

_MARKS = ("$tensor", "$items", "$tuple", "$float")


def pack_state(state: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Split a nested state (``optimizer.state_dict()``) into named tensors and a value that JSON can hold.

    Dicts with keys of any plain type, lists, tuples, numbers (infinity included), text, None and tensors are kept
    exactly; anything else is refused with a TypeError.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}

    def pack(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = f"t{len(tensors):05d}"
            tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value) and not any(mark in value for mark in _MARKS):
                # Sorted, as JSON is: an optimizer orders its state differently once it has been loaded.
                return {key: pack(value[key]) for key in sorted(value)}
            return {"$items": [[pack(key), pack(item)] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"$tuple": [pack(item) for item in value]}
        if isinstance(value, list):
            return [pack(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": str(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"a state holds {type(value).__name__}, which is neither a tensor nor a plain value")

    return tensors, pack(state)


def unpack_state(tensors: Mapping[str, torch.Tensor], packed: Any) -> Any:
    """Put together again what `pack_state` split.

    Raises
    ------
    InputError
        E-CKPT when a tensor is missing.
    """

    def unpack(value: Any) -> Any:
        if isinstance(value, list):
            return [unpack(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        if "$tensor" in value:
            if value["$tensor"] not in tensors:
                raise InputError("E-CKPT", f"tensor {value['$tensor']} of the state is missing")
            return tensors[value["$tensor"]]
        if "$items" in value:
            return {unpack(key): unpack(item) for key, item in value["$items"]}
        if "$tuple" in value:
            return tuple(unpack(item) for item in value["$tuple"])
        if "$float" in value:
            return float(value["$float"])
        return {key: unpack(item) for key, item in value.items()}

    return unpack(packed)


def rng_tensors() -> dict[str, torch.Tensor]:
    """Return the states of torch's generators (CPU and each CUDA device), named ``rng_cpu``, ``rng_cuda_0``, ..."""
    import torch

    states = {"rng_cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states.update({f"rng_cuda_{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())})
    return states


def restore_rng(tensors: Mapping[str, torch.Tensor]) -> None:
    """Set torch's generators to what `rng_tensors` returned; other names are ignored.

    Raises
    ------
    InputError
        E-CKPT when the CPU generator's state is missing, or the number of CUDA devices is another one.
    """
    import torch

    if "rng_cpu" not in tensors:
        raise InputError("E-CKPT", "the state of torch's generator is missing")
    torch.set_rng_state(tensors["rng_cpu"].cpu())
    cuda = sorted(name for name in tensors if name.startswith("rng_cuda_"))
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cuda and len(cuda) != present:
        raise InputError("E-CKPT", f"was saved with {len(cuda)} CUDA devices, found {present}")
    for name in cuda:
        torch.cuda.set_rng_state(tensors[name].cpu(), int(name.removeprefix("rng_cuda_")))
