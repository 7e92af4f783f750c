"""A pipeline that marks its own pictures: what the benchmark serves instead of the plain one.

It hears the marks in the audio that the engine gets, and writes frame index and mark into the frame
that owns them, so that whoever sees the picture knows exactly which samples it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.latency.marks import MarkListener
from benchmarks.latency.stamp import Stamp, write_i420, write_rgb
from engine.errors import ConfigError
from engine.pipeline import Pipeline, PipelineState, Probe
from engine.types import AudioChunk, Cond, FrameChunk, PixelFormat

__all__ = ["StampedPipeline", "StampedState"]


@dataclass
class StampedState(PipelineState):
    """The pipeline's state, the listener's, and the marks of frames that have not been drawn yet."""

    listener: MarkListener = field(default_factory=MarkListener)
    marks: dict[int, int] = field(default_factory=dict)


class StampedPipeline(Pipeline):
    """``inner`` with every frame stamped. One stream per state; audio in whole frames."""

    def __init__(self, inner: Pipeline) -> None:
        super().__init__(inner.encoder, inner.sampler, inner.animator, name=inner.name)

    def init_state(self, batch: int, cond: Cond) -> StampedState:
        if batch != 1:
            raise ConfigError(f"a stamped pipeline serves one stream per state, not {batch}; use batch 1")
        state = super().init_state(batch, cond)
        return StampedState(state.cond, state.encoder, state.sampler, state.animator, state.next_frame)

    def step(
        self, audio: AudioChunk, state: PipelineState, *, render: bool = True, probe: Probe | None = None
    ) -> FrameChunk:
        assert isinstance(state, StampedState)
        self._hear(audio, state)
        frames = super().step(audio, state, render=render, probe=probe)
        for i in range(frames.data.shape[1]):
            stamp = Stamp(frames.t0 + i, state.marks.pop(frames.t0 + i, None))
            _write(frames.data[0, i], frames.format, stamp)
        for passed in [n for n in state.marks if n < frames.t1 - 25]:
            del state.marks[passed]
        return frames

    def _hear(self, audio: AudioChunk, state: StampedState) -> None:
        frame, rest = divmod(audio.t0, self.samples_per_frame)
        if rest or audio.samples.shape[1] != self.samples_per_frame:
            raise ConfigError("a stamped pipeline takes audio one whole frame at a time")
        offset = state.listener.hear(np.asarray(audio.samples[0].cpu().numpy(), np.float32))
        if offset is not None:
            state.marks[int(frame)] = offset


def _write(picture: Tensor, pixels: PixelFormat, stamp: Stamp) -> None:
    data: Any = picture.numpy()
    (write_i420 if pixels is PixelFormat.I420 else write_rgb)(data, stamp)
