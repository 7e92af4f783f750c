"""Eyelashes: strips that leave the lids' edges, long ones above and short ones below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.synth.people.figure import Figure, Posed
from engine.synth.people.look import Look
from engine.synth.people.model import head_model

__all__ = ["lash_points", "lash_strips"]

Float = NDArray[np.float32]

_COUNT = 25  # vertices along a lid
_STRIPS = 4


def lash_points(posed: Posed, figure: Figure, look: Look) -> tuple[Float, Float]:
    """Vertices and normals [4 * 3 * 25, 3] of the strips in this frame."""
    basis = head_model().basis
    strips, normals = [], []
    u = np.linspace(0, 1, _COUNT, dtype=np.float32)[:, None]
    at = np.linspace(0.04, 0.97, _COUNT)
    for eye, rows in enumerate((basis.lid_left, basis.lid_right)):
        for k, row in enumerate(rows):
            fine = _resampled(posed.vertices[row], at)
            out = fine - figure.centres[eye]
            out /= np.linalg.norm(out, axis=1, keepdims=True)
            size = (0.42 if k == 0 else 0.16) * look.lashes * (0.35 + 1.25 * u - 0.55 * u**2)
            lean = np.array([0.25 * (1 if eye == 0 else -1), 0.0, 0.0], np.float32) * (u - 0.3)
            curl = np.array([0.0, 0.4 if k == 0 else -0.4, 0.0], np.float32)
            fine = fine + 0.05 * out
            strips.append([
                fine,
                fine + size * (0.95 * out + 0.3 * curl + lean),
                fine + size * (1.35 * out + 0.9 * curl + 1.6 * lean),
            ])  # fmt: skip
            normals.append([out] * 3)
    return np.array(strips, np.float32).reshape(-1, 3), np.array(normals, np.float32).reshape(-1, 3)


def _resampled(edge: Float, at: NDArray[np.float64]) -> Float:
    """The polyline ``edge`` [N, 3] at shares ``at`` of its vertices' count."""
    t = at * (len(edge) - 1)
    k = np.minimum(t.astype(int), len(edge) - 2)
    f = (t - k)[:, None].astype(np.float32)
    return np.asarray(edge[k] + f * (edge[k + 1] - edge[k]), np.float32)


def lash_strips() -> tuple[Float, Float, NDArray[np.int32]]:
    """uv [300, 2], paint [300, 4] (how long) and triangles of all strips."""
    u, v = np.meshgrid(np.linspace(0, 1, _COUNT), [0.0, 0.5, 1.0])
    uv = np.tile(np.stack([u, v], 2).reshape(1, -1, 2), (_STRIPS, 1, 1)).reshape(-1, 2).astype(np.float32)
    paint = np.zeros((_STRIPS, 3 * _COUNT, 4), np.float32)
    paint[0::2, :, 0], paint[1::2, :, 0] = 1.0, 0.8
    index = np.arange(3 * _COUNT).reshape(3, _COUNT)
    a, b, c, d = (
        corner.ravel() for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
    )
    one = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    triangles = (one[None] + (np.arange(_STRIPS) * 3 * _COUNT)[:, None, None]).reshape(-1, 3)
    return uv, paint.reshape(-1, 4), triangles.astype(np.int32)
