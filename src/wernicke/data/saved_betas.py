"""Single-trial betas as plain files, one folder a subject: numbers, a table of trials, where the units lie.

- ``betas.npy``: (n_trials, n_units), float32;
- ``trials.tsv``: one line a trial, in the same order: ``subject``, ``sample_id``, ``run``, ``onset_s``, ``label``, ...;
- ``scores.parquet``, ``maps.zarr``, ``maps/``: one value a unit (`wernicke.data.maps`), among them ``mean_beta``;
- ``mask.nii.gz``: the voxels of ``betas.npy``, numpy's C order over the mask (volumes only).
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.checks import check_finite, check_folder
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording, Surface, Voxels
from wernicke.data.maps import read_maps, write_maps
from wernicke.data.tsv import numbers, read_tsv
from wernicke.store.files import PathLike, read_npy, write_bytes, write_npy, write_text

BETAS, TRIALS, MASK = "betas.npy", "trials.tsv", "mask.nii.gz"
_NUMBERS = ("onset_s", "n_repeats")


def write_betas(folder: PathLike, recording: Recording, maps: Mapping[str, np.ndarray] | None = None) -> None:
    """Write one subject's trials.

    Parameters
    ----------
    folder : path-like
        Files of the names above are replaced.
    recording : Recording
        One sample a trial, such as `wernicke.data.betas.lss_betas` returns.
    maps : mapping of str to array, shape (n_units,), optional
        Written beside ``mean_beta``, such as GLMsingle's ``R2``, or ``roi``.

    Raises
    ------
    InputError
        E-SHAPE (no matrix), and what `write_maps` raises.
    DiskFullError
    """
    folder, units = Path(folder), recording.units
    if recording.values.ndim != 2 or not (units is None or isinstance(units, (Voxels, Surface))):
        raise InputError("E-SHAPE", f"found values of shape {recording.values.shape}, expected (n_trials, n_units) of "
                         "voxels or vertices", field="recording")  # fmt: skip
    write_npy(folder / BETAS, np.asarray(recording.values, dtype=np.float32))
    table = recording.samples.copy()
    table.insert(0, "subject", recording.subject)
    write_text(folder / TRIALS, table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))
    mean = recording.values.mean(axis=0, dtype=np.float64)
    write_maps(folder, {"mean_beta": mean.astype(np.float32), **(maps or {})}, units)
    if isinstance(units, Voxels):
        import nibabel

        image = nibabel.Nifti1Image(units.mask.astype(np.uint8), units.affine)
        image.header.set_xyzt_units("mm")
        write_bytes(folder / MASK, gzip.compress(image.to_bytes(), 6, mtime=0))


def load_betas(folder: PathLike) -> Recording:
    """Read what `write_betas` wrote.

    Returns
    -------
    Recording
        A sample a trial; `samples` as they were written, `run` as text.

    Raises
    ------
    InputError
        E-REF (files missing), E-META (several subjects, a cell that is no number), E-SHAPE (another number of trials or
        units), E-NONFIN, and what the formats' readers raise.
    """
    folder = check_folder(folder)
    values = check_finite(read_npy(folder / BETAS), "betas", path=folder / BETAS)
    table = read_tsv(folder / TRIALS)
    missing = [name for name in ("subject", "sample_id", "run") if name not in table.columns]
    if missing:
        raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected `{missing[0]}`",
                         path=folder / TRIALS)  # fmt: skip
    subjects = list(dict.fromkeys(table["subject"]))
    if len(subjects) != 1 or subjects[0] is None:
        raise InputError("E-META", f"found {len(subjects)} subjects, expected one", path=folder / TRIALS)
    for name in _NUMBERS:
        if name in table.columns:
            table[name] = numbers(table, name, folder / TRIALS)
    if "n_repeats" in table.columns:
        table["n_repeats"] = table["n_repeats"].astype(int)
    if values.ndim != 2 or len(values) != len(table):
        raise InputError(
            "E-SHAPE", f"found shape {values.shape}, {TRIALS} has {len(table)} trials", path=folder / BETAS
        )
    _, units = read_maps(folder)
    return Recording(str(subjects[0]), values, pd.DataFrame(table.drop(columns="subject")), units=units)
