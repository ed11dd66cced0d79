"""The spin test against a brute-force reference, and on SIMULATED smooth maps that have nothing in common."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.stats.spin import N_VERTICES, load_sphere, spin_indices, spin_regions, spin_test

MESH = "fsaverage3"
N = 2 * N_VERTICES[MESH]


def smooth_map(rng, sphere, scale=0.5):
    """A stationary random field on each sphere: many random plane waves; about `scale` radians wide."""
    parts = []
    for points in sphere:
        waves, phases = rng.standard_normal((100, 3)) / scale, rng.uniform(0, 2 * np.pi, 100)
        parts.append(np.cos(points @ waves.T + phases).sum(axis=1))
    return np.concatenate(parts)


def test_indices_equal_brute_force_and_the_right_side_mirrors_the_left():
    """Rotation matrices written out from the drawn quaternions, nearest vertices by the largest dot product."""
    left, right = load_sphere(MESH)
    rng = derive_rng(3, "spin test")
    for index in spin_indices(MESH, n_permutations=19, seed=3):
        x, y, z, w = (q := rng.standard_normal(4)) / np.sqrt((q**2).sum())
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        brute_left = (left @ np.linalg.inv(turn) @ left.T).argmax(axis=1)
        flipped = right * [-1, 1, 1]  # the mirrored right hemisphere turns as the left one does
        brute_right = (flipped @ np.linalg.inv(turn) @ flipped.T).argmax(axis=1)
        np.testing.assert_array_equal(index, np.concatenate([brute_left, brute_right + len(left)]))


def test_rotations_are_uniform():
    """The north pole comes to lie anywhere, evenly: Rayleigh's and the three axes' uniform law (Archimedes)."""
    points = load_sphere(MESH)[0]
    pole = points[:, 2].argmax()
    places = np.array([points[index[pole]] for index in spin_indices(MESH, n_permutations=400, seed=0)])
    for axis in range(3):
        assert stats.kstest(places[:, axis], stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_result_equals_counting_by_hand_with_a_medial_wall():
    rng = np.random.default_rng(0)
    sphere = load_sphere(MESH)
    a, b = smooth_map(rng, sphere), smooth_map(rng, sphere)
    a[:40], b[600:660] = np.nan, np.nan
    result = spin_test(a, b, sphere=MESH, n_permutations=50, seed=1)
    both = ~np.isnan(a) & ~np.isnan(b)
    assert result.n_vertices == both.sum()
    assert result.r == pytest.approx(np.corrcoef(a[both], b[both])[0, 1])
    null = []
    for index in spin_indices(MESH, n_permutations=50, seed=1):
        both = ~np.isnan(a[index]) & ~np.isnan(b)
        null.append(np.corrcoef(a[index][both], b[both])[0, 1])
    np.testing.assert_allclose(result.null, null)
    null = np.array(null)
    above, below = (1 + np.sum(null >= result.r)) / 51, (1 + np.sum(null <= result.r)) / 51
    assert result.p == pytest.approx(min(1, 2 * min(above, below)))
    one_sided = [
        spin_test(a, b, sphere=MESH, n_permutations=50, seed=1, alternative=way).p for way in ("greater", "less")
    ]
    np.testing.assert_allclose(one_sided, [above, below])
    ranked = spin_test(a, b, sphere=MESH, n_permutations=19, statistic="spearman")
    has = ~np.isnan(a) & ~np.isnan(b)
    assert ranked.r == pytest.approx(stats.spearmanr(a[has], b[has]).statistic)


def test_a_map_resembles_itself_and_differs_from_its_negative():
    rng = np.random.default_rng(2)
    sphere = load_sphere(MESH)
    a = smooth_map(rng, sphere)
    noisy = a + 0.5 * a.std() * rng.standard_normal(N)
    assert spin_test(a, noisy, sphere=MESH, n_permutations=99, alternative="greater").p == 0.01
    assert spin_test(a, -noisy, sphere=MESH, n_permutations=99, alternative="less").p == 0.01


def test_rate_on_unrelated_smooth_maps():
    """100 SIMULATED pairs: the spin test holds its rate where the parametric p value fails it."""
    sphere = load_sphere(MESH)
    wall = sphere[0][:, 0] > 0.9
    wall = np.concatenate([wall, sphere[1][:, 0] < -0.9])
    index = np.stack(list(spin_indices(MESH, n_permutations=199, seed=5)))
    use = ~wall & ~wall[index]
    n_used = use.sum(axis=1)
    p, parametric = [], []
    for i in range(100):
        rng = np.random.default_rng(i)
        a, b = smooth_map(rng, sphere), smooth_map(rng, sphere)
        x, y = np.where(use, a[index], 0), np.where(use, b, 0)
        cross = (x * y).sum(1) - x.sum(1) * y.sum(1) / n_used
        null = (
            cross
            / n_used
            / np.sqrt(
                ((x**2).sum(1) / n_used - (x.sum(1) / n_used) ** 2)
                * ((y**2).sum(1) / n_used - (y.sum(1) / n_used) ** 2)
            )
        )
        found = stats.pearsonr(a[~wall], b[~wall], alternative="greater")
        p.append((1 + (null >= found.statistic).sum()) / 200)
        parametric.append(found.pvalue)
        if i < 3:
            a[wall], b[wall] = np.nan, np.nan
            ours = spin_test(a, b, sphere=MESH, n_permutations=199, seed=5, alternative="greater")
            np.testing.assert_allclose(ours.null, null, atol=1e-10)
            assert ours.p == p[-1]
    assert (np.array(p) <= 0.05).sum() <= stats.binom.ppf(0.999, 100, 0.05)
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert (np.array(parametric) <= 0.05).sum() > stats.binom.ppf(0.999, 100, 0.05)


def test_regions_find_where_a_difference_lies():
    rng = np.random.default_rng(4)
    sphere = load_sphere(MESH)
    points = np.concatenate(sphere)
    regions = np.where(points[:, 2] > 0.9, "top", np.where(points[:, 2] < -0.9, "bottom", ""))
    values = np.exp(8 * points[:, 2] - 8) + 0.1 * smooth_map(rng, sphere) / 12
    found = spin_regions(values, regions, sphere=MESH, none="", n_permutations=199)
    assert found.names == ("bottom", "top")
    assert found.p[1] <= 0.03
    assert found.p_fwe[1] <= 0.05
    assert found.mean[1] == pytest.approx(values[regions == "top"].mean())
    flat = spin_regions(values * 0 + smooth_map(rng, sphere), regions, sphere=MESH, none="", n_permutations=199)
    assert (flat.p > 0.02).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"a": np.zeros(N)}, "E-CONST"),
        ({"a": np.zeros(N - 1)}, "E-SHAPE"),
        ({"a": np.full(N, "x")}, "E-FMT"),
        ({"a": np.where(np.arange(N) < 5, np.arange(N), np.nan)}, "E-SIZE"),
        ({"sphere": "fsaverage9"}, "E-CFG"),
        ({"sphere": (np.random.default_rng(0).standard_normal((642, 3)),) * 2}, "E-META"),
    ],
)
def test_impossible_maps_are_refused(change, code):
    values = {"a": np.arange(N, dtype=float), "b": np.arange(N, dtype=float), "sphere": MESH, **change}
    with pytest.raises(InputError, match=code):
        spin_test(values["a"], values["b"], sphere=values["sphere"], n_permutations=19)
