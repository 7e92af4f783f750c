"""Numba bodies of the rasteriser: one thread, no GIL, exact integer coverage."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_coloured", "draw_textured", "raster_attributes"]

Array = NDArray[np.float32]

_SUB = 256.0
# Vertices further than this many samples from the window would overflow nothing but waste time;
# they only occur for meshes behind the camera, whose triangles are dropped.
_FAR = 1.0e5


@nb.njit(cache=True, nogil=True, inline="always")
def _snap(v: float, origin: int, scale: int) -> int:
    """Frame coordinate -> 1/256 sample units, sample centres at multiples of 256."""
    return int(np.floor(((v - origin + 0.5) * scale - 0.5) * _SUB + 0.5))


@nb.njit(cache=True, nogil=True)
def _setup(
    xyz: Array,
    a: int,
    b: int,
    c: int,
    window: tuple[int, int, int, int, int, int],
    cull: bool,
    edge: NDArray[np.int64],
) -> bool:
    """Fill ``edge`` for one triangle; False if it covers nothing of the window.

    edge[0:4] = xmin, xmax, ymin, ymax (samples); edge[4] = 2 * area; then for the edge opposite
    to each vertex: value at (xmin, ymin), step per sample in x, step in y, top-left bias.
    """
    x0, y0, sx, sy, width, height = window
    for i in (a, b, c):
        if not (abs(xyz[i, 0]) < _FAR and abs(xyz[i, 1]) < _FAR):
            return False
    ax, ay = _snap(xyz[a, 0], x0, sx), _snap(xyz[a, 1], y0, sy)
    bx, by = _snap(xyz[b, 0], x0, sx), _snap(xyz[b, 1], y0, sy)
    cx, cy = _snap(xyz[c, 0], x0, sx), _snap(xyz[c, 1], y0, sy)
    xmin = max(0, -((-min(ax, bx, cx)) // 256))
    xmax = min(width - 1, max(ax, bx, cx) // 256)
    ymin = max(0, -((-min(ay, by, cy)) // 256))
    ymax = min(height - 1, max(ay, by, cy) // 256)
    if xmin > xmax or ymin > ymax:
        return False
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # y points down: counter-clockwise from outside has negative area on the screen.
    if area == 0 or (cull and area > 0):
        return False
    sign = 1 if area > 0 else -1
    edge[0], edge[1], edge[2], edge[3], edge[4] = xmin, xmax, ymin, ymax, area * sign
    px, py = xmin * 256, ymin * 256
    for k in range(3):
        if k == 0:
            ux, uy, vx, vy = bx, by, cx, cy
        elif k == 1:
            ux, uy, vx, vy = cx, cy, ax, ay
        else:
            ux, uy, vx, vy = ax, ay, bx, by
        dx, dy = (vx - ux) * sign, (vy - uy) * sign
        base = 5 + 4 * k
        edge[base] = dx * (py - uy) - dy * (px - ux)
        edge[base + 1] = -dy * 256
        edge[base + 2] = dx * 256
        # Interior is where the value is positive; a left edge runs up (dy < 0), a top edge
        # runs right (dy == 0, dx > 0). Others exclude the value 0.
        edge[base + 3] = 0 if (dy < 0 or (dy == 0 and dx > 0)) else -1
    return True


@nb.njit(cache=True, nogil=True)
def raster_attributes(
    out: Array,
    depth: Array,
    x0: int,
    y0: int,
    sx: int,
    sy: int,
    xyz: Array,
    triangles: NDArray[np.int32],
    attributes: Array,
    cull: bool,
) -> None:
    """See :func:`kernels.raster.raster_attributes`."""
    height, width, count = out.shape
    window = (x0, y0, sx, sy, width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(xyz, a, b, c, window, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(edge[0], edge[1] + 1):
                if e0 + edge[8] >= 0 and e1 + edge[12] >= 0 and e2 + edge[16] >= 0:
                    w0 = np.float32(e0) * inv
                    w1 = np.float32(e1) * inv
                    w2 = np.float32(1.0) - w0 - w1
                    z = w0 * za + w1 * zb + w2 * zc
                    if z < depth[y, x]:
                        depth[y, x] = z
                        for k in range(count):
                            out[y, x, k] = (
                                w0 * attributes[a, k] + w1 * attributes[b, k] + w2 * attributes[c, k]
                            )
                e0 += edge[6]
                e1 += edge[10]
                e2 += edge[14]
            r0 += edge[7]
            r1 += edge[11]
            r2 += edge[15]


@nb.njit(cache=True, nogil=True)
def draw_coloured(
    pixels: Array,
    depth: Array,
    x0: int,
    y0: int,
    sx: int,
    sy: int,
    xyz: Array,
    triangles: NDArray[np.int32],
    rgba: Array,
    test: bool,
    write: bool,
    cull: bool,
) -> None:
    """See :func:`kernels.raster.draw_coloured`."""
    height, width = depth.shape
    window = (x0, y0, sx, sy, width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(xyz, a, b, c, window, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(edge[0], edge[1] + 1):
                if e0 + edge[8] >= 0 and e1 + edge[12] >= 0 and e2 + edge[16] >= 0:
                    w0 = np.float32(e0) * inv
                    w1 = np.float32(e1) * inv
                    w2 = np.float32(1.0) - w0 - w1
                    z = w0 * za + w1 * zb + w2 * zc
                    if not test or z < depth[y, x]:
                        alpha = w0 * rgba[a, 3] + w1 * rgba[b, 3] + w2 * rgba[c, 3]
                        for k in range(3):
                            v = w0 * rgba[a, k] + w1 * rgba[b, k] + w2 * rgba[c, k]
                            pixels[y, x, k] += alpha * (v - pixels[y, x, k])
                        if write and alpha >= 0.5:
                            depth[y, x] = z
                e0 += edge[6]
                e1 += edge[10]
                e2 += edge[14]
            r0 += edge[7]
            r1 += edge[11]
            r2 += edge[15]


@nb.njit(cache=True, nogil=True)
def draw_textured(
    pixels: Array,
    depth: Array,
    x0: int,
    y0: int,
    sx: int,
    sy: int,
    xyz: Array,
    triangles: NDArray[np.int32],
    texture: NDArray[np.uint8],
    vertex: Array,
    test: bool,
    write: bool,
    cull: bool,
) -> None:
    """See :func:`kernels.raster.draw_textured`; ``vertex`` [N, 6] = u, v, alpha, shade rgb."""
    height, width = depth.shape
    rows, columns = texture.shape[0], texture.shape[1]
    window = (x0, y0, sx, sy, width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(xyz, a, b, c, window, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(edge[0], edge[1] + 1):
                if e0 + edge[8] >= 0 and e1 + edge[12] >= 0 and e2 + edge[16] >= 0:
                    w0 = np.float32(e0) * inv
                    w1 = np.float32(e1) * inv
                    w2 = np.float32(1.0) - w0 - w1
                    z = w0 * za + w1 * zb + w2 * zc
                    if not test or z < depth[y, x]:
                        u = w0 * vertex[a, 0] + w1 * vertex[b, 0] + w2 * vertex[c, 0]
                        v = w0 * vertex[a, 1] + w1 * vertex[b, 1] + w2 * vertex[c, 1]
                        u = min(max(u, np.float32(0.0)), np.float32(columns - 1))
                        v = min(max(v, np.float32(0.0)), np.float32(rows - 1))
                        iu, iv = int(u), int(v)
                        fu, fv = u - np.float32(iu), v - np.float32(iv)
                        ju, jv = min(iu + 1, columns - 1), min(iv + 1, rows - 1)
                        q00 = (np.float32(1.0) - fu) * (np.float32(1.0) - fv)
                        q01 = fu * (np.float32(1.0) - fv)
                        q10 = (np.float32(1.0) - fu) * fv
                        q11 = fu * fv
                        alpha = w0 * vertex[a, 2] + w1 * vertex[b, 2] + w2 * vertex[c, 2]
                        alpha *= (
                            q00 * texture[iv, iu, 3]
                            + q01 * texture[iv, ju, 3]
                            + q10 * texture[jv, iu, 3]
                            + q11 * texture[jv, ju, 3]
                        ) * np.float32(1.0 / 255.0)
                        for k in range(3):
                            value = (
                                q00 * texture[iv, iu, k]
                                + q01 * texture[iv, ju, k]
                                + q10 * texture[jv, iu, k]
                                + q11 * texture[jv, ju, k]
                            )
                            value *= w0 * vertex[a, 3 + k] + w1 * vertex[b, 3 + k] + w2 * vertex[c, 3 + k]
                            pixels[y, x, k] += alpha * (value - pixels[y, x, k])
                        if write and alpha >= 0.5:
                            depth[y, x] = z
                e0 += edge[6]
                e1 += edge[10]
                e2 += edge[14]
            r0 += edge[7]
            r1 += edge[11]
            r2 += edge[15]
