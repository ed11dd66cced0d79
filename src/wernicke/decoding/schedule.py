"""How to train and how it went: the settings and the result of `wernicke.decoding.fit.fit`, order and learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_option, check_range
from wernicke.core.seeds import derive_rng


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Parameters
    ----------
    epochs : int
        Passes over the data.
    max_steps : int, optional
        Stop after so many steps even if epochs are left.
    batch_size : int
        Samples a step, over all processes and micro-batches.
    accumulate : int
        Into how many micro-batches a process cuts its share of a step; doubled when memory does not suffice.
    lr, weight_decay, beta2 : float
        Of AdamW.
    schedule : {"constant", "cosine", "linear"}
        How the learning rate falls to 0 after `warmup_steps`.
    warmup_steps : int
        Steps of linear rise.
    max_grad_norm : float, optional
        Gradients are scaled down to this Euclidean norm.
    precision : {"fp32", "bf16"}
        bf16: automatic mixed precision; weights stay float32.
    validate_every_steps : int, optional
        None: at the end of each epoch.
    patience : int, optional
        Stop after so many validations in a row without a better one.
    checkpoint_every_steps : int, optional
        None: at the end of each epoch.
    on_nonfinite : {"stop", "skip"}
        A loss or gradient that is NaN or infinite ends the run (exit code 5), or its step is left out, at most five
        in a row.
    """

    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.0
    beta2: float = 0.999
    schedule: str = "cosine"
    warmup_steps: int = 0
    max_grad_norm: float | None = 1.0
    precision: str = "fp32"
    validate_every_steps: int | None = None
    patience: int | None = None
    checkpoint_every_steps: int | None = None
    on_nonfinite: str = "stop"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            check_range(getattr(self, name), name, low=1)
        for name in ("max_steps", "validate_every_steps", "patience", "checkpoint_every_steps"):
            if getattr(self, name) is not None:
                check_range(getattr(self, name), name, low=1)
        check_range(self.lr, "lr", low=0, low_open=True)
        check_range(self.weight_decay, "weight_decay", low=0)
        check_range(self.warmup_steps, "warmup_steps", low=0)
        check_option(self.schedule, ("constant", "cosine", "linear"), "schedule")
        check_option(self.precision, ("fp32", "bf16"), "precision")
        check_option(self.on_nonfinite, ("stop", "skip"), "on_nonfinite")


@dataclass
class FitResult:
    """How training went.

    Attributes
    ----------
    step : int
        Steps done.
    best_step : int or None
        Step with the lowest validation value, whose weights the model now has; None without validation.
    best_value : float
    stopped : {"done", "patience"}
    n_skipped : int
        Steps left out because of a non-finite loss.
    accumulate : int
        Micro-batches at the end; more than configured when memory ran out.
    curve : list of dict
        The learning curve: rows of step, epoch, loss, lr and grad_norm, and rows of step and valid.
    """

    step: int = 0
    best_step: int | None = None
    best_value: float = math.inf
    stopped: Literal["", "done", "patience"] = ""
    n_skipped: int = 0
    accumulate: int = 1
    n_worse: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def epoch_order(n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples in an epoch, shape (n_samples,)."""
    return derive_rng(seed, "order", epoch).permutation(n_samples)


def learning_rate(config: FitConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, n_steps - config.warmup_steps)
    return (
        config.lr * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.schedule]
    )
