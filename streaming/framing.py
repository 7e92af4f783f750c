"""What of the photo is sent: the animated crop alone, or the whole picture around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

__all__ = ["FRAMINGS", "LIVE_PIXELS", "Compose", "Framing", "full_frame"]

Framing = Literal["crop", "full"]
FRAMINGS: tuple[Framing, ...] = ("crop", "full")

Compose = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""An animated crop, uint8 [512, 512, 3], to the picture that is sent, uint8 [H, W, 3], H and W even."""


LIVE_PIXELS = 1280 * 720
"""The most that H.264 level 3.1 allows, which browsers accept from WebRTC."""


def full_frame(
    portrait: Any, matte: NDArray[np.floating[Any]] | None = None, pixels: int | None = LIVE_PIXELS
) -> Compose:
    """Paste animated crops of ``portrait`` back into its picture.

    Args:
        portrait: an analysed :class:`engine.face.portrait.Portrait`.
        matte: float [512, 512] 0..1, the person in the crop: where the seam may be narrow.
        pixels: larger pictures are scaled down to this area; None keeps them as they are.

    Raises:
        ConfigError: the picture is too small to send.
    """
    import cv2

    from engine.animators.mesh.paste import PasteBack

    picture, place = portrait.picture.rgb, np.asarray(portrait.crop_from_image, np.float64)
    height, width = picture.shape[:2]
    if min(height, width) < 16:
        raise ConfigError(f"the picture is only {width}x{height} pixels; send the crop instead")
    if pixels is not None and height * width > pixels:
        scale = math.sqrt(pixels / (height * width))
        size = (math.floor(width * scale), math.floor(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        factors = np.array([width / size[0], height / size[1]])
        # Pixel centres: x_full = (x_small + 0.5) * factor - 0.5.
        linear = place[:, :2] * factors
        offset = place[:, 2] + place[:, :2] @ (0.5 * factors - 0.5)
        place = np.column_stack([linear, offset])
    return PasteBack(picture, place, matte)
