"""The square that the engine works on: head and shoulders at 512 x 512, always inside the picture.

Pixel centres have integer coordinates, in pictures and crops alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.face.residual import SILHOUETTE

__all__ = ["CROP_SIDE", "FACE_SHARE", "CropBox", "crop_box", "cut", "face_width"]

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]

CROP_SIDE = 512
FACE_SHARE = 0.40
"""Width of the face in the crop where the picture has room; its height is about 1.25 times that."""
_LOWER = 0.03  # the crop's middle lies this share of its side below the face's, for the shoulders


def face_width(points: Float) -> float:
    """Width of the face's outline, px."""
    return float(np.ptp(points[SILHOUETTE, 0]))


@dataclass(frozen=True)
class CropBox:
    """A square of the picture; edges in px, where pixel i covers [i, i + 1)."""

    left: float
    top: float
    side: float

    @property
    def scale(self) -> float:
        """Crop pixels per picture pixel."""
        return CROP_SIDE / self.side

    @property
    def crop_from_image(self) -> Double:
        """[2, 3] picture pixel centres to crop pixel centres."""
        s = self.scale
        return np.array([[s, 0, (0.5 - self.left) * s - 0.5], [0, s, (0.5 - self.top) * s - 0.5]])


def crop_box(points: Float, width: int, height: int) -> CropBox:
    """The square around a face in a picture of that size.

    It moves, then shrinks, before it would leave the picture. A square that is nearly as large as
    the crop is made exactly as large and set on whole pixels: nothing is resampled then.
    """
    outline = points[SILHOUETTE]
    low, high = outline.min(0), outline.max(0)
    wide, tall = (float(v) for v in high - low)
    side = min(max(wide, tall / 1.25) / FACE_SHARE, width, height)
    if abs(side - CROP_SIDE) < 0.06 * CROP_SIDE and min(width, height) >= CROP_SIDE:
        side = float(CROP_SIDE)
    x, y = (float(v) + 0.5 for v in (low + high) / 2)
    left = float(np.clip(x - side / 2, 0, width - side))
    top = float(np.clip(y + _LOWER * side - side / 2, 0, height - side))
    if side == CROP_SIDE:
        left, top = float(round(left)), float(round(top))
    return CropBox(left, top, side)


def cut(image: Bytes, box: CropBox) -> Bytes:
    """Resample the square of ``image`` [H, W] or [H, W, 3] to [512, 512(, 3)].

    Lanczos when shrinking (no aliasing), bicubic when enlarging (less ringing).
    """
    edges = (box.left, box.top, box.left + box.side, box.top + box.side)
    kernel = Image.Resampling.LANCZOS if box.scale < 1 else Image.Resampling.BICUBIC
    resized = Image.fromarray(image).resize((CROP_SIDE, CROP_SIDE), kernel, box=edges)
    return np.array(resized)
