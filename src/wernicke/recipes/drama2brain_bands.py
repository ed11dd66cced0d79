"""drama2brain's bands and data as a config names them, and the models that are fitted to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.data.sheets import SheetFiles

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.recording import Recording
    from wernicke.features.reduce import Projection

FAITHFUL_DELAYS = (8, 10)


@dataclass(frozen=True)
class Band:
    """One band of features: where its files are, and how they become columns of a design matrix.

    Parameters
    ----------
    model : str
        Name of the model's folder of features, such as Llama2.
    layer : int or str
        Number of the layer's folder, counted from 1 as theirs (1 is the embedding output); `none` for word vectors;
        `all` (mono only) for every layer there is, of which cross-validation on training rows chooses.
    annotation : str, optional
        Whose texts the model read: speechTranscription, objectiveAnnot50chara, story, eventContent or timePlace.
    context_s : int
        Seconds of captions that were joined for each second (cw1 is 1).
    tokens : {"avgToken", "flatToken"}
        Tokens averaged or flattened.
    annotators : {"ALL", "splitA", "splitB"}
        All annotators, or one half of them.
    hparams : str, optional
        The name of the folder in place of the four keys above, such as `default` for pictures and sound.
    modality : str
        semantic, vision, audio or vision-semantic.
    time_delays : list of int, optional
        First and last shift, seconds: the mean of all shifts in between, as their `--time_delays 8 10`.
    delays_s : list of float, optional
        FIR delays in place of `time_delays`: each shift is a set of columns of its own.
    pca : int, optional
        Principal components to keep, fitted on training rows, before the shifts.
    srp : float, optional
        Sparse random projection in place of `pca`: the distortion that is allowed (their eps).
    nuisance : bool
        What the other bands must do better than: an untrained twin, sound level, motion energy.
    """

    model: str
    layer: int | str
    annotation: str | None = None
    context_s: int = 1
    tokens: Literal["avgToken", "flatToken"] = "avgToken"
    annotators: Literal["ALL", "splitA", "splitB"] = "ALL"
    hparams: str | None = None
    modality: str = "semantic"
    time_delays: list[int] | None = None
    delays_s: list[float] | None = None
    pca: int | None = None
    srp: float | None = None
    nuisance: bool = False

    def __post_init__(self) -> None:
        from wernicke.data.drama2brain_tables import LEVELS

        if isinstance(self.layer, str):
            check_option(self.layer, ("all", "none"), "layer")
        else:
            check_range(self.layer, "layer", low=1)
        if (self.annotation is None) == (self.hparams is None):
            raise InputError("E-CFG", "give one of annotation and hparams", field="annotation")
        if self.annotation is not None:
            check_option(self.annotation, LEVELS, "annotation")
        check_range(self.context_s, "context_s", low=1)
        if self.time_delays is not None and self.delays_s is not None:
            raise InputError("E-CFG", "found delays_s beside it, expected one of the two", field="time_delays")
        if self.delays_s is not None and not self.delays_s:
            raise InputError("E-CFG", "found an empty list", field="delays_s")
        first_last = self.time_delays or FAITHFUL_DELAYS
        if len(first_last) != 2 or not 0 <= first_last[0] <= first_last[1]:
            raise InputError("E-CFG", f"found {list(first_last)}, expected the first and the last shift, such as 8 10",
                             field="time_delays")  # fmt: skip
        if self.pca is not None and self.srp is not None:
            raise InputError("E-CFG", "found srp beside it, expected one of the two", field="pca")
        if self.pca is not None:
            check_range(self.pca, "pca", low=1)
        if self.srp is not None:
            check_range(self.srp, "srp", low=0, high=1, low_open=True)

    @property
    def folder(self) -> str:
        """``modality/hparams/model/layer`` below ``stim_features``."""
        hparams = self.hparams or f"{self.annotation}_cw{self.context_s}_{self.tokens}_{self.annotators}"
        return f"{self.modality}/{hparams}/{self.model}/layer{'None' if self.layer == 'none' else self.layer}"

    @property
    def level(self) -> str | None:
        """The paper's name of the level of meaning, such as Speech; None for pictures and sound."""
        from wernicke.data.drama2brain_tables import LEVELS

        hparams = self.folder.split("/")[1]
        return next((name for level, (name, _) in LEVELS.items() if hparams.startswith(f"{level}_cw")), None)

    @property
    def shifts_s(self) -> tuple[int, int] | None:
        """First and last shift of the mean of shifted copies; None for FIR delays."""
        if self.delays_s is not None:
            return None
        first, last = self.time_delays or FAITHFUL_DELAYS
        return first, last

    @property
    def reduction(self) -> tuple[str, float] | None:
        """``("pca", 1280)``, ``("srp", 0.1)`` or None."""
        return ("pca", self.pca) if self.pca is not None else ("srp", self.srp) if self.srp is not None else None

    @property
    def longest_delay_s(self) -> float:
        return max(self.delays_s) if self.delays_s is not None else float((self.time_delays or FAITHFUL_DELAYS)[1])


@dataclass(frozen=True)
class Drama2brainData:
    """Where recordings and features are, and which seconds count.

    Parameters
    ----------
    root : path, optional
        Folder that holds the authors' folders, at most five levels down.
    folders : dict of kind to path
        Where a kind of files lies if it is not found below `root`: fmri_raw, fmri_pre, fmri_bbregister, fmri_exp2019,
        stim, caption. `stim` is the folder that holds semantic/, vision/, ...
    dataset : {"all", "splitA", "splitB"}
        Which runs are trained on and scored.
    reference : path, optional
        A NIfTI image on the recordings' grid, whose affine the maps take. Without it they have the voxel size only.
    rois : str, optional
        Regions: an atlas image on the recordings' grid, or a fsROI.mat; `{subject}` in it stands for the subject. By
        default the fsROI.mat beside a subject's vset_099.mat, where there is one.
    roi_names : path, optional
        The atlas's table of numbers and names.
    surfaces : str, optional
        Maps on fsaverage5 too: the folder that holds subjects' folders (FreeSurfer's SUBJECTS_DIR, fMRIPrep's
        derivatives), or with `{subject}` in it a subject's own.
    transform : str, optional
        With `{subject}`: from the anatomy to the recording, as register.dat, LTA or 4 x 4 numbers. All but a
        register.dat need `reference`.
    mapper : str, optional
        With `{subject}`: pycortex's matrices (voxelwise-tutorials' HDF5) in place of `surfaces`.
    standardise : {"zscore", "centre", "none"}
        What is done to each voxel's responses within each run (corrected only; theirs enter as they are).
    trim_s : float
        Seconds left out at each title's start, where what came before the features is not known (corrected only).
    gap_s : float
        Training seconds left out before a scored run of the same title (corrected only).
    """

    root: Path | None = None
    folders: dict[str, str] = field(default_factory=dict)
    dataset: Literal["all", "splitA", "splitB"] = "all"
    reference: Path | None = None
    rois: str | None = None
    roi_names: Path | None = None
    surfaces: str | None = None
    transform: str | None = None
    mapper: str | None = None
    standardise: Literal["zscore", "centre", "none"] = "zscore"
    trim_s: float = 10.0
    gap_s: float = 10.0

    def __post_init__(self) -> None:
        check_range(self.trim_s, "data.trim_s", low=0)
        check_range(self.gap_s, "data.gap_s", low=0)
        _ = self.sheet  # refuses keys that do not go together

    @property
    def sheet(self) -> SheetFiles:
        """Each subject's way to the cortical sheet."""
        return SheetFiles(self.surfaces, self.transform, self.mapper)

    def need_root(self) -> Path:
        """The root, which has no default."""
        if self.root is None:
            raise InputError("E-CFG", "no folder given", field="data.root", hint="add `--data.root DIR`; for a "
                             "simulated one: `wernicke data simulate drama2brain --out DIR`")  # fmt: skip
        return self.root


@dataclass(frozen=True)
class Model:
    """What is fitted as one: a band alone (mono) or all together (multi), nuisance bands included."""

    name: str
    """Name of its folder in the run: letters, digits and hyphens"""
    bands: Mapping[str, Band]

    @property
    def language(self) -> dict[str, Band]:
        """The bands that are asked about."""
        return {name: band for name, band in self.bands.items() if not band.nuisance}


CEILING_REASON = (
    "each second of film was seen once, but for the 20 s that runs repeat, which are too few and begin a run"
)


@contextmanager
def naming_simulated_configs(data: Drama2brainData) -> Iterator[None]:
    """Where features are absent because the data are simulated, say which config names those that are there."""
    try:
        yield
    except InputError as error:
        config = sorted(data.need_root().glob("drama2brain_*.yaml"))
        if error.code != "E-REF" or not config or not (data.need_root() / "simulated.json").exists():
            raise
        names = " or ".join(str(file) for file in config)
        raise InputError("E-REF", error.problem, path=error.path, field=error.field,
                         hint=f"{error.hint}; these data are simulated: --config {names}") from None  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A recording, its runs joined in a file that is memory-mapped, and the fingerprint of its values."""

    recording: Recording
    fingerprint: str


@dataclass(frozen=True)
class Fitted:
    """One model of one subject, fitted and scored.

    Attributes
    ----------
    columns : dict of str to array, shape (n_voxels,)
        Maps by name, NaN where a voxel has no score; voxels in the recording's order.
    facts : dict
        How it was fitted and tested, as plain values.
    coef : dict of band name to array, shape (n_features, n_voxels)
        Of the design's columns, reduced and shifted; empty unless kept.
    predictions : dict of str to array, shape (n_valid, n_voxels)
        "all", and each band's part where there are several; empty unless kept.
    nested_predictions : array, shape (n_train, n_voxels), or None
    parts : dict of band name to dict
        "r" and "p" of each band's part, as the published code saves them.
    projections : dict of band name to Projection
        The fitted reduction of each band that has one.
    """

    columns: dict[str, np.ndarray]
    facts: dict[str, Any]
    coef: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    nested_predictions: np.ndarray | None = None
    parts: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    projections: dict[str, Projection] = field(default_factory=dict)


def list_models(bands: Mapping[str, Band], reg_type: str, data: Drama2brainData) -> list[Model]:
    """Return what is to be fitted; `layer: all` becomes one model a layer.

    Raises
    ------
    InputError
        E-REF (no such folder), E-CFG (`all` in a multi model).
    """
    nuisance = {name: band for name, band in bands.items() if band.nuisance}
    others = {name: band for name, band in bands.items() if not band.nuisance}
    if reg_type == "multi":
        return [Model("all", {**others, **nuisance})]
    models = []
    for name, band in others.items():
        for one in _layers(band, data):
            layer = "" if one.layer == "none" else f"-layer{one.layer}"
            plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in f"{name}-{one.model}")
            models.append(Model(f"{plain}{layer}", {name: one, **nuisance}))
    twice = [model.name for model in models if sum(other.name == model.name for other in models) > 1]
    if twice:
        raise InputError("E-CFG", f"two models would be called `{twice[0]}`", field="bands")
    return models


def _layers(band: Band, data: Drama2brainData) -> list[Band]:
    from wernicke.data.drama2brain_stimuli import list_layers

    if band.layer != "all":
        return [band]
    modality, hparams, model, _ = band.folder.split("/")
    with naming_simulated_configs(data):
        found = list_layers(data.need_root(), modality, hparams, model, folders=data.folders)
    return [replace(band, layer="none" if name == "layerNone" else int(name[5:])) for name in found]


def same_for_all(bands: Mapping[str, Band]) -> tuple[tuple[int, int], tuple[str, Any] | None]:
    """Return the one delay and the one reduction that the published code has for all bands.

    Raises
    ------
    InputError
        E-CFG where bands differ, or have FIR delays.
    """
    first, shared = next(iter(bands.items()))
    if shared.shifts_s is None:
        raise InputError("E-CFG", "faithful knows no FIR delays", field=f"bands.{first}.delays_s",
                         hint="give time_delays instead, or `--mode corrected`")  # fmt: skip
    for name, band in bands.items():
        for what in ("shifts_s", "reduction"):
            if getattr(band, what) != getattr(shared, what):
                raise InputError("E-CFG", f"{name} differs from {first} in its {what.removesuffix('_s')}: the "
                                 "published code has one for all bands", field=f"bands.{name}",
                                 hint="make them alike, or `--mode corrected`")  # fmt: skip
    return shared.shifts_s, shared.reduction
