"""SciPy and Numba body: a batched real FFT, then each mel filter over the few bins it touches.

A dense product would waste most of its work and let BLAS choose another order of additions for
another number of frames; here a frame's result is the same bit for bit however a stream is cut.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@cache
def _hann(window: int) -> tuple[Floats, float]:
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    return hann.astype(np.float32), float(np.square(hann).sum())


@numba.njit(cache=True, nogil=True)
def _extent(filters: Floats) -> tuple[Ints, Ints]:
    """First and one-past-last bin of each filter."""
    bins, bands = filters.shape
    first, last = np.zeros(bands, np.int64), np.zeros(bands, np.int64)
    for band in range(bands):
        k = 0
        while k < bins and filters[k, band] == 0.0:
            k += 1
        first[band] = k
        while k < bins and filters[k, band] != 0.0:
            k += 1
        last[band] = k
    return first, last


@numba.njit(cache=True, nogil=True)
def _bands(
    spectrum: NDArray[np.complex64], filters: Floats, energy: float, floor: float, out: Floats
) -> None:
    first, last = _extent(filters)
    scale = np.float32(1.0 / energy)
    for row in range(spectrum.shape[0]):
        for band in range(out.shape[1]):
            total = np.float32(0.0)
            for k in range(first[band], last[band]):
                value = spectrum[row, k]
                total += (value.real * value.real + value.imag * value.imag) * filters[k, band]
            out[row, band] = np.log(max(total * scale, np.float32(floor)))


def log_mel(samples: Floats, filters: Floats, window: int, hop: int, fft: int, floor: float) -> Floats:
    """C-contiguous float32 [B, N], filters [fft//2 + 1, M] -> float32 [B, T, M]."""
    batch, count = samples.shape
    steps = (count - window) // hop + 1 if count >= window else 0
    out = np.empty((batch, steps, filters.shape[1]), np.float32)
    if steps == 0 or batch == 0:
        return out
    hann, energy = _hann(window)
    stride = samples.strides
    frames = np.lib.stride_tricks.as_strided(
        samples, (batch, steps, window), (stride[0], hop * stride[1], stride[1]), writeable=False
    )
    spectrum = rfft(frames * hann, n=fft)
    _bands(spectrum.reshape(batch * steps, -1), filters, energy, floor, out.reshape(batch * steps, -1))
    return out
