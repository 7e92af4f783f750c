"""The stamped pipeline draws what the plain one draws, and its code names the samples it shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.latency.marks import GUARD, mark_waveform
from benchmarks.latency.stamp import read_luma, read_rgb, strip_height
from benchmarks.latency.stamped import StampedPipeline
from engine.errors import ConfigError
from engine.recipes import build
from engine.types import AudioChunk, Cond, PixelFormat


def speak(pixels: PixelFormat, stamped: bool, frames: int = 20) -> list[np.ndarray]:
    pipeline = build("tiny", pixels)
    pipeline = StampedPipeline(pipeline) if stamped else pipeline
    state = pipeline.init_state(1, Cond.default())
    audio = 0.05 * np.random.default_rng(0).standard_normal(640 * frames).astype(np.float32)
    end = 7 * 640 + 123
    audio[end - 479 : end + 1] += 0.5 * mark_waveform()
    pictures = []
    for n in range(frames):
        samples = torch.from_numpy(audio[640 * n : 640 * (n + 1)])[None]
        chunk = pipeline.step(AudioChunk(640 * n, samples), state)
        pictures += [chunk.data[0, i].numpy().copy() for i in range(chunk.data.shape[1])]
    return pictures


@pytest.mark.parametrize("pixels", list(PixelFormat))
def test_stamps_name_frame_and_mark(pixels: PixelFormat) -> None:
    for n, picture in enumerate(speak(pixels, stamped=True)):
        rows = picture.shape[0] * 2 // 3
        stamp = read_rgb(picture) if pixels is PixelFormat.RGB else read_luma(picture[:rows])
        assert stamp is not None
        assert stamp.frame == n
        assert stamp.mark == (123 + GUARD if n == 7 else None)


def test_the_rest_of_the_picture_is_untouched() -> None:
    plain, stamped = speak(PixelFormat.RGB, stamped=False), speak(PixelFormat.RGB, stamped=True)
    rows = plain[0].shape[0] - strip_height(plain[0].shape[0])
    for a, b in zip(plain, stamped, strict=True):
        assert np.array_equal(a[:rows], b[:rows])


def test_ragged_audio_and_batches_are_refused() -> None:
    pipeline = StampedPipeline(build("tiny"))
    with pytest.raises(ConfigError, match="batch 1"):
        pipeline.init_state(2, Cond.default(2))
    with pytest.raises(ConfigError, match="whole frame"):
        pipeline.step(AudioChunk(0, torch.zeros(1, 100)), pipeline.init_state(1, Cond.default()))
