"""``JoinedEncoder``: several encoders hear the same audio, their features stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.stage import Stage, StageSpec
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk

__all__ = ["JoinedEncoder", "JoinedState"]


@dataclass
class JoinedState:
    """States of the encoders, and per encoder the frames that wait for slower ones."""

    parts: list[Any]
    held: list[Tensor]
    controls: list[Tensor]
    t0: int | None = None


class JoinedEncoder:
    """Audio to the features of all ``encoders``, in their order; the slowest one's look-ahead.

    Raises:
        ConfigError: no encoder, or different frame rates.
    """

    def __init__(self, encoders: Sequence[Stage[Any, Any, Any]]) -> None:
        specs = [e.spec for e in encoders]
        if not specs or len({s.frame_rate for s in specs}) > 1:
            raise ConfigError("joined encoders must be one or more, all of the same frame rate")
        self.encoders = list(encoders)
        self.sizes = [int(s.output.rsplit(":", 1)[1]) for s in specs]
        name = "+".join(s.name for s in specs)
        self.spec = StageSpec(
            name, "audio", f"features:{name}:{sum(self.sizes)}", max(s.lookahead_frames for s in specs)
        )

    def init_state(self, batch: int, cond: Cond) -> JoinedState:
        return JoinedState(
            [e.init_state(batch, cond) for e in self.encoders],
            [torch.zeros(batch, 0, size) for size in self.sizes],
            [torch.zeros(batch, 0, CONTROLS.size) for _ in self.sizes],
        )

    def step(self, x: AudioChunk, state: JoinedState) -> FeatureChunk:
        return self._merge([e.step(x, s) for e, s in zip(self.encoders, state.parts, strict=True)], state)

    def drain(self, state: JoinedState) -> FeatureChunk:
        chunk = self._merge([e.drain(s) for e, s in zip(self.encoders, state.parts, strict=True)], state)
        state.t0 = None
        return chunk

    def reset(self, state: JoinedState, rows: Tensor) -> None:
        for encoder, part in zip(self.encoders, state.parts, strict=True):
            encoder.reset(part, rows)
        for held, controls in zip(state.held, state.controls, strict=True):
            held[rows] = 0.0
            controls[rows] = CONTROLS.default(1)

    def forward(self, x: AudioChunk, cond: Cond) -> Tensor:
        return torch.cat([e.forward(x, cond) for e in self.encoders], dim=-1)

    def _merge(self, chunks: list[FeatureChunk], state: JoinedState) -> FeatureChunk:
        if state.t0 is None:
            state.t0 = chunks[0].t0
        state.held = [torch.cat([h, c.data], dim=1) for h, c in zip(state.held, chunks, strict=True)]
        state.controls = [torch.cat([h, c.controls], 1) for h, c in zip(state.controls, chunks, strict=True)]
        ready = min(h.shape[1] for h in state.held)
        data = torch.cat([h[:, :ready] for h in state.held], dim=-1)
        chunk = FeatureChunk(state.t0, data, state.controls[0][:, :ready].clone())
        state.held = [h[:, ready:].clone() for h in state.held]
        state.controls = [h[:, ready:].clone() for h in state.controls]
        state.t0 += ready
        return chunk
