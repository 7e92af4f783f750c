"""Any file PyAV can read, as 48 kHz mono: decoded whole, or streamed at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.errors import AudioError, StreamError
from streaming.clock import OUT_RATE
from streaming.resample import ToMono48
from streaming.sources.base import BufferedSource, Samples

__all__ = ["FileSource", "decode_audio", "read_audio"]


def decode_audio(path: Path) -> Iterator[Samples]:
    """Yield the file's first audio track as float32 mono at 48 kHz, piece by piece.

    Raises:
        AudioError: no such file, not a media file, or no audio track.
    """
    import av

    if not path.is_file():
        raise AudioError(f"no audio file {path}")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path.name} has no audio track; give a file with sound")
            convert: ToMono48 | None = None
            for frame in container.decode(container.streams.audio[0]):
                if convert is None:
                    convert = ToMono48(frame.sample_rate, frame.layout.name, frame.format.name)
                yield convert.frame(frame)
            if convert is None:
                raise AudioError(f"{path.name} holds no sound")
            yield convert.flush()
    except av.FFmpegError as error:
        raise AudioError(f"{path.name} cannot be decoded as audio: {error.strerror}") from error


def read_audio(path: Path) -> Samples:
    """The whole file at once, float32 [N] mono at 48 kHz; errors as :func:`decode_audio`."""
    samples = np.concatenate(list(decode_audio(path)))
    if not samples.size:
        raise AudioError(f"{path.name} holds no sound")
    return samples


class FileSource(BufferedSource):
    """A file played at its own pace.

    Args:
        path: any file with an audio track.
        loop: start again at the end, after ``pause_s`` of silence.

    Raises:
        AudioError: as :func:`decode_audio`, at construction.
    """

    def __init__(self, path: Path, *, loop: bool = False, pause_s: float = 1.0) -> None:
        super().__init__(path.name, seconds=4.0)
        self._path = path
        self._loop = loop
        self._pause = np.zeros(int(pause_s * OUT_RATE), np.float32)
        # The first piece is decoded now: a bad file is refused before a session starts with it.
        self._pieces = decode_audio(path)
        self._first = next(self._pieces)
        self._task: asyncio.Task[None] | None = None
        self.ended = False
        """True once the whole file has been handed to the buffer."""

    def start(self) -> None:
        """Begin to decode; playing begins with the first read."""
        self._task = asyncio.create_task(self._decode(), name=f"decode {self.name}")

    async def close(self) -> None:
        await super().close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _decode(self) -> None:
        try:
            await self.write(self._first)
            while True:
                for piece in self._pieces:
                    await self.write(piece)
                if not self._loop:
                    break
                await self.write(self._pause)
                self._pieces = decode_audio(self._path)
            self.ended = True
        except StreamError:
            self.ended = True
        except Exception as error:
            self.fail(error)
