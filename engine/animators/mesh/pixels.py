"""Per-pixel work of one frame: the face mesh in the sampling map, and in supersampled windows.

Numba, one thread, no GIL. ``attributes`` of a covered sample are (du, dv, a[, r, g, b, m]): where
its colour lies in the crop relative to itself (px), how far the mesh is trusted over the grid, and
a paint (closed-lid colour 0..255 with opacity m).
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "average_window",
    "blend_map",
    "bounds",
    "fill_window",
    "keep_inside",
    "paint_face",
    "soften_edges",
]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Neighbouring samples of smooth skin take their colour from neighbouring places; more than this
# many px of disagreement inside one pixel is an edge (lip on lip, lid on lid).
_EDGE_PX = 1.5


@nb.njit(cache=True, nogil=True)
def bounds(points: Float) -> tuple[float, float, float, float]:
    """Smallest x and y, largest x and y of ``points`` [N, >=2]."""
    x0, y0 = np.float32(np.inf), np.float32(np.inf)
    x1, y1 = np.float32(-np.inf), np.float32(-np.inf)
    for i in range(points.shape[0]):
        x0, x1 = min(x0, points[i, 0]), max(x1, points[i, 0])
        y0, y1 = min(y0, points[i, 1]), max(y1, points[i, 1])
    return float(x0), float(y0), float(x1), float(y1)


@nb.njit(cache=True, nogil=True)
def blend_map(positions: Float, attributes: Float, depth: Float, x0: int, y0: int) -> None:
    """Mix the face mesh's sampling positions into the grid's, in place.

    ``positions`` [H, W, 2] absolute crop px; ``attributes`` [h, w, >=3] and ``depth`` [h, w] of the
    window at (x0, y0); samples without a triangle (infinite depth) stay.
    """
    for r in range(depth.shape[0]):
        y = r + y0
        for c in range(depth.shape[1]):
            if depth[r, c] < 1e30:
                x = c + x0
                a = attributes[r, c, 2]
                px, py = positions[y, x, 0], positions[y, x, 1]
                positions[y, x, 0] = px + a * (np.float32(x) + attributes[r, c, 0] - px)
                positions[y, x, 1] = py + a * (np.float32(y) + attributes[r, c, 1] - py)


@nb.njit(cache=True, nogil=True)
def keep_inside(positions: Float, rim: float, band: int, first: int, stop: int) -> None:
    """Positions [H, W, 2] outside the picture fold back by up to ``rim`` px, in place, in rows
    ``first``..``stop``.

    What enters from outside continues the picture's border without repeating its very last row,
    which in many photos is a frame or a compression artefact. Only pixels within ``band`` of the
    border are looked at.
    """
    rows, columns = positions.shape[0], positions.shape[1]
    inner = np.float32(rim)
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    for y in range(first, stop):
        middle = band <= y < rows - band
        for x in range(columns):
            if middle and x == band:
                break
            _fold(positions, y, x, inner, right, bottom)
        if middle:
            for x in range(columns - band, columns):
                _fold(positions, y, x, inner, right, bottom)


@nb.njit(cache=True, nogil=True)
def _fold(positions: Float, y: int, x: int, inner: Any, right: Any, bottom: Any) -> None:
    """Fold one position back into the picture."""
    u, v = positions[y, x, 0], positions[y, x, 1]
    u = max(u, min(-u, inner))
    v = max(v, min(-v, inner))
    positions[y, x, 0] = min(u, max(right + right - u, right - inner))
    positions[y, x, 1] = min(v, max(bottom + bottom - v, bottom - inner))


@nb.njit(cache=True, nogil=True)
def _torn(attributes: Float, depth: Float, r: int, c: int, i: int, j: int) -> bool:
    """Whether the mesh breaks off between two neighbouring samples of its window."""
    here, there = depth[r, c] < 1e30, depth[i, j] < 1e30
    if not here and not there:
        return False
    if here and there:
        du = abs(attributes[r, c, 0] - attributes[i, j, 0]) * attributes[r, c, 2]
        dv = abs(attributes[r, c, 1] - attributes[i, j, 1]) * attributes[r, c, 2]
        return bool(max(du, dv) > np.float32(2.5))
    return bool((attributes[r, c, 2] if here else attributes[i, j, 2]) > np.float32(0.6))


@nb.njit(cache=True, nogil=True)
def soften_edges(
    frame: Bytes, attributes: Float, depth: Float, x0: int, y0: int, first: int, stop: int
) -> None:
    """Smooth the staircase where one piece of the mesh hides another (nose before cheek), in place.

    ``frame`` [H, W, 3]; ``attributes``/``depth`` as in :func:`blend_map`, of which rows ``first``..``stop``
    are looked at. Both pixels beside a break are mixed with their neighbours: rows ``first`` - 1 to
    ``stop`` + 1 of the window are read, ``first`` to ``stop`` written.
    """
    rows, columns = depth.shape
    for r in range(max(first, 1), min(stop, rows - 2)):
        for c in range(1, columns - 2):
            if _torn(attributes, depth, r, c, r, c + 1):
                _soften(frame, r + y0, c + x0)
                _soften(frame, r + y0, c + x0 + 1)
            if _torn(attributes, depth, r, c, r + 1, c):
                _soften(frame, r + y0, c + x0)
                _soften(frame, r + y0 + 1, c + x0)


@nb.njit(cache=True, nogil=True)
def _soften(frame: Bytes, y: int, x: int) -> None:
    """One pixel takes 0.4 of its four neighbours' mean."""
    for k in range(3):
        around = (
            np.float32(frame[y, x - 1, k])
            + np.float32(frame[y, x + 1, k])
            + np.float32(frame[y - 1, x, k])
            + np.float32(frame[y + 1, x, k])
        )
        mixed = np.float32(0.6) * np.float32(frame[y, x, k]) + np.float32(0.1) * around
        frame[y, x, k] = np.uint8(mixed + np.float32(0.5))


@nb.njit(cache=True, nogil=True)
def fill_window(pixels: Float, frame: Bytes, x0: int, y0: int, sx: int, sy: int) -> None:
    """Every sample of a window gets the colour of its frame pixel."""
    for r in range(pixels.shape[0] // sy):
        for c in range(pixels.shape[1] // sx):
            for k in range(3):
                value = np.float32(frame[r + y0, c + x0, k])
                for j in range(sy):
                    for i in range(sx):
                        pixels[r * sy + j, c * sx + i, k] = value


@nb.njit(cache=True, nogil=True)
def _sample(crop: Bytes, u: Any, v: Any, k: int) -> Any:
    """Bilinear colour at crop px, clamped to the border."""
    columns, rows = crop.shape[1], crop.shape[0]
    u = min(max(u, np.float32(0.0)), np.float32(columns - 1.001))
    v = min(max(v, np.float32(0.0)), np.float32(rows - 1.001))
    i, j = int(v), int(u)
    fv, fu = v - np.float32(i), u - np.float32(j)
    top = np.float32(crop[i, j, k]) * (np.float32(1.0) - fu) + np.float32(crop[i, j + 1, k]) * fu
    low = np.float32(crop[i + 1, j, k]) * (np.float32(1.0) - fu) + np.float32(crop[i + 1, j + 1, k]) * fu
    return top * (np.float32(1.0) - fv) + low * fv


@nb.njit(cache=True, nogil=True)
def _is_smooth(attributes: Float, depth: Float, r: int, c: int, sx: int, sy: int) -> bool:
    """All samples of a pixel covered, and by one piece of skin."""
    lu, hu = np.float32(1e9), np.float32(-1e9)
    lv, hv = np.float32(1e9), np.float32(-1e9)
    for j in range(r * sy, r * sy + sy):
        for i in range(c * sx, c * sx + sx):
            if not depth[j, i] < 1e30:
                return False
            u, v = attributes[j, i, 0], attributes[j, i, 1]
            lu, hu = min(lu, u), max(hu, u)
            lv, hv = min(lv, v), max(hv, v)
    return bool(max(hu - lu, hv - lv) < _EDGE_PX)


@nb.njit(cache=True, nogil=True)
def paint_face(
    pixels: Float,
    attributes: Float,
    depth: Float,
    positions: Float,
    crop: Bytes,
    frame: Bytes,
    window: tuple[int, int, int, int],
) -> None:
    """Lay the face mesh over a window that layers have drawn into.

    ``pixels``/``attributes``/``depth`` [h * sy, w * sx, ...] of the ``window`` (x0, y0, sx, sy);
    ``positions`` [H, W, 2] the blended sampling map and ``frame`` [H, W, 3] the picture made with
    it: smooth skin keeps that picture's pixel, edges are sampled anew.
    """
    x0, y0, sx, sy = window
    painted = attributes.shape[2] > 3
    for r in range(pixels.shape[0] // sy):
        for c in range(pixels.shape[1] // sx):
            smooth = _is_smooth(attributes, depth, r, c, sx, sy)
            for j in range(sy):
                for i in range(sx):
                    y, x = r * sy + j, c * sx + i
                    if not depth[y, x] < 1e30:
                        continue
                    a = attributes[y, x, 2]
                    m = attributes[y, x, 6] if painted else np.float32(0.0)
                    ox = (np.float32(i) + np.float32(0.5)) / np.float32(sx) - np.float32(0.5)
                    oy = (np.float32(j) + np.float32(0.5)) / np.float32(sy) - np.float32(0.5)
                    gu = positions[r + y0, c + x0, 0] + ox
                    gv = positions[r + y0, c + x0, 1] + oy
                    u = gu + a * (np.float32(c + x0) + ox + attributes[y, x, 0] - gu)
                    v = gv + a * (np.float32(r + y0) + oy + attributes[y, x, 1] - gv)
                    for k in range(3):
                        if smooth:
                            value = np.float32(frame[r + y0, c + x0, k])
                        else:
                            value = np.float32(_sample(crop, u, v, k))
                        if painted:
                            value += m * (attributes[y, x, 3 + k] - value)
                        pixels[y, x, k] = value


@nb.njit(cache=True, nogil=True)
def average_window(pixels: Float, frame: Bytes, x0: int, y0: int, sx: int, sy: int) -> None:
    """Write a window back into the frame, samples of a pixel averaged and rounded."""
    share = np.float32(1.0 / (sx * sy))
    for r in range(pixels.shape[0] // sy):
        for c in range(pixels.shape[1] // sx):
            for k in range(3):
                total = np.float32(0.0)
                for j in range(sy):
                    for i in range(sx):
                        total += pixels[r * sy + j, c * sx + i, k]
                value = total * share + np.float32(0.5)
                frame[r + y0, c + x0, k] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)))
