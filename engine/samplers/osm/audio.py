"""From a voice, and the head's own recent past, to weights over the motion bases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.layers.recurrent import GRU
from engine.samplers.osm.space import POSES

__all__ = ["PAST_FRAMES", "AudioConfig", "AudioMotion"]

PAST_FRAMES = 10
"""Frames of the delivered motion that a new clip is chosen by, besides the pose itself."""


@dataclass(frozen=True)
class AudioConfig:
    """Sizes; ``columns`` counts the features heard, ``bases`` S."""

    columns: int
    bases: int = 48
    hidden: int = 48


class AudioMotion(nn.Module):
    """The audio encoder E_a, made autoregressive.

    A recurrent layer follows the voice frame by frame. Where a clip begins, its memory, the pose and
    the last :data:`PAST_FRAMES` steps of the head decide log w^a [S]; the paper's encoder hears the
    clip's audio alone, but each of ours begins from the pose just delivered and must go on from it.
    """

    columns: Tensor
    mean: Tensor
    deviation: Tensor
    pose_unit: Tensor
    step_unit: Tensor

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("columns", torch.arange(config.columns))
        self.register_buffer("mean", torch.zeros(config.columns))
        self.register_buffer("deviation", torch.ones(config.columns))
        self.register_buffer("pose_unit", torch.ones(POSES))
        self.register_buffer("step_unit", torch.ones(POSES))
        self.listen = nn.Linear(config.columns, config.hidden)
        self.memory = GRU(config.hidden, config.hidden)
        inputs = config.hidden + POSES * (1 + PAST_FRAMES)
        self.choose = nn.Sequential(
            nn.Linear(inputs, 2 * config.hidden), nn.GELU(), nn.Linear(2 * config.hidden, config.bases)
        )

    def normal(self, x: Tensor) -> Tensor:
        """The columns heard [..., N] of features [..., F], normalised and limited to ±4."""
        return ((x[..., self.columns] - self.mean) / self.deviation).clamp(-4.0, 4.0)

    def hear(self, x: Tensor) -> Tensor:
        """Whole windows of features [B, T, F] to memories [B, T, H]."""
        heard: Tensor = self.memory(nn.functional.gelu(self.listen(self.normal(x))))
        return heard

    def advance(self, x: Tensor, memory: Tensor) -> Tensor:
        """One frame of features [B, F] and memory [B, H] to the next memory."""
        return self.memory.advance(nn.functional.gelu(self.listen(self.normal(x))), memory)

    def weights(self, memory: Tensor, pose: Tensor, steps: Tensor) -> Tensor:
        """log w^a [..., S] from memory [..., H], pose [..., 6], last steps [..., PAST_FRAMES, 6]."""
        past = (steps / self.step_unit).clamp(-4.0, 4.0).flatten(-2)
        state = (pose / self.pose_unit).clamp(-4.0, 4.0)
        return torch.log_softmax(self.choose(torch.cat([memory, state, past], dim=-1)), dim=-1)
