"""What stands in for the autoregressive decoder where the paper's ablation takes it away.

Chen et al., 2023, Table 3, "w/o D_ar": the upper face too comes from a transformer over speech and
style, without its own past and without chance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.layers.attention import AttentionState, TransformerLayer
from engine.samplers.vast.decoder import WEAK, WeakConfig

__all__ = ["ParallelWeak"]


class ParallelWeak(nn.Module):
    """Takes the place of :class:`~engine.samplers.vast.decoder.WeakDecoder`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: WeakConfig, width: int = 64) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(len(WEAK)))
        self.register_buffer("deviation", torch.ones(len(WEAK)))
        self.mix = nn.Linear(config.features + config.style, width)
        self.layer = TransformerLayer(width, 4, 24, dropout=0.1)
        self.out = nn.Linear(width, len(WEAK))

    def init_state(self, batch: int) -> AttentionState:
        return self.layer.init_state(batch)

    def believe(self, past: Tensor, heard: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation (0) [B, T, 9]; ``past`` is not looked at."""
        along = style[:, None].expand(-1, heard.shape[1], -1)
        mean = self.out(self.layer(nn.functional.gelu(self.mix(torch.cat([heard, along], dim=-1)))))
        return mean, torch.zeros_like(mean)

    def level(self, mean: Tensor, past: Tensor) -> Tensor:
        return mean

    def step(self, heard: Tensor, style: Tensor, noise: Tensor, state: AttentionState) -> Tensor:
        mixed = nn.functional.gelu(self.mix(torch.cat([heard, style], dim=-1)))
        made = self.out(self.layer.step(mixed[:, None], state))
        return torch.as_tensor(self.mean + made * self.deviation)
