"""A subject's cortical surfaces on disk: FreeSurfer's binary files, and fMRIPrep's GIFTI.

FreeSurfer stores tkregister coordinates, which need a transform to any world (`wernicke.data.transforms`). fMRIPrep's
``.surf.gii`` are in the world of its T1w image, mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wernicke.core.checks import check_file, check_folder
from wernicke.core.errors import InputError
from wernicke.data.surface_series import read_gifti_arrays
from wernicke.data.transforms import Geometry
from wernicke.store.files import PathLike

SIDES = {"left": ("lh", "L"), "right": ("rh", "R")}
# fMRIPrep before 21 wrote no white surface, but its smoothed one, which has the same vertices.
_WHITE = ("white", "smoothwm")
_TRIANGLES = b"\xff\xff\xfe"
_EXPECTED = "expected FreeSurfer's surf/lh.white, lh.pial, ... or fMRIPrep's anat/sub-*_hemi-L_white.surf.gii, ..."


@dataclass(frozen=True)
class SurfaceFiles:
    """Attributes: `white`, `pial` and `sphere` (the registered one, None where there is none) of one hemisphere."""

    white: Path
    pial: Path
    sphere: Path | None

    def __iter__(self) -> Iterator[Path]:
        return (path for path in (self.white, self.pial, self.sphere) if path is not None)


def find_surfaces(folder: PathLike) -> dict[str, SurfaceFiles]:
    """Return the surfaces of the one subject in a folder, by ``left`` and ``right``.

    Parameters
    ----------
    folder : path-like
        A FreeSurfer subject's folder or its ``surf``; or fMRIPrep's ``sub-01``, one of its sessions or its ``anat``.
        Spheres that fMRIPrep did not write are looked for in the FreeSurfer folder that it keeps,
        ``sourcedata/freesurfer/sub-01``, whose vertices are the same.

    Raises
    ------
    InputError
        E-REF (no surfaces, or not all of both hemispheres), E-META (of several subjects or sessions).
    """
    folder = check_folder(folder, "surfaces")
    for place in (folder / "surf", folder):
        if any((place / f"{short}.{kind}").exists() for short, _ in SIDES.values() for kind in ("white", "pial")):
            return {side: _freesurfer(place, short) for side, (short, _) in SIDES.items()}
    places = [p for p in (folder / "anat", *sorted(folder.glob("ses-*/anat")), folder) if _has_gifti(p)]
    if not places:
        raise InputError("E-REF", "holds no cortical surfaces", path=folder, field="surfaces", hint=_EXPECTED)
    if len(places) > 1:
        two = " and ".join(str(place.relative_to(folder)) for place in places[:2])
        raise InputError("E-META", f"found surfaces in {two}", path=folder, field="surfaces",
                         hint="name one session's folder")  # fmt: skip
    return {side: _gifti(places[0], letter, short) for side, (short, letter) in SIDES.items()}


def _has_gifti(place: Path) -> bool:
    names = [path.name for path in place.glob("*_hemi-[LR]_*.surf.gii")]
    return any(name.endswith(f"_{kind}.surf.gii") for name in names for kind in (*_WHITE, "pial"))


def _freesurfer(place: Path, short: str) -> SurfaceFiles:
    sphere = place / f"{short}.sphere.reg"
    white, pial = (check_file(place / f"{short}.{kind}", "surfaces") for kind in ("white", "pial"))
    return SurfaceFiles(white, pial, sphere if sphere.is_file() else None)


def _gifti(place: Path, letter: str, short: str) -> SurfaceFiles:
    def find(*kinds: str) -> Path | None:
        for kind in kinds:
            found = sorted(place.glob(f"*_hemi-{letter}_{kind}.surf.gii"))
            if len(found) > 1:
                raise InputError("E-META", f"found {found[0].name} and {found[1].name}, expected one", path=place,
                                 field="surfaces", hint="name one subject's folder")  # fmt: skip
            if found:
                return found[0]
        return None

    white, pial = find(*_WHITE), find("pial")
    if white is None or pial is None:
        missing = f"*_hemi-{letter}_{'white' if white is None else 'pial'}.surf.gii"
        raise InputError("E-REF", f"no {missing}", path=place, field="surfaces", hint=_EXPECTED)
    # `space-fsLR_desc-reg_sphere` leads to another mesh: this pattern does not match it.
    sphere = find("desc-reg_sphere")
    subject = white.name.split("_")[0]
    kept = [up / "sourcedata" / "freesurfer" / subject / "surf" / f"{short}.sphere.reg" for up in place.parents[:3]]
    return SurfaceFiles(white, pial, sphere or next((path for path in kept if path.is_file()), None))


def read_surface(path: PathLike) -> tuple[np.ndarray, np.ndarray, Geometry | None]:
    """Read a FreeSurfer triangle file or a ``.surf.gii``.

    Returns
    -------
    points : array, shape (n_vertices, 3)
        mm, as stored: tkregister coordinates in FreeSurfer's file, the world of the anatomical scan in GIFTI.
    faces : array of int, shape (n_faces, 3)
    scan : Geometry or None
        The scan that a FreeSurfer file was made from, where it says so.

    Raises
    ------
    InputError
        E-REF, E-FMT (another format), E-TRUNC, E-SIZE, E-HDR (triangles of vertices that are not there), E-NONFIN,
        E-SHAPE, E-META (GIFTI in tkregister coordinates), E-UNSAFE.
    """
    path = check_file(path)
    points, faces, scan = _read_gifti_surface(path) if is_gifti(path) else _read_freesurfer_surface(path)
    if not np.isfinite(points).all():
        raise InputError("E-NONFIN", "coordinates that are not finite", path=path)
    if faces.min() < 0 or faces.max() >= len(points):
        raise InputError("E-HDR", f"a triangle names vertex {faces.max()} of {len(points)}", path=path)
    return points.astype(float), faces.astype(int), scan


def is_gifti(path: Path) -> bool:
    """By its name."""
    return path.suffix == ".gii"


def _read_gifti_surface(path: Path) -> tuple[np.ndarray, np.ndarray, None]:
    arrays, metadata = read_gifti_arrays(path)
    points = [array for array in arrays if array.dtype.kind == "f"]
    faces = [array for array in arrays if array.dtype.kind == "i"]
    if len(points) != 1 or len(faces) != 1 or any(a.ndim != 2 or a.shape[1] != 3 for a in arrays):
        raise InputError("E-SHAPE", f"found arrays of shape {[array.shape for array in arrays][:4]}, expected one of "
                         "coordinates and one of triangles", path=path)  # fmt: skip
    centre = [metadata.get(f"VolGeomC_{axis}", "0") for axis in "RAS"]
    # mris_convert leaves out the scan's place unless told otherwise; fMRIPrep adds it and then removes these numbers.
    if any(float(c) for c in centre if _is_number(c)) and metadata.get("DataSpace") != "NIFTI_XFORM_SCANNER_ANAT":
        raise InputError("E-META", f"FreeSurfer's tkregister coordinates (scan's centre {', '.join(centre)} mm), not "
                         "world mm", path=path, hint="convert with `mris_convert --to-scanner`")  # fmt: skip
    return points[0], faces[0], None


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _read_freesurfer_surface(path: Path) -> tuple[np.ndarray, np.ndarray, Geometry | None]:
    import warnings

    from nibabel.freesurfer import read_geometry

    content = path.read_bytes()[: 2**12]
    if content[:3] != _TRIANGLES:
        raise InputError("E-FMT", "not a FreeSurfer triangle surface", path=path,
                         hint="expected such as surf/lh.white")  # fmt: skip
    start = content.find(b"\n\n") + 2
    if start < 2 or len(content) < start + 8:
        raise InputError("E-TRUNC", "the header ends early", path=path)
    n_vertices, n_faces = np.frombuffer(content, ">i4", 2, start)
    if n_vertices < 3 or n_faces < 1:
        raise InputError("E-HDR", f"declares {n_vertices} vertices and {n_faces} triangles", path=path)
    if start + 8 + 12 * (int(n_vertices) + int(n_faces)) > path.stat().st_size:
        raise InputError("E-TRUNC", f"declares {n_vertices} vertices and {n_faces} triangles, has "
                         f"{path.stat().st_size} bytes", path=path)  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a file without volume information
            points, faces, told = read_geometry(str(path), read_metadata=True)
    except (ValueError, OSError, IndexError, KeyError, TypeError) as error:
        raise InputError("E-HDR", f"nibabel cannot read it ({error})", path=path) from None
    return points, faces, Geometry.of_surface(told, path)
