"""From a picture to a portrait: find the face, judge it, crop it, fit it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import FaceError
from engine.face.crop import CROP_SIDE, CropBox, crop_box, cut, face_width
from engine.face.detector import FaceDetector
from engine.face.fitter import FaceFit, fit_face
from engine.face.image import Picture
from engine.face.landmarks import Landmarks, find_faces

__all__ = [
    "DOMINANT",
    "MAX_YAW",
    "MIN_FACE_PX",
    "Portrait",
    "analyse_portrait",
    "check_turn",
    "choose_face",
    "turn_of",
]

Bytes = NDArray[np.uint8]
Double = NDArray[np.float64]

MIN_FACE_PX = 64
MAX_YAW = np.radians(60.0)
DOMINANT = 0.35
"""Faces narrower than this share of the widest one need no choice."""

_DOUBTFUL_YAW = np.radians(30.0)
# Distance of the nose from the middle between the ears, in ear distances, and the turn of the head in
# degrees: medians over renders of random heads from both sides.
_NOSE_BETWEEN_EARS = (
    (0.0, 0.50, 0.61, 0.73, 0.86, 0.98, 1.08, 1.24, 1.56),
    (0.0, 30.0, 40.0, 50.0, 60.0, 65.0, 70.0, 80.0, 90.0),
)


@dataclass(frozen=True)
class Portrait:
    """One analysed face: all that an animator needs to prepare an identity."""

    crop: Bytes
    """uint8 [512, 512, 3]"""
    crop_alpha: Bytes | None
    """uint8 [512, 512] where the picture is transparent, else None"""
    crop_from_image: Double
    """[2, 3] picture pixel centres to crop pixel centres; its inverse pastes frames back"""
    landmarks: Landmarks
    """in crop px"""
    fit: FaceFit
    """in crop px"""
    picture: Picture


def analyse_portrait(picture: Picture, face: int | None = None) -> Portrait:
    """Find, crop and fit a face.

    Args:
        picture: as :func:`engine.face.image.load_image` gives it.
        face: number of the face to take, counted from 1 in the order of the error message (widest
            first); only needed where several faces are of similar size.

    Raises:
        FaceError: no face, several faces and none chosen, a face under 64 px, or turned away by
            more than 60 degrees. The message names the remedy.
        AssetError: face-model files are missing.
    """
    found = choose_face(find_faces(picture.rgb), face, picture)
    wide = face_width(found.points)
    if wide < MIN_FACE_PX:
        raise FaceError(
            f"the face in {_name(picture)} is only {wide:.0f} px wide, at least {MIN_FACE_PX} are needed: "
            "give a larger or closer photo"
        )
    box = crop_box(found.points, picture.width, picture.height)
    landmarks = _into_crop(found, box)
    fit = fit_face(landmarks.points, CROP_SIDE)
    crop = cut(picture.rgb, box)
    check_turn(turn_of(fit, crop), picture)
    alpha = None if picture.alpha is None else cut(picture.alpha, box)
    return Portrait(crop, alpha, box.crop_from_image, landmarks, fit, picture)


def turn_of(fit: FaceFit, crop: Bytes) -> float:
    """How far the head is turned to the side, rad >= 0.

    Beyond about 45 degrees the landmark network draws a half-hidden face as if it were turned less,
    but the detector's ears and nose go on moving: where both say that the head is turned a lot, the
    larger counts.
    """
    turn = abs(fit.yaw)
    if turn < _DOUBTFUL_YAW:
        return turn
    middle = fit.project(np.array([[0.0, 0.0, 9.0]], np.float32))[0, :2]
    for found in FaceDetector().detect(crop, thorough=False):
        if (found.box[:2] < middle).all() and (middle < found.box[2:]).all():
            nose, right_ear, left_ear = found.keypoints[[2, 4, 5]].astype(float)
            across = left_ear - right_ear
            share = abs((nose - (left_ear + right_ear) / 2) @ across) / max(across @ across, 1e-3)
            turn = max(turn, float(np.radians(np.interp(share, *_NOSE_BETWEEN_EARS))))
    return turn


def check_turn(turn: float, picture: Picture) -> None:
    """FaceError if the face is seen more from the side than can be animated; ``turn`` in rad."""
    if turn > MAX_YAW:
        raise FaceError(
            f"the face in {_name(picture)} is turned {np.degrees(turn):.0f} degrees to the side, at "
            f"most {np.degrees(MAX_YAW):.0f} can be animated: give a photo that looks more to the camera"
        )


def _name(picture: Picture) -> str:
    return picture.source or "the picture"


def choose_face(faces: list[Landmarks], face: int | None, picture: Picture) -> Landmarks:
    """The face to animate; FaceError if there is none, or several and ``face`` does not say which."""
    if not faces:
        raise FaceError(
            f"no face found in {_name(picture)}: give a photo in which one face looks roughly to the camera, "
            "well lit and not covered"
        )
    faces = sorted(faces, key=lambda f: face_width(f.points), reverse=True)
    if face is not None:
        if not 1 <= face <= len(faces):
            raise FaceError(
                f"there is no face {face} in {_name(picture)}, choose 1 to {len(faces)}: {_list(faces)}"
            )
        return faces[face - 1]
    widest = face_width(faces[0].points)
    rivals = [f for f in faces if face_width(f.points) >= DOMINANT * widest]
    if len(rivals) > 1:
        raise FaceError(f"{len(rivals)} faces in {_name(picture)}: choose one with --face N. {_list(rivals)}")
    return faces[0]


def _list(faces: list[Landmarks]) -> str:
    """One clause per face: number, middle and width in px."""
    clauses = []
    for number, face in enumerate(faces, 1):
        x, y = face.points.mean(0)
        clauses.append(f"face {number} at ({x:.0f}, {y:.0f}), {face_width(face.points):.0f} px wide")
    return "; ".join(clauses)


def _into_crop(face: Landmarks, box: CropBox) -> Landmarks:
    """The landmarks in crop px."""
    matrix = box.crop_from_image
    points = face.points.astype(float) @ matrix[:, :2].T + matrix[:, 2]
    depth = face.depth * np.float32(box.scale)
    return Landmarks(points.astype(np.float32), depth.astype(np.float32), face.score)
