"""Reference warp in numpy: the definition the fast bodies are tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compose", "dense_map", "invert_grid"]

Array = NDArray[np.float32]


def _sample(grid: Array, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values of ``grid`` [n, m, 2] at node coordinates, clamped to the border."""
    rows, columns = grid.shape[:2]
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    i, j = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
    fy, fx = (y - i)[..., None], (x - j)[..., None]
    top = grid[i, j] * (1 - fx) + grid[i, j + 1] * fx
    bottom = grid[i + 1, j] * (1 - fx) + grid[i + 1, j + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float64)


def invert_grid(forward: Array, out: Array, cell: float, iterations: int) -> None:
    """See :func:`kernels.warp.invert_grid`."""
    rows, columns = forward.shape[:2]
    r, c = np.mgrid[0:rows, 0:columns].astype(np.float64)
    f = forward.astype(np.float64)
    b = -f
    for _ in range(iterations):
        x = np.clip(c + b[..., 0] / cell, 0, columns - 1)
        y = np.clip(r + b[..., 1] / cell, 0, rows - 1)
        i, j = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
        fy, fx = (y - i)[..., None], (x - j)[..., None]
        top, low = f[i, j + 1] - f[i, j], f[i + 1, j + 1] - f[i + 1, j]
        start = f[i, j] + fx * top
        down = f[i + 1, j] + fx * low - start
        missing = b + start + fy * down
        across, down = (top + fy * (low - top)) / cell, down / cell
        jxx, jyx, jxy, jyy = 1 + across[..., 0], across[..., 1], down[..., 0], 1 + down[..., 1]
        det = jxx * jyy - jxy * jyx
        sound = det > 0.15
        safe = np.where(sound, det, 1.0)
        step_x = (jyy * missing[..., 0] - jxy * missing[..., 1]) / safe
        step_y = (jxx * missing[..., 1] - jyx * missing[..., 0]) / safe
        step = np.stack([step_x, step_y], -1)
        b -= np.where(sound[..., None], step, missing)
    out[...] = b


def dense_map(backward: Array, out: Array, cell: int, first: int) -> None:
    """See :func:`kernels.warp.dense_map`."""
    y, x = np.mgrid[first : first + out.shape[0], 0 : out.shape[1]].astype(np.float64)
    out[...] = np.stack([x, y], -1) + _sample(backward, x / cell, y / cell)


def compose(foreground: NDArray[np.uint8], background: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """See :func:`kernels.warp.compose`."""
    alpha = foreground[..., 3:].astype(np.float64) / 255.0
    shown = np.floor((1 - alpha) * background + 0.5)
    out[...] = np.clip(foreground[..., :3] + shown, 0, 255).astype(np.uint8)
