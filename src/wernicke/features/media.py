"""Video and sound files by PyAV (FFmpeg's libraries): stills at given times of each second, and the sound track.

PyAV comes with the extra ``video``. Without it frames that were extracted beforehand and WAV files still work
(`wernicke.features.picture_files.film_frames`, `wernicke.features.sound.read_sound`).
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_file, check_finite, check_range
from wernicke.core.errors import InputError
from wernicke.features.picture_files import MAX_PIXELS
from wernicke.store.files import describe_start

logger = logging.getLogger(__name__)

FILM_ENDINGS = (".mp4", ".mkv", ".mov", ".avi", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus")
STILLS_S = (0.0, 0.5)  # drama2brain: the first and the middle frame of each second
#: Containers that hold their own content. Playlists (HLS, concat, DASH) name other files and addresses: never opened.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,mp3,flac,wav,w64,aac,aiff,caf"
)
_MAX_SAMPLES = 2 * 2**30
_MAX_CHANNELS = 64
_NEAR_S = 0.002  # Matroska counts in milliseconds
_GAP_S = 0.1


def film_stills(
    path: str | os.PathLike[str], *, at_s: Sequence[float] = STILLS_S
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield each whole second of a film with the pictures on screen at `at_s` within it.

    Parameters
    ----------
    path : path-like
        A video file that FFmpeg reads.
    at_s : sequence of float
        Times within the second, rising, 0 to below 1.

    Yields
    ------
    second : int
    pictures : list of array, uint8 (height, width, 3)
        RGB, one a time of `at_s`.

    Raises
    ------
    InputError
        E-CFG (PyAV is not installed, times that do not rise), E-REF, E-FMT (not a film), E-SIZE (over 50 million
        pixels), E-TRUNC (it ends long before its header says, or within the data).
    """
    times = [float(t) for t in at_s]
    if not times or times != sorted(set(times)) or times[0] < 0 or times[-1] >= 1:
        raise InputError("E-CFG", f"found {times}, expected rising times from 0 to below 1 s", field="at_s")
    held: dict[int, list[np.ndarray]] = {}
    k, j = 0, 0
    shown: Any = None
    end_s = 0.0
    for time_s, interval_s, frame in _frames(path):
        while k + times[j] < time_s - _NEAR_S:  # what was on screen at that time is the frame before this one
            held.setdefault(k, []).append(_rgb(shown if shown is not None else frame))
            k, j = (k, j + 1) if j + 1 < len(times) else (k + 1, 0)
        for second in [s for s in held if s + 1 <= time_s + _NEAR_S]:
            yield second, held.pop(second)
        shown, end_s = frame, time_s + interval_s
    while k + times[j] < end_s:
        held.setdefault(k, []).append(_rgb(shown))
        k, j = (k, j + 1) if j + 1 < len(times) else (k + 1, 0)
    for second, pictures in held.items():
        if second + 1 <= end_s + interval_s / 2 and len(pictures) == len(times):
            yield second, pictures


def all_frames(path: str | os.PathLike[str]) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the time in seconds and the picture of every frame of a film, as motion energy needs them.

    Raises
    ------
    InputError
        As `film_stills`.
    """
    for time_s, _, frame in _frames(path):
        yield time_s, _rgb(frame)


def decode_sound(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Return the sound of a video or sound file: float32 (n,), its channels averaged, and the rate in Hz.

    In a film the first sample stands at the time of the first picture; what sounds before is cut off, and silence is
    put where the track begins later or has a gap.

    Raises
    ------
    InputError
        E-CFG (PyAV is not installed), E-META (a film without sound), E-REF, E-FMT, E-SIZE, E-TRUNC, E-NONFIN.
    """
    path = check_file(path)
    with _open(path) as (av, container):
        if not container.streams.audio:
            raise InputError("E-META", "the file has no sound", path=path)
        stream = container.streams.audio[0]
        rate = int(check_range(stream.codec_context.sample_rate, "sampling rate", low=1, high=400_000))
        if stream.codec_context.channels > _MAX_CHANNELS:
            raise InputError("E-SIZE", f"{stream.codec_context.channels} channels, at most {_MAX_CHANNELS} are read",
                             path=path)  # fmt: skip
        picture = container.streams.video[0] if container.streams.video else None
        zero_s = _start_s(picture) if picture is not None else None
        parts: list[np.ndarray] = []
        n = 0
        for start_s, values in _decoded_sound(av, container, stream, path):
            zero_s = start_s if zero_s is None else zero_s
            ahead = round((start_s - zero_s) * rate) - n
            if (not n and ahead > 0) or ahead > _GAP_S * rate:
                if n:
                    logger.warning("%s: %.2f s of silence in place of a gap at %.2f s", path, ahead / rate, n / rate)
                ahead = min(ahead, _MAX_SAMPLES)
                parts.append(np.zeros(ahead, np.float32))
                n += ahead
            values = values[max(0, -ahead) :] if not n else values
            parts.append(values)
            n += len(values)
            if n > _MAX_SAMPLES:
                raise InputError("E-SIZE", f"more than {_MAX_SAMPLES} samples", path=path)
        if not n:
            raise InputError("E-TRUNC", "the sound holds no samples", path=path)
        stated = None if stream.duration is None else float(stream.duration * stream.time_base)
    samples = np.concatenate(parts)
    if stated is not None and 0 <= len(samples) - round(stated * rate) <= _GAP_S * rate:
        samples = samples[: round(stated * rate)]  # an encoder's last block, filled up with silence
    return check_finite(samples, "samples", path=path), rate


def _decoded_sound(av: Any, container: Any, stream: Any, path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the start in seconds and the mean of the channels, frame by frame."""
    resampler = av.AudioResampler(format="fltp")
    next_s = 0.0
    for packet in _packets(av, container, stream, path):
        for frame in packet.decode():
            start_s = next_s if frame.time is None else float(frame.time)
            for plain in resampler.resample(frame):
                values = plain.to_ndarray().mean(0, dtype=np.float32)
                yield start_s, values
                start_s = next_s = start_s + len(values) / plain.sample_rate


def _packets(av: Any, container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Yield one stream's packets; E-TRUNC if the file as a whole ends long before its header says."""
    end_s = 0.0
    for packet in container.demux():
        if packet.pts is not None:
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is stream:
            yield packet
    stated_s = (container.duration or 0) / av.time_base
    if end_s < stated_s - max(1.0, 0.002 * stated_s):
        raise InputError("E-TRUNC", f"ends at {end_s:.1f} s, its header says {stated_s:.1f} s", path=path)


def _frames(path: str | os.PathLike[str]) -> Iterator[tuple[float, float, Any]]:
    """Yield the time, the usual interval (both seconds) and PyAV's frame, in the order of showing."""
    path = check_file(path)
    with _open(path) as (av, container):
        if not container.streams.video:
            raise InputError("E-FMT", "the file has no pictures", path=path)
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        _check_size(stream.codec_context.width, stream.codec_context.height, path)
        zero_s = _start_s(stream)
        interval_s = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
        last_s, n = -np.inf, 0
        for packet in _packets(av, container, stream, path):
            for frame in packet.decode():
                _check_size(frame.width, frame.height, path)
                time_s = last_s + interval_s if frame.time is None else float(frame.time) - zero_s
                time_s = 0.0 if not n and not np.isfinite(time_s) else time_s
                if time_s <= last_s:
                    raise InputError("E-FMT", f"the picture after {last_s:.2f} s stands at {time_s:.2f} s", path=path)
                last_s, n = time_s, n + 1
                yield time_s, interval_s, frame
        if not n:
            raise InputError("E-TRUNC", "holds no pictures", path=path)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield PyAV and the opened container; whatever FFmpeg finds wrong becomes an InputError."""
    if importlib.util.find_spec("av") is None:
        raise InputError("E-CFG", "video and compressed sound need PyAV", path=path,
                         hint="pip install 'wernicke[video]'; or extract the frames as PNG and the sound as WAV "
                         "beforehand")  # fmt: skip
    import av

    if path.stat().st_size == 0:
        raise InputError("E-TRUNC", "file is empty", path=path)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    begun = False
    try:
        with open(path, "rb") as file, av.open(file, options=options) as container:
            begun = True
            yield av, container
    except av.error.FFmpegError as error:
        if begun:
            raise InputError("E-TRUNC", f"FFmpeg cannot decode it to the end ({error.strerror})", path=path) from None
        with open(path, "rb") as file:
            head = file.read(64)
        raise InputError("E-FMT", f"not a film or sound that FFmpeg reads ({error.strerror}): {describe_start(head)}",
                         path=path) from None  # fmt: skip


def _start_s(stream: Any) -> float:
    return 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > MAX_PIXELS:
        raise InputError("E-SIZE", f"{width} x {height} pixels, at most {MAX_PIXELS} are read", path=path)


def _rgb(frame: Any) -> np.ndarray:
    return frame.to_ndarray(format="rgb24")
