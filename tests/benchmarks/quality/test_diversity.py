"""Diversity of sequences whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.diversity import head_diversity, pairwise, seed_spread, segments
from engine.samplers.factors import LIPS, UPPER
from engine.types import MOTION


def test_pairwise_distance_is_per_frame() -> None:
    sequences = np.zeros((3, 50, 4))
    sequences[1] = 1.0  # two away from both zeros: sqrt(4 columns)
    assert pairwise(sequences) == pytest.approx(2.0 * 2 / 3)
    assert np.isnan(pairwise(sequences[:1]))


def test_segments_are_whole_seen_and_relative_to_rest() -> None:
    motion = np.full((170, 72), 0.3)
    motion[60] = np.nan
    rest = np.full(72, 0.1)
    found = segments([motion], [rest])
    assert found.shape == (2, 50, 64)
    assert np.allclose(found, 0.2)
    assert segments([motion[:20]], [rest]).shape == (0, 50, 64)


def test_equal_seeds_have_no_spread_and_different_ones_their_distance() -> None:
    same = np.zeros((4, 50, 72))
    assert seed_spread([same]) == {"lips": 0.0, "upper": 0.0, "head_deg": 0.0}
    other = same.copy()
    other[1:, :, UPPER] = 0.1
    other[0, :, MOTION.rotation] = np.radians(1.0)
    found = seed_spread([other])
    assert found["lips"] == 0.0
    assert found["upper"] == pytest.approx(0.1 * np.sqrt(len(UPPER)) / 2)
    assert found["head_deg"] == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(seed_spread([same[:1]])["lips"])
    assert not set(LIPS) & set(UPPER)


def test_head_diversity_is_the_deviation_over_time() -> None:
    motion = np.zeros((100, 72))
    motion[:, MOTION.rotation] = np.where(np.arange(100) % 2, 0.1, -0.1)[:, None]
    assert head_diversity([motion, 0 * motion]) == pytest.approx(0.05)
