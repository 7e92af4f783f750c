"""What every source is: it gives 48 kHz mono samples that continue the session's time line."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import StreamError
from streaming.clock import OUT_RATE

__all__ = ["BufferedSource", "Samples", "Silence", "Source"]

Samples = NDArray[np.float32]


class Source(Protocol):
    """Audio for one session; used from the event loop only."""

    name: str

    def read(self, start: int, head: int) -> Samples:
        """Samples [start, ...) of the time line, at 48 kHz.

        ``head`` is the number of samples that belong to the past by now. A source that still waits
        for audio may return fewer than ``head - start``; a live one may return a little more.
        """
        ...

    def clear(self) -> int:
        """Forget audio that has not been read (barge-in); samples forgotten, at 48 kHz."""
        ...

    async def close(self) -> None:
        """Release everything; called once."""
        ...

    def failure(self) -> BaseException | None:
        """What ended the source prematurely, if anything did."""
        ...


class Silence:
    """No voice: an idle avatar."""

    name = "silence"

    def read(self, start: int, head: int) -> Samples:
        return np.zeros(max(0, head - start), np.float32)

    def clear(self) -> int:
        return 0

    async def close(self) -> None:
        """Nothing is held."""

    def failure(self) -> BaseException | None:
        return None


class BufferedSource:
    """Audio that may arrive faster than real time, given out at its own pace, silence in between.

    The buffer is bounded: :meth:`write` waits while it is full, which is the writer's back-pressure.

    Args:
        seconds: size of the buffer.
    """

    def __init__(self, name: str, seconds: float = 10.0) -> None:
        self.name = name
        self._capacity = int(seconds * OUT_RATE)
        self._parts: deque[Samples] = deque()
        self._size = 0
        self._room = asyncio.Event()
        self._error: BaseException | None = None
        self._closed = False
        self.played = 0
        """Samples given out so far, silence not counted."""
        self.clears = 0
        """How often :meth:`clear` was called."""

    @property
    def buffered(self) -> int:
        """Samples that wait to be given out."""
        return self._size

    async def write(self, samples: Samples) -> None:
        """Append ``samples`` [N] at 48 kHz; waits while the buffer is full.

        Raises:
            StreamError: the source has been closed.
        """
        for i in range(0, samples.size, OUT_RATE):
            while self._size >= self._capacity and not self._closed:
                self._room.clear()
                await self._room.wait()
            if self._closed:
                raise StreamError(f"source {self.name} is closed")
            self._parts.append(samples[i : i + OUT_RATE])
            self._size += self._parts[-1].size

    def read(self, start: int, head: int) -> Samples:
        want = max(0, head - start)
        taken: list[Samples] = []
        while want and self._parts:
            part = self._parts.popleft()
            if part.size > want:
                self._parts.appendleft(part[want:])
                part = part[:want]
            taken.append(part)
            want -= part.size
        got = sum(part.size for part in taken)
        self._size -= got
        self.played += got
        if self._size < self._capacity:
            self._room.set()
        return np.concatenate([*taken, np.zeros(want, np.float32)])

    def clear(self) -> int:
        self.clears += 1
        return self._forget()

    async def close(self) -> None:
        self._closed = True
        self._forget()

    def _forget(self) -> int:
        forgotten = self._size
        self._parts.clear()
        self._size = 0
        self._room.set()
        return forgotten

    def fail(self, error: BaseException) -> None:
        """Mark the source as broken; what is buffered is still given out."""
        self._error = error

    def failure(self) -> BaseException | None:
        return self._error if not self._size else None
