"""Distances between generated and real faces, by landmarks that our detector finds in both.

Generated and real frame are looked at in the same region with the same network, and its landmarks fitted
with the portrait's own face model, so that an error of detector or fitter falls on both sides. Distances
are in % of the portrait's inter-ocular distance (outer eye corners, as if seen from the front), angles in
degrees.

* **LMD**: mean distance of 468 landmarks, where they are: head motion counts.
* **LMD-m**: 40 lip landmarks, each frame's mouth centre moved onto the other's.
* **gaze**, **pose**: angle between the two directions of gaze (relative to the head; frames in which the
  real eyes are shut do not count) and between the two rotations of the head.
* **blink**: mean difference of how shut the lids are, 0 open .. 1 shut, both counted from the real clip's
  usual open eye.
* **shape**: distance of the two persons that the fitter sees in six frames each, RMS over 468 landmarks of
  their neutral faces laid onto one another, mm.
* **jitter**: mean second difference in time of the landmarks, %; **jitter error** that of the *difference* of
  generated and real landmarks: it grows with every tremble that the real face does not have, and with
  every movement that is missing, so that a still photo does not win it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.quality.mouth import LIP_LANDMARKS
from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.clip import SHUT, choose_frames, eye_openings
from engine.face.fitter import FaceFit, fit_frame
from engine.face.landmarks import PRESENT, LandmarkModel, roi_from_points
from engine.face.person import fit_person
from engine.face.residual import SILHOUETTE
from engine.types import MOTION

__all__ = [
    "Looks",
    "blink_error",
    "consecutive",
    "face_mask",
    "gaze_error",
    "jitter",
    "jitter_error",
    "landmark_distance",
    "lids_shut",
    "lmd",
    "lmd_mouth",
    "look",
    "mouth_distance",
    "mouth_mask",
    "pose_error",
    "shape_distance",
    "usual_openings",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOST_SHUT = 0.4
"""Eyes that are further shut have no gaze to measure."""
_FAR = 0.08
_LIPS = list(LIP_LANDMARKS)


@dataclass(frozen=True)
class Looks:
    """What the detector and the fitter see in T frames."""

    points: Floats
    """float32 [T, 478, 2] crop px"""
    score: Floats
    """float32 [T], 0..1 that it is a face"""
    motion: Floats
    """float32 [T, 72] relative to the portrait's fit, each frame by itself"""
    rotation: Doubles
    """[T, 3, 3] of the head, from facing the camera"""

    @property
    def found(self) -> Flags:
        """bool [T]: the network sees a face."""
        return np.asarray(self.score >= PRESENT)


def look(frames: list[Bytes], near: Floats, fit: FaceFit, model: LandmarkModel) -> Looks:
    """Find and fit the face in ``frames`` (uint8 [512, 512, 3]), looking where ``near`` [T, 478, 2] px is.

    Looks again around what was found only where that is elsewhere: one region for both sides keeps the
    network's dependence on its region out of the difference.
    """
    points, scores, motion = [], [], []
    unit = fit.interocular_px
    for frame, marks in zip(frames, near, strict=True):
        face = model(frame, roi_from_points(marks))
        if np.linalg.norm(face.points[:468].mean(0) - marks[:468].mean(0)) > _FAR * unit:
            face = model(frame, roi_from_points(face.points))
        points.append(face.points)
        scores.append(face.score)
        motion.append(fit_frame(face.points, fit))
    rows = np.stack(motion)
    turn = Rotation.from_rotvec(rows[:, MOTION.rotation]).as_matrix() @ fit.rotation.astype(float)
    return Looks(np.stack(points), np.array(scores, np.float32), rows, turn)


# -- regions -----------------------------------------------------------------------------------


def face_mask(points: Floats, size: int) -> Flags:
    """bool [size, size]: the face's outline, a tenth wider; ``points`` [478, 2] px."""
    outline = points[SILHOUETTE]
    middle = outline.mean(axis=0)
    return _filled(middle + 1.1 * (outline - middle), size)


def mouth_mask(points: Floats, size: int) -> Flags:
    """bool [size, size]: the box around the lips, 0.7 of their width to either side, 0.55 up and down."""
    lips = points[_LIPS]
    middle, wide = lips.mean(axis=0), float(np.ptp(lips[:, 0]))
    high = max(0.55 * wide, 0.6 * float(np.ptp(lips[:, 1])))
    corners = np.array([[-0.7 * wide, -high], [0.7 * wide, -high], [0.7 * wide, high], [-0.7 * wide, high]])
    return _filled(middle + corners, size)


def _filled(outline: Floats | Doubles, size: int) -> Flags:
    canvas = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.round(outline).astype(np.int32))
    cv2.fillConvexPoly(canvas, hull, (1,))
    return np.asarray(canvas > 0)


# -- distances ---------------------------------------------------------------------------------


def lmd(made: Looks, real: Looks, unit_px: float) -> float:
    """Mean landmark distance, %."""
    return landmark_distance(made.points, real.points, unit_px)


def lmd_mouth(made: Looks, real: Looks, unit_px: float) -> float:
    """The same of the lips, mouth centre onto mouth centre, %."""
    return mouth_distance(made.points, real.points, unit_px)


def landmark_distance(made: Floats, real: Floats, unit_px: float) -> float:
    """LMD of landmarks [T, >= 468, 2] px, %."""
    away = made[:, :468] - real[:, :468]
    return 100.0 * float(np.linalg.norm(away, axis=-1).mean()) / unit_px


def mouth_distance(made: Floats, real: Floats, unit_px: float) -> float:
    """LMD-m of landmarks [T, >= 468, 2] px, %."""
    a, b = made[:, _LIPS], real[:, _LIPS]
    away = (a - a.mean(axis=1, keepdims=True)) - (b - b.mean(axis=1, keepdims=True))
    return 100.0 * float(np.linalg.norm(away, axis=-1).mean()) / unit_px


def lids_shut(looks: Looks, usual: Doubles) -> Doubles:
    """[T] 0 open .. 1 shut, mean of both eyes; ``usual`` [2] openings of the left and right eye when open."""
    openings = eye_openings(looks.points, looks.rotation)
    shut = [
        np.clip((1.0 - opening / max(own, 1e-6)) / (1.0 - SHUT), 0.0, 1.0)
        for opening, own in zip(openings, usual, strict=True)
    ]
    return np.asarray(np.mean(shut, axis=0), np.float64)


def usual_openings(real: Looks) -> Doubles:
    """[2] the median openings of the left and right eye."""
    return np.array([float(np.median(eye)) for eye in eye_openings(real.points, real.rotation)])


def blink_error(made: Looks, real: Looks) -> float:
    """Mean absolute difference of :func:`lids_shut`."""
    usual = usual_openings(real)
    return float(np.abs(lids_shut(made, usual) - lids_shut(real, usual)).mean())


def gaze_error(made: Looks, real: Looks) -> float:
    """Mean angle between the directions of gaze, degrees; NaN if the real eyes are never open."""
    open_eyes = lids_shut(real, usual_openings(real)) < MOST_SHUT
    if not open_eyes.any():
        return float("nan")
    a, b = (_direction(v.motion[open_eyes][:, MOTION.gaze].astype(float)) for v in (made, real))
    return float(np.degrees(np.arccos(np.clip((a * b).sum(axis=-1), -1.0, 1.0))).mean())


def _direction(gaze: Doubles) -> Doubles:
    """Unit vectors [T, 3] of pitch and yaw [T, 2], rad."""
    pitch, yaw = gaze[:, 0], gaze[:, 1]
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=1)


def pose_error(made: Looks, real: Looks) -> float:
    """Mean angle of the rotation from one head to the other, degrees."""
    away = Rotation.from_matrix(made.rotation) * Rotation.from_matrix(real.rotation).inv()
    return float(np.degrees(away.magnitude()).mean())


def jitter(looks: Looks, runs: list[slice], unit_px: float) -> float:
    """Mean length of the landmarks' second difference within ``runs`` of consecutive frames, %."""
    return _second_difference(looks.points[:, :468].astype(float), runs, unit_px)


def jitter_error(made: Looks, real: Looks, runs: list[slice], unit_px: float) -> float:
    """The same of the difference of generated and real landmarks, %."""
    away = made.points[:, :468].astype(float) - real.points[:, :468]
    return _second_difference(away, runs, unit_px)


def _second_difference(points: Floats | Doubles, runs: list[slice], unit_px: float) -> float:
    parts = []
    for run in runs:
        marks = points[run]
        if len(marks) > 2:
            parts.append(np.linalg.norm(marks[2:] - 2.0 * marks[1:-1] + marks[:-2], axis=-1).ravel())
    return 100.0 * float(np.concatenate(parts).mean()) / unit_px if parts else float("nan")


def shape_distance(made: Looks, real: Looks, size: int) -> float:
    """RMS distance of the neutral faces that six frames each show, mm; NaN where a side shows no face."""
    chosen = choose_frames(real.points, real.found)
    try:
        fits = [fit_person(looks.points[chosen], (size, size)) for looks in (made, real)]
    except (FaceError, np.linalg.LinAlgError):
        return float("nan")
    marks = [load_basis().at_landmarks(fit.neutral()).astype(float) for fit in fits]
    return 10.0 * _apart(marks[0], marks[1])


def _apart(a: Doubles, b: Doubles) -> float:
    """RMS distance of two point sets [N, 3] after the best rotation and shift."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    turn, _ = Rotation.align_vectors(b, a)
    return float(np.sqrt(((turn.apply(a) - b) ** 2).sum(axis=1).mean()))


def consecutive(frames: list[int]) -> list[slice]:
    """Slices of ``frames`` (increasing) in which one frame follows another."""
    breaks = [k + 1 for k, (a, b) in enumerate(pairwise(frames)) if b != a + 1]
    edges = [0, *breaks, len(frames)]
    return [slice(a, b) for a, b in pairwise(edges)]
