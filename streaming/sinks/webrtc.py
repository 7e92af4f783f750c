"""A viewer on WebRTC: our own tracks, fed by the pacer, with time stamps that count frames and samples."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Generic, TypeVar

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from streaming.channel import Picture
from streaming.clock import OUT_RATE
from streaming.rtc import OPUS_LEAD
from streaming.sinks.base import PACKET

__all__ = ["AudioTrack", "VideoTrack", "WebRtcSink"]

T = TypeVar("T")


class _Latest(Generic[T]):
    """A tiny queue that loses its oldest item when the encoder is slow, and counts that."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque(maxlen=size)
        self._ready = asyncio.Event()
        self.lost = 0

    def put(self, item: T) -> None:
        self.lost += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._ready.set()

    def wake(self) -> None:
        self._ready.set()

    async def get(self) -> T | None:
        """The oldest item; None when woken without one."""
        if not self._items:
            self._ready.clear()
            await self._ready.wait()
        return self._items.popleft() if self._items else None


class VideoTrack(MediaStreamTrack):
    """Pictures at the session's own rate; time stamps count frames."""

    kind = "video"

    def __init__(self, frame_rate: Fraction) -> None:
        super().__init__()
        self._queue: _Latest[tuple[int, Picture]] = _Latest(2)
        self._time_base = 1 / frame_rate
        self.first: int | None = None
        """Frame index of the first picture that went out."""

    @property
    def lost(self) -> int:
        return self._queue.lost

    def put(self, frame: int, picture: Picture) -> None:
        self._queue.put((frame, picture))

    async def recv(self) -> Any:
        item = await self._queue.get() if self.readyState == "live" else None
        if item is None:
            raise MediaStreamError
        index, picture = item
        if self.first is None:
            self.first = index
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = index, self._time_base
        return frame

    def stop(self) -> None:
        super().stop()
        self._queue.wake()


class AudioTrack(MediaStreamTrack):
    """10 ms packets at 48 kHz mono; time stamps count samples."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._queue: _Latest[tuple[int, NDArray[np.float32]]] = _Latest(20)
        self.first: int | None = None
        """Index (48 kHz) of the first sample that went out."""

    def put(self, packet: int, samples: NDArray[np.float32]) -> None:
        self._queue.put((packet, samples))

    async def recv(self) -> Any:
        item = await self._queue.get() if self.readyState == "live" else None
        if item is None:
            raise MediaStreamError
        packet, samples = item
        if self.first is None:
            self.first = packet * PACKET
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = OUT_RATE
        frame.pts, frame.time_base = packet * PACKET, Fraction(1, OUT_RATE)
        return frame

    def stop(self) -> None:
        super().stop()
        self._queue.wake()


class WebRtcSink:
    """The pair of tracks of one viewer.

    Args:
        frame_rate: of the pictures.
        on_lost: told about each picture that a slow encoder did not take.
    """

    audio_lead = OPUS_LEAD

    def __init__(self, name: str, frame_rate: Fraction, on_lost: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.frame_rate = frame_rate
        self.video_track = VideoTrack(frame_rate)
        self.audio_track = AudioTrack()
        self._on_lost = on_lost

    def video(self, frame: int, picture: Picture) -> None:
        lost = self.video_track.lost
        self.video_track.put(frame, picture)
        if self.video_track.lost > lost:
            self._on_lost()

    def audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        self.audio_track.put(packet, samples)

    async def close(self) -> None:
        self.video_track.stop()
        self.audio_track.stop()
