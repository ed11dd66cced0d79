"""What a recipe may be asked to run a control through: the same fit and generate as the result itself."""

from __future__ import annotations

from typing import Protocol

from wernicke.core.results import Captions, Predictions
from wernicke.core.split import Split
from wernicke.core.study import Study


class Control(Protocol):
    """A pure function of (study, split, seed) that returns altered inputs, such as a shuffled pairing."""

    name: str

    def __call__(self, study: Study, split: Split, seed: int) -> Study: ...


class FitPredict(Protocol):
    """Fit on the training side, predict the test side: encoding."""

    def __call__(self, study: Study, split: Split, seed: int) -> Predictions: ...


class FitGenerate(Protocol):
    """Fit on the training side, write captions for the test side: decoding. Targets of the test side are not passed."""

    def __call__(self, study: Study, split: Split, seed: int) -> Captions: ...
