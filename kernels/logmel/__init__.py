"""Log-mel spectrogram without any utterance-wide normalisation, so chunks cannot change it.

Steps, for float32 samples [B, C + T·hop] that begin with C = window − hop samples of context:

1. Frame t is samples [t·hop, t·hop + window): it ends where hop t ends, so nothing later is used.
2. Hann window (periodic), power spectrum |FFT|² divided by Σ window², so that white noise of
   variance v gives v in every bin at every window length.
3. Triangular mel filters (HTK scale, mel = 2595 log10(1 + f/700)) normalised to unit sum: the mean
   power inside each band.
4. Natural logarithm, floored at ``floor``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels import select_body
from kernels.logmel import cpu, reference

__all__ = ["MelSpec", "log_mel", "mel_filters"]

Impl = Literal["auto", "ref", "cpu", "triton"]


@dataclass(frozen=True)
class MelSpec:
    """Sizes in samples, frequencies in Hz."""

    sample_rate: int = 16_000
    window: int = 400
    hop: int = 160
    fft: int = 512
    bands: int = 64
    low_hz: float = 50.0
    high_hz: float = 7600.0
    floor: float = 1e-11

    @property
    def context(self) -> int:
        """Samples needed before the first hop."""
        return self.window - self.hop


@cache
def mel_filters(spec: MelSpec) -> NDArray[np.float32]:
    """Triangular filters float32 [fft//2 + 1, bands], each of unit sum.

    A band narrower than one FFT bin takes its centre's nearest bin.
    """
    edges_mel = np.linspace(_mel(spec.low_hz), _mel(spec.high_hz), spec.bands + 2)
    edges = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins = np.arange(spec.fft // 2 + 1) * spec.sample_rate / spec.fft
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    weight = np.maximum(0.0, np.minimum(rising, falling))
    for band in np.flatnonzero(weight.sum(0) == 0):
        weight[np.abs(bins - centre[band]).argmin(), band] = 1.0
    return np.asarray(weight / weight.sum(0), dtype=np.float32)


def _mel(hertz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hertz / 700.0))


def log_mel(samples: Tensor, spec: MelSpec, *, impl: Impl = "auto") -> Tensor:
    """float32 [B, context + T·hop] -> float32 [B, T, bands], natural log of mean band power.

    ``auto`` takes the CPU body for CPU tensors, the Triton body for CUDA tensors.

    Raises:
        ValueError: wrong dtype or shape, or too few samples.
        BodyUnavailable: the named body cannot run on ``samples`` or this machine.
    """
    if samples.dtype != torch.float32 or samples.ndim != 2:
        raise ValueError(f"samples must be float32 [B, N], got {samples.dtype} {list(samples.shape)}")
    extra = samples.shape[1] - spec.context
    if extra < 0 or extra % spec.hop:
        raise ValueError(
            f"need {spec.context} samples of context and whole hops of {spec.hop}, "
            f"got {samples.shape[1]} samples"
        )
    body, sizes = select_body(impl, samples), (spec.window, spec.hop, spec.fft, spec.floor)
    if body == "ref":
        filters = torch.from_numpy(mel_filters(spec)).to(samples.device)
        return reference.log_mel(samples, filters, *sizes)
    if body == "cpu":
        data = np.ascontiguousarray(samples.detach().numpy())
        return torch.from_numpy(cpu.log_mel(data, mel_filters(spec), *sizes))
    from kernels.logmel import gpu

    return gpu.log_mel(samples.detach(), spec)
