"""Blinks, gaze, brows and head behave like a person's and stay bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.samplers.gaze import Gaze
from engine.samplers.rows import spring
from engine.types import MOTION, Cond
from tests.engine.samplers.voices import sampler, talk

MINUTES = 3
_BLINK = MOTION.index("eyeBlinkLeft")


@pytest.fixture(scope="module")
def motion() -> NDArray[np.float32]:
    """Three minutes that alternate 6 s of speech and 3 s of silence: [T, 72]."""
    spans = [(9.0 * k, 9.0 * k + 6) for k in range(MINUTES * 60 // 9)]
    return np.asarray(sampler().forward(talk(MINUTES * 60, spans), Cond.default(1, seed=4))[0].numpy())


def _blink_starts(blink: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.flatnonzero((blink[1:] > 0.5) & (blink[:-1] <= 0.5))


def test_blinks_come_at_a_human_rate_and_shut_the_eyes(motion: NDArray[np.float32]) -> None:
    blink = motion[:, _BLINK]
    starts = _blink_starts(blink)
    assert 11 * MINUTES <= len(starts) <= 26 * MINUTES
    assert all(blink[s : s + 4].max() > 0.97 for s in starts)


def test_a_blink_lasts_150_to_300_ms_and_closes_faster_than_it_opens(motion: NDArray[np.float32]) -> None:
    blink = motion[:, _BLINK]
    closing, opening = [], []
    for start in _blink_starts(blink)[:-1]:
        peak = start + int(np.argmax(blink[start : start + 5]))
        before = np.flatnonzero(blink[max(0, peak - 6) : peak + 1] < 0.2)
        after = np.flatnonzero(blink[peak : peak + 10] < 0.2)
        assert before.size
        assert after.size
        closing.append(peak - (max(0, peak - 6) + before[-1]))
        opening.append(after[0])
    length_ms = 40 * (np.mean(closing) + np.mean(opening))
    assert 150 <= length_ms <= 300
    assert np.mean(closing) < np.mean(opening)


def test_head_moves_but_never_leaves_its_bounds_or_freezes(motion: NDArray[np.float32]) -> None:
    rotation = np.degrees(motion[:, MOTION.rotation])
    assert (rotation.std(axis=0) > 0.4).all()
    assert (np.abs(rotation).max(axis=0) < 13).all()
    assert (np.abs(rotation.mean(axis=0)) < 1.5).all()
    assert np.abs(np.diff(rotation, axis=0)).max() * 25 < 80  # deg/s
    still = np.abs(np.diff(motion[:, MOTION.pose], axis=0)).max(axis=1) < 1e-6
    assert still.mean() < 0.001


def test_head_moves_more_in_speech_than_in_silence(motion: NDArray[np.float32]) -> None:
    speed = np.linalg.norm(np.diff(motion[:, MOTION.rotation], axis=0), axis=1)
    second = np.arange(len(speed)) / 25 % 9
    assert speed[(second > 1) & (second < 6)].mean() > 1.4 * speed[second > 7].mean()


def test_gaze_fixates_and_jumps(motion: NDArray[np.float32]) -> None:
    gaze = np.degrees(motion[:, MOTION.gaze])
    assert np.abs(gaze).max() < 20
    step = np.linalg.norm(np.diff(gaze, axis=0), axis=1)
    assert np.median(step) < 0.4  # fixation
    assert (step > 2).sum() > 10  # saccades


def test_eyes_turn_against_the_head() -> None:
    rotation = np.array([[0.05, 0.1, 0.0]])
    inside = Gaze.against_head(np.zeros((1, 2)), rotation)
    assert inside[0, 0] > 0.03  # the head nods down, the eyes rise
    assert inside[0, 1] < -0.06  # the nose turns to image right, the eyes go left


def test_brows_rise_in_speech(motion: NDArray[np.float32]) -> None:
    brow = motion[:, MOTION.index("browInnerUp")]
    assert brow.max() > 0.25
    assert np.abs(np.diff(brow)).max() < 0.35


def test_seeds_give_different_performances_of_one_voice() -> None:
    x = talk(8, [(1, 7)])
    stage = sampler()
    a = stage.forward(x, Cond.default(1, seed=0))
    b = stage.forward(x, Cond.default(1, seed=1))
    mouth = [MOTION.index("jawOpen"), MOTION.index("mouthPucker")]
    assert torch.equal(a[..., mouth], b[..., mouth])
    assert (a[..., MOTION.pose] - b[..., MOTION.pose]).abs().mean() > 0.003


def test_critically_damped_spring_follows_without_overshoot_at_any_step() -> None:
    for dt in (0.001, 0.04, 1.0):
        position, velocity = np.zeros(1), np.zeros(1)
        highest = 0.0
        for _ in range(int(3 / dt) + 1):
            spring(position, velocity, np.ones(1), 5.0, dt)
            highest = max(highest, float(position[0]))
        assert highest <= 1.0
        assert position[0] == pytest.approx(1.0, abs=1e-4)
