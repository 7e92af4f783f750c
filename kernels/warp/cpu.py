"""Numba bodies of the warp: one thread, no GIL."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["compose", "dense_map", "invert_grid"]

Array = NDArray[np.float32]

# Smallest Jacobian determinant that is trusted; below it the grid (nearly) folds.
_SMALLEST = np.float32(0.15)
# px: a Newton step from so near lands where another one would change nothing; most nodes are there in two.
_NEAR = np.float32(1e-4)


@nb.njit(cache=True, nogil=True)
def invert_grid(forward: Array, out: Array, cell: float, iterations: int) -> None:
    """See :func:`kernels.warp.invert_grid`."""
    rows, columns = forward.shape[0], forward.shape[1]
    inverse = np.float32(1.0) / np.float32(cell)
    last_row, last_column = np.float32(rows - 1), np.float32(columns - 1)
    for r in range(rows):
        for c in range(columns):
            bx, by = -forward[r, c, 0], -forward[r, c, 1]
            for _ in range(iterations):
                x = min(max(np.float32(c) + bx * inverse, np.float32(0.0)), last_column)
                y = min(max(np.float32(r) + by * inverse, np.float32(0.0)), last_row)
                i, j = min(int(y), rows - 2), min(int(x), columns - 2)
                fy, fx = y - np.float32(i), x - np.float32(j)
                topx = forward[i, j + 1, 0] - forward[i, j, 0]
                topy = forward[i, j + 1, 1] - forward[i, j, 1]
                lowx = forward[i + 1, j + 1, 0] - forward[i + 1, j, 0]
                lowy = forward[i + 1, j + 1, 1] - forward[i + 1, j, 1]
                tx, ty = forward[i, j, 0] + fx * topx, forward[i, j, 1] + fx * topy
                dx = forward[i + 1, j, 0] + fx * lowx - tx
                dy = forward[i + 1, j, 1] + fx * lowy - ty
                # What is missing, and the Jacobian I + grad f of the forward map.
                rx, ry = bx + tx + fy * dx, by + ty + fy * dy
                jxx = np.float32(1.0) + (topx + fy * (lowx - topx)) * inverse
                jyx = (topy + fy * (lowy - topy)) * inverse
                jxy, jyy = dx * inverse, np.float32(1.0) + dy * inverse
                det = jxx * jyy - jxy * jyx
                if det > _SMALLEST:
                    bx -= (jyy * rx - jxy * ry) / det
                    by -= (jxx * ry - jyx * rx) / det
                    if max(abs(rx), abs(ry)) < _NEAR:
                        break
                else:
                    bx -= rx
                    by -= ry
            out[r, c, 0] = bx
            out[r, c, 1] = by


@nb.njit(cache=True, nogil=True)
def dense_map(backward: Array, out: Array, cell: int, first: int) -> None:
    """See :func:`kernels.warp.dense_map`."""
    rows, columns, nodes = out.shape[0], out.shape[1], backward.shape[1]
    inverse = np.float32(1.0 / cell)
    # A row of nodes at this height, x and y in turn: the inner loop then is one of plain additions.
    line = np.empty(2 * nodes, np.float32)
    for r in range(rows):
        y = first + r
        i = y // cell
        fy = np.float32(y - i * cell) * inverse
        for j in range(nodes):
            x0, y0 = backward[i, j, 0], backward[i, j, 1]
            line[2 * j] = np.float32(j * cell) + (x0 + fy * (backward[i + 1, j, 0] - x0))
            line[2 * j + 1] = np.float32(y) + (y0 + fy * (backward[i + 1, j, 1] - y0))
        for j in range((columns + cell - 1) // cell):
            left, x, v = j * cell, line[2 * j], line[2 * j + 1]
            step_x, step_v = (line[2 * j + 2] - x) * inverse, (line[2 * j + 3] - v) * inverse
            for k in range(min(cell, columns - left)):
                out[r, left + k, 0] = x + step_x * np.float32(k)
                out[r, left + k, 1] = v + step_v * np.float32(k)


@nb.njit(cache=True, nogil=True)
def compose(foreground: NDArray[np.uint8], background: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """See :func:`kernels.warp.compose`."""
    rows, columns = out.shape[0], out.shape[1]
    for y in range(rows):
        for x in range(columns):
            alpha = np.int32(foreground[y, x, 3])
            if alpha == 255:
                for k in range(3):
                    out[y, x, k] = foreground[y, x, k]
                continue
            # (v * 257 + 32896) >> 16 rounds v / 255 exactly for v in 0..255 * 255.
            for k in range(3):
                shown = (np.int32(background[y, x, k]) * (np.int32(255) - alpha) * 257 + 32896) >> 16
                total = np.int32(foreground[y, x, k]) + shown
                out[y, x, k] = total if total < 255 else 255
