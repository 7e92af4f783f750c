"""Light of a direction: its projection for the shadow map, and how much sky each vertex sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.geometry import unit_normals
from engine.synth.people import raster
from engine.synth.people.model import HeadModel

__all__ = ["occlusion", "sun"]

Float = NDArray[np.float32]

_REACH, _DEPTH = 22.0, 45.0  # cm covered by the shadow map
_SIDE = 288


def occlusion(model: HeadModel, count: int = 72) -> Float:
    """[V] 0..1, how much of the sky each vertex of the mean head sees in ``count`` directions."""
    mean, triangles = (
        np.ascontiguousarray(model.basis.mean),
        np.ascontiguousarray(model.basis.triangles, np.int32),
    )
    table, screen = np.zeros((len(mean), 16), np.float32), np.zeros((len(mean), 4), np.float32)
    table[:, :3] = mean
    normals = np.empty_like(mean)
    unit_normals(mean, triangles, np.eye(3, dtype=np.float32), normals)
    seen, total = np.zeros(len(mean)), np.full(len(mean), 1e-6)
    ids, cover = np.empty((_SIDE, _SIDE), np.int32), np.zeros((2, 2), np.float32)
    for k in range(count):
        y = 1.0 - 2.0 * (k + 0.5) / count
        angle = 2.39996 * k
        d = np.array([np.cos(angle) * np.sqrt(1 - y * y), y, np.sin(angle) * np.sqrt(1 - y * y)], np.float32)
        near = np.zeros((_SIDE, _SIDE), np.float32)
        raster.shadow_of(table, 0, len(mean), sun(d, np.array([0.0, -2.0, 1.0], np.float32)), _SIDE, screen)
        raster.draw(ids, near, screen, table, triangles, 0, 0, raster.SOLID, cover, 0.0)
        c, r = (np.clip((screen[:, i] + 0.5).astype(int), 0, _SIDE - 1) for i in (0, 1))
        cos = np.maximum(normals @ d, 0.0)
        seen += cos * (screen[:, 2] >= near[r, c] - 0.35 / (2 * _DEPTH))
        total += cos
    return np.asarray(seen / total, np.float32)


def sun(direction: Float, middle: Float) -> Float:
    """[4, 4] camera space to the clip space of light from ``direction``, around ``middle``."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.02], z)
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), -z]) / np.array([_REACH, _REACH, _DEPTH])[:, None]
    out = np.eye(4, dtype=np.float32)
    out[:3, :3], out[:3, 3] = axes, -axes @ middle
    return out
