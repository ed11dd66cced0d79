"""Spin tests: two maps on the cortical surface compared with maps that are rotated on the sphere.

Neighbouring vertices have similar values, so two unrelated smooth maps correlate by accident far more than a parametric
p value allows. A random rotation of the sphere keeps a map's smoothness and breaks its alignment (Alexander-Bloch et
al. 2018, doi:10.1016/j.neuroimage.2018.05.070). The right hemisphere turns by the mirror image of the left one's
rotation. Vertices without a value (NaN: the medial wall, what was not recorded) rotate along; where they come to lie
is left out of that rotation's statistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_labels, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng

#: Vertices of one hemisphere. The coarser meshes are the first vertices of fsaverage5.
N_VERTICES = {"fsaverage5": 10242, "fsaverage4": 2562, "fsaverage3": 642}
#: A map needs this share of a rotation's vertices to be compared at all.
SMALLEST_OVERLAP = 0.1

Sphere = tuple[np.ndarray, np.ndarray]
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class SpinResult:
    """Attributes: observed correlation, its p, the rotations' correlations, and what was compared.

    `n_vertices` counts those with a value in both maps; `z` is the correlation less the null's mean over its standard
    deviation; `smallest_p` is 1 / (n_permutations + 1).
    """

    r: float
    p: float
    z: float
    null: np.ndarray
    n_vertices: int
    n_permutations: int
    statistic: str
    alternative: str
    smallest_p: float


@dataclass(frozen=True)
class RegionSpins:
    """One entry a region; NaN where a region has no vertex with a value.

    Attributes
    ----------
    names : tuple
    mean : array, shape (n_regions,)
        Of the map within each region.
    p, p_fwe : array, shape (n_regions,)
        Against the map rotated beneath the regions; `p_fwe` corrected for all regions by the largest standardised mean.
    n_vertices : array of int
    n_permutations : int
    alternative : str
    """

    names: tuple[Any, ...]
    mean: np.ndarray
    p: np.ndarray
    p_fwe: np.ndarray
    n_vertices: np.ndarray
    n_permutations: int
    alternative: str


def load_sphere(mesh: str = "fsaverage5") -> Sphere:
    """Return the unit sphere of both hemispheres, each (n_vertices, 3), from the mesh that nilearn brings along.

    Other meshes (fsaverage, fsLR, a subject's own): read their ``sphere.reg`` and pass both arrays as `sphere`.
    """
    check_option(mesh, tuple(N_VERTICES), "mesh")
    import nibabel as nib
    from nilearn import datasets

    files = datasets.fetch_surf_fsaverage("fsaverage5")
    meshes: list[Any] = [nib.load(files[f"sphere_{side}"]) for side in ("left", "right")]
    left, right = (image.agg_data("pointset") for image in meshes)
    return _unit(left[: N_VERTICES[mesh]], "left"), _unit(right[: N_VERTICES[mesh]], "right")


def spin_indices(
    sphere: Sphere | str = "fsaverage5", *, n_permutations: int = 1000, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield, for each rotation, the vertex whose value comes to lie on each vertex, shape (n_left + n_right,).

    Rotations are uniform over all rotations. Each vertex takes the value of the vertex that lies nearest to its
    rotated place, so values may be used twice or not at all.
    """
    check_range(n_permutations, "n_permutations", low=19)
    left, right = as_sphere(sphere)
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    trees = cKDTree(left), cKDTree(right)
    mirror = np.diag([-1.0, 1.0, 1.0])
    rng = derive_rng(seed, "spin test")
    for _ in range(n_permutations):
        # A normalised normal quaternion is uniform over rotations.
        turn = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
        places = left @ turn.T, right @ (mirror @ turn @ mirror).T
        yield np.concatenate([trees[0].query(places[0])[1], trees[1].query(places[1])[1] + len(left)])


def spin_test(
    a: Any,
    b: Any,
    *,
    sphere: Sphere | str = "fsaverage5",
    statistic: Literal["pearson", "spearman"] = "pearson",
    alternative: Alternative = "two-sided",
    n_permutations: int = 1000,
    seed: int = 0,
) -> SpinResult:
    """Test whether two surface maps are aligned more ("greater") or less ("less") than by accident.

    The first map is rotated. "Less": they differ more than smooth maps do that have nothing to do with one another.
    Whether one map is higher than the other somewhere is another question: `spin_regions` of their difference.

    Parameters
    ----------
    a, b : array-like, shape (n_left + n_right,)
        Left hemisphere first; NaN where there is no value, such as the medial wall. A hemisphere without data is NaN
        throughout.
    sphere : str or (left, right)
        ``"fsaverage5"`` (also 4 and 3), or spherical coordinates, each (n_vertices, 3).
    statistic : {"pearson", "spearman"}
    alternative : {"two-sided", "greater", "less"}
    n_permutations : int
        Rotations; about 15 ms each on fsaverage5.
    seed : int

    Returns
    -------
    SpinResult
        p = (1 + rotations that reach the observed value) / (1 + rotations).

    Raises
    ------
    InputError
        E-SHAPE, E-FMT, E-CONST (a map without variance), E-SIZE (fewer than 10 vertices in common), E-CFG.
    """
    check_option(statistic, ("pearson", "spearman"), "statistic")
    check_option(alternative, ("two-sided", "greater", "less"), "alternative")
    sphere = as_sphere(sphere)
    a, b = as_map(a, "a", sphere), as_map(b, "b", sphere)
    both = int((np.isfinite(a) & np.isfinite(b)).sum())
    if both < 10:
        raise InputError("E-SIZE", f"{both} vertices have a value in both maps, expected at least 10", field="b")
    observed = _correlate(a, b, statistic)
    null = np.array([_correlate(a[i], b, statistic, SMALLEST_OVERLAP * both)
                     for i in spin_indices(sphere, n_permutations=n_permutations, seed=seed)])  # fmt: skip
    null = null[np.isfinite(null)]
    if len(null) < n_permutations / 2:
        raise InputError("E-SIZE", f"{n_permutations - len(null)} of {n_permutations} rotations leave nearly no "
                         "vertex in common", field="a",
                         hint="the maps cover too little of the sphere for a spin test")  # fmt: skip
    z = (observed - null.mean()) / null.std(ddof=1)
    return SpinResult(
        observed, float(p_values(null[:, None], np.array([observed]), alternative)[0]), float(z), null, both, len(null),
        statistic, alternative, 1 / (1 + len(null)),
    )  # fmt: skip


def spin_regions(
    values: Any,
    regions: Sequence[Any] | np.ndarray,
    *,
    sphere: Sphere | str = "fsaverage5",
    none: Any = 0,
    alternative: Alternative = "two-sided",
    n_permutations: int = 1000,
    seed: int = 0,
) -> RegionSpins:
    """Test in which regions a map (a difference of two maps, say) lies higher or lower than rotated maps do.

    Under the null the map's peaks lie anywhere: a map that is high everywhere is not significant anywhere. That is a
    statement about where, not about how much; for the latter, test over subjects (`wernicke.encoding.group`).

    Parameters
    ----------
    values : array-like, shape (n_left + n_right,)
        NaN where there is no value. For "where do two maps differ", their difference.
    regions : sequence, shape (n_left + n_right,)
        Region of each vertex, `none` outside any.
    sphere, alternative, n_permutations, seed
        As in `spin_test`.

    Returns
    -------
    RegionSpins
        In order of the sorted names.
    """
    check_option(alternative, ("two-sided", "greater", "less"), "alternative")
    sphere = as_sphere(sphere)
    values = as_map(values, "values", sphere)
    labels = check_labels(regions, "regions", len(values))
    names, number = np.unique(labels, return_inverse=True)
    keep = names != none
    if not keep.any():
        raise InputError("E-META", "no vertex belongs to a region", field="regions")

    def means(rotated: np.ndarray) -> np.ndarray:
        has = np.isfinite(rotated)
        count = np.bincount(number[has], minlength=len(names))
        total = np.bincount(number[has], weights=rotated[has], minlength=len(names))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)[keep]

    observed = means(values)
    null = np.stack([means(values[i]) for i in spin_indices(sphere, n_permutations=n_permutations, seed=seed)])
    centre, spread = np.nanmean(null, axis=0), np.nanstd(null, axis=0, ddof=1)
    standard, observed_standard = (null - centre) / spread, (observed - centre) / spread
    if alternative == "two-sided":
        extreme, wanted = np.nanmax(np.abs(standard), axis=1), np.abs(observed_standard)
    else:
        sign = 1 if alternative == "greater" else -1
        extreme, wanted = np.nanmax(sign * standard, axis=1), sign * observed_standard
    reached = (extreme[:, None] >= wanted - 1e-12).sum(axis=0)
    missing = np.isnan(observed)
    return RegionSpins(
        tuple(names[keep].tolist()), observed, np.where(missing, np.nan, p_values(null, observed, alternative)),
        np.where(missing, np.nan, (1 + reached) / (1 + len(null))),
        np.bincount(number[np.isfinite(values)], minlength=len(names))[keep], len(null), alternative,
    )  # fmt: skip


def p_values(null: np.ndarray, observed: np.ndarray, alternative: str) -> np.ndarray:
    """p of each column from (n_permutations, n) and (n,); two-sided is twice the smaller side; NaN rotations left out.

    Sides, not absolute values: with regions and a medial wall the null need not be symmetric about 0.
    """
    n = np.isfinite(null).sum(axis=0)
    above = (1 + (null >= observed - 1e-12).sum(axis=0)) / (1 + n)
    below = (1 + (null <= observed + 1e-12).sum(axis=0)) / (1 + n)
    if alternative == "two-sided":
        return np.minimum(1.0, 2 * np.minimum(above, below))
    return above if alternative == "greater" else below


def _correlate(a: np.ndarray, b: np.ndarray, statistic: str, fewest: float = 3) -> float:
    """Correlation over the vertices with a value in both; NaN for fewer than `fewest`."""
    has = np.isfinite(a) & np.isfinite(b)
    if has.sum() < max(fewest, 3):
        return np.nan
    x, y = a[has], b[has]
    if statistic == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread > 0 else np.nan


def as_map(values: Any, field: str, sphere: Sphere) -> np.ndarray:
    """Return one value a vertex as float64; raises E-FMT, E-SHAPE, E-NONFIN (infinite), E-CONST."""
    array = np.asarray(values)
    n = len(sphere[0]) + len(sphere[1])
    if array.dtype.kind not in "fiu":
        raise InputError("E-FMT", f"found dtype {array.dtype}, expected numbers", field=field)
    if array.shape != (n,):
        raise InputError("E-SHAPE", f"found shape {array.shape}, expected ({n},): left, then right hemisphere",
                         field=field, hint="vertices without a value are NaN, not left out")  # fmt: skip
    array = array.astype(np.float64)
    if np.isinf(array).any():
        raise InputError("E-NONFIN", f"found {int(np.isinf(array).sum())} infinite values", field=field)
    known = array[np.isfinite(array)]
    if known.size and np.ptp(known) == 0 or not known.size:
        raise InputError("E-CONST", "the map has the same value everywhere, or none", field=field)
    return array


def as_sphere(sphere: Sphere | str) -> Sphere:
    """Return both unit spheres of a mesh's name or of coordinates; raises E-CFG, E-SHAPE, E-META."""
    if isinstance(sphere, str):
        return load_sphere(sphere)
    left, right = sphere
    return _unit(left, "left"), _unit(right, "right")


def _unit(points: Any, side: str) -> np.ndarray:
    """Return points of unit length, after checking that they lie on a sphere about the origin."""
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 4:
        raise InputError("E-SHAPE", f"found shape {points.shape}, expected (n_vertices, 3)", field=f"sphere, {side}")
    radius = np.linalg.norm(points, axis=1)
    if not np.isfinite(radius).all() or radius.min() <= 0 or radius.max() > 1.02 * radius.min():
        raise InputError("E-META", f"radii from {radius.min():.3g} to {radius.max():.3g}, expected a sphere about the "
                         "origin (sphere.reg, not the white or inflated surface)", field=f"sphere, {side}")  # fmt: skip
    return points / radius[:, None]
