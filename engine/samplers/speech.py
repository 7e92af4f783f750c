"""``SpeechSampler``: a voice's features to the motion of a living face.

Lips come from a trained network, everything else from small models of human behaviour: head, gaze,
blinks and brows follow the voice's accents and pauses, seeded per session (one voice, many
performances), counter-based per frame. No future is needed beyond the encoder's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.samplers.lips import LipNet, load_lip_net
from engine.samplers.voice import Moment, Sampled, VoiceSampler
from engine.types import Cond

__all__ = ["SpeechNetworks", "SpeechSampler"]


@dataclass
class SpeechNetworks:
    """``hidden`` [B, H]: the memory of the lips network."""

    hidden: Tensor


class SpeechSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72], look-ahead 0.

    Args:
        features: names of the encoder's columns, those the lips network was trained on.
        space: the encoder's output space, for the pipeline's check.
        lips: the network; None loads the shipped one.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    def __init__(self, features: tuple[str, ...], space: str, lips: LipNet | None = None) -> None:
        super().__init__("speech_sampler", features, space)
        self.lips = lips if lips is not None else load_lip_net(features=features)

    def fresh_networks(self, batch: int, cond: Cond) -> SpeechNetworks:
        return SpeechNetworks(self.lips.init_hidden(batch)[0])

    def sample(self, window: Tensor, moment: Moment, networks: SpeechNetworks) -> Sampled:
        with torch.inference_mode():
            channels, hidden = self.lips(window[:, :1], networks.hidden[None])
        networks.hidden.copy_(hidden[0])
        return Sampled(lips=np.asarray(channels[:, 0].double().numpy()))
