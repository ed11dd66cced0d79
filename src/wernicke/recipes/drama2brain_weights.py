"""Along which directions of the features the weights of drama2brain's models vary: the paper's figure 4, as a table.

Weights are those of the full model, of each subject's voxels that training rows predict best. Bands that were reduced
are led back to the features; FIR weights are averaged over delays first, as in Huth et al. 2012.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.data.maps import ARRAYS, read_maps, write_maps
from wernicke.data.zarr_arrays import open_zarr
from wernicke.encoding.weights import WeightPCA, best_voxels, group_weight_pca, weight_pca
from wernicke.features.reduce import load_projection
from wernicke.recipes.drama2brain_bands import Band, Model, Subject
from wernicke.store.files import write_npy
from wernicke.store.run import RunFolder

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config

#: Draws of the null: enough for p < .05 of each component, and its mean share to two digits.
N_NULL = 20
GROUP = "group"


def check_components(
    config: Config, model: Model, features: Mapping[str, np.ndarray], subjects: Mapping[str, Subject]
) -> None:
    """Refuse more components than a band has columns or a subject has voxels, before anything is fitted.

    Raises
    ------
    InputError
        E-CFG.
    """
    most = {f"band {name}": int(band.pca or features[name].shape[1]) for name, band in model.language.items()}
    for name, subject in subjects.items():
        most[f"the best voxels of {name}"] = min(config.top_voxels, subject.recording.values.shape[1]) - 1
    least = min(most, key=most.__getitem__)
    if config.weight_pca > most[least]:
        raise InputError("E-CFG", f"found {config.weight_pca}, expected at most {most[least]}, the components that "
                         f"{least} can give", field="weight_pca")  # fmt: skip


def weight_tables(
    folder: RunFolder, config: Config, models: Sequence[Model], subjects: Sequence[str], scores: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Return the table of components, if the config asks for it; write them, and maps of each voxel's scores.

    Parameters
    ----------
    scores : DataFrame
        All units' maps (`drama2brain_encode_tables.read_scores`).

    Returns
    -------
    dict
        Empty, or ``weight_pca``: a row a band, subject (and ``group``, all subjects' voxels) and component: ``share``
        of the weights' variance over voxels; ``null_share`` and ``p`` of weights with signs drawn anew; of a subject,
        the share along the group's components and along those of all others, and |cosine| with the group's.
    """
    if not config.weight_pca:
        return {}
    parts = []
    for model in chosen_models(config, models, scores):
        maps: dict[str, dict[str, np.ndarray]] = {subject: {} for subject in subjects}
        for name, band in model.language.items():
            units = {subject: folder.path(f"subjects/{subject}/{model.name}") for subject in subjects}
            part, components = fit_band(config, name, band, units, maps)
            parts.append(part.assign(model=model.name, band=name))
            write_npy(folder.path(f"weight_pca/{model.name}/components_{name}.npy"), components)
        for subject, columns in maps.items():
            _, where = read_maps(folder.path(f"subjects/{subject}/{model.name}"))
            write_maps(folder.path(f"weight_pca/{model.name}/{subject}"), columns, where)
    table = pd.concat(parts, ignore_index=True)
    first = ["model", "band", "subject", "component"]
    return {"weight_pca": table[[*first, *(name for name in table if name not in first)]]}


def chosen_models(config: Config, models: Sequence[Model], scores: pd.DataFrame) -> list[Model]:
    """All models; in mono each band's one layer that training rows of all subjects together choose."""
    if config.reg_type == "multi":
        return list(models)
    cv = next(name for name in ("cv_r", "cv_r2") if name in scores)
    means = scores.groupby(["band", "model", "subject"], sort=False)[cv].mean().groupby(["band", "model"]).mean()
    best = {model for _, model in means.groupby("band").idxmax()}
    return [model for model in models if model.name in best]


def fit_band(
    config: Config, name: str, band: Band, units: Mapping[str, Path], maps: dict[str, dict[str, np.ndarray]]
) -> tuple[pd.DataFrame, np.ndarray]:
    """One band's rows of the table and components, (n_components, n_features); add every voxel's scores to `maps`."""
    features = coordinate_rows(next(iter(units.values())), name)
    weights = {}
    for subject, unit in units.items():
        table, _ = read_maps(unit)
        cv = table[next(column for column in ("cv_r", "cv_r2") if column in table)]
        weights[subject] = coordinates(unit, name, band, features)[:, best_voxels(cv, config.top_voxels)]
    settings: dict[str, Any] = {"n_components": config.weight_pca, "n_null": N_NULL, "seed": config.seed}
    if len(weights) == 1:
        ((subject, own),) = weights.items()
        of_all = weight_pca(own, **settings)
        rows, means = [component_rows(subject, of_all)], {subject: of_all.mean}
    else:
        group = group_weight_pca(weights, **settings)
        of_all, means = group.group, {subject: own.mean for subject, own in group.subjects.items()}
        rows = [
            component_rows(subject, own).assign(
                share_by_group=group.explained_by_group[subject], share_by_others=group.explained_by_others[subject],
                similarity=group.similarity[subject],
            )
            for subject, own in group.subjects.items()
        ]  # fmt: skip
        rows.append(component_rows(GROUP, of_all))
    for subject, unit in units.items():
        scored = replace(of_all, mean=means[subject]).maps(coordinates(unit, name, band, features))
        maps[subject] |= {f"{name}_pc{k + 1}": values for k, values in enumerate(scored.astype(np.float32))}
    components = of_all.components if features is None else of_all.components @ features
    return pd.concat(rows, ignore_index=True), components


def coordinates(unit: Path, name: str, band: Band, rows: np.ndarray | None) -> np.ndarray:
    """Return a unit's weights of one band in orthonormal coordinates of the features' space, (n_coordinates, n_voxels).

    Shares and scores are those of the weights led back to the features. The null is drawn in these coordinates: among
    more features than there were columns, any weights would seem to have something in common.
    """
    coef = np.asarray(open_zarr(unit / ARRAYS, f"coef_{name}")[...])
    if band.shifts_s is None:
        n_delays = len(band.delays_s or [])
        coef = coef.reshape(n_delays, -1, coef.shape[1]).mean(axis=0)
    if rows is None:
        return coef
    # A prediction is (x - mean) components' w, so components' w weigh the features.
    own = load_projection(projection_file(unit, name)).components
    if isinstance(own, np.ndarray) and np.array_equal(own, rows):
        return coef
    return np.asarray((own @ rows.T).T, dtype=coef.dtype) @ coef


def projection_file(unit: Path, name: str) -> Path:
    """Where a unit keeps what reduced a band."""
    return unit / f"projection_{name}.safetensors"


def coordinate_rows(unit: Path, name: str) -> np.ndarray | None:
    """Orthonormal rows, (n_coordinates, n_features), that span what a reduced band can weigh; None if not reduced."""
    if not projection_file(unit, name).exists():
        return None
    components = load_projection(projection_file(unit, name)).components
    if isinstance(components, np.ndarray):
        return components
    return np.asarray(np.linalg.qr(components.T.toarray())[0].T)


def component_rows(subject: str, pca: WeightPCA) -> pd.DataFrame:
    """One row a component, counted from 1."""
    n = len(pca.explained)
    return pd.DataFrame({
        "subject": subject, "component": np.arange(1, n + 1), "share": pca.explained,
        "null_share": pca.null.mean(axis=0), "p": pca.p, "n_voxels": len(pca.voxels),
    })  # fmt: skip
