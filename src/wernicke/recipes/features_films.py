"""Features of drama2brain's pictures and sound: hidden states of models, and what needs no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.recipes.features_jobs import RECIPE, Job, Parts, Stimuli, chunks, indices, layers_of, renamed
from wernicke.store.fingerprint import code_fingerprint, fingerprint

if TYPE_CHECKING:
    from wernicke.data.drama2brain_tables import Run
    from wernicke.recipes.features_drama2brain import Config

MEASURES = ("luminance", "motion_energy", "sound_level")


def sound_job(config: Config, stimuli: Stimuli, name: str, source: str) -> Job:
    from wernicke.features.sound import read_sound, sound_windows, window_states
    from wernicke.pretrained.audio import load_audio

    model = load_audio(source, device=config.device, dtype=config.dtype)
    pool = "flat" if config.places == "flatToken" else "mean"

    def parts(run: Run, layers: Sequence[str]) -> Parts:
        sound = read_sound(stimuli.sound_file(run)).at(model.rate_hz)
        windows, _ = sound_windows(sound, window_s=config.audio_window_s)
        for some in chunks(iter(windows[: run.kept_s])):
            states = window_states(some, model, layers=indices(layers), pool=pool, special_tokens=config.special,
                                   batch_size=config.batch_size)  # fmt: skip
            yield renamed(states, layers)

    settings = {"kind": "hidden states of a sound model", "model_fingerprint": model.located.fingerprint,
                "special_tokens": config.special, "computed_in": model.dtype}  # fmt: skip
    hparams = f"{config.audio_window_s}s" + ("" if pool == "flat" else "_avgToken")
    facts = {"source": model.located.source.name, "revision": model.located.revision}
    code = code_fingerprint(*RECIPE, "wernicke.features.sound", "wernicke.features.media", "wernicke.pretrained.audio",
                            "wernicke.pretrained.frozen")  # fmt: skip
    return Job("audio", hparams, name, layers_of(config, model.n_states, name), settings, facts, code,
               lambda run: fingerprint(stimuli.sound_file(run)), parts)  # fmt: skip


def picture_job(config: Config, stimuli: Stimuli, name: str, source: str) -> Job:
    from wernicke.features.pictures import picture_states
    from wernicke.pretrained.vision import load_vision

    model = load_vision(source, device=config.device, dtype=config.dtype)
    pool = "flat" if config.places == "flatToken" else "mean"

    def parts(run: Run, layers: Sequence[str]) -> Parts:
        for seconds in chunks(stimuli.stills(run)):
            states = picture_states([p for pair in seconds for p in pair], model, layers=indices(layers), pool=pool,
                                    special_tokens=config.special, squeeze=config.squeeze,
                                    batch_size=config.batch_size)  # fmt: skip
            yield renamed({k: _over_stills(v, len(seconds)) for k, v in states.items()}, layers)

    settings = {"kind": "hidden states of a picture model", "model_fingerprint": model.located.fingerprint,
                "special_tokens": config.special, "squeeze": config.squeeze, "computed_in": model.dtype}  # fmt: skip
    facts = {"source": model.located.source.name, "revision": model.located.revision}
    code = code_fingerprint(*RECIPE, "wernicke.features.pictures", "wernicke.features.picture_files",
                            "wernicke.features.media", "wernicke.pretrained.vision", "wernicke.pretrained.frozen",
                            "wernicke.pretrained.efficientnet_lite")  # fmt: skip
    return Job("vision", "default" if pool == "flat" else "avgToken", name, layers_of(config, model.n_states, name),
               settings, facts, code, stimuli.film_print, parts)  # fmt: skip


def _over_stills(values: np.ndarray, n_seconds: int) -> np.ndarray:
    """Average the stills of each second."""
    return values.reshape(n_seconds, -1, values.shape[1]).mean(1)


def pair_jobs(config: Config, stimuli: Stimuli, name: str, source: str) -> Iterator[Job]:
    from wernicke.features.multimodal import check_lengths, pair_states, said_captions
    from wernicke.pretrained.vision_language import load_vision_language

    if config.annotators != "ALL":
        raise InputError("E-CFG", f"{name} takes all annotators", field="annotators")
    model = load_vision_language(source, device=config.device, dtype=config.dtype)
    pool = "mean" if config.tokens == "avgToken" else "flat"
    layers = layers_of(config, model.n_states, name)
    code = code_fingerprint(*RECIPE, "wernicke.features.multimodal", "wernicke.features.picture_files",
                            "wernicke.features.media", "wernicke.pretrained.vision_language",
                            "wernicke.pretrained.frozen")  # fmt: skip
    settings = {"kind": "hidden states of a model of pictures and text", "squeeze": config.squeeze,
                "model_fingerprint": model.located.fingerprint, "prompt": model.prompt, "mode": config.mode,
                "special_tokens": config.special, "computed_in": model.dtype}  # fmt: skip
    facts = {"source": model.located.source.name, "revision": model.located.revision}
    for level in config.levels:
        said = {run.run: said_captions(stimuli.rows(level, run), run.kept_s, config.mode) for run in config.runs}
        check_lengths({text for rows in said.values() for row in rows for text in row}, model)

        def parts(run: Run, layers: Sequence[str], said: Any = said) -> Parts:
            for some in chunks(zip(stimuli.stills(run), said[run.run], strict=False), 4):
                pairs = [(picture, texts) for pictures, texts in some for picture in pictures]
                states = pair_states(pairs, model, layers=indices(layers), pool=pool, special_tokens=config.special,
                                     squeeze=config.squeeze, batch_size=config.batch_size)  # fmt: skip
                yield renamed({k: _over_stills(v, len(some)) for k, v in states.items()}, layers)

        def content(run: Run, said: Any = said) -> str:
            return fingerprint({"film": stimuli.film_print(run), "captions": [list(row) for row in said[run.run]]})

        yield Job("vision-semantic", f"default-{level}_{config.tokens}", name, layers, settings, facts, code, content,
                  parts)  # fmt: skip


def measure_job(config: Config, stimuli: Stimuli, modality: str, name: str, source: str) -> Job:
    """What needs no model: sound level, luminance, motion energy; bands that a model must do better than."""
    wanted = "audio" if source == "sound_level" else "vision"
    if modality != wanted:
        raise InputError("E-CFG", f"{source} is of modality {wanted}", field=name)
    make = {"sound_level": _sound_level, "luminance": _luminance, "motion_energy": _motion_energy}[source]
    code = code_fingerprint(*RECIPE, "wernicke.features.nuisance", "wernicke.features.motion_energy",
                            "wernicke.features.media", "wernicke.features.sound")  # fmt: skip
    content = {"sound_level": lambda run: fingerprint(stimuli.sound_file(run)), "luminance": stimuli.film_print,
               "motion_energy": stimuli.frames_print}[source]  # fmt: skip
    return Job(modality, "default", name, ["layerNone"], {"kind": source}, {}, code, content,
               lambda run, layers: make(stimuli, run))  # fmt: skip


def _sound_level(stimuli: Stimuli, run: Run) -> Parts:
    from wernicke.features.nuisance import sound_level
    from wernicke.features.sound import read_sound

    sound = read_sound(stimuli.sound_file(run))
    n = min(run.kept_s, int(sound.duration_s + 0.5))
    if n:
        yield {"layerNone": sound_level({run.run: sound}, n_tr={run.run: n}, tr_s=1.0).bands["envelope"]}


def _luminance(stimuli: Stimuli, run: Run) -> Parts:
    from wernicke.features.nuisance import luminance

    for seconds in chunks(stimuli.stills(run)):
        at = [k + i / len(pair) for k, pair in enumerate(seconds) for i in range(len(pair))]
        index = pd.DataFrame({"run": run.run, "onset_s": at})
        found = luminance([p for pair in seconds for p in pair], index, n_tr={run.run: len(seconds)}, tr_s=1.0)
        yield {"layerNone": found.bands["luminance"]}


def _motion_energy(stimuli: Stimuli, run: Run) -> Parts:
    from wernicke.features.media import all_frames
    from wernicke.features.motion_energy import motion_energy
    from wernicke.features.picture_files import film_frames, read_picture

    size = 32
    if stimuli.media.frames is not None:
        fps = stimuli.config.data.fps
        frames: Sequence[Any]
        frames, index = film_frames(stimuli.media.frames / run.run, run=run.run, fps=fps, all_frames=True)
    else:
        from PIL import Image

        frames, at = [], []
        for time_s, picture in all_frames(stimuli.film(run)):
            grey = read_picture(picture).convert("L").resize((size, size), Image.Resampling.BOX)
            frames.append(np.asarray(grey))
            at.append(time_s)
        index = pd.DataFrame({"run": run.run, "onset_s": at})
        fps = (len(at) - 1) / (at[-1] - at[0]) if len(at) > 1 else stimuli.config.data.fps
    n = min(run.kept_s, int(len(frames) / fps + 0.01))
    if n:
        keep = index["onset_s"].to_numpy() < n
        found = motion_energy([f for f, k in zip(frames, keep, strict=True) if k], index[keep], n_tr={run.run: n},
                              tr_s=1.0, fps=fps, size=size)  # fmt: skip
        yield {"layerNone": found.bands["motion_energy"]}
