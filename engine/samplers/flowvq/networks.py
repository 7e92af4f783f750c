"""ExpFlow and PoseFlow: conditional flows that make one frame from the frames before it and the voice.

After FlowVQTalker (Tan et al., 2024), section 3.2: K steps of multi-actnorm, invertible linear map and
affine coupling with a transformer conditioner; context = audio, emotion label, previous frames. Small
and causal: the audio passes two causal convolutions, the past is a handful of taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.layers.causal_conv import CausalConv1d
from engine.layers.flow import Flow, FlowConfig, MixturePrior, MultiActNorm
from engine.samplers.flowvq.vector import SIZE
from engine.types import EMOTIONS

__all__ = ["CLASSES", "TAPS", "ExpFlow", "FlowNetConfig", "Hearing", "HearingState", "PoseFlow", "labels"]

CLASSES = 1 + len(EMOTIONS)
"""Neutral, then :data:`~engine.types.EMOTIONS`."""
TAPS: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
"""Which previous frames the flows see."""
POSE_SIZE = 6


@dataclass(frozen=True)
class FlowNetConfig:
    """Sizes: ``inputs`` audio columns read; ``freedom`` of the Student t (infinite: Gaussian)."""

    inputs: int
    width: int = 48
    steps: int = 3
    freedom: float = 10.0


@dataclass
class HearingState:
    """Inputs the two convolutions still need: ``first`` and ``second`` float32 [B, W, k - 1]."""

    first: Tensor
    second: Tensor


class Hearing(nn.Module):
    """Features [B, T, F] to audio tokens [B, T, W]: normalise, mix, two causal convolutions (0.4 s)."""

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("columns", torch.arange(inputs))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.mix = nn.Linear(inputs, width)
        self.first = CausalConv1d(width, width, 5)
        self.second = CausalConv1d(width, width, 5)

    def init_state(self, batch: int) -> HearingState:
        return HearingState(self.first.init_state(batch).past, self.second.init_state(batch).past)

    def _mixed(self, x: Tensor) -> Tensor:
        normal = ((x[..., self.columns] - self.mean) / self.deviation).clamp(-5.0, 5.0)
        return nn.functional.gelu(self.mix(normal)).transpose(1, 2)

    def advance(self, x: Tensor, state: HearingState) -> Tensor:
        """Continue a stream; ``state`` is updated in place."""
        y, first = self.first.advance(self._mixed(x), state.first)
        y, second = self.second.advance(nn.functional.gelu(y), state.second)
        state.first.copy_(first)
        state.second.copy_(second)
        return y.transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.advance(x, self.init_state(len(x)))


class Context(nn.Module):
    """Context tokens [N, 2 + taps, W] from audio, label and previous frames, each of which may be missing."""

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        self.past = nn.Linear(size, width)
        self.label = nn.Linear(classes, width)
        self.lag = nn.Parameter(0.3 * torch.randn(len(TAPS), width))
        self.missing = nn.Parameter(0.3 * torch.randn(len(TAPS), width))

    def forward(self, audio: Tensor, weights: Tensor, past: Tensor, seen: Tensor) -> Tensor:
        """``audio`` [N, W], ``weights`` [N, C], ``past`` [N, taps, D], ``seen`` [N, taps] 1 or 0."""
        kept = seen[..., None]
        frames = kept * (self.past(past) + self.lag) + (1.0 - kept) * self.missing
        return torch.cat([audio[:, None], self.label(weights)[:, None], frames], dim=1)


class ExpFlow(nn.Module):
    """Expression vectors [N, SIZE] (:mod:`engine.samplers.flowvq.vector`) to latent codes and back.

    The past is kept in the coordinates of the first actnorm, that is relative to the emotion of its
    own time: a live change of emotion then moves the face without breaking its history. ``gain`` [SIZE]
    widens what is shown about its slow mean (calibrated on training talkers: samples stay nearer the
    mean than people do); it is no part of the density.
    """

    gain: Tensor
    low: Tensor
    high: Tensor
    codes: Tensor

    def __init__(self, config: FlowNetConfig, codes: int = 256) -> None:
        super().__init__()
        self.config = config
        self.hearing = Hearing(config.inputs, config.width)
        self.context = Context(SIZE, CLASSES, config.width)
        self.flow = Flow(FlowConfig(SIZE, CLASSES, config.steps, config.width))
        self.prior = MixturePrior(SIZE, CLASSES, config.freedom)
        self.register_buffer("gain", torch.ones(SIZE))
        self.register_buffer("low", torch.full((SIZE,), -10.0))
        self.register_buffer("high", torch.full((SIZE,), 10.0))
        # Latent codes of training frames less their component's mean, for the manifold projection.
        self.register_buffer("codes", torch.zeros(CLASSES, codes, SIZE))

    @property
    def norm(self) -> MultiActNorm:
        first = self.flow.norms[0]
        assert isinstance(first, MultiActNorm)
        return first

    def encode(self, x: Tensor, weights: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(z [N, SIZE], log p(x | context) [N])."""
        z, log_det = self.flow(x, weights, tokens)
        return z, self.prior.log_density(z, weights) + log_det

    def decode(self, z: Tensor, weights: Tensor, tokens: Tensor) -> Tensor:
        """x [N, SIZE], limited to what training faces did."""
        made = self.flow.inverse(z, weights, tokens)
        return torch.maximum(torch.minimum(made, self.high), self.low)


class PoseFlow(nn.Module):
    """The head's next step [N, 6] to a latent code and back; prior N(0, I), no emotion (eq. 12).

    What is modelled is the velocity; the past enters as poses and velocities. ``scale`` [12] are the
    deviations of both; ``temperature`` widens or narrows the prior and ``gain`` [6] the pose shown
    (both calibrated on people: a small flow wanders less than they do).
    """

    scale: Tensor
    temperature: Tensor
    gain: Tensor

    def __init__(self, config: FlowNetConfig) -> None:
        super().__init__()
        self.config = config
        self.hearing = Hearing(config.inputs, config.width)
        self.context = Context(2 * POSE_SIZE, 1, config.width)
        self.flow = Flow(FlowConfig(POSE_SIZE, 1, config.steps, config.width))
        self.prior = MixturePrior(POSE_SIZE, 1, float("inf"), spread=0.0)
        self.register_buffer("scale", torch.ones(2 * POSE_SIZE))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("gain", torch.ones(POSE_SIZE))

    def encode(self, step: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised velocity [N, 6] to (z [N, 6], log density [N])."""
        weights = torch.ones(len(step), 1)
        z, log_det = self.flow(step, weights, tokens)
        return z, self.prior.log_density(z, weights) + log_det

    def decode(self, z: Tensor, tokens: Tensor) -> Tensor:
        """Normalised velocity [N, 6], at most 5 deviations."""
        return self.flow.inverse(z, torch.ones(len(z), 1), tokens).clamp(-5.0, 5.0)


def labels(emotion: Tensor) -> Tensor:
    """Strengths [B, 7] to label weights [B, 8] that sum to 1: what is left is neutral."""
    share = emotion / emotion.sum(1, keepdim=True).clamp(min=1.0)
    return torch.cat([1.0 - share.sum(1, keepdim=True), share], dim=1)
