"""Fixed-point bodies in numba, one thread: any strides block by block, contiguous RGB to I420 row by row."""

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
    if not interleaved and rgb.flags.c_contiguous:
        luma, chroma = out[:height].reshape(-1), out[height:].reshape(2, -1)
        _convert_rows(rgb.reshape(-1), fixed, luma, chroma[0], chroma[1], width)
        return
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


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _luma_row(row, m, line, sums, first):  # type: ignore[no-untyped-def]
    """Y' of one flat row; ``sums`` [3, W] becomes (``first``) or grows by its R, G and B."""
    bias, shift = np.int32((16 << _SHIFT) + (1 << (_SHIFT - 1))), np.int32(_SHIFT)
    mr, mg, mb = m[0, 0], m[0, 1], m[0, 2]
    red, green, blue = sums[0], sums[1], sums[2]
    keep = np.int32(0) if first else np.int32(1)
    for x in range(line.shape[0]):
        r, g, b = np.int32(row[3 * x]), np.int32(row[3 * x + 1]), np.int32(row[3 * x + 2])
        line[x] = np.uint8((mr * r + mg * g + mb * b + bias) >> shift)
        red[x] = keep * red[x] + r
        green[x] = keep * green[x] + g
        blue[x] = keep * blue[x] + b


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _convert_rows(rgb, m, luma, u, v, width):  # type: ignore[no-untyped-def]
    """Flat RGB to flat planes: loops that the compiler makes vector loops of."""
    bias, shift = np.int32((128 << (_SHIFT + 2)) + (1 << (_SHIFT + 1))), np.int32(_SHIFT + 2)
    ur, ug, ub = m[1, 0], m[1, 1], m[1, 2]
    vr, vg, vb = m[2, 0], m[2, 1], m[2, 2]
    sums, half = np.zeros((3, width), np.int32), width // 2
    for by in range(luma.shape[0] // (2 * width)):
        for k in range(2):
            y = 2 * by + k
            _luma_row(
                rgb[3 * y * width : 3 * (y + 1) * width], m, luma[y * width : (y + 1) * width], sums, k == 0
            )
        us, vs = u[by * half : (by + 1) * half], v[by * half : (by + 1) * half]
        for k in range(half):
            r = sums[0, 2 * k] + sums[0, 2 * k + 1]
            g = sums[1, 2 * k] + sums[1, 2 * k + 1]
            b = sums[2, 2 * k] + sums[2, 2 * k + 1]
            us[k] = np.uint8((ur * r + ug * g + ub * b + bias) >> shift)
            vs[k] = np.uint8((vr * r + vg * g + vb * b + bias) >> shift)
