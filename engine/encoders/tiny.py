"""A random-weight encoder, small enough that the laws of the whole pipeline run in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import StreamError
from engine.stage import StageSpec
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk

__all__ = ["TinyEncoder"]

_HOP = 640
_BLOCK = 160


@dataclass
class TinyState:
    """Audio not yet used, and the controls of frames not yet emitted."""

    audio: Tensor
    controls: Tensor
    in_force: Tensor
    frame: int = -1
    end: int = -1


class TinyEncoder:
    """Log block energies of frames n and n + 1 through a fixed random projection.

    Frame n sees samples [640 n, 640 (n + 2)): a look-ahead of one frame.
    """

    SIZE = 16

    def __init__(self, seed: int = 0) -> None:
        noise = torch.Generator().manual_seed(seed)
        self.spec = StageSpec("tiny_encoder", "audio", f"features:tiny:{self.SIZE}", lookahead_frames=1)
        self.weight = torch.randn(2 * _HOP // _BLOCK, self.SIZE, generator=noise) / 3

    def init_state(self, batch: int, cond: Cond) -> TinyState:
        return TinyState(
            audio=torch.zeros(batch, 0),
            controls=torch.zeros(batch, 0, CONTROLS.size),
            in_force=CONTROLS.default(batch),
        )

    def step(self, x: AudioChunk, state: TinyState) -> FeatureChunk:
        if state.frame < 0:
            if x.t0 % _HOP:
                raise StreamError(f"the first sample must start a frame, got {x.t0}", stage=self.spec.name)
            state.frame, state.end = x.t0 // _HOP, x.t0
        if x.t0 != state.end:
            raise StreamError(f"expected sample {state.end}, got {x.t0}", stage=self.spec.name)
        self._take_controls(x, state)
        state.audio = torch.cat([state.audio, x.samples], dim=1)
        state.end = x.t1
        return self._emit(state, max(0, state.audio.shape[1] // _HOP - 1))

    def drain(self, state: TinyState) -> FeatureChunk:
        whole = state.audio.shape[1] // _HOP
        state.audio = torch.nn.functional.pad(state.audio[:, : whole * _HOP], (0, _HOP))
        return self._emit(state, whole)

    def reset(self, state: TinyState, rows: Tensor) -> None:
        state.audio[rows] = 0.0
        state.in_force[rows] = CONTROLS.default(1)

    def forward(self, x: AudioChunk, cond: Cond) -> Tensor:
        frames = x.samples.shape[1] // _HOP
        audio = torch.nn.functional.pad(x.samples[:, : frames * _HOP], (0, _HOP))
        return self._features(audio, frames)

    def _features(self, audio: Tensor, frames: int) -> Tensor:
        windows = audio[:, : (frames + 1) * _HOP].unfold(1, 2 * _HOP, _HOP)
        blocks = windows.reshape(audio.shape[0], frames, -1, _BLOCK)
        # A fixed order of additions per frame keeps the result independent of the chunking.
        energy = torch.log(blocks.square().mean(-1) + 1e-6) / 14.0
        return (energy.unsqueeze(-1) * self.weight).sum(-2)

    def _take_controls(self, x: AudioChunk, state: TinyState) -> None:
        if x.controls is not None:
            state.in_force.copy_(x.controls)
        starts = -(-x.t1 // _HOP) - -(-x.t0 // _HOP)
        if starts:
            new = state.in_force.unsqueeze(1).repeat(1, starts, 1)
            state.controls = torch.cat([state.controls, new], dim=1)

    def _emit(self, state: TinyState, frames: int) -> FeatureChunk:
        t0 = max(state.frame, 0)
        batch = state.audio.shape[0]
        data = self._features(state.audio, frames) if frames else torch.zeros(batch, 0, self.SIZE)
        chunk = FeatureChunk(t0, data, state.controls[:, :frames].clone())
        state.audio = state.audio[:, frames * _HOP :].clone()
        state.controls = state.controls[:, frames:].clone()
        state.frame = t0 + frames
        return chunk
