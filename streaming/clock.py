"""Time, in one place: an injected monotonic clock, and the sample index as the master clock.

All deadlines are integers in nanoseconds computed from an index (never a sum of sleeps), so they
cannot drift. The engine knows nothing of this module.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from engine.types import FRAME_RATE, SAMPLE_RATE, samples_per_frame

__all__ = ["MS", "OUT_RATE", "Clock", "RealClock", "SampleClock", "VirtualClock"]

MS = 1_000_000
"""Nanoseconds in a millisecond."""

OUT_RATE = 48_000
"""Rate of the audio that is sent; its sample p belongs to engine sample p / 3."""


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary fixed moment; callable from any thread."""
        ...

    async def sleep_until(self, deadline_ns: int) -> None:
        """Return as soon as ``now_ns() >= deadline_ns``, and always give other tasks a turn."""
        ...


class RealClock:
    """The operating system's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep_until(self, deadline_ns: int) -> None:
        await asyncio.sleep(max(0, deadline_ns - self.now_ns()) / 1e9)
        # A loop timer counts milliseconds and may fire a little early: ask again until it is time.
        for _ in range(3):
            if (left := deadline_ns - self.now_ns()) <= 0:
                return
            await asyncio.sleep(max(left, MS) / 1e9)


class VirtualClock:
    """A clock that moves only when told to: the laws of pacing are tested on it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now

    async def sleep_until(self, deadline_ns: int) -> None:
        if deadline_ns <= self._now:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline_ns, next(self._order), future))
        await future

    async def advance_to(self, until_ns: int) -> None:
        """Move to ``until_ns``, waking every sleeper at exactly its own deadline, in order."""
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until_ns:
            deadline, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, deadline)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._now = max(self._now, until_ns)

    @staticmethod
    async def _settle() -> None:
        # Whoever woke may start others: give all of them their turn before time moves on.
        for _ in range(8):
            await asyncio.sleep(0)


@dataclass(frozen=True)
class SampleClock:
    """When each sample and each frame happens, exactly.

    ``origin_ns`` is the moment at which sample 0 arrives; frame n owns engine samples
    [frame_start(n), frame_start(n + 1)).
    """

    origin_ns: int
    frame_rate: Fraction = FRAME_RATE

    def frame_start(self, frame: int) -> int:
        """First engine sample (16 kHz) of ``frame``: ceil(n · samples per frame)."""
        spf = samples_per_frame(self.frame_rate)
        return -(-frame * spf.numerator // spf.denominator)

    def sample_ns(self, sample: int, rate: int = SAMPLE_RATE) -> int:
        """Arrival of sample ``sample`` of a stream at ``rate`` Hz."""
        return self.origin_ns + sample * 1_000_000_000 // rate

    def frame_ns(self, frame: int) -> int:
        """Arrival of the first sample of ``frame``."""
        return self.sample_ns(self.frame_start(frame))

    def head(self, now_ns: int, rate: int = OUT_RATE) -> int:
        """Number of samples at ``rate`` Hz that have arrived by ``now_ns``."""
        return max(0, (now_ns - self.origin_ns) * rate // 1_000_000_000)
