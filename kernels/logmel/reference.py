"""The definition, in torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def log_mel(samples: Tensor, filters: Tensor, window: int, hop: int, fft: int, floor: float) -> Tensor:
    """float32 [B, N], filters [fft//2 + 1, M] -> float32 [B, T, M]."""
    batch, count = samples.shape
    bands = filters.shape[1]
    if count < window:
        return samples.new_zeros(batch, 0, bands)
    hann = torch.hann_window(window, periodic=True, dtype=torch.float32, device=samples.device)
    frames = samples.unfold(1, window, hop) * hann
    power = torch.fft.rfft(frames, n=fft).abs().square() / hann.square().sum()
    return torch.log((power @ filters).clamp_min(floor))
