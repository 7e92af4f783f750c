"""CPU body: the numba rasteriser with the source places as attributes, then one pass."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray

from kernels.raster import cpu as raster
from kernels.raster_flow.reference import to_cells

__all__ = ["raster_flow"]

Floats = NDArray[np.float32]
_jit: Any = nb.njit(cache=True, nogil=True)


@_jit
def _finish(place, depth, step_y, step_x, flow, mask):  # type: ignore[no-untyped-def]
    """Flow and mask [h, w] of the source places drawn where ``depth`` is finite."""
    half = np.float32(0.5)
    for i in range(depth.shape[0]):
        own_y = (np.float32(i) + half) * step_y - half
        for j in range(depth.shape[1]):
            covered = depth[i, j] < np.inf
            own_x = (np.float32(j) + half) * step_x - half
            flow[i, j, 0] = place[i, j, 0] - own_x if covered else np.float32(0.0)
            flow[i, j, 1] = place[i, j, 1] - own_y if covered else np.float32(0.0)
            mask[i, j] = np.float32(1.0) if covered else np.float32(0.0)


def raster_flow(
    frame: tuple[int, int],
    cull: bool,
    xyz: Floats,
    triangles: NDArray[np.int32],
    source: Floats,
    flow: Floats,
    mask: Floats,
) -> None:
    """See :func:`kernels.raster_flow.raster_flow`."""
    height, width = flow.shape[1:3]
    moved = to_cells(torch.from_numpy(np.ascontiguousarray(xyz)), frame, (height, width)).numpy()
    corners = np.ascontiguousarray(triangles)
    step_y, step_x = np.float32(frame[0] / height), np.float32(frame[1] / width)
    place = np.empty((height, width, 2), np.float32)
    depth = np.empty((height, width), np.float32)
    for row in range(xyz.shape[0]):
        depth.fill(np.inf)
        places = np.ascontiguousarray(source[row])
        raster.raster_attributes(place, depth, 0, 0, 1, 1, moved[row], corners, places, cull)
        _finish(place, depth, step_y, step_x, flow[row], mask[row])
