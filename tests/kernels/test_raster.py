"""The fast rasteriser against the reference, and its fill rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.raster import Canvas, draw_coloured, draw_textured, raster_attributes

Float = NDArray[np.float32]
Int = NDArray[np.int32]


def f32(values: Any) -> Float:
    return np.array(values, np.float32)


def i32(values: Any) -> Int:
    return np.array(values, np.int32)


def scene(seed: int, vertices: int = 40, triangles: int = 60) -> tuple[Float, Int]:
    """Random triangles around a 40 x 30 window, many of them partly outside."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-8, -8, 10], [48, 38, 20], (vertices, 3)).astype(np.float32)
    return xyz, rng.integers(0, vertices, (triangles, 3)).astype(np.int32)


def grid(n: int, seed: int = 0) -> tuple[Float, Int]:
    """A jittered grid of triangles that covers [-4, 44] x [-4, 34] exactly once."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-4, 34, n), np.linspace(-4, 44, n), indexing="ij")
    xyz = np.stack([x, y, np.full_like(x, 10.0)], -1)
    xyz[1:-1, 1:-1, :2] += rng.uniform(-0.2, 0.2, (n - 2, n - 2, 2))
    q = np.arange(n * n).reshape(n, n)
    a, b, c, d = q[:-1, :-1].ravel(), q[:-1, 1:].ravel(), q[1:, 1:].ravel(), q[1:, :-1].ravel()
    mesh = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    return xyz.reshape(-1, 3).astype(np.float32), mesh.astype(np.int32)


@pytest.mark.parametrize("size", [(30, 40), (31, 37), (1, 5), (17, 3)])
@pytest.mark.parametrize("scale", [(1, 1), (2, 2), (2, 4), (3, 1)])
@pytest.mark.parametrize("cull", [False, True])
def test_attributes_equal_reference(size: tuple[int, int], scale: tuple[int, int], cull: bool) -> None:
    xyz, triangles = scene(1)
    attributes = np.random.default_rng(2).normal(size=(len(xyz), 5)).astype(np.float32)
    results = []
    for impl in ("cpu", "reference"):
        big = np.zeros((size[0] * scale[1] + 3, size[1] * scale[0] + 2, 5), np.float32)
        depth = np.full(big.shape[:2], np.inf, np.float32)
        out, z = big[3:, 2:], depth[3:, 2:]  # strided views
        raster_attributes(
            out, z, xyz, triangles, attributes, x0=3, y0=-2, sx=scale[0], sy=scale[1], cull=cull, impl=impl
        )
        assert not big[:3].any()
        assert np.isinf(depth[:3]).all()
        results.append((out, z))
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-4)
    assert np.isfinite(results[0][1]).any()


@pytest.mark.parametrize(("test", "write"), [(True, True), (False, False), (True, False)])
def test_drawing_equals_reference(test: bool, write: bool) -> None:
    rng = np.random.default_rng(3)
    xyz, triangles = scene(4)
    rgba = rng.uniform(0, [255, 255, 255, 1], (len(xyz), 4)).astype(np.float32)
    texture = rng.integers(0, 256, (13, 9, 4)).astype(np.uint8)
    uv = rng.uniform(-2, 14, (len(xyz), 2)).astype(np.float32)
    alpha = rng.uniform(0, 1, len(xyz)).astype(np.float32)
    shade = rng.uniform(0, 1.2, (len(xyz), 3)).astype(np.float32)
    results = []
    for impl in ("cpu", "reference"):
        canvas = Canvas.window(2, 1, 33, 27, sx=2, sy=3)
        canvas.pixels[:] = 40
        draw_coloured(canvas, xyz, triangles, rgba, test=test, write=write, impl=impl)
        draw_textured(canvas, xyz, triangles, texture, uv, alpha, shade, test=test, write=write, impl=impl)
        results.append(canvas)
    np.testing.assert_allclose(results[0].pixels, results[1].pixels, atol=0.02)
    np.testing.assert_allclose(results[0].depth, results[1].depth, rtol=1e-5)
    assert results[0].pixels.std() > 5


@pytest.mark.parametrize("scale", [(1, 1), (2, 4)])
def test_no_cracks_and_no_double_hits(scale: tuple[int, int]) -> None:
    """Additive half-transparent painting of a tiling hits every sample exactly once."""
    xyz, triangles = grid(41)
    canvas = Canvas.window(0, 0, 40, 30, sx=scale[0], sy=scale[1])
    rgba = np.tile(f32([200, 100, 50, 0.5]), (len(xyz), 1))
    draw_coloured(canvas, xyz, triangles, rgba, test=False, write=False)
    np.testing.assert_allclose(canvas.pixels, np.broadcast_to([100, 50, 25], canvas.pixels.shape), rtol=1e-5)


def test_shared_edges_on_sample_centres_are_owned_once() -> None:
    """Edges that run exactly through sample centres are the worst case of a fill rule."""
    xyz = f32([[0, 0, 1], [8, 0, 1], [8, 8, 1], [0, 8, 1], [4, 4, 1]])
    triangles = i32([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    canvas = Canvas.window(0, 0, 9, 9)
    rgba = np.tile(f32([100, 100, 100, 0.5]), (5, 1))
    draw_coloured(canvas, xyz, triangles, rgba, test=False, write=False)
    hits = canvas.pixels[..., 0] / 50
    assert set(np.unique(hits)) <= {0.0, 1.0}
    assert hits[:8, :8].all()


def test_supersampled_edge_resolves_to_coverage() -> None:
    xyz = f32([[-1, -1, 1], [4.0, -1, 1], [4.0, 9, 1], [-1, 9, 1]])
    canvas = Canvas.window(0, 0, 8, 8, sx=4, sy=1)
    draw_coloured(canvas, xyz, i32([[0, 1, 2], [0, 2, 3]]), np.tile(f32([255] * 3 + [1]), (4, 1)))
    row = canvas.resolve()[3, :, 0] / 255
    np.testing.assert_allclose(row, [1, 1, 1, 1, 0.5, 0, 0, 0])


def test_culling_keeps_triangles_that_face_the_camera() -> None:
    # Counter-clockwise with y up, i.e. clockwise indices on the y-down screen.
    xyz = f32([[0, 8, 1], [8, 8, 1], [4, 0, 1]])
    rgba = np.full((3, 4), 1, np.float32)
    drawn = []
    for order in ([[0, 1, 2]], [[0, 2, 1]]):
        canvas = Canvas.window(0, 0, 9, 9)
        draw_coloured(canvas, xyz, i32(order), rgba, cull=True)
        drawn.append(bool(canvas.pixels.any()))
    assert drawn == [True, False]


def test_wrong_shapes_are_named() -> None:
    canvas = Canvas.window(0, 0, 4, 4)
    xyz, triangles = scene(5)
    with pytest.raises(ValueError, match=r"rgba must be float32 \[40, 4\]"):
        draw_coloured(canvas, xyz, triangles, np.zeros((40, 3), np.float32))
    with pytest.raises(ValueError, match="xyz must be float32"):
        draw_coloured(canvas, xyz.astype(np.float64), triangles, np.zeros((40, 4), np.float32))
