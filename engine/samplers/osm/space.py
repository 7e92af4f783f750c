"""The motion space: 48 learned features of short head movements, and what lies between them.

A *clip* is how the head moves over T frames, counted from the pose before its first frame, in units
of people's own deviation. The pose encoder maps a clip to a feature F_m; attention over the bases
gives weights w = softmax(κ cos(b, F_m)) (OSM-Net, eqs. 1 and 2) and the feature F = w B that the decoder
turns back into a clip. Nothing here knows of audio, noise or time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.types import POSE_NAMES

__all__ = ["POSES", "MotionSpace", "SpaceConfig"]

POSES = len(POSE_NAMES)


@dataclass(frozen=True)
class SpaceConfig:
    """Sizes: ``clip`` T frames, ``bases`` S, ``width`` C of a feature (the paper's 5, 48, 512; a ``clip``
    of 1 is its frame-level ablation); ``sharpness`` κ of the attention."""

    clip: int = 5
    bases: int = 48
    width: int = 512
    hidden: int = 96
    sharpness: float = 30.0


class MotionSpace(nn.Module):
    """Clips [..., T, 6] to features [..., C] and back.

    ``unit`` [6] is the deviation of real people's clip ends, rad and inter-ocular distances.
    """

    unit: Tensor

    def __init__(self, config: SpaceConfig) -> None:
        super().__init__()
        self.config = config
        size = config.clip * POSES
        self.register_buffer("unit", torch.ones(POSES))
        self.bases = nn.Parameter(torch.randn(config.bases, config.width) * config.width**-0.5)
        self.encoder = nn.Sequential(
            nn.Linear(size, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.width)
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.GELU(), nn.Linear(config.hidden, size)
        )

    def encode(self, clips: Tensor) -> Tensor:
        """F_m [..., C] of ``clips`` [..., T, 6] (rad, inter-ocular distances)."""
        feature: Tensor = self.encoder((clips / self.unit).flatten(-2))
        return feature

    def attend(self, feature: Tensor) -> Tensor:
        """log w [..., S]: κ times the cosine to each basis, normalised (eqs. 1 and 2)."""
        cosine = nn.functional.normalize(feature, dim=-1) @ nn.functional.normalize(self.bases, dim=-1).T
        return torch.log_softmax(self.config.sharpness * cosine, dim=-1)

    def mixed(self, weights: Tensor) -> Tensor:
        """w B: [..., S] to [..., C]."""
        return weights @ self.bases

    def decode(self, feature: Tensor) -> Tensor:
        """The clip [..., T, 6] of a feature, rad and inter-ocular distances."""
        flat: Tensor = self.decoder(feature)
        return flat.reshape(*feature.shape[:-1], self.config.clip, POSES) * self.unit

    def rescale(self, factor: float) -> None:
        """Multiply every feature by ``factor``; clips and attention stay what they are."""
        last, first = self.encoder[-1], self.decoder[0]
        assert isinstance(last, nn.Linear)
        assert isinstance(first, nn.Linear)
        with torch.no_grad():
            self.bases.mul_(factor)
            last.weight.mul_(factor)
            last.bias.mul_(factor)
            first.weight.div_(factor)
