"""A model of milliseconds for the training loop's tests; run as a script it trains under torchrun or a killer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wernicke.core.seeds import derive_rng
from wernicke.decoding.fit import FitConfig, fit
from wernicke.decoding.parallel import process_group, rank
from wernicke.store.run import RunFolder


class Toy(nn.Module):
    """Frozen features, dropout, a trained layer, and batch statistics if asked for."""

    def __init__(self, dropout: float = 0.2, norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.frozen = nn.Linear(6, 8).requires_grad_(False)
            self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(8, 1)

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """Summed squared error; rows count by the number of words that they stand for."""
        x, y, weight = batch
        hidden = self.dropout(self.norm(torch.tanh(self.frozen(x))))
        error = (self.head(hidden)[:, 0] - y) ** 2
        return (error * weight).sum(), int(weight.sum())


class ToyData:
    """Noisy lines; the noise is drawn from (seed, epoch, row)."""

    def __init__(self, n: int = 37, seed: int = 0, noise: float = 0.1, name: str = "s", bad: int | None = None) -> None:
        rng = derive_rng(seed, name)
        self.x = rng.standard_normal((n, 6)).astype(np.float32)
        self.y = self.x.sum(1) + 0.1 * rng.standard_normal(n).astype(np.float32)
        self.weight = rng.integers(1, 5, n)
        self.noise, self.seed = noise, seed
        self.ids = [f"{name}{i:03d}" for i in range(n)]
        self.orders: list[list[int]] = []
        if bad is not None:
            self.x[bad] = np.nan

    def batch(self, rows: np.ndarray, epoch: int):
        self.orders.append(rows.tolist())
        noise = np.stack([derive_rng(self.seed, "toy", epoch, int(r)).standard_normal(6) for r in rows])
        x = self.x[rows] + self.noise * noise
        return (torch.tensor(x, dtype=torch.float32), torch.tensor(self.y[rows]), torch.tensor(self.weight[rows]))


CONFIG = FitConfig(epochs=4, batch_size=8, lr=0.02, accumulate=2, checkpoint_every_steps=3)


def train(folder: Path | None, config: FitConfig = CONFIG, **settings):
    """Train a toy in a run folder, which process 0 enters; return model and result."""
    model = Toy(settings.pop("dropout", 0.2), settings.pop("norm", False))
    data = settings.pop("data", None) or ToyData()
    valid = settings.pop("valid", ToyData(11, name="v", noise=0.0))
    if folder is None:
        return model, fit(model, model.loss, data, config, seed=3, valid=valid, **settings)
    if rank() != 0:
        return model, fit(model, model.loss, data, config, seed=3, valid=valid, run=RunFolder.open(folder), **settings)
    with RunFolder.create(folder, step="train", command=["test"], config={}, seed=3) as run:
        return model, fit(model, model.loss, data, config, seed=3, valid=valid, run=run, **settings)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    with process_group():
        if options.pop("folder", False):
            if rank() != 0:
                while not list(target.parent.glob("run/*.yaml")):
                    pass
            model, result = train(target.parent / "run", FitConfig(**options.pop("config")), **options)
        else:
            model, result = train(None, FitConfig(**options.pop("config")), **options)
        if rank() == 0:
            values = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
            target.write_text(json.dumps({"weights": values, "curve": result.curve, "stopped": result.stopped}))
