"""Distances of mouths whose difference is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.mouth import lip_points, lip_vertices, lmd, lmd_moving, lve_mm
from engine.train.mouth_geometry import opening_of
from engine.types import MOTION

JAW = MOTION.index("jawOpen")


def _talking(frames: int = 50) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    motion = np.zeros((frames, 72))
    motion[:, JAW] = 0.2 + 0.2 * np.sin(np.arange(frames) / 3)
    return motion


def test_the_same_mouth_is_at_no_distance() -> None:
    motion = _talking()
    assert lmd(motion, motion) == 0.0
    assert lmd_moving(motion, motion) == 0.0
    assert lve_mm(motion, motion) == 0.0


def test_distances_grow_with_the_error_and_ignore_the_head() -> None:
    real = _talking()
    half, none = 0.5 * real, 0.0 * real
    assert 0.0 < lmd(half, real) < lmd(none, real)
    assert lmd(half, real) == pytest.approx(0.5 * lmd(none, real), rel=1e-6)
    assert lve_mm(half, real) == pytest.approx(0.5 * lve_mm(none, real), rel=1e-6)
    turned = real.copy()
    turned[:, MOTION.pose] = 0.3
    assert lmd(turned, real) == 0.0


def test_a_constant_offset_counts_for_lmd_but_not_for_its_moving_part() -> None:
    real = _talking()
    smiling = real.copy()
    smiling[:, MOTION.columns("mouthSmile")] = 0.4
    assert lmd(smiling, real) > 0.5
    assert lmd_moving(smiling, real) == pytest.approx(0.0, abs=1e-9)


def test_a_late_mouth_is_forgiven_its_lag_only() -> None:
    real = _talking()
    late = np.roll(real, 2, axis=0)
    assert lmd(late, real) > 0.1
    assert lmd(late, real, lag=2) == pytest.approx(0.0, abs=1e-9)


def test_unseen_frames_are_left_out_and_nothing_seen_is_nan() -> None:
    real = _talking()
    holed = real.copy()
    holed[10:20] = np.nan
    assert lmd(real, holed) == 0.0
    assert np.isnan(lmd(real, np.full_like(real, np.nan)))
    assert np.isnan(lve_mm(real, np.full_like(real, np.nan)))


def test_units_are_inter_ocular_distances_and_millimetres() -> None:
    motion = _talking(3)
    points, vertices = lip_points(motion), lip_vertices(motion)
    width = np.ptp(points[:, :, 0], axis=1)
    assert np.all((width > 0.4) & (width < 0.8)), "a mouth is about half as wide as the eyes are apart"
    assert np.all((np.ptp(vertices[:, :, 0], axis=1) > 35.0) & (np.ptp(vertices[:, :, 0], axis=1) < 75.0))
    gap = points[:, 25, 1] - points[:, 35, 1]  # landmarks 14 and 13
    assert np.allclose(-gap, opening_of(motion.astype(np.float32)), atol=0.05)
