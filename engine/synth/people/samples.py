"""Samples as the materials take them and as the picture gets them back. Numba.

See :mod:`engine.synth.people.raster` for ids and for the rows of placed vertices.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["compose", "first_places", "gather", "scatter", "taps", "veil"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Real = Any  # a number inside numba
Bytes = NDArray[np.uint8]


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _four(
    rows: Float, a: Real, b: Real, c: Real, u: Real, v: Real, w: Real, k: int
) -> tuple[Real, Real, Real, Real]:
    """Numbers k .. k + 3 of three rows, blended."""
    return (
        u * rows[a, k] + v * rows[b, k] + w * rows[c, k],
        u * rows[a, k + 1] + v * rows[b, k + 1] + w * rows[c, k + 1],
        u * rows[a, k + 2] + v * rows[b, k + 2] + w * rows[c, k + 2],
        u * rows[a, k + 3] + v * rows[b, k + 3] + w * rows[c, k + 3],
    )


@nb.njit(cache=True, nogil=True)
def _divide(ids: Int, kinds: tuple[int, int], row: int, wide: int, rows: Int) -> int:
    """Give each kind the lines that its samples fill; returns the first line that is left."""
    counts = np.zeros(len(rows), np.int64)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            counts[ids[y, x] >> 24] += 1
    for kind in range(kinds[0], kinds[1] + 1):
        rows[kind] = row
        row += (counts[kind] + wide - 1) // wide
    rows[kinds[1] + 1] = row
    return row


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gather(
    ids: Int, kinds: tuple[int, int], row: int, stood: Float, screen: Float, corners: Int, out: Float,
    where: Int, rows: Int,
) -> int:  # fmt: skip
    """Rows of what the samples see, kind after kind; each kind begins a new line of ``out``.

    Args:
        ids: int32 [S, S].
        kinds: the first and the last kind to gather.
        row: line of ``out`` to begin with.
        stood: float32 [V, 16] placed vertices.
        screen: float32 [V, 4] the same on the screen.
        corners: int32 [F, 4] vertices of the triangles, and a label.
        out: float32 [H, W, 16] written: the vertices' numbers blended in perspective, the fourth the label.
        where: int32 [H, W] written: which sample this is; -1 for lines' unused ends.
        rows: int32 [kinds + 2] written: kind k owns the lines ``rows[k] : rows[k + 1]``.

    Returns:
        The first line that was not used.
    """
    side, wide = ids.shape[0], out.shape[1]
    flat, place = out.reshape(-1, 16), where.reshape(-1)
    row = _divide(ids, kinds, row, wide, rows)
    at = rows.astype(np.int64) * wide
    where[rows[kinds[0]] : row] = -1
    for y in range(side):
        for x in range(side):
            key = ids[y, x]
            kind = key >> 24
            if kind < kinds[0] or kind > kinds[1]:
                continue
            t = np.uint32(key & 0xFFFFFF)
            a, b, c = np.uint32(corners[t, 0]), np.uint32(corners[t, 1]), np.uint32(corners[t, 2])
            ax, ay = screen[a, 0], screen[a, 1]
            bx, by, cx, cy = screen[b, 0] - ax, screen[b, 1] - ay, screen[c, 0] - ax, screen[c, 1] - ay
            px, py = np.float32(x) - ax, np.float32(y) - ay
            inverse = np.float32(1.0) / (bx * cy - by * cx)
            w1, w2 = (px * cy - py * cx) * inverse, (bx * py - by * px) * inverse
            w0 = (np.float32(1.0) - w1 - w2) * screen[a, 2]
            w1, w2 = w1 * screen[b, 2], w2 * screen[c, 2]
            total = np.float32(1.0) / (w0 + w1 + w2)
            w0, w1, w2 = w0 * total, w1 * total, w2 * total
            i = at[kind]
            at[kind] = i + 1
            at_x, at_y, at_z, _ = _four(stood, a, b, c, w0, w1, w2, 0)
            n = _four(stood, a, b, c, w0, w1, w2, 4)
            s = _four(stood, a, b, c, w0, w1, w2, 8)
            p = _four(stood, a, b, c, w0, w1, w2, 12)
            flat[i, 0], flat[i, 1], flat[i, 2], flat[i, 3] = at_x, at_y, at_z, corners[t, 3]
            flat[i, 4], flat[i, 5], flat[i, 6], flat[i, 7] = n
            flat[i, 8], flat[i, 9], flat[i, 10], flat[i, 11] = s
            flat[i, 12], flat[i, 13], flat[i, 14], flat[i, 15] = p
            place[i] = y * side + x
    return row


@nb.njit(cache=True, nogil=True)
def scatter(shaded: Bytes, where: Int, samples: Bytes) -> None:
    """Put ``shaded`` [H, W, 4] (colour, label) where it belongs in ``samples`` [S, S, 4]; the rest is 0."""
    side = samples.shape[0]
    samples[:] = 0
    for r in range(where.shape[0]):
        for c in range(where.shape[1]):
            i = where[r, c]
            if i >= 0:
                for k in range(4):
                    samples[i // side, i % side, k] = shaded[r, c, k]


@nb.njit(cache=True, nogil=True)
def veil(shaded: Bytes, where: Int, samples: Bytes, backdrop: Bytes, seen: int) -> None:
    """Lay ``shaded`` [H, W, 4] (colour, alpha) over ``samples``: the backdrop becomes ``seen``."""
    side, size = samples.shape[0], backdrop.shape[0]
    for r in range(where.shape[0]):
        for c in range(where.shape[1]):
            i = where[r, c]
            if i < 0:
                continue
            y, x = i // side, i % side
            alpha = shaded[r, c, 3] / 255.0
            for k in range(3):
                under = samples[y, x, k]
                if samples[y, x, 3] == 0:
                    under = backdrop[y * size // side, x * size // side, k]
                samples[y, x, k] = np.uint8(alpha * shaded[r, c, k] + (1.0 - alpha) * under + 0.5)
            if samples[y, x, 3] == 0:
                samples[y, x, 3] = seen


def taps(side: int, size: int) -> tuple[Int, Float]:
    """First sample [size] and weights [size, T] that average ``side`` samples to ``size`` px by area."""
    ratio = side / size
    first = np.floor(np.arange(size) * ratio + 1e-9).astype(np.int32)
    count = int(max(np.ceil((np.arange(size) + 1) * ratio - 1e-9) - first))
    low = first[:, None] + np.arange(count)
    begin, end = np.arange(size)[:, None] * ratio, (np.arange(size)[:, None] + 1) * ratio
    weight = np.clip(np.minimum(low + 1, end) - np.maximum(low, begin), 0.0, None) / ratio
    first = np.minimum(first, side - count)
    shift = low[:, 0] - first
    for i in np.flatnonzero(shift):
        weight[i] = np.roll(weight[i], shift[i])
    return first, weight.astype(np.float32)


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def compose(samples: Bytes, backdrop: Bytes, first: Int, weight: Float, out: Float) -> None:
    """Average ``samples`` [S, S, 4] to ``out`` [N, N, 3]; where the label is 0 ``backdrop`` shows."""
    size, count = weight.shape
    for y in range(size):
        for x in range(size):
            r, g, b, open = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(count):
                for i in range(count):
                    w = weight[y, j] * weight[x, i]
                    s = samples[first[y] + j, first[x] + i]
                    if s[3]:
                        r += w * s[0]
                        g += w * s[1]
                        b += w * s[2]
                    else:
                        open += w
            out[y, x, 0] = r + open * backdrop[y, x, 0]
            out[y, x, 1] = g + open * backdrop[y, x, 1]
            out[y, x, 2] = b + open * backdrop[y, x, 2]


@nb.njit(cache=True, nogil=True)
def first_places(
    ids: Int, at: Int, stood0: Float, screen: Float, corners: Int, lens: Float, out: Float
) -> None:
    """Where what the samples (at[i], at[j]) see was in the first frame.

    Args:
        ids: int32 [S, S].
        at: int32 [N] rows and columns.
        stood0: float32 [V, 16] vertices as placed in the first frame.
        screen: float32 [V, 4] vertices on this frame's screen.
        corners: int32 [F, 4].
        lens: float32 [3] focal length and centre, px.
        out: float32 [N, N, 3] written: px x and y in the first frame, distance there (cm); 0: backdrop.
    """
    w = np.empty(3)
    for j in range(len(at)):
        for i in range(len(at)):
            out[j, i] = 0.0
            key = ids[at[j], at[i]]
            if key == 0:
                continue
            t = corners[key & 0xFFFFFF]
            ax, ay = float(screen[t[0], 0]), float(screen[t[0], 1])
            bx, by = screen[t[1], 0] - ax, screen[t[1], 1] - ay
            cx, cy = screen[t[2], 0] - ax, screen[t[2], 1] - ay
            px, py, inverse = at[i] - ax, at[j] - ay, 1.0 / (bx * cy - by * cx)
            w[1], w[2] = (px * cy - py * cx) * inverse, (bx * py - by * px) * inverse
            w[0] = 1.0 - w[1] - w[2]
            total, x, y, z = 0.0, 0.0, 0.0, 0.0
            for k in range(3):
                s = w[k] * screen[t[k], 2]
                total += s
                x += s * stood0[t[k], 0]
                y += s * stood0[t[k], 1]
                z += s * stood0[t[k], 2]
            out[j, i, 0] = lens[1] - lens[0] * x / z
            out[j, i, 1] = lens[2] + lens[0] * y / z
            out[j, i, 2] = -z / total
