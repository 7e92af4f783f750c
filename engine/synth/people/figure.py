"""One person as geometry: neutral head, hair, clothes, glasses; and what a motion makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from engine.animators.mesh.geometry import deform, unit_normals
from engine.face.fitter import NECK_PIVOT
from engine.synth.people.beard import grow_beard
from engine.synth.people.cards import Cards
from engine.synth.people.hair import grow_hair
from engine.synth.people.look import Look
from engine.synth.people.model import head_model
from engine.synth.people.wear import Clothes, Mesh, clothes_mesh, frame_mesh, lens_mesh
from engine.types import EXPRESSION_NAMES, MOTION

__all__ = ["Figure", "Pose", "Posed", "make_figure", "pose_figure"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

_BLINK = [EXPRESSION_NAMES.index("eyeBlinkLeft"), EXPRESSION_NAMES.index("eyeBlinkRight")]
_LOOK = {n: EXPRESSION_NAMES.index(n) for n in EXPRESSION_NAMES if n.startswith("eyeLook")}
_WET = 0.015  # cm between ball and lid
IRIS_DEPTH = 1.372
"""From the middle of an eyeball to the plane of its iris, cm."""


@dataclass(frozen=True)
class Pose:
    """Where head and shoulders are: [4, 4] head coordinates to camera space."""

    head: Float
    body: Float


@dataclass(frozen=True)
class Figure:
    """What stays of a person from frame to frame."""

    neutral: Float
    """[V, 3]"""
    normals: Float
    """[V', 3] of the neutral skin"""
    centres: Float
    """[2, 3] of the left and right eyeball"""
    lid_close: tuple[tuple[Int, Float], ...]
    """per eye: vertices and the move [n, 3] that closes what a full blink leaves open"""
    near_eye: tuple[Int, ...]
    """per eye: skin vertices that may not enter the ball"""
    interocular: float
    hair: Cards | None
    beard: Cards | None
    clothes: Mesh
    frame: Mesh | None
    lens: Mesh | None


@dataclass(frozen=True)
class Posed:
    """Vertices of one frame in head coordinates, before the head's motion."""

    vertices: Float
    normals: Float
    soft: Float
    """[V', 3] skin normals averaged over a few millimetres"""
    axes: Float
    """[2, 3] where the left and the right eye look"""


def _normals(vertices: Float) -> Float:
    out = np.empty_like(vertices)
    unit_normals(vertices, head_model().basis.triangles, np.eye(3, dtype=np.float32), out)
    return out


def _lid_gap(neutral: Float, unit: int, rows: tuple[Int, Int]) -> tuple[Int, Float]:
    """What is missing when the lids of this head blink fully."""
    basis = head_model().basis
    shut = neutral + basis.expression[unit]
    upper, lower = shut[rows[0]], shut[rows[1]]
    order_l = np.argsort(lower[:, 0])
    meet = np.stack([np.interp(upper[:, 0], lower[order_l, 0], lower[order_l, k]) for k in range(3)], 1)
    gap = np.where((upper[:, 1] > meet[:, 1])[:, None], meet - upper, 0.0)
    ends = np.minimum(np.arange(len(upper)), np.arange(len(upper))[::-1]) < 1
    gap[ends] = 0.0
    gap[:, 1] -= 0.03 * ~ends
    around = np.flatnonzero(basis.mean[: basis.skin.stop, 2] > 5.0)
    around = around[np.abs(shut[around] - upper.mean(0)).max(1) < 3.0]
    distance, nearest = cKDTree(upper).query(shut[around])
    above = basis.mean[around, 1] > np.interp(basis.mean[around, 0], *_margin(basis.mean, rows[0])) - 0.1
    kept = (distance < 0.9) & above
    fall = np.exp(-((distance[kept] / 0.4) ** 2))[:, None]
    return around[kept].astype(np.int32), (gap[nearest[kept]] * fall).astype(np.float32)


def _margin(mean: Float, row: Int) -> tuple[Float, Float]:
    order = row[np.argsort(mean[row, 0])]
    return mean[order, 0], mean[order, 1]


@lru_cache(maxsize=2)
def _eye_moves(eye: int) -> Float:
    """[80, 3] how identity moves an eyeball as a whole."""
    model = head_model()
    return np.asarray(model.basis.identity[:, model.eye_slices[eye]].mean(1), np.float32)


@nb.njit(cache=True, nogil=True, fastmath=True)
def _averaged(start: Int, neighbour: Int, share: Float, steps: int, normals: Float, out: Float) -> None:
    """``steps`` times the sparse matrix (start, neighbour, share) on ``normals`` [N, 3]."""
    other = normals.copy()
    for step in range(steps):
        for i in range(len(start) - 1):
            x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(start[i], start[i + 1]):
                k, w = neighbour[j], share[j]
                x += w * other[k, 0]
                y += w * other[k, 1]
                z += w * other[k, 2]
            out[i, 0], out[i, 1], out[i, 2] = x, y, z
        if step + 1 < steps:
            other[:] = out


def make_figure(look: Look, clothes: Clothes) -> Figure:
    """Geometry of a person."""
    model = head_model()
    basis, count = model.basis, len(model.hair)
    neutral = basis.shape(look.identity)
    centres = np.empty((2, 3), np.float32)
    for k, part in enumerate(model.eye_slices):
        moved = (look.identity @ _eye_moves(k)).astype(np.float32)
        neutral[part] = basis.mean[part] + moved
        centres[k] = basis.eye_centre[k] + moved
    normals = _normals(neutral)[:count]
    rows = (basis.lid_left, basis.lid_right)
    distance = [np.linalg.norm(basis.mean[:count] - c, axis=1) for c in basis.eye_centre]
    face = basis.vertex_part[:count] == 0
    marks = basis.at_landmarks(neutral)
    return Figure(
        neutral=neutral,
        normals=normals,
        centres=centres,
        lid_close=tuple(_lid_gap(neutral, u, r) for u, r in zip(_BLINK, rows, strict=True)),
        near_eye=tuple(np.flatnonzero(face & (d < 2.4)).astype(np.int32) for d in distance),
        interocular=float(np.linalg.norm(marks[33] - marks[263])),
        hair=grow_hair(look, neutral, normals),
        beard=grow_beard(look, neutral, normals),
        clothes=clothes_mesh(clothes, neutral),
        frame=frame_mesh(look.glasses, neutral) if look.glasses else None,
        lens=lens_mesh(look.glasses, neutral) if look.glasses else None,
    )


def _with_gaze(expression: Float, pitch: float, yaw: float) -> Float:
    """Lids follow the eyes."""
    e = expression.copy()
    for side, out in (("Left", yaw), ("Right", -yaw)):
        e[_LOOK[f"eyeLookDown{side}"]] = np.clip(-pitch / 0.5, 0, 1)
        e[_LOOK[f"eyeLookUp{side}"]] = np.clip(pitch / 0.5, 0, 1)
        e[_LOOK[f"eyeLookOut{side}"]] = np.clip(out / 0.7, 0, 1)
        e[_LOOK[f"eyeLookIn{side}"]] = np.clip(-out / 0.7, 0, 1)
    shut = e[_BLINK]
    for side, closed in zip(("Left", "Right"), shut, strict=True):
        for name in ("Down", "Up", "In", "Out"):
            e[_LOOK[f"eyeLook{name}{side}"]] *= 1.0 - closed
    return e


def pose_figure(figure: Figure, motion: Float) -> Posed:
    """The head in absolute ``motion`` [72] (pose columns are not applied here)."""
    model = head_model()
    pitch, yaw = (float(v) for v in motion[MOTION.gaze])
    expression = _with_gaze(motion[MOTION.expression], pitch, yaw)
    vertices = np.empty_like(figure.neutral)
    u = model.units
    deform(figure.neutral, expression, u.offset, u.vertex, u.value, vertices)
    for eye, unit in enumerate(_BLINK):
        chosen, move = figure.lid_close[eye]
        vertices[chosen] += np.float32(expression[unit] ** 2) * move
    _keep_out(figure, vertices)
    turn = (Rotation.from_euler("y", yaw) * Rotation.from_euler("x", -pitch)).as_matrix().astype(np.float32)
    axes = np.empty((2, 3), np.float32)
    for eye, part in enumerate(model.eye_slices):
        vertices[part] = (vertices[part] - figure.centres[eye]) @ turn.T + figure.centres[eye]
        iris = model.basis.part("iris_left" if eye == 0 else "iris_right")
        axis = vertices[iris].mean(0) - figure.centres[eye]
        axes[eye] = axis / np.linalg.norm(axis)
    normals = _normals(vertices)
    soft = np.empty((len(model.hair), 3), np.float32)
    around = model.smooth
    _averaged(around.indptr, around.indices, around.data, 5, normals[: len(soft)], soft)
    return Posed(vertices, normals, soft, axes)


def _keep_out(figure: Figure, vertices: Float) -> None:
    """Lids lie on the eyeball, never inside."""
    for eye, chosen in enumerate(figure.near_eye):
        d = vertices[chosen] - figure.centres[eye]
        r = np.linalg.norm(d, axis=1)
        least = float(head_model().basis.eye_radius[eye]) + _WET
        inside = (r < least) & (d[:, 2] > 0.3)
        vertices[chosen[inside]] += d[inside] * (least / r[inside] - 1.0)[:, None]


def rigid(rotation: Float, place: Float) -> Float:
    """[4, 4] that turns about the neck pivot, which comes to ``place`` [3] in camera space."""
    out = np.eye(4, dtype=np.float32)
    out[:3, :3] = rotation
    out[:3, 3] = place - rotation @ NECK_PIVOT
    return out
