"""Components of weights against scikit-learn's PCA and against planted components."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from wernicke.core.errors import InputError
from wernicke.encoding.weights import group_weight_pca, weight_pca


def planted(seed=0, n_features=20, n_voxels=300, strengths=(3.0, 2.0), noise=0.5):
    """Weights that vary along two directions shared by all seeds."""
    directions = np.linalg.qr(np.random.default_rng(99).standard_normal((n_features, len(strengths))))[0]
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((len(strengths), n_voxels)) * np.array(strengths)[:, None]
    return directions, directions @ scores + noise * rng.standard_normal((n_features, n_voxels)) + 0.3


@pytest.mark.parametrize("n_voxels", [300, 12])
def test_components_equal_those_of_scikit_learn(n_voxels):
    _, weights = planted(n_voxels=n_voxels)
    found = weight_pca(weights, n_components=5, n_null=0)
    reference = PCA(5, svd_solver="full").fit(weights.T)
    signs = np.sign((found.components * reference.components_).sum(axis=1))
    np.testing.assert_allclose(found.components, reference.components_ * signs[:, None], atol=1e-10)
    np.testing.assert_allclose(found.explained, reference.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(found.scores, reference.transform(weights.T) * signs, atol=1e-9)
    np.testing.assert_allclose(found.maps(weights), found.scores.T, atol=1e-9)
    assert (found.components[np.arange(5), np.abs(found.components).argmax(axis=1)] > 0).all()


def test_sign_does_not_depend_on_the_order_of_voxels():
    _, weights = planted()
    found, turned = weight_pca(weights, n_null=0), weight_pca(weights[:, ::-1], n_null=0)
    np.testing.assert_allclose(found.components, turned.components, atol=1e-9)


def test_null_separates_planted_components_from_the_rest():
    directions, weights = planted()
    found = weight_pca(weights, n_components=4, n_null=60)
    assert found.n_above_null == 2
    assert (found.p[:2] == 1 / 61).all()
    assert np.abs(found.components[:2] @ directions).max(axis=1).min() > 0.99
    shares = np.array([9, 4, 0.25, 0.25]) / (13 + 20 * 0.25)
    np.testing.assert_allclose(found.explained[:2], shares[:2], atol=0.06)
    # Signs drawn anew: each feature keeps its own variance, none is shared.
    alone = weights.var(axis=1)
    assert found.null[:, 0].mean() == pytest.approx((alone / alone.sum()).max(), rel=0.35)
    noise = np.random.default_rng(5).standard_normal((20, 300))
    assert weight_pca(noise, n_components=4, n_null=60).p[0] > 0.02


def test_voxels_of_different_strength_have_no_components_for_that():
    """Weights that share nothing but are larger in some voxels, as wherever some voxels are predicted better."""
    hits = []
    for i in range(60):
        rng = np.random.default_rng(i)
        weights = rng.standard_normal((15, 80)) * np.linspace(0.3, 2, 15)[:, None] * np.exp(rng.standard_normal(80))
        hits.append(weight_pca(weights, n_components=2, n_null=19, seed=i).p <= 0.05)
    assert np.mean(hits, axis=0).max() < 0.13  # binomial, 60 at .05: 99 % below .13


def test_voxels_are_chosen_by_cross_validated_score():
    _, weights = planted()
    cv = np.random.default_rng(1).random(300)
    weights[:, 7], cv[8] = np.nan, np.nan
    found = weight_pca(weights, cv, top_voxels=50, n_null=0)
    usable = [i for i in np.argsort(-cv) if i not in (7, 8)]
    np.testing.assert_array_equal(found.voxels, np.sort(usable[:50]))
    np.testing.assert_allclose(found.components, weight_pca(weights[:, found.voxels], n_null=0).components)
    maps = found.maps(weights)
    assert maps.shape == (10, 300)
    assert np.isnan(maps[:, 7]).all()


def test_projection_places_items_along_the_components():
    directions, weights = planted()
    found = weight_pca(weights, n_components=2, n_null=0)
    items = np.stack([directions[:, 0], directions[:, 1], directions.sum(axis=1)])
    np.testing.assert_allclose(np.abs(found.project(items)), [[1, 0], [0, 1], [1, 1]], atol=0.1)
    with pytest.raises(InputError, match="found 19 features, expected 20"):
        found.project(items[:, 1:])


def test_group_components_hold_in_a_subject_who_had_no_part_in_them():
    directions = planted()[0]
    weights = {f"S{i}": planted(i, n_voxels=200 + 20 * i)[1] * (i + 1) for i in range(4)}
    weights["stranger"] = np.random.default_rng(7).standard_normal((20, 250))
    found = group_weight_pca(weights, n_components=2, n_null=0)
    assert np.abs(found.group.components @ directions).max(axis=1).min() > 0.98
    for i in range(4):
        own = found.subjects[f"S{i}"]
        assert found.similarity[f"S{i}"].min() > 0.95
        assert ((own.components * found.group.components).sum(axis=1) > 0).all()
        assert found.explained_by_others[f"S{i}"].sum() > 0.9 * own.explained.sum()
        np.testing.assert_allclose(own.maps(weights[f"S{i}"]), own.scores.T, atol=1e-9)
    assert found.explained_by_others["stranger"].sum() == pytest.approx(2 / 20, abs=0.04)
    assert len(found.group.voxels) == len(found.group.scores) == sum(w.shape[1] for w in weights.values())
    # Every subject counts alike, whatever the scale of the weights and the number of voxels.
    scaled = group_weight_pca({**weights, "S0": weights["S0"] * 100}, n_components=2, n_null=0)
    np.testing.assert_allclose(scaled.group.components, found.group.components, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: weight_pca(np.ones((5, 30))), "E-SIZE"),
        (lambda: weight_pca(np.ones((5, 30)), n_components=2), "E-CONST"),
        (lambda: weight_pca(np.ones(5)), "E-SHAPE"),
        (lambda: weight_pca(np.random.default_rng(0).random((20, 30)), np.ones(29)), "E-SHAPE"),
        (lambda: group_weight_pca({"a": np.ones((20, 30))}), "E-META"),
        (lambda: group_weight_pca({"a": planted()[1], "b": planted(n_features=21)[1]}, n_null=0), "E-SHAPE"),
    ],
)
def test_impossible_weights_are_refused(call, code):
    with pytest.raises(InputError, match=code):
        call()
