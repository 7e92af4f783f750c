"""GoHD's ablation "without stage 1": one recurrent network for lips and eyes at once.

Never shipped; ``benchmarks/quality/claims_gohd.py`` trains it beside the two-stage predictor on the same
windows for as many steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.samplers.factors import UPPER
from engine.samplers.gohd.eyes import NOISES
from engine.samplers.gohd.lips import LipStageConfig, spectral_columns
from engine.samplers.lips import LipRange
from engine.samplers.visemes import LIP_CHANNELS

__all__ = ["OneStage", "new_one_stage"]


class OneStage(nn.Module):
    """Features and z to lip logits and upper face by one LSTM; the interface of
    :class:`~engine.samplers.gohd.lips.LipStage` as far as its trainer uses it."""

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: LipStageConfig) -> None:
        super().__init__()
        self.register_buffer("columns", torch.arange(config.features))
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))
        self.range = LipRange()
        self.mix = nn.Linear(config.features, config.width)
        self.memory = nn.LSTM(config.width + NOISES, config.hidden, batch_first=True)
        self.out = nn.Linear(config.width + config.hidden, len(LIP_CHANNELS) + len(UPPER))

    def logits(self, x: Tensor) -> Tensor:
        """[B, T, F] to channels before their range [B, T, 15], whole windows."""
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lip logits [B, T, 15] and the upper face [B, T, 13] relative to rest."""
        normal = ((x[..., self.columns] - self.mean) / self.deviation).clamp(-5.0, 5.0)
        mixed = nn.functional.gelu(self.mix(normal))
        z = torch.randn(len(x), 1, NOISES).expand(-1, x.shape[1], -1)
        memory, _ = self.memory(torch.cat([mixed, z], dim=-1))
        made = self.out(torch.cat([memory, mixed], dim=-1))
        return made[..., : len(LIP_CHANNELS)], made[..., len(LIP_CHANNELS) :]


def new_one_stage(names: tuple[str, ...]) -> OneStage:
    """Untrained, for features ``names``."""
    columns = spectral_columns(names)
    net = OneStage(LipStageConfig(len(columns)))
    net.columns.copy_(torch.tensor(columns))
    return net
