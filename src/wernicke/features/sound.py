"""Hidden states of sound models in windows of a waveform."""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.media import FILM_ENDINGS, SOUND_ENDINGS, decode_sound
from wernicke.features.pieces import in_pieces
from wernicke.features.text import choose_layers
from wernicke.pretrained.audio import AudioModel, load_audio
from wernicke.store.files import describe_start
from wernicke.store.fingerprint import code_fingerprint, fingerprint, fingerprint_array

_CODE = ("wernicke.features.sound", "wernicke.features.media", "wernicke.features.pieces",
         "wernicke.pretrained.audio", "wernicke.pretrained.frozen")  # fmt: skip
_MAX_BYTES = 8 * 2**30
_MAX_RATE_HZ = 400_000


@dataclass(frozen=True)
class Sound:
    """One channel of sound.

    Parameters
    ----------
    values : array, shape (n,)
        float32, full scale at 1.
    rate_hz : int
    """

    values: np.ndarray
    rate_hz: int

    def __post_init__(self) -> None:
        check_range(self.rate_hz, "rate_hz", low=1, high=_MAX_RATE_HZ)
        if self.values.ndim != 1 or not len(self.values) or self.values.dtype.kind != "f":
            raise InputError("E-SHAPE", f"found {self.values.dtype} of shape {self.values.shape}, expected one channel "
                             "of floating numbers", field="sound")  # fmt: skip
        check_finite(self.values, "sound")

    @property
    def duration_s(self) -> float:
        return len(self.values) / self.rate_hz

    def at(self, rate_hz: int) -> Sound:
        """Return the sound at another rate: polyphase filtering, as scipy's `resample_poly`."""
        if rate_hz == self.rate_hz:
            return self
        from scipy.signal import resample_poly

        ratio = Fraction(rate_hz, self.rate_hz)
        values = resample_poly(self.values.astype(np.float64), ratio.numerator, ratio.denominator)
        return Sound(values.astype(np.float32), rate_hz)


def read_sound(path: str | os.PathLike[str]) -> Sound:
    """Read a WAV file, or the sound of a film or compressed file (by PyAV); several channels are averaged.

    Raises
    ------
    InputError
        E-REF, E-FMT (no sound file, or a coding that scipy does not read), E-TRUNC, E-SIZE, E-NONFIN, and what
        `wernicke.features.media.decode_sound` raises.
    """
    from scipy.io import wavfile

    path = check_file(path)
    size = path.stat().st_size
    if size == 0 or size > _MAX_BYTES:
        raise InputError(
            "E-SIZE" if size else "E-TRUNC", f"file has {size} bytes, expected 1 to {_MAX_BYTES}", path=path
        )
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:12] == b"AVI ":
        if path.suffix.lower() in (*FILM_ENDINGS, *SOUND_ENDINGS) and path.suffix.lower() != ".wav":
            return Sound(*decode_sound(path))
        raise InputError("E-FMT", f"not a WAV file but {describe_start(head)}", path=path,
                         hint="convert it: ffmpeg -i FILE -ac 1 -ar 16000 FILE.wav")  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)
            warnings.filterwarnings("ignore", message="Chunk .non-data. not understood")  # tags and the like
            rate, values = wavfile.read(path)
    except wavfile.WavFileWarning as warning:
        raise InputError("E-TRUNC", f"the WAV file is not whole ({warning})", path=path) from None
    except (ValueError, EOFError, MemoryError, OverflowError, ZeroDivisionError, OSError, TypeError,
            UnboundLocalError, AttributeError, struct.error) as error:  # fmt: skip
        cut = isinstance(error, struct.error)
        code = "E-TRUNC" if cut or "ncomplete" in str(error) or "nexpected end" in str(error) else "E-FMT"
        raise InputError(code, f"the WAV file cannot be read ({_line(error)})", path=path) from None
    if not values.size:
        raise InputError("E-TRUNC", "holds no samples", path=path)
    if values.dtype.kind == "u":
        scaled = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        scaled = values.astype(np.float32) / np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    else:
        scaled = values.astype(np.float32)
    mono = scaled if scaled.ndim == 1 else scaled.mean(1, dtype=np.float32)
    return Sound(check_finite(mono, "samples", path=path), int(rate))


def sound_windows(sound: Sound, *, window_s: float = 1.0, step_s: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Cut a sound into windows that end with each step, as drama2brain does.

    Windows before the start hold silence there (drama2brain's repeat the first second). A last step of less than half
    is dropped, a longer one is filled with silence.

    Returns
    -------
    windows : array, shape (n_steps, window_s * rate_hz)
    onset_s : array, shape (n_steps,)
        Start of each step; the window ends at ``onset_s + step_s``.

    Raises
    ------
    InputError
        E-CFG (window or step no whole number of samples), E-META (shorter than half a step).
    """
    width, step = (_samples(value, sound.rate_hz, name) for value, name in ((window_s, "window_s"), (step_s, "step_s")))
    n = int(np.floor(len(sound.values) / step + 0.5))
    if n == 0:
        raise InputError("E-META", f"the sound of {sound.duration_s:.3g} s is shorter than half a step", field="sound")
    before, after = max(0, width - step), max(0, n * step - len(sound.values))
    padded = np.pad(sound.values, (before, after))
    start = np.arange(n) * step + before + step - width
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[start]
    return windows, np.arange(n) * float(step_s)


def _samples(value_s: float, rate_hz: int, field: str) -> int:
    check_range(value_s, field, low=0, low_open=True)
    n = value_s * rate_hz
    if abs(n - round(n)) > 1e-6 or round(n) < 1:
        near = sorted({max(1, math.floor(n)) / rate_hz, math.ceil(n) / rate_hz})
        raise InputError("E-CFG", f"found {value_s:.9g} s, which is {n:.3f} samples of {rate_hz} Hz", field=field,
                         hint=f"whole samples: {' or '.join(f'{one:.9g}' for one in near)}")  # fmt: skip
    return round(n)


def sound_features(
    sounds: Mapping[str, Sound | str | os.PathLike[str]],
    model: str | os.PathLike[str] | AudioModel,
    *,
    layers: int | Sequence[int] | Literal["all"],
    window_s: float = 1.0,
    step_s: float = 1.0,
    pool: Literal["mean", "last", "flat"] = "mean",
    special_tokens: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str | None = None,
    cache: bool = True,
) -> Features:
    """Return one vector a step of each run's sound, and layer.

    drama2brain (`faithful`) is ``pool="flat"`` with the defaults.

    Parameters
    ----------
    sounds : mapping of run to Sound or file
        Files as `read_sound` takes them, films among them.
    model : str, path-like or AudioModel
        See `wernicke.pretrained.audio.load_audio`; the sound is brought to its rate.
    layers : int, sequence of int, or "all"
        Indices into transformers' hidden states, 0 being the embedding output; negative ones count from the end.
    window_s, step_s : float
        See `sound_windows`.
    pool : str
        ``"mean"`` over time (and frequency), the ``"last"`` token, or ``"flat"``: everything side by side. What a model
        fills up (Whisper to 30 s, AST to 10 s) counts in ``"flat"`` only.
    special_tokens : bool
        Whether class and distillation tokens count in the mean. ``"flat"`` always holds them.
    batch_size, device, dtype, cache
        As in `language_features`; half precision on CUDA only.

    Returns
    -------
    Features
        Bands ``layer<k>``, float32; index `run`, `onset_s`.

    Raises
    ------
    InputError
        What `read_sound`, `sound_windows` and `load_audio` raise; E-CFG (a layer that is not there), E-NONFIN.
    """
    check_option(pool, ("mean", "last", "flat"), "pool")
    check_range(batch_size, "batch_size", low=1)
    if not isinstance(sounds, Mapping) or not sounds:
        raise InputError("E-META", f"found {type(sounds).__name__}, expected a mapping of run to sound", field="sounds")
    network = model if isinstance(model, AudioModel) else load_audio(model, device=device, dtype=dtype)
    wanted = choose_layers(layers, network.n_states - 1)
    settings = {"layers": wanted, "pool": pool, "special_tokens": special_tokens, "dtype": network.dtype,
                "window_s": float(window_s), "step_s": float(step_s)}  # fmt: skip
    code = code_fingerprint(*_CODE)

    def compute(some: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return window_states(some, network, layers=wanted, pool=pool, special_tokens=special_tokens,
                             batch_size=batch_size)  # fmt: skip

    bands: dict[str, list[np.ndarray]] = {}
    tables, prints = [], {}
    for run, given in sounds.items():
        sound = (given if isinstance(given, Sound) else read_sound(given)).at(network.rate_hz)
        windows, onset = sound_windows(sound, window_s=window_s, step_s=step_s)
        each = [fingerprint_array(window) for window in windows]
        prints[str(run)] = fingerprint(each)
        found = in_pieces("sound features", list(windows), each, compute, config=settings,
                          model=network.located.fingerprint, code=code, unit="window", cache=cache)  # fmt: skip
        for name, values in found.items():
            bands.setdefault(name, []).append(values)
        tables.append(pd.DataFrame({"run": [run] * len(onset), "onset_s": onset}))
    provenance: dict[str, Any] = {
        "kind": "hidden states of a sound model",
        "model": network.located.source.name,
        "revision": network.located.revision,
        "model_fingerprint": network.located.fingerprint,
        "sounds": prints,
        "code": code,
        **settings,
    }
    stacked = {name: np.concatenate(parts) for name, parts in bands.items()}
    return Features(stacked, pd.concat(tables, ignore_index=True), provenance)


def window_states(
    windows: Sequence[np.ndarray],
    network: AudioModel,
    *,
    layers: Sequence[int],
    pool: str,
    special_tokens: bool = False,
    batch_size: int = 8,
) -> dict[str, np.ndarray]:
    """Return pooled hidden states of windows of equal length by band, float32; nothing is cached."""
    import torch

    rows: dict[str, list[np.ndarray]] = {f"layer{k}": [] for k in layers}
    network.check_heard(len(windows[0]))
    with torch.inference_mode():
        for start in range(0, len(windows), batch_size):
            states = network.states(network.inputs(windows[start : start + batch_size]))
            for k in layers:
                state = states[k].float()
                if pool == "flat":
                    pooled = state.flatten(1)
                else:
                    places = network.places(len(windows[0]), state.shape[1])
                    if pool == "mean" and special_tokens:
                        places[: network.n_prefix] = True
                    own = state[:, torch.from_numpy(places).to(state.device)]
                    pooled = own[:, -1] if pool == "last" else own.mean(1)
                rows[f"layer{k}"].append(pooled.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
