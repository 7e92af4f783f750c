"""Raw PCM in chunks of any size, as it comes over a WebSocket."""

from __future__ import annotations

from typing import Literal

import numpy as np

from engine.errors import AudioError
from streaming.resample import ToMono48
from streaming.sources.base import Samples

__all__ = ["PCM_RATES", "PcmFormat", "PcmReader"]

PCM_RATES = (16_000, 24_000, 48_000)
PcmFormat = Literal["s16", "f32"]


class PcmReader:
    """Little-endian mono PCM to float32 at 48 kHz; a sample may be split between two chunks.

    Raises:
        AudioError: an unsupported rate or format, at construction.
    """

    def __init__(self, rate: int, sample_format: str) -> None:
        if rate not in PCM_RATES:
            raise AudioError(
                f"PCM at {rate} Hz is not supported; send one of {', '.join(map(str, PCM_RATES))}"
            )
        if sample_format not in ("s16", "f32"):
            raise AudioError(f"PCM format {sample_format!r} is not supported; send s16 or f32")
        self._dtype = np.dtype("<i2" if sample_format == "s16" else "<f4")
        self._rate = rate
        self._convert = ToMono48(rate)
        self._rest = b""

    def __call__(self, data: bytes) -> Samples:
        """Samples [N] at 48 kHz, clipped to -1..1; numbers that are not finite count as silence."""
        data = self._rest + data
        whole = len(data) - len(data) % self._dtype.itemsize
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], self._dtype).astype(np.float32)
        if self._dtype.kind == "i":
            samples /= 32768.0
        else:
            samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
        return self._convert(samples)

    def flush(self) -> Samples:
        """The end of a segment: what the converter holds back."""
        tail = self._convert.flush()
        self._convert = ToMono48(self._rate)
        self._rest = b""
        return tail
