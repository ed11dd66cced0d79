"""What both halves of the demo share: the recording, its preparation, its folds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wernicke.core.checks import check_range, suggest
from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from wernicke.core.recording import Recording
    from wernicke.core.split import Split
    from wernicke.core.study import Study


@dataclass(frozen=True)
class HaxbyData:
    """Where the recording is and how it is prepared.

    Parameters
    ----------
    root : path, optional
        The folder that ``nilearn.datasets.fetch_haxby`` made; None for the sample in the package.
    subject : str, optional
        Which of the folder's subjects.
    mask : str, optional
        ``vt``, ``brain``, ... or a file; see `wernicke.data.haxby.load_haxby`.
    detrend_order : int
        Degree of the polynomial drift removed from each run and voxel before z-scoring.
    """

    root: Path | None = None
    subject: str | None = None
    mask: str | None = None
    detrend_order: int = 2

    def __post_init__(self) -> None:
        check_range(self.detrend_order, "data.detrend_order", low=0, high=10)

    def load(self) -> Study:
        """Read the study (`wernicke.data.haxby.load_haxby`)."""
        from wernicke.data.haxby import load_haxby

        return load_haxby(self.root, subject=self.subject, mask=self.mask)


def check_sentences(sentences: Iterable[str], study: Study) -> None:
    """Refuse sentences that miss a category or name one that was not shown."""
    shown, given = set(study.stimuli.table["stimulus_id"]), set(sentences)
    for name in sorted(given - shown):
        raise InputError("E-CFG", f"`{name}` was not shown", field="sentences", hint=suggest(name, shown))
    missing = sorted(shown - given)
    if missing:
        raise InputError("E-CFG", f"no sentence for category `{missing[0]}`", field="sentences")


def leave_runs_out(samples: pd.DataFrame) -> list[Split]:
    """One run out at a time. The eight stimuli stand on both sides of every split, which is said, not hidden."""
    from wernicke.core.split import leave_one_group_out

    return list(leave_one_group_out(samples, "run", keys=("run",), accepted_leaks=("stimulus_id",)))


def average_blocks(recording: Recording, *, detrend_order: int, shift_s: float) -> Recording:
    """One response a block: the mean of its volumes, `shift_s` later.

    Before, each run and voxel loses its drift and is z-scored over the run's volumes, so a run that is left out is
    scaled by itself, without its labels.

    Returns
    -------
    Recording
        Trials: `sample_id` is the block's name, with its `run`, `stimulus_id`, `label` and `onset_s`, in order of time.

    Raises
    ------
    InputError
        E-CFG if `shift_s` is no whole TR.
    """
    import numpy as np
    import pandas as pd

    from wernicke.core.recording import Recording
    from wernicke.core.units import seconds_to_tr
    from wernicke.stats.detrend import detrend_runs

    (shift_tr,) = seconds_to_tr([shift_s], recording.tr_s or 0.0, "shift_s")
    responses = detrend_runs(recording.values, recording.runs, order=detrend_order)
    samples = recording.samples
    kept, rows = [], []
    for name, block in samples.dropna(subset=["block"]).groupby("block", sort=False):
        run = np.flatnonzero(recording.runs == block["run"].iloc[0])
        at = np.intersect1d(block.index.to_numpy() + shift_tr, run)
        rows.append(responses[at].mean(axis=0))
        kept.append(
            {"sample_id": f"{recording.subject}-{name}", **block.iloc[0][["run", "stimulus_id", "label", "onset_s"]]}
        )
    table = pd.DataFrame(kept)
    return Recording(recording.subject, np.stack(rows), table, units=recording.units)
