"""Pastes animated crops back into the whole picture, at the picture's own resolution."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

__all__ = ["PasteBack"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_FEATHER = 28.0
"""Crop px over which the crop fades into the picture where the person crosses its border ..."""
_NARROW = 5.0
"""... and where only background does."""


class PasteBack:
    """The full framing: shoulders and background of the picture, the crop's face.

    Args:
        picture: uint8 [H, W, 3].
        crop_from_image: [2, 3], picture pixel centres to crop pixel centres.
        matte: float32 [S, S] the person in the crop, 0..1 (an identity's ``person[..., 3] / 255``); None
            fades widely at every border, as if the person crossed them all.

    >>> paste = PasteBack(portrait.picture.rgb, portrait.crop_from_image, identity.person[..., 3] / 255)
    >>> full = paste(frame)  # uint8 [H, W, 3], H and W made even
    """

    def __init__(
        self,
        picture: Bytes,
        crop_from_image: NDArray[np.float64],
        matte: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ConfigError(f"the picture must be uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        matte = np.ones((512, 512), np.float32) if matte is None else np.asarray(matte, np.float32)
        size = matte.shape[0]
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        self.picture: Bytes = np.ascontiguousarray(picture[:height, :width])
        image_from_crop = cv2.invertAffineTransform(np.asarray(crop_from_image, np.float64))
        corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
        placed = np.asarray(corners @ image_from_crop[:, :2].T + image_from_crop[:, 2], np.float64)
        low = np.clip(np.floor(placed.min(0)).astype(int), 0, [width, height])
        high = np.clip(np.ceil(placed.max(0)).astype(int) + 1, 0, [width, height])
        self._box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        self._still: Bytes = np.ascontiguousarray(self.picture[self._box])
        self._place = image_from_crop.copy()
        self._place[:, 2] -= low
        self._size = (int(high[0] - low[0]), int(high[1] - low[1]))
        ends = np.array([*(placed.min(0) < 1.0), *(placed.max(0) > np.array([width, height]) - 2.0)])
        mask = np.asarray(self._warp(_feather(matte, ends)), np.float32)
        self._weights: tuple[Float, Float] = (mask, np.asarray(1.0 - mask, np.float32))

    def _warp(self, image: NDArray[Any]) -> NDArray[Any]:
        """From crop px into the box."""
        border = cv2.BORDER_REPLICATE
        return cv2.warpAffine(image, self._place, self._size, flags=cv2.INTER_LINEAR, borderMode=border)

    def __call__(self, frame: Bytes) -> Bytes:
        """``frame`` uint8 [512, 512, 3] inside the picture: uint8 [H, W, 3], a new array."""
        out = self.picture.copy()
        out[self._box] = cv2.blendLinear(self._warp(frame), self._still, *self._weights)
        return out


def _feather(matte: Float, ends: NDArray[np.bool_]) -> Float:
    """Opacity of the crop [S, S]: fading towards the borders that the picture continues.

    ``ends`` bool [4]: the picture ends with the crop at the left, top, right, bottom. Where only
    background crosses a border, crop and picture agree there and a narrow fade will do; a wide one
    would let the still hair shine through the moving one.
    """
    size = matte.shape[0]
    inset = np.arange(size, dtype=np.float32)
    mask = np.ones((size, size), np.float32)
    strips = (matte[:, :3].max(1), matte[:3].max(0), matte[:, -3:].max(1), matte[-3:].max(0))
    for side, strip in enumerate(strips):
        if ends[side]:
            continue
        touch = np.clip(2.0 * cv2.GaussianBlur(strip[None], (0, 0), 12.0)[0], 0.0, 1.0)
        width = _NARROW + (_FEATHER - _NARROW) * touch
        ramp = np.clip(inset[:, None] / width[None], 0.0, 1.0)
        ramp = ramp * ramp * (3.0 - 2.0 * ramp)
        ramp = ramp if side < 2 else ramp[::-1]
        mask *= ramp.T if side % 2 == 0 else ramp
    return mask
