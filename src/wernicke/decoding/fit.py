"""The one training loop.

Notable choices
---------------
- What a step does is a function of (seed, epoch, step, process) alone: the order of samples, the noise that a data set
  draws, dropout. So nothing of a loader needs saving, and a run that was killed ends in the same bytes.
- A loss is a *sum* and a *count*. Gradients of sums are added over micro-batches and processes and divided once by the
  count of all: accumulation and several processes change the result by rounding only, also when the number of tokens
  differs between micro-batches.
- Only trainable parameters, and buffers, are optimised, saved and synchronised.
- Every checkpoint holds the best weights so far beside the current ones, and can therefore be gone on from alone.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from wernicke.core.errors import InputError, Interrupted, NonFiniteLossError, WernickeError
from wernicke.core.seeds import derive_rng
from wernicke.decoding.exposure import Exposure
from wernicke.decoding.parallel import copy_from_first, rank, sum_over_processes, wait_for_all, world_size
from wernicke.decoding.schedule import FitConfig, FitResult, epoch_order, learning_rate
from wernicke.decoding.weights import check_same, load_weights, trained_weights
from wernicke.store.checkpoint import latest_checkpoint, save_checkpoint
from wernicke.store.fingerprint import fingerprint
from wernicke.store.interrupt import GracefulExit
from wernicke.store.run import RunFolder
from wernicke.store.state import pack_state, unpack_state

__all__ = ["Data", "FitConfig", "FitResult", "fit"]

log = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 5
_NO_MEMORY = ("not enough memory", "can't allocate memory")


class Data(Protocol):
    """What the loop asks of a data set."""

    @property
    def ids(self) -> Sequence[str]:
        """One sample id a row; named when something goes wrong."""
        ...

    def batch(self, rows: np.ndarray, epoch: int) -> Any:
        """Return what the loss takes; random changes are drawn from (seed, epoch, row) alone."""
        ...


def fit(
    model: nn.Module,
    loss: Callable[[Any], tuple[Tensor, int]],
    data: Data,
    config: FitConfig,
    *,
    seed: int,
    valid: Data | Callable[[], float] | None = None,
    run: RunFolder | None = None,
    stage: str = "",
    exposure: Exposure | None = None,
    allow_inexact: bool = False,
) -> FitResult:
    """Train the model's trainable parameters; afterwards it has the best weights, in evaluation mode.

    Under ``torchrun``, inside `parallel.process_group`, all processes call this with the same arguments.

    Parameters
    ----------
    model : nn.Module
        On its device already.
    loss : callable
        Takes what ``data.batch`` returns; gives the summed loss and the number of terms in it.
    data : Data
        Training samples.
    config : FitConfig
    seed : int
        Of the order, and of dropout.
    valid : Data or callable, optional
        Held-out samples (their mean loss decides), or a function that returns a value of which less is better.
    run : RunFolder, optional
        Where metrics and checkpoints go; with checkpoints in it, training goes on from the newest that verifies.
        Entered by process 0 only.
    stage : str
        Name of this stage when a run has several; its checkpoints lie in a folder of that name.
    exposure : Exposure, optional
        What this and earlier stages saw; default: the ids of `data` and `valid` as samples.
    allow_inexact : bool
        Go on from a checkpoint made with another number of threads or processes; results then agree to rounding only.

    Returns
    -------
    FitResult

    Raises
    ------
    NonFiniteLossError
        Naming the samples of the step. The last checkpoint stays.
    InputError
        E-CKPT: the run's checkpoints were made with other settings, data or seed.
    Interrupted
        After SIGINT or SIGTERM, when a checkpoint is written.
    """
    loop = _Loop(model, loss, data, config, seed, valid, run, stage, exposure, allow_inexact)
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices), GracefulExit() as stop:
        loop.resume()
        loop.train(stop)
    loop.restore_best()
    model.eval()
    return loop.result


class _Loop:
    """The state of one call of `fit`."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any], tuple[Tensor, int]],
        data: Data,
        config: FitConfig,
        seed: int,
        valid: Data | Callable[[], float] | None,
        run: RunFolder | None,
        stage: str,
        exposure: Exposure | None,
        allow_inexact: bool,
    ) -> None:
        self.model, self.loss, self.data, self.config, self.seed = model, loss, data, config, seed
        self.valid, self.run, self.allow_inexact = valid, run, allow_inexact
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("E-CFG", "no parameter is trainable", field="model")
        if not len(data.ids):
            raise InputError("E-META", "no samples to train on", field="data")
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay
        )
        self.steps_per_epoch = math.ceil(len(data.ids) / config.batch_size)
        self.n_steps = min(config.epochs * self.steps_per_epoch, config.max_steps or math.inf)
        self.key = f"{stage}_step" if stage else "step"
        self.folder = run.path(stage) if run is not None and stage else (run.folder if run is not None else None)
        held_out = [] if valid is None or callable(valid) else list(valid.ids)
        self.exposure = exposure or Exposure.of(samples=[*data.ids, *held_out])
        self.result = FitResult(accumulate=config.accumulate)
        self.best: dict[str, Tensor] = {}
        ours = trained_weights(model)
        self.buffers = [ours[name] for name, _ in model.named_buffers() if name in ours]
        self.before: list[Tensor] = []
        self.skipped_in_a_row = 0
        self.last_loss = math.nan
        self.saved_step = -1

    # -- weights and checkpoints -------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from."""
        return {
            "seed": self.seed,
            "config": asdict(self.config),
            "data": fingerprint(list(map(str, self.data.ids))),
            "threads": torch.get_num_threads(),
            "processes": world_size(),
        }

    def resume(self) -> None:
        checkpoint = latest_checkpoint(self.folder) if self.folder is not None else None
        if checkpoint is not None:
            check_same(self.identity(), checkpoint.meta["identity"], checkpoint.folder,
                       allow_inexact=self.allow_inexact)  # fmt: skip
            load_weights(self.model, checkpoint.tensors("model"), checkpoint.folder)
            packed = checkpoint.meta["optimizer"]
            self.optimizer.load_state_dict(unpack_state(checkpoint.tensors("state"), packed))
            progress = unpack_state({}, checkpoint.meta["progress"])
            self.skipped_in_a_row = progress.pop("skipped_in_a_row")
            self.result = FitResult(**progress)
            if self.result.best_step is not None:
                self.best = checkpoint.tensors("best", str(self.device))
            self.saved_step = self.result.step
            log.info("going on after step %d", self.result.step)
            if rank() == 0 and self.run is not None:
                self.run.rewind_metrics(self.result.step, self.key)
                # A file holds NaN as text.
                self.result.curve = [{name: float(v) if isinstance(v, str) else v for name, v in row.items()}
                                     for row in self.run.read_metrics() if self.key in row]  # fmt: skip
        elif rank() == 0 and self.run is not None:
            self.run.rewind_metrics(-1, self.key)
        copy_from_first(trained_weights(self.model).values())
        wait_for_all()

    def save(self, *, best: bool = False) -> None:
        if rank() == 0 and self.folder is not None and (best or self.saved_step != self.result.step):
            tensors, packed = pack_state(self.optimizer.state_dict())
            groups = {"model": trained_weights(self.model), "state": tensors} | (
                {"best": self.best} if self.best else {}
            )
            progress = {k: v for k, v in vars(self.result).items() if k != "curve"}
            progress["skipped_in_a_row"] = self.skipped_in_a_row
            meta = {"identity": self.identity(), "optimizer": packed, "progress": pack_state(progress)[1],
                    "exposure": self.exposure.to_meta(), "key": self.key}  # fmt: skip
            save_checkpoint(self.folder, self.result.step, groups, meta, best=best)
        self.saved_step = self.result.step
        wait_for_all()

    def restore_best(self) -> None:
        if self.best:
            load_weights(self.model, self.best)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def train(self, stop: GracefulExit) -> None:
        bar = tqdm(total=self.n_steps, initial=self.result.step, desc="train", unit="step",
                   disable=None if rank() == 0 else True)  # fmt: skip
        with bar:
            while not self.result.stopped:
                asked = self.one_step(stop.requested)
                self.after_step()
                bar.update()
                bar.set_postfix_str(f"loss {self.last_loss:.3f}")
                if asked and not self.result.stopped:
                    self.save()
                    text = f"interrupted after step {self.result.step}; the same command goes on from there"
                    stop.leave(text)
                    raise Interrupted(text, signal.SIGTERM)  # another process was asked

    def one_step(self, asked: bool) -> bool:
        """Do one step; return whether any process was asked to stop."""
        step = self.result.step
        epoch, within = divmod(step, self.steps_per_epoch)
        rows = epoch_order(len(self.data.ids), self.seed, epoch)
        rows = rows[within * self.config.batch_size :][: self.config.batch_size]
        self.model.train()
        self.before = [buffer.clone() for buffer in self.buffers]
        total, count = self.gradients(rows[rank() :: world_size()], epoch, step)
        sums = torch.tensor([total, count, float(asked)], dtype=torch.float64)
        sums = sums.to(self.device) if world_size() > 1 and self.device.type == "cuda" else sums
        sum_over_processes([sums])
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        sum_over_processes(gradients)
        total, count, n_asked = sums.tolist()
        for gradient in gradients:
            gradient.div_(count)
        limit = self.config.max_grad_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))
        mean = total / count if count else math.nan
        lr = learning_rate(self.config, step, int(self.n_steps))
        finite = math.isfinite(mean) and math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.result.step += 1
        self.last_loss = mean
        self.note({"epoch": epoch, "loss": mean, "lr": lr, "grad_norm": norm})
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if not finite:
            self.restore_buffers()
            self.handle_nonfinite(rows, mean, norm)
        return n_asked > 0

    def gradients(self, rows: np.ndarray, epoch: int, step: int) -> tuple[float, float]:
        """Add up gradients of the summed loss over micro-batches; halve these while memory does not suffice."""
        while True:
            torch.manual_seed(int(derive_rng(self.seed, "torch", step, rank()).integers(2**62)))
            try:
                return self.accumulate(rows, epoch)
            except (RuntimeError, MemoryError) as error:
                size = math.ceil(len(rows) / self.result.accumulate)
                if not _is_out_of_memory(error):
                    raise
                if size <= 1:
                    raise WernickeError(f"out of memory with one sample at a time: {error}") from error
                # Outside `except`, nothing may hold the graph of the failed attempt.
                reason = str(error)
            self.optimizer.zero_grad(set_to_none=True)
            self.restore_buffers()
            self.result.accumulate *= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("out of memory (%s): micro-batches halved, %d a step; results agree to rounding only",
                        reason.splitlines()[0] if reason else "no reason given", self.result.accumulate)  # fmt: skip

    def restore_buffers(self) -> None:
        """Undo what a failed step did to batch statistics."""
        with torch.no_grad():
            for buffer, value in zip(self.buffers, self.before, strict=True):
                buffer.copy_(value)

    def accumulate(self, rows: np.ndarray, epoch: int) -> tuple[float, float]:
        total, count = 0.0, 0.0
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        for part in self.parts(rows):
            with self.autocast():
                value, n_terms = self.loss(self.data.batch(part, epoch))
            value.backward()
            total, count = total + float(value.detach()), count + float(n_terms)
        return total, count

    def parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        n_parts = min(self.result.accumulate, len(rows))
        return iter(np.array_split(rows, n_parts)) if n_parts else iter(())

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.config.precision == "bf16" else nullcontext()

    def handle_nonfinite(self, rows: np.ndarray, mean: float, norm: float) -> None:
        ids = [str(self.data.ids[row]) for row in rows]
        text = (f"step {self.result.step}: loss {mean}, gradient norm {norm}; samples {', '.join(ids[:8])}"
                + (f" and {len(ids) - 8} more" if len(ids) > 8 else ""))  # fmt: skip
        if self.config.on_nonfinite == "stop" or self.skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteLossError(text)
        self.result.n_skipped += 1
        log.warning("%s; left out", text)

    def after_step(self) -> None:
        step, config = self.result.step, self.config
        last = step >= self.n_steps
        improved = False
        if self.valid is not None and (self.is_due(config.validate_every_steps) or last):
            improved = self.validate()
        if last:
            self.result.stopped = "done"
        if improved or self.result.stopped or self.is_due(config.checkpoint_every_steps):
            self.save(best=improved)

    def is_due(self, every: int | None) -> bool:
        return self.result.step % (self.steps_per_epoch if every is None else every) == 0

    def validate(self) -> bool:
        """Validate; return whether it was the best so far."""
        copy_from_first(self.buffers)
        self.model.eval()
        value = self.valid() if callable(self.valid) else self.validation_loss()
        self.note({"valid": value})
        if value < self.result.best_value:
            self.result.best_value, self.result.best_step, self.result.n_worse = value, self.result.step, 0
            self.best = {name: tensor.detach().clone() for name, tensor in trained_weights(self.model).items()}
            return True
        self.result.n_worse += 1
        if self.config.patience is not None and self.result.n_worse >= self.config.patience:
            self.result.stopped = "patience"
        return False

    @torch.no_grad()
    def validation_loss(self) -> float:
        sums = torch.zeros(2, dtype=torch.float64)
        rows = np.arange(len(self.valid.ids))[rank() :: world_size()]  # type: ignore[union-attr]
        size = max(1, self.config.batch_size // (self.result.accumulate * world_size()))
        for start in range(0, len(rows), size):
            with self.autocast():
                total, count = self.loss(self.valid.batch(rows[start : start + size], 0))  # type: ignore[union-attr]
            sums += torch.tensor([float(total), float(count)], dtype=torch.float64)
        sums = sums.to(self.device) if world_size() > 1 and self.device.type == "cuda" else sums
        sum_over_processes([sums])
        return float(sums[0] / sums[1])

    def note(self, values: dict[str, Any]) -> None:
        """Add a row to the learning curve and to the run's metrics."""
        row = {self.key: self.result.step, **values}
        self.result.curve.append(row)
        if rank() == 0 and self.run is not None:
            self.run.append_metrics(row)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(t in str(error) for t in _NO_MEMORY)
