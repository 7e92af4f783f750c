"""What every sink is: it takes pictures and audio packets at the moment they are due."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.channel import Picture

__all__ = ["PACKET", "NullSink", "Sink"]

PACKET = 480
"""48 kHz samples in one audio packet (10 ms). Browsers keep about two packets in their jitter buffer and
hold the pictures back as long: with packets of 20 ms both leave the screen some 30 ms later."""


class Sink(Protocol):
    """Takes a session's output. ``video`` and ``audio`` must return at once, and may raise."""

    name: str
    audio_lead: int
    """48 kHz samples by which the audio is given early, to make up for an encoder's own delay."""

    def video(self, frame: int, picture: Picture) -> None:
        """The picture of ``frame``; a frame that was not ready comes as the previous picture."""
        ...

    def audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        """Samples [PACKET * packet + audio_lead, +PACKET) of the sent audio, -1..1."""
        ...

    async def close(self) -> None:
        """Release everything; called once."""
        ...


class NullSink:
    """Counts and forgets: for warm-up, load tests and sessions without a viewer."""

    def __init__(self, name: str = "null") -> None:
        self.name = name
        self.audio_lead = 0
        self.frames = 0
        self.packets = 0
        self.closed = False

    def video(self, frame: int, picture: Picture) -> None:
        self.frames += 1

    def audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        self.packets += 1

    async def close(self) -> None:
        self.closed = True
