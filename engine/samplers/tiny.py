"""A random-weight recurrent sampler, small enough that the laws run in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import StreamError
from engine.stage import StageSpec
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk, MotionChunk

__all__ = ["TinySampler"]


@dataclass
class TinyState:
    hidden: Tensor
    seed: Tensor
    rest: Tensor
    frame: int = -1


class TinySampler:
    """h' = tanh(W x + U h + noise(seed, frame)); motion = rest + a squashed projection of h'."""

    def __init__(self, features: int = 16, seed: int = 0) -> None:
        noise = torch.Generator().manual_seed(seed + 1)
        self.size = 24
        self.spec = StageSpec("tiny_sampler", f"features:tiny:{features}", "motion")
        self.w = torch.randn(features, self.size, generator=noise) / 3
        self.u = torch.randn(self.size, self.size, generator=noise) / 8
        self.out = torch.randn(self.size, MOTION.size, generator=noise) / 5

    def init_state(self, batch: int, cond: Cond) -> TinyState:
        return TinyState(torch.zeros(batch, self.size), cond.seed.clone(), cond.rest.clone())

    def step(self, x: FeatureChunk, state: TinyState) -> MotionChunk:
        if state.frame >= 0 and x.t0 != state.frame and x.data.shape[1]:
            raise StreamError(f"expected frame {state.frame}, got {x.t0}", stage=self.spec.name)
        frames = [
            self._frame(x.data[:, k], x.controls[:, k], x.t0 + k, state) for k in range(x.data.shape[1])
        ]
        state.frame = x.t1
        data = torch.stack(frames, 1) if frames else torch.zeros(x.data.shape[0], 0, MOTION.size)
        return MotionChunk(x.t0, data)

    def drain(self, state: TinyState) -> MotionChunk:
        return MotionChunk(max(state.frame, 0), torch.zeros(state.hidden.shape[0], 0, MOTION.size))

    def reset(self, state: TinyState, rows: Tensor) -> None:
        state.hidden[rows] = 0.0

    def forward(self, x: FeatureChunk, cond: Cond) -> Tensor:
        return self.step(x, self.init_state(x.data.shape[0], cond)).data

    def _frame(self, x: Tensor, controls: Tensor, frame: int, state: TinyState) -> Tensor:
        # One row at a time: a matrix product's rounding may depend on the number of rows.
        rows = [
            torch.tanh(
                x[b] @ self.w + state.hidden[b] @ self.u + 0.1 * _noise(state.seed[b], frame, self.size)
            )
            for b in range(x.shape[0])
        ]
        state.hidden.copy_(torch.stack(rows))
        offset = torch.stack([row @ self.out for row in rows])
        motion = state.rest.clone()
        strength = controls[:, CONTROLS.index("strengthLips")].unsqueeze(1)
        motion[:, MOTION.expression] += (offset[:, MOTION.expression] * strength).clamp(0.0, 1.0)
        motion[:, MOTION.pose] += 0.1 * torch.tanh(offset[:, MOTION.pose])
        motion[:, MOTION.gaze] += 0.1 * torch.tanh(offset[:, MOTION.gaze])
        return motion


def _noise(seed: Tensor, frame: int, size: int) -> Tensor:
    """Counter-based noise [size], the same for the same (seed, frame)."""
    generator = torch.Generator().manual_seed(int(seed) * 1_000_003 + frame)
    return torch.randn(size, generator=generator)
