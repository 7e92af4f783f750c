"""Triton body: one program converts a run of 2 x 2 blocks, reading by strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["rgb_to_yuv"]

_BLOCK = 128
_jit: Any = triton.jit


@_jit
def _convert(  # type: ignore[no-untyped-def]
    rgb, rgb_b, rgb_y, rgb_x, rgb_c, out, height, width,
    yr, yg, yb, ur, ug, ub, vr, vg, vb,
    INTERLEAVED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    half = width // 2
    row = tl.program_id(1).to(tl.int64)
    rgb, out = rgb + row * rgb_b, out + row * (height // 2 * 3) * width
    block = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, line = block % half, block // half
    live = block < half * (height // 2)
    reds = tl.zeros([BLOCK], tl.float32)
    greens, blues = reds, reds
    for k in tl.static_range(4):
        y, x = 2 * line + k // 2, 2 * column + k % 2
        pixel = rgb + y * rgb_y + x * rgb_x
        red = tl.load(pixel, mask=live, other=0).to(tl.float32)
        green = tl.load(pixel + rgb_c, mask=live, other=0).to(tl.float32)
        blue = tl.load(pixel + 2 * rgb_c, mask=live, other=0).to(tl.float32)
        luma = yr * red + yg * green + yb * blue + 16.5
        tl.store(out + y * width + x, luma.to(tl.uint8), mask=live)
        reds, greens, blues = reds + red, greens + green, blues + blue
    u = (ur * reds + ug * greens + ub * blues) * 0.25 + 128.5
    v = (vr * reds + vg * greens + vb * blues) * 0.25 + 128.5
    chroma = out + height * width
    if INTERLEAVED:
        tl.store(chroma + line * width + 2 * column, u.to(tl.uint8), mask=live)
        tl.store(chroma + line * width + 2 * column + 1, v.to(tl.uint8), mask=live)
    else:
        tl.store(chroma + line * half + column, u.to(tl.uint8), mask=live)
        tl.store(chroma + (height // 2 + line) * half + column, v.to(tl.uint8), mask=live)


def rgb_to_yuv(rgb: Tensor, m: NDArray[np.float32], out: Tensor, interleaved: bool) -> None:
    """Write I420 or NV12 of ``rgb`` [B, H, W, 3] into contiguous ``out`` [B, H*3//2, W]."""
    batch, height, width = rgb.shape[:3]
    grid = (triton.cdiv(height * width // 4, _BLOCK), batch)
    _convert[grid](
        rgb, *rgb.stride(), out, height, width, *m.ravel().tolist(), INTERLEAVED=interleaved, BLOCK=_BLOCK
    )
