"""Reductions against scikit-learn, numpy's SVD, and what test rows must not change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.random_projection import SparseRandomProjection

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.reduce import fit_pca, fit_srp, load_projection, reduce_bands

RNG = np.random.default_rng(0)
X = (RNG.standard_normal((60, 40)) * np.linspace(3, 0.1, 40) + 5).astype(np.float32)


def test_pca_is_scikit_learns_and_the_svd():
    found = fit_pca(X, 7, seed=42)
    reference = PCA(7, random_state=42).fit(X)
    np.testing.assert_allclose(found.transform(X), reference.transform(X), rtol=1e-4, atol=1e-4)
    centred = X.astype(float) - X.mean(0, dtype=float)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.transform(X)), np.abs(centred @ vt[:7].T), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.explained_variance_ratio, s[:7] ** 2 / (s**2).sum(), rtol=1e-4)


def test_srp_is_scikit_learns():
    wide = RNG.standard_normal((30, 900)).astype(np.float32)
    reference = SparseRandomProjection(eps=0.5, random_state=42).fit(wide)
    found = fit_srp(wide, eps=0.5, seed=42)
    assert found.n_components == reference.n_components_
    np.testing.assert_allclose(found.transform(wide), reference.transform(wide), rtol=1e-4, atol=1e-5)
    assert fit_srp(wide, n_components=9, seed=0).transform(wide).shape == (30, 9)


def test_drama2brains_number_of_columns():
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    # The authors' comment: 22,200 rows give 8,578 columns at eps .1 and 2,309 at .2.
    assert [int(johnson_lindenstrauss_min_dim(22_200, eps=e)) for e in (0.1, 0.2)] == [8578, 2309]


def test_only_training_rows_count():
    index = pd.DataFrame({"run": ["1"] * 60, "onset_s": np.arange(60.0)})
    wide = RNG.standard_normal((60, 900)).astype(np.float32)
    train = np.arange(40)
    ways = {"a": ("pca", 5), "b": ("srp", 0.5)}
    first, fitted = reduce_bands(Features({"a": X, "b": wide, "c": X}, index), ways, train_rows=train, seed=1)
    changed = {"a": X.copy(), "b": wide.copy(), "c": X}
    for band in ("a", "b"):
        changed[band][40:] = RNG.standard_normal(changed[band][40:].shape) * 100
    second, _ = reduce_bands(Features(changed, index), ways, train_rows=train, seed=1)
    for band in ("a", "b"):
        np.testing.assert_array_equal(first.bands[band][:40], second.bands[band][:40])
        assert np.abs(first.bands[band][40:] - second.bands[band][40:]).max() > 1
        assert first.bands[band].dtype == np.float32
    np.testing.assert_array_equal(first.bands["c"], X)
    np.testing.assert_allclose(fitted["a"].mean, X[:40].mean(0), rtol=1e-5)
    assert first.provenance["reduced"]["reductions"] == {"a": ["pca", 5], "b": ["srp", 0.5]}


@pytest.mark.parametrize("kind", ["pca", "srp"])
def test_saved_and_loaded(tmp_path, kind):
    fitted = fit_pca(X, 5, seed=0) if kind == "pca" else fit_srp(X, n_components=6, seed=0)
    fitted.save(tmp_path / "p.safetensors")
    fitted.save(tmp_path / "q.safetensors")
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()
    again = load_projection(tmp_path / "p.safetensors")
    assert again.kind == kind
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_a_file_whose_arrays_do_not_fit(tmp_path):
    from wernicke.store.files import write_safetensors

    path = tmp_path / "p.safetensors"
    none = np.zeros(0)
    for arrays in (
        {"mean": np.zeros(3)},
        {"mean": np.zeros(3), "explained_variance_ratio": none, "components": np.zeros((2, 4))},
        {"mean": np.zeros(3), "explained_variance_ratio": none, "data": np.ones(1), "indices": np.array([9]),
         "indptr": np.array([0, 1])},
    ):  # fmt: skip
        write_safetensors(path, arrays)
        with pytest.raises(InputError) as caught:
            load_projection(path)
        assert caught.value.code == "E-CKPT"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: fit_pca(X, 41, seed=0), "E-CFG"),
        (lambda: fit_pca(X, 0, seed=0), "E-CFG"),
        (lambda: fit_pca(X, 3, seed=-1), "E-CFG"),
        (lambda: fit_pca(np.ones((9, 3)), 1, seed=0), "E-CONST"),
        (lambda: fit_pca(np.full((9, 3), np.nan), 1, seed=0), "E-NONFIN"),
        (lambda: fit_pca(X, 3, seed=0).transform(X[:, :4]), "E-SHAPE"),
        (lambda: fit_srp(X, eps=0.1, seed=0), "E-CFG"),
        (lambda: fit_srp(X, seed=0), "E-CFG"),
        (lambda: fit_srp(X, eps=0.1, n_components=3, seed=0), "E-CFG"),
    ],
)
def test_refused(call, code):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("reductions", "rows", "code"),
    [
        ({"z": ("pca", 2)}, range(9), "E-REF"),
        ({"a": ("ica", 2)}, range(9), "E-CFG"),
        ({"a": ("pca", 2.5)}, range(9), "E-CFG"),
        ({"a": ("pca", 2)}, [], "E-SHAPE"),
        ({"a": ("pca", 2)}, [60], "E-SHAPE"),
        ({"a": ("pca", 2)}, [False] * 60, "E-SHAPE"),
        ({"a": ("pca", 2)}, [True] * 59, "E-SHAPE"),
    ],
)
def test_bands_that_cannot_be_reduced(reductions, rows, code):
    features = Features({"a": X}, pd.DataFrame({"run": ["1"] * 60, "onset_s": np.arange(60.0)}))
    with pytest.raises(InputError) as caught:
        reduce_bands(features, reductions, train_rows=list(rows), seed=0)
    assert caught.value.code == code


def test_training_rows_as_booleans():
    features = Features({"a": X}, pd.DataFrame({"run": ["1"] * 60, "onset_s": np.arange(60.0)}))
    chosen = np.arange(60) % 3 > 0
    (a, _), (b, _) = (reduce_bands(features, {"a": ("pca", 2)}, train_rows=rows, seed=0)
                      for rows in (chosen, np.flatnonzero(chosen)))  # fmt: skip
    np.testing.assert_array_equal(a.bands["a"], b.bands["a"])
    assert a.provenance == b.provenance
