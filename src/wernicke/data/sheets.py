"""A subject's way to the cortical sheet as a config names it: surfaces with a transform, or a mapper, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wernicke.core.checks import check_file, check_folder
from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels

if TYPE_CHECKING:
    from wernicke.data.mapper import Mapper
    from wernicke.data.surfaces import Cortex

SUBJECT = "{subject}"


@dataclass(frozen=True)
class SheetFiles:
    """Three keys of a config's `data`; `{subject}` in them stands for the subject.

    Parameters
    ----------
    surfaces : str, optional
        The folder that holds subjects' folders (FreeSurfer's SUBJECTS_DIR, fMRIPrep's derivatives), or a subject's own.
    transform : str, optional
        From the anatomy to the recording (`wernicke.data.surfaces.read_cortex`); None: they share one world.
    mapper : str, optional
        pycortex's matrices in place of surfaces (`wernicke.data.mapper.read_mapper`). Their columns are the recording's
        voxels, or all of its grid, in pycortex's order: the grid's first axis runs fastest.
    """

    surfaces: str | None = None
    transform: str | None = None
    mapper: str | None = None

    def __post_init__(self) -> None:
        if self.surfaces is not None and self.mapper is not None:
            raise InputError("E-CFG", "found data.surfaces beside it, expected one of the two", field="data.mapper")
        if self.transform is not None and self.surfaces is None:
            raise InputError("E-CFG", "found no data.surfaces that it could move", field="data.transform")

    @property
    def given(self) -> bool:
        return self.surfaces is not None or self.mapper is not None

    def check(self, subjects: Sequence[str]) -> None:
        """Refuse one person's files for several people; raises E-CFG."""
        if len(subjects) < 2:
            return
        for key in ("transform", "mapper"):
            value = getattr(self, key)
            if value is not None and SUBJECT not in value:
                raise InputError("E-CFG", f"found one file for {len(subjects)} subjects", path=value,
                                 field=f"data.{key}", hint=f"put {SUBJECT} where the subject stands")  # fmt: skip
        if self.surfaces is not None and len({self._folder(subject) for subject in subjects}) < len(subjects):
            raise InputError("E-CFG", f"found one folder for {len(subjects)} subjects", path=self.surfaces,
                             field="data.surfaces", hint="expected a folder that holds subjects' folders, or "
                             f"{SUBJECT} where the subject stands")  # fmt: skip

    def files(self, subject: str) -> list[Path]:
        """Every file that `read` reads; raises as it does where one is absent."""
        from wernicke.data.surface_files import find_surfaces

        if self.mapper is not None:
            return [self._file(self.mapper, subject, "mapper")]
        if self.surfaces is None:
            return []
        found = [path for files in find_surfaces(self._folder(subject)).values() for path in files]
        return found if self.transform is None else [*found, self._file(self.transform, subject, "transform")]

    def read(
        self, subject: str, voxels: Voxels | None, n_voxels: int, *, in_world: bool = True
    ) -> Cortex | Mapper | None:
        """Return a subject's surfaces or mapper, whose columns are the recording's voxels; None where none is named.

        Parameters
        ----------
        subject : str
        voxels : Voxels or None
            Where the voxels lie; None where that is not known: then a mapper's columns are in the recording's order.
        n_voxels : int
        in_world : bool
            The affine of `voxels` is that of the scanner; if not, only a register.dat can be used, which refers to the
            grid.

        Raises
        ------
        InputError
            E-REF, E-CFG (voxels or affine that are needed and not known), E-META (outside the recording, another
            number of voxels), and what `read_cortex` and `read_mapper` raise.
        """
        from wernicke.data.surfaces import read_cortex
        from wernicke.data.transforms import is_register_dat

        if self.mapper is not None:
            return self._read_mapper(self._file(self.mapper, subject, "mapper"), voxels, n_voxels)
        if self.surfaces is None:
            return None
        folder = self._folder(subject)
        if voxels is None:
            raise InputError("E-CFG", f"nothing says where {subject}'s voxels lie", path=folder, field="data.surfaces")
        transform = None if self.transform is None else self._file(self.transform, subject, "transform")
        if not in_world and (transform is None or not is_register_dat(transform)):
            raise InputError("E-CFG", "needs the recording's place in the scanner, of which only the grid is known",
                             path=transform or folder, field=f"data.{'transform' if transform else 'surfaces'}",
                             hint="add `--data.reference IMAGE`, or give a register.dat")  # fmt: skip
        return read_cortex(folder, voxels, transform)

    def _file(self, given: str, subject: str, key: str) -> Path:
        return check_file(given.replace(SUBJECT, subject), f"data.{key}")

    def _folder(self, subject: str) -> Path:
        """The subject's folder, by its name or with ``sub-`` before it; else the folder, if it is a subject's own."""
        given = str(self.surfaces)
        folder = check_folder(given.replace(SUBJECT, subject), "data.surfaces")
        if SUBJECT in given:
            return folder
        named = next((p for p in (folder / subject, folder / f"sub-{subject}") if p.is_dir()), None)
        own = any(any(folder.glob(name)) for name in ("surf", "anat", "ses-*", "?h.*", "*.surf.gii"))
        if named is None and not own:
            raise InputError("E-REF", f"holds no folder {subject} or sub-{subject}", path=folder, field="data.surfaces",
                             hint="expected SUBJECTS_DIR, fMRIPrep's derivatives or a subject's folder")  # fmt: skip
        return named or folder

    def _read_mapper(self, path: Path, voxels: Voxels | None, n_voxels: int) -> Mapper:
        from wernicke.data.mapper import read_mapper

        mapper = read_mapper(path)
        if voxels is None:
            if mapper.n_voxels != n_voxels:
                raise InputError("E-META", f"found {mapper.n_voxels} voxels, the recording has {n_voxels}", path=path,
                                 field="data.mapper")  # fmt: skip
            return mapper
        numbers = np.ravel_multi_index(np.nonzero(voxels.mask), voxels.mask.shape, order="F")
        if mapper.n_voxels == voxels.mask.size:
            return mapper.take(numbers)
        if mapper.n_voxels != n_voxels:
            raise InputError("E-META", f"found {mapper.n_voxels} voxels, expected the recording's {n_voxels} or its "
                             f"grid's {voxels.mask.size}", path=path, field="data.mapper")  # fmt: skip
        return mapper.take(np.argsort(np.argsort(numbers)))


def describe_sheet(sheet: Cortex | Mapper | None) -> str | None:
    """On which mesh a subject's maps stand and by what, in words; None without a sheet."""
    if sheet is None:
        return None
    from wernicke.data.surfaces import Cortex

    if isinstance(sheet, Cortex):
        return f"{sheet.mesh}, by the subject's surfaces"
    meshes = ["fsaverage5"] * (sheet.to_vertices is not None) + ["flat map"] * (sheet.to_pixels is not None)
    return f"{' and '.join(meshes)}, by a mapper"
