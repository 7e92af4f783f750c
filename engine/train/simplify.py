"""Half-edge collapse with quadric error metrics (Garland and Heckbert 1997), keeping vertices in place.

Collapsing u into v removes u and moves nothing, so every linear basis over the vertices stays
valid: it is only subselected. Collapses are made in mirrored pairs, so a symmetric mesh stays so.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["simplify"]

Double = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass
class _Mesh:
    points: Double
    triangles: Int
    alive: NDArray[np.bool_]
    fans: list[set[int]]
    quadrics: Double

    def neighbours(self, vertex: int) -> set[int]:
        near = {int(w) for f in self.fans[vertex] for w in self.triangles[f]}
        near.discard(vertex)
        return near


def _build(points: Double, triangles: Int) -> _Mesh:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal /= np.maximum(area, 1e-12)
    plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], 1)
    outer = plane[:, :, None] * plane[:, None, :] * area[:, :, None]
    quadrics = np.zeros((len(points), 4, 4))
    fans: list[set[int]] = [set() for _ in points]
    for k in range(3):
        np.add.at(quadrics, triangles[:, k], outer)
    for f, triangle in enumerate(triangles):
        for v in triangle:
            fans[int(v)].add(f)
    return _Mesh(points, triangles.copy(), np.ones(len(triangles), bool), fans, quadrics)


def _boundary(triangles: Int, count: int) -> NDArray[np.bool_]:
    """Vertices on an open edge."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    flag = np.zeros(count, bool)
    flag[unique[times == 1]] = True
    return flag


def _cost(mesh: _Mesh, u: int, v: int, weight: Double) -> float:
    """Squared distance of v to the planes around u and v, plus a little for long edges (cm^4)."""
    p = np.append(mesh.points[v], 1.0)
    bend = float(p @ (mesh.quadrics[u] + mesh.quadrics[v]) @ p)
    length = float(((mesh.points[u] - mesh.points[v]) ** 2).sum())
    return (bend + 2e-4 * length * length) * float(weight[u])


def _allowed(mesh: _Mesh, u: int, v: int) -> bool:
    """The link condition (manifold stays manifold) and no triangle turned by more than 60 degrees."""
    shared = mesh.neighbours(u) & mesh.neighbours(v)
    if len(shared) != 2 or not mesh.fans[u] & mesh.fans[v]:
        return False
    for f in mesh.fans[u]:
        triangle = mesh.triangles[f]
        if v in triangle:
            continue
        old = mesh.points[triangle]
        new = mesh.points[np.where(triangle == u, v, triangle)]
        n0 = np.cross(old[1] - old[0], old[2] - old[0])
        n1 = np.cross(new[1] - new[0], new[2] - new[0])
        size = np.linalg.norm(n1)
        if size < 1e-7 or n0 @ n1 < 0.5 * np.linalg.norm(n0) * size:
            return False
    return True


def _collapse(mesh: _Mesh, u: int, v: int) -> None:
    for f in list(mesh.fans[u]):
        triangle = mesh.triangles[f]
        if v in triangle:
            mesh.alive[f] = False
            for w in triangle:
                mesh.fans[int(w)].discard(f)
        else:
            triangle[triangle == u] = v
            mesh.fans[v].add(f)
    mesh.fans[u].clear()
    mesh.quadrics[v] += mesh.quadrics[u]


def simplify(points: Double, triangles: Int, weight: Double, mirror: Int, limit: float) -> Int:
    """Triangles [F', 3] after removing the vertices that matter least.

    ``points`` [V, 3]; ``weight`` [V] multiplies the cost of removing a vertex, ``inf`` keeps it;
    ``mirror`` [V] pairs vertices across the symmetry plane; collapses stop at the cost ``limit``.
    Vertices on open borders stay.
    """
    mesh = _build(points, triangles)
    weight = np.where(_boundary(triangles, len(points)), np.inf, weight)
    heap: list[tuple[float, int, int]] = []

    def push(u: int) -> None:
        if not np.isfinite(weight[u]):
            return
        for v in mesh.neighbours(u):
            # Mid-line vertices may only slide along the mid-line.
            if mirror[u] == u and mirror[v] != v:
                continue
            cost = _cost(mesh, u, v, weight)
            if cost < limit:
                heapq.heappush(heap, (cost, u, v))

    for u in range(len(points)):
        push(u)
    while heap:
        cost, u, v = heapq.heappop(heap)
        if not mesh.fans[u] or not mesh.fans[v] or v not in mesh.neighbours(u):
            continue
        if _cost(mesh, u, v, weight) > cost * 1.0001 + 1e-15 or not _allowed(mesh, u, v):
            continue
        mu, mv = int(mirror[u]), int(mirror[v])
        paired = mu != u
        if paired and (mu in mesh.neighbours(u) or mu == v or mv == u or not np.isfinite(weight[mu])):
            continue
        if paired and (not mesh.fans[mu] or mv not in mesh.neighbours(mu) or not _allowed(mesh, mu, mv)):
            continue
        _collapse(mesh, u, v)
        if paired and mv in mesh.neighbours(mu):
            _collapse(mesh, mu, mv)
        for w in sorted(mesh.neighbours(v) | {v} | mesh.neighbours(mv) | {mv}):
            push(w)
    return mesh.triangles[mesh.alive]
