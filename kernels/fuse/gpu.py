"""Triton bodies: one pass over the box, every coarse field spread in registers, one store per byte.

A program takes ``_BLOCK`` pixels (2 x 2 blocks, for I420) of a box of one picture, row after row. All
reads go by strides, so channels-first network outputs are read where they lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["fuse", "fuse_i420"]

Box = tuple[int, int, int, int]

_BLOCK = 128
_jit: Any = triton.jit


@_jit
def _cells(at, full, cells):  # type: ignore[no-untyped-def]
    """The two cells that pixel numbers ``at`` of ``full`` lie between, and the part of the second."""
    # Products with 1.0, not casts: an argument of 1 arrives as a constant, which has no cast.
    place = tl.maximum((at + 0.5) * ((cells * 1.0) / (full * 1.0)) - 0.5, 0.0)
    first = tl.minimum(place.to(tl.int32), cells - 1)
    part = tl.minimum(place - first, 1.0)
    return first, tl.minimum(first + 1, cells - 1), part


@_jit
def _four(data, i0, i1, j0, j1, fy, fx, row_stride, column_stride, live):  # type: ignore[no-untyped-def]
    """Bilinear mix of the four values at rows i0, i1 and columns j0, j1."""
    top, bottom = data + i0 * row_stride, data + i1 * row_stride
    a = tl.load(top + j0 * column_stride, mask=live, other=0).to(tl.float32)
    b = tl.load(top + j1 * column_stride, mask=live, other=0).to(tl.float32)
    c = tl.load(bottom + j0 * column_stride, mask=live, other=0).to(tl.float32)
    d = tl.load(bottom + j1 * column_stride, mask=live, other=0).to(tl.float32)
    above = a + fx * (b - a)
    return above + fy * (c + fx * (d - c) - above)


@_jit
def _weight(part, tap):  # type: ignore[no-untyped-def]
    """Weight of the bicubic tap ``tap`` of 0..3, ``part`` of the way from tap 1 to tap 2."""
    t = tl.abs(part + (1 - tap))
    near = (1.25 * t - 2.25) * t * t + 1.0
    return tl.where(t < 1.0, near, ((-0.75 * t + 3.75) * t - 6.0) * t + 3.0)


@_jit
def _sixteen(data, i, j, fy, fx, rows, columns, row_stride, column_stride, step, live):  # type: ignore[no-untyped-def]
    """Bicubic mixes of the 4 x 4 values around rows i, i + 1 and columns j, j + 1, the border repeated.

    Three of them: of channels ``step`` apart.
    """
    red = tl.zeros(fx.shape, tl.float32)
    green, blue = red, red
    # Unrolled, the sixteen taps of the four pixels of an I420 block would compile four times as long.
    for down in range(4):
        line = data + tl.minimum(tl.maximum(i + (down - 1), 0), rows - 1) * row_stride
        tall = _weight(fy, down)
        for right in tl.static_range(4):
            at = line + tl.minimum(tl.maximum(j + (right - 1), 0), columns - 1) * column_stride
            weight = tall * _weight(fx, right)
            red += weight * tl.load(at, mask=live, other=0).to(tl.float32)
            green += weight * tl.load(at + step, mask=live, other=0).to(tl.float32)
            blue += weight * tl.load(at + 2 * step, mask=live, other=0).to(tl.float32)
    return red, green, blue


@_jit
def _colours(  # type: ignore[no-untyped-def]
    y, x, live, height, width,
    base, base_y, base_x, base_c,
    image, image_y, image_x, image_c, rows, columns,
    flow, flow_y, flow_x, flow_c, flow_h, flow_w,
    mask, mask_y, mask_x, mask_h, mask_w,
    residual, residual_y, residual_x, residual_c, residual_h, residual_w,
    WARP: tl.constexpr, CUBIC: tl.constexpr, MASK: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Blended red, green, blue in 0..255 at pixels (x, y), clamped, not rounded."""
    if WARP:
        i0, i1, fy = _cells(y, height, flow_h)
        j0, j1, fx = _cells(x, width, flow_w)
        at_x = _four(flow, i0, i1, j0, j1, fy, fx, flow_y, flow_x, live)
        at_y = _four(flow + flow_c, i0, i1, j0, j1, fy, fx, flow_y, flow_x, live)
        # A maximum with a number drops what is not one, so no address lies outside.
        at_x = tl.minimum(tl.maximum(x + at_x, 0.0), (columns - 1) * 1.0)
        at_y = tl.minimum(tl.maximum(y + at_y, 0.0), (rows - 1) * 1.0)
        p0, q0 = at_y.to(tl.int32), at_x.to(tl.int32)
        py, px = at_y - p0, at_x - q0
        if CUBIC:
            r, g, b = _sixteen(image, p0, q0, py, px, rows, columns, image_y, image_x, image_c, live)
        else:
            p1, q1 = tl.minimum(p0 + 1, rows - 1), tl.minimum(q0 + 1, columns - 1)
            r = _four(image, p0, p1, q0, q1, py, px, image_y, image_x, live)
            g = _four(image + image_c, p0, p1, q0, q1, py, px, image_y, image_x, live)
            b = _four(image + 2 * image_c, p0, p1, q0, q1, py, px, image_y, image_x, live)
    m = tl.full(y.shape, 1.0, tl.float32)
    if MASK:
        i0, i1, fy = _cells(y, height, mask_h)
        j0, j1, fx = _cells(x, width, mask_w)
        m = _four(mask, i0, i1, j0, j1, fy, fx, mask_y, mask_x, live)
    if RESIDUAL:
        r0, r1, ry = _cells(y, height, residual_h)
        s0, s1, rx = _cells(x, width, residual_w)
    below = base + y * base_y + x * base_x
    red = tl.load(below, mask=live, other=0).to(tl.float32)
    green = tl.load(below + base_c, mask=live, other=0).to(tl.float32)
    blue = tl.load(below + 2 * base_c, mask=live, other=0).to(tl.float32)
    if WARP:
        red += m * (r - red)
        green += m * (g - green)
        blue += m * (b - blue)
        m = tl.full(y.shape, 1.0, tl.float32)
    if RESIDUAL:
        red += m * _four(residual, r0, r1, s0, s1, ry, rx, residual_y, residual_x, live)
        residual += residual_c
        green += m * _four(residual, r0, r1, s0, s1, ry, rx, residual_y, residual_x, live)
        residual += residual_c
        blue += m * _four(residual, r0, r1, s0, s1, ry, rx, residual_y, residual_x, live)
    red = tl.minimum(tl.maximum(red, 0.0), 255.0)
    green = tl.minimum(tl.maximum(green, 0.0), 255.0)
    return red, green, tl.minimum(tl.maximum(blue, 0.0), 255.0)


@_jit
def _fuse(  # type: ignore[no-untyped-def]
    out, out_b, out_y, out_x, out_c, x0, y0, across, down, height, width,
    base, base_b, base_y, base_x, base_c,
    image, image_b, image_y, image_x, image_c, rows, columns,
    flow, flow_b, flow_y, flow_x, flow_c, flow_h, flow_w,
    mask, mask_b, mask_y, mask_x, mask_h, mask_w,
    residual, residual_b, residual_y, residual_x, residual_c, residual_h, residual_w,
    WARP: tl.constexpr, CUBIC: tl.constexpr, MASK: tl.constexpr, RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Pictures of a batch may lie further apart than 32 bits reach.
    row = tl.program_id(1).to(tl.int64)
    base, image, flow = base + row * base_b, image + row * image_b, flow + row * flow_b
    mask, residual, out = mask + row * mask_b, residual + row * residual_b, out + row * out_b
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, y = x0 + k % across, y0 + k // across
    live = k < across * down
    red, green, blue = _colours(
        y, x, live, height, width, base, base_y, base_x, base_c,
        image, image_y, image_x, image_c, rows, columns,
        flow, flow_y, flow_x, flow_c, flow_h, flow_w,
        mask, mask_y, mask_x, mask_h, mask_w,
        residual, residual_y, residual_x, residual_c, residual_h, residual_w,
        WARP, CUBIC, MASK, RESIDUAL,
    )  # fmt: skip
    target = out + y * out_y + x * out_x
    tl.store(target, (red + 0.5).to(tl.uint8), mask=live)
    tl.store(target + out_c, (green + 0.5).to(tl.uint8), mask=live)
    tl.store(target + 2 * out_c, (blue + 0.5).to(tl.uint8), mask=live)


@_jit
def _fuse_i420(  # type: ignore[no-untyped-def]
    out, out_b, x0, y0, across, down, height, width,
    base, base_b, base_y, base_x, base_c,
    image, image_b, image_y, image_x, image_c, rows, columns,
    flow, flow_b, flow_y, flow_x, flow_c, flow_h, flow_w,
    mask, mask_b, mask_y, mask_x, mask_h, mask_w,
    residual, residual_b, residual_y, residual_x, residual_c, residual_h, residual_w,
    yr, yg, yb, ur, ug, ub, vr, vg, vb,
    WARP: tl.constexpr, CUBIC: tl.constexpr, MASK: tl.constexpr, RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Pictures of a batch may lie further apart than 32 bits reach.
    row = tl.program_id(1).to(tl.int64)
    base, image, flow = base + row * base_b, image + row * image_b, flow + row * flow_b
    mask, residual, out = mask + row * mask_b, residual + row * residual_b, out + row * out_b
    block = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, line = x0 + block % across, y0 + block // across
    live = block < across * down
    reds = tl.zeros([BLOCK], tl.float32)
    greens, blues = reds, reds
    for k in tl.static_range(4):
        y, x = 2 * line + k // 2, 2 * column + k % 2
        red, green, blue = _colours(
            y, x, live, height, width, base, base_y, base_x, base_c,
            image, image_y, image_x, image_c, rows, columns,
            flow, flow_y, flow_x, flow_c, flow_h, flow_w,
            mask, mask_y, mask_x, mask_h, mask_w,
            residual, residual_y, residual_x, residual_c, residual_h, residual_w,
            WARP, CUBIC, MASK, RESIDUAL,
        )  # fmt: skip
        luma = yr * red + yg * green + yb * blue + 16.5
        tl.store(out + y * width + x, luma.to(tl.uint8), mask=live)
        reds, greens, blues = reds + red, greens + green, blues + blue
    half = width // 2
    chroma = out + height * width + line * half + column
    u = (ur * reds + ug * greens + ub * blues) * 0.25 + 128.5
    v = (vr * reds + vg * greens + vb * blues) * 0.25 + 128.5
    tl.store(chroma, u.to(tl.uint8), mask=live)
    tl.store(chroma + (height // 2) * half, v.to(tl.uint8), mask=live)


def _arguments(
    cubic: bool,
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
) -> tuple[list[Any], dict[str, bool]]:
    """Pointers, strides and sizes in the order of the kernels, and which inputs there are."""
    warp = flow is not None and image is not None
    given: list[Any] = [base, *base.stride()]
    # What is absent is never read; the base stands in for its pointer.
    image, flow = (image, flow) if warp else (base, base[..., :2])
    assert image is not None
    assert flow is not None
    given += [image, *image.stride(), *image.shape[1:3], flow, *flow.stride(), *flow.shape[1:3]]
    cover = base[..., 0] if mask is None else mask
    extra = base if residual is None else residual
    given += [cover, *cover.stride(), *cover.shape[1:3], extra, *extra.stride(), *extra.shape[1:3]]
    present = {"MASK": mask is not None, "RESIDUAL": residual is not None}
    # One compiled kernel, not two, where nothing is sampled.
    return given, {"WARP": warp, "CUBIC": warp and cubic, **present}


def fuse(
    box: Box,
    cubic: bool,
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
) -> None:
    """See :func:`kernels.fuse.fuse`."""
    x0, y0, x1, y1 = box
    batch, height, width = out.shape[:3]
    given, present = _arguments(cubic, base, image, flow, mask, residual)
    grid = (triton.cdiv((x1 - x0) * (y1 - y0), _BLOCK), batch)
    place = (out, *out.stride(), x0, y0, x1 - x0, y1 - y0, height, width)
    _fuse[grid](*place, *given, **present, BLOCK=_BLOCK)


def fuse_i420(
    box: Box,
    cubic: bool,
    matrix: NDArray[np.float32],
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
) -> None:
    """See :func:`kernels.fuse.fuse_i420`; ``out`` is contiguous."""
    x0, y0, x1, y1 = (v // 2 for v in box)  # in 2 x 2 blocks
    batch, height, width = base.shape[:3]
    given, present = _arguments(cubic, base, image, flow, mask, residual)
    grid = (triton.cdiv((x1 - x0) * (y1 - y0), _BLOCK), batch)
    place = (out, out.stride(0), x0, y0, x1 - x0, y1 - y0, height, width)
    _fuse_i420[grid](*place, *given, *matrix.ravel().tolist(), **present, BLOCK=_BLOCK)
