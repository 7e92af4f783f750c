"""Numba bodies of the rasteriser: one thread, no GIL, exact integer coverage."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_coloured", "draw_textured", "raster_attributes"]

Array = NDArray[np.float32]

_SUB = 256.0
# Vertices further away than this (2 ** 22 samples) would not be exact; they only occur for meshes
# behind the camera, whose triangles are dropped.
_FAR = 1.0e9
_NOWHERE = -(2**31)


@nb.njit(cache=True, nogil=True)
def _snap(xyz: Array, x0: int, y0: int, sx: int, sy: int) -> NDArray[np.int32]:
    """Vertices [N, 2] in 1/256 sample units of a window; sample centres lie at multiples of 256.

    What is not finite or too far away to be exact is marked by the smallest integer.
    """
    out = np.empty((xyz.shape[0], 2), np.int32)
    for i in range(xyz.shape[0]):
        x = ((np.float64(xyz[i, 0]) - x0 + 0.5) * sx - 0.5) * _SUB + 0.5
        y = ((np.float64(xyz[i, 1]) - y0 + 0.5) * sy - 0.5) * _SUB + 0.5
        if abs(x) < _FAR and abs(y) < _FAR:
            out[i, 0] = np.int32(np.floor(x))
            out[i, 1] = np.int32(np.floor(y))
        else:
            out[i, 0] = _NOWHERE
            out[i, 1] = _NOWHERE
    return out


@nb.njit(cache=True, nogil=True)
def _setup(
    snapped: NDArray[np.int32],
    a: int,
    b: int,
    c: int,
    size: tuple[int, int],
    cull: bool,
    edge: NDArray[np.int64],
) -> bool:
    """Fill ``edge`` for one triangle; False if it covers nothing of the ``size`` (width, height).

    edge[0:4] = xmin, xmax, ymin, ymax (samples); edge[4] = 2 * area; then for the edge opposite
    to each vertex: value at (xmin, ymin) with the top-left bias added, step per sample in x, in y,
    and the bias.
    """
    ax, ay = int(snapped[a, 0]), int(snapped[a, 1])
    bx, by = int(snapped[b, 0]), int(snapped[b, 1])
    cx, cy = int(snapped[c, 0]), int(snapped[c, 1])
    if min(ax, bx, cx) == _NOWHERE:
        return False
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # y points down: counter-clockwise from outside has negative area on the screen.
    if area == 0 or (cull and area > 0):
        return False
    # Arithmetic shifts are floor divisions by 256.
    xmin = max(0, (min(ax, bx, cx) + 255) >> 8)
    xmax = min(size[0] - 1, max(ax, bx, cx) >> 8)
    ymin = max(0, (min(ay, by, cy) + 255) >> 8)
    ymax = min(size[1] - 1, max(ay, by, cy) >> 8)
    if xmin > xmax or ymin > ymax:
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
        # Interior is where the value is positive; a left edge runs up (dy < 0), a top edge runs
        # right (dy == 0, dx > 0). Others exclude the value 0.
        bias = 0 if (dy < 0 or (dy == 0 and dx > 0)) else -1
        base = 5 + 4 * k
        edge[base] = dx * (py - uy) - dy * (px - ux) + bias
        edge[base + 1] = -dy * 256
        edge[base + 2] = dx * 256
        edge[base + 3] = bias
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
    snapped = _snap(xyz, x0, y0, sx, sy)
    size = (width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(snapped, a, b, c, size, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        # Locals, because stores to the window might alias the array.
        dx0, dx1, dx2, dy0, dy1, dy2 = edge[6], edge[10], edge[14], edge[7], edge[11], edge[15]
        bias0, bias1, xmin, xmax = edge[8], edge[12], edge[0], edge[1]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(xmin, xmax + 1):
                if (e0 | e1 | e2) >= 0:
                    w0 = np.float32(e0 - bias0) * inv
                    w1 = np.float32(e1 - bias1) * inv
                    w2 = np.float32(1.0) - w0 - w1
                    z = w0 * za + w1 * zb + w2 * zc
                    if z < depth[y, x]:
                        depth[y, x] = z
                        for k in range(count):
                            out[y, x, k] = (
                                w0 * attributes[a, k] + w1 * attributes[b, k] + w2 * attributes[c, k]
                            )
                e0 += dx0
                e1 += dx1
                e2 += dx2
            r0 += dy0
            r1 += dy1
            r2 += dy2


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
    snapped = _snap(xyz, x0, y0, sx, sy)
    size = (width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(snapped, a, b, c, size, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        # Locals, because stores to the window might alias the array.
        dx0, dx1, dx2, dy0, dy1, dy2 = edge[6], edge[10], edge[14], edge[7], edge[11], edge[15]
        bias0, bias1, xmin, xmax = edge[8], edge[12], edge[0], edge[1]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(xmin, xmax + 1):
                if (e0 | e1 | e2) >= 0:
                    w0 = np.float32(e0 - bias0) * inv
                    w1 = np.float32(e1 - bias1) * inv
                    w2 = np.float32(1.0) - w0 - w1
                    z = w0 * za + w1 * zb + w2 * zc
                    if not test or z < depth[y, x]:
                        alpha = w0 * rgba[a, 3] + w1 * rgba[b, 3] + w2 * rgba[c, 3]
                        for k in range(3):
                            v = w0 * rgba[a, k] + w1 * rgba[b, k] + w2 * rgba[c, k]
                            pixels[y, x, k] += alpha * (v - pixels[y, x, k])
                        if write and alpha >= 0.5:
                            depth[y, x] = z
                e0 += dx0
                e1 += dx1
                e2 += dx2
            r0 += dy0
            r1 += dy1
            r2 += dy2


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
    snapped = _snap(xyz, x0, y0, sx, sy)
    size = (width, height)
    edge = np.empty(17, np.int64)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not _setup(snapped, a, b, c, size, cull, edge):
            continue
        inv = np.float32(1.0 / edge[4])
        za, zb, zc = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        r0, r1, r2 = edge[5], edge[9], edge[13]
        # Locals, because stores to the window might alias the array.
        dx0, dx1, dx2, dy0, dy1, dy2 = edge[6], edge[10], edge[14], edge[7], edge[11], edge[15]
        bias0, bias1, xmin, xmax = edge[8], edge[12], edge[0], edge[1]
        for y in range(edge[2], edge[3] + 1):
            e0, e1, e2 = r0, r1, r2
            for x in range(xmin, xmax + 1):
                if (e0 | e1 | e2) >= 0:
                    w0 = np.float32(e0 - bias0) * inv
                    w1 = np.float32(e1 - bias1) * inv
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
                e0 += dx0
                e1 += dx1
                e2 += dx2
            r0 += dy0
            r1 += dy1
            r2 += dy2
