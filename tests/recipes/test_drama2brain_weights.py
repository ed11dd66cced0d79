"""Components of the weights, by command: against scikit-learn's PCA of weights led back to the features by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.data.maps import write_maps
from wernicke.features.reduce import fit_pca, fit_srp
from wernicke.recipes.config import build, load_config
from wernicke.recipes.drama2brain_bands import Band, Model, Subject
from wernicke.recipes.drama2brain_encode import Config
from wernicke.recipes.drama2brain_weights import check_components, chosen_models, fit_band

N_FEATURES, N_VOXELS = 20, 90
MODEL = Model("all", {})


def config(**flags: str) -> Config:
    _, values, path = load_config("drama2brain_multi")
    words = [word for key, value in flags.items() for word in (f"--{key}", value)]
    return build(Config, values, path, ["--weight_pca", "3", "--top_voxels", "60", *words], "test")


def band(**changes) -> Band:
    return Band(**{"model": "tiny", "layer": 1, "annotation": "story", **changes})


def planted(seed: int, n_columns: int) -> np.ndarray:
    """Simulated weights that vary along two directions, the same for all seeds, and a little along all."""
    directions = np.random.default_rng(9).standard_normal((n_columns, 2))
    rng = np.random.default_rng(seed)
    return directions @ (rng.standard_normal((2, N_VOXELS)) * [[3], [1.5]]) + rng.standard_normal((n_columns, N_VOXELS))


def units(folder: Path, coefs: dict[str, np.ndarray], projection=None) -> dict[str, Path]:
    made = {}
    for i, (subject, coef) in enumerate(coefs.items()):
        cv = np.random.default_rng([i, 5]).random(N_VOXELS)
        cv[3], coef[:, 3] = np.nan, np.nan  # a constant voxel
        made[subject] = folder / subject / "all"
        write_maps(made[subject], {"cv_r2": cv, "coef_Story": coef.astype(np.float32)}, None)
        if projection is not None:
            projection.save(made[subject] / "projection_Story.safetensors")
    return made


def top(unit: Path) -> np.ndarray:
    cv = pd.read_parquet(unit / "scores.parquet")["cv_r2"].to_numpy()
    return np.sort(np.argsort(np.where(np.isnan(cv), -np.inf, cv))[-60:])


@pytest.mark.parametrize("kind", ["none", "pca", "srp", "fir"])
def test_shares_maps_and_components_are_scikit_learns(kind: str, tmp_path: Path):
    X = np.random.default_rng(1).standard_normal((300, N_FEATURES)) * np.linspace(0.5, 3, N_FEATURES)
    projection = {"pca": fit_pca(X, 8, seed=0), "srp": fit_srp(X, n_components=10, seed=0)}.get(kind)
    n_columns = {"none": N_FEATURES, "pca": 8, "srp": 10, "fir": 2 * N_FEATURES}[kind]
    one = band(delays_s=[4.0, 6.0]) if kind == "fir" else band()
    coef = planted(0, n_columns)
    made = units(tmp_path, {"DM01": coef}, projection)
    maps: dict[str, dict[str, np.ndarray]] = {"DM01": {}}
    table, components = fit_band(config(), "Story", one, made, maps)

    if projection is not None:
        dense = projection.components.toarray() if kind == "srp" else projection.components
        coef = dense.T @ coef
    elif kind == "fir":
        coef = (coef[:N_FEATURES] + coef[N_FEATURES:]) / 2
    kept = top(made["DM01"])
    reference = PCA(3, svd_solver="full").fit(coef[:, kept].T)
    signs = np.sign((components * reference.components_).sum(axis=1))
    np.testing.assert_allclose(table["share"], reference.explained_variance_ratio_, rtol=1e-5)
    np.testing.assert_allclose(components, reference.components_ * signs[:, None], atol=1e-5)
    expected = reference.transform(np.nan_to_num(coef).T) * signs
    expected[3] = np.nan
    for k in range(3):
        np.testing.assert_allclose(maps["DM01"][f"Story_pc{k + 1}"], expected[:, k], atol=1e-3)
    assert table["p"][0] == 1 / 21
    assert table["share"][0] > 1.5 * table["null_share"][0]
    assert set(table["n_voxels"]) == {60}


def test_subjects_share_components_that_others_hold_too(tmp_path: Path):
    coefs = {"DM01": planted(1, N_FEATURES), "DM03": 5 * planted(2, N_FEATURES)}
    coefs["DM06"] = np.random.default_rng(8).standard_normal((N_FEATURES, N_VOXELS))  # nothing in common
    made = units(tmp_path, coefs)
    maps: dict[str, dict[str, np.ndarray]] = {subject: {} for subject in coefs}
    table, components = fit_band(config(), "Story", band(), made, maps)
    first = table[table["component"] == 1].set_index("subject")
    assert list(first.index) == ["DM01", "DM03", "DM06", "group"]
    assert first.loc[["DM01", "DM03"], "share_by_others"].min() > 0.3 > 0.15 > first.loc["DM06", "share_by_others"]
    assert first.loc[["DM01", "DM03"], "similarity"].min() > 0.9
    stacked = []
    for subject, coef in coefs.items():
        own = coef[:, top(made[subject])].astype(np.float32).T.astype(float)
        own = own - own.mean(axis=0)
        stacked.append(own / np.linalg.norm(own))
    reference = PCA(3, svd_solver="full").fit(np.concatenate(stacked))
    np.testing.assert_allclose(table.loc[table["subject"] == "group", "share"], reference.explained_variance_ratio_,
                               rtol=1e-6)  # fmt: skip
    kept = top(made["DM03"])
    scores = (coefs["DM03"][:, kept].T - coefs["DM03"][:, kept].mean(axis=1)) @ components.T
    np.testing.assert_allclose(maps["DM03"]["Story_pc1"][kept], scores[:, 0], atol=1e-3)


def test_weights_without_anything_in_common_are_not_called_components(tmp_path: Path):
    """Reduced to 8 columns of 20: among the features any 8 directions hold all the variance."""
    X = np.random.default_rng(1).standard_normal((300, N_FEATURES))
    noise = np.random.default_rng(4).standard_normal((8, N_VOXELS))
    made = units(tmp_path, {"DM01": noise}, fit_pca(X, 8, seed=0))
    table, _ = fit_band(config(), "Story", band(), made, {"DM01": {}})
    assert table["p"].iloc[0] > 0.05


def test_mono_takes_the_one_layer_that_all_subjects_training_rows_choose():
    models = [Model(f"Story-tiny-layer{k}", {"Story": band(layer=k)}) for k in (1, 2, 3)]
    means = {1: (0.3, 0.0), 2: (0.2, 0.2), 3: (0.0, 0.3)}
    rows = [{"band": "Story", "model": f"Story-tiny-layer{k}", "subject": subject, "cv_r": cv}
            for k, both in means.items() for subject, cv in zip(("DM01", "DM03"), both, strict=True)]  # fmt: skip
    scores = pd.DataFrame(rows)
    mono = config(reg_type="mono")
    assert [model.name for model in chosen_models(mono, models, scores)] == ["Story-tiny-layer2"]
    assert chosen_models(config(), [MODEL], scores) == [MODEL]


def test_too_many_components_are_refused_before_anything_is_fitted():
    samples = pd.DataFrame({"sample_id": ["a", "b"], "run": [1, 1]})
    subjects = {"DM01": Subject(Recording("DM01", np.zeros((2, 5), np.float32), samples), "")}
    model, features = Model("all", {"Story": band(), "Noise": band(nuisance=True)}), {"Story": np.zeros((2, 20))}
    with pytest.raises(InputError, match="weight_pca: found 5, expected at most 4, .* the best voxels of DM01"):
        check_components(config(weight_pca="5"), model, features, subjects)
    with pytest.raises(InputError, match="weight_pca: found 3, expected at most 2, .* band Story"):
        check_components(config(), Model("all", {"Story": band(pca=2)}), features, subjects)
    check_components(config(weight_pca="4"), model, features, subjects)


def test_subjects_fitted_elsewhere_may_have_turned_reductions(tmp_path: Path):
    """Two machines may give principal components of other signs or order: the features are the same."""
    X = np.random.default_rng(1).standard_normal((300, N_FEATURES))
    projection = fit_pca(X, 8, seed=0)
    coefs = {"DM01": planted(1, 8), "DM03": planted(2, 8)}
    same = units(tmp_path / "same", {name: coef.copy() for name, coef in coefs.items()}, projection)
    turn = np.diag([-1.0, 1, 1, -1, 1, 1, 1, 1])[::-1]
    made = units(tmp_path / "turned", coefs | {"DM03": turn @ coefs["DM03"]}, projection)
    replace(projection, components=turn @ projection.components).save(made["DM03"] / "projection_Story.safetensors")
    expected, found = (fit_band(config(), "Story", band(), where, {"DM01": {}, "DM03": {}}) for where in (same, made))
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    np.testing.assert_allclose(found[0]["share"], expected[0]["share"], rtol=1e-5)
