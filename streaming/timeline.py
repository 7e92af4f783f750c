"""One time line for a session's audio: what is sent (48 kHz) and what the engine hears (16 kHz).

Both have one index: engine sample s is sent sample 3 s. The sent signal is delayed by the engine
filter's own delay (1 ms), so that the two agree to the sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.types import SAMPLE_RATE
from streaming.clock import OUT_RATE, SampleClock
from streaming.resample import DECIMATOR_DELAY, Decimator

__all__ = ["AudioTimeline"]

_FADE = OUT_RATE // 200


class AudioTimeline:
    """Append arriving audio, take engine frames, read sent audio.

    Args:
        time: gives the frames' boundaries.
        seconds: how much sent audio is remembered; must exceed the session's delay.
    """

    def __init__(self, time: SampleClock, seconds: float = 4.0) -> None:
        self._time = time
        self._size = int(seconds * OUT_RATE)
        self._ring = np.zeros(self._size, np.float32)
        self._decimate = Decimator()
        self._engine = np.zeros(0, np.float32)
        self._frame = 0
        self._written = DECIMATOR_DELAY
        self.head = 0
        """Arrived samples at 48 kHz; the next append continues here."""

    def append(self, samples: NDArray[np.float32]) -> None:
        """Audio [N] at 48 kHz that continues the time line."""
        if not samples.size:
            return
        tail = samples[-self._size :]
        end = self._written + samples.size
        self._ring[np.arange(end - tail.size, end) % self._size] = tail
        self._written = end
        self.head += samples.size
        self._engine = np.concatenate([self._engine, self._decimate(samples)])

    def take_frame(self) -> tuple[int, int, NDArray[np.float32]] | None:
        """The next complete engine frame as (frame, first sample, samples [N]), or None."""
        start, end = self._time.frame_start(self._frame), self._time.frame_start(self._frame + 1)
        if self._engine.size < end - start:
            return None
        samples, self._engine = self._engine[: end - start], self._engine[end - start :]
        self._frame += 1
        return self._frame - 1, start, samples

    def read(self, start: int, count: int) -> NDArray[np.float32]:
        """Sent audio [start, start + count) at 48 kHz; silence where there is none (any more)."""
        index = np.arange(start, start + count)
        known = (index >= max(0, self._written - self._size)) & (index < self._written)
        return np.where(known, self._ring[index % self._size], np.float32(0.0)).astype(np.float32)

    def missing(self, end: int) -> int:
        """Sent samples before ``end`` that have not arrived."""
        return max(0, end - self._written)

    def mute_from(self, start: int) -> None:
        """Fade out within 5 ms from sample ``start`` (48 kHz) on: a barge-in."""
        start = max(start, self._written - self._size)
        index = np.arange(start, self._written)
        fade = np.clip(1.0 - (index - start) / _FADE, 0.0, 1.0)
        self._ring[index % self._size] *= fade.astype(np.float32)


assert OUT_RATE == 3 * SAMPLE_RATE
