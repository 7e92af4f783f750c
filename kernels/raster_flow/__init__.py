"""A moved mesh drawn as a flow: where in the source picture each place of the new frame comes from.

Steps, for meshes that share their triangles:

1. ``xyz`` float32 [B, N, 3] holds where each vertex is now: frame x, frame y (pixels, centre of
   pixel (i, j) at (i, j)) and its camera distance (smaller is nearer); ``source`` [B, N, 2] where the
   same vertex is in the source picture, in its pixels.
2. The flow is drawn at [h, w] for a frame of H x W: cell (i, j) has its centre at
   ((j + 0.5) W / w − 0.5, (i + 0.5) H / h − 0.5), as :mod:`kernels.fuse` spreads it.
3. Coverage, depth and fill rule as in :mod:`kernels.raster`: exact integer edges, the nearest
   triangle wins, of equally near ones the first.
4. ``flow`` = interpolated source place − the cell's own place, ``mask`` = 1 where a triangle covers
   the cell's centre; both 0 elsewhere.

The GPU body takes one lane for each triangle, so it is made for meshes of many small ones.
"""

from __future__ import annotations

from typing import Any, Literal

from kernels import select_body
from kernels.arrays import Array, as_numpy, as_torch, device_name, expect
from kernels.raster_flow import cpu, reference

__all__ = ["raster_flow"]

Impl = Literal["auto", "ref", "cpu", "triton"]


def raster_flow(
    xyz: Array,
    triangles: Array,
    source: Array,
    flow: Array,
    mask: Array,
    *,
    frame: tuple[int, int],
    cull: bool = True,
    impl: Impl = "auto",
) -> tuple[Array, Array]:
    """Write ``flow`` and ``mask`` and return them.

    1. ``xyz`` float32 [B, N, 3], ``triangles`` int32 [F, 3] of vertex numbers 0..N-1 (not checked),
       ``source`` float32 [B, N, 2]; any strides, all on one device. Triangles with a vertex that is
       not finite are left out.
    2. ``flow`` float32 [B, h, w, 2] and ``mask`` float32 [B, h, w], any strides.
    3. ``frame`` (H, W) in pixels; ``cull`` drops triangles that face away.

    Raises:
        ValueError: a wrong dtype, shape or device.
        BodyUnavailable: the named body cannot run on these arrays or this machine.
    """
    expect("xyz", xyz, (None, None, 3), ("float32",))
    batch, vertices = xyz.shape[:2]
    expect("triangles", triangles, (None, 3), ("int32",))
    expect("source", source, (batch, vertices, 2), ("float32",))
    expect("flow", flow, (batch, None, None, 2), ("float32",))
    expect("mask", mask, (batch, *flow.shape[1:3]), ("float32",))
    arrays = (xyz, triangles, source, flow, mask)
    if len({device_name(x) for x in arrays}) > 1:
        raise ValueError(f"arrays on several devices: {[device_name(x) for x in arrays]}")
    if min(frame) < 1:
        raise ValueError(f"frame (H, W) must be positive, got {frame}")
    body: Any = select_body(impl, xyz)
    if body == "cpu":
        cpu.raster_flow(frame, cull, *map(as_numpy, arrays))
    elif body == "ref":
        reference.raster_flow(frame, cull, *map(as_torch, arrays))
    else:
        from kernels.raster_flow import gpu

        gpu.raster_flow(frame, cull, *map(as_torch, arrays))
    return flow, mask
