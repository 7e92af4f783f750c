"""Triton body: a depth buffer of (depth, triangle) keys, then one lookup per cell.

1. Each lane walks the box of one triangle and lowers the key of every cell it covers by an atomic
   minimum. The key's upper half is the depth as an integer of the same order, its lower half the
   triangle's number: the nearest triangle stays, of equally near ones the first, in whatever order
   lanes run.
2. Each cell works out the weights of its triangle again and writes flow and mask.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.raster_flow.reference import to_cells

__all__ = ["raster_flow"]

_TRIANGLES, _CELLS = 64, 128
# The key of an infinite depth, and no triangle.
_NONE = 0x7F800000 << 32
_jit: Any = triton.jit


@_jit
def _snap(value):  # type: ignore[no-untyped-def]
    """Cells to 1/256 cell (int64), and whether that is exact."""
    fine = value.to(tl.float64) * 256.0 + 0.5
    sound = tl.abs(fine) < 1.0e9
    return tl.floor(tl.where(sound, fine, 0.0)).to(tl.int64), sound


@_jit
def _corner(xyz, vertex, live):  # type: ignore[no-untyped-def]
    x, sound_x = _snap(tl.load(xyz + 3 * vertex, mask=live, other=0.0))
    y, sound_y = _snap(tl.load(xyz + 3 * vertex + 1, mask=live, other=0.0))
    return x, y, tl.load(xyz + 3 * vertex + 2, mask=live, other=0.0), sound_x & sound_y


@_jit
def _edge(ux, uy, vx, vy, px, py, sign):  # type: ignore[no-untyped-def]
    """Twice the area between edge u-v and p, positive inside, and the top-left rule's bias."""
    dx, dy = (vx - ux) * sign, (vy - uy) * sign
    kept = (dy < 0) | ((dy == 0) & (dx > 0))
    return dx * (py - uy) - dy * (px - ux), tl.where(kept, 0, -1)


@_jit
def _draw(  # type: ignore[no-untyped-def]
    xyz, triangles, keys, count, vertices, height, width, CULL: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(1).to(tl.int64)
    xyz, keys = xyz + row * vertices * 3, keys + row * height * width
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = number < count
    a = tl.load(triangles + 3 * number, mask=live, other=0)
    b = tl.load(triangles + 3 * number + 1, mask=live, other=0)
    c = tl.load(triangles + 3 * number + 2, mask=live, other=0)
    ax, ay, az, a_sound = _corner(xyz, a, live)
    bx, by, bz, b_sound = _corner(xyz, b, live)
    cx, cy, cz, c_sound = _corner(xyz, c, live)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    live = live & a_sound & b_sound & c_sound & (area != 0)
    if CULL:
        live = live & (area < 0)
    sign = tl.where(area > 0, 1, -1)
    inverse = (1.0 / tl.where(live, area * sign, 1).to(tl.float64)).to(tl.float32)
    # Arithmetic shifts are floor divisions by 256.
    left = tl.maximum((tl.minimum(tl.minimum(ax, bx), cx) + 255) >> 8, 0)
    right = tl.minimum(tl.maximum(tl.maximum(ax, bx), cx) >> 8, width - 1)
    top = tl.maximum((tl.minimum(tl.minimum(ay, by), cy) + 255) >> 8, 0)
    bottom = tl.minimum(tl.maximum(tl.maximum(ay, by), cy) >> 8, height - 1)
    live = live & (left <= right) & (top <= bottom)
    cells = tl.where(live, (right - left + 1) * (bottom - top + 1), 0)
    longest = tl.max(cells, 0).to(tl.int32)
    x, y = left, top
    for k in range(0, longest):
        e0, bias0 = _edge(bx, by, cx, cy, x * 256, y * 256, sign)
        e1, bias1 = _edge(cx, cy, ax, ay, x * 256, y * 256, sign)
        e2, bias2 = _edge(ax, ay, bx, by, x * 256, y * 256, sign)
        inside = (e0 + bias0 >= 0) & (e1 + bias1 >= 0) & (e2 + bias2 >= 0)
        w0, w1 = e0.to(tl.float32) * inverse, e1.to(tl.float32) * inverse
        z = w0 * az + w1 * bz + (1.0 - w0 - w1) * cz
        bits = z.to(tl.int32, bitcast=True)
        ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
        hit = (k < cells) & inside & (z < float("inf"))
        tl.atomic_min(keys + y * width + x, (ordered << 32) | number.to(tl.int64), mask=hit, sem="relaxed")
        x += 1
        y = tl.where(x > right, y + 1, y)
        x = tl.where(x > right, left, x)


@_jit
def _resolve(  # type: ignore[no-untyped-def]
    xyz, triangles, source, source_b, source_n, source_c, keys,
    flow, flow_b, flow_y, flow_x, flow_c, mask, mask_b, mask_y, mask_x,
    vertices, height, width, step_y, step_x, NONE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    xyz, keys, source = xyz + row * vertices * 3, keys + row * height * width, source + row * source_b
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = cell < height * width
    key = tl.load(keys + cell, mask=live, other=NONE)
    covered = key < NONE
    number = tl.where(covered, key & 0x7FFFFFFF, 0)
    a = tl.load(triangles + 3 * number, mask=covered, other=0)
    b = tl.load(triangles + 3 * number + 1, mask=covered, other=0)
    c = tl.load(triangles + 3 * number + 2, mask=covered, other=0)
    ax, ay, _, _ = _corner(xyz, a, covered)
    bx, by, _, _ = _corner(xyz, b, covered)
    cx, cy, _, _ = _corner(xyz, c, covered)
    y, x = cell // width, cell % width
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    sign = tl.where(area > 0, 1, -1)
    inverse = (1.0 / tl.where(covered, area * sign, 1).to(tl.float64)).to(tl.float32)
    px, py = x.to(tl.int64) * 256, y.to(tl.int64) * 256
    e0, _ = _edge(bx, by, cx, cy, px, py, sign)
    e1, _ = _edge(cx, cy, ax, ay, px, py, sign)
    w0, w1 = e0.to(tl.float32) * inverse, e1.to(tl.float32) * inverse
    w2 = 1.0 - w0 - w1
    for axis in tl.static_range(2):
        part = source + axis * source_c
        place = w0 * tl.load(part + a * source_n, mask=covered, other=0.0)
        place += w1 * tl.load(part + b * source_n, mask=covered, other=0.0)
        place += w2 * tl.load(part + c * source_n, mask=covered, other=0.0)
        own = (x + 0.5) * step_x - 0.5 if axis == 0 else (y + 0.5) * step_y - 0.5
        target = flow + row * flow_b + y * flow_y + x * flow_x + axis * flow_c
        tl.store(target, tl.where(covered, place - own, 0.0), mask=live)
    tl.store(mask + row * mask_b + y * mask_y + x * mask_x, covered.to(tl.float32), mask=live)


def raster_flow(
    frame: tuple[int, int],
    cull: bool,
    xyz: Tensor,
    triangles: Tensor,
    source: Tensor,
    flow: Tensor,
    mask: Tensor,
) -> None:
    """See :func:`kernels.raster_flow.raster_flow`."""
    batch, height, width = mask.shape
    count, vertices = triangles.shape[0], xyz.shape[1]
    moved, corners = to_cells(xyz, frame, (height, width)), triangles.contiguous()
    keys = torch.full((batch, height, width), _NONE, dtype=torch.int64, device=xyz.device)
    _draw[(triton.cdiv(count, _TRIANGLES), batch)](
        moved, corners, keys, count, vertices, height, width, CULL=cull, BLOCK=_TRIANGLES, num_warps=2
    )
    _resolve[(triton.cdiv(height * width, _CELLS), batch)](
        moved, corners, source, *source.stride(), keys, flow, *flow.stride(), mask, *mask.stride(),
        vertices, height, width, frame[0] / height, frame[1] / width, NONE=_NONE, BLOCK=_CELLS,
    )  # fmt: skip
