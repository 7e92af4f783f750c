"""Which triangle every sample sees: vertices are placed, triangles drawn into depths and ids. Numba.

A vertex is a row of 16: place (3) and a spare; normal (3), u; soft normal or place at rest (3), v; paint (4).
On a screen it is a row of 4: column and row (samples), nearness (grows towards the viewer), and how far it is
from a hole's rim (negative inside), for meshes that have such holes. An id is kind << 24 | triangle; 0 is the
backdrop.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["CARD", "LASH", "RIM", "SOLID", "draw", "place", "screen_of", "shadow_of"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

SOLID, RIM, CARD, LASH = range(4)
"""Holes of a mesh: none; where the fourth screen column is negative; by a texture of strands; lashes."""


@nb.njit(cache=True, nogil=True, fastmath=True)
def place(table: Float, first: int, end: int, turned: bool, body: Float, head: Float, out: Float) -> None:
    """Rows ``first`` to ``end`` of ``table`` [V, 16] from head to camera space, into ``out`` [V, 16].

    The fourth number of a row is its share in the head's motion. ``turned``: the soft normals turn too.
    """
    m, move = np.empty((3, 4), np.float32), head[:3] - body[:3]
    last = np.float32(-1.0)
    for i in range(first, end):
        w = table[i, 3]
        if w != last:
            last = w
            for r in range(3):
                for c in range(4):
                    m[r, c] = body[r, c] + w * move[r, c]
        x, y, z = table[i, 0], table[i, 1], table[i, 2]
        u, v, n = table[i, 4], table[i, 5], table[i, 6]
        for r in range(3):
            out[i, r] = m[r, 0] * x + m[r, 1] * y + m[r, 2] * z + m[r, 3]
            out[i, 4 + r] = m[r, 0] * u + m[r, 1] * v + m[r, 2] * n
        if turned:
            x, y, z = table[i, 8], table[i, 9], table[i, 10]
            for r in range(3):
                out[i, 8 + r] = m[r, 0] * x + m[r, 1] * y + m[r, 2] * z


@nb.njit(cache=True, nogil=True, fastmath=True)
def screen_of(stood: Float, first: int, end: int, lens: Float, per_px: float, out: Float) -> None:
    """Screen rows of placed vertices; ``lens`` [3] focal length and centre (px), ``per_px`` samples a px."""
    for i in range(first, end):
        near = np.float32(-1.0) / stood[i, 2]
        out[i, 0] = (lens[1] + lens[0] * stood[i, 0] * near + 0.5) * per_px - 0.5
        out[i, 1] = (lens[2] - lens[0] * stood[i, 1] * near + 0.5) * per_px - 0.5
        out[i, 2] = near


@nb.njit(cache=True, nogil=True, fastmath=True)
def shadow_of(stood: Float, first: int, end: int, sun: Float, side: int, out: Float) -> None:
    """Screen rows of placed vertices as the light sees them; ``sun`` [4, 4] to its clip space."""
    half = np.float32(0.5 * side)
    for i in range(first, end):
        x, y, z = stood[i, 0], stood[i, 1], stood[i, 2]
        out[i, 0] = (sun[0, 0] * x + sun[0, 1] * y + sun[0, 2] * z + sun[0, 3] + 1.0) * half - 0.5
        out[i, 1] = (sun[1, 0] * x + sun[1, 1] * y + sun[1, 2] * z + sun[1, 3] + 1.0) * half - 0.5
        out[i, 2] = 0.5 - 0.5 * (sun[2, 0] * x + sun[2, 1] * y + sun[2, 2] * z + sun[2, 3])


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _cover(cover: Float, u: float, v: float) -> float:
    """``cover`` [H, W] at (u, v), bilinear; u repeats."""
    high, wide = cover.shape
    x, y = u * wide - 0.5, min(max(v * high - 0.5, 0.0), high - 1.001)
    x -= np.floor(x / wide) * wide
    c, r = int(x), int(y)
    fx, fy = x - c, y - r
    c %= wide
    d = c + 1 if c + 1 < wide else 0
    top = cover[r, c] + fx * (cover[r, d] - cover[r, c])
    low = cover[r + 1, c] + fx * (cover[r + 1, d] - cover[r + 1, c])
    value: float = top + fy * (low - top)
    return value


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _air(holes: int, row: Float, cover: Float, cut: float) -> bool:
    """Whether a sample with these values (rim, u, v, along) is a hole."""
    if holes == 1:
        return bool(row[0] < 0.0)
    if holes == 2:
        return bool(_cover(cover, row[1], row[2]) < cut + 0.35 * max(4.0 * row[3] - 3.0, 0.0))
    a = row[1] * 26.0 + 0.3 * row[2]
    a -= np.floor(a)
    wide = 0.9 - 0.55 * row[2]
    return bool((row[2] > 0.16 and abs(a - 0.5) > 0.5 * wide) or row[2] > row[3])


@nb.njit(cache=True, nogil=True, fastmath=True)
def draw(
    ids: Int, near: Float, screen: Float, table: Float, triangles: Int, first_id: int, cull: int,
    holes: int, cover: Float, cut: float,
) -> None:  # fmt: skip
    """Draw triangles [F, 3] where they are nearer than ``near`` [H, W]; their ids count from ``first_id``.

    ``cull`` 1 drops triangles that run clockwise seen with rows downwards, -1 the others, 0 none.
    """
    high, wide = near.shape
    row, slope, base = np.empty(4, np.float32), np.empty(3), np.empty(3)
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay = float(screen[a, 0]), float(screen[a, 1])
        bx, by = float(screen[b, 0]) - ax, float(screen[b, 1]) - ay
        cx, cy = float(screen[c, 0]) - ax, float(screen[c, 1]) - ay
        area = bx * cy - by * cx
        if area == 0.0 or cull * area > 0.0:
            continue
        y0 = max(int(np.ceil(ay + min(0.0, by, cy))), 0)
        y1 = min(int(np.floor(ay + max(0.0, by, cy))), high - 1)
        left = max(np.ceil(ax + min(0.0, bx, cx)), 0.0)
        right = min(np.floor(ax + max(0.0, bx, cx)), wide - 1.0)
        if y0 > y1 or left > right:
            continue
        z0 = screen[a, 2]
        z1, z2 = screen[b, 2] - z0, screen[c, 2] - z0
        slope[1], slope[2] = cy / area, -by / area
        slope[0] = -slope[1] - slope[2]
        for y in range(y0, y1 + 1):
            base[1] = -(y - ay) * cx / area - slope[1] * ax
            base[2] = (y - ay) * bx / area - slope[2] * ax
            base[0] = 1.0 - base[1] - base[2]
            low, top = left, right
            for k in range(3):
                if slope[k] > 1e-9:
                    low = max(low, -base[k] / slope[k])
                elif slope[k] < -1e-9:
                    top = min(top, -base[k] / slope[k])
                elif base[k] < 0.0:
                    top = -1.0
            for x in range(int(np.ceil(low - 1e-4)), int(np.floor(top + 1e-4)) + 1):
                w1, w2 = np.float32(base[1] + slope[1] * x), np.float32(base[2] + slope[2] * x)
                z = z0 + w1 * z1 + w2 * z2
                if z <= near[y, x]:
                    continue
                if holes:
                    w0 = np.float32(1.0) - w1 - w2
                    if holes == 1:
                        row[0] = w0 * screen[a, 3] + w1 * screen[b, 3] + w2 * screen[c, 3]
                    else:
                        row[1] = w0 * table[a, 7] + w1 * table[b, 7] + w2 * table[c, 7]
                        row[2] = w0 * table[a, 11] + w1 * table[b, 11] + w2 * table[c, 11]
                        row[3] = w0 * table[a, 12] + w1 * table[b, 12] + w2 * table[c, 12]
                    if _air(holes, row, cover, cut):
                        continue
                near[y, x] = z
                ids[y, x] = first_id + f
