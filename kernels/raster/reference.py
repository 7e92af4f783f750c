"""Reference rasteriser in numpy: the definition the fast bodies are tested against.

One triangle at a time, every sample of the window tested with exact integer edge functions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_coloured", "draw_textured", "raster_attributes"]

Array = NDArray[np.float32]


def _covered(
    window: tuple[int, int, int, int, int, int], xyz: Array, triangles: NDArray[np.int32], cull: bool
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], Array]]:
    """For each triangle: its vertex ids, the rows and columns it covers and their weights [n, 3]."""
    x0, y0, sx, sy, width, height = window
    gy, gx = np.mgrid[0:height, 0:width].astype(np.int64) * 256
    for triangle in triangles:
        corner = xyz[triangle].astype(np.float64)
        px = np.floor(((corner[:, 0] - x0 + 0.5) * sx - 0.5) * 256.0 + 0.5)
        py = np.floor(((corner[:, 1] - y0 + 0.5) * sy - 0.5) * 256.0 + 0.5)
        if not (np.abs([px, py]) < 1.0e9).all():
            continue  # behind the camera, or too far away to be exact
        px, py = px.astype(np.int64), py.astype(np.int64)
        area = int((px[1] - px[0]) * (py[2] - py[0]) - (py[1] - py[0]) * (px[2] - px[0]))
        if area == 0 or (cull and area > 0):
            continue
        sign = 1 if area > 0 else -1
        inside = np.ones((height, width), bool)
        values = []
        for u, v in ((1, 2), (2, 0), (0, 1)):
            dx, dy = sign * int(px[v] - px[u]), sign * int(py[v] - py[u])
            value = dx * (gy - py[u]) - dy * (gx - px[u])
            top_left = dy < 0 or (dy == 0 and dx > 0)
            inside &= value >= 0 if top_left else value > 0
            values.append(value)
        rows, columns = np.nonzero(inside)
        inverse = np.float32(1.0 / (area * sign))
        w0 = values[0][rows, columns].astype(np.float32) * inverse
        w1 = values[1][rows, columns].astype(np.float32) * inverse
        yield triangle, rows, columns, np.stack([w0, w1, 1 - w0 - w1], 1)


def _mix(weight: Array, values: Array) -> Array:
    """Weighted sum of three vertex values, added in the order of the fast bodies."""
    w = weight if values.ndim == 1 else weight[:, :, None]
    return np.asarray(w[:, 0] * values[0] + w[:, 1] * values[1] + w[:, 2] * values[2], np.float32)


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
    window = (x0, y0, sx, sy, out.shape[1], out.shape[0])
    for ids, rows, columns, weight in _covered(window, xyz, triangles, cull):
        z = _mix(weight, xyz[ids, 2])
        near = z < depth[rows, columns]
        rows, columns = rows[near], columns[near]
        depth[rows, columns] = z[near]
        out[rows, columns] = _mix(weight[near], attributes[ids])


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
    window = (x0, y0, sx, sy, depth.shape[1], depth.shape[0])
    for ids, rows, columns, weight in _covered(window, xyz, triangles, cull):
        value = _mix(weight, rgba[ids])
        _blend(
            pixels, depth, rows, columns, _mix(weight, xyz[ids, 2]), value[:, :3], value[:, 3], test, write
        )


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
    window = (x0, y0, sx, sy, depth.shape[1], depth.shape[0])
    for ids, rows, columns, weight in _covered(window, xyz, triangles, cull):
        value = _mix(weight, vertex[ids])
        texel = _bilinear(texture, value[:, 0], value[:, 1])
        alpha = value[:, 2] * texel[:, 3] / np.float32(255.0)
        colour = texel[:, :3] * value[:, 3:]
        _blend(pixels, depth, rows, columns, _mix(weight, xyz[ids, 2]), colour, alpha, test, write)


def _blend(
    pixels: Array,
    depth: Array,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    z: Array,
    colour: Array,
    alpha: Array,
    test: bool,
    write: bool,
) -> None:
    """Alpha-blend one triangle's samples; a triangle never covers a sample twice."""
    if test:
        near = z < depth[rows, columns]
        rows, columns, z, colour, alpha = rows[near], columns[near], z[near], colour[near], alpha[near]
    pixels[rows, columns] += alpha[:, None] * (colour - pixels[rows, columns])
    if write:
        solid = alpha >= 0.5
        depth[rows[solid], columns[solid]] = z[solid]


def _bilinear(texture: NDArray[np.uint8], u: Array, v: Array) -> Array:
    """Texture [h, w, 4] at pixel coordinates, edges clamped; float32 [n, 4]."""
    rows, columns = texture.shape[:2]
    u, v = np.clip(u, 0, columns - 1), np.clip(v, 0, rows - 1)
    iu, iv = u.astype(np.int64), v.astype(np.int64)
    fu, fv = (u - iu)[:, None], (v - iv)[:, None]
    ju, jv = np.minimum(iu + 1, columns - 1), np.minimum(iv + 1, rows - 1)
    top = texture[iv, iu] * (1 - fu) + texture[iv, ju] * fu
    bottom = texture[jv, iu] * (1 - fu) + texture[jv, ju] * fu
    return np.asarray(top * (1 - fv) + bottom * fv, np.float32)
