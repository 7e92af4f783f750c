"""Smooth image warps driven by a coarse grid: the doorway.

A grid of ``n`` x ``n`` nodes, ``cell`` pixels apart (node (r, c) at pixel (cell * c, cell * r)), is
displaced *forward* (source to destination). :func:`invert_grid` turns that into the *backward*
displacement that sampling needs, :func:`dense_map` spreads it over all pixels, and
:func:`compose` lays the sampled foreground over a background. Pixel (i, j) has its centre at (i, j).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.warp import cpu, reference

__all__ = ["compose", "dense_map", "invert_grid"]

Float = NDArray[np.float32]

_BODIES = {"cpu": cpu, "reference": reference}


def invert_grid(forward: Float, out: Float, cell: float, *, iterations: int = 6, impl: str = "cpu") -> None:
    """Backward displacement b with b(p) = -f(p + b(p)), by Newton's method at the nodes.

    1. ``forward`` float32 [n, m, 2]: node (r, c) moves by this many pixels (x, y).
    2. ``out`` float32 [n, m, 2]: destination node (r, c) is sampled at its own place plus this.

    Exact (for bilinear f) where the grid does not fold, by plain fixed-point steps where it nearly
    does; beyond the border the displacement of the border holds.
    """
    if forward.shape != out.shape or forward.ndim != 3 or forward.shape[2] != 2:
        raise ValueError(f"forward {forward.shape} and out {out.shape} must both be [n, m, 2]")
    _BODIES[impl].invert_grid(forward, out, np.float32(cell), iterations)


def dense_map(backward: Float, out: Float, cell: int, first: int = 0, *, impl: str = "cpu") -> None:
    """Sampling positions for every pixel: bilinear between the nodes.

    ``backward`` float32 [n, m, 2] as from :func:`invert_grid`, ``out`` float32 [H, W, 2] receives
    absolute source pixels of rows ``first``..``first + H``; first + H <= cell * (n - 1) and
    W <= cell * (m - 1).
    """
    rows, columns = first + out.shape[0], out.shape[1]
    if first < 0 or rows > cell * (backward.shape[0] - 1) or columns > cell * (backward.shape[1] - 1):
        raise ValueError(
            f"a grid {backward.shape[:2]} of {cell} px cells does not cover rows {first}..{rows} of {columns}"
        )
    _BODIES[impl].dense_map(backward, out, cell, first)


def compose(
    foreground: NDArray[np.uint8],
    background: NDArray[np.uint8],
    out: NDArray[np.uint8],
    *,
    impl: str = "cpu",
) -> None:
    """out = foreground + (1 - alpha) background, rounded and clamped.

    ``foreground`` uint8 [H, W, 4], premultiplied RGB and alpha; ``background`` and ``out`` uint8
    [H, W, 3].
    """
    if foreground.shape[:2] != background.shape[:2] or background.shape != out.shape:
        raise ValueError(f"sizes differ: {foreground.shape}, {background.shape}, {out.shape}")
    _BODIES[impl].compose(foreground, background, out)
