"""Encoder and sampler together on sounds that are no speech, and on speech that is badly recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality.lips import build_pipeline, drive
from engine.config import asset_path
from engine.pipeline import Pipeline
from engine.train.mouth_geometry import opening_of
from engine.train.speech_data import load_audio
from engine.types import MOTION

Floats = NDArray[np.float32]
SECONDS = 3
N = 16_000 * SECONDS
REST = float(opening_of(np.zeros((1, MOTION.size), np.float32))[0])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return build_pipeline()


def _noise(level: float) -> Floats:
    return np.random.default_rng(0).normal(0, level, N).astype(np.float32)


def _tones() -> Floats:
    t = np.arange(N) / 16_000
    return np.asarray(0.05 * sum(np.sin(2 * np.pi * f * t) for f in (261.6, 329.6, 392.0)), np.float32)


def _speech() -> Floats:
    """A second of silence, two of a voice, one of silence."""
    voice = load_audio(asset_path("demo/voice_a.wav"))[8000:40_000]
    return np.concatenate([np.zeros(16_000, np.float32), voice, np.zeros(16_000, np.float32)])


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(N, np.float32),
        _noise(1e-3),
        _noise(0.03),
        _tones(),
        np.full(N, 0.3, np.float32),
        np.full(N, np.nan, np.float32),
    ],
    ids=["silence", "faint noise", "loud noise", "a chord", "constant", "not a number"],
)
def test_what_is_not_speech_leaves_the_mouth_nearly_still(pipeline: Pipeline, sound: Floats) -> None:
    motion = drive(pipeline, sound)
    assert np.isfinite(motion).all()
    assert opening_of(motion).max() - REST < 0.04


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x,
        lambda x: 0.02 * x,
        lambda x: np.clip(20 * x, -1, 1),
        lambda x: x + np.random.default_rng(1).normal(0, 0.005, x.size).astype(np.float32),
    ],
    ids=["plain", "34 dB quieter", "clipped", "noisy"],
)
def test_speech_opens_the_mouth_and_its_end_shuts_it(
    pipeline: Pipeline, spoil: Callable[[Floats], Floats]
) -> None:
    opening = opening_of(drive(pipeline, np.asarray(spoil(_speech()), np.float32))) - REST
    assert opening[:22].max() < 0.01
    assert opening[25:75].max() > 0.06
    assert opening[79:].max() < 0.01  # the voice ends with frame 74


def test_every_frame_comes_in_time(pipeline: Pipeline) -> None:
    assert len(drive(pipeline, _speech())) == len(_speech()) // 640
