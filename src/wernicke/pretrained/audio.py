"""Sound models of transformers (audio spectrogram transformers, wav2vec 2.0 and its kin, Whisper's encoder), frozen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.pretrained.frozen import load_frozen, load_processor, locate_model, trial
from wernicke.pretrained.llm import resolve_device, resolve_dtype
from wernicke.pretrained.locate import LocatedLLM
from wernicke.pretrained.vision import check_dtype


@dataclass(frozen=True)
class AudioModel:
    """A frozen sound model with its preprocessing.

    Parameters
    ----------
    model, extractor : transformers objects
    located : LocatedLLM
    rate_hz : int
        Sampling rate that it was trained with.
    n_states : int
        Hidden states that it reports, the embedding output included.
    n_prefix : int
        Class and distillation tokens before the tokens of sound.
    pads : bool
        The preprocessing fills any sound up to one length, as Whisper's to 30 s.
    dtype : str
    """

    model: Any
    extractor: Any
    located: LocatedLLM
    rate_hz: int
    n_states: int
    n_prefix: int
    pads: bool
    dtype: str

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return the preprocessed input of waveforms of equal length, on the model's device."""
        batch = self.extractor([np.asarray(w, np.float32) for w in waveforms], sampling_rate=self.rate_hz,
                               return_tensors="pt")  # fmt: skip
        moved = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        return {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in moved.items()}

    def check_heard(self, n_samples: int) -> None:
        """Refuse (E-CFG) sound, at `rate_hz`, of which the preprocessing would keep the beginning only."""
        kind, heard = self.model.config.model_type, n_samples
        if kind == "whisper":
            heard = int(self.extractor.n_samples)
        elif kind == "audio-spectrogram-transformer":
            frames = int(self.model.config.max_length)
            heard = self.rate_hz // 40 + frames * (self.rate_hz // 100) - 1  # what makes no frame more
        if n_samples > heard:
            raise InputError("E-CFG", f"found {n_samples / self.rate_hz:g} s, the model hears "
                             f"{heard / self.rate_hz:.4g} s at a time", field="window_s")  # fmt: skip

    def states(self, inputs: dict[str, Any]) -> tuple[Any, ...]:
        """Return transformers' hidden states, each (n, n_tokens, dim)."""
        return self.model(**inputs, output_hidden_states=True).hidden_states

    def places(self, n_samples: int, n_tokens: int) -> np.ndarray:
        """Return which tokens stand for sound, bool (n_tokens,): neither class tokens nor what was filled up.

        Parameters
        ----------
        n_samples : int
            Of the waveform, at `rate_hz`.
        n_tokens : int
            Of a hidden state of it.

        Raises
        ------
        InputError
            E-CFG for a model that fills up sound in a way that is not known here.
        """
        place = np.arange(n_tokens) - self.n_prefix
        if not self.pads:
            return place >= 0
        kind = self.model.config.model_type
        if kind == "whisper":
            return place < np.ceil(n_samples / self.extractor.n_samples * n_tokens)
        if kind == "audio-spectrogram-transformer":
            config = self.model.config
            n_frames = 1 + (n_samples - self.rate_hz // 40) // (self.rate_hz // 100)  # Kaldi's: 25 ms every 10 ms
            n_times = (config.max_length - config.patch_size) // config.time_stride + 1  # of each frequency in turn
            return (place >= 0) & (place % n_times * config.time_stride < max(1, n_frames))
        raise InputError("E-CFG", f"{kind} fills sounds up to one length, and which places are sound is not known",
                         field="pool", hint="use flat")  # fmt: skip


def load_audio(
    model: str | os.PathLike[str], *, device: str = "auto", dtype: str | None = None, revision: str | None = None
) -> AudioModel:
    """Load a sound model; of an encoder-decoder such as Whisper, the encoder.

    Parameters
    ----------
    model : str or path-like
        A local folder or hub id with config, safetensors and ``preprocessor_config.json``.
    device, dtype, revision : str
        As in `wernicke.pretrained.llm.load_llm`; half precision is refused on the CPU.

    Raises
    ------
    InputError
        E-CFG (a model that takes no sound, or half precision on the CPU), E-REF, E-UNSAFE, E-CKPT.
    """
    import torch

    device = resolve_device(device)
    dtype = check_dtype(resolve_dtype(dtype, device), device)
    located = locate_model(model, revision=revision)
    extractor = load_processor(located.folder, "AutoFeatureExtractor")
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int):
        raise InputError("E-CFG", "the preprocessing states no sampling rate: not a model of sound", field="model",
                         path=located.folder)  # fmt: skip
    network = load_frozen(located.folder, device=device, dtype=dtype)
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    n_prefix = 2 if network.config.model_type == "audio-spectrogram-transformer" else 0
    loaded = AudioModel(network, extractor, located, rate, 0, n_prefix, False, dtype)
    with torch.inference_mode(), trial(located.folder, "sound alone"):
        one, two = (loaded.inputs([np.zeros(n * rate, np.float32)]) for n in (1, 2))
        states = loaded.states(one)
    pads = all(one[name].shape == two[name].shape for name in one)
    return replace(loaded, n_states=len(states), pads=pads)
