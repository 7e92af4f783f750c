"""Few-step diffusion over a sliding window: noise levels, the deterministic step, guidance.

Levels 0..K of a window rise with the distance into the future: what is due next is nearly clean, what
lies farthest is pure noise (Ruhe et al., "Rolling Diffusion Models", ICML 2024). Every call takes
the whole window down one level, so that each frame has K steps behind it when it is delivered, the
cost of each call is the same and the last step has heard the newest audio.

A frame at level k is ``alpha[k] x0 + sigma[k] noise``, alpha² + sigma² = 1 (Ho et al., 2020); networks
predict ``v = alpha noise − sigma x0`` (Salimans, Ho, "Progressive Distillation", ICLR 2022), which is
linear in the noise, so that mixing two predictions mixes the noises alike (Ho, Salimans,
"Classifier-Free Diffusion Guidance", 2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Levels", "guided"]

_FARTHEST = 0.98


class Levels(nn.Module):
    """``alpha`` and ``sigma`` of levels 0..``steps``, float32 [steps + 1]; level 0 is clean."""

    alpha: Tensor
    sigma: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        angle = 0.5 * math.pi * _FARTHEST * torch.arange(steps + 1, dtype=torch.float64) / steps
        self.steps = steps
        self.register_buffer("alpha", torch.cos(angle).float(), persistent=False)
        self.register_buffer("sigma", torch.sin(angle).float(), persistent=False)

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``clean`` and ``noise`` [..., N, C] at integer levels [N] or [..., N]."""
        return self.alpha[level].unsqueeze(-1) * clean + self.sigma[level].unsqueeze(-1) * noise

    def velocity(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What a network should predict, shaped like ``clean``."""
        return self.alpha[level].unsqueeze(-1) * noise - self.sigma[level].unsqueeze(-1) * clean

    def clean(self, noisy: Tensor, velocity: Tensor, level: Tensor) -> Tensor:
        """x0 as ``velocity`` has it."""
        return self.alpha[level].unsqueeze(-1) * noisy - self.sigma[level].unsqueeze(-1) * velocity

    def down(self, noisy: Tensor, velocity: Tensor, level: Tensor, limit: float = 6.0) -> Tensor:
        """One deterministic step (DDIM, Song et al., 2021) from ``level`` >= 1 to ``level`` − 1; x0 is
        kept within ±``limit``, the data's deviation being 1."""
        clean = self.clean(noisy, velocity, level).clamp(-limit, limit)
        noise = self.sigma[level].unsqueeze(-1) * noisy + self.alpha[level].unsqueeze(-1) * velocity
        return self.noised(clean, noise, level - 1)


def guided(conditional: Tensor, free: Tensor, strength: Tensor | float) -> Tensor:
    """γ conditional + (1 − γ) free."""
    return free + strength * (conditional - free)
