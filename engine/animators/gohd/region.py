"""The face region: the square of the frame that the network sees, at nearly the frame's own resolution.

The square follows the head (its centre rides on landmarks that speech does not move) and keeps one size
per identity, so the network meets every face at the same place and size, and spends nothing on hair and
background. Pixel centres have integer coordinates in frames and regions alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.residual import SILHOUETTE

__all__ = ["LOWER", "STEADY", "Region", "region_of", "region_side", "whole"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_SHARE = 1.5
"""Side of the square in face widths: forehead to a wide-open chin."""
STEADY = np.array([33, 263, 2, 2, 2, 2])
"""Outer eye corners and, four times, the place under the nose."""
LOWER = 0.05
"""The centre lies this share of the side below the mean of those."""


@dataclass(frozen=True)
class Region:
    """A square of the frame, ``side`` px; (``left``, ``top``) is its corner pixel when it is whole."""

    left: float
    top: float
    side: float

    def matrix(self, pixels: int) -> NDArray[np.float64]:
        """[2, 3] frame pixel centres to the centres of ``pixels`` x ``pixels`` region pixels."""
        s = pixels / self.side
        return np.array([[s, 0.0, (0.5 - self.left) * s - 0.5], [0.0, s, (0.5 - self.top) * s - 0.5]])

    def cut(self, picture: Bytes, pixels: int) -> Bytes:
        """The square of ``picture`` [H, W, 3] as uint8 [pixels, pixels, 3]; borders are repeated."""
        flags = cv2.INTER_LINEAR if self.side < 1.5 * pixels else cv2.INTER_AREA
        cut = cv2.warpAffine(
            picture, self.matrix(pixels), (pixels, pixels), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(cut, np.uint8)

    def grid(self, positions: Float, source: Region, pixels: int) -> Float:
        """Where the region's places lie in the source's region, float32 [pixels, pixels, 2] in -1..1.

        ``positions`` float32 [H, W, 2] are the source px that the frame's pixels show.
        """
        at = cv2.warpAffine(
            positions, self.matrix(pixels), (pixels, pixels), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        corner = np.array([source.left, source.top], np.float32) - np.float32(0.5)
        return np.asarray((at - corner) * np.float32(2.0 / source.side) - 1.0, np.float32)


def region_side(landmarks: Float) -> float:
    """Side of an identity's region, px, from the portrait's ``landmarks`` [>=468, 2]."""
    outline = landmarks[SILHOUETTE]
    wide, tall = np.ptp(outline, axis=0)
    return float(_SHARE * max(wide, tall / 1.25))


def region_of(landmarks: Float, side: float) -> Region:
    """The region around one frame's ``landmarks`` [>=468, 2]."""
    x, y = landmarks[STEADY].mean(0)
    return Region(float(x) - side / 2, float(y) + LOWER * side - side / 2, side)


def whole(region: Region) -> Region:
    """The region on whole pixels, its side rounded: what is cut from a frame can be laid back exactly."""
    return Region(float(round(region.left)), float(round(region.top)), float(round(region.side)))
