from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError
from streaming.framing import LIVE_PIXELS, full_frame


@dataclass
class Shot:
    """The parts of a picture and a portrait that framing looks at."""

    rgb: NDArray[np.uint8]
    crop_from_image: NDArray[np.float64]

    @property
    def picture(self) -> Shot:
        return self


def shot(width: int, height: int, side: float) -> Shot:
    """A picture whose crop is the square of ``side`` px at (100, 50)."""
    scale = 512 / side
    offset = [scale * (0.5 - 100) - 0.5, scale * (0.5 - 50) - 0.5]
    place = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    return Shot(np.full((height, width, 3), 90, np.uint8), place)


@pytest.mark.parametrize(("width", "height", "side"), [(801, 601, 256), (3000, 2001, 1024)])
def test_the_crop_lands_where_it_was_cut(width: int, height: int, side: float) -> None:
    out = full_frame(shot(width, height, side))(np.full((512, 512, 3), 220, np.uint8))
    assert out.shape[0] % 2 == out.shape[1] % 2 == 0
    assert out.shape[0] * out.shape[1] <= max(LIVE_PIXELS, width * height if width < 1000 else 0)
    scale = out.shape[1] / width
    inside = out[..., 0] > 155
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    # The seam is feathered: half opacity lies a few per cent inside the square.
    margin = 0.06 * side * scale
    assert abs(columns[0] - 100 * scale) < margin
    assert abs(columns[-1] - (100 + side) * scale) < margin
    assert abs(rows[0] - 50 * scale) < margin
    assert out[0, 0, 0] == 90


def test_all_pixels_are_kept_when_asked() -> None:
    out = full_frame(shot(3000, 2001, 1024), pixels=None)(np.zeros((512, 512, 3), np.uint8))
    assert out.shape == (2000, 3000, 3)


def test_a_picture_too_small_to_send_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop"):
        full_frame(shot(10, 10, 8))
