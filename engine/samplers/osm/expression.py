"""The one-to-one expression extractor: audio features to lip channels, frame by frame.

OSM-Net maps each frame's sound to expression coefficients by regression, for "the mouth shape is
highly related to the audio signal" (sec. III-B); a temporal convolution and one recurrent layer give it
the coarticulation that the paper's window of frames gave its generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.layers.causal_conv import CausalConv1d, ConvState
from engine.layers.recurrent import GRU, GRUState
from engine.samplers.lips import LipRange
from engine.samplers.visemes import LIP_CHANNELS

__all__ = ["ExpressionConfig", "ExpressionNet", "ExpressionState"]


@dataclass(frozen=True)
class ExpressionConfig:
    """Sizes; ``columns`` counts the features heard, ``kernel`` the frames the convolution sees."""

    columns: int
    hidden: int = 96
    kernel: int = 3


@dataclass
class ExpressionState:
    """What a stream remembers, batch first."""

    window: ConvState
    memory: GRUState


class ExpressionNet(nn.Module):
    """Features [B, T, F] to channels [B, T, 15] in 0..1 (:data:`~engine.samplers.visemes.LIP_CHANNELS`).

    The features it was trained on are normalised and limited to ±4, mixed, convolved over the last
    ``kernel`` frames, carried by a GRU, projected, and given their range by
    :class:`~engine.samplers.lips.LipRange`.
    """

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        hidden, channels = config.hidden, len(LIP_CHANNELS)
        self.register_buffer("columns", torch.arange(config.columns))
        self.register_buffer("mean", torch.zeros(config.columns))
        self.register_buffer("deviation", torch.ones(config.columns))
        self.mix = nn.Linear(config.columns, hidden)
        self.window = CausalConv1d(hidden, hidden, config.kernel)
        self.memory = GRU(hidden, hidden)
        self.out = nn.Linear(2 * hidden, channels)
        self.range = LipRange(channels)

    def init_state(self, batch: int) -> ExpressionState:
        return ExpressionState(self.window.init_state(batch), self.memory.init_state(batch))

    def logits(self, x: Tensor) -> Tensor:
        """Channels before the range [B, T, C] of whole windows [B, T, F]."""
        mixed = self._mixed(x)
        seen = mixed + nn.functional.gelu(self.window(mixed.transpose(1, 2)).transpose(1, 2))
        out: Tensor = self.out(torch.cat([self.memory(seen), seen], dim=-1))
        return out

    def step(self, x: Tensor, state: ExpressionState) -> Tensor:
        """Channels [B, C] of a stream's next frame [B, F]; ``state`` is updated in place."""
        mixed = self._mixed(x[:, None])
        seen = mixed + nn.functional.gelu(
            self.window.step(mixed.transpose(1, 2), state.window).transpose(1, 2)
        )
        carried = self.memory.step(seen, state.memory)
        channels: Tensor = self.range(self.out(torch.cat([carried, seen], dim=-1)))[:, 0]
        return channels

    def _mixed(self, x: Tensor) -> Tensor:
        normal = ((x[..., self.columns] - self.mean) / self.deviation).clamp(-4.0, 4.0)
        return nn.functional.gelu(self.mix(normal))
