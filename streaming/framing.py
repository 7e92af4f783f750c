"""What of the photo is sent: the animated crop alone, or the whole picture around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

__all__ = ["FRAMINGS", "Compose", "Framing", "full_frame"]

Framing = Literal["crop", "full"]
FRAMINGS: tuple[Framing, ...] = ("crop", "full")

Compose = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""An animated crop, uint8 [512, 512, 3], to the picture that is sent, uint8 [H, W, 3], H and W even."""


def full_frame(portrait: Any, longest: int | None = 1280) -> Compose:
    """Paste animated crops of ``portrait`` back into its picture.

    Args:
        portrait: an analysed :class:`engine.face.portrait.Portrait`.
        longest: larger pictures are scaled down to this side, for live encoding; None keeps them.

    Raises:
        ConfigError: the picture is too small to send.
    """
    import cv2

    from engine.animators.mesh.paste import PasteBack

    picture, place = portrait.picture.rgb, np.asarray(portrait.crop_from_image, np.float64)
    height, width = picture.shape[:2]
    if min(height, width) < 16:
        raise ConfigError(f"the picture is only {width}x{height} pixels; send the crop instead")
    if longest is not None and max(height, width) > longest:
        scale = longest / max(height, width)
        size = (round(width * scale), round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        factors = np.array([width / size[0], height / size[1]])
        # Pixel centres: x_full = (x_small + 0.5) * factor - 0.5.
        linear = place[:, :2] * factors
        offset = place[:, 2] + place[:, :2] @ (0.5 * factors - 0.5)
        place = np.column_stack([linear, offset])
    return PasteBack(picture, place)
