"""Nuisance bands against sums written out and planted motion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tiny_models import picture, sound
from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.features.motion_energy import film_energy, filter_bank, motion_energy, small_luma
from wernicke.features.nuisance import (
    HEAD_COLUMNS,
    head_motion,
    join_bands,
    luminance,
    position_in_run,
    sound_level,
    word_rate,
)
from wernicke.features.sound import Sound


def test_word_rate_counts_onsets():
    events = Events(pd.DataFrame({
        "run": ["a", "a", "a", "a", "b", "a"], "onset_s": [0.0, 1.9, 2.0, 6.0, 0.5, 0.7],
        "duration_s": 0.1, "text": ["one", "two", "three four", "late", "b", ""],
    }))  # fmt: skip
    found = word_rate(events, n_tr={"b": 1, "a": 3}, tr_s=2.0)
    np.testing.assert_allclose(found.bands["word_rate"][:, 0], [0.5, 1.0, 1.0, 0.0])
    assert found.index["run"].tolist() == ["b", "a", "a", "a"]
    with pytest.raises(InputError, match="run 'b'"):
        word_rate(events, n_tr={"a": 3}, tr_s=2.0)


def test_position_is_orthogonal_and_the_same_in_every_run():
    band = position_in_run(n_tr={"a": 50, "b": 50, "c": 20}, tr_s=1.0, degree=3).bands["position"]
    assert band.shape == (120, 3)
    np.testing.assert_array_equal(band[:50], band[50:100])
    np.testing.assert_allclose(band[:50, 0], np.linspace(-1, 1, 50), atol=1e-6)
    np.testing.assert_allclose(band[:50, 1], 1.5 * np.linspace(-1, 1, 50) ** 2 - 0.5, atol=1e-6)


def test_sound_level_by_loop():
    values = sound(0, 7.3)
    found = sound_level({"1": Sound(values, 16000)}, n_tr={"1": 5}, tr_s=2.0).bands["envelope"][:, 0]
    silent_end = np.r_[values, np.zeros(200_000, np.float32)]
    expected = [np.sqrt(np.mean(silent_end[k * 32000 : (k + 1) * 32000].astype(float) ** 2)) for k in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert found[4] == 0


def test_luminance_of_grey_frames():
    frames = [np.full((8, 8, 3), v, np.uint8) for v in (0, 51, 102, 255)]
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    index = pd.DataFrame({"run": ["1"] * 5, "onset_s": [0, 0.5, 1.0, 1.5, 2.0]})
    found = luminance([*frames, half], index, n_tr={"1": 3}, tr_s=1.0).bands["luminance"]
    np.testing.assert_allclose(found, [[0.1, 0], [0.7, 0], [0.5, 0.5]], atol=1e-6)


def test_head_motion_is_fmripreps_24():
    rng = np.random.default_rng(0)
    six = {run: rng.standard_normal((n, 6)) for run, n in (("a", 5), ("b", 4))}
    band = head_motion(six, n_tr={"a": 5, "b": 4}, tr_s=2.0).bands["head_motion"]
    assert band.shape == (9, 24)
    for row, (run, k) in enumerate([("a", k) for k in range(5)] + [("b", k) for k in range(4)]):
        step = six[run][k] - six[run][k - 1] if k else np.zeros(6)
        np.testing.assert_allclose(band[row], np.r_[six[run][k], step, six[run][k] ** 2, step**2], rtol=1e-5, atol=1e-6)
    frame = pd.DataFrame(six["a"], columns=HEAD_COLUMNS).assign(csf=1.0)
    alone = head_motion({"a": frame}, n_tr={"a": 5}, tr_s=2.0, expand=False)
    np.testing.assert_allclose(alone.bands["head_motion"], six["a"], rtol=1e-6)
    with pytest.raises(InputError, match="rot_z"):
        head_motion({"a": frame.drop(columns="rot_z")}, n_tr={"a": 5}, tr_s=2.0)
    with pytest.raises(InputError, match="expected 6"):
        head_motion({"a": six["a"]}, n_tr={"a": 6}, tr_s=2.0)


def drifting(direction_deg, cycles, hz, fps=24.0, n=48, size=32):
    """A sine grating that moves in a direction (0: right, 90: down)."""
    t = np.arange(n)[:, None, None] / fps
    y, x = np.mgrid[:size, :size] / size
    angle = np.deg2rad(direction_deg)
    return 0.5 + 0.4 * np.sin(2 * np.pi * (cycles * (x * np.cos(angle) + y * np.sin(angle)) - hz * t))


@pytest.mark.parametrize("direction", [0, 90, 180, 270])
@pytest.mark.parametrize(("cycles", "hz"), [(4, 2), (4, 4), (2, 4)])
def test_the_filter_of_the_planted_motion_wins(direction, cycles, hz):
    bank = filter_bank((0, 90, 180, 270), (2, 4), (2, 4))
    energy = film_energy(drifting(direction, cycles, hz), bank, 24.0)[12:-12].mean(0)
    assert bank[int(energy.argmax())] == (direction, cycles, hz)
    opposite = bank.index(((direction + 180) % 360, cycles, hz))
    assert energy.max() > 20 * energy[opposite]


def test_no_motion_no_energy():
    bank = filter_bank((0, 90), (2, 4), (2, 4))
    still = np.repeat(drifting(0, 4, 2)[:1], 48, axis=0)
    moving = film_energy(drifting(0, 4, 2), bank, 24.0)[12:-12]
    assert film_energy(still, bank, 24.0)[12:-12].max() < 0.02 * moving.max()
    flicker = 0.5 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(48) / 24)[:, None, None] * np.ones((1, 32, 32))
    inner = film_energy(flicker, bank, 24.0)[12:-12]
    assert inner.max() < 0.2 * moving.max()  # uniform flicker: only the picture's border is left
    static = filter_bank((0, 45, 90, 135, 180, 225), (4,), (0,))
    assert [d for d, _, _ in static] == [0, 45, 90, 135]


def test_direct_sum_of_one_response():
    """One filter's energy by the definition, without any convolution routine."""
    rng = np.random.default_rng(0)
    film = rng.random((9, 16, 16))
    direction, cycles, hz, fps = 45.0, 4.0, 4.0, 8.0
    sigma_x, sigma_t, light = 16 / cycles / 2, 0.5 / hz * fps, film - film.mean()
    hx, ht = int(np.ceil(2.5 * sigma_x)), int(np.ceil(2.5 * sigma_t))
    u = np.arange(-hx, hx + 1)
    gy, gx = np.meshgrid(u, u, indexing="ij")
    g = np.exp(-(gx**2 + gy**2) / (2 * sigma_x**2))
    g /= g.sum()
    wave = np.exp(2j * np.pi * cycles / 16 * (gx + gy) / np.sqrt(2))
    space = g * (wave - (g * wave).sum())
    s = np.arange(-ht, ht + 1)
    h = np.exp(-(s**2) / (2 * sigma_t**2))
    time = h / h.sum() * np.exp(-2j * np.pi * hz * s / fps)
    padded = np.zeros((9 + 2 * ht, 16 + 2 * hx, 16 + 2 * hx))
    padded[ht : ht + 9, hx : hx + 16, hx : hx + 16] = light
    at = 4
    response = np.zeros((16, 16), complex)
    for k, weight in enumerate(time):
        frame = padded[at + ht - s[k]]
        for y in range(16):
            for x in range(16):
                response[y, x] += weight * (frame[y : y + 2 * hx + 1, x : x + 2 * hx + 1][::-1, ::-1] * space).sum()
    found = film_energy(film, [(direction, cycles, hz)], fps)[at, 0]
    np.testing.assert_allclose(found, (np.abs(response) ** 2).mean(), rtol=1e-3)


def test_motion_energy_of_frames_by_tr(tmp_path):
    film = (drifting(0, 4, 2) * 255).astype(np.uint8)
    index = pd.DataFrame({"run": ["1"] * 48, "onset_s": np.arange(48) / 24})
    found = motion_energy(list(film), index, n_tr={"1": 2}, tr_s=1.0, fps=24.0)
    n_filters = len(found.provenance["filters"])
    assert found.bands["motion_energy"].shape == (2, n_filters)
    best = found.provenance["filters"][int(found.bands["motion_energy"].mean(0).argmax())]
    assert (best["direction_deg"], best["cycles"], best["temporal_hz"]) in ((0, 4, 2), (0, 4, 0))
    steps = np.abs(np.diff(film.astype(float) / 255, axis=0)).mean((1, 2)) * 24
    np.testing.assert_allclose(found.bands["frame_difference"][:, 0], [np.r_[0, steps[:23]].mean(), steps[23:].mean()],
                               rtol=1e-4)  # fmt: skip
    assert small_luma(Image.fromarray(picture(0)), 16).shape == (16, 16)
    with pytest.raises(InputError, match="apart"):
        motion_energy(list(film), index, n_tr={"1": 2}, tr_s=1.0, fps=12.0)
    with pytest.raises(InputError, match="can be seen"):
        motion_energy(list(film), index, n_tr={"1": 2}, tr_s=1.0, fps=24.0, temporal_hz=[20])


def test_bands_of_the_same_rows_are_joined():
    n_tr = {"1": 4}
    both = join_bands(
        position_in_run(n_tr=n_tr, tr_s=1.0), sound_level({"1": Sound(sound(0, 4), 16000)}, n_tr=n_tr, tr_s=1.0)
    )
    assert list(both.bands) == ["position", "envelope"]
    with pytest.raises(InputError, match="other rows"):
        join_bands(position_in_run(n_tr=n_tr, tr_s=1.0), position_in_run(n_tr={"1": 5}, tr_s=1.0))
    with pytest.raises(InputError, match="twice"):
        join_bands(position_in_run(n_tr=n_tr, tr_s=1.0), position_in_run(n_tr=n_tr, tr_s=1.0))
