"""Light and visibility between the lids, per vertex. Numba, one thread, no GIL."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["lid_light", "pick_triangles"]

Float = NDArray[np.float32]

_SHADOW = 0.42  # strength of the upper lid's shadow at its edge
_DEPTH = 0.10  # its decay, in eye widths
_MARGIN = 0.16  # this far beyond the lids (eye widths) still counts as seen


@nb.njit(cache=True, nogil=True)
def _height(lid: Float, ox: float, oy: float, ex: float, ey: float, x: float) -> float:
    """Height of the lid [n, 2] at ``x`` along the eye's axis (origin o, unit vector e / width)."""
    px, py = 0.0, 0.0
    for k in range(lid.shape[0]):
        dx, dy = lid[k, 0] - ox, lid[k, 1] - oy
        qx, qy = dx * ex + dy * ey, -dx * ey + dy * ex
        if x <= qx or k == lid.shape[0] - 1:
            if k == 0 or qx - px < 1e-6 or x >= qx:
                return float(qy)
            return float(py + (qy - py) * (x - px) / (qx - px))
        px, py = qx, qy
    return py


@nb.njit(cache=True, nogil=True)
def lid_light(points: Float, upper: Float, lower: Float) -> tuple[Float, Float]:
    """Light under the upper lid, and whether a point can be seen between the lids.

    ``points`` [N, >= 2] px; ``upper`` and ``lower`` lid [n, 2] px, left corner to right corner. Returns

    1. light [N], 0..1: 1 - s exp(-d / D), d the distance below the upper lid along the eye's own axis;
    2. seen [N]: >= 0 where the point lies between the lids or close to them, else -1.
    """
    light, seen = np.empty(points.shape[0], np.float32), np.empty(points.shape[0], np.float32)
    ox, oy = upper[0, 0], upper[0, 1]
    last = upper.shape[0] - 1
    ax, ay = upper[last, 0] - ox, upper[last, 1] - oy
    inv = 1.0 / max(ax * ax + ay * ay, 1e-6)
    ex, ey = ax * inv, ay * inv
    for i in range(points.shape[0]):
        dx, dy = points[i, 0] - ox, points[i, 1] - oy
        x, y = dx * ex + dy * ey, -dx * ey + dy * ex
        below = y - _height(upper, ox, oy, ex, ey, x)
        light[i] = 1.0 - _SHADOW * math.exp(-max(below, 0.0) / _DEPTH)
        above = _height(lower, ox, oy, ex, ey, x) - y
        inside = min(min(below, above), min(x, 1.0 - x))
        seen[i] = 0.0 if inside > -_MARGIN else -1.0
    return light, seen


@nb.njit(cache=True, nogil=True)
def pick_triangles(triangles: NDArray[np.int32], seen: Float, out: NDArray[np.int32]) -> int:
    """Copy the triangles with a vertex that can be seen (``seen`` >= 0) to ``out``; how many."""
    count = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if seen[a] >= 0.0 or seen[b] >= 0.0 or seen[c] >= 0.0:
            out[count, 0], out[count, 1], out[count, 2] = a, b, c
            count += 1
    return count
