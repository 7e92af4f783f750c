"""One frame of a clip as the portrait, the clip's own motion counted from it: self-reenactment.

A frame of the clip becomes the portrait; the other frames, cut by the same square, are what an animator
should draw from that portrait for their motion. Training and measuring take the pairs from here, so that
both mean the same by "the motion of this frame".

>>> with np.load("tracks/clip.mp4.npz") as file:
...     scene = open_reenactment("clip.mp4", file)
>>> for n, crop, motion in scene.frames([0, 10, 20]): ...

Two ways lead from a tracked clip to motion for the portrait:

* :func:`fitted_motion` solves the landmarks again, in the crop, for the person *as the portrait was fitted*.
  The same coefficients then mean the same face, and the camera is the portrait's. This is what
  :func:`open_reenactment` uses.
* :func:`motion_for_portrait` converts motion that is there already (a track's, a driver's). It is exact at
  the portrait's own frame, but what one fit calls half a smile another calls a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.clip import fit_clip
from engine.face.crop import CROP_SIDE, CropBox, cut, face_width
from engine.face.fitter import IS_RELATIVE, NECK_PIVOT, FaceFit
from engine.face.image import Picture
from engine.face.landmarks import find_faces
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.video import read_video
from engine.types import MOTION

__all__ = [
    "Reenactment",
    "box_of",
    "fitted_motion",
    "landmarks_shown",
    "motion_for_portrait",
    "open_reenactment",
    "portrait_of",
    "usable_frames",
    "view_of_crop",
]

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

MOST_TURN = np.radians(18.0)
"""A portrait looks to the camera: yaw and pitch of its head up to this."""
MOST_BLINK = 0.25
_TRIES, _APART = 4, 12
_BLINK = [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]
_SHUT_PORTRAIT = 0.8  # a portrait's own lids are taken to be no further shut than this


@dataclass(frozen=True)
class Reenactment:
    """A portrait from a clip, and how the clip moves it; T frames at 25/s."""

    clip: Path
    frame: int
    """the frame that became the portrait"""
    portrait: Portrait
    box: CropBox
    """the square of the portrait, in clip px, that all frames are cut by"""
    motion: Float
    """float32 [T, 72] for the portrait (:func:`fitted_motion`); rows NaN where no face was tracked"""
    points: Float
    """float32 [T, 478, 2] tracked landmarks, crop px"""

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Bytes, Float]]:
        """(n, crop uint8 [512, 512, 3], motion float32 [72]) of the ``wanted`` frames, in order."""
        chosen = set(wanted)
        for n, (_, rgb) in enumerate(islice(read_video(self.clip), max(chosen, default=-1) + 1)):
            if n in chosen and n < len(self.motion):
                yield n, cut(rgb, self.box), self.motion[n]


def motion_for_portrait(
    motion: Float | Double,
    own: Float | Double,
    rest: Float,
    own_lids: Sequence[float] | None = None,
    view: Rotation | None = None,
) -> Float:
    """``motion`` of a clip, counted from the clip's rest, as motion of a portrait that is one of its frames.

    Args:
        motion: [T, 72] as tracked; NaN rows stay NaN.
        own: [72] the row of the frame that became the portrait.
        rest: [72] the motion at which the animator shows the portrait (its identity's ``rest``).
        own_lids: absolute eyeBlinkLeft and eyeBlinkRight of the portrait, 0..1, where they are known
            (the track's rest plus ``own``); else those of ``own``.
        view: :func:`view_of_crop` where the clip is more than the crop.

    Returns:
        float32 [T, 72]. ``own`` becomes ``rest``. Expression: rest + motion - own; columns counted from
        the portrait may be negative (brows lower than in the portrait), the others are cut at 0 and 1.
        Lids: the share b of the way from the portrait's lids B to shut, B + b (1 - B). Head: R R_own^-1
        about the neck, translation and gaze minus the portrait's.
    """
    motion, own = np.asarray(motion, np.float64), np.asarray(own, np.float64)
    out = motion - own
    out[:, MOTION.expression] += rest[MOTION.expression]
    absolute = np.flatnonzero(~IS_RELATIVE)
    out[:, absolute] = np.clip(out[:, absolute], 0.0, 1.0)
    lids = own[_BLINK] if own_lids is None else np.asarray(own_lids, np.float64)
    out[:, _BLINK] = (motion[:, _BLINK] - own[_BLINK]) / (1.0 - np.clip(lids, 0.0, _SHUT_PORTRAIT))
    out[:, _BLINK] = np.minimum(out[:, _BLINK], 1.0)
    seen = np.isfinite(motion[:, MOTION.rotation]).all(axis=1)
    turn = Rotation.from_rotvec(motion[seen][:, MOTION.rotation])
    turn = turn * Rotation.from_rotvec(own[MOTION.rotation]).inv()
    view = Rotation.identity() if view is None else view
    out[seen, MOTION.rotation] = (view * turn * view.inv()).as_rotvec()
    out[seen, MOTION.translation] = view.apply(out[seen][:, MOTION.translation])
    return out.astype(np.float32)


def fitted_motion(points: Float, valid: Flags, fit: FaceFit, size: int = CROP_SIDE) -> Float:
    """Motion float32 [T, 72] of the portrait ``fit`` that shows the landmarks of a clip of the same person.

    ``points`` [T, 478, 2] in px of the portrait's crop of ``size``, bool ``valid`` [T]. Identity, camera and
    correction are the portrait's; steadied in time as :mod:`engine.face.clip` says. Rows are NaN where not
    ``valid``; columns counted from the portrait may be negative. At the portrait's own frame the result
    is near the motion that shows the portrait, off by the landmarks' noise.

    Raises:
        FaceError: no frame is valid.
    """
    found = fit_clip(points, valid, (size, size), person=fit)
    rest, out = found.person, found.motion.astype(np.float64)
    out[:, MOTION.expression] += np.where(IS_RELATIVE, rest.expression - fit.expression, 0.0)
    own = np.clip(fit.expression[_BLINK], 0.0, _SHUT_PORTRAIT)
    out[:, _BLINK] = np.minimum(out[:, _BLINK] / (1.0 - own), 1.0)
    seen = np.isfinite(out).all(axis=1)
    turn = Rotation.from_rotvec(out[seen][:, MOTION.rotation])
    away = Rotation.from_matrix(rest.rotation.astype(float) @ fit.rotation.T.astype(float))
    out[seen, MOTION.rotation] = (turn * away).as_rotvec()
    out[:, MOTION.translation] += (
        rest.to_camera(NECK_PIVOT) - fit.to_camera(NECK_PIVOT)
    ) / fit.interocular_cm
    out[:, MOTION.gaze] += rest.gaze - fit.gaze
    return out.astype(np.float32)


def landmarks_shown(motion: Float, fit: FaceFit) -> Float:
    """Landmarks float32 [T, 468, 2] (crop px) of the portrait ``fit`` under ``motion`` [T, 72]: what the
    motion says, before anything is drawn; the inverse of :func:`fitted_motion` but for the fit's rest."""
    basis, out = load_basis(), np.empty((len(motion), 468, 2), np.float32)
    lids = np.clip(fit.expression[_BLINK], 0.0, _SHUT_PORTRAIT)
    for t, row in enumerate(motion.astype(np.float64)):
        units = row[MOTION.expression] + np.where(IS_RELATIVE, fit.expression, 0.0)
        units[_BLINK] = lids + row[_BLINK] * (1.0 - lids)
        turn = Rotation.from_rotvec(row[MOTION.rotation]).as_matrix() @ fit.rotation
        pivot = fit.to_camera(NECK_PIVOT) + row[MOTION.translation] * fit.interocular_cm
        posed = replace(fit, rotation=turn, translation=pivot - turn @ NECK_PIVOT)
        vertices = fit.vertices(np.clip(units, 0.0, 1.0).astype(np.float32))
        out[t] = posed.project(basis.at_landmarks(vertices))[:, :2]
    return out


def view_of_crop(box: CropBox, focal: float, size: tuple[int, int]) -> Rotation:
    """How the axes of a camera for the whole picture turn into those of one that looks at the crop's middle.

    A head off the picture's middle is seen from the side: R of the whole picture is Q R Q^-1 in the crop,
    translation Q t. ``focal`` in crop px, ``size`` width and height of the picture.
    """
    middle = np.array([box.left, box.top]) + box.side / 2.0
    x, y = (middle - np.array(size) / 2.0) * box.scale / focal
    ray = np.array([x, -y, -1.0]) / np.sqrt(x * x + y * y + 1.0)
    axis = np.cross(ray, [0.0, 0.0, -1.0])
    sine = float(np.linalg.norm(axis))
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, -ray[2]))


def box_of(portrait: Portrait) -> CropBox:
    """The square that a portrait was cut by."""
    matrix = portrait.crop_from_image
    scale = float(matrix[0, 0])
    left, top = 0.5 - (matrix[:, 2] + 0.5) / scale
    return CropBox(float(left), float(top), CROP_SIDE / scale)


def usable_frames(motion: Float, rest: Float, blink: Float, confidence: Float) -> NDArray[np.int64]:
    """Frames that can be a portrait, best guess first: the earliest that is sure, frontal and has open eyes.

    ``motion`` [T, 72], ``rest`` [72], ``blink`` [T] and ``confidence`` [T] of a track. Where no frame is
    frontal, those turned least come first. Empty where no face was tracked.
    """
    seen = np.isfinite(motion).all(axis=1) & (confidence > 0.0)
    at = np.flatnonzero(seen)
    if not len(at):
        return at
    turn = Rotation.from_rotvec(motion[at][:, MOTION.rotation]) * Rotation.from_rotvec(rest[MOTION.rotation])
    matrix = turn.as_matrix()
    yaw, pitch = np.arctan2(matrix[:, 0, 2], matrix[:, 2, 2]), np.arcsin(np.clip(matrix[:, 1, 2], -1, 1))
    away = np.maximum(np.abs(yaw), np.abs(pitch))
    bad = np.maximum(away, MOST_TURN) + (np.nan_to_num(blink[at], nan=1.0) > MOST_BLINK)
    bad += np.maximum(0.0, 0.8 - confidence[at])
    return np.asarray(at[np.argsort(bad, kind="stable")], np.int64)


def portrait_of(rgb: Bytes, points: Float, name: str = "") -> Portrait:
    """The tracked face (``points`` [478, 2] px) of a frame as a portrait.

    Raises:
        FaceError: the face is not found there again, too small or turned away.
    """
    faces = sorted(find_faces(rgb), key=lambda face: face_width(face.points), reverse=True)
    if not faces:
        raise FaceError(f"no face found in a frame of {name}")
    away = [float(np.linalg.norm(face.points - points, axis=1).mean()) for face in faces]
    nearest = int(np.argmin(away))
    if away[nearest] > 0.25 * face_width(points):
        raise FaceError(f"the tracked face is not found again in a frame of {name}")
    return analyse_portrait(Picture(rgb, source=name), face=nearest + 1)


def open_reenactment(
    clip: str | Path, track: Mapping[str, NDArray[Any]], candidates: Sequence[int] | None = None
) -> Reenactment:
    """The clip with its portrait taken from the first of ``candidates`` that can be analysed.

    Args:
        clip: a video.
        track: arrays ``points``, ``valid``, ``motion``, ``rest``, ``blink``, ``confidence`` as
            ``visavis track`` writes them.
        candidates: frames, best first; by default those of :func:`usable_frames`. After a frame that
            cannot be analysed its neighbours are skipped.

    Raises:
        FaceError: none of them can be a portrait.
        InputError: the video cannot be read.
    """
    clip, points, failed, why = Path(clip), track["points"], list[int](), "no frame shows a face"
    if candidates is None:
        found = usable_frames(track["motion"], track["rest"], track["blink"], track["confidence"])
        candidates = found.tolist()
    for frame in candidates:
        if any(abs(frame - other) < _APART for other in failed):
            continue
        if len(failed) == _TRIES:
            break
        try:
            portrait = portrait_of(_frame(clip, frame), points[frame], clip.name)
        except FaceError as error:
            failed, why = [*failed, frame], str(error)
            continue
        matrix = portrait.crop_from_image
        moved = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        motion = fitted_motion(moved, track["valid"], portrait.fit)
        return Reenactment(clip, frame, portrait, box_of(portrait), motion, moved)
    raise FaceError(f"no frame of {clip.name} can be a portrait: {why}")


def _frame(clip: Path, n: int) -> Bytes:
    for _, rgb in islice(read_video(clip), n, n + 1):
        return rgb
    raise FaceError(f"{clip.name} has no frame {n}")
