"""Rotated square regions of a picture, and how a network's input is sampled from them.

Coordinates are pixels, x right, y down, integers at pixel centres (OpenCV's convention), so a
picture spans -0.5 .. width - 0.5. All sampling is centre-true: no half-pixel drifts, whatever the
scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Bytes", "Floats", "Roi", "sample_roi"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Roi:
    """A square of side ``size`` px around (``x``, ``y``), turned by ``angle`` rad (x axis towards y)."""

    x: float
    y: float
    size: float
    angle: float = 0.0

    def to_image(self, side: int, mirror: bool = False) -> NDArray[np.float64]:
        """Affine [2, 3] from pixels of the ``side`` × ``side`` sample to pixels of the picture."""
        step = self.size / side
        c, s = step * np.cos(self.angle), step * np.sin(self.angle)
        turn = np.array([[c, -s], [s, c]])
        if mirror:
            turn[:, 0] *= -1
        middle = np.full(2, (side - 1) / 2)
        return np.column_stack([turn, np.array([self.x, self.y]) - turn @ middle])


def sample_roi(rgb: Bytes, roi: Roi, side: int, mirror: bool = False) -> Bytes:
    """The region as uint8 [side, side, 3], black outside the picture; ``mirror`` flips it left-right.

    Strong shrinking averages over blocks first: bilinear sampling alone would alias.
    """
    matrix = roi.to_image(side, mirror)
    factor = int(roi.size / side)
    if factor >= 2:
        rgb, matrix = _shrink(rgb, matrix, side, factor)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(rgb, matrix, (side, side), flags=flags)
    return np.asarray(out, np.uint8)


def _shrink(
    rgb: Bytes, matrix: NDArray[np.float64], side: int, factor: int
) -> tuple[Bytes, NDArray[np.float64]]:
    """The part of ``rgb`` under the sample, averaged over factor × factor blocks, and its matrix."""
    corners = np.array([[-1, -1], [side, -1], [-1, side], [side, side]], np.float64)
    reach = corners @ matrix[:, :2].T + matrix[:, 2]
    limit = np.array(rgb.shape[1::-1])
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - factor, 0, limit - 1)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + factor, low + 1, limit)
    part = rgb[low[1] : high[1], low[0] : high[0]]
    # Whole blocks only: replicate the last rows and columns rather than stretch the picture.
    extra = -np.array(part.shape[1::-1]) % factor
    if extra.any():
        border = (0, int(extra[1]), 0, int(extra[0]))
        part = np.asarray(cv2.copyMakeBorder(part, *border, cv2.BORDER_REPLICATE), np.uint8)
    size = (part.shape[1] // factor, part.shape[0] // factor)
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # Block i covers source pixels factor i .. factor i + factor - 1, its centre in the middle.
    shifted = matrix.copy()
    shifted[:, 2] -= low + (factor - 1) / 2
    return np.asarray(small, np.uint8), shifted / factor
