"""The significance test of drama2brain as published, for its `faithful` mode only.

One null distribution is pooled over all voxels and p can be exactly 0; on autocorrelated data it finds too much
(``docs/calibration.md``). Use `wernicke.stats.permutation.permutation_test` for everything else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wernicke.core.checks import check_range
from wernicke.core.seeds import derive_rng
from wernicke.stats.correlation import check_pair, columnwise_correlation
from wernicke.stats.fdr import fdr


def pooled_block_null(
    prediction: Any, response: Any, *, block_length: int = 10, n_permutations: int = 1, seed: int = 42
) -> np.ndarray:
    """Correlations of all voxels with their response shuffled in blocks, pooled.

    The incomplete last block is shuffled along as a shorter block, run borders are ignored, and the order comes from
    NumPy's legacy generator, so that seed 42 gives the published code's own null (drama2brain, commit 133915c,
    ``gen_nulldistrib_block``).

    Parameters
    ----------
    prediction, response : array-like, shape (n_samples, n_voxels)

    Returns
    -------
    numpy.ndarray, shape (n_permutations * n_voxels,)
    """
    prediction, response = check_pair(prediction, response, ("prediction", "response"))
    check_range(block_length, "block_length", low=1, high=response.shape[0])
    samples = np.arange(response.shape[0])
    generator = np.random.RandomState(seed)  # noqa: NPY002 (the published order of blocks needs it)
    null = []
    for _ in range(n_permutations):
        blocks = np.split(samples, np.arange(block_length, len(samples), block_length))
        generator.shuffle(blocks)
        null.append(columnwise_correlation(prediction, response[np.concatenate(blocks)]))
    return np.concatenate(null)


def pooled_gauss_null(n_voxels: int, n_samples: int, *, seed: int = 42) -> np.ndarray:
    """Correlations between unrelated white noise, as many as voxels but at most 160,000 (their ``gauss``).

    The published code sets no seed here, so its own draws cannot be repeated.

    Returns
    -------
    numpy.ndarray, shape (min(n_voxels, 160000),)
    """
    rng = derive_rng(seed, "pooled_gauss_null")
    noise = rng.standard_normal((2, 400, n_samples))
    noise -= noise.mean(axis=2, keepdims=True)
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    return (noise[1] @ noise[0].T).ravel()[:n_voxels]


def pooled_p(r: np.ndarray, null: np.ndarray, *, corrected: bool = True) -> np.ndarray:
    """Share of the pooled null above each r, over the number of voxels as published; BH-adjusted by default.

    With several permutations the published share exceeds 1 where r is low; it is cut to 1 here.

    Parameters
    ----------
    r : numpy.ndarray, shape (n_voxels,)
    null : numpy.ndarray, shape (n_null,)

    Returns
    -------
    numpy.ndarray, shape (n_voxels,)
        NaN where r is NaN.
    """
    r = np.asarray(r)
    null = np.sort(null[np.isfinite(null)])
    above = null.size - np.searchsorted(null, r, side="right")
    p = np.where(np.isnan(r), np.nan, np.minimum(above / r.size, 1.0))
    return fdr(p, "bh").p_adjusted if corrected else p
