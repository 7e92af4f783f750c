"""Triton body: the whole op in one launch, so that a stream's short chunks cost one launch each.

The windowed transform of a frame is a product with a cached basis [window, bins] of cosines and sines
(a few hundred rows: the product is small, and needs no second launch as an FFT library would). A
program takes ``_FRAMES`` frames and ``_BANDS`` mel bands, and only the bins under its bands.
Products are in full float32, not TF32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.logmel import MelSpec, mel_filters

__all__ = ["log_mel"]

_FRAMES, _BANDS, _BINS, _TAPS = 16, 16, 32, 32
_jit: Any = triton.jit


@_jit
def _log_mel(  # type: ignore[no-untyped-def]
    samples, samples_b, samples_t, cosines, sines, filters, extents, out,
    rows, steps, window, hop, bins, bands, floor,
    FRAMES: tl.constexpr, BANDS: tl.constexpr, BINS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * FRAMES + tl.arange(0, FRAMES)
    band = tl.program_id(1) * BANDS + tl.arange(0, BANDS)
    start = (row // steps).to(tl.int64) * samples_b + (row % steps).to(tl.int64) * hop * samples_t
    first = tl.load(extents + 2 * tl.program_id(1))
    last = tl.load(extents + 2 * tl.program_id(1) + 1)
    mel = tl.zeros([FRAMES, BANDS], tl.float32)
    for lowest in range(first, last, BINS):
        bin_ = lowest + tl.arange(0, BINS)
        real = tl.zeros([FRAMES, BINS], tl.float32)
        imaginary = tl.zeros([FRAMES, BINS], tl.float32)
        for earliest in range(0, window, TAPS):
            tap = earliest + tl.arange(0, TAPS)
            heard = (row[:, None] < rows) & (tap[None, :] < window)
            x = tl.load(samples + start[:, None] + tap[None, :] * samples_t, mask=heard, other=0.0)
            known = (tap[:, None] < window) & (bin_[None, :] < bins)
            place = tap[:, None] * bins + bin_[None, :]
            real = tl.dot(x, tl.load(cosines + place, mask=known, other=0.0), real, input_precision="ieee")
            sine = tl.load(sines + place, mask=known, other=0.0)
            imaginary = tl.dot(x, sine, imaginary, input_precision="ieee")
        power = real * real + imaginary * imaginary
        weighed = (bin_[:, None] < bins) & (band[None, :] < bands)
        weight = tl.load(filters + bin_[:, None] * bands + band[None, :], mask=weighed, other=0.0)
        mel = tl.dot(power, weight, mel, input_precision="ieee")
    target = out + row[:, None].to(tl.int64) * bands + band[None, :]
    inside = (row[:, None] < rows) & (band[None, :] < bands)
    tl.store(target, tl.log(tl.maximum(mel, floor)), mask=inside)


@lru_cache(maxsize=16)
def _tables(spec: MelSpec, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the kernel reads beside the samples, on ``device``.

    Windowed cosines and sines float32 [window, fft//2 + 1], scaled for unit white-noise power; filters
    [fft//2 + 1, bands]; first and one-past-last bin of each block of bands, int32 [blocks, 2].
    """
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(spec.window) / spec.window)
    hann /= np.sqrt(np.square(hann).sum())
    # Whole turns taken off in integers keep the angles exact.
    turns = np.outer(np.arange(spec.window), np.arange(spec.fft // 2 + 1)) % spec.fft
    angle = 2.0 * np.pi / spec.fft * turns
    filters = mel_filters(spec)
    extents = []
    for start in range(0, spec.bands, _BANDS):
        used = np.flatnonzero((filters[:, start : start + _BANDS] != 0).any(1))
        extents.append((used[0], used[-1] + 1))
    basis = [(wave(angle) * hann[:, None]).astype(np.float32) for wave in (np.cos, np.sin)]
    arrays = (*basis, filters, np.array(extents, np.int32))
    cosines, sines, weights, table = (torch.from_numpy(x).to(device) for x in arrays)
    return cosines, sines, weights, table


def log_mel(samples: Tensor, spec: MelSpec) -> Tensor:
    """float32 [B, N] -> float32 [B, T, bands]."""
    batch, count = samples.shape
    steps = (count - spec.context) // spec.hop
    out = torch.empty((batch, steps, spec.bands), dtype=torch.float32, device=samples.device)
    if out.numel() == 0:
        return out
    grid = (triton.cdiv(batch * steps, _FRAMES), triton.cdiv(spec.bands, _BANDS))
    _log_mel[grid](
        samples, *samples.stride(), *_tables(spec, samples.device), out,
        batch * steps, steps, spec.window, spec.hop, spec.fft // 2 + 1, spec.bands, spec.floor,
        FRAMES=_FRAMES, BANDS=_BANDS, BINS=_BINS, TAPS=_TAPS,
    )  # fmt: skip
    return out
