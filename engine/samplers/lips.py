"""The trained lips map: audio features to lip channels, one small causal recurrent network.

The network hears nothing but the encoder's features, keeps its memory in a tensor the caller owns,
and knows nothing of portraits, silence gates or controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.errors import AssetError
from engine.samplers.visemes import LIP_CHANNELS
from engine.weights import load_weights, weights_metadata

__all__ = ["LipNet", "LipNetConfig", "LipRange", "expand", "load_lip_net"]


_PARTS = 0.05
"""Channels that open the mouth by more than this (inter-ocular distances) are taken to part the lips."""


class LipRange(nn.Module):
    """Logits [..., C] to channels [..., C] in 0..1: a sigmoid, then each channel's own range.

    A network trained on many mouths moves less than any one of them, and hardly closes: ``gain`` and
    ``bias`` restore each channel's range, ``stretch`` (a, b) the opening (:func:`expand`). All are
    set after training (:func:`engine.train.lip_training.calibrate`).
    """

    opening_unit: Tensor
    gain: Tensor
    bias: Tensor
    stretch: Tensor

    def __init__(self, channels: int = len(LIP_CHANNELS)) -> None:
        super().__init__()
        self.register_buffer("opening_unit", torch.zeros(channels))
        self.register_buffer("gain", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("stretch", torch.tensor([1.0, 0.0]))

    def forward(self, logits: Tensor) -> Tensor:
        channels = (torch.sigmoid(logits) * self.gain + self.bias).clamp(0.0, 1.0)
        return expand(channels, self.opening_unit, self.stretch)


@dataclass(frozen=True)
class LipNetConfig:
    """Sizes of a :class:`LipNet`; ``features`` counts the columns it takes."""

    features: int
    hidden: int = 128
    channels: int = len(LIP_CHANNELS)


class LipNet(nn.Module):
    """Features [B, T, F] to channels [B, T, C] in 0..1.

    1. take the columns it was trained on, normalise them by the training set's mean and deviation,
       limit them to ±5;
    2. mix by a linear layer with GELU;
    3. one GRU layer carries the past (coarticulation, speaking rate, the speaker's level);
    4. project hidden state and mixed input to channels, through a sigmoid;
    5. restore each channel's range (:class:`LipRange`).
    """

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: LipNetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("columns", torch.arange(config.features))
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))
        self.range = LipRange(config.channels)
        self.mix = nn.Linear(config.features, config.hidden)
        self.memory = nn.GRU(config.hidden, config.hidden, batch_first=True)
        self.out = nn.Linear(2 * config.hidden, config.channels)

    def init_hidden(self, batch: int) -> Tensor:
        """A fresh memory [1, B, H]."""
        return torch.zeros(1, batch, self.config.hidden)

    def logits(self, x: Tensor) -> Tensor:
        """Channels before the sigmoid [B, T, C] of whole windows [B, T, F]."""
        return self.continued(x, self.init_hidden(len(x)))[0]

    def continued(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same of a stream's next frames, and the next memory [1, B, H]."""
        normal = ((x[..., self.columns] - self.mean) / self.deviation).clamp(-5.0, 5.0)
        mixed = nn.functional.gelu(self.mix(normal))
        carried, hidden = self.memory(mixed, hidden)
        return self.out(torch.cat([carried, mixed], dim=-1)), hidden

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        logits, hidden = self.continued(x, hidden)
        return self.range(logits), hidden


def expand(channels: Tensor, unit: Tensor, stretch: Tensor) -> Tensor:
    """Channels [..., C] whose opening o (inter-ocular distances) becomes max(0, a o - b).

    ``unit`` [C] is the opening per unit of each channel, ``stretch`` (a, b). The channels that part
    the lips are scaled alike, so the shape of the mouth stays.
    """
    opening = channels @ unit
    factor = (stretch[0] * opening - stretch[1]).clamp(min=0.0) / opening.clamp(min=1e-4)
    parting = (unit > _PARTS).to(channels.dtype)
    return (channels * (1.0 + parting * (factor.unsqueeze(-1) - 1.0))).clamp(0.0, 1.0)


def load_lip_net(name: str | Path = "speech_motion", features: tuple[str, ...] = ()) -> LipNet:
    """The shipped network, frozen, checked against the encoder's column names.

    Raises:
        AssetError: missing, damaged, or trained on other features than ``features``.
    """
    tensors = load_weights(name)
    trained_on = tuple(weights_metadata(name).get("features", "").split(","))
    if features and trained_on != features:
        raise AssetError(
            f"weights {name} were trained on {len(trained_on)} feature columns, the encoder gives "
            f"{len(features)} other ones; rebuild them with visavis train speech_motion"
        )
    config = LipNetConfig(features=tensors["mean"].shape[0], hidden=tensors["mix.weight"].shape[0])
    net = LipNet(config)
    net.load_state_dict(tensors)
    return net.requires_grad_(False).eval()
