"""MP4 files: H.264 and AAC, audio and video aligned to the sample, colours tagged.

:class:`Mp4Writer` encodes in the caller's thread (offline rendering); :class:`Mp4Sink` records a live
session from a thread of its own and never keeps the session waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError, StreamError
from kernels.i420 import Matrix
from streaming.channel import Picture
from streaming.clock import OUT_RATE
from streaming.sinks.base import PACKET

__all__ = ["Mp4Sink", "Mp4Writer"]

# ITU-T H.273 code points (primaries, transfer, matrix).
_COLOUR = {"bt709": (1, 1, 1), "bt601": (6, 6, 6)}
_AAC_FRAME = 1024


class Mp4Writer:
    """Writes beside the target and moves into place on success, so a broken run leaves no file.

    Frame n lasts from n / frame_rate to (n + 1) / frame_rate; audio sample p is heard at p / 48000.

    Args:
        path: the file to make.
        frame_rate: of the pictures.
        matrix: colour matrix of the pictures, written into the file.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, path: Path, frame_rate: Fraction, matrix: Matrix = "bt709", crf: int = 18) -> None:
        import av

        if not path.absolute().parent.is_dir():
            raise InputError(f"there is no folder {path.absolute().parent}; make it first")
        self._av: Any = av
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._container: Any = av.open(str(self._partial), "w", format="mp4")
        self._frame_rate = frame_rate
        self._matrix = matrix
        self._crf = crf
        self._video: Any = None
        self._audio: Any = self._container.add_stream("aac", rate=OUT_RATE, layout="mono")
        self._audio.bit_rate = 128_000
        self._pending = np.zeros(0, np.float32)
        self._sample = 0
        self.frames = 0

    def video(self, frame: int, picture: Picture) -> None:
        """Picture ``frame``, I420; frames may be left out but not repeated."""
        if self._video is None:
            self._video = self._open_video(picture.shape[1], picture.shape[0] * 2 // 3)
        image = self._av.VideoFrame.from_ndarray(picture, format="yuv420p")
        image.pts, image.time_base = frame, 1 / self._frame_rate
        primaries, transfer, space = _COLOUR[self._matrix]
        image.colorspace, image.color_range = space, 1
        image.color_primaries, image.color_trc = primaries, transfer
        for packet in self._video.encode(image):
            self._container.mux(packet)
        self.frames += 1

    def audio(self, samples: NDArray[np.float32]) -> None:
        """Samples [N] at 48 kHz that continue the audio."""
        self._pending = np.concatenate([self._pending, samples])
        # All streams must be known before the first packet is written.
        while self._video is not None and self._pending.size >= _AAC_FRAME:
            block, self._pending = self._pending[:_AAC_FRAME], self._pending[_AAC_FRAME:]
            self._encode_audio(block)

    def close(self) -> None:
        """Finish the file and put it in place."""
        if self._pending.size:
            self._encode_audio(self._pending)
        for stream in (self._audio, self._video):
            if stream is not None:
                for packet in stream.encode(None):
                    self._container.mux(packet)
        self._container.close()
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        """Give up: nothing is left behind."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _open_video(self, width: int, height: int) -> Any:
        stream = self._container.add_stream("libx264", rate=self._frame_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.options = {"preset": "veryfast", "crf": str(self._crf), "bf": "0"}
        primaries, transfer, space = _COLOUR[self._matrix]
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = space, 1
        return stream

    def _encode_audio(self, block: NDArray[np.float32]) -> None:
        frame = self._av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate = OUT_RATE
        frame.pts, frame.time_base = self._sample, Fraction(1, OUT_RATE)
        self._sample += block.size
        for packet in self._audio.encode(frame):
            self._container.mux(packet)


class Mp4Sink:
    """Records a session. Frames and audio that a slow disk does not take in time are lost and counted."""

    audio_lead = 0

    def __init__(self, path: Path, frame_rate: Fraction, matrix: Matrix) -> None:
        self.name = f"mp4 {path.name}"
        self.lost = 0
        self.error: BaseException | None = None
        self._writer = Mp4Writer(path, frame_rate, matrix, crf=20)
        self._frame_rate = frame_rate
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=500)
        self._first: int | None = None
        self._before: deque[tuple[int, NDArray[np.float32]]] = deque(maxlen=8)
        self._written = 0
        self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
        self._thread.start()

    def video(self, frame: int, picture: Picture) -> None:
        if self._first is None:
            self._first = frame
            for packet, samples in self._before:
                self._put_audio(packet, samples)
            self._before.clear()
        first = self._first
        self._put(lambda: self._writer.video(frame - first, picture))

    def audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        # The file starts with the first picture, to the sample; its audio comes a moment earlier.
        if self._first is None:
            self._before.append((packet, samples))
        else:
            self._put_audio(packet, samples)

    def _put_audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        assert self._first is not None
        position = packet * PACKET - int(self._first * OUT_RATE / self._frame_rate)
        self._put(lambda: self._write_audio(position, samples))

    def _write_audio(self, position: int, samples: NDArray[np.float32]) -> None:
        """Samples that belong at ``position`` of the file; what was lost before them is silence."""
        if position > self._written:
            self._writer.audio(np.zeros(position - self._written, np.float32))
            self._written = position
        samples = samples[self._written - position :]
        if samples.size:
            self._writer.audio(samples)
            self._written += samples.size

    async def close(self) -> None:
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self.error is None and self._writer.frames:
            self._writer.close()
        else:
            self._writer.discard()

    def _put(self, job: Callable[[], None]) -> None:
        if self.error is not None:
            raise StreamError(f"{self.name} cannot be written: {self.error}") from self.error
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.lost += 1

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self.error is not None:
                continue
            try:
                job()
            except Exception as error:
                self.error = error
