"""Encode: what language models make of films' annotations -> fMRI of the people who watched them, read top to bottom.

The two commands of drama2brain's README (Nakagi, Matsuyama et al. 2024) are ``drama2brain_mono`` and
``drama2brain_multi``. `mode: faithful` gives the published code's numbers, oddities included; `corrected`, the default,
tests against a null that keeps the responses' autocorrelation, lets scored runs know what the film showed before
them, tunes every reduced model by itself, and asks what a band explains beyond word rate and time.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError, RunInUseError
from wernicke.recipes.drama2brain_bands import Band, Drama2brainData, Model, Subject, list_models, same_for_all

if TYPE_CHECKING:
    from wernicke.data.mapper import Mapper
    from wernicke.data.surfaces import Cortex
    from wernicke.store.run import RunFolder
    from wernicke.store.units import Unit

log = logging.getLogger(__name__)

# A finished unit is not taken for the result of code that has since changed.
LAYERS = ("core", "data", "stats", "ridge", "features", "encoding", "scoring")
PARTS = (
    "bands", "design", "responses", "corrected", "scoring", "faithful", "published", "places", "encode",
    "encode_results", "encode_tables", "weights",
)  # fmt: skip
CODE = (
    *(f"wernicke.{layer}" for layer in LAYERS), *(f"wernicke.recipes.drama2brain_{part}" for part in PARTS),
    "wernicke.recipes.map_pairs",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """An encoding model of drama2brain's recordings.

    Parameters
    ----------
    bands : dict of name to Band
        Each with its own model, layer, context, delays and reduction.
    data : Drama2brainData
    subjects : list of str, optional
        Of DM01, DM03, DM06, DM07, DM09 and DM11; all that are there by default.
    mode : {"corrected", "faithful"}
        `faithful`: the published code's numbers.
    reg_type : {"mono", "multi"}
        Each band by itself, or all together in one banded model.
    nuisance : list of str
        Bands that need no model, which every language band is compared with: word_rate, position (corrected only).
    nuisance_delays_s : list of float
        FIR delays of word_rate.
    alphas : list of float
        Grid of penalties, for bands of a total variance of 1 (faithful has the published grid).
    score : {"r2", "correlation"}
        By which penalties, weights and layers are chosen on training rows (faithful: correlation).
    n_iter : int
        Random draws of the bands' balance.
    partition : {"leave-one-out", "all", "none"}
        Which reduced models are fitted for unique variance: each without one band; every subset (up to four bands).
    n_permutations : int
        Of the block permutation test (corrected only).
    block_tr : int, optional
        Length of the permutation test's blocks, in TR (1 s); by default from the data (corrected only).
    n_bootstrap : int
        Resamples of scored blocks for the intervals of unique variance (corrected only).
    tail : {"pareto", "counted"}
        Small p values from a generalised Pareto tail, which whole-brain correction needs, or counted.
    perm_type : {"block", "gauss"}
        The published null (faithful only).
    save_pred : bool
        Keep predictions of scored rows; faithful and mono: of training rows too, by nested cross-validation.
    save_coef : bool
        Keep the full model's weights, and the fitted reductions that lead from them to the features.
    weight_pca : int
        Principal components of each band's weights over the best `top_voxels` voxels, the paper's figure 4; weights
        are then kept, too. 0: none.
    authors_files : bool
        Write the files that the published code writes, by its names.
    top_voxels : int
        Voxels, chosen by their score on training rows, whose mean stands in the tables beside that of all.
    smallest_effect : float
        Smallest gain of interest, in r or R2, stated beforehand.
    tile : int
        Voxels at a time: bounds memory.
    cluster : str, optional
        `local:2` for two worker processes, or a dask scheduler's address such as tcp://node1:8786.
    seed : int
        42 is the published one.
    device : str
        auto, cpu, cuda or cuda:N.
    """

    bands: dict[str, Band]
    data: Drama2brainData = field(default_factory=Drama2brainData)
    subjects: list[str] | None = None
    mode: Literal["corrected", "faithful"] = "corrected"
    reg_type: Literal["mono", "multi"] = "mono"
    nuisance: list[str] = field(default_factory=list)
    nuisance_delays_s: list[float] = field(default_factory=lambda: [2.0, 4.0, 6.0, 8.0, 10.0])
    alphas: list[float] = field(default_factory=lambda: [10.0 ** (k / 2) for k in range(-6, 13)])
    score: Literal["r2", "correlation"] = "correlation"
    n_iter: int = 20
    partition: Literal["leave-one-out", "all", "none"] = "leave-one-out"
    n_permutations: int = 999
    block_tr: int | None = None
    n_bootstrap: int = 1000
    tail: Literal["pareto", "counted"] = "pareto"
    perm_type: Literal["block", "gauss"] = "block"
    save_pred: bool = False
    save_coef: bool = False
    weight_pca: int = 0
    authors_files: bool = False
    top_voxels: int = 5000
    smallest_effect: float = 0.01
    tile: int = 4096
    cluster: str | None = None
    seed: int = 42
    device: str = "auto"

    def __post_init__(self) -> None:
        self._check_bands()
        if self.block_tr is not None:
            check_range(self.block_tr, "block_tr", low=1)
        for key, least in (("n_iter", 1), ("n_permutations", 19), ("n_bootstrap", 100), ("tile", 1), ("top_voxels", 1),
                           ("weight_pca", 0)):  # fmt: skip
            check_range(getattr(self, key), key, low=least)
        if self.tail == "pareto":
            check_range(self.n_permutations, "n_permutations", low=500)
        if not self.alphas:
            raise InputError("E-CFG", "found an empty list", field="alphas")
        for alpha in self.alphas:
            check_range(alpha, "alphas", low=0, low_open=True)
        if self.subjects is not None and (not self.subjects or len(set(self.subjects)) < len(self.subjects)):
            raise InputError("E-CFG", f"found {self.subjects}, expected each subject once", field="subjects")
        if self.mode == "faithful":
            same_for_all(self.bands)
            if self.nuisance or any(band.nuisance for band in self.bands.values()):
                raise InputError("E-CFG", "the published code knows no nuisance bands", field="nuisance",
                                 hint="`--mode corrected`")  # fmt: skip

    def _check_bands(self) -> None:
        language = [name for name, band in self.bands.items() if not band.nuisance]
        least = 2 if self.reg_type == "multi" else 1
        if len(language) < least:
            raise InputError("E-CFG", f"found {len(language)} bands beside nuisances, expected at least {least}",
                             field="bands")  # fmt: skip
        for name, band in self.bands.items():
            if band.layer == "all" and (self.reg_type == "multi" or band.nuisance):
                raise InputError("E-CFG", "`all` is for the bands of mono: there each layer is a model of its own",
                                 field=f"bands.{name}.layer", hint="find the layer by a mono run first")  # fmt: skip
        for name in self.nuisance:
            check_option(name, ("word_rate", "position"), "nuisance")
        # Bands name columns and files, which not every file system tells apart by case.
        names = [name.lower() for name in (*self.bands, *self.nuisance, "all", "language", "nuisance")]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError("E-CFG", f"`{twice}` is taken, a band needs another name", field="bands")
        if self.partition == "all" and self.reg_type == "multi" and len(language) > 4:
            raise InputError("E-CFG", f"found {len(language)} bands, every subset is fitted for up to 4",
                             field="partition", hint="`--partition leave-one-out`")  # fmt: skip


def encode(config: Config, run: Path, command: Sequence[str] = (), part: str | None = None) -> None:
    """Fit, test and score every subject and model into the run folder `run`.

    A unit is one model of one subject. Units that are finished are not computed again; several processes with
    different parts may work in the same folder at the same time.

    Parameters
    ----------
    part : str, optional
        ``2/8``: only the second eighth of the units; ``merge``: only the tables over all of them, and the manifest,
        which the last share to finish writes as well.

    Raises
    ------
    InputError
        What reading the data raises; E-CFG for a config that does not fit them or another run in the folder; E-REF
        to merge what is not finished.
    RunInUseError
        When another process works on the same share.
    """
    from wernicke.recipes import drama2brain_encode_results as results
    from wernicke.recipes.drama2brain_places import read_sheets
    from wernicke.store.run import RunFolder
    from wernicke.store.units import Share, unfinished

    share = Share.parse(part or "1/1") if part != "merge" else None
    subjects = find_subjects(config)
    sheets = read_sheets(config.data, subjects) if share is not None else {}
    models = list_models(config.bands, config.reg_type, config.data)
    work = [(model, subject) for model in models for subject in subjects]
    folder = RunFolder.create(run, step="encode", command=command, config=settings(config), seed=config.seed)
    folder.begin()
    if share is not None:
        with share.locked(folder.folder):
            folder.begin()  # again: until a share was held, another process could begin the folder anew
            mine = share.of(work)
            load = functools.cache(functools.partial(load_subject, config))
            for model in models:
                todo = [subject for other, subject in mine if other is model]
                fit_model(config, folder, model, todo, load, sheets)
    units = [results.unit_of(folder, subject, model) for model, subject in work]
    missing = unfinished(units)
    if not missing:
        merge(config, folder, models, subjects, asked=part is None or part == "merge")
    elif part == "merge":
        names = ", ".join(unit.folder.relative_to(folder.folder).as_posix() for unit in missing[:3])
        raise InputError("E-REF", f"{len(missing)} of {len(units)} units are not finished: {names}",
                         path=folder.folder, hint="run their `--part k/N` first")  # fmt: skip
    else:
        log.info("share %s is done; %d of %d units are left to others", part, len(missing), len(units))


def settings(config: Config) -> dict[str, Any]:
    """What the results depend on: two shares may compute on different devices."""
    return {key: value for key, value in asdict(config).items() if key not in ("device", "cluster")}


def find_subjects(config: Config) -> list[str]:
    """The subjects asked for, or all that have a folder of responses."""
    from wernicke.data.drama2brain import find_subjects as there
    from wernicke.data.drama2brain_folders import find_folders
    from wernicke.data.drama2brain_tables import SUBJECTS

    root = config.data.need_root()
    for subject in config.subjects or ():
        check_option(subject, SUBJECTS, "subjects")
    found = there(find_folders(root, config.data.folders))
    absent = [subject for subject in config.subjects or () if subject not in found]
    if absent or not found:
        raise InputError("E-REF", f"no responses of {absent[0] if absent else 'any subject'}", path=root,
                         field="subjects", hint=f"found {', '.join(found) or 'none'}")  # fmt: skip
    return list(config.subjects or found)


def load_subject(config: Config, name: str) -> Subject:
    """A subject's recording, all runs joined in one file of the user's cache, which all runs on these data share."""
    from wernicke.data.drama2brain import load_drama2brain
    from wernicke.store.cache import cache_folder
    from wernicke.store.fingerprint import fingerprint

    root = config.data.need_root()
    place = fingerprint({"root": str(root.resolve()), "folders": dict(config.data.folders)})[:12]
    study = load_drama2brain(
        root, [name], folders=config.data.folders, joined=cache_folder() / f"drama2brain-{place}", annotations=False
    )
    recording = study.recordings[name]
    return Subject(recording, fingerprint(recording.values))


def fit_model(
    config: Config,
    folder: RunFolder,
    model: Model,
    subjects: Sequence[str],
    load: Callable[[str], Subject],
    sheets: Mapping[str, Cortex | Mapper],
) -> None:
    """One model of several subjects: features are read, reduced and decomposed once for all who need it."""
    from wernicke.recipes import drama2brain_corrected, drama2brain_faithful
    from wernicke.recipes import drama2brain_encode_results as results
    from wernicke.recipes.drama2brain_design import nuisance_features, read_features
    from wernicke.recipes.drama2brain_weights import check_components
    from wernicke.store.fingerprint import code_fingerprint, fingerprint

    if not subjects:
        return
    features = {**read_features(model, config.data), **nuisance_features(config.nuisance, config.data)}
    known = {"code": code_fingerprint(*CODE), **{f"features {name}": fingerprint(X) for name, X in features.items()}}
    todo: dict[str, Subject] = {}
    units: dict[str, Unit] = {}
    for name in subjects:
        subject = load(name)
        surfaces = {f"surfaces {path.name}": fingerprint(path) for path in config.data.sheet.files(name)}
        units[name] = results.unit_of(folder, name, model, {**known, **surfaces, "responses": subject.fingerprint})
        if units[name].is_whole():
            log.info("already done: %s", units[name].folder)
        else:
            todo[name] = subject
    if config.weight_pca:
        check_components(config, model, features, todo)
    fitter = drama2brain_faithful if config.mode == "faithful" else drama2brain_corrected
    for name, fitted in fitter.fit(config, folder.folder, model, features, todo):
        with units[name].building() as unit:
            results.write_unit(unit, config, model, todo[name].recording, fitted, sheets.get(name))


def merge(config: Config, folder: RunFolder, models: Sequence[Model], subjects: Sequence[str], asked: bool) -> None:
    """Tables over all units, facts, the card; then the manifest. What units had in common is no longer needed."""
    from wernicke.recipes import drama2brain_encode_results as results
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.units import read_identity, remove_work

    units = [results.unit_of(folder, subject, model) for model in models for subject in subjects]
    inputs = {f"{u.folder.parent.name}/{u.folder.name}": fingerprint(read_identity(u.folder)) for u in units}
    try:
        with folder:
            if not folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
                results.write_run(folder, config, models, subjects)
                folder.finish()
            remove_work(folder.folder)
    except RunInUseError:
        if asked:
            raise
        log.info("another process merges %s", folder.folder)
