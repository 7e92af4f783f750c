"""Light inside the mouth: what the lips let in, per vertex. Numba, one thread, no GIL."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["LipLine", "light_interior"]

Float = NDArray[np.float32]

_BINS = 48
_HIDDEN_CM = 0.6  # further behind a lip than this nothing shows, not even of a large triangle


@dataclass(frozen=True)
class LipLine:
    """The inner-lip contour as two heights over x, so that a vertex finds its lips in one step."""

    top: Float
    """[48] crop y of the upper lip's edge at regular x from ``left`` to ``right``"""
    bottom: Float
    left: float
    right: float
    depth: float
    """camera distance of the teeth's front, cm"""
    pixels_per_cm: float

    @staticmethod
    def of(lips: Float, depths: Float, pixels_per_cm: float) -> LipLine:
        """From inner lips [2, 11, 2] (upper, lower; corner to corner) and interior ``depths`` [N]."""
        left = float(min(lips[0, 0, 0], lips[1, 0, 0]))
        right = max(float(max(lips[0, -1, 0], lips[1, -1, 0])), left + 1.0)
        x = np.linspace(left, right, _BINS)
        upper, lower = (row[np.argsort(row[:, 0])] for row in lips)
        top = np.interp(x, upper[:, 0], upper[:, 1]).astype(np.float32)
        bottom = np.interp(x, lower[:, 0], lower[:, 1]).astype(np.float32)
        return LipLine(top, bottom, left, right, float(depths.min()), pixels_per_cm)

    def arrays(self) -> tuple[Float, Float, float, float, float, float]:
        """The arguments of :func:`light_interior`."""
        return self.top, self.bottom, self.left, self.right, self.depth, self.pixels_per_cm


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _let_in(below: float, above: float, aside: float, gap: float, middle: float, soft: float) -> float:
    """Light that lips let in, 0..1: distances (cm) to the upper lip, the lower lip and the nearer
    corner, the gap between the lips there and in the middle, and how much lips shade this tissue."""
    light = 1.0 - 0.42 * soft * math.exp(-max(below, 0.0) * 5.0)
    light *= 1.0 - 0.22 * soft * math.exp(-max(above, 0.0) * 4.0)
    light *= 1.0 - (0.16 + 0.48 * soft) * math.exp(-max(aside, 0.0) * 2.3)
    # A slit lets no light in; beside the middle some comes from there.
    slit = min(max(max(gap, 0.6 * middle) / 0.32, 0.0), 1.0)
    return light * (0.25 + 0.75 * slit * (2.0 - slit))


@nb.njit(cache=True, nogil=True, fastmath=True)
def light_interior(
    xyz: Float,
    normals: Float,
    base: Float,
    gloss: Float,
    direction: Float,
    top: Float,
    bottom: Float,
    left: float,
    right: float,
    depth: float,
    per_cm: float,
    out: Float,
) -> None:
    """Colour of every interior vertex.

    1. ``xyz`` [N, 3] crop px and camera distance, ``normals`` [N, 3] camera space.
    2. ``base`` [N, 3] colour 0..255 in full light, ``gloss`` [N, 5]: strength of the highlight,
       its exponent, how fast light falls with depth (1/cm), how much lips shade it (0..1) and how
       little its relief shows (0..1).
    3. ``direction`` [3] unit vector to the light, then the lip line.
    4. ``out`` [N, 4]: colour 0..255 and the light 0..1 that reached the vertex; light -1 marks a
       vertex that cannot be seen: turned away, or far behind a lip.
    """
    bins = top.shape[0]
    inv = (bins - 1) / max(right - left, 1e-3)
    lx, ly, lz = direction[0], direction[1], direction[2]
    # Half vector between light and viewer (0, 0, 1), for the wet highlights.
    hz = lz + 1.0
    hl = 1.0 / math.sqrt(lx * lx + ly * ly + hz * hz)
    middle = (bottom[bins // 2] - top[bins // 2]) / per_cm
    for i in range(xyz.shape[0]):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        t = min(max((x - left) * inv, 0.0), bins - 1.001)
        k = int(t)
        f = t - k
        upper = top[k] + f * (top[k + 1] - top[k])
        lower = bottom[k] + f * (bottom[k + 1] - bottom[k])
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        below, above = (y - upper) / per_cm, (lower - y) / per_cm
        aside = min(x - left, right - x) / per_cm
        inside = min(min(below, above), aside)
        if nz < -0.35 or inside < -2.0 * _HIDDEN_CM:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = 0.0, 0.0, 0.0, -1.0
            continue
        light = _let_in(below, above, aside, below + above, middle, gloss[i, 3])
        behind = max(z - depth - 0.35, 0.0)
        light *= 0.13 + 0.87 * math.exp(-behind * gloss[i, 2])
        lambert = max(nx * lx + ny * ly + nz * lz, 0.0)
        lambert += gloss[i, 4] * (0.6 - lambert)
        diffuse = light * (0.58 + 0.46 * lambert)
        half = max((nx * lx + ny * ly + nz * hz) * hl, 0.0)
        shine = 255.0 * gloss[i, 0] * light * half ** gloss[i, 1] if half > 0.75 else 0.0
        # Light that has bounced off lips and gums is red: dark places lose green and blue first.
        log = math.log(max(diffuse, 1e-4))
        green = diffuse * math.exp(0.04 * log)
        out[i, 0] = base[i, 0] * diffuse * math.exp(-0.08 * log) + shine
        out[i, 1] = base[i, 1] * green + shine
        out[i, 2] = base[i, 2] * green * (1.0 + 0.03 * log) + shine
        out[i, 3] = light if inside > -_HIDDEN_CM else -1.0
