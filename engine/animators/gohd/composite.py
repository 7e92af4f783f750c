"""Puts what the network returned into the full-size frame: its pixels move, new colour is mixed in."""

from __future__ import annotations

from concurrent.futures import Executor

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.animators.gohd.region import Region
from kernels.fuse import bands, fuse

__all__ = ["Composite"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Composite:
    """Buffers of one stream for regions of ``side`` px."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._out: Bytes = np.zeros((1, side, side, 3), np.uint8)
        self._paint: Floats = np.zeros((4, 0, 0), np.float32)

    def __call__(
        self, frame: Bytes, region: Region, flow: Tensor, paint: Tensor, helper: Executor | None = None
    ) -> None:
        """Change ``frame`` uint8 [H, W, 3] inside ``region``.

        ``flow`` float32 [2, s/4, s/4] in px of an s x s region, ``paint`` [4, s, s] share x change of colour
        and share. What new colour changes is the frame's own pixel, at the frame's own resolution.
        """
        side, pixels = self.side, paint.shape[-1]
        x0, y0 = round(region.left), round(region.top)
        image = _cut(frame, x0, y0, side)[None]
        moved = flow.numpy().transpose(1, 2, 0)[None] * np.float32(side / pixels)
        if self._paint.shape != paint.shape:
            self._paint = np.zeros(paint.shape, np.float32)
        np.multiply(paint[:3].numpy(), np.float32(255.0), out=self._paint[:3])
        np.subtract(np.float32(1.0), paint[3].numpy(), out=self._paint[3])
        change, keep = self._paint[:3].transpose(1, 2, 0)[None], self._paint[3][None]
        whole = (0, 0, side, side)
        parts = bands(whole, 2) if helper is not None else [whole]
        waiting = [
            helper.submit(fuse, image, image, moved, keep, change, self._out, box=part, sampling="bicubic")
            for part in parts[1:]
            if helper is not None
        ]
        fuse(image, image, moved, keep, change, self._out, box=parts[0], sampling="bicubic")
        for work in waiting:
            work.result()
        _paste(self._out[0], frame, x0, y0)


def _overlap(start: int, side: int, size: int) -> tuple[int, int]:
    return max(start, 0), max(min(start + side, size), 0)


def _cut(frame: Bytes, x0: int, y0: int, side: int) -> Bytes:
    """[side, side, 3] at (x0, y0), the frame's border repeated where it ends."""
    height, width = frame.shape[:2]
    (left, right), (top, bottom) = _overlap(x0, side, width), _overlap(y0, side, height)
    if left >= right or top >= bottom:
        return np.zeros((side, side, 3), np.uint8)
    inner = frame[top:bottom, left:right]
    if inner.shape[:2] == (side, side):
        return np.ascontiguousarray(inner)
    padded = cv2.copyMakeBorder(
        inner, top - y0, y0 + side - bottom, left - x0, x0 + side - right, cv2.BORDER_REPLICATE
    )
    return np.asarray(padded, np.uint8)


def _paste(picture: Bytes, frame: Bytes, x0: int, y0: int) -> None:
    """Lay ``picture`` over ``frame`` at (x0, y0) as far as it is inside."""
    side = picture.shape[0]
    (left, right), (top, bottom) = (
        _overlap(v, side, n) for v, n in ((x0, frame.shape[1]), (y0, frame.shape[0]))
    )
    if left < right and top < bottom:
        frame[top:bottom, left:right] = picture[top - y0 : bottom - y0, left - x0 : right - x0]
