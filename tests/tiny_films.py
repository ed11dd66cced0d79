"""Films of a few seconds, written by PyAV: grey pictures whose brightness tells the time, and a tone.

Test files import this module by its name, after ``pytest.importorskip("av")``.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

RATE_HZ = 16_000


def brightness(frame: int, fps: float) -> int:
    """Return the grey value of a frame: 10 times the number of half seconds, so that codecs cannot blur it away."""
    return int(20 + 10 * int(2 * frame / fps + 1e-6))


def make_film(path: Path, *, seconds: float = 4, fps: int = 30, sound: bool = True, hz: float = 440.0) -> Path:
    """Write an ``.mp4`` (MPEG-4, AAC), ``.mkv`` or ``.avi`` (MPEG-4, PCM) of 64 x 48 pixels."""
    import av

    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=fps)
        pictures.width, pictures.height, pictures.pix_fmt, pictures.bit_rate = 64, 48, "yuv420p", 2_000_000
        if sound:
            codec = "aac" if path.suffix == ".mp4" else "pcm_s16le"
            track = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        for i in range(round(fps * seconds)):
            grey = np.full((48, 64, 3), brightness(i, fps), np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(pictures.encode())
        if sound:
            samples = (tone(seconds, hz) * 32767).astype(np.int16)
            for start in range(0, len(samples), 1024):
                block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
                block.rate, block.pts, block.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
                container.mux(track.encode(block))
            container.mux(track.encode())
    return path


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    """Return the tone that a film holds, at half of full scale."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
