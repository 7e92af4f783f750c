"""Compiles the mesh animator's kernels, so that the first session does not wait for it.

``python -m engine.animators.mesh.warm_up``; numba caches the result beside the sources.
"""

from __future__ import annotations

import numpy as np

from engine.animators.mesh.eyedraw import EyeMeshes, EyeTextures, View, Window, draw_eye
from engine.animators.mesh.geometry import carry, deform, mesh_attributes, project, unit_normals
from engine.animators.mesh.grid import hold_borders
from engine.animators.mesh.pixels import (
    average_window,
    blend_map,
    fill_window,
    keep_inside,
    paint_face,
    soften_edges,
)
from kernels.raster import Canvas, draw_coloured, draw_textured, raster_attributes
from kernels.warp import compose, dense_map, invert_grid

__all__ = ["warm_up"]


def warm_up() -> None:
    """Call every compiled function once with the argument types of the real frames."""
    _geometry()
    _pixels()
    _eye()


def _geometry() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    triangle = np.array([[0, 1, 2]], np.int32)
    ids = np.arange(3, dtype=np.int32)
    zeros = np.zeros((3, 3), np.float32)
    out = np.zeros((3, 3), np.float32)
    camera = np.eye(3, 4, dtype=np.float32)
    camera[2, 3] = -100.0
    head = np.eye(3, 4, dtype=np.float32)
    weight = np.ones(3, np.float32)
    offset = np.array([0, 3], np.int32)
    deform(points, np.ones(1, np.float32), offset, ids, zeros, out)
    project(points, weight, camera, head, 1500.0, 256.0, 256.0, out)
    unit_normals(points, triangle, np.eye(3, dtype=np.float32), out)
    carry(points, triangle, np.full((1, 3), 1 / 3, np.float32), np.zeros((1, 2), np.float32))
    mesh_attributes(
        points, ids, zeros[:, :2].copy(), weight, np.zeros((3, 5), np.float32), np.zeros(2, np.float32),
        out, zeros.copy(), np.zeros((3, 7), np.float32),
    )  # fmt: skip


def _pixels() -> None:
    canvas = Canvas.window(0, 0, 8, 8, sx=2, sy=2)
    xyz = np.array([[0, 0, 1], [0, 8, 1], [8, 0, 1]], np.float32)
    triangle = np.array([[0, 1, 2]], np.int32)
    frame = np.zeros((16, 16, 3), np.uint8)
    positions = np.zeros((16, 16, 2), np.float32)
    attributes = np.zeros((16, 16, 7), np.float32)
    draw_coloured(canvas, xyz, triangle, np.ones((3, 4), np.float32))
    draw_textured(canvas, xyz, triangle, np.zeros((4, 4, 4), np.uint8), xyz[:, :2].copy())
    for size in (3, 7):
        out = np.zeros((16, 16, size), np.float32)
        raster_attributes(out, canvas.depth, xyz, triangle, np.zeros((3, size), np.float32))
    grid = np.zeros((3, 3, 2), np.float32)
    invert_grid(grid, grid.copy(), 8.0)
    hold_borders(grid.reshape(-1, 2), np.zeros((9, 4), np.float32))
    dense_map(grid, positions, 8)
    blend_map(positions, attributes[..., :3].copy(), canvas.depth, 0, 0)
    soften_edges(frame, attributes[..., :3].copy(), canvas.depth, 0, 0, 0, 16)
    keep_inside(positions, 2.0, 4, 0, len(positions))
    compose(np.zeros((16, 16, 4), np.uint8), frame.copy(), frame)
    fill_window(canvas.pixels, frame, 0, 0, 2, 2)
    paint_face(canvas.pixels, attributes, canvas.depth, positions, frame, frame, (0, 0, 2, 2))
    average_window(canvas.pixels, frame, 0, 0, 2, 2)


if __name__ == "__main__":
    warm_up()


def _eye() -> None:
    canvas = Canvas.window(0, 0, 8, 8, sx=2, sy=2)
    grid, disc, quad = (np.full((n, 3), -1.0, np.float32) for n in (117, 141, 4))
    uv = [np.zeros((n, 2), np.float32) for n in (117, 141, 4)]
    lid, one = np.zeros((9, 2), np.float32), np.ones(117, np.float32)
    meshes = EyeMeshes(
        grid, uv[0], disc, uv[1], quad, uv[2], np.zeros(3, np.float32), lid,
        uv[0], one, one,
    )  # fmt: skip
    camera = np.eye(3, 4, dtype=np.float32)
    view = View(camera, camera.copy(), 1500.0, 256.0, 256.0, 14.0)
    window = Window(canvas.pixels, canvas.depth, 0, 0, 2, 2)
    textures = EyeTextures(*(np.zeros((4, 4, 4), np.uint8) for _ in range(4)))
    draw_eye(window, view, meshes, textures, (0.1, 0.1), (lid, lid), True, (True, 0.0, 0.0, 5.0))
