"""VAST's style encoder and variational style enhancer: a clip of motion becomes one vector.

Chen et al., 2023, §3.1 and §3.2. Convolutions and a recurrent layer compress motion and speech of a
video prompt; the enhancer reads the posterior N(μ, σ²) of the style off it and turns it by Householder
reflections (Tomczak, Welling, "Improving variational auto-encoders using Householder flow", 2016), so
that its covariance is full. The prior is N(0, I): the zero vector is the middle of all styles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from engine.types import MOTION

__all__ = ["HouseholderFlow", "StyleConfig", "StyleEncoder", "StylePosterior"]


@dataclass(frozen=True)
class StyleConfig:
    """Sizes: ``features`` counts the encoder's columns the prompt is heard by, ``flows`` is K."""

    features: int
    size: int = 16
    width: int = 48
    hidden: int = 64
    flows: int = 4


@dataclass(frozen=True)
class StylePosterior:
    """q(z0 | X, A): ``mean`` and ``log_variance`` [B, S], and what the flow hangs on, ``hidden`` [B, H]."""

    mean: Tensor
    log_variance: Tensor
    hidden: Tensor

    def divergence(self) -> Tensor:
        """KL(q(z0) || N(0, I)) by dimension [B, S]. Reflections keep lengths and volumes, so it is the
        same before and after the flow (eq. 2: every log-determinant is 0)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


class HouseholderFlow(nn.Module):
    """z_k = (I − 2 v_k v_kᵀ / ‖v_k‖²) z_(k−1), v_k from v_(k−1), v_0 from the encoder: [B, S] -> [B, S]."""

    def __init__(self, hidden: int, size: int, flows: int) -> None:
        super().__init__()
        sizes = [hidden] + [size] * flows
        self.vectors = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, z: Tensor, hidden: Tensor) -> Tensor:
        v = hidden
        for linear in self.vectors:
            v = linear(v)
            along = (v * z).sum(-1, keepdim=True) / v.square().sum(-1, keepdim=True).clamp(min=1e-8)
            z = z - 2.0 * along * v
        return z


class StyleEncoder(nn.Module):
    """Motion [B, T, 72] and features [B, T, F] of a prompt, any T >= 8, to the style's posterior."""

    motion_mean: Tensor
    motion_deviation: Tensor

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        units = MOTION.expression.stop
        self.register_buffer("motion_mean", torch.zeros(units))
        self.register_buffer("motion_deviation", torch.ones(units))
        self.hear = nn.Linear(config.features, config.width // 2)
        self.first = nn.Conv1d(units + config.width // 2, config.width, 5, stride=2, padding=2)
        self.second = nn.Conv1d(config.width, config.width, 5, stride=2, padding=2)
        self.memory = nn.GRU(config.width, config.hidden, batch_first=True)
        summary = config.hidden + config.width
        self.mean = nn.Linear(summary, config.size)
        self.log_variance = nn.Linear(summary, config.size)
        self.flow = HouseholderFlow(summary, config.size, config.flows)

    def forward(self, motion: Tensor, features: Tensor) -> StylePosterior:
        """``features``: normalised columns, the ones the strong decoder takes."""
        units = (motion[..., MOTION.expression] - self.motion_mean) / self.motion_deviation
        heard = nn.functional.gelu(self.hear(features))
        x = torch.cat([units.clamp(-4.0, 4.0), heard], dim=-1).transpose(1, 2)
        x = nn.functional.gelu(self.second(nn.functional.gelu(self.first(x)))).transpose(1, 2)
        carried, _ = self.memory(x)
        # A style hardly changes within a clip: what holds on average, not what came last.
        summary = torch.cat([carried.mean(dim=1), x.mean(dim=1)], dim=-1)
        return StylePosterior(self.mean(summary), self.log_variance(summary).clamp(-6.0, 2.0), summary)

    def style(self, posterior: StylePosterior, noise: Tensor | None = None) -> Tensor:
        """z_K [B, S]: drawn by ``noise`` [B, S] ~ N(0, I), or the posterior's middle."""
        z = posterior.mean
        if noise is not None:
            z = z + noise * (0.5 * posterior.log_variance).exp()
        return torch.as_tensor(self.flow(z, posterior.hidden))
