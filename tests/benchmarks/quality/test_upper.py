"""Eye features, similarity and blinks on sequences whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.upper import BlinkCount, blinks, eye_features, ssim, variance
from engine.types import MOTION

BLINK = MOTION.columns("eyeBlink")


def _lids(frames: int, at: list[int], height: float = 0.8, half: int = 2) -> np.ndarray:
    motion = np.zeros((frames, 72))
    for centre in at:
        for k in range(-half, half + 1):
            motion[centre + k, BLINK] = height * (1.0 - abs(k) / (half + 1))
    return motion


def test_features_are_one_eye_height_and_twenty_brow_displacements() -> None:
    motion = np.zeros((3, 72))
    motion[1, BLINK] = 1.0
    motion[2, MOTION.columns("brow")] = 0.5
    features = eye_features(motion)
    assert features.shape == (3, 21)
    assert features[0] == pytest.approx(np.array([1.0] + [0.0] * 20))
    assert features[1, 0] < 0.3
    assert np.abs(features[2, 1:]).max() > 0.01


def test_ssim_is_one_for_a_copy_and_falls_with_mean_and_covariance() -> None:
    noise = np.random.default_rng(0)
    a = noise.normal(0.5, 0.3, (400, 2))
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, a + 1.0) < 0.6
    other = noise.normal(0.5, 0.3, (400, 2))
    assert abs(ssim(a, other)) < 0.15
    assert ssim(1.0 - a, a) == pytest.approx(-1.0, abs=0.1)


def test_ssim_of_still_faces_is_the_constants_doing() -> None:
    assert ssim(np.zeros((50, 3)), np.zeros((50, 3))) == 1.0
    assert np.isnan(ssim(np.full((50, 3), np.nan), np.zeros((50, 3))))


def test_variance_is_the_mean_over_sequences() -> None:
    t = np.arange(100)
    two = np.stack([np.where(t % 2, 1.0, -1.0), np.zeros(100)], axis=1)
    assert variance(two) == pytest.approx(0.5)
    two[3] = np.nan
    assert variance(two) == pytest.approx(0.5, abs=0.01)


def test_blinks_are_counted_and_timed() -> None:
    found = blinks(_lids(250, [40, 100, 160, 220]))
    assert len(found.durations_ms) == 4
    assert found.per_minute == pytest.approx(24.0)
    assert found.median_ms == pytest.approx(120.0, abs=1.0)  # a triangle of 3 frames at half height


def test_twitches_and_closed_eyes_are_no_blinks() -> None:
    assert blinks(_lids(250, [50, 120], height=0.2)).durations_ms == ()
    asleep = np.zeros((250, 72))
    asleep[60:, BLINK] = 0.9
    assert blinks(asleep).durations_ms == ()


def test_slow_squinting_does_not_hide_a_blink() -> None:
    motion = _lids(250, [100], height=0.5)
    motion[:, BLINK] += 0.2 + 0.1 * np.sin(np.arange(250) / 60)[:, None]
    assert len(blinks(motion).durations_ms) == 1


def test_counts_add_up() -> None:
    both = BlinkCount(750, (100.0,)) + BlinkCount(750, (140.0, 160.0))
    assert both.per_minute == 3.0
    assert both.median_ms == 140.0
    assert np.isnan(BlinkCount(0, ()).per_minute)
