"""The measures of VAST's claims on codes and faces whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.claims_vast import gathering, likeness


def test_codes_in_two_heaps_gather() -> None:
    noise = np.random.default_rng(0)
    codes = noise.normal(0, 0.1, (20, 64)).astype(np.float32)
    codes[10:] += 5.0
    labels = ["a"] * 10 + ["b"] * 10
    share, chance = gathering(codes, labels)
    assert share == 1.0
    assert chance == pytest.approx(9 / 19)
    mixed, _ = gathering(codes, ["a", "b"] * 10)
    assert mixed < 0.9


def test_neighbours_of_the_same_clip_do_not_count() -> None:
    codes = np.array([[0.0], [0.1], [1.0], [1.1], [0.3], [0.4]], np.float32)
    labels, clips = ["a", "a", "a", "a", "b", "b"], ["1", "1", "2", "2", "3", "3"]
    assert gathering(codes, labels)[0] == 1.0
    share, chance = gathering(codes, labels, clips)
    assert share == 0.0  # the nearest other clip of every a is b's
    assert chance == pytest.approx(0.5)


def test_likeness_tells_a_carried_style_from_none() -> None:
    prompts = np.random.default_rng(1).random((8, 3))
    assert likeness(prompts, 0.5 * prompts + 0.1) == pytest.approx(1.0)
    assert likeness(prompts, np.zeros((8, 3))) == 0.0
    assert likeness(prompts, 1.0 - prompts) == pytest.approx(-1.0)
