"""Preprocessing of a run, against nilearn, scipy and plain least squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage

import tiny_bids as tiny
from wernicke.core.errors import InputError
from wernicke.data.confounds import Preprocess, kept_rows, load_confounds, prepare_run, read_motion, running_median

TR_S = 1.5
N = 90


@pytest.fixture(scope="module")
def run() -> np.ndarray:
    rng = np.random.default_rng(0)
    drift = np.linspace(0, 40, N)[:, None] + 5 * np.sin(np.arange(N) / 40)[:, None]
    return (500 + drift + rng.standard_normal((N, 7))).astype(np.float32)


@pytest.fixture(scope="module")
def confounds() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(rng.standard_normal((N, 4)), columns=list("abcd"))


def zscored(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(axis=0)
    return values / values.std(axis=0, ddof=1)


def test_cosine_and_confounds_are_one_regression(run: np.ndarray, confounds: pd.DataFrame) -> None:
    """nilearn's drift basis, our own least squares."""
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    settings = Preprocess(high_pass="cosine", high_pass_hz=0.02, detrend=False)
    found = prepare_run(run, TR_S, settings, confounds=confounds)
    basis = np.column_stack([create_cosine_drift(0.02, np.arange(N) * TR_S), confounds])
    residual = run - basis @ np.linalg.lstsq(basis, run.astype(float), rcond=None)[0]
    np.testing.assert_allclose(found.values, zscored(residual), atol=2e-5)
    assert found.keep.all()
    assert found.record == {"n_volumes": N, "n_kept": N, "confounds": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("high_pass", ["cosine", "butterworth"])
@pytest.mark.parametrize("trim_s", [0.0, 9.0])
def test_equal_to_nilearns_clean(run: np.ndarray, confounds: pd.DataFrame, high_pass: str, trim_s: float) -> None:
    from nilearn.signal import clean

    settings = Preprocess(high_pass=high_pass, trim_start_s=trim_s, trim_end_s=trim_s)  # type: ignore[arg-type]
    found = prepare_run(run, TR_S, settings, confounds=confounds)
    rows = np.arange(6, N - 6) if trim_s else np.arange(N)
    reference = clean(run.astype(float), detrend=True, standardize="zscore_sample", confounds=confounds.to_numpy(),
                      sample_mask=rows, t_r=TR_S, filter=high_pass, high_pass=0.01)  # fmt: skip
    np.testing.assert_allclose(found.values[rows], reference, atol=2e-5)
    np.testing.assert_array_equal(np.flatnonzero(found.keep), rows)
    assert (found.values[~found.keep] == 0).all()


def test_drama2brains_median(run: np.ndarray) -> None:
    """Run mean off, 120-s running median off, first 20 s dropped; no scaling (specification 1.1)."""
    long = np.vstack([run, run[::-1] * 1.01])
    settings = Preprocess(high_pass="median", median_s=120, trim_start_s=20, standardise="none", detrend=False)
    found = prepare_run(long, 1.0, settings)
    centred = long - long.mean(axis=0, dtype=np.float64)
    reference = centred - scipy.ndimage.median_filter(centred, size=(120, 1))
    np.testing.assert_allclose(found.values[20:], reference[20:], atol=1e-4)
    assert not found.keep[:20].any()
    assert found.keep[20:].all()


@pytest.mark.parametrize("width", [4, 5])
def test_running_median_by_hand(width: int) -> None:
    values = np.random.default_rng(2).standard_normal((12, 2))
    mirrored = np.vstack([values[:width][::-1], values, values[-width:][::-1]])
    by_hand = [np.median(mirrored[width + i - width // 2 : width + i - width // 2 + width], axis=0) for i in range(12)]
    if width % 2:
        np.testing.assert_allclose(running_median(values, width), by_hand)
    else:  # an even window's median is the upper of the two middle values in scipy, not their mean
        np.testing.assert_allclose(
            running_median(values, width), scipy.ndimage.median_filter(values, size=(width, 1)), atol=0
        )


def test_median_is_taken_off_the_confounds_too(run: np.ndarray, confounds: pd.DataFrame) -> None:
    settings = Preprocess(high_pass="median", median_s=30, detrend=False)
    found = prepare_run(run, TR_S, settings, confounds=confounds)
    nuisance = confounds.to_numpy() - scipy.ndimage.median_filter(confounds.to_numpy(), size=(20, 1))
    residual = run - scipy.ndimage.median_filter(run.astype(float), size=(20, 1))
    nuisance = (nuisance - nuisance.mean(axis=0)) / nuisance.std(axis=0)
    residual = residual - nuisance @ np.linalg.lstsq(nuisance, residual, rcond=None)[0]
    np.testing.assert_allclose(found.values, zscored(residual), atol=2e-5)


@pytest.mark.parametrize("standardise", ["centre", "none"])
def test_scale(run: np.ndarray, standardise: str) -> None:
    settings = Preprocess(high_pass="none", detrend=False, standardise=standardise)  # type: ignore[arg-type]
    expected = run - run.mean(axis=0) if standardise == "centre" else run
    np.testing.assert_allclose(prepare_run(run, TR_S, settings).values, expected, atol=1e-3)


def test_a_constant_voxel_stays_zero(run: np.ndarray) -> None:
    values = run.copy()
    values[:, 2] = 1234.5
    for high_pass in ("none", "cosine", "butterworth", "median"):
        found = prepare_run(values, TR_S, Preprocess(high_pass=high_pass))  # type: ignore[arg-type]
        assert (found.values[:, 2] == 0).all(), high_pass
        assert np.abs(found.values).max() < 100


def test_voxels_do_not_touch_one_another(run: np.ndarray, confounds: pd.DataFrame) -> None:
    settings = Preprocess()
    together = prepare_run(run, TR_S, settings, confounds=confounds).values
    alone = prepare_run(run[:, 3:4], TR_S, settings, confounds=confounds).values
    np.testing.assert_allclose(together[:, 3:4], alone, atol=1e-6)


def test_trim_counts_volumes_begun() -> None:
    settings = Preprocess(trim_start_s=4.0, trim_end_s=3.0)
    np.testing.assert_array_equal(kept_rows(10, 2.0, settings), [0, 0, 1, 1, 1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(kept_rows(4, 2.0, Preprocess(), np.array([0, 3])), [1, 0, 0, 1])


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({"trim_start_s": 132.0}, N, "2 of 90 volumes are kept, too few for 4 confounds"),
        ({"high_pass": "median", "median_s": 600.0}, N, "600 s are 400 volumes, the run has 90"),
        ({}, N - 1, "found 89 rows, expected 90"),
    ],
)
def test_too_little(run: np.ndarray, confounds: pd.DataFrame, settings: dict, rows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_run(run, TR_S, Preprocess(**settings), confounds=confounds[:rows])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confounds": ["moton"]}, "did you mean `motion`"),
        ({"confounds": ["motion", "high_pass"]}, "both remove drift"),
        ({"high_pass": "fir"}, "unknown value `fir`"),
        ({"standardise": "psc"}, "unknown value `psc`"),
        ({"trim_start_s": -1.0}, "trim_start_s: found -1.0"),
        ({"smooth_fwhm_mm": 0.0}, "smooth_fwhm_mm"),
        ({"high_pass_hz": float("nan")}, "high_pass_hz"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocess(**settings)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series' name with fMRIPrep's confounds beside it; nilearn goes by the name alone."""
    path = tmp_path / f"sub-01_task-a_space-{tiny.MNI}_desc-preproc_bold.nii.gz"
    path.write_bytes(b"")
    tiny.write_confounds(tmp_path / "sub-01_task-a_desc-confounds_timeseries.tsv", 30, 0)
    return path


def table_of(series: Path) -> Path:
    return series.parent / "sub-01_task-a_desc-confounds_timeseries.tsv"


def test_strategies_are_nilearns(series: Path) -> None:
    found, kept = load_confounds([series], Preprocess(confounds=["motion", "wm_csf"]), 30)
    assert found is not None
    assert kept is None
    assert found.shape == (30, 26)
    assert {"csf", "white_matter", "rot_z_derivative1_power2"} <= set(found.columns)
    assert load_confounds([series], Preprocess(), 30) == (None, None)


def test_scrubbing_censors(series: Path) -> None:
    table = pd.read_csv(table_of(series), sep="\t")
    table.loc[[10, 20], "framewise_displacement"] = 3.0
    table.to_csv(table_of(series), sep="\t", index=False, na_rep="n/a")
    settings = Preprocess(confounds=["motion", "scrub"], motion="basic", scrub_segment=0)
    _, kept = load_confounds([series], settings, 30)
    assert kept is not None
    assert sorted(set(range(30)) - set(kept.tolist())) == [10, 20]


def test_hemispheres_share_their_confounds(series: Path) -> None:
    pair = [series.with_name(f"sub-01_task-a_hemi-{h}_space-fsaverage5_bold.func.gii") for h in "LR"]
    for path in pair:
        path.write_bytes(b"")
    found, _ = load_confounds(pair, Preprocess(confounds=["motion"], motion="basic"), 30)
    assert found is not None
    assert list(found.columns) == ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"]


def test_motion_parameters(series: Path) -> None:
    six = tiny.write_confounds(table_of(series), 30, 5)
    found = read_motion(table_of(series), 30)
    assert found is not None
    np.testing.assert_allclose(found, six)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda s: table_of(s).unlink(), {}, "Could not find associated confound file"),
        (lambda s: None, {"confounds": ["ica_aroma"]}, "nilearn cannot load confounds"),
        (lambda s: None, {"confounds": ["compcor"]}, "nilearn cannot load confounds"),
        (lambda s: None, {"confounds": ["global_signal"]}, "global_signal"),
        (lambda s: tiny.write_confounds(table_of(s), 29, 0), {}, "have 29 rows, the series 30"),
    ],
)
def test_confounds_that_do_not_fit(series: Path, change, settings: dict, message: str) -> None:
    change(series)
    with pytest.raises(InputError, match=message) as caught:
        load_confounds([series], Preprocess(**{"confounds": ["motion"], **settings}), 30)
    assert str(caught.value).count("\n") <= 1


def test_motion_with_a_missing_value(series: Path) -> None:
    text = table_of(series).read_text().splitlines()
    cells = text[4].split("\t")
    cells[0] = "n/a"
    table_of(series).write_text("\n".join([*text[:4], "\t".join(cells), *text[5:]]))
    with pytest.raises(InputError, match="trans_x: line 5 holds 'n/a'"):
        read_motion(table_of(series), 30)
