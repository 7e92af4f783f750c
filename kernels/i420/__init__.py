"""RGB to planar I420, the layout that video encoders take.

Steps, for uint8 RGB [H, W, 3] (H and W even):

1. Y' per pixel, U and V from the mean RGB of each 2×2 block (chroma sited at the block's centre).
2. Limited range (Y 16..235, U and V 16..240), matrix BT.601 or BT.709 (ITU-R BT.709-6, item 3).
3. Packed as uint8 [H*3//2, W]: H rows of Y, then the U plane's and the V plane's bytes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.i420 import cpu, reference
from kernels.i420.reference import coefficients

__all__ = ["Matrix", "coefficients", "i420_to_rgb", "rgb_to_i420"]

Matrix = Literal["bt601", "bt709"]
Bytes = NDArray[np.uint8]


def rgb_to_i420(
    rgb: Bytes,
    matrix: Matrix = "bt709",
    *,
    out: Bytes | None = None,
    impl: Literal["auto", "ref", "cpu"] = "auto",
) -> Bytes:
    """uint8 [H, W, 3] -> uint8 [H*3//2, W]; any strides in, C-contiguous out.

    Raises:
        ValueError: wrong dtype or shape, odd sizes, ``out`` of another shape.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    height, width = rgb.shape[:2]
    if height % 2 or width % 2 or not height or not width:
        raise ValueError(f"I420 needs even, positive sizes, got {height}x{width}; crop or pad by one pixel")
    if out is None:
        out = np.empty((height * 3 // 2, width), np.uint8)
    elif out.shape != (height * 3 // 2, width) or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous uint8 [{height * 3 // 2}, {width}]")
    body = reference.rgb_to_i420 if impl == "ref" else cpu.rgb_to_i420
    body(rgb, coefficients(matrix), out)
    return out


def i420_to_rgb(i420: Bytes, matrix: Matrix = "bt709") -> Bytes:
    """The inverse, chroma repeated: uint8 [H*3//2, W] -> uint8 [H, W, 3]. For tests and stills."""
    if i420.dtype != np.uint8 or i420.ndim != 2 or i420.shape[0] % 3:
        raise ValueError(f"i420 must be uint8 [H*3//2, W], got {i420.dtype} {list(i420.shape)}")
    return reference.i420_to_rgb(i420, matrix)
