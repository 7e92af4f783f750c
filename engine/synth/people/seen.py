"""What the samples of a frame see: rectangles to shade, and where it all was in the first frame. Numba.

A sample's id is kind << 24 | triangle; 0 is the backdrop.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "first_places", "rectangles"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

BLOCK = 4
"""Side of the blocks that rectangles are made of, samples: what a software rasteriser shades at once."""


@nb.njit(cache=True, nogil=True)
def rectangles(ids: Int, kinds: int, out: Float, starts: Int) -> None:
    """Rectangles in clip space that cover every sample of a kind.

    Args:
        ids: int32 [S, S].
        kinds: kinds are 1 .. ``kinds``.
        out: float32 [N, 2] two triangles of each rectangle, kind by kind; N = 6 * kinds * blocks will do.
        starts: int32 [kinds + 2]; kind k owns rows ``starts[k] : starts[k + 1]``.
    """
    side = ids.shape[0]
    n = (side + BLOCK - 1) // BLOCK
    held = np.zeros((n, n), np.int32)
    for y in range(side):
        for x in range(side):
            held[y // BLOCK, x // BLOCK] |= 1 << (ids[y, x] >> 24)
    scale, at = 2.0 * BLOCK / side, 0
    starts[0] = 0
    for kind in range(1, kinds + 1):
        starts[kind] = at
        bit = 1 << kind
        for y in range(n):
            x = 0
            while x < n:
                if not held[y, x] & bit:
                    x += 1
                    continue
                left = x
                while x < n and held[y, x] & bit:
                    x += 1
                x0, x1, y0, y1 = left * scale - 1, x * scale - 1, y * scale - 1, (y + 1) * scale - 1
                for k, (u, v) in enumerate(((x0, y0), (x1, y0), (x0, y1), (x0, y1), (x1, y0), (x1, y1))):
                    out[at + k, 0], out[at + k, 1] = u, v
                at += 6
    starts[kinds + 1] = at


@nb.njit(cache=True, nogil=True)
def _placed(vertex: Float, body: Float, head: Float, out: Float) -> None:
    """Place and share [4] to camera space [3]."""
    for i in range(3):
        b, h = body[i, 3], head[i, 3]
        for j in range(3):
            b += body[i, j] * vertex[j]
            h += head[i, j] * vertex[j]
        out[i] = b + vertex[3] * (h - b)


@nb.njit(cache=True, nogil=True)
def _shares(x: float, y: float, lens: Float, p: Float, share: Float) -> None:
    """Barycentric coordinates [3] where the ray of px (x, y) meets the triangle ``p`` [3, 3]."""
    r0, r1 = (x - lens[1]) / lens[0], -(y - lens[2]) / lens[0]
    e0, e1, e2 = p[1, 0] - p[0, 0], p[1, 1] - p[0, 1], p[1, 2] - p[0, 2]
    g0, g1, g2 = p[2, 0] - p[0, 0], p[2, 1] - p[0, 1], p[2, 2] - p[0, 2]
    h0, h1, h2 = r1 * g2 + g1, -g0 - r0 * g2, r0 * g1 - r1 * g0
    determinant = e0 * h0 + e1 * h1 + e2 * h2
    if abs(determinant) < 1e-12:
        share[:] = 1.0 / 3.0
        return
    q0 = e1 * p[0, 2] - e2 * p[0, 1]
    q1 = e2 * p[0, 0] - e0 * p[0, 2]
    q2 = e0 * p[0, 1] - e1 * p[0, 0]
    share[1] = -(p[0, 0] * h0 + p[0, 1] * h1 + p[0, 2] * h2) / determinant
    share[2] = (r0 * q0 + r1 * q1 - q2) / determinant
    share[0] = 1.0 - share[1] - share[2]


@nb.njit(cache=True, nogil=True)
def first_places(
    ids: Int, rows: Int, columns: Int, step: float, lens: Float, corners: Int,
    now: Float, body: Float, head: Float, first: Float, body0: Float, head0: Float, out: Float,
) -> None:  # fmt: skip
    """Where what the samples (rows[i], columns[i]) see was in the first frame.

    Args:
        ids: int32 [S, S].
        rows: int32 [N], as ``columns``.
        step: px from sample to sample.
        lens: float32 [3] focal length and centre, px.
        corners: int32 [F, 4] the triangles' vertices and label.
        now: float32 [V, 4] vertices of this frame and their share in the head's motion.
        body: float32 [4, 4] shoulders to camera space in this frame, as ``head``.
        first: float32 [V, 4] vertices of the first frame.
        body0: float32 [4, 4] the first frame's, as ``head0``.
        out: float32 [N, 3] px x and y in the first frame and distance there, cm; zeros for the backdrop.
    """
    p, q = np.empty((3, 3), np.float32), np.empty(3, np.float32)
    share = np.empty(3, np.float32)
    for i in range(len(rows)):
        key = ids[rows[i], columns[i]]
        out[i] = 0.0
        if key == 0:
            continue
        t = corners[key & 0xFFFFFF]
        for k in range(3):
            _placed(now[t[k]], body, head, p[k])
        _shares((columns[i] + 0.5) * step - 0.5, (rows[i] + 0.5) * step - 0.5, lens, p, share)
        x, y, z = 0.0, 0.0, 0.0
        for k in range(3):
            _placed(first[t[k]], body0, head0, q)
            x += share[k] * q[0]
            y += share[k] * q[1]
            z += share[k] * q[2]
        out[i, 0] = lens[1] - lens[0] * x / z
        out[i, 1] = lens[2] + lens[0] * y / z
        out[i, 2] = -z
