"""A code in the picture: frame index and audio mark as black and white cells at the bottom.

Cells are large and the values far apart, so that a lossy video codec cannot change a bit; a check
sum says so where it did. The layout, most significant bit first, row by row::

    sync 8 | frame index 20 | mark 1 + offset 10 | spare 1 | CRC-8 of the 32 bits between

The browser's twin of :func:`read_rgb` is in ``probe.js``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "ROWS",
    "Stamp",
    "cell_edges",
    "read_luma",
    "read_rgb",
    "strip_height",
    "write_i420",
    "write_rgb",
]

COLUMNS = 24
ROWS = 2
SYNC = 0b10110010
FRAME_BITS = 20
OFFSET_BITS = 10
_BLACK, _WHITE, _GREY = 30, 225, 128
_PAYLOAD_BITS = 32


@dataclass(frozen=True)
class Stamp:
    """What a picture says about itself.

    ``frame`` counts modulo 2**20 (11.6 hours at 25 frames/s); ``mark`` is the offset, in samples at
    16 kHz from the first sample the frame owns, of an audio mark heard in this frame, or None.
    """

    frame: int
    mark: int | None = None

    def __post_init__(self) -> None:
        if self.mark is not None and not 0 <= self.mark < 1 << OFFSET_BITS:
            raise ValueError(f"mark offset {self.mark} is not in 0..{(1 << OFFSET_BITS) - 1}")


def _crc8(value: int, bits: int) -> int:
    """CRC-8 with polynomial x^8 + x^2 + x + 1, bitwise."""
    crc = 0
    for i in reversed(range(bits)):
        top = (crc >> 7) ^ ((value >> i) & 1)
        crc = ((crc << 1) & 0xFF) ^ (0x07 if top else 0)
    return crc


def _encode(stamp: Stamp) -> int:
    mark = 0 if stamp.mark is None else (1 << OFFSET_BITS) | stamp.mark
    payload = ((stamp.frame % (1 << FRAME_BITS)) << (OFFSET_BITS + 2)) | (mark << 1)
    return (SYNC << (_PAYLOAD_BITS + 8)) | (payload << 8) | _crc8(payload, _PAYLOAD_BITS)


def _decode(word: int) -> Stamp | None:
    payload = (word >> 8) & ((1 << _PAYLOAD_BITS) - 1)
    if word >> (_PAYLOAD_BITS + 8) != SYNC or word & 0xFF != _crc8(payload, _PAYLOAD_BITS):
        return None
    mark = (payload >> 1) & ((1 << (OFFSET_BITS + 1)) - 1)
    has_mark = bool(mark >> OFFSET_BITS)
    return Stamp(payload >> (OFFSET_BITS + 2), mark & ((1 << OFFSET_BITS) - 1) if has_mark else None)


def strip_height(height: int) -> int:
    """Rows of the picture that the code covers: a sixteenth, even, at least 16."""
    return max(16, height // 16 // 2 * 2)


def cell_edges(width: int) -> NDArray[np.int64]:
    """Left edges of the cells in pixels and the right edge of the last, int64 [COLUMNS + 1]."""
    return np.arange(COLUMNS + 1) * width // COLUMNS


def _cells(width: int, height: int, stamp: Stamp) -> NDArray[np.uint8]:
    """Brightness of the strip, uint8 [strip_height, width]."""
    word = _encode(stamp)
    bits = np.array([(word >> i) & 1 for i in reversed(range(ROWS * COLUMNS))], np.uint8)
    cells = np.where(bits, _WHITE, _BLACK).astype(np.uint8).reshape(ROWS, COLUMNS)
    wide = np.repeat(cells, np.diff(cell_edges(width)), axis=1)
    return np.repeat(wide, strip_height(height) // ROWS, axis=0)


def write_i420(picture: NDArray[np.uint8], stamp: Stamp) -> None:
    """Draw ``stamp`` into an I420 picture, uint8 [H * 3 // 2, W], in place."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    strip = strip_height(height)
    picture[height - strip : height] = _cells(width, height, stamp)
    chroma = picture[height:].reshape(2, height // 2, width // 2)
    chroma[:, (height - strip) // 2 :] = _GREY


def write_rgb(picture: NDArray[np.uint8], stamp: Stamp) -> None:
    """Draw ``stamp`` into an RGB picture, uint8 [H, W, 3], in place."""
    height, width = picture.shape[:2]
    picture[height - strip_height(height) :] = _cells(width, height, stamp)[..., None]


def read_luma(luma: NDArray[np.uint8]) -> Stamp | None:
    """The stamp of a picture given as brightness [H, W], or None where there is no readable one."""
    height, width = luma.shape
    strip = strip_height(height)
    edges = cell_edges(width)
    word = 0
    for row in range(ROWS):
        top = height - strip + row * (strip // ROWS)
        middle = luma[top + strip // ROWS // 4 : top + strip // ROWS * 3 // 4]
        for left, right in itertools.pairwise(edges):
            inset = int(right - left) // 4
            word = (word << 1) | int(middle[:, left + inset : right - inset].mean() > _GREY)
    return _decode(word)


def read_rgb(rgb: NDArray[np.uint8]) -> Stamp | None:
    """The stamp of an RGB picture [H, W, 3], or None."""
    return read_luma(rgb.mean(axis=2).astype(np.uint8))
