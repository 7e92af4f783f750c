"""Expression units the ICT model lacks, authored as smooth displacement fields on the mean head.

All fields are in cm on the source vertices. The tongue is bent along a curve; the lips follow the
visible lip edge, which the face-mesh landmarks mark (the model's own lip loops lie behind it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

__all__ = ["Head", "author", "smoothstep"]

Double = NDArray[np.float64]
Int = NDArray[np.int64]

# Face-mesh landmarks of the inner lip edge, right corner to left corner.
INNER_UPPER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
INNER_LOWER = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])


@dataclass(frozen=True)
class Head:
    """What the authored units need of the source model."""

    points: Double
    """[V, 3] the mean head, cm."""
    triangles: Int
    """[F, 3]"""
    tongue: NDArray[np.bool_]
    """[V]"""
    skin: NDArray[np.bool_]
    """[V] face skin and the mouth bag: what lips drag along."""
    lower: Double
    """[V] 0..1 goes with the jaw."""
    upper_teeth: NDArray[np.bool_]
    """[V]"""
    landmarks: Double
    """[468, 3] landmark points on the mean head."""


def smoothstep(low: float, high: float, x: Double) -> Double:
    """0 below ``low``, 1 above ``high`` (``low`` may be the larger one), smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _geodesic(points: Double, triangles: Int, sources: Int) -> Double:
    """Distance along edges [V] to the nearest source vertex, cm (inf where unreachable)."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = coo_matrix((length, (edges[:, 0], edges[:, 1])), shape=(len(points),) * 2).tocsr()
    distance: Double = dijkstra(graph, directed=False, indices=sources, min_only=True)
    return distance


def _tongue_freedom(head: Head) -> Double:
    """[V] 0 where the tongue is rooted in gums and throat, 1 on its free body."""
    touching = head.tongue[head.triangles]
    crease = np.unique(head.triangles[touching.any(1) & ~touching.all(1)])
    inside = head.triangles[touching.all(1)]
    distance = _geodesic(head.points, inside, crease)
    free = smoothstep(0.0, 0.7, np.where(np.isfinite(distance), distance, 0.0))
    # The root (toward the throat) never moves.
    return np.where(head.tongue, free * smoothstep(3.6, 5.6, head.points[:, 2]), 0.0)


def _bend(head: Head, path: Double, width: Double, height: Double) -> Double:
    """Carry the tongue from its rest centre line to ``path`` [K, 2] of (z, y).

    ``width`` and ``height`` [K] scale the cross section along it. The rest centre line runs from
    the root to the tip at constant height.
    """
    root, tip, level = 4.5, 9.74, -3.88
    p = head.points
    s = np.clip((p[:, 2] - root) / (tip - root), 0.0, 1.05)
    knots = np.linspace(0.0, 1.0, len(path))
    curve = CubicSpline(knots, path, bc_type="natural")
    centre, tangent = curve(s), curve(s, 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    across = (p[:, 1] - level) * np.interp(s, knots, height)
    out = np.empty_like(p)
    out[:, 0] = p[:, 0] * np.interp(s, knots, width)
    out[:, 2] = centre[:, 0] + normal[:, 0] * across
    out[:, 1] = centre[:, 1] + normal[:, 1] * across
    return (out - p) * _tongue_freedom(head)[:, None]


def _tongue_out(head: Head) -> Double:
    """Out over the lower teeth and lip (meant together with jawOpen, as in ARKit)."""
    path = np.array([[4.5, -3.88], [6.9, -3.55], [9.2, -3.05], [11.8, -2.98], [13.8, -4.2]])
    return _bend(head, path, np.array([1.0, 1.0, 0.95, 0.98, 0.9]), np.array([1.0, 1.0, 0.85, 0.62, 0.5]))


def _tongue_up(head: Head) -> Double:
    """The tip behind the upper teeth: l, n, t, d."""
    path = np.array([[4.5, -3.88], [5.9, -3.9], [7.3, -3.8], [8.65, -3.3], [9.55, -2.62]])
    return _bend(head, path, np.array([1.0, 1.0, 0.97, 0.95, 0.9]), np.array([1.0, 1.0, 0.95, 0.8, 0.6]))


def _tongue_back(head: Head) -> Double:
    """The body drawn back and up against the soft palate, the tip down: k, g."""
    path = np.array([[4.4, -3.7], [5.45, -3.3], [6.55, -3.35], [7.65, -3.85], [8.75, -4.1]])
    return _bend(head, path, np.array([1.0, 1.04, 1.03, 1.0, 0.95]), np.array([1.0, 1.1, 1.1, 1.0, 0.9]))


def _lip_profile(head: Head, x: Double, values: Double) -> Double:
    """Interpolate [11, 3] values along the inner lip edge at ``x`` [V], zero beyond the corners."""
    edge = head.landmarks[INNER_UPPER, 0]
    return np.stack([np.interp(x, edge, values[:, k]) for k in range(3)], 1)


def _lip_reach(head: Head, edge: Double, radius: float) -> Double:
    """[V] 1 on the lip edge curve [N, 3], falling to 0 at ``radius`` cm."""
    t = np.linspace(0, len(edge) - 1, 12 * len(edge))
    dense = np.stack([np.interp(t, np.arange(len(edge)), edge[:, k]) for k in range(3)], 1)
    reach = smoothstep(radius, 0.0, cdist(head.points, dense).min(1))
    return np.where(head.skin, reach, 0.0)


def _lips_sealed(head: Head) -> Double:
    """Both visible lip edges meet half-way, slightly overlapping, as if pressed together."""
    upper, lower = head.landmarks[INNER_UPPER], head.landmarks[INNER_LOWER]
    gap = lower - upper
    gap[:, 1] -= 0.05  # meet with pressure
    gap[[0, -1]] = 0.0
    move = _lip_profile(head, head.points[:, 0], gap)
    side = head.lower[:, None]
    up = _lip_reach(head, upper, 0.9)[:, None] * move * 0.5
    down = -_lip_reach(head, lower, 0.9)[:, None] * move * 0.5
    field: Double = up * (1.0 - side) + down * side
    return field


def _lower_lip_in(head: Head) -> Double:
    """The lower lip under the edge of the upper teeth: f, v."""
    lower = head.landmarks[INNER_LOWER]
    teeth = head.points[head.upper_teeth]
    front = teeth[np.abs(teeth[:, 0]) < 0.9]
    edge = front[front[:, 1] < front[:, 1].min() + 0.12]
    target = np.array([0.0, edge[:, 1].min() + 0.10, edge[:, 2].max() + 0.04])
    middle = lower[len(lower) // 2]
    shift = target - middle
    shift[0] = 0.0
    half = np.abs(lower[:, 0]).max()
    across = np.clip(1.0 - (head.points[:, 0] / half) ** 2, 0.0, 1.0) ** 0.75
    reach = _lip_reach(head, lower, 1.5)
    below = np.where(head.skin, head.lower, 0.0)
    field = (reach * below * across)[:, None] * shift
    # The upper lip lifts a little off the teeth, or the two lips would meet.
    lift = _lip_reach(head, head.landmarks[INNER_UPPER], 1.3) * (1.0 - head.lower) * across
    field[:, 1] += np.where(head.skin, lift, 0.0) * 0.16
    result: Double = field
    return result


def author(head: Head) -> dict[str, Double]:
    """Displacements [V, 3] in cm by unit name."""
    return {
        "tongueOut": _tongue_out(head),
        "tongueUp": _tongue_up(head),
        "tongueBack": _tongue_back(head),
        "lipsSealed": _lips_sealed(head),
        "lowerLipIn": _lower_lip_in(head),
    }
