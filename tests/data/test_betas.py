"""Single-trial betas: LSS against nilearn's FirstLevelModel, GLMsingle's files by the names its code writes."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import tiny_bids as tiny
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording, Surface, Voxels
from wernicke.core.study import Events
from wernicke.data.betas import load_glmsingle, lss_betas

TR_S = 2.0
N = 100
MASK = tiny.MASK


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    onset = np.cumsum(np.random.default_rng(3).uniform(6, 12, 18)) - 4
    return pd.DataFrame({"onset": onset, "duration": 2.0, "trial_type": np.resize(["cat", "dog", "cat"], 18)})


@pytest.fixture(scope="module")
def simulated(events: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Simulated responses of known size to each trial: volumes (x, y, z, N) and sizes (n_trials, n_voxels)."""
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    rng = np.random.default_rng(0)
    sizes = rng.normal(3, 1, (len(events), MASK.sum()))
    times = np.arange(N) * TR_S
    x = np.column_stack([compute_regressor(np.array([[o], [2.0], [1.0]]), "glover", times)[0][:, 0]
                         for o in events["onset"]])  # fmt: skip
    volumes = np.full((*tiny.SHAPE, N), 1000, np.float64)
    volumes[MASK] += 10 * (x @ sizes).T + 0.02 * rng.standard_normal((MASK.sum(), N))
    return volumes, sizes


def recording(volumes: np.ndarray, runs: tuple[str, ...] = ("run-1",), keep: np.ndarray | None = None) -> Recording:
    values = np.concatenate([volumes[MASK].T] * len(runs))
    samples = pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(values))], "run": np.repeat(runs, N)})
    return Recording("01", values, samples, units=Voxels(MASK, tiny.AFFINE), tr_s=TR_S, keep=keep)


def to_events(table: pd.DataFrame, run: str = "run-1") -> Events:
    return Events(table.rename(columns={"onset": "onset_s", "duration": "duration_s"}).assign(run=run))


def nilearns(volumes: np.ndarray, events: pd.DataFrame, noise_model: str, trials: list[int]) -> np.ndarray:
    """nilearn's beta-series example: one trial renamed, all others left under their condition."""
    from nilearn.glm.first_level import FirstLevelModel

    image = nib.Nifti1Image(volumes, tiny.AFFINE)
    mask = nib.Nifti1Image(MASK.astype(np.uint8), tiny.AFFINE)
    found = []
    for row in trials:
        table = events.copy()
        table.loc[row, "trial_type"] = "thisone"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = FirstLevelModel(t_r=TR_S, mask_img=mask, noise_model=noise_model, minimize_memory=False)
            model.fit(image, events=table)
            found.append(model.compute_contrast("thisone", output_type="effect_size").get_fdata()[MASK])
    return np.array(found)


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_lss_is_nilearns(simulated, events: pd.DataFrame, noise_model: str) -> None:
    volumes, _ = simulated
    found = lss_betas(recording(volumes), to_events(events), noise_model=noise_model)  # type: ignore[arg-type]
    chosen = [0, 7, 17]
    reference = nilearns(volumes, events, noise_model, chosen)
    np.testing.assert_allclose(found.values[chosen], reference, rtol=1e-4, atol=1e-5)
    assert found.samples["label"].tolist() == events["trial_type"].tolist()
    assert (found.samples["n_repeats"] == 1).all()
    assert isinstance(found.units, Voxels)


@pytest.mark.parametrize("others", ["by_condition", "together"])
def test_simulated_sizes_come_back(simulated, events: pd.DataFrame, others: str) -> None:
    volumes, sizes = simulated
    found = lss_betas(recording(volumes), to_events(events), others=others, percent=False)  # type: ignore[arg-type]
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.values.T, sizes.T, strict=True)]
    assert np.median(r) > 0.9


def test_a_fit_of_one_run_knows_nothing_of_another(simulated, events: pd.DataFrame) -> None:
    volumes, _ = simulated
    both = Events(pd.concat([to_events(events).table, to_events(events.iloc[:9], "run-2").table]))
    found = lss_betas(recording(volumes, ("run-1", "run-2")), both)
    alone = lss_betas(recording(volumes), to_events(events))
    np.testing.assert_allclose(found.values[:18], alone.values, rtol=1e-6)
    assert found.samples["run"].tolist() == ["run-1"] * 18 + ["run-2"] * 9
    assert found.samples["sample_id"].is_unique


def test_confounds_censoring_and_chosen_trials(simulated, events: pd.DataFrame) -> None:
    volumes, _ = simulated
    nuisance = np.random.default_rng(5).standard_normal((N, 2))
    dirty = volumes + 40 * nuisance[:, 0]
    clean = lss_betas(recording(volumes), to_events(events), confounds={"run-1": nuisance}, percent=False)
    found = lss_betas(recording(dirty), to_events(events), confounds={"run-1": nuisance}, percent=False)
    np.testing.assert_allclose(found.values, clean.values, atol=1e-3)
    spiked = volumes.copy()
    spiked[..., 50] += 1e5
    keep = np.ones(N, bool)
    keep[50] = False
    censored = lss_betas(recording(spiked, keep=keep), to_events(events), percent=False)
    left_out = lss_betas(recording(volumes, keep=keep), to_events(events), percent=False)
    np.testing.assert_allclose(censored.values, left_out.values, rtol=1e-6)
    dogs = lss_betas(recording(volumes), to_events(events), trials=["dog"])
    every = lss_betas(recording(volumes), to_events(events))
    np.testing.assert_allclose(dogs.values, every.values[(events["trial_type"] == "dog").to_numpy()], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"trials": ["bird"]}, "no event of 'bird'; found cat, dog"),
        ({"onset": 199.9}, {}, "no kept volume of run run-1 sees trial"),
        ({"run": "run-7"}, {}, "run run-1 has no trial"),
        ({}, {"confounds": {}}, "no confounds of run 'run-1'"),
        ({}, {"confounds": {"run-1": np.ones((99, 2))}}, "found shape .99, 2."),
        ({}, {"hrf_model": "fir"}, "unknown value `fir`"),
    ],
)
def test_what_cannot_be(simulated, events: pd.DataFrame, change: dict, settings: dict, message: str) -> None:
    table = to_events(events).table.assign(**{"onset_s" if k == "onset" else k: v for k, v in change.items()})
    with pytest.raises(InputError, match=message):
        lss_betas(recording(simulated[0]), Events(table), **settings)


# GLMsingle ---------------------------------------------------------------------------------------------------------

TRIALS = pd.DataFrame({"run": [1, 1, 2, 2, 2], "label": list("abcab"), "stimulus_id": list("abcab")})
GRID = tiny.SHAPE


@pytest.fixture(scope="module")
def outputs() -> dict:
    """The dictionary of type D, with GLMsingle's keys and kinds (single precision; lists; None)."""
    rng = np.random.default_rng(0)
    betas = rng.standard_normal((*GRID, 5)).astype(np.float32)
    betas[0, 0, 0] = np.nan  # outside the brain
    return {
        "HRFindex": rng.integers(0, 20, GRID), "HRFindexrun": rng.integers(0, 20, (*GRID, 2)),
        "glmbadness": rng.random((*GRID, 11)), "pcvoxels": rng.random(GRID) > 0.5, "pcnum": 4,
        "xvaltrend": rng.random(11), "noisepool": rng.random(GRID) > 0.5,
        "pcregressors": [rng.random((30, 10)), rng.random((28, 10))], "betasmd": betas,
        "R2": rng.random(GRID).astype(np.float32), "R2run": rng.random((*GRID, 2)), "rrbadness": None,
        "FRACvalue": rng.random(GRID), "scaleoffset": rng.random((*GRID, 2)), "meanvol": rng.random(GRID),
    }  # fmt: skip


def as_npy(path: Path, content: dict) -> Path:
    np.save(path.with_suffix(".npy"), content, allow_pickle=True)  # type: ignore[arg-type]
    return path.with_suffix(".npy")


def as_hdf5(path: Path, content: dict) -> Path:
    """As GLMsingle's `save_glmsingle_outputs_h5` lays it out."""
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for key, value in content.items():
            if value is None:
                file.create_dataset(key, data=h5py.Empty("f"))
            elif isinstance(value, list):
                group = file.create_group(key)
                group.attrs["__glmsingle_ragged_list__"] = True
                for i, item in enumerate(value):
                    group.create_dataset(str(i), data=item)
            elif isinstance(value, np.ndarray):
                file.create_dataset(key, data=value)
            else:
                file.attrs[key] = value
    return path.with_suffix(".hdf5")


def as_mat(path: Path, content: dict) -> Path:
    """MATLAB 7.3: axes reversed, `modelmd` for the betas, HRFindex from 1."""
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        for key in ("R2", "FRACvalue", "meanvol"):
            file.create_dataset(key, data=content[key].T)
        file.create_dataset("modelmd", data=content["betasmd"].T)
        file.create_dataset("HRFindex", data=(content["HRFindex"] + 1.0).T)
    with path.with_suffix(".mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124, b" ") + b"\x00\x02IM")
    return path.with_suffix(".mat")


@pytest.mark.parametrize("write", [as_npy, as_hdf5, as_mat])
def test_glmsingle(tmp_path: Path, outputs: dict, write) -> None:
    path = write(tmp_path / "TYPED_FITHRF_GLMDENOISE_RR", outputs)
    found = load_glmsingle(path, TRIALS, subject="01", units=Voxels(MASK, tiny.AFFINE))
    np.testing.assert_array_equal(found.recording.values, outputs["betasmd"][MASK].T)
    for name in ("R2", "HRFindex", "FRACvalue"):
        np.testing.assert_allclose(found.maps[name], outputs[name][MASK])
    assert found.recording.samples["label"].tolist() == list("abcab")
    assert (found.recording.samples["n_repeats"] == 1).all()
    assert found.recording.tr_s is None


def test_glmsingle_of_a_surface(tmp_path: Path, outputs: dict) -> None:
    """Two-dimensional data come back as (units, 1, 1, trials)."""
    betas = np.random.default_rng(1).standard_normal((12, 1, 1, 5)).astype(np.float32)
    content = {"betasmd": betas, "R2": np.ones((12, 1, 1)), "HRFindex": np.zeros((12, 1, 1))}
    surface = Surface(np.ones(7, bool), np.ones(5, bool), "fsaverage5")
    found = load_glmsingle(as_npy(tmp_path / "a", content), TRIALS, subject="01", units=surface)
    np.testing.assert_array_equal(found.recording.values, betas[:, 0, 0].T)


@pytest.mark.parametrize(
    ("change", "trials", "message"),
    [
        ({}, TRIALS[:4], "found 5 trials, the table has 4"),
        ({"betasmd": None}, TRIALS, "expected `betasmd`"),
        (
            {"betasmd": np.ones((2, 2, 2, 5))},
            TRIALS,
            "found a grid of .2, 2, 2., the mask has .4, 5, 3. with 18 voxels",
        ),
        ({"R2": np.ones(3)}, TRIALS, "R2: found shape .3,., the betas have"),
        ({}, TRIALS.drop(columns="run"), "column `run` is missing"),
    ],
)
def test_glmsingle_that_does_not_fit(tmp_path: Path, outputs: dict, change: dict, trials, message: str) -> None:
    path = as_npy(tmp_path / "a", outputs | change)
    with pytest.raises(InputError, match=message):
        load_glmsingle(path, trials, subject="01", units=Voxels(MASK, tiny.AFFINE))


def test_glmsingle_with_voxels_it_left_out(tmp_path: Path, outputs: dict) -> None:
    everywhere = Voxels(np.ones(GRID, bool), tiny.AFFINE)
    with pytest.raises(InputError, match="E-NONFIN"):
        load_glmsingle(as_npy(tmp_path / "a", outputs), TRIALS, subject="01", units=everywhere)
