"""Head measures on curves whose amount, spectrum and beats are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.head import (
    amount,
    angles,
    audio_beats,
    band_power,
    beat_alignment,
    below_5_hz,
    head_beats,
    head_strokes,
    jitter,
    spectral_distance_db,
    spectrum,
)
from engine.types import MOTION

T = np.arange(1000) / 25.0


def _sine(hertz: float, size: float = 2.0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    wave = size * np.sin(2 * np.pi * hertz * T)
    return np.stack([wave, 0.5 * wave, np.zeros(len(T))], axis=1)


def test_angles_are_degrees() -> None:
    motion = np.zeros((2, 72))
    motion[1, MOTION.rotation] = np.pi / 180.0
    assert angles(motion)[1] == pytest.approx([1.0, 1.0, 1.0])


def test_amount_of_a_sine() -> None:
    found = amount(_sine(0.5))
    assert found.deviation == pytest.approx([2 / np.sqrt(2), 1 / np.sqrt(2), 0.0], abs=1e-3)
    # Mean |d/dt| of A sin(2 pi f t) is 4 A f a second.
    assert found.speed[0] == pytest.approx(4 * 2.0 * 0.5 / 25, rel=0.02)


def test_tracker_noise_does_not_count_as_speed() -> None:
    noisy = _sine(0.5) + np.random.default_rng(0).normal(0, 0.3, (1000, 3))
    found, clean = amount(noisy), amount(_sine(0.5))
    assert found.raw_speed[2] > 0.25
    assert found.speed[2] < 0.15
    assert abs(found.speed[0] - clean.speed[0]) < abs(found.raw_speed[0] - clean.raw_speed[0])


def test_the_filter_keeps_what_is_slow_and_short() -> None:
    slow, fast = _sine(1.0), _sine(9.0)
    assert np.abs(below_5_hz(slow) - slow)[50:-50].max() < 0.01
    assert np.abs(below_5_hz(fast))[50:-50].max() < 0.1
    assert np.array_equal(below_5_hz(slow[:10]), slow[:10])


def test_unseen_frames_do_not_poison_the_amount() -> None:
    curve = _sine(0.5)
    curve[100:104] = np.nan
    assert amount(curve).deviation[0] == pytest.approx(np.sqrt(2), abs=0.02)


@pytest.mark.parametrize(("hertz", "band"), [(0.2, 0), (1.17, 1), (3.1, 2)])
def test_power_lands_in_its_band_and_is_the_variance(hertz: float, band: int) -> None:
    curve = _sine(hertz)
    powers = band_power(*spectrum([curve]))
    assert np.argmax(powers) == band
    if band:
        assert powers[band] == pytest.approx(float(curve.var(axis=0).sum()), rel=0.1)


def test_spectral_distance_of_half_the_size_is_six_decibel() -> None:
    noise = np.random.default_rng(0).normal(size=(1000, 3))
    hertz, real = spectrum([noise])
    assert spectral_distance_db(hertz, real, real) == pytest.approx(0.0, abs=1e-9)
    assert spectral_distance_db(hertz, spectrum([0.5 * noise])[1], real) == pytest.approx(6.02, abs=0.01)
    assert spectral_distance_db(hertz, np.zeros_like(real), real) > 40.0


def test_clips_shorter_than_a_window_have_no_spectrum() -> None:
    assert not spectrum([_sine(1.0)[:40]])[1].any()


def _bursts(period: int, frames: int = 500) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A tone of 200 ms at every ``period`` frames."""
    sound = np.zeros(frames * 640)
    for start in range(10, frames - 10, period):
        at = np.arange(start * 640, (start + 5) * 640)
        sound[at] = 0.3 * np.sin(2 * np.pi * 200 * at / 16_000)
    return sound.astype(np.float32)


def test_onsets_are_where_sound_begins() -> None:
    onsets = audio_beats(_bursts(25))
    assert len(onsets) == 20
    assert np.abs((onsets - 10) % 25 - 12.5).min() > 10.0, "within 2.5 frames of each burst's start"


def test_a_head_that_moves_with_the_sound_gains_and_one_that_does_not_does_not() -> None:
    onsets = audio_beats(_bursts(25))
    steps = np.zeros(500)
    steps[10::25] = 3.0
    swing = np.convolve(np.cumsum(steps) % 6.0, np.ones(3) / 3, mode="same")
    with_it = np.stack([swing, 0 * swing, 0 * swing], axis=1)
    found, gain = beat_alignment(head_strokes(with_it), onsets, 500)
    assert found > 0.8
    assert gain > 0.4
    _, none = beat_alignment(np.arange(5, 500, 17), onsets, 500)
    assert abs(none) < 0.1


def test_halts_lie_between_movements() -> None:
    beats = head_beats(_sine(0.5, 5.0)[:250])
    # |cos| is zero twice a period of two seconds.
    assert np.all(np.abs((beats - 12.5) % 25) % 25 <= 2.0)
    assert len(beats) >= 8
    assert len(head_beats(np.zeros((250, 3)))) == 0
    assert len(head_strokes(np.zeros((250, 3)))) == 0


def test_without_beats_there_is_no_alignment() -> None:
    assert np.isnan(beat_alignment(np.zeros(0, np.int64), np.array([3.0]), 100)[0])
    assert len(audio_beats(np.zeros(64_000, np.float32))) == 0


def test_jitter_is_the_second_difference() -> None:
    straight = np.arange(50.0)[:, None]
    assert jitter(straight) == 0.0
    assert jitter(np.where(np.arange(50) % 2, 1.0, -1.0)[:, None]) == 4.0
    assert np.isnan(jitter(np.full((50, 1), np.nan)))
