"""Which triangle every sample sees: vertices are placed, triangles drawn into depths and ids. Numba.

A vertex is a row of 16: place (3) and a spare; normal (3), u; soft normal or place at rest (3), v; paint (4).
On a screen it is a row of 4: column and row (samples), nearness (grows towards the viewer), and how far it is
from a hole's rim (negative inside), for meshes that have such holes. An id is kind << 24 | triangle; 0 is the
backdrop.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["CARD", "LASH", "RIM", "SOLID", "draw", "place", "screen_of", "shadow_of"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Real = Any  # a number inside numba

_THIN, _ENDS = np.float32(1.4), np.float32(0.75)  # cards need more and more cover from 3/4 of their length on
_NOTHING = np.float32(0.0)

SOLID, RIM, CARD, LASH = range(4)
"""Holes of a mesh: none; where the fourth screen column is negative; by a texture of strands; lashes."""


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
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


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def screen_of(stood: Float, first: int, end: int, lens: Float, per_px: float, out: Float) -> None:
    """Screen rows of placed vertices; ``lens`` [3] focal length and centre (px), ``per_px`` samples a px."""
    for i in range(first, end):
        near = np.float32(-1.0) / stood[i, 2]
        out[i, 0] = (lens[1] + lens[0] * stood[i, 0] * near + 0.5) * per_px - 0.5
        out[i, 1] = (lens[2] - lens[0] * stood[i, 1] * near + 0.5) * per_px - 0.5
        out[i, 2] = near


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def shadow_of(stood: Float, first: int, end: int, sun: Float, side: int, out: Float) -> None:
    """Screen rows of placed vertices as the light sees them; ``sun`` [4, 4] to its clip space."""
    half = np.float32(0.5 * side)
    for i in range(first, end):
        x, y, z = stood[i, 0], stood[i, 1], stood[i, 2]
        out[i, 0] = (sun[0, 0] * x + sun[0, 1] * y + sun[0, 2] * z + sun[0, 3] + 1.0) * half - 0.5
        out[i, 1] = (sun[1, 0] * x + sun[1, 1] * y + sun[1, 2] * z + sun[1, 3] + 1.0) * half - 0.5
        out[i, 2] = 0.5 - 0.5 * (sun[2, 0] * x + sun[2, 1] * y + sun[2, 2] * z + sun[2, 3])


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _cover(cover: Float, u: Real, v: Real) -> Real:
    """``cover`` [H, W] at (u, v), bilinear; u repeats, W is a power of two."""
    high, wide = cover.shape
    x = u * np.float32(wide) - np.float32(0.5)
    y = min(max(v * np.float32(high) - np.float32(0.5), _NOTHING), np.float32(high) - np.float32(1.001))
    left, r = np.floor(x), np.uint32(y)
    fx, fy = x - left, y - np.float32(r)
    c = np.uint32(np.int32(left) & (wide - 1))
    d = np.uint32((np.int32(left) + 1) & (wide - 1))
    top = cover[r, c] + fx * (cover[r, d] - cover[r, c])
    low = cover[r + 1, c] + fx * (cover[r + 1, d] - cover[r + 1, c])
    return top + fy * (low - top)


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _between_lashes(u: Real, v: Real, longest: Real) -> bool:
    a = u * 26.0 + 0.3 * v
    a -= np.floor(a)
    return bool((v > 0.16 and abs(a - 0.5) > 0.45 - 0.275 * v) or v > longest)


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _air(
    holes: int, screen: Float, table: Float, corner: Real, share: Real, cover: Float, cut: float
) -> bool:
    """Whether the point with these shares of three corners is in a hole."""
    (a, b, c), (w0, w1, w2) = corner, share
    if holes == 1:
        return bool(w0 * screen[a, 3] + w1 * screen[b, 3] + w2 * screen[c, 3] < 0.0)
    u = w0 * table[a, 7] + w1 * table[b, 7] + w2 * table[c, 7]
    v = w0 * table[a, 11] + w1 * table[b, 11] + w2 * table[c, 11]
    p = w0 * table[a, 12] + w1 * table[b, 12] + w2 * table[c, 12]
    if holes == 2:
        return bool(_cover(cover, u, v) < cut + _THIN * max(p - _ENDS, _NOTHING))
    return _between_lashes(u, v, p)


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _cross(slope: Real, at: Real, low: Real, top: Real) -> tuple[Real, Real]:
    """The span ``low`` .. ``top`` of a row, cut by an edge at column ``at``."""
    if slope > 1e-9:
        return max(low, at), top
    if slope < -1e-9:
        return low, min(top, at)
    return low, top


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _inverse(slope: Real) -> Real:
    return np.float32(1.0) / slope if abs(slope) > 1e-9 else _NOTHING


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def draw(
    ids: Int, near: Float, screen: Float, table: Float, triangles: Int, first_id: int, cull: int,
    holes: int, cover: Float, cut: float,
) -> None:  # fmt: skip
    """Draw triangles [F, 3] where they are nearer than ``near`` [H, W]; their ids count from ``first_id``.

    ``cull`` 1 drops triangles that run clockwise seen with rows downwards, -1 the others, 0 none. ``table``
    [V, 16] has the places in ``cover`` [h, w] of meshes with such holes, air where it is below ``cut``.
    """
    high, wide = near.shape
    one = np.float32(1.0)
    for f in range(len(triangles)):
        a, b, c = np.uint32(triangles[f, 0]), np.uint32(triangles[f, 1]), np.uint32(triangles[f, 2])
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0] - ax, screen[b, 1] - ay
        cx, cy = screen[c, 0] - ax, screen[c, 1] - ay
        area = bx * cy - by * cx
        if area == 0.0 or cull * area > 0.0:
            continue
        y0 = max(int(np.ceil(ay + min(np.float32(0.0), by, cy))), 0)
        y1 = min(int(np.floor(ay + max(np.float32(0.0), by, cy))), high - 1)
        left = max(int(np.ceil(ax + min(np.float32(0.0), bx, cx))), 0)
        right = min(int(np.floor(ax + max(np.float32(0.0), bx, cx))), wide - 1)
        if y0 > y1 or left > right:
            continue
        inverse = one / area
        x1, x2, v1, v2 = cy * inverse, -by * inverse, -cx * inverse, bx * inverse
        x0, v0 = -x1 - x2, -v1 - v2
        # Edge k is crossed at column rise_k * (y - ay) + at_k + ax.
        inv0, inv1, inv2 = _inverse(x0), _inverse(x1), _inverse(x2)
        rise0, rise1, rise2 = -v0 * inv0, -v1 * inv1, -v2 * inv2
        z0, dz1, dz2 = screen[a, 2], screen[b, 2] - screen[a, 2], screen[c, 2] - screen[a, 2]
        zx = dz1 * x1 + dz2 * x2
        for y in range(y0, y1 + 1):
            dy = np.float32(y) - ay
            low, top = np.float32(left), np.float32(right)
            low, top = _cross(x0, rise0 * dy - inv0 + ax, low, top)
            low, top = _cross(x1, rise1 * dy + ax, low, top)
            low, top = _cross(x2, rise2 * dy + ax, low, top)
            first, last = int(np.ceil(low - np.float32(1e-4))), int(np.floor(top + np.float32(1e-4)))
            w1y, w2y = v1 * dy, v2 * dy
            zy = z0 + w1y * dz1 + w2y * dz2
            for x in range(first, last + 1):
                dx = np.float32(x) - ax
                z = zy + zx * dx
                if z <= near[y, x]:
                    continue
                if holes:
                    w1, w2 = w1y + x1 * dx, w2y + x2 * dx
                    if _air(holes, screen, table, (a, b, c), (one - w1 - w2, w1, w2), cover, cut):
                        continue
                near[y, x] = z
                ids[y, x] = first_id + f
