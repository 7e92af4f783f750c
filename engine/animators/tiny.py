"""A drawn face of a few shapes: the smallest animator that keeps every law of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.stage import StageSpec
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420

__all__ = ["TinyAnimator"]


@dataclass
class TinyState:
    batch: int
    frame: int = 0
    tier: int = 0


class TinyAnimator:
    """An oval head with two eyes and a mouth that opens; needs no portrait.

    Args:
        size: height and width of the picture in pixels (even).
        pixels: layout of the frames it returns.
    """

    tiers = 2
    """Its frames cost nothing in either; there to try the governor on."""
    needs_portrait = False
    """Callers need not analyse a photo for this animator."""

    def __init__(self, size: int = 64, pixels: PixelFormat = PixelFormat.RGB) -> None:
        if size % 2 or size < 16:
            raise ConfigError(f"the picture must have an even size of at least 16 pixels, got {size}")
        self.size = size
        self.pixels = pixels
        self.spec = StageSpec("tiny_animator", "motion", "frames")
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        self._y, self._x = torch.meshgrid(axis, axis, indexing="ij")

    def prepare(self, portrait: Any) -> None:
        """The tiny face is its own portrait."""

    def init_state(self, batch: int, cond: Cond) -> TinyState:
        return TinyState(batch)

    def step(self, x: MotionChunk, state: TinyState) -> FrameChunk:
        pictures = [torch.stack([self._draw(m) for m in row]) for row in x.data] if x.data.shape[1] else []
        state.frame = x.t1
        data = torch.stack(pictures) if pictures else self._empty(x.data.shape[0])
        return FrameChunk(x.t0, data, self.pixels)

    def drain(self, state: TinyState) -> FrameChunk:
        return FrameChunk(state.frame, self._empty(state.batch), self.pixels)

    def reset(self, state: TinyState, rows: Tensor) -> None:
        """Nothing to reset: a picture depends on its own motion only."""

    def forward(self, x: MotionChunk, cond: Cond) -> Tensor:
        return self.step(x, self.init_state(x.data.shape[0], cond)).data

    def _empty(self, batch: int) -> Tensor:
        shape = (
            (self.size, self.size, 3) if self.pixels is PixelFormat.RGB else (self.size * 3 // 2, self.size)
        )
        return torch.zeros(batch, 0, *shape, dtype=torch.uint8)

    def _draw(self, motion: Tensor) -> Tensor:
        m = motion.tolist()
        x = self._x - 0.5 * m[MOTION.index("ry")]
        y = self._y - 0.5 * m[MOTION.index("rx")]
        picture = torch.full((self.size, self.size, 3), 200.0)
        _paint(picture, (x / 0.7) ** 2 + (y / 0.9) ** 2, (224.0, 180.0, 150.0))
        for side, name in ((-0.3, "eyeBlinkRight"), (0.3, "eyeBlinkLeft")):
            height = 0.02 + 0.1 * (1.0 - m[MOTION.index(name)])
            _paint(picture, ((x - side) / 0.14) ** 2 + ((y + 0.2) / height) ** 2, (40.0, 40.0, 60.0))
        height = 0.02 + 0.25 * m[MOTION.index("jawOpen")]
        _paint(picture, (x / 0.3) ** 2 + ((y - 0.45) / height) ** 2, (120.0, 30.0, 40.0))
        rgb = picture.round().clamp(0, 255).to(torch.uint8)
        if self.pixels is PixelFormat.RGB:
            return rgb
        return torch.from_numpy(rgb_to_i420(rgb.numpy()))


def _paint(picture: Tensor, distance: Tensor, colour: tuple[float, float, float]) -> None:
    """Blend ``colour`` into ``picture`` [H, W, 3] where ``distance`` < 1, with a soft edge."""
    alpha = ((1.0 - distance) * 8.0).clamp(0.0, 1.0).unsqueeze(-1)
    picture.lerp_(torch.tensor(colour).expand_as(picture), alpha)
