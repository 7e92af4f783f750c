"""Fixed-point body in numba: one pass over 2×2 blocks, one thread, no temporaries."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["rgb_to_yuv"]

_SHIFT = 15


def rgb_to_yuv(
    rgb: NDArray[np.uint8], m: NDArray[np.float32], out: NDArray[np.uint8], interleaved: bool
) -> None:
    """Write I420, or NV12 where ``interleaved``, of ``rgb`` [H, W, 3] into ``out`` [H*3//2, W]."""
    fixed = np.rint(m * (1 << _SHIFT)).astype(np.int32)
    height, width = rgb.shape[:2]
    if interleaved:
        u, v = out[height:, 0::2], out[height:, 1::2]
    else:
        u, v = out[height:].reshape(2, height // 2, width // 2)
    _convert(rgb, fixed, out[:height], u, v)


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _convert(rgb, m, y_plane, u_plane, v_plane):  # type: ignore[no-untyped-def]
    half = 1 << (_SHIFT - 1)
    luma_bias = (16 << _SHIFT) + half
    # Chroma sums four pixels, so its fixed point carries two more bits.
    chroma_bias = (128 << (_SHIFT + 2)) + (1 << (_SHIFT + 1))
    for by in range(u_plane.shape[0]):
        for bx in range(u_plane.shape[1]):
            r = g = b = np.int32(0)
            for dy in range(2):
                for dx in range(2):
                    y, x = 2 * by + dy, 2 * bx + dx
                    pr, pg, pb = np.int32(rgb[y, x, 0]), np.int32(rgb[y, x, 1]), np.int32(rgb[y, x, 2])
                    luma = m[0, 0] * pr + m[0, 1] * pg + m[0, 2] * pb + luma_bias
                    y_plane[y, x] = luma >> _SHIFT
                    r += pr
                    g += pg
                    b += pb
            u_plane[by, bx] = (m[1, 0] * r + m[1, 1] * g + m[1, 2] * b + chroma_bias) >> (_SHIFT + 2)
            v_plane[by, bx] = (m[2, 0] * r + m[2, 1] * g + m[2, 2] * b + chroma_bias) >> (_SHIFT + 2)
