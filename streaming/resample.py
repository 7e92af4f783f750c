"""Sample rates: anything to 48 kHz mono, 48 kHz to the engine's 16 kHz, and small stretches.

All are stateful and keep one index: sample t of the input is sample t · out / in of the output.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import AudioError
from streaming.clock import OUT_RATE

__all__ = ["DECIMATOR_DELAY", "Decimator", "ToMono48", "stretch"]

Samples = NDArray[np.float32]

_TAPS = 97
DECIMATOR_DELAY = (_TAPS - 1) // 2
"""Samples at 48 kHz (1 ms) by which the engine's audio trails; the sent audio is delayed alike."""


class ToMono48:
    """PCM of one fixed rate and layout to float32 mono at 48 kHz (libswresample, delay compensated).

    Args:
        rate: input rate in Hz, 4000..192000.
        layout: channel layout of the input ("mono", "stereo", ...).
        sample_format: PyAV's name of the input format ("s16", "flt", ...).
    """

    def __init__(self, rate: int, layout: str = "mono", sample_format: str = "flt") -> None:
        import av

        if not 4000 <= rate <= 192_000:
            raise AudioError(f"a rate of {rate} Hz is not supported; send 16000, 24000 or 48000")
        self._rate, self._layout, self._format = rate, layout, sample_format
        self._frame_class: Any = av.AudioFrame
        self._plain = rate == OUT_RATE and layout == "mono" and sample_format == "flt"
        self._resampler: Any = av.AudioResampler(format="fltp", layout=layout, rate=OUT_RATE)

    def __call__(self, samples: NDArray[Any]) -> Samples:
        """``samples`` [N] (mono) or interleaved [N * channels]; returns what is ready, [M]."""
        if self._plain or not samples.size:
            return samples.astype(np.float32, copy=False)
        frame = self._frame_class.from_ndarray(samples[None], format=self._format, layout=self._layout)
        frame.sample_rate = self._rate
        return self._join(self._resampler.resample(frame))

    def frame(self, frame: Any) -> Samples:
        """The same for a decoded ``av.AudioFrame`` (its own rate and layout are used)."""
        # Time stamps would make the resampler fill gaps; placing samples is the time line's task.
        frame.pts = None
        return self._join(self._resampler.resample(frame))

    def flush(self) -> Samples:
        """The samples still held back at the end of the input."""
        return np.zeros(0, np.float32) if self._plain else self._join(self._resampler.resample(None))

    @staticmethod
    def _join(frames: list[Any]) -> Samples:
        # The mean of the channels: the library's own down-mix would make equal channels louder.
        parts = [frame.to_ndarray().mean(axis=0) for frame in frames]
        return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.zeros(0, np.float32)


@functools.cache
def _lowpass() -> NDArray[np.float32]:
    # Kaiser-windowed sinc (Oppenheim & Schafer, eq. 7.75), 60 dB: flat to 6.6 kHz, stops at 8.4 kHz.
    n = np.arange(_TAPS) - DECIMATOR_DELAY
    cutoff = 7500.0 / (OUT_RATE / 2)
    taps = cutoff * np.sinc(cutoff * n) * np.kaiser(_TAPS, 5.65)
    return np.asarray(taps / taps.sum(), np.float32)


class Decimator:
    """48 kHz to 16 kHz: output s is centred on input 3 s - :data:`DECIMATOR_DELAY`."""

    def __init__(self) -> None:
        # Output s needs inputs up to 3 s, so one output is due with the very first input.
        self._history = np.zeros(_TAPS - 1, np.float32)

    def __call__(self, samples: Samples) -> Samples:
        """[N] -> as many outputs [M] as are complete."""
        x = np.concatenate([self._history, samples])
        count = max(0, (x.size - _TAPS) // 3 + 1)
        if not count:
            self._history = x
            return np.zeros(0, np.float32)
        taps = _lowpass()
        # Tap by tap, so that every output is the same sum in the same order whatever the chunking.
        total = taps[DECIMATOR_DELAY] * x[DECIMATOR_DELAY:][: 3 * count : 3]
        for k in range(DECIMATOR_DELAY):
            total += taps[k] * (x[k:][: 3 * count : 3] + x[_TAPS - 1 - k :][: 3 * count : 3])
        self._history = x[3 * count :].copy()
        return np.asarray(total, np.float32)


def stretch(samples: Samples, extra: int) -> Samples:
    """``samples`` [N] spread over N + ``extra`` samples by linear interpolation, ends kept.

    For following a sender's clock: a few samples in 960 change the pitch by less than 0.5 %.
    """
    if not extra or samples.size < 2:
        return samples
    positions = np.linspace(0.0, samples.size - 1.0, samples.size + extra)
    return np.interp(positions, np.arange(samples.size), samples).astype(np.float32)
