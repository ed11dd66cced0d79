"""From the series that people have to what encoding models need: confounds, drifts, scale, trim and smoothing.

Each run by itself, so that nothing passes from one side of a split to the other. Confounds are fMRIPrep's, chosen by
nilearn's strategies; regression and filters are `nilearn.signal.clean`; the median filter is drama2brain's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_matrix, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.data.tsv import numbers, read_tsv

Model = Literal["basic", "power2", "derivatives", "full"]
STRATEGIES = ("motion", "high_pass", "wm_csf", "global_signal", "compcor", "ica_aroma", "scrub", "non_steady_state")
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_COLUMNS = 8192


@dataclass(frozen=True)
class Preprocess:
    """What is done to each run: smoothing, drift, confounds, censoring, scale, in this order.

    Parameters
    ----------
    smooth_fwhm_mm : float, optional
        Gaussian kernel's full width at half maximum; volumes only, over the whole grid, before the mask.
    trim_start_s, trim_end_s : float
        Seconds left out at a run's start and end, after the filters.
    confounds : list of str
        fMRIPrep's, by nilearn's strategies: motion, wm_csf, global_signal, compcor, ica_aroma, scrub (censors
        volumes), high_pass (fMRIPrep's cosines), non_steady_state.
    motion, wm_csf, global_signal : {"basic", "power2", "derivatives", "full"}
        How each is expanded; full motion is 24 columns.
    compcor : str
        anat_combined, anat_separated, temporal, temporal_anat_combined or temporal_anat_separated; needs high_pass.
    n_compcor : int, optional
        Components kept; all that fMRIPrep wrote by default.
    scrub_fd_mm, scrub_std_dvars : float
        A volume above either is censored.
    scrub_segment : int
        Stretches of fewer volumes between censored ones are censored too; 0: none.
    high_pass : {"none", "cosine", "butterworth", "median"}
        Drift removed from series and confounds alike.
    high_pass_hz : float
        Cutoff of cosine and butterworth.
    median_s : float
        Width of the running median that is subtracted; drama2brain has 120 s.
    detrend : bool
        Take a straight line off each voxel first.
    standardise : {"zscore", "centre", "none"}
        Over the run's kept volumes; z-scoring divides by the standard deviation with n - 1.
    """

    smooth_fwhm_mm: float | None = None
    trim_start_s: float = 0.0
    trim_end_s: float = 0.0
    confounds: list[str] = field(default_factory=list)
    motion: Model = "full"
    wm_csf: Model = "basic"
    global_signal: Model = "basic"
    compcor: str = "anat_combined"
    n_compcor: int | None = None
    scrub_fd_mm: float = 0.5
    scrub_std_dvars: float = 1.5
    scrub_segment: int = 5
    high_pass: Literal["none", "cosine", "butterworth", "median"] = "cosine"
    high_pass_hz: float = 0.01
    median_s: float = 120.0
    detrend: bool = True
    standardise: Literal["zscore", "centre", "none"] = "zscore"

    def __post_init__(self) -> None:
        for name in ("trim_start_s", "trim_end_s", "scrub_segment"):
            check_range(getattr(self, name), name, low=0)
        for name in ("high_pass_hz", "median_s", "scrub_fd_mm", "scrub_std_dvars"):
            check_range(getattr(self, name), name, low=0, low_open=True)
        if self.smooth_fwhm_mm is not None:
            check_range(self.smooth_fwhm_mm, "smooth_fwhm_mm", low=0, high=50, low_open=True)
        if self.n_compcor is not None:
            check_range(self.n_compcor, "n_compcor", low=1)
        check_option(self.high_pass, ("none", "cosine", "butterworth", "median"), "high_pass")
        check_option(self.standardise, ("zscore", "centre", "none"), "standardise")
        for name in self.confounds:
            check_option(name, STRATEGIES, "confounds")
        if "high_pass" in self.confounds and self.high_pass != "none":
            raise InputError("E-CFG", f"fMRIPrep's cosines (confounds: high_pass) and high_pass: {self.high_pass} both "
                             "remove drift", field="high_pass", hint="set high_pass to none")  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values, for the manifest."""
        return asdict(self)


@dataclass(frozen=True)
class PreparedRun:
    """One run after `prepare_run`.

    Parameters
    ----------
    values : array, shape (n_samples, n_units)
        float32; zeros in rows that are not kept.
    keep : array of bool, shape (n_samples,)
    record : dict
        What was done, in numbers: for the manifest.
    """

    values: np.ndarray
    keep: np.ndarray
    record: dict[str, Any]


def prepare_run(
    values: np.ndarray,
    tr_s: float,
    settings: Preprocess,
    *,
    confounds: pd.DataFrame | None = None,
    uncensored: np.ndarray | None = None,
) -> PreparedRun:
    """Clean one run.

    Parameters
    ----------
    values : array, shape (n_samples, n_units)
        Smoothed already, where that is asked for.
    tr_s : float
    settings : Preprocess
    confounds : DataFrame, n_samples rows, optional
        Regressed out together with the drift (Lindquist et al. 2019, Hum Brain Mapp 40: filters and regression one
        after the other bring back what was removed).
    uncensored : array of int, optional
        Rows that stay, nilearn's `sample_mask`.

    Raises
    ------
    InputError
        E-SHAPE (rows differ, or too few are left for the regressors), E-NONFIN, E-CFG (a median wider than the run).
    """
    values = check_matrix(values, "values")
    n = len(values)
    keep = kept_rows(n, tr_s, settings, uncensored)
    nuisance = None
    if confounds is not None and confounds.shape[1]:
        nuisance = check_matrix(confounds.to_numpy(dtype=np.float64), "confounds", n_rows=n)
    n_regressors = 0 if nuisance is None else nuisance.shape[1]
    if keep.sum() < n_regressors + 3:
        raise InputError("E-SHAPE", f"{int(keep.sum())} of {n} volumes are kept, too few for {n_regressors} confounds",
                         field="values", hint="trim or censor less, or choose fewer confounds")  # fmt: skip
    if settings.high_pass == "median":
        width = round(settings.median_s / tr_s)
        if not 2 <= width <= n:
            raise InputError("E-CFG", f"{settings.median_s:g} s are {width} volumes, the run has {n}", field="median_s")
        nuisance = None if nuisance is None else nuisance - running_median(nuisance, width)
    out = np.zeros((n, values.shape[1]), dtype=np.float32)
    for start in range(0, values.shape[1], _COLUMNS):
        part = values[:, start : start + _COLUMNS].astype(np.float64)
        if settings.high_pass == "median":
            part = part - running_median(part, width)
        part = _clean(part, tr_s, settings, nuisance, keep)
        out[keep, start : start + _COLUMNS] = _scaled(part, settings.standardise, values[:, start : start + _COLUMNS])
    names = [] if confounds is None else list(map(str, confounds.columns))
    record = {"n_volumes": n, "n_kept": int(keep.sum()), "confounds": names}
    return PreparedRun(out, keep, record)


def kept_rows(n: int, tr_s: float, settings: Preprocess, uncensored: np.ndarray | None = None) -> np.ndarray:
    """Return which of `n` volumes stay after trim and censoring, shape (n,); a volume begun in the trim goes."""
    times = np.arange(n) * tr_s
    keep = (times >= settings.trim_start_s - 1e-6) & (times < n * tr_s - settings.trim_end_s - 1e-6)
    if uncensored is not None:
        inside = np.zeros(n, dtype=bool)
        inside[np.asarray(uncensored)] = True
        keep &= inside
    return keep


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """Return each column's running median over `width` samples, shape as `values`; ends are mirrored.

    `scipy.ndimage.median_filter`: an even window reaches one sample further back than ahead.
    """
    from scipy.ndimage import median_filter

    # One call a column: scipy's fast rank filter is for one axis.
    return np.stack([median_filter(column, size=width) for column in np.ascontiguousarray(values.T)], axis=1)


def _clean(
    values: np.ndarray, tr_s: float, settings: Preprocess, nuisance: np.ndarray | None, keep: np.ndarray
) -> np.ndarray:
    """Return the kept rows, filtered and with confounds regressed out, by nilearn."""
    from nilearn.signal import clean

    filtered = settings.high_pass in ("cosine", "butterworth")
    if not filtered and not settings.detrend and nuisance is None:
        return values[keep]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return clean(
                values, detrend=settings.detrend, standardize=None, confounds=nuisance, standardize_confounds=True,
                sample_mask=None if keep.all() else np.flatnonzero(keep), t_r=tr_s,
                filter=settings.high_pass if filtered else False,
                high_pass=settings.high_pass_hz if filtered else None,
            )  # fmt: skip
    except ValueError as error:
        raise InputError("E-CFG", f"nilearn cannot clean this run: {error}", field="high_pass") from None


def _scaled(values: np.ndarray, standardise: str, before: np.ndarray) -> np.ndarray:
    if standardise == "none":
        return values
    values = values - values.mean(axis=0)
    if standardise == "centre":
        return values
    sd = values.std(axis=0, ddof=1)
    # A constant voxel leaves rounding noise, which must not be blown up to unit variance.
    flat = sd <= 1e-10 * np.abs(before).max(axis=0)
    return np.where(flat, 0.0, values / np.where(flat, 1.0, sd))


def load_confounds(
    images: Sequence[Path], settings: Preprocess, n_samples: int
) -> tuple[pd.DataFrame | None, np.ndarray | None]:
    """Read a run's confounds by nilearn's strategies.

    Parameters
    ----------
    images : sequence of Path
        fMRIPrep's series: one file, or both hemispheres'.
    settings : Preprocess
    n_samples : int

    Returns
    -------
    confounds : DataFrame, n_samples rows, or None
    uncensored : array of int, or None
        Rows that are kept.

    Raises
    ------
    InputError
        E-META (no confounds file, or a column is missing), E-SHAPE (another number of rows).
    """
    if not settings.confounds:
        return None, None
    from nilearn.interfaces import fmriprep

    # nilearn asks for a pair of GIFTI files inside a list, one a run.
    given: Any = str(images[0]) if len(images) == 1 else [[str(path) for path in images]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, uncensored = fmriprep.load_confounds(
                given, strategy=tuple(settings.confounds), motion=settings.motion, wm_csf=settings.wm_csf,
                global_signal=settings.global_signal, compcor=settings.compcor, scrub=settings.scrub_segment,
                n_compcor="all" if settings.n_compcor is None else settings.n_compcor,
                fd_threshold=settings.scrub_fd_mm, std_dvars_threshold=settings.scrub_std_dvars,
            )  # fmt: skip
    except (ValueError, KeyError, IndexError, OSError, TypeError) as error:
        raise InputError("E-META", f"nilearn cannot load confounds: {error}", path=images[0],
                         field="confounds") from None  # fmt: skip
    if isinstance(found, list):
        found, uncensored = found[0], uncensored[0]
    if found is not None and len(found) != n_samples:
        raise InputError("E-SHAPE", f"the confounds have {len(found)} rows, the series {n_samples} volumes",
                         path=images[0], field="confounds")  # fmt: skip
    return found, uncensored


def read_motion(path: Path, n_samples: int) -> pd.DataFrame | None:
    """Read the six head-motion parameters (`MOTION`, mm and radians) of fMRIPrep's confounds file; None without any.

    Raises
    ------
    InputError
        E-SHAPE (another number of rows), E-META (some of the columns are missing, a cell is no number).
    """
    table = read_tsv(path)
    if len(table) != n_samples:
        raise InputError("E-SHAPE", f"found {len(table)} rows, the series has {n_samples} volumes", path=path)
    if not set(MOTION) & set(table.columns):
        return None
    return pd.DataFrame({name: numbers(table, name, path) for name in MOTION})


def smooth_volumes(volumes: np.ndarray, affine: np.ndarray, fwhm_mm: float) -> np.ndarray:
    """Smooth each volume by a Gaussian, as `nilearn.image.smooth_img`.

    Parameters
    ----------
    volumes : array, shape (x, y, z, n_samples)
    affine : array, shape (4, 4)
    fwhm_mm : float

    Returns
    -------
    array, shape (x, y, z, n_samples), float32
    """
    import nibabel
    from nilearn.image import smooth_img

    return np.asarray(smooth_img(nibabel.Nifti1Image(volumes, affine), fwhm_mm).dataobj, dtype=np.float32)
