"""A FreeSurfer subject whose cortex is the shell between two spheres: where every vertex lies is known by formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer import MGHImage, write_geometry
from scipy.spatial import ConvexHull

from wernicke.core.recording import Voxels

WHITE_MM, PIAL_MM = 20.0, 24.0
CENTRES = {"lh": np.array([-26.0, 3.0, 5.0]), "rh": np.array([26.0, 3.0, 5.0])}
SCAN_SHAPE, GRID = (64, 60, 56), (44, 40, 36)
# A scan that lies askew, a recording with other axes, and the movement between them.
SCAN = np.array([[-2.0, 0.1, 0, 61.0], [0, 0.2, 1.9, -60.0], [0.1, -1.9, 0.2, 55.0], [0, 0, 0, 1]])
RECORDING = np.array([[3.0, 0, 0, -64.0], [0, 3.0, 0, -55.0], [0, 0, 3.0, -50.0], [0, 0, 0, 1]])
MOVE = np.array([[0.995, -0.0998, 0, 4.0], [0.0998, 0.995, 0, -3.0], [0, 0, 1.0, 2.0], [0, 0, 0, 1]])


def directions(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Points spread over the unit sphere (Fibonacci's lattice) and the triangles between them."""
    k = np.arange(n) + 0.5
    height, angle = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    return points, ConvexHull(points).simplices


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def tkr(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Voxels to tkregister coordinates, as nibabel computes them."""
    return MGHImage(np.zeros(shape, dtype=np.uint8), affine).header.get_vox2ras_tkr()


def volume_info(shape: tuple[int, ...] = SCAN_SHAPE, affine: np.ndarray = SCAN) -> dict[str, object]:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / sizes
    return {
        "head": np.array([2, 0, 20]), "valid": "1  # volume info valid", "filename": "orig.mgz",
        "volume": np.array(shape), "voxelsize": sizes, "xras": axes[:, 0], "yras": axes[:, 1], "zras": axes[:, 2],
        "cras": moved(np.array(shape)[None] / 2, affine)[0],
    }  # fmt: skip


def write_subject(folder: Path, *, sphere: bool = True, info: bool = True) -> Path:
    """Write ``surf/{lh,rh}.{white,pial,sphere.reg}``; in the scan's world the shells lie around `CENTRES`."""
    points, faces = directions()
    (folder / "surf").mkdir(parents=True)
    to_tkr = tkr(SCAN_SHAPE, SCAN) @ np.linalg.inv(SCAN)
    for short, centre in CENTRES.items():
        for name, radius in (("white", WHITE_MM), ("pial", PIAL_MM)):
            write_geometry(folder / "surf" / f"{short}.{name}", moved(radius * points + centre, to_tkr), faces,
                           volume_info=volume_info() if info else None)  # fmt: skip
        if sphere:
            write_geometry(folder / "surf" / f"{short}.sphere.reg", 100 * points, faces)
    return folder


def recording(share: float = 1.0) -> Voxels:
    """All voxels of the recording's grid, or a random share of them."""
    return Voxels(np.random.default_rng(0).random(GRID) < share, RECORDING)


def centres_mm(voxels: Voxels) -> np.ndarray:
    """World coordinates of the voxels, shape (n_voxels, 3)."""
    return moved(np.argwhere(voxels.mask).astype(float), voxels.affine)
