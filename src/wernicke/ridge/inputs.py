"""What every solver checks before it computes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import check_finite_tensor, to_torch


def check_xy(Xs: Sequence[Any], Y: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return bands and responses as tensors of one precision after checking shapes, finiteness and constant targets."""
    bands = [to_torch(X) for X in Xs]
    if not bands:
        raise InputError("E-SHAPE", "found no feature band, expected at least one", field="X")
    n_samples = bands[0].shape[0] if bands[0].ndim else 0
    for i, band in enumerate(bands):
        name = "X" if len(bands) == 1 else f"X[{i}]"
        if band.ndim != 2 or 0 in band.shape or band.shape[0] != n_samples:
            raise InputError(
                "E-SHAPE", f"found shape {tuple(band.shape)}, expected ({n_samples or 'n_samples'}, n_features) "
                "with at least one feature", field=name, hint="leave out bands of width 0",
            )  # fmt: skip
        check_finite_tensor(band, name)
    responses = to_torch(Y)
    if responses.ndim != 2 or responses.shape[0] != n_samples or responses.shape[1] == 0:
        raise InputError(
            "E-SHAPE", f"found shape {tuple(responses.shape)}, expected ({n_samples}, n_targets), one row a row of X",
            field="Y",
        )  # fmt: skip
    check_finite_tensor(responses, "Y")
    dtype = bands[0].dtype
    return [band.to(bands[0].device, dtype) for band in bands], responses


def check_constant(Y: torch.Tensor, first: int = 0) -> None:
    """Refuse targets without any variance: no cross-validation can choose for them. `first` numbers the first one."""
    same = (Y[:2] == Y[0]).all(0).nonzero()[:, 0]
    constant = same[(Y[:, same] == Y[0, same]).all(0)]
    if len(constant):
        raise InputError(
            "E-CONST", f"found {len(constant)} of {Y.shape[1]} targets that are constant, the first at index "
            f"{int(constant[0]) + first}", field="Y", hint="leave these voxels out: mask = Y.std(axis=0) > 0",
        )  # fmt: skip


def check_alphas(alphas: Any) -> np.ndarray:
    """Return the grid sorted, (n_alphas,) float64, all above 0."""
    grid = np.atleast_1d(to_torch(alphas).detach().cpu().numpy()).astype(np.float64)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or (grid <= 0).any():
        raise InputError("E-CFG", f"found {grid.tolist()}, expected positive finite numbers", field="alphas")
    return np.sort(grid)
