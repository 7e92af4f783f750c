"""Pastes animated crops back into the whole picture, at the picture's own resolution."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

__all__ = ["PasteBack"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_FEATHER = 28.0
"""Crop px over which the crop fades into the picture."""


class PasteBack:
    """The full framing: shoulders and background of the picture, the crop's face.

    Args:
        picture: uint8 [H, W, 3].
        crop_from_image: [2, 3], picture pixel centres to crop pixel centres.
        size: side of the crop, px.

    >>> paste = PasteBack(portrait.picture.rgb, portrait.crop_from_image)
    >>> full = paste(frame)  # uint8 [H, W, 3], H and W made even
    """

    def __init__(self, picture: Bytes, crop_from_image: NDArray[np.float64], size: int = 512) -> None:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ConfigError(f"the picture must be uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        self.picture: Bytes = np.ascontiguousarray(picture[:height, :width])
        image_from_crop = cv2.invertAffineTransform(np.asarray(crop_from_image, np.float64))
        corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
        placed = np.asarray(corners @ image_from_crop[:, :2].T + image_from_crop[:, 2], np.float64)
        low = np.clip(np.floor(placed.min(0)).astype(int), 0, [width, height])
        high = np.clip(np.ceil(placed.max(0)).astype(int) + 1, 0, [width, height])
        self._box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        self._place = image_from_crop.copy()
        self._place[:, 2] -= low
        self._size = (int(high[0] - low[0]), int(high[1] - low[1]))
        self._mask = self._feather(size, placed, (width, height))

    def _feather(self, size: int, placed: NDArray[np.float64], limits: tuple[int, int]) -> Float:
        """Opacity of the crop inside its box [h, w, 1]: fading towards borders the picture continues."""
        inset = np.minimum(np.arange(size), np.arange(size)[::-1]) / _FEATHER
        ramp = np.clip(inset, 0.0, 1.0)
        ramp = ramp * ramp * (3.0 - 2.0 * ramp)
        half = np.arange(size) < size // 2
        # Where the crop ends with the picture there is nothing to blend with.
        near_start, near_end = placed.min(0) < 1.0, placed.max(0) > np.array(limits) - 2.0
        x = np.where(half, np.where(near_start[0], 1.0, ramp), np.where(near_end[0], 1.0, ramp))
        y = np.where(half, np.where(near_start[1], 1.0, ramp), np.where(near_end[1], 1.0, ramp))
        mask = (y[:, None] * x[None]).astype(np.float32)
        return self._warp(mask, cv2.BORDER_REPLICATE)[..., None]

    def _warp(self, image: Float, border: int) -> Float:
        warped = cv2.warpAffine(image, self._place, self._size, flags=cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(warped, np.float32)

    def __call__(self, frame: Bytes) -> Bytes:
        """``frame`` uint8 [512, 512, 3] inside the picture: uint8 [H, W, 3], a new array."""
        out = self.picture.copy()
        still = out[self._box].astype(np.float32)
        moving = self._warp(frame.astype(np.float32), cv2.BORDER_REPLICATE)
        out[self._box] = np.clip(still + self._mask * (moving - still) + 0.5, 0, 255).astype(np.uint8)
        return out
