"""Fewer columns by PCA or sparse random projection, fitted on training rows only; saved without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.store.files import read_safetensors, write_safetensors
from wernicke.store.fingerprint import fingerprint_array


@dataclass(frozen=True)
class Projection:
    """A fitted linear map, ``(X - mean) @ components.T``.

    Parameters
    ----------
    kind : str
        ``"pca"`` or ``"srp"``.
    mean : array, shape (n_columns,)
        Of the training rows; zeros for ``"srp"``.
    components : array or CSR matrix, shape (n_components, n_columns)
    explained_variance_ratio : array, shape (n_components,)
        Of the training rows' variance; empty for ``"srp"``.
    """

    kind: str
    mean: np.ndarray
    components: Any
    explained_variance_ratio: np.ndarray

    @property
    def n_components(self) -> int:
        return int(self.components.shape[0])

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return X in fewer columns, (n_rows, n_components), in the dtype of X.

        Raises
        ------
        InputError
            E-SHAPE (other columns than at fitting), E-NONFIN.
        """
        X = check_matrix(X, "X")
        if X.shape[1] != len(self.mean):
            raise InputError("E-SHAPE", f"found {X.shape[1]} columns, fitted on {len(self.mean)}", field="X")
        if self.kind == "srp":
            return np.asarray((self.components @ X.T).T, X.dtype)
        return np.asarray((X - self.mean) @ self.components.T, X.dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the projection as one safetensors file."""
        arrays = {"mean": self.mean, "explained_variance_ratio": self.explained_variance_ratio}
        if self.kind == "pca":
            arrays["components"] = self.components
        else:
            arrays |= {"data": self.components.data, "indices": self.components.indices.astype(np.int64),
                       "indptr": self.components.indptr.astype(np.int64)}  # fmt: skip
        write_safetensors(path, arrays, {"kind": self.kind})


def load_projection(path: str | os.PathLike[str]) -> Projection:
    """Read what `Projection.save` wrote.

    Raises
    ------
    InputError
        E-REF, E-FMT, E-HDR, E-CKPT (arrays missing, or they do not fit one another).
    """
    from scipy.sparse import csr_matrix

    path = Path(path)
    arrays = read_safetensors(path)
    sparse = "data" in arrays
    names = ("mean", "explained_variance_ratio", *(("data", "indices", "indptr") if sparse else ("components",)))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError("E-CKPT", f"no `{missing[0]}`: not a projection", path=path)
    mean = arrays["mean"]
    try:
        if sparse:
            indptr = arrays["indptr"]
            components: Any = csr_matrix(
                (arrays["data"], arrays["indices"], indptr), shape=(len(indptr) - 1, len(mean))
            )
            components.check_format(full_check=True)
        else:
            components = arrays["components"]
            if components.ndim != 2 or components.shape[1] != len(mean):
                raise ValueError(f"components of shape {components.shape} for {len(mean)} columns")
    except (ValueError, TypeError, IndexError) as error:
        raise InputError("E-CKPT", f"its arrays do not fit one another ({error})", path=path) from None
    return Projection("srp" if sparse else "pca", mean, components, arrays["explained_variance_ratio"])


def fit_pca(X_train: np.ndarray, n_components: int, *, seed: int) -> Projection:
    """Fit scikit-learn's PCA on training rows.

    drama2brain's ``--reduce_dim pca 1280`` is ``n_components=1280, seed=42`` on all training rows, before delays.

    Parameters
    ----------
    X_train : array, shape (n_rows, n_columns)
    n_components : int
        At most the smaller of rows and columns.
    seed : int
        scikit-learn's `random_state`; it counts where its randomised solver is chosen (large matrices).

    Raises
    ------
    InputError
        E-CFG (more components than rows or columns), E-CONST (rows that do not differ), E-SHAPE, E-NONFIN.
    """
    from sklearn.decomposition import PCA

    X_train = check_matrix(X_train, "X_train")
    check_range(n_components, "n_components", low=1, high=min(X_train.shape))
    if not np.ptp(X_train, axis=0).any():
        raise InputError("E-CONST", "all training rows are equal", field="X_train")
    fitted = PCA(n_components=int(n_components), random_state=_state(seed)).fit(X_train)
    return Projection("pca", fitted.mean_, np.ascontiguousarray(fitted.components_), fitted.explained_variance_ratio_)


def fit_srp(X_train: np.ndarray, *, eps: float | None = None, n_components: int | None = None, seed: int) -> Projection:
    """Fit scikit-learn's sparse random projection for the shape of the training rows.

    drama2brain's ``--reduce_dim srp 0.1`` is ``eps=0.1, seed=42``; its 22,200 training rows give 8,578 columns.

    Parameters
    ----------
    X_train : array, shape (n_rows, n_columns)
    eps : float
        Distortion that the Johnson-Lindenstrauss bound allows; the number of columns follows from it and the rows.
    n_components : int
        In place of `eps`.
    seed : int
        scikit-learn's `random_state`.

    Raises
    ------
    InputError
        E-CFG (both or neither given, or the bound asks for more columns than there are), E-SHAPE, E-NONFIN.
    """
    from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

    X_train = check_matrix(X_train, "X_train")
    if (eps is None) == (n_components is None):
        raise InputError("E-CFG", "give one of eps and n_components", field="eps")
    if eps is not None:
        check_range(eps, "eps", low=0, high=1, low_open=True)
        n_components = int(johnson_lindenstrauss_min_dim(len(X_train), eps=eps)) if eps < 1 else 0
    width = X_train.shape[1]
    if not isinstance(n_components, (int, np.integer)) or not 1 <= n_components <= width:
        raise InputError("E-CFG", f"{n_components} columns asked for, found {width}", field="eps",
                         hint="a larger eps needs fewer; so few columns may need no reduction")  # fmt: skip
    fitted = SparseRandomProjection(n_components=int(n_components), random_state=_state(seed)).fit(X_train)
    return Projection("srp", np.zeros(width, X_train.dtype), fitted.components_.tocsr(), np.zeros(0))


def reduce_bands(
    features: Features,
    reductions: Mapping[str, tuple[str, float]],
    *,
    train_rows: Sequence[int] | np.ndarray,
    seed: int,
) -> tuple[Features, dict[str, Projection]]:
    """Reduce bands, each in its own way, by what the training rows show.

    Parameters
    ----------
    features : Features
    reductions : mapping of band to ("pca", n_components) or ("srp", eps)
        Bands not named stay as they are.
    train_rows : array of int, or of bool, shape (n_rows,)
        The rows to fit on, by number or as True; the others are only projected.
    seed : int

    Returns
    -------
    features : Features
    projections : dict of band to Projection

    Raises
    ------
    InputError
        E-REF (a band that is not there), E-CFG (an unknown reduction), E-SHAPE (rows that are not there), and what
        `fit_pca` and `fit_srp` raise.
    """
    rows = np.asarray(train_rows)
    n = len(features.index)
    if rows.dtype == bool and rows.shape == (n,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n:
        raise InputError("E-SHAPE", f"expected row numbers from 0 to {n - 1}, or {n} booleans of which some are True",
                         field="train_rows")  # fmt: skip
    bands = dict(features.bands)
    projections: dict[str, Projection] = {}
    for name, (kind, amount) in reductions.items():
        if name not in bands:
            raise InputError("E-REF", f"no band `{name}`; found {', '.join(bands)}", field="reductions")
        band = np.asarray(bands[name])
        if kind == "pca":
            if int(amount) != amount:
                raise InputError("E-CFG", f"found {amount!r} components, expected a whole number", field=name)
            projections[name] = fit_pca(band[rows], int(amount), seed=seed)
        elif kind == "srp":
            projections[name] = fit_srp(band[rows], eps=amount, seed=seed)
        else:
            raise InputError("E-CFG", f"unknown reduction `{kind}`", field=name, hint="known: pca, srp")
        bands[name] = projections[name].transform(band)
    done = {"reductions": {name: list(pair) for name, pair in reductions.items()}, "seed": seed,
            "train_rows_fingerprint": fingerprint_array(rows.astype(np.int64))}  # fmt: skip
    return Features(bands, features.index, {**features.provenance, "reduced": done}), projections


def _state(seed: int) -> int:
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError("E-CFG", f"found {seed!r}, expected a whole number from 0 to 4294967295", field="seed")
    return int(seed)
