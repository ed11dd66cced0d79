"""Films and their sound: what stands where is known, because the films are made here."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.io import wavfile

from wernicke.core.errors import InputError
from wernicke.features.media import all_frames, decode_sound, film_stills
from wernicke.features.sound import read_sound

pytest.importorskip("av")

from tiny_films import RATE_HZ, brightness, make_film, tone  # noqa: E402


@pytest.mark.parametrize(
    ("ending", "fps", "seconds"), [("mp4", 30, 4), ("mkv", 30, 3), ("avi", 25, 3.4), ("mp4", 24, 2)]
)
def test_first_and_middle_frame_of_each_second(tmp_path, ending, fps, seconds):
    film = make_film(tmp_path / f"a.{ending}", fps=fps, seconds=seconds)
    found = list(film_stills(film))
    assert [second for second, _ in found] == list(range(int(seconds)))  # a last part of a second is left out
    for second, pictures in found:
        for picture, at in zip(pictures, (0, fps // 2), strict=True):
            assert picture.shape == (48, 64, 3)
            assert abs(picture.mean() - brightness(second * fps + at, fps)) < 2


def test_other_times_and_all_frames(tmp_path):
    film = make_film(tmp_path / "a.mp4", seconds=2)
    (quarters, _) = [p for _, p in film_stills(film, at_s=(0.25, 0.75))]
    assert [round(float(p.mean()), -1) for p in quarters] == [20, 30]
    frames = list(all_frames(film))
    assert len(frames) == 60
    np.testing.assert_allclose([t for t, _ in frames], np.arange(60) / 30, atol=1e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_the_sound_track_is_the_tone_at_its_time(tmp_path, ending):
    values, rate = decode_sound(make_film(tmp_path / f"a.{ending}", seconds=3))
    assert (rate, values.dtype, len(values)) == (RATE_HZ, np.float32, 3 * RATE_HZ)
    lossy = 0.03 if ending == "mp4" else 2 / 32767
    inner = slice(2000, -2000)
    assert np.abs(values - tone(3))[inner].max() < lossy  # in phase: no delay by the encoder's priming


def test_a_film_is_read_wherever_sound_is_taken(tmp_path):
    sound = read_sound(make_film(tmp_path / "a.mkv", seconds=2))
    wavfile.write(tmp_path / "a.wav", RATE_HZ, tone(2).astype(np.float32))
    np.testing.assert_allclose(sound.values, read_sound(tmp_path / "a.wav").values, atol=1e-4)


def test_channels_are_averaged_and_rates_kept(tmp_path):
    import av

    left, right = tone(1), np.zeros(RATE_HZ)
    samples = (np.stack([left, right], 1) * 32767).astype(np.int16)
    with av.open(str(tmp_path / "s.flac"), "w") as container:
        track = container.add_stream("flac", rate=RATE_HZ, layout="stereo")
        block = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        block.rate = RATE_HZ
        container.mux(track.encode(block))
        container.mux(track.encode())
    sound = read_sound(tmp_path / "s.flac")
    np.testing.assert_allclose(sound.values, left / 2, atol=1e-4)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://%s\n#EXT-X-ENDLIST\n"


def test_files_that_cannot_be_right(tmp_path):
    film = make_film(tmp_path / "a.mkv")
    content = film.read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, len(content) - 3000, dtype=np.uint8).tobytes()
    cases = {
        "empty.mp4": (b"", "E-TRUNC"),
        "text.mp4": (b"<html>gone</html>" * 99, "E-FMT"),
        "half.mkv": (content[: len(content) // 2], "E-TRUNC"),
        "noise.mkv": (content[:3000] + noise, "E-TRUNC"),
        "head.mp4": (make_film(tmp_path / "b.mp4").read_bytes()[:4000], "E-FMT"),
        "playlist.mp4": (PLAYLIST % bytes(film), "E-FMT"),  # names another file
        "concat.mp4": (b"ffconcat version 1.0\nfile '%s'\n" % bytes(film), "E-FMT"),
    }
    for name, (damaged, code) in cases.items():
        (tmp_path / name).write_bytes(damaged)
        for read in (lambda path: list(film_stills(path)), decode_sound):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert (name, caught.value.code) == (name, code)
            assert name in str(caught.value)


def test_no_sound_no_pictures_no_file_and_times(tmp_path):
    silent = make_film(tmp_path / "a.mp4", sound=False, seconds=1)
    wavfile.write(tmp_path / "a.wav", RATE_HZ, tone(1).astype(np.float32))
    for call, code in (
        (lambda: decode_sound(silent), "E-META"),
        (lambda: list(film_stills(tmp_path / "a.wav")), "E-FMT"),
        (lambda: list(film_stills(tmp_path / "absent.mp4")), "E-REF"),
        (lambda: list(film_stills(silent, at_s=(0.5, 0.0))), "E-CFG"),
        (lambda: list(film_stills(silent, at_s=())), "E-CFG"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == code


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    film = make_film(tmp_path / "a.mp4", seconds=1)
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    for read in (lambda: list(film_stills(film)), lambda: read_sound(film)):
        with pytest.raises(InputError, match=r"wernicke\[video\]"):
            read()
