"""The two bounded channels of a session: audio into the engine, pictures out of it.

Neither ever grows beyond its size and neither ever blocks the side that must not wait: the event
loop puts audio without waiting, the engine thread puts pictures without waiting. Closing a channel,
with or without an error, is seen by both ends.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import StreamError

__all__ = ["AudioBlock", "AudioChannel", "FrameChannel", "Picture", "Taken"]

Picture = NDArray[np.uint8]
"""I420, uint8 [H * 3 // 2, W]."""


@dataclass(frozen=True)
class AudioBlock:
    """The engine's audio of one frame: float32 [N] at 16 kHz and the controls in force, [K]."""

    frame: int
    t0: int
    samples: NDArray[np.float32]
    controls: tuple[float, ...]


class _Closable:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._closed = False

    def close(self, error: BaseException | None = None) -> None:
        """No more traffic; the first error given is the one both ends see."""
        with self._lock:
            if not self._closed:
                self._closed, self._error = True, error

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def error(self) -> BaseException | None:
        return self._error

    def check(self) -> None:
        """Raise what the channel was closed with."""
        if self._closed:
            raise StreamError("the channel is closed") from self._error


class AudioChannel(_Closable):
    """Frame-sized blocks of audio; when it is full all but the newest ``keep`` are lost.

    The engine sees such a loss as a gap and starts afresh behind it, so an engine that hangs for
    longer than ``capacity`` frames costs one jump to the present, never growing delay or a
    stuttering voice.
    """

    def __init__(self, capacity: int = 50, keep: int = 4) -> None:
        super().__init__()
        self._capacity = capacity
        self._keep = keep
        self._blocks: deque[AudioBlock] = deque()

    def put(self, block: AudioBlock) -> bool:
        """False if older blocks had to go. Raises StreamError on a closed channel."""
        self.check()
        with self._lock:
            full = len(self._blocks) >= self._capacity
            self._blocks.append(block)
            while full and len(self._blocks) > self._keep:
                self._blocks.popleft()
        return not full

    def peek(self) -> AudioBlock | None:
        """The oldest block, left in place."""
        with self._lock:
            return self._blocks[0] if self._blocks else None

    def get(self) -> AudioBlock | None:
        """The oldest block, or None if there is none. Raises StreamError on a closed channel."""
        self.check()
        with self._lock:
            return self._blocks.popleft() if self._blocks else None

    def __len__(self) -> int:
        return len(self._blocks)


class Taken(NamedTuple):
    """What :meth:`FrameChannel.take` found."""

    picture: Picture | None
    """of the frame that was asked for, None if it is not here"""
    late: int
    """how many older ones came after their time"""
    newest_late: Picture | None
    """the last of those"""


class FrameChannel(_Closable):
    """Pictures by frame index, in order; a full channel loses its oldest picture."""

    def __init__(self, capacity: int = 8) -> None:
        super().__init__()
        self._frames: deque[tuple[int, Picture]] = deque(maxlen=capacity)

    def put(self, frame: int, picture: Picture) -> None:
        """Raises StreamError on a closed channel."""
        self.check()
        with self._lock:
            self._frames.append((frame, picture))

    def take(self, frame: int) -> Taken:
        """Picture of ``frame`` if it is here; older ones leave the channel too.

        Raises StreamError on a closed channel.
        """
        self.check()
        late, newest = 0, None
        with self._lock:
            while self._frames and self._frames[0][0] < frame:
                newest = self._frames.popleft()[1]
                late += 1
            if self._frames and self._frames[0][0] == frame:
                return Taken(self._frames.popleft()[1], late, newest)
        return Taken(None, late, newest)

    def __len__(self) -> int:
        return len(self._frames)
