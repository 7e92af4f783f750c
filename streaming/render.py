"""Offline rendering: the live path's audio, time line and pipeline, without a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import InputError
from engine.pipeline import Pipeline
from engine.types import CONTROLS, AudioChunk, Cond, FrameChunk, PixelFormat
from kernels.i420 import Matrix, rgb_to_i420
from streaming.channel import Picture
from streaming.clock import OUT_RATE, SampleClock
from streaming.drivers import Drivers
from streaming.framing import Compose
from streaming.resample import DECIMATOR_DELAY
from streaming.sinks.mp4 import Mp4Writer
from streaming.sources.file import read_audio
from streaming.threads import one_torch_thread
from streaming.timeline import AudioTimeline

__all__ = ["render_file", "render_pictures"]


def render_pictures(
    pipeline: Pipeline,
    cond: Cond,
    audio: NDArray[np.float32],
    controls: tuple[float, ...] = CONTROLS.neutral,
    matrix: Matrix = "bt709",
    compose: Compose | None = None,
    drivers: Drivers | None = None,
) -> Iterator[tuple[int, Picture]]:
    """Every frame of ``audio`` [N] (48 kHz mono) in order: the pixels a live session would send.

    The engine is given the same frame-aligned chunks as in a session that starts with the audio, and
    silence after its end where it needs to look ahead. ``drivers`` move the factors they have.
    """
    one_torch_thread()
    if drivers is not None:
        controls = drivers.followed(controls)
    time = SampleClock(0, pipeline.frame_rate)
    timeline = AudioTimeline(time, seconds=1.0)
    frames = math.ceil(audio.size / 3 / pipeline.samples_per_frame)
    state = pipeline.init_state(1, cond)
    needed = 3 * time.frame_start(frames + pipeline.lookahead_frames)
    padded = np.concatenate([audio, np.zeros(max(0, needed - audio.size), np.float32)])
    for due, (start, samples) in enumerate(_blocks(timeline, padded)):
        row = controls if drivers is None else drivers.apply(controls, due)
        chunk = AudioChunk(start, torch.from_numpy(samples)[None], torch.tensor([row]))
        with torch.inference_mode():
            drawn = pipeline.step(chunk, state)
        for frame, picture in _pictures(drawn, matrix, compose):
            if frame < frames:
                yield frame, picture


def _blocks(timeline: AudioTimeline, audio: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The engine's audio, frame by frame, as (first sample, samples [N])."""
    for i in range(0, audio.size, OUT_RATE):
        timeline.append(audio[i : i + OUT_RATE])
        while (block := timeline.take_frame()) is not None:
            yield block[1], block[2]


def _pictures(drawn: FrameChunk, matrix: Matrix, compose: Compose | None) -> Iterator[tuple[int, Picture]]:
    for i in range(drawn.data.shape[1]):
        data = np.asarray(drawn.data[0, i].cpu().numpy())
        # A copy in either case: the animator may reuse its own buffer.
        if drawn.format is PixelFormat.I420:
            yield drawn.t0 + i, data.copy()
        else:
            yield drawn.t0 + i, rgb_to_i420(data if compose is None else compose(data), matrix)


def render_file(
    pipeline: Pipeline,
    cond: Cond,
    audio: Path,
    out: Path,
    controls: tuple[float, ...] = CONTROLS.neutral,
    compose: Compose | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    drivers: Drivers | None = None,
) -> int:
    """Render ``audio`` (any file with sound) into the MP4 ``out``; returns the number of frames.

    ``drivers`` move the factors they have, instead of the voice.

    Raises:
        AudioError: the audio cannot be decoded.
        InputError: ``out`` cannot be written, or is no .mp4.
    """
    if out.suffix.lower() != ".mp4":
        raise InputError(f"the output must be an .mp4 file, got {out.name}")
    samples = read_audio(audio)
    total = math.ceil(samples.size / 3 / pipeline.samples_per_frame)
    # As long as its pictures: players then agree about the length.
    length = int(total * OUT_RATE / pipeline.frame_rate)
    padded = np.concatenate([samples, np.zeros(length - samples.size, np.float32)])
    step = int(OUT_RATE / pipeline.frame_rate)
    # What is sent trails by the engine filter's delay, as in a session.
    sent = np.concatenate([np.zeros(DECIMATOR_DELAY, np.float32), padded])
    with Mp4Writer(out, pipeline.frame_rate) as writer:
        pictures = render_pictures(pipeline, cond, samples, controls, compose=compose, drivers=drivers)
        for frame, picture in pictures:
            writer.video(frame, picture)
            writer.audio(sent[frame * step : (frame + 1) * step])
            progress(frame + 1, total)
    return total
