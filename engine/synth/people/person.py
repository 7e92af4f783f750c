"""A whole synthetic person: one look, K frames, everything that is true about them.

>>> studio = Studio(256)
>>> person = studio.person(seed=0, index=7, frames=8)
>>> person.frames.shape, person.motion.shape
((8, 256, 256, 3), (8, 72))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.face.fitter import IS_RELATIVE, NECK_PIVOT
from engine.synth.people.figure import Figure, Pose, Posed, make_figure, pose_figure, rigid
from engine.synth.people.look import Look, draw_look
from engine.synth.people.motions import first_motion, lively_motion, tracked_motions
from engine.synth.people.render import PersonRenderer, blend
from engine.synth.people.scene import Lens, draw_scene, frame_lens, spoil
from engine.synth.people.wear import draw_clothes
from engine.types import MOTION

__all__ = ["Person", "Studio"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator

_SHIFT_SHARE = 0.35  # of the head's shift that the shoulders make too


@dataclass(frozen=True)
class Person:
    """K frames of one person; S px."""

    look: Look
    frames: Bytes
    """uint8 [K, S, S, 3]"""
    motion: Float
    """float32 [K, 72] in the motion space: pose, gaze, eyes, brows, upper cheeks and nose counted from the
    first frame; lips, jaw and lower cheeks absolute; eyeLook and pupil columns 0"""
    absolute: Float
    """float32 [K, 72] the same without reference to the first frame; pose from a frontal head"""
    camera: Float
    """float32 [K, 6] focal, cx, cy (px of S), neck pivot x, y, z in camera space (cm)"""
    landmarks: Float
    """float32 [K, 478, 2] px"""
    labels: Bytes
    """uint8 [K, S, S] values of :data:`~engine.synth.people.model.LABELS`"""
    flow: NDArray[np.float16]
    """float16 [K, S/4, S/4, 2] px of S: where the surface at the middle of each 4 x 4 block was in the
    first frame, minus where it is"""
    flow_valid: Bytes
    """uint8 [K, S/4, S/4] 0 backdrop, 1 a surface, 2 a surface that the first frame shows too"""


class Studio:
    """Makes people; keeps the renderer and nothing about the people it made."""

    def __init__(self, size: int = 256, tracks: list[Float] | None = None) -> None:
        if size % 8 or size < 64:
            raise ValueError(f"size {size} px: give a multiple of 8, at least 64")
        self.size, self.tracks = size, tracks or []
        self.renderer = PersonRenderer(size)

    def person(self, seed: int, index: int, frames: int = 8) -> Person:
        """Person ``index`` of the crowd ``seed``: equal arguments give equal people."""
        rng = np.random.default_rng([seed, index])
        look = draw_look(rng)
        clothes = draw_clothes(rng, look.male)
        scene = draw_scene(rng, look, self.size)
        figure = make_figure(look, clothes)
        absolute = self._motions(rng, frames)
        stand = _standing(rng, scene.distance)
        posed, pose = pose_figure(figure, absolute[0]), stand.pose(absolute[0], figure)
        lens = frame_lens(_rays(posed, pose, self.renderer), scene, self.size)
        self.renderer.begin(look, figure, clothes, scene, lens, posed, pose)
        drawn = []
        for k in range(frames):
            if k:
                posed, pose = pose_figure(figure, absolute[k]), stand.pose(absolute[k], figure)
            drawn.append(self.renderer.draw(posed, pose))
        rgb = np.stack([spoil(d.rgb, scene, rng) for d in drawn])
        camera = np.stack([_camera_row(lens, stand, m, figure) for m in absolute])
        return Person(
            look, rgb, relative_motion(absolute), absolute, camera, np.stack([d.points for d in drawn]),
            np.stack([d.labels for d in drawn]), np.stack([d.flow for d in drawn]),
            np.stack([d.flow_valid for d in drawn]),
        )  # fmt: skip

    def _motions(self, rng: Rng, frames: int) -> Float:
        first = first_motion(rng)
        rows = [first]
        if self.tracks and rng.random() < 0.5:
            rows += list(tracked_motions(self.tracks, rng, first, frames - 1))
        else:
            rows += [lively_motion(rng, first) for _ in range(frames - 1)]
        return np.stack(rows).astype(np.float32)


@dataclass(frozen=True)
class _Standing:
    """Where the shoulders are."""

    rotation: Float
    place: Float

    def pose(self, motion: Float, figure: Figure) -> Pose:
        shift = motion[MOTION.translation] * figure.interocular
        turn = Rotation.from_rotvec(motion[MOTION.rotation]).as_matrix().astype(np.float32)
        return Pose(rigid(turn, self.place + shift), rigid(self.rotation, self.place + _SHIFT_SHARE * shift))


def _standing(rng: Rng, distance: float) -> _Standing:
    turn = rng.normal(0.0, [0.03, 0.12, 0.03])
    rotation = Rotation.from_rotvec(turn).as_matrix().astype(np.float32)
    place = np.array([0.0, -7.5, -distance - 9.0], np.float32)
    return _Standing(rotation, place)


def _rays(posed: Posed, pose: Pose, renderer: PersonRenderer) -> Float:
    """[468, 2] x / d and -y / d of the landmarks."""
    model = renderer.model
    marks = model.basis.at_landmarks(blend(posed.vertices, model.weight, pose))
    return np.asarray(marks[:, :2] * [1.0, -1.0] / -marks[:, 2:], np.float32)


def _camera_row(lens: Lens, stand: _Standing, motion: Float, figure: Figure) -> Float:
    head = stand.pose(motion, figure).head
    return np.array([lens.focal, lens.cx, lens.cy, *(head[:3, :3] @ NECK_PIVOT + head[:3, 3])], np.float32)


def relative_motion(absolute: Float) -> Float:
    """[K, 72] as a fitted clip gives it whose rest is row 0: see :class:`Person`."""
    motion = absolute.copy()
    e = motion[:, MOTION.expression]
    motion[:, MOTION.expression] = np.where(IS_RELATIVE, np.clip(e - e[:1], 0.0, 1.0), e)
    first = Rotation.from_rotvec(absolute[0, MOTION.rotation])
    motion[:, MOTION.rotation] = (
        Rotation.from_rotvec(absolute[:, MOTION.rotation]) * first.inv()
    ).as_rotvec()
    motion[:, MOTION.translation] -= absolute[:1, MOTION.translation]
    motion[:, MOTION.gaze] -= absolute[:1, MOTION.gaze]
    return motion
