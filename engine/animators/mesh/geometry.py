"""Vertices of one frame: expression, head motion, pinhole projection. Numba, one thread, no GIL.

Spaces: *model* (cm, +x subject's left, +y up, +z to the camera); *camera* (same axes, origin at the
pinhole, so everything in front has z < 0); *crop* (pixels, plus camera distance as the third
column).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseUnits", "carry", "deform", "mesh_attributes", "pack_units", "project", "unit_normals"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]


@dataclass(frozen=True)
class SparseUnits:
    """Expression units as lists of the vertices they move.

    Unit k moves ``vertex[offset[k]:offset[k + 1]]`` by ``value`` float32 [n, 3] cm.
    """

    offset: Int
    vertex: Int
    value: Float


def pack_units(dense: Float, threshold: float) -> SparseUnits:
    """Sparse form of ``dense`` [K, N, 3], dropping moves shorter than ``threshold`` cm."""
    moves = np.einsum("knc,knc->kn", dense, dense) > threshold * threshold
    counts = moves.sum(1)
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    unit, vertex = np.nonzero(moves)
    return SparseUnits(offset, vertex.astype(np.int32), np.ascontiguousarray(dense[unit, vertex], np.float32))


@nb.njit(cache=True, nogil=True)
def deform(base: Float, coefficients: Float, offset: Int, vertex: Int, value: Float, out: Float) -> None:
    """out = base + sum_k coefficients[k] * unit_k; all [N, 3]."""
    for i in range(base.shape[0]):
        out[i, 0] = base[i, 0]
        out[i, 1] = base[i, 1]
        out[i, 2] = base[i, 2]
    for k in range(coefficients.shape[0]):
        c = coefficients[k]
        if abs(c) < 1e-5:
            continue
        for j in range(offset[k], offset[k + 1]):
            i = vertex[j]
            out[i, 0] += c * value[j, 0]
            out[i, 1] += c * value[j, 1]
            out[i, 2] += c * value[j, 2]


@nb.njit(cache=True, nogil=True)
def project(
    points: Float,
    weight: Float,
    camera: Float,
    head: Float,
    focal: float,
    cx: float,
    cy: float,
    out: Float,
) -> None:
    """Model points [N, 3] to crop px and camera distance [N, 3].

    ``camera`` [3, 4] model -> camera; ``head`` [3, 4] rigid motion in camera space, applied by
    ``weight`` [N] (1 skull .. 0 shoulders; a linear blend, good to a few mm for 20 degrees).
    """
    f = np.float32(focal)
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        x = camera[0, 0] * px + camera[0, 1] * py + camera[0, 2] * pz + camera[0, 3]
        y = camera[1, 0] * px + camera[1, 1] * py + camera[1, 2] * pz + camera[1, 3]
        z = camera[2, 0] * px + camera[2, 1] * py + camera[2, 2] * pz + camera[2, 3]
        w = weight[i]
        mx = head[0, 0] * x + head[0, 1] * y + head[0, 2] * z + head[0, 3]
        my = head[1, 0] * x + head[1, 1] * y + head[1, 2] * z + head[1, 3]
        mz = head[2, 0] * x + head[2, 1] * y + head[2, 2] * z + head[2, 3]
        x += w * (mx - x)
        y += w * (my - y)
        z += w * (mz - z)
        distance = -z
        out[i, 0] = np.float32(cx) + f * x / distance
        out[i, 1] = np.float32(cy) - f * y / distance
        out[i, 2] = distance


@nb.njit(cache=True, nogil=True)
def unit_normals(points: Float, triangles: Int, rotation: Float, out: Float) -> None:
    """Area-weighted outward unit normals [N, 3] of ``points``, turned by ``rotation`` [3, 3].

    Vertices without triangles get a zero normal.
    """
    out[:] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        nx, ny, nz = out[i, 0], out[i, 1], out[i, 2]
        scale = np.float32(1.0) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-12))
        out[i, 0] = scale * (rotation[0, 0] * nx + rotation[0, 1] * ny + rotation[0, 2] * nz)
        out[i, 1] = scale * (rotation[1, 0] * nx + rotation[1, 1] * ny + rotation[1, 2] * nz)
        out[i, 2] = scale * (rotation[2, 0] * nx + rotation[2, 1] * ny + rotation[2, 2] * nz)


@nb.njit(cache=True, nogil=True)
def carry(values: Float, triangle: Int, weight: Float, out: Float) -> None:
    """Interpolated vertex values: out[l] = sum_k weight[l, k] values[triangle[l, k]], [L, 2]."""
    for i in range(triangle.shape[0]):
        a, b, c = triangle[i, 0], triangle[i, 1], triangle[i, 2]
        for k in range(out.shape[1]):
            out[i, k] = (
                weight[i, 0] * values[a, k] + weight[i, 1] * values[b, k] + weight[i, 2] * values[c, k]
            )


@nb.njit(cache=True, nogil=True)
def mesh_attributes(
    projected: Float,
    ids: Int,
    source: Float,
    alpha: Float,
    paint: Float,
    shut: Float,
    xyz: Float,
    narrow: Float,
    wide: Float,
) -> None:
    """Gather the drawn vertices ``ids`` [M] of ``projected`` [V, 3] with what the rasteriser needs.

    ``source`` [M, 2], ``alpha`` [M]; ``paint`` [M, 5] lid colour and the opacities of the right and
    the left lid, which ``shut`` [2] scales. Writes ``xyz`` [M, 3], ``narrow`` [M, 3] (du, dv, alpha)
    and ``wide`` [M, 7] (the same, colour, opacity).
    """
    for m in range(ids.shape[0]):
        i = ids[m]
        x, y = projected[i, 0], projected[i, 1]
        xyz[m, 0] = x
        xyz[m, 1] = y
        xyz[m, 2] = projected[i, 2]
        narrow[m, 0] = source[m, 0] - x
        narrow[m, 1] = source[m, 1] - y
        narrow[m, 2] = alpha[m]
        for k in range(3):
            wide[m, k] = narrow[m, k]
            wide[m, 3 + k] = paint[m, k]
        wide[m, 6] = paint[m, 3] * shut[0] + paint[m, 4] * shut[1]
