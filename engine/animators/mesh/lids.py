"""Closed upper lids: their paint and the lash line.

A photo with open eyes shows little of the upper lid; stretched over the closed eye it smears. The
lid is therefore painted with the colour of the skin around the eye, shaded from the crease to the
lashes, and only as opaque as the lid has been stretched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from engine.animators.mesh.grid import smoothstep
from engine.animators.mesh.layers import SourceGeometry
from engine.animators.mesh.skin import LID_ROWS
from engine.types import EXPRESSION_NAMES

__all__ = ["lash_strip", "lid_paint"]

Float = NDArray[np.float32]

_UNITS = (EXPRESSION_NAMES.index("eyeBlinkRight"), EXPRESSION_NAMES.index("eyeBlinkLeft"))


def _curve_distance(points: Float, curve: Float) -> Float:
    """Distance [N] from ``points`` [N, 3] to a polyline [n, 3], sampled eight times per piece."""
    t = np.linspace(0, len(curve) - 1, 8 * len(curve))
    dense = np.stack([np.interp(t, np.arange(len(curve)), curve[:, k]) for k in range(3)], 1)
    return np.asarray(cKDTree(dense).query(points)[0], np.float32)


def lid_paint(source: SourceGeometry) -> tuple[Float, Float]:
    """Paint of both closed lids [2, V, 4] (0..255, opacity) and lash colours [2, 4]."""
    paints, lashes = zip(*(_one_lid(source, eye) for eye in range(2)), strict=True)
    return np.stack(paints).astype(np.float32), np.stack(lashes).astype(np.float32)


def _one_lid(source: SourceGeometry, eye: int) -> tuple[Float, Float]:
    basis, crop = source.basis, source.crop
    field = np.linalg.norm(basis.expression[_UNITS[eye]], axis=1)
    field[basis.skin.stop :] = 0.0
    share = np.clip(field / max(float(np.percentile(field[field > 0.3 * field.max()], 85)), 1e-6), 0.0, 1.0)
    at = basis.at_landmarks(source.vertices)
    upper = at[LID_ROWS[eye][0]]
    edge = _curve_distance(source.vertices, upper)
    xy = np.clip(source.projected[:, :2].round().astype(int), 0, crop.shape[0] - 1)
    colour = crop[xy[:, 1], xy[:, 0]].astype(np.float32)
    above = source.vertices[:, 1] > np.interp(source.vertices[:, 0], *_sorted_curve(upper))
    ring = source.visible & (share > 0.02) & (share < 0.35) & above
    paint = np.zeros((len(share), 4), np.float32)
    if ring.sum() < 6:
        return paint, np.zeros(4, np.float32)
    skin = _skin_only(colour[ring])
    moving = share > 0.02
    weights = np.exp(
        -np.linalg.norm(source.vertices[moving, None] - source.vertices[None, ring], axis=2) / 0.6
    )
    paint[moving, :3] = (weights / weights.sum(1, keepdims=True)) @ skin
    # Darker in the crease, a soft light on the ball, darker again at the lashes.
    shade = 1.0 - 0.10 * smoothstep(0.45, 0.1, edge) - 0.10 * smoothstep(0.7, 0.2, share)
    paint[:, :3] *= shade[:, None]
    side = source.vertices[:, 1] > upper[[0, -1], 1].mean() - 0.6
    paint[:, 3] = 0.92 * smoothstep(0.1, 0.8, share) * side * smoothstep(0.08, 0.3, edge)
    near = source.visible & (edge < 0.15)
    dark = np.percentile(colour[near], 15, axis=0) if near.any() else np.array([50.0, 38.0, 25.0])
    return paint, np.append(0.8 * dark, 0.6).astype(np.float32)


def _sorted_curve(curve: Float) -> tuple[Float, Float]:
    order = np.argsort(curve[:, 0])
    return curve[order, 0], curve[order, 1]


def _skin_only(colours: Float) -> Float:
    """Brow hair and lashes among ``colours`` [n, 3] replaced by the ring's bright median."""
    light = colours.mean(1)
    bright = np.median(colours[light >= np.median(light)], axis=0)
    dark = light < np.percentile(light, 45)
    return np.where(dark[:, None], bright, colours).astype(np.float32)


def lash_strip(edge: Float, thickness: float) -> tuple[Float, NDArray[np.int32]]:
    """A soft band along a lid edge: ``edge`` [n, 2] crop px from corner to corner.

    Returns vertices [3 n, 3] (depth 0) and triangles; the middle third of the rows carries opacity.
    """
    n = len(edge)
    t = np.linspace(0, 1, n)
    along = np.gradient(edge, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    normal *= np.where(normal[:, 1:] < 0, -1.0, 1.0)
    wide = thickness * (0.35 + 0.65 * np.sin(np.pi * np.clip(0.9 * t + 0.02, 0, 1)))[:, None]
    rows = [edge - normal * wide, edge + 0.3 * normal * wide, edge + 1.6 * normal * wide]
    flat = np.concatenate(rows)
    xyz = np.concatenate([flat, np.zeros((3 * n, 1))], 1).astype(np.float32)
    k = np.arange(n - 1)
    quads = [np.stack([r * n + k, r * n + k + 1, (r + 1) * n + k + 1, (r + 1) * n + k], 1) for r in range(2)]
    q = np.concatenate(quads)
    triangles = np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]]).astype(np.int32)
    return xyz, triangles
