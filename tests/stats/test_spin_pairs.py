"""Pairs at once give what one spin test at a time gives."""

from __future__ import annotations

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.stats.spin import N_VERTICES, Alternative, load_sphere, spin_test
from wernicke.stats.spin_pairs import spin_pairs

MESH = "fsaverage3"
N = 2 * N_VERTICES[MESH]


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """Two gradients, one of them noisy, and waves; the same medial wall."""
    points = np.concatenate(load_sphere(MESH))
    noise = np.random.default_rng(0).normal(size=N)
    found = np.stack([points[:, 2], points[:, 2] + 0.3 * noise, np.cos(5 * points[:, 1])])
    found[:, 600:660] = np.nan
    return found


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_every_pair_equals_its_own_test(maps: np.ndarray, alternative: Alternative) -> None:
    pairs = [(0, 1), (0, 2), (2, 1)]
    found = spin_pairs(maps, pairs, sphere=MESH, alternative=alternative, n_permutations=60, seed=4)
    for k, (i, j) in enumerate(pairs):
        one = spin_test(maps[i], maps[j], sphere=MESH, alternative=alternative, n_permutations=60, seed=4)
        assert found.r[k] == pytest.approx(one.r, abs=1e-12)
        assert found.p[k] == one.p
        assert found.z[k] == pytest.approx(one.z)
        assert found.n_vertices == one.n_vertices
    assert found.n_permutations == 60


def test_what_cannot_be_tested_is_refused(maps: np.ndarray) -> None:
    flat = maps.copy()
    flat[1] = 3.0
    apart = maps.copy()
    apart[0, : N // 2], apart[1, N // 2 :] = np.nan, np.nan
    for given, pairs, code in ((flat, [(0, 1)], "E-CONST"), (apart, [(0, 1)], "E-SIZE"), (maps, [(0, 3)], "E-META"),
                               (maps, [], "E-META"), (maps[:, :50], [(0, 1)], "E-SHAPE")):  # fmt: skip
        with pytest.raises(InputError) as error:
            spin_pairs(given, pairs, sphere=MESH, n_permutations=19)
        assert error.value.code == code
