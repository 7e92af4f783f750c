"""One eye of one frame in one compiled call: light, white, turned iris, catch-light, the photo's own eye.

:class:`~engine.animators.mesh.eyes.EyeLayer` says what is drawn and prepares it. Both eyes and the mouth are
drawn at once by two threads; what goes through Python between its steps would make each wait for the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyelight import lid_light, pick_triangles
from engine.animators.mesh.geometry import project
from kernels.raster.cpu import draw_textured

__all__ = ["DISC_CM", "GRID", "RINGS", "SPOKES", "EyeMeshes", "EyeTextures", "View", "Window", "draw_eye"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Bytes = NDArray[np.uint8]

GRID = (13, 9)
"""Columns and rows of the white's mesh."""
RINGS, SPOKES = 5, 28
"""Of the iris mesh."""
DISC_CM = 1.3
"""Iris plane in front of the eyeball's centre."""
_GLINT_SHARE = 0.5  # how far a catch-light follows the iris
_MAX_PITCH, _MAX_YAW = 0.42, 0.62  # rad, turn away from the photo's own gaze


class EyeMeshes(NamedTuple):
    """Points of one prepared eye; model space (cm) unless said otherwise, ``uv`` in texels."""

    grid: Float
    """[117, 3] the white's mesh, rigid with the skull"""
    grid_uv: Float
    disc: Float
    """[141, 3] iris mesh at the photo's gaze"""
    disc_uv: Float
    quad: Float
    """[4, 3] corners about the catch-light"""
    quad_uv: Float
    centre: Float
    """[3] centre of rotation"""
    lid: Float
    """[9, 2] upper lid in the photo, px, corner to corner"""
    grid_pixels: Float
    """[117, 2] the grid in the photo, px"""
    rest_light: Float
    """[117] light under the upper lid in the photo"""
    pull: Float
    """[117] how much each grid point of the photo's eye shifts with the gaze"""


class EyeTextures(NamedTuple):
    """uint8 RGBA over the same region."""

    photo: Bytes
    white: Bytes
    iris: Bytes
    glint: Bytes


class Window(NamedTuple):
    """A :class:`~kernels.raster.Canvas`, taken apart."""

    pixels: Float
    depth: Float
    x0: int
    y0: int
    sx: int
    sy: int


class View(NamedTuple):
    """How model space is seen in a frame, as :func:`~engine.animators.mesh.geometry.project` takes it."""

    camera: Float
    head: Float
    focal: float
    cx: float
    cy: float
    per_cm: float


def _grid_triangles(columns: int, rows: int) -> Int:
    q = np.arange(columns * rows, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = q[:-1, :-1].ravel(), q[:-1, 1:].ravel(), q[1:, 1:].ravel(), q[1:, :-1].ravel()
    return np.ascontiguousarray(np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)]))


def _disc_triangles(rings: int, spokes: int) -> Int:
    """Vertex 0 is the centre, then ring after ring."""
    k = np.arange(spokes, dtype=np.int32)
    n = (k + 1) % spokes
    parts = [np.stack([np.zeros_like(k), 1 + k, 1 + n], 1)]
    for r in range(rings - 1):
        i, o = 1 + r * spokes, 1 + (r + 1) * spokes
        parts += [np.stack([i + k, o + k, o + n], 1), np.stack([i + k, o + n, i + n], 1)]
    return np.ascontiguousarray(np.concatenate(parts), np.int32)


_GRID_TRIANGLES = _grid_triangles(*GRID)
_DISC_TRIANGLES = _disc_triangles(RINGS, SPOKES)
_QUAD = np.array([[0, 2, 1], [0, 3, 2]], np.int32)


@nb.njit(cache=True, nogil=True)
def _smoothstep(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@nb.njit(cache=True, nogil=True)
def _placed(points: Float, view: View) -> Float:
    """Points [N, 3] that are fixed to the skull, as px and camera distance."""
    out = np.empty((points.shape[0], 3), np.float32)
    follows = np.ones(points.shape[0], np.float32)
    project(points, follows, view.camera, view.head, view.focal, view.cx, view.cy, out)
    return out


@nb.njit(cache=True, nogil=True)
def _rotated(points: Float, centre: Float, pitch: float, yaw: float) -> Float:
    """Points [N, 3] turned about ``centre``: yaw turns +z towards +x, pitch turns +z towards +y."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    out = np.empty((points.shape[0], 3), np.float32)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] - centre[0], points[i, 1] - centre[1], points[i, 2] - centre[2]
        y, z = cp * y + sp * z, cp * z - sp * y
        out[i, 0] = cy * x + sy * z + centre[0]
        out[i, 1] = y + centre[1]
        out[i, 2] = cy * z - sy * x + centre[2]
    return out


@nb.njit(cache=True, nogil=True)
def _farthest(a: Float, b: Float) -> float:
    """Largest difference in x or y of points [N, >= 2]."""
    most = 0.0
    for i in range(a.shape[0]):
        most = max(most, abs(a[i, 0] - b[i, 0]), abs(a[i, 1] - b[i, 1]))
    return most


@nb.njit(cache=True, nogil=True)
def _painted(
    window: Window, xyz: Float, triangles: Int, texture: Bytes, uv: Float, alpha: float, light: Float
) -> None:
    """Textured triangles in paint order; shadows on the eyeball are warm: red fades least."""
    vertex = np.empty((xyz.shape[0], 6), np.float32)
    for i in range(xyz.shape[0]):
        vertex[i, 0], vertex[i, 1], vertex[i, 2] = uv[i, 0], uv[i, 1], alpha
        vertex[i, 3], vertex[i, 4], vertex[i, 5] = light[i] ** 0.85, light[i], light[i] ** 1.05
    w = window
    draw_textured(
        w.pixels, w.depth, w.x0, w.y0, w.sx, w.sy, xyz, triangles, texture, vertex, False, False, False
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _draw_iris(
    window: Window,
    view: View,
    eye: EyeMeshes,
    textures: EyeTextures,
    gaze: tuple[float, float],
    lids: tuple[Float, Float],
    glint: tuple[bool, float, float, float],
    presence: float,
) -> None:
    disc = _placed(_rotated(eye.disc, eye.centre, gaze[0], gaze[1]), view)
    light, _ = lid_light(disc, lids[0], lids[1])
    _painted(window, disc, _DISC_TRIANGLES, textures.iris, eye.disc_uv, presence, light)
    shown, offset_x, offset_y, radius = glint
    if not shown:
        return
    quad, still = _placed(eye.quad, view), _placed(eye.disc[:1], view)
    x, y = disc[0, 0] - still[0, 0], disc[0, 1] - still[0, 1]
    quad[:, 0] += np.float32(_GLINT_SHARE * x)
    quad[:, 1] += np.float32(_GLINT_SHARE * y)
    # A reflection that slides off the cornea goes out.
    rest = 1.0 - _GLINT_SHARE
    off = math.hypot(offset_x - rest * x, offset_y - rest * y) / radius
    left = presence * (1.0 - _smoothstep(0.62, 0.92, off))
    _painted(window, quad, _QUAD, textures.glint, eye.quad_uv, left, np.ones(4, np.float32))


@nb.njit(cache=True, nogil=True)
def _shifted(
    view: View, eye: EyeMeshes, grid: Float, gaze: tuple[float, float], reliable: bool, radius: float
) -> Float:
    """The eye's own pixels moved with the gaze, strongest where the iris is, still at the lids.

    As far as the iris turns while the photo fades into its parts (so that both show the same), but
    only a little where the iris is not reliable.
    """
    pitch, yaw = gaze
    if reliable:
        start = _placed(eye.disc[:1], view)
        end = _placed(_rotated(eye.disc[:1], eye.centre, pitch, yaw), view)
        x, y = float(end[0, 0] - start[0, 0]), float(end[0, 1] - start[0, 1])
    else:
        limit = 0.28 * radius
        reach = 0.6 * DISC_CM * view.per_cm
        x, y = math.tanh(yaw * reach / limit) * limit, -math.tanh(pitch * reach / limit) * limit
    out = grid.copy()
    for i in range(out.shape[0]):
        out[i, 0] += eye.pull[i] * x
        out[i, 1] += eye.pull[i] * y
    return out


@nb.njit(cache=True, nogil=True)
def draw_eye(
    window: Window,
    view: View,
    eye: EyeMeshes,
    textures: EyeTextures,
    turned: tuple[float, float],
    lids: tuple[Float, Float],
    reliable: bool,
    glint: tuple[bool, float, float, float],
) -> None:
    """Paint one eye into ``window``; nothing at rest.

    1. ``turned``: pitch and yaw of the gaze, rad, limited softly here.
    2. ``lids``: upper and lower lid of this frame, [9, 2] px each, corner to corner.
    3. ``reliable``: whether the photo's iris was found.
    4. ``glint``: whether there is a catch-light, where it is from the iris centre (x, y; px) and the
       radius of the iris, px.
    """
    pitch, yaw = _MAX_PITCH * math.tanh(turned[0] / _MAX_PITCH), _MAX_YAW * math.tanh(turned[1] / _MAX_YAW)
    grid = _placed(eye.grid, view)
    turn = math.hypot(pitch, yaw) * DISC_CM * view.per_cm
    shift = max(_farthest(grid, eye.grid_pixels), _farthest(lids[0], eye.lid), turn)
    presence = _smoothstep(0.02, 0.3, shift)
    if presence <= 0.0:
        return
    # The photo holds the shadow its own lids cast: only the change is drawn.
    light, seen = lid_light(grid, lids[0], lids[1])
    for i in range(len(light)):
        light[i] = min(max(light[i] / eye.rest_light[i], 0.55), 1.15)
    triangles = np.empty_like(_GRID_TRIANGLES)
    triangles = triangles[: pick_triangles(_GRID_TRIANGLES, seen, triangles)]
    # Share of the photo's own eye: all of it for a still gaze, nothing beyond a few pixels.
    photo = 1.0 - _smoothstep(1.0, 3.5, turn) if reliable else 1.0
    if photo < 1.0:
        _painted(window, grid, triangles, textures.white, eye.grid_uv, presence, light)
        _draw_iris(window, view, eye, textures, (pitch, yaw), lids, glint, presence)
    if photo > 0.0:
        at = _shifted(view, eye, grid, (pitch, yaw), reliable, glint[3])
        _painted(window, at, triangles, textures.photo, eye.grid_uv, photo * presence, light)
