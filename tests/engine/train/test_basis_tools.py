"""Tools of the basis builder: mesh simplification, loops, sliding over the surface."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.train.basis import two_arcs
from engine.train.correspondence import closest_on_surface, mirrored_landmarks
from engine.train.simplify import simplify
from engine.train.units import smoothstep

Double = NDArray[np.float64]
Int = NDArray[np.int64]


def sheet(n: int, height: float = 0.0) -> tuple[Double, Int, Int]:
    """An n x n grid over -1..1, raised in the middle; its triangles and mirror map in x."""
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    z = height * np.exp(-8 * (x**2 + y**2))
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    left = x[:-1, :-1] + x[:-1, 1:] < -1e-9
    one = np.where(left[..., None], np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    two = np.where(left[..., None], np.stack([a, c, d], -1), np.stack([b, c, d], -1))
    triangles = np.concatenate([one.reshape(-1, 3), two.reshape(-1, 3)])
    return np.stack([x, y, z], -1).reshape(-1, 3), triangles, index[:, ::-1].ravel()


def area(points: Double, triangles: Int) -> float:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_flat_sheet_collapses_to_its_border_and_stays_flat_and_whole() -> None:
    points, triangles, mirror = sheet(13)
    fewer = simplify(points, triangles, np.ones(len(points)), mirror, 1e-2)
    assert len(fewer) < 0.5 * len(triangles)
    assert area(points, fewer) == pytest.approx(4.0)
    normals = np.cross(points[fewer[:, 1]] - points[fewer[:, 0]], points[fewer[:, 2]] - points[fewer[:, 0]])
    assert (normals[:, 2] > 0).all()
    border = np.abs(points[:, :2]).max(1) > 0.999
    assert np.isin(np.flatnonzero(border), fewer).all()


def test_result_is_symmetric_and_kept_vertices_stay() -> None:
    points, triangles, mirror = sheet(15, height=0.3)
    weight = np.ones(len(points))
    weight[[100, 101]] = np.inf
    fewer = simplify(points, triangles, weight, mirror, 1e-3)
    assert len(fewer) < 0.8 * len(triangles)
    used = np.unique(fewer)
    assert {100, 101} <= set(used.tolist())
    assert set(mirror[used].tolist()) - set(used.tolist()) <= set(mirror[[100, 101]].tolist())


def test_a_bump_is_kept_longer_than_flat_ground() -> None:
    points, triangles, mirror = sheet(21, height=0.5)
    kept = np.unique(simplify(points, triangles, np.ones(len(points)), mirror, 1e-4))
    near = np.hypot(points[:, 0], points[:, 1]) < 0.5
    inner = np.abs(points[:, :2]).max(1) < 0.99
    share = [np.isin(np.flatnonzero(inner & m), kept).mean() for m in (near, ~near)]
    assert share[0] > share[1]


def test_arcs_of_a_loop() -> None:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    points = np.stack([np.cos(angle), np.sin(angle), np.zeros(12)], 1)
    upper, lower = two_arcs(points, list(range(12)), 6, 0)
    assert upper.tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert lower.tolist() == [6, 7, 8, 9, 10, 11, 0]


def test_smoothstep_runs_either_way() -> None:
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    assert smoothstep(0, 1, x).tolist() == [0, 0, 0.5, 1, 1]
    assert smoothstep(1, 0, x).tolist() == [1, 1, 0.5, 0, 0]


def test_landmarks_mirror_in_pairs() -> None:
    mirror = mirrored_landmarks(load_basis())
    assert (mirror[mirror] == np.arange(468)).all()
    for right, left in ((33, 263), (133, 362), (61, 291), (159, 386), (13, 13), (14, 14), (78, 308)):
        assert mirror[right] == left


def test_sliding_stays_on_the_surface_and_on_its_lip() -> None:
    basis = load_basis()
    at = basis.at_landmarks(basis.mean)
    for landmark, side in ((13, 0.0), (14, 1.0), (4, 0.0), (152, 1.0)):
        tri, bary = closest_on_surface(basis, at[landmark] + np.array([0.02, 0.01, 0.3], np.float32), side)
        found = bary @ basis.mean[tri]
        assert np.linalg.norm(found - at[landmark]) < 0.35
        assert bary.sum() == pytest.approx(1, abs=1e-5)
        assert abs(float(bary @ basis.lower[tri]) - side) < 0.41
