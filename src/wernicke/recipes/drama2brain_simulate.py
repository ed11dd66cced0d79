"""A simulated data set in drama2brain's layout: nobody's brain, nobody's language model, a known map.

Six simulated subjects of different size see the 41 real run lengths. Five simulated levels of annotation change at
their own pace; each has simulated model states of three layers, of which layer2 drives the voxels, as the mean of
shifts by 8, 9 and 10 s. Which voxels carry which level, and how strongly, stands in ``planted/simulated_<subject>_*``.
Planted r follows the real accuracy map of DM01 (mean .045, 36 % above .05, 99th percentile .28; GPT2-medium, banded
ridge). Both sizes have all rows, so r needs no rescaling. Every text says that it is simulated, and so does the source
that `load_drama2brain` gives. ``drama2brain_mono.yaml`` and ``drama2brain_multi.yaml`` beside them are the shipped
configs for this set.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.signal import lfilter

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.data.drama2brain_stimuli import NO_CAPTION, annotation_file
from wernicke.data.drama2brain_tables import LEVELS, OVERLAP_S, RUNS, SIMULATED_NOTE, SUBJECTS, TITLES, Run
from wernicke.features.align import mean_delay
from wernicke.recipes.config import load_config
from wernicke.store.config import dump_yaml
from wernicke.store.files import PathLike, write_bytes, write_json, write_npy, write_text

logger = logging.getLogger(__name__)

MODEL, LAYERS, PLANTED_LAYER = "SimulatedLM", ("layer1", "layer2", "layer3"), "layer2"
DELAYS_S = (8, 9, 10)
#: Voxels of each subject. Of the real ones only DM01's number is known.
N_VOXELS = {
    "small": (160, 120, 96, 140, 88, 110),
    "full": (87969, 80112, 92040, 84608, 78233, 90451),
}
GRID = (96, 96, 72)

#: Quantiles of DM01's real accuracy map; voxels below .05 are planted without any signal.
_QUANTILES = ((0.64, 0.05), (0.83, 0.10), (0.90, 0.132), (0.99, 0.283), (1.0, 0.5175))
#: Share of the carrying voxels that carry each level first: summaries and places are rare, as in the paper's figure 3.
_SHARES = {"speechTranscription": 0.3, "objectiveAnnot50chara": 0.3, "story": 0.24, "eventContent": 0.08,
           "timePlace": 0.08}  # fmt: skip
_SECOND_LEVEL = 0.15
#: Seconds after which a level's caption changes, shortest and longest.
_PACE_S = {"speechTranscription": (2, 6), "objectiveAnnot50chara": (1, 1), "story": (5, 5), "eventContent": (60, 180),
           "timePlace": (20, 120)}  # fmt: skip
_SILENCE = 0.4
_N_LATENT, _WIDTH = 6, 12
_LAYER_NOISE = {"layer1": 1.5, "layer2": 0.0, "layer3": 0.7}


def simulate_drama2brain(out: PathLike, *, size: str = "small", seed: int = 0) -> Path:
    """Write a simulated data set.

    Parameters
    ----------
    out : path-like
        A folder that does not exist yet, or is empty.
    size : {"small", "full"}
        Small: 88 to 160 voxels, some 100 MB in all. Full: 78,000 to 92,000 voxels, some 65 GB.
    seed : int
        The same seed gives the same bytes.

    Returns
    -------
    Path
        Readable by `wernicke.data.drama2brain.load_drama2brain`.

    Raises
    ------
    InputError
        E-CFG: unknown size, or the folder holds something.
    """
    check_option(size, tuple(N_VOXELS), "size")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("E-CFG", "holds something already, expected a new or empty folder", path=out, field="out")
    write_text(out / "SIMULATED.txt", SIMULATED_NOTE + "\n")
    write_json(out / "simulated.json", {"simulated": True, "note": SIMULATED_NOTE, "size": size, "seed": seed})
    _write_configs(out)
    driving = np.concatenate([_write_level(out, level, seed) for level in LEVELS], axis=1)
    for subject, n_voxels in zip(SUBJECTS, N_VOXELS[size], strict=True):
        _write_subject(out, subject, n_voxels, driving, seed)
        logger.info("simulated subject %s: %d voxels", subject, n_voxels)
    return out


def _write_configs(out: Path) -> None:
    """Write the two shipped configs with the simulated model's name, layers and width."""
    for name in ("drama2brain_mono", "drama2brain_multi"):
        _, values, _ = load_config(name)
        for band in values["bands"].values():
            band |= {"model": MODEL, "layer": "all" if values["reg_type"] == "mono" else int(PLANTED_LAYER[5:])}
            if "pca" in band:
                band["pca"] = _N_LATENT
        values = {"recipe": "drama2brain_encode", **values, "n_iter": 20}
        write_text(out / f"{name}.yaml", f"# {SIMULATED_NOTE}\n{dump_yaml(values)}")


def _stretches() -> Iterator[tuple[Run, slice]]:
    """Yield each run and its rows in the series of all titles, one after the other without overlaps."""
    at = 0
    for run in RUNS:
        yield run, slice(at - run.first_s, at - run.first_s + run.kept_s)
        at += run.kept_s - run.first_s


def _titles() -> np.ndarray:
    """Return the title of every second, shape (29999,)."""
    lengths = [sum(kept) - OVERLAP_S * (len(kept) - 1) for kept, *_ in TITLES.values()]
    return np.repeat(list(TITLES), lengths)


def _scenes(level: str, titles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the number of the caption of every second, -1 where nobody speaks."""
    shortest, longest = _PACE_S[level]
    lengths = rng.integers(shortest, longest + 1, size=len(titles))
    scene = np.repeat(np.arange(len(lengths)), lengths)[: len(titles)]
    # A new title is a new caption.
    number = np.unique([f"{title}/{at:06d}" for title, at in zip(titles, scene, strict=True)], return_inverse=True)[1]
    if level == "speechTranscription":
        silent = rng.random(number.max() + 1) < _SILENCE
        return np.where(silent[number], -1, number)
    return number


def _write_level(out: Path, level: str, seed: int) -> np.ndarray:
    """Write a level's simulated captions and states; return what drives voxels, (29999, n_features) float64."""
    rng = derive_rng(seed, "drama2brain", level)
    titles = _titles()
    scenes = _scenes(level, titles, rng)
    meaning = lfilter([1.0], [1.0, -0.5], rng.standard_normal((scenes.max() + 1, _N_LATENT)), axis=0)
    latent = np.where(scenes[:, None] >= 0, meaning[scenes], 0.0)
    mixing = rng.standard_normal((_N_LATENT, _WIDTH)) * np.arange(1, _WIDTH + 1) ** -0.5
    name, n_annotators = LEVELS[level]
    driving = np.empty((len(titles), _WIDTH))
    for layer in LAYERS:
        noise = _LAYER_NOISE[layer] * rng.standard_normal(latent.shape) * (scenes[:, None] >= 0)
        states = ((latent + noise) @ mixing).astype(np.float16)
        folder = out / "stim_features" / "semantic" / f"{level}_cw1_avgToken_ALL" / MODEL / layer
        for run, rows in _stretches():
            write_npy(folder / f"{run.run}.npy", states[rows])
        if layer == PLANTED_LAYER:
            driving = mean_delay(states.astype(np.float64), DELAYS_S, titles)
    for run, rows in _stretches():
        lines = [
            "\t".join(NO_CAPTION if at < 0 else f"simulated {name.lower()} {at}, annotator {a + 1}"
                      for a in range(n_annotators))
            for at in scenes[rows]
        ]  # fmt: skip
        header = "\t".join(f"simulated{a + 1}" for a in range(n_annotators))
        text = "\n".join([header, *lines]) + "\n"
        write_text(annotation_file(out / "captions", run.title, run.number, level), text)
    return driving


def _plant(n_voxels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which levels voxels carry, (n_voxels, 5) booleans, and their planted r, (n_voxels,)."""
    quantiles, values = np.array(_QUANTILES).T
    rank = (rng.permutation(n_voxels) + 0.5) / n_voxels
    r = np.where(rank < quantiles[0], 0.0, np.interp(rank, quantiles, values))
    first = rng.choice(len(LEVELS), n_voxels, p=[_SHARES[level] for level in LEVELS])
    carries = np.eye(len(LEVELS), dtype=bool)[first]
    second = rng.random(n_voxels) < _SECOND_LEVEL
    carries |= np.eye(len(LEVELS), dtype=bool)[rng.integers(0, len(LEVELS), n_voxels)] & second[:, None]
    return carries & (r > 0)[:, None], r


def _write_subject(out: Path, subject: str, n_voxels: int, driving: np.ndarray, seed: int) -> None:
    rng = derive_rng(seed, "drama2brain", subject)
    carries, r = _plant(n_voxels, rng)
    centred = driving - driving.mean(0)
    weights = rng.standard_normal((driving.shape[1], n_voxels)) * np.repeat(carries, _WIDTH, axis=1).T
    spread = np.sqrt(np.einsum("iv,ij,jv->v", weights, centred.T @ centred / len(centred), weights, optimize=True))
    weights *= np.divide(r, spread, out=np.zeros(n_voxels), where=spread > 0)
    scale = rng.uniform(0.5, 2.0, n_voxels)
    memory = rng.uniform(0.3, 0.6, n_voxels).astype(np.float32)
    for run, rows in _stretches():
        n = run.kept_s + 8  # the scanner runs on after the film
        signal = np.zeros((n, n_voxels), dtype=np.float32)
        signal[: run.kept_s] = centred[rows] @ weights
        noise = _noise(n, memory, rng) * np.sqrt(1 - r**2)
        values = ((signal + noise) * scale).astype(np.float32)
        write_npy(out / "fmri_pre" / subject / f"{run.title}_{run.number}_CerebCortex.npy", values)
    tvoxels = np.sort(rng.choice(np.prod(GRID), n_voxels, replace=False)) + 1
    content = io.BytesIO()
    savemat(content, {"tvoxels": tvoxels[:, None].astype(np.float64)})
    # scipy writes the time of day into the header's text, which is free.
    header = b"MATLAB 5.0 MAT-file, SIMULATED".ljust(116)
    write_bytes(out / "fmri_bbregister" / subject / "vset_099.mat", header + content.getvalue()[116:])
    write_npy(out / "planted" / f"simulated_{subject}_carries.npy", carries)
    write_npy(out / "planted" / f"simulated_{subject}_r.npy", r)


def _noise(n: int, memory: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return stationary AR(1) noise of unit variance, (n, n_voxels) float32."""
    values = rng.standard_normal((n, len(memory)), dtype=np.float32)
    values[1:] *= np.sqrt(1 - memory**2)
    for row in range(1, n):
        values[row] += memory * values[row - 1]
    return values
