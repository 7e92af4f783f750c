"""Closed upper lids: their paint and the lash line.

A photo with open eyes shows little of the upper lid; stretched over the closed eye it smears. The
lid is therefore painted with the colour of the skin around the eye, shaded from the crease to the
lashes, and only as opaque as the lid has been stretched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from engine.animators.mesh.drawneyes import drawn_eyes
from engine.animators.mesh.grid import smoothstep
from engine.animators.mesh.layers import SourceGeometry
from engine.animators.mesh.skin import LID_ROWS
from engine.face.residual import INNER_LIPS
from engine.types import EXPRESSION_NAMES

__all__ = ["lash_strip", "lid_edge", "lid_paint", "lid_share", "lip_line", "soft_line"]

Float = NDArray[np.float32]

_OUTER_LIPS = np.array(
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
)
_UNITS = (EXPRESSION_NAMES.index("eyeBlinkRight"), EXPRESSION_NAMES.index("eyeBlinkLeft"))


def _curve_distance(points: Float, curve: Float) -> Float:
    """Distance [N] from ``points`` [N, 3] to a polyline [n, 3], sampled eight times per piece."""
    t = np.linspace(0, len(curve) - 1, 8 * len(curve))
    dense = np.stack([np.interp(t, np.arange(len(curve)), curve[:, k]) for k in range(3)], 1)
    return np.asarray(cKDTree(dense).query(points)[0], np.float32)


def lid_paint(source: SourceGeometry) -> tuple[Float, Float]:
    """Paint of both closed lids [2, V, 4] (0..255, opacity) and lash colours [2, 4]."""
    eyes = (source.landmarks[LID_ROWS[0]], source.landmarks[LID_ROWS[1]])
    drawn = drawn_eyes(source.crop, eyes) or (None, None)
    paints, lashes = zip(*(_one_lid(source, eye, drawn[eye]) for eye in range(2)), strict=True)
    return np.stack(paints).astype(np.float32), np.stack(lashes).astype(np.float32)


def _one_lid(source: SourceGeometry, eye: int, drawn: tuple[Float, Float] | None) -> tuple[Float, Float]:
    basis, crop, vertices = source.basis, source.crop, source.vertices
    share = lid_share(source, eye)
    at = basis.at_landmarks(vertices)
    upper = at[LID_ROWS[eye][0]]
    edge = _curve_distance(vertices, upper)
    xy = np.clip(source.projected[:, :2].round().astype(int), 0, crop.shape[0] - 1)
    colour = crop[xy[:, 1], xy[:, 0]].astype(np.float32)
    above = vertices[:, 1] - np.interp(vertices[:, 0], *_sorted_curve(upper))
    skin = np.zeros(len(share), bool)
    skin[basis.skin] = True
    near = source.visible & skin & (edge < 0.15)
    dark = np.percentile(colour[near], 10, axis=0) if near.any() else np.array([50.0, 38.0, 25.0])
    ring = source.visible & skin & (share > 0.01) & (share < 0.5) & (above > 0.1) & (edge > 0.3)
    paint = np.zeros((len(share), 4), np.float32)
    if ring.sum() < 12:
        return paint, np.zeros(4, np.float32)
    plain = _towards(_skin_gradient(vertices[ring], colour[ring], vertices), _face_tint(source, colour))
    shade = _shading(vertices, upper, share, edge)[:, None]
    # Skin that darkens reddens: light loses blue and green first.
    paint[:, :3] = plain * shade ** np.array([0.7, 1.0, 1.1], np.float32)
    # All of the lid that travels, and the fold above it where the open eye's lashes and shadow lie.
    lid = smoothstep(0.1, 0.6, share)
    fold = smoothstep(1.0, 0.55, edge) * smoothstep(-0.05, 0.1, above) * smoothstep(0.01, 0.12, share)
    width = float(np.ptp(upper[:, 0]))
    ends = np.minimum(vertices[:, 0] - upper[:, 0].min(), upper[:, 0].max() - vertices[:, 0])
    inside = smoothstep(-0.12, 0.06, ends / width)
    side = vertices[:, 1] > upper[[0, -1], 1].mean() - 0.6
    paint[:, 3] = 0.94 * np.maximum(lid, 0.95 * fold) * inside * side * skin * smoothstep(0.04, 0.2, edge)
    lash = np.append(0.8 * dark, 0.65).astype(np.float32)
    if drawn is not None:
        mask, flat = drawn
        cover = mask[xy[:, 1], xy[:, 0]] * skin * (edge < 2.5)
        paint[:, :3] = np.where(paint[:, 3:] > 0.01, 0.3 * paint[:, :3] + 0.7 * flat, flat)
        paint[:, 3] = np.maximum(paint[:, 3], cover)
        lash[3] = 0.95
    return paint, lash


def lid_share(source: SourceGeometry, eye: int) -> Float:
    """How far each vertex [V] travels in a blink, 0..1."""
    field = np.linalg.norm(source.basis.expression[_UNITS[eye]], axis=1)
    field[source.basis.skin.stop :] = 0.0
    full = float(np.percentile(field[field > 0.3 * field.max()], 85))
    return np.asarray(np.clip(field / max(full, 1e-6), 0.0, 1.0), np.float32)


def _shading(vertices: Float, upper: Float, share: Float, edge: Float) -> Float:
    """Light on a closed lid [V]: a ball under thin skin, dimmer in the fold and at the corners."""
    centre = 0.5 * (upper[:, 0].min() + upper[:, 0].max())
    across = (vertices[:, 0] - centre) / (0.5 * np.ptp(upper[:, 0]))
    ball = np.sqrt(np.clip(1.0 - 0.75 * across**2, 0.05, 1.0))
    light = 0.92 + 0.13 * ball * smoothstep(0.25, 0.9, share)
    crease = 0.13 * np.exp(-(((share - 0.32) / 0.13) ** 2)) * smoothstep(1.15, 0.5, np.abs(across))
    rim = 0.12 * smoothstep(0.22, 0.06, edge)
    return np.asarray(light - crease - rim, np.float32)


def _face_tint(source: SourceGeometry, colour: Float) -> Float:
    """Median colour [3] of the plain skin of cheeks and forehead."""
    mean = source.basis.mean
    plain = source.visible & (np.abs(mean[:, 0]) < 5.5) & (source.normals[:, 2] > 0.6)
    plain &= ((mean[:, 1] > -2.0) & (mean[:, 1] < 1.2)) | ((mean[:, 1] > 6.5) & (mean[:, 1] < 8.5))
    plain[source.basis.skin.stop :] = False
    chosen = colour[plain] if plain.sum() > 20 else colour[source.visible]
    return np.asarray(np.median(chosen, axis=0), np.float32)


def _towards(colours: Float, tint: Float) -> Float:
    """``colours`` [n, 3] moved part of the way to ``tint``: half in hue, a little in brightness."""
    light = colours.mean(1, keepdims=True)
    goal = max(float(tint.mean()), 1.0)
    hue = 0.5 * colours / np.maximum(light, 1.0) + 0.5 * tint / goal
    return np.asarray(np.clip(hue * (0.85 * light + 0.15 * goal), 0, 255), np.float32)


def _skin_gradient(points: Float, colours: Float, where: Float) -> Float:
    """Skin colour [V, 3] as a plane over x and y, fitted to the brighter half of ``colours`` [n, 3].

    Lashes, brow hair and make-up are darker than skin and drop out.
    """
    light = colours.mean(1)
    low, high = np.percentile(light, [50, 92])
    use = (light >= low) & (light <= high)
    centre, spread = points[use, :2].mean(0), points[use, :2].std(0) + 1e-3
    design = np.concatenate([np.ones((use.sum(), 1)), (points[use, :2] - centre) / spread], 1)
    ridge = np.diag([0.0, 1.0, 1.0]) * 0.1 * use.sum()
    plane = np.linalg.solve(design.T @ design + ridge, design.T @ colours[use])
    local = np.clip((where[:, :2] - centre) / spread, -2.0, 2.0)
    fitted = np.concatenate([np.ones((len(where), 1)), local], 1) @ plane
    return np.asarray(np.clip(fitted, colours[use].min(0), colours[use].max(0)), np.float32)


def _sorted_curve(curve: Float) -> tuple[Float, Float]:
    order = np.argsort(curve[:, 0])
    return curve[order, 0], curve[order, 1]


def lip_line(source: SourceGeometry) -> Float:
    """Colour 0..255 and strength [4] of the shadow between closed lips."""
    basis = source.basis
    at = basis.at_landmarks(source.vertices)
    lips = _curve_distance(source.vertices, at[_OUTER_LIPS])
    inner = np.minimum(
        _curve_distance(source.vertices, at[INNER_LIPS[0]]),
        _curve_distance(source.vertices, at[INNER_LIPS[1]]),
    )
    red = source.visible & (inner < 0.45) & (lips > 0.1)
    xy = np.clip(source.projected[:, :2].round().astype(int), 0, source.crop.shape[0] - 1)
    colours = source.crop[xy[:, 1], xy[:, 0]].astype(np.float32)
    lip = np.median(colours[red], axis=0) if red.sum() > 8 else np.array([150.0, 90.0, 90.0])
    gap = np.linalg.norm(source.landmarks[INNER_LIPS[0, 4:7]] - source.landmarks[INNER_LIPS[1, 4:7]], axis=1)
    parted = float(smoothstep(0.08, 0.25, float(gap.mean()) / source.pixels_per_cm))
    return np.append(lip * np.array([0.42, 0.3, 0.3]), 0.45 + 0.25 * parted).astype(np.float32)


def lid_edge(points: Float, count: int) -> Float:
    """A smooth closed-lid edge [count, 2] through nine noisy landmarks [9, 2], corners kept."""
    t = np.linspace(0.0, 1.0, len(points))
    chord = points[0] + (points[-1] - points[0]) * t[:, None]
    # Cubic that vanishes at both corners: t (1 - t) (a + b t).
    design = (t * (1 - t))[:, None] * np.stack([np.ones_like(t), t], 1)
    shape, *_ = np.linalg.lstsq(design, points - chord, rcond=None)
    s = np.linspace(0.0, 1.0, count)
    smooth = (s * (1 - s))[:, None] * np.stack([np.ones_like(s), s], 1) @ shape
    return np.asarray(points[0] + (points[-1] - points[0]) * s[:, None] + smooth, np.float32)


def lash_strip(edge: Float, thickness: float) -> tuple[Float, NDArray[np.int32]]:
    """A band along a lid edge [n, 2] (outer to inner corner), with lashes falling below it.

    Returns vertices [3 n, 3] (depth 0) and triangles; the middle row carries the opacity. Thin at
    the corners, widest in the outer half.
    """
    t = np.linspace(0, 1, len(edge))
    wide = thickness * (0.15 + 0.85 * np.sin(np.pi * np.clip(0.9 * t + 0.08, 0, 1)) ** 0.7)
    return _band(edge, 0.8 * wide, 0.2 * wide, 2.2 * wide)


def soft_line(curve: Float, thickness: float) -> tuple[Float, NDArray[np.int32]]:
    """A soft line [n, 2] that tapers to both ends; vertices and triangles as :func:`lash_strip`."""
    t = np.linspace(0, 1, len(curve))
    wide = thickness * (0.2 + 0.8 * np.sin(np.pi * t) ** 0.5)
    return _band(curve, wide, 0.0 * wide, wide)


def _band(
    curve: Float, above: NDArray[np.float64], middle: NDArray[np.float64], below: NDArray[np.float64]
) -> tuple[Float, NDArray[np.int32]]:
    """Three rows along ``curve`` [n, 2], shifted up, little and down (px) across it."""
    n = len(curve)
    along = np.gradient(curve, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    normal *= np.where(normal[:, 1:] < 0, -1.0, 1.0)
    rows = [curve + normal * shift[:, None] for shift in (-above, middle, below)]
    xyz = np.concatenate([np.concatenate(rows), np.zeros((3 * n, 1))], 1).astype(np.float32)
    k = np.arange(n - 1)
    quads = [np.stack([r * n + k, r * n + k + 1, (r + 1) * n + k + 1, (r + 1) * n + k], 1) for r in range(2)]
    q = np.concatenate(quads)
    return xyz, np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]]).astype(np.int32)
