"""The measures of OSM-Net's claims, on faces and heads whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.claims_osm import Heard, head_scores, people_scores
from engine.encoders.mel import FEATURES
from engine.samplers.osm.audio import AudioConfig, AudioMotion
from engine.samplers.osm.sampler import HeadMotion, Temper
from engine.samplers.osm.steering import DIRECTIONS, Steering
from engine.types import MOTION
from tests.engine.samplers.osm.heads import small_space


def _heard(motion: np.ndarray[Any, Any]) -> Heard:
    noise = np.random.default_rng(0)
    features = noise.normal(0, 0.3, (len(motion), len(FEATURES))).astype(np.float32)
    features[:, FEATURES.index("voice")] = 1.0
    features[:, FEATURES.index("level")] = -3.0
    subject: Any = SimpleNamespace(name="anna", motion=motion)
    return Heard(subject, features)


def _turning(frames: int = 150) -> np.ndarray[Any, Any]:
    motion = np.zeros((frames, MOTION.size))
    motion[:, MOTION.rotation] = 0.1 * np.sin(2 * np.pi * 0.4 * np.arange(frames) / 25)[:, None]
    return motion


def test_a_swinging_head_is_as_diverse_as_its_swing() -> None:
    scores = people_scores([_heard(_turning())])
    assert scores["diversity"] == pytest.approx(0.1 / 2**0.5, rel=0.05)
    assert scores["jitter"] < 0.1


def test_seeds_differ_and_the_centre_does_not() -> None:
    import torch

    torch.manual_seed(0)
    space, audio = small_space(), AudioMotion(AudioConfig(len(FEATURES), 12, 8))
    steering = Steering(torch.zeros(len(DIRECTIONS), 32), torch.ones(len(DIRECTIONS)))
    head = HeadMotion(space, audio, 0.3 * torch.randn(6, 32), steering, Temper())
    scores = head_scores(head, [_heard(_turning())])
    assert scores["over_seeds_deg"] > 0.1
    assert scores["diversity"] > 0.005
    assert -1.0 <= scores["ssim_pose"] <= 1.0
    assert head.centre is False
