"""Principal components of encoding weights: which directions of the feature space the cortex spreads along.

After figure 4 of drama2brain (Nakagi, Matsuyama et al. 2024: the 5,000 voxels that Story predicts best by
cross-validation; the first three components explain 27.2, 13.7 and 7.6 % of the variance of six subjects' weights) and
Huth et al. 2012 (doi:10.1016/j.neuron.2012.10.014: group components judged on a subject who had no part in them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wernicke.core.checks import check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.encoding.group import PAPER_TOP_VOXELS


@dataclass(frozen=True)
class WeightPCA:
    """Components of the weights, voxels being the samples.

    Attributes
    ----------
    components : array, shape (n_components, n_features)
        Orthonormal, by variance; of each the entry with the largest absolute value is positive.
    explained : array, shape (n_components,)
        Share of the weights' variance over the kept voxels.
    scores : array, shape (n_kept, n_components)
        Of the kept voxels.
    mean : array, shape (n_features,)
        Mean weights over the kept voxels.
    voxels : array of int, shape (n_kept,)
        Which voxels were kept, ascending.
    null : array, shape (n_null, n_components)
        `explained` after the sign of every centred weight was drawn anew: no component in common is left, but each
        voxel's and each feature's weights stay as large as they are (parallel analysis by sign flips; Hong, Sheng and
        Dobriban 2020). Weights shuffled over voxels would not keep that some voxels' weights are larger than others',
        and then finds components where there are none.
    p : array, shape (n_components,)
        (1 + draws that reach `explained`) / (1 + draws); all 1 without draws. For weights whose errors are independent
        between features, as for principal components of features; and as if voxels were independent.
    """

    components: np.ndarray
    explained: np.ndarray
    scores: np.ndarray
    mean: np.ndarray
    voxels: np.ndarray
    null: np.ndarray
    p: np.ndarray

    @property
    def n_above_null(self) -> int:
        """Number of leading components with p at most .05."""
        above = self.p <= 0.05
        return len(above) if above.all() else int(above.argmin())

    def project(self, features: Any) -> np.ndarray:
        """Return how strongly items lie along each component, shape (n_items, n_components).

        Parameters
        ----------
        features : array-like, shape (n_items, n_features)
            The features of annotations (or pictures, words, ...) in the space of the weights: same model, same layer,
            and through the same reduction, if there was one.
        """
        features = check_matrix(features, "features")
        if features.shape[1] != self.components.shape[1]:
            raise InputError("E-SHAPE", f"found {features.shape[1]} features, expected {self.components.shape[1]} as "
                             "the weights have", field="features",
                             hint="apply the reduction that the encoding model's features went through")  # fmt: skip
        return features @ self.components.T

    def maps(self, weights: Any) -> np.ndarray:
        """Return the scores of all voxels, shape (n_components, n_voxels), for maps; NaN where a weight is NaN.

        Parameters
        ----------
        weights : array-like, shape (n_features, n_voxels)
        """
        weights = np.asarray(weights)
        # In the weights' own precision: a whole brain's are not copied.
        components = self.components.astype(np.result_type(weights, np.float32), copy=False)
        return components @ weights - (self.components @ self.mean)[:, None]


@dataclass(frozen=True)
class GroupWeightPCA:
    """Components over the voxels of several subjects.

    Attributes
    ----------
    group : WeightPCA
        Of all subjects' kept voxels stacked, each subject's weights centred and scaled to the same total variance;
        `scores` and `voxels` are of the stack, in the subjects' order.
    subjects : dict of str to WeightPCA
        Each subject's own components; their signs follow the group's.
    explained_by_group, explained_by_others : dict of str to array, shape (n_components,)
        Share of a subject's variance along the group's components, and along the components of all others without this
        subject, who cannot have shaped those.
    similarity : dict of str to array, shape (n_components,)
        Absolute cosine of a subject's k-th own component with the group's k-th.
    """

    group: WeightPCA
    subjects: dict[str, WeightPCA]
    explained_by_group: dict[str, np.ndarray]
    explained_by_others: dict[str, np.ndarray]
    similarity: dict[str, np.ndarray]


def weight_pca(
    weights: Any,
    cv: Any | None = None,
    *,
    top_voxels: int | None = PAPER_TOP_VOXELS,
    n_components: int = 10,
    n_null: int = 100,
    seed: int = 0,
) -> WeightPCA:
    """Find the principal components of encoding weights over voxels.

    Parameters
    ----------
    weights : array-like, shape (n_features, n_voxels)
        Of one band. Voxels with NaN are left out.
    cv : array-like, shape (n_voxels,), optional
        Cross-validated score on training rows, to choose voxels by; without it all are kept.
    top_voxels : int, optional
        The paper's rule: voxels with the highest `cv`; None keeps all.
    n_components : int
    n_null : int
        Draws for the null; 0 for none.
    seed : int

    Returns
    -------
    WeightPCA

    Raises
    ------
    InputError
        E-SHAPE, E-SIZE (more components than features or voxels), E-CONST, E-CFG.
    """
    table, voxels = _chosen(weights, cv, top_voxels)
    return _pca(table, voxels, n_components, n_null, seed)


def group_weight_pca(
    weights: Mapping[str, Any],
    cv: Mapping[str, Any] | None = None,
    *,
    top_voxels: int | None = PAPER_TOP_VOXELS,
    n_components: int = 10,
    n_null: int = 100,
    seed: int = 0,
) -> GroupWeightPCA:
    """Find components over the voxels of all subjects, and how well they hold in each.

    Parameters
    ----------
    weights : mapping of subject to array, shape (n_features, n_voxels of the subject)
        In one feature space: the same features, reduced by the same projection. Two subjects or more.
    cv : mapping of subject to array, shape (n_voxels,), optional
    top_voxels, n_components, n_null, seed
        As in `weight_pca`; voxels are chosen in each subject.

    Returns
    -------
    GroupWeightPCA
    """
    if len(weights) < 2:
        raise InputError("E-META", f"found {len(weights)} subject, expected at least 2", field="weights")
    if cv is not None and set(cv) != set(weights):
        raise InputError("E-META", f"found subjects {', '.join(cv)}, expected {', '.join(weights)}", field="cv")
    tables: dict[str, np.ndarray] = {}
    own: dict[str, WeightPCA] = {}
    for subject, values in weights.items():
        table, voxels = _chosen(values, None if cv is None else cv[subject], top_voxels, subject)
        if tables and table.shape[1] != next(iter(tables.values())).shape[1]:
            raise InputError("E-SHAPE", f"subject {subject} has {table.shape[1]} features, expected "
                             f"{next(iter(tables.values())).shape[1]} as the first", field="weights")  # fmt: skip
        own[subject] = _pca(table, voxels, n_components, n_null, seed)
        centred = table - table.mean(axis=0)
        tables[subject] = centred / np.linalg.norm(centred)
    group = _pca(np.concatenate(list(tables.values())), np.concatenate([pca.voxels for pca in own.values()]),
                 n_components, n_null, seed)  # fmt: skip
    others = {
        subject: _components(np.concatenate([tables[name] for name in tables if name != subject]), n_components)[0]
        for subject in tables
    }
    cosine = {subject: np.einsum("kp,kp->k", pca.components, group.components) for subject, pca in own.items()}
    return GroupWeightPCA(
        group=group,
        subjects={subject: _turned(pca, np.where(cosine[subject] < 0, -1.0, 1.0)) for subject, pca in own.items()},
        explained_by_group={subject: _share(table, group.components) for subject, table in tables.items()},
        explained_by_others={subject: _share(tables[subject], others[subject]) for subject in tables},
        similarity={subject: np.abs(values) for subject, values in cosine.items()},
    )


def best_voxels(cv: Any, top_voxels: int | None = PAPER_TOP_VOXELS) -> np.ndarray:
    """Return the numbers of the voxels with the highest score on training rows, ascending; None: of all with a score.

    Parameters
    ----------
    cv : array-like, shape (n_voxels,)
        NaN for voxels that are left out.
    top_voxels : int, optional
    """
    cv = np.asarray(cv, dtype=np.float64)
    voxels = np.flatnonzero(np.isfinite(cv))
    if top_voxels is None:
        return voxels
    check_range(top_voxels, "top_voxels", low=2)
    return np.sort(voxels[np.argsort(-cv[voxels], kind="stable")[:top_voxels]])


def _chosen(weights: Any, cv: Any | None, top_voxels: int | None, subject: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return the chosen voxels' weights, (n_kept, n_features) float64, and their numbers."""
    field = f"weights of {subject}" if subject else "weights"
    array = np.asarray(weights)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or 0 in array.shape:
        raise InputError("E-SHAPE", f"found {array.dtype} of shape {array.shape}, expected numbers of shape "
                         "(n_features, n_voxels)", field=field)  # fmt: skip
    usable = np.isfinite(array).all(axis=0)
    voxels = np.flatnonzero(usable)
    if cv is not None:
        cv = np.asarray(cv, dtype=np.float64)
        if cv.shape != (array.shape[1],):
            raise InputError("E-SHAPE", f"found shape {cv.shape}, expected ({array.shape[1]},), one score a voxel",
                             field="cv")  # fmt: skip
        voxels = best_voxels(np.where(usable, cv, np.nan), top_voxels)
    return array[:, voxels].T.astype(np.float64), voxels


def _pca(table: np.ndarray, voxels: np.ndarray, n_components: int, n_null: int, seed: int) -> WeightPCA:
    check_range(n_null, "n_null", low=0)
    components, explained = _components(table, n_components)
    mean = table.mean(axis=0)
    rng = derive_rng(seed, "weights null")
    null = np.empty((n_null, n_components))
    for i in range(n_null):
        signs = rng.integers(0, 2, size=table.shape, dtype=np.int8) * 2 - 1
        null[i] = _components((table - mean) * signs, n_components)[1]
    p = (1 + (null >= explained).sum(axis=0)) / (1 + n_null)
    return WeightPCA(components, explained, (table - mean) @ components.T, mean, voxels, null, p)


def _components(table: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return components (n_components, n_features), largest entries positive, and the shares of variance."""
    from scipy.linalg import eigh

    n_rows, n_features = table.shape
    smaller = min(n_rows - 1, n_features)
    check_range(n_components, "n_components", low=1)
    if n_components > smaller:
        raise InputError("E-SIZE", f"{n_components} components of {n_rows} voxels and {n_features} features, expected "
                         f"at most {smaller}", field="n_components")  # fmt: skip
    centred = table - table.mean(axis=0)
    total = float((centred**2).sum())
    if total <= 0:
        raise InputError("E-CONST", "all voxels have the same weights", field="weights")
    wide = n_features > n_rows
    gram = centred @ centred.T if wide else centred.T @ centred
    values, vectors = eigh(gram, subset_by_index=(len(gram) - n_components, len(gram) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    components = (centred.T @ vectors / np.sqrt(np.maximum(values, np.finfo(float).tiny))).T if wide else vectors.T
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(n_components), largest])[:, None]
    return components, np.maximum(values, 0.0) / total


def _share(table: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Share of a centred table's variance along orthonormal components."""
    return ((table @ components.T) ** 2).sum(axis=0) / (table**2).sum()


def _turned(pca: WeightPCA, signs: np.ndarray) -> WeightPCA:
    return WeightPCA(pca.components * signs[:, None], pca.explained, pca.scores * signs, pca.mean, pca.voxels, pca.null,
                     pca.p)  # fmt: skip
