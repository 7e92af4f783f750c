"""Stage 1 of the expression: what one frame of audio, with its past, asks of lips, given the eyes.

ẽ_t = MLP(Φ_a(a_t) ⊕ f_t) (GoHD, eq. 5): Φ_a hears the voice, f_t is the handcrafted eye feature, so that
the audio network need not explain blinks and brows. Φ_a then serves stage 2, frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.layers.causal_conv import CausalConv1d
from engine.samplers.factors import UPPER
from engine.samplers.lips import LipRange
from engine.samplers.visemes import LIP_CHANNELS

__all__ = [
    "EYE_FEATURES",
    "LOOKAHEAD",
    "AudioNet",
    "AudioState",
    "LipStage",
    "LipStageConfig",
    "ahead",
    "spectral_columns",
]

EYE_FEATURES = 21
"""Lid aperture and 20 brow displacements (:mod:`engine.train.gohd_features`)."""

LOOKAHEAD = 1
"""Frames Φ_a hears beyond the one it describes, besides the encoder's own: mouths move before sounds."""


def spectral_columns(features: tuple[str, ...]) -> list[int]:
    """Columns Φ_a reads: all but the absolute level, which tells microphones apart, not sounds."""
    return [k for k, name in enumerate(features) if name != "level"]


def ahead(features: Tensor) -> Tensor:
    """Features [..., T, F] as Φ_a is fed a whole take: each frame's followers, the last one repeated."""
    return torch.cat(
        [features[..., LOOKAHEAD:, :], features[..., -1:, :].expand_as(features[..., :LOOKAHEAD, :])], -2
    )


@dataclass(frozen=True)
class LipStageConfig:
    """Sizes; ``features`` counts the columns of the audio that are read."""

    features: int
    width: int = 96
    hidden: int = 96


@dataclass
class AudioState:
    """``past`` [B, W, k − 1] of the convolution and ``hidden`` [B, H] of the recurrent layer."""

    past: Tensor
    hidden: Tensor


class AudioNet(nn.Module):
    """Φ_a: normalised features [B, T, F] to [B, T, W + H], causal.

    A linear mix, a causal convolution over three frames (120 ms: stops and glides), one GRU layer for
    the longer past.
    """

    def __init__(self, config: LipStageConfig) -> None:
        super().__init__()
        self.config = config
        self.size = config.width + config.hidden
        self.mix = nn.Linear(config.features, config.width)
        self.near = CausalConv1d(config.width, config.width, 3)
        self.far = nn.GRU(config.width, config.hidden, batch_first=True)

    def init_state(self, batch: int) -> AudioState:
        return AudioState(self.near.init_state(batch).past, torch.zeros(batch, self.config.hidden))

    def forward(self, normal: Tensor) -> Tensor:
        return self.continued(normal, self.init_state(len(normal)))[0]

    def continued(self, normal: Tensor, state: AudioState) -> tuple[Tensor, AudioState]:
        """A stream's next frames, and its state after them."""
        mixed = nn.functional.gelu(self.mix(normal)).transpose(1, 2)
        near, past = self.near.advance(mixed, state.past)
        near = nn.functional.gelu((near + mixed).transpose(1, 2))
        far, hidden = self.far(near, state.hidden[None])
        return torch.cat([near, far], dim=-1), AudioState(past, hidden[0])


class LipStage(nn.Module):
    """Audio and eye feature to lip channels and to the upper face.

    ``columns``, ``mean``, ``deviation``, ``range`` and :meth:`logits` are what the shared trainer of lips
    expects. Windows may carry the eye feature behind the encoder's columns (``eyes_at`` >= 0); without
    it the face is taken to be at rest.
    """

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: LipStageConfig) -> None:
        super().__init__()
        self.config = config
        self.eyes_at = -1
        self.register_buffer("columns", torch.arange(config.features))
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))
        self.range = LipRange()
        self.audio = AudioNet(config)
        self.eyes = nn.Linear(EYE_FEATURES, 24)
        self.blend = nn.Linear(self.audio.size + 24, 96)
        self.lips = nn.Linear(96 + self.audio.size, len(LIP_CHANNELS))
        self.face = nn.Linear(96, len(UPPER))
        self.face_direct = nn.Linear(EYE_FEATURES, len(UPPER), bias=False)

    def normal(self, x: Tensor) -> Tensor:
        """The columns read, by the training set's mean and deviation, limited to ±5."""
        return ((x[..., self.columns] - self.mean) / self.deviation).clamp(-5.0, 5.0)

    def heads(self, heard: Tensor, eyes: Tensor) -> tuple[Tensor, Tensor]:
        """Φ_a [B, T, A] and eye features [B, T, 21] to lip logits [B, T, 15] and, relative to rest,
        the upper face [B, T, 13]."""
        seen = torch.tanh(self.eyes(eyes))
        joined = nn.functional.gelu(self.blend(torch.cat([heard, seen], dim=-1)))
        return self.lips(torch.cat([joined, heard], dim=-1)), self.face(joined) + self.face_direct(eyes)

    def logits(self, x: Tensor) -> Tensor:
        """[B, T, F] to channels before their range [B, T, 15], whole windows."""
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`heads` of whole windows."""
        heard = self.audio(self.normal(x))
        if self.eyes_at >= 0 and x.shape[-1] > self.eyes_at:
            eyes = x[..., self.eyes_at : self.eyes_at + EYE_FEATURES]
        else:
            eyes = heard.new_zeros(*heard.shape[:2], EYE_FEATURES)
        return self.heads(heard, eyes)
