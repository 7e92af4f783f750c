"""468 face landmarks and two irises, on photos and on video.

Method: the MediaPipe face mesh with attention to lips and eyes (Grishchenko et al. 2020,
arXiv:2006.10962) in a rotated square around the face. Video: the next frame's square comes from
this frame's landmarks, and nothing is smoothed, so closures and blinks keep their timing.

Coordinates are pixels of the given picture, as in :mod:`engine.face.roi`. Points are numbered as
MediaPipe numbers them: 0–467 the mesh, 468 the right iris' centre (the subject's right, left in the
picture), 469–472 its right, top, left and bottom edge as seen in the picture, 473–477 the left
iris alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.face.attention import LEFT_EYE_MESH, LIPS_MESH, RIGHT_EYE_MESH
from engine.face.detector import Detection, FaceDetector
from engine.face.models import compile_model
from engine.face.roi import Bytes, Floats, Roi, sample_roi

__all__ = [
    "PRESENT",
    "FaceTracker",
    "LandmarkModel",
    "Landmarks",
    "find_faces",
    "mouth_opening",
    "roi_from_detection",
    "roi_from_points",
    "steady_landmarks",
]

PRESENT = 0.5
"""A :attr:`Landmarks.score` above this is a face."""

SURE, LESS_SURE = 0.7, 0.5
"""Detector scores, looking again, that make a face; real ones (photos, paintings, drawings) reach
0.79, patterns seldom 0.7. The lower one serves pictures in which nothing else is found."""

AGREEMENT = 0.1
"""Mean distance of eyes, nose and mouth between detector and landmarks that is still one face, in
sizes of the face; real ones stay under 0.08."""

LOOKS = (
    (0.0, 0.0, 1.0, 0.0),
    (0.03, 0.02, 1.06, 0.05),
    (-0.03, 0.02, 0.95, -0.05),
    (0.02, -0.03, 0.98, -0.08),
    (-0.02, -0.03, 1.1, 0.08),
)
"""Regions of :func:`steady_landmarks`: shift in x and y (sizes), scale, turn (rad)."""

FACE_SIDE = 192
FACE_MARGIN = 1.5

INNER_LIPS = ((82, 87), (13, 14), (312, 317))
"""Facing points of the inner upper and lower lip, in the middle third of the mouth."""

# Landmark, then its place on the mean head: x to image right, y up, z to the camera, outer eye
# corners 1 apart. The mean of this network's own 3-D output over 58 portraits and their mirror
# images after Procrustes alignment; points that neither talk nor frown nor slide along the silhouette.
_RIGID = np.array(
    [
        (33, -0.500, 0.035, -0.080),
        (133, -0.190, 0.006, -0.021),
        (362, 0.190, 0.006, -0.021),
        (263, 0.500, 0.035, -0.080),
        (168, 0.000, 0.057, 0.165),
        (6, 0.000, -0.038, 0.204),
        (197, 0.000, -0.122, 0.251),
        (195, 0.000, -0.200, 0.303),
        (5, 0.000, -0.283, 0.357),
        (4, 0.000, -0.381, 0.375),
        (2, 0.000, -0.503, 0.168),
        (98, -0.188, -0.470, 0.083),
        (327, 0.188, -0.470, 0.083),
        (151, 0.000, 0.428, 0.192),
        (10, 0.000, 0.609, 0.168),
        (109, -0.213, 0.605, 0.150),
        (338, 0.213, 0.605, 0.150),
    ]
)
RIGID_POINTS = _RIGID[:, 0].astype(np.int64)
RIGID_SHAPE = _RIGID[:, 1:]


@dataclass(frozen=True)
class Landmarks:
    """The landmarks of one face."""

    points: Floats
    """float32 [478, 2] px"""
    depth: Floats
    """float32 [478] px, away from the camera, 0 at about the middle of the head"""
    score: float
    """0..1: how sure the network is that this is a face (:data:`PRESENT`)"""


def roi_from_detection(detection: Detection) -> Roi:
    """The upright-face region for the landmark network: the box, turned by the eyes, with a margin."""
    box = detection.box
    dx, dy = detection.keypoints[1] - detection.keypoints[0]
    size = float(np.max(box[2:] - box[:2]))
    x, y = (box[:2] + box[2:]) / 2
    return Roi(float(x), float(y), FACE_MARGIN * size, float(np.arctan2(dy, dx)))


def roi_from_points(points: Floats) -> Roi:
    """The region around known landmarks [>= 468, 2]: their upright bounding box with a margin."""
    dx, dy = points[263] - points[33]
    return _bounding(points[:468], float(np.arctan2(dy, dx)), FACE_MARGIN)


def _bounding(points: Floats, angle: float, margin: float) -> Roi:
    """The square around the bounding box of ``points`` in axes turned by ``angle``."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    local = points @ turn
    low, high = local.min(axis=0), local.max(axis=0)
    x, y = turn @ ((low + high) / 2)
    return Roi(float(x), float(y), margin * float(np.max(high - low)), angle)


class LandmarkModel:
    """The landmark network on one region of a picture.

    >>> LandmarkModel()(rgb, roi_from_detection(detection)).points    # float32 [478, 2]
    """

    def __init__(self) -> None:
        self._request: Any = compile_model("face_landmark_with_attention").create_infer_request()

    def __call__(self, rgb: Bytes, roi: Roi, passes: int = 1) -> Landmarks:
        """Landmarks of the face in ``roi`` of ``rgb`` (uint8 [H, W, 3]).

        ``passes`` > 1 looks again in the region of the landmarks just found, which is worth it on
        photos: a detection's region is only roughly right.
        """
        face = self._look(rgb, roi)
        for _ in range(passes - 1):
            again = self._look(rgb, roi_from_points(face.points))
            if again.score < min(face.score, PRESENT):
                break
            face = again
        return face

    def _look(self, rgb: Bytes, roi: Roi) -> Landmarks:
        crop = sample_roi(rgb, roi, FACE_SIDE)
        self._request.infer({0: crop.astype(np.float32)[None] * np.float32(1 / 255)})
        mesh, lips, right, left, right_iris, left_iris, logit = (
            self._request.get_output_tensor(i).data.ravel() for i in range(7)
        )
        places = np.empty((478, 2), np.float32)
        places[:468] = mesh.reshape(468, 3)[:, :2]
        places[list(LIPS_MESH)] = lips.reshape(-1, 2)
        places[list(RIGHT_EYE_MESH)] = right.reshape(-1, 2)
        places[list(LEFT_EYE_MESH)] = left.reshape(-1, 2)
        places[468:473] = right_iris.reshape(-1, 2)
        places[473:478] = left_iris.reshape(-1, 2)
        depth = np.empty(478, np.float32)
        depth[:468] = mesh[2::3] * (roi.size / FACE_SIDE)
        depth[468:473] = depth[[33, 133]].mean()
        depth[473:478] = depth[[263, 362]].mean()
        # The network counts from the input's edge, pixel indices from its first pixel's centre.
        matrix = roi.to_image(FACE_SIDE)
        points = (places - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        return Landmarks(points.astype(np.float32), depth, float(1 / (1 + np.exp(-logit[0]))))


def find_faces(
    rgb: Bytes, detector: FaceDetector | None = None, model: LandmarkModel | None = None
) -> list[Landmarks]:
    """Every face of a photo, the largest first; empty if there is none.

    Looks harder (lower threshold, tiles, a margin) when the first look shows nothing. Both networks
    alone call almost anything a face that they are shown as one; what counts is that, looking again at
    what the landmarks say is the face, the detector is sure of it (:data:`SURE`) and sees eyes, nose
    and mouth where the landmarks are (:data:`AGREEMENT`).
    """
    detector, model = detector or FaceDetector(), model or LandmarkModel()
    for low, thorough, sure in ((0.5, False, SURE), (0.25, True, LESS_SURE)):
        found = [model(rgb, roi_from_detection(d), passes=3) for d in detector.detect(rgb, low, thorough)]
        faces = _distinct([face for face in found if _is_face(rgb, face, detector, sure)])
        if faces:
            return [steady_landmarks(rgb, roi_from_points(face.points), model) for face in faces]
    return []


def steady_landmarks(rgb: Bytes, roi: Roi, model: LandmarkModel | None = None) -> Landmarks:
    """Landmarks of a photo averaged over five slightly different regions around ``roi``.

    One look scatters by 0.7 % of the inter-ocular distance with the exact choice of the region, the
    mean of five by 0.4 %.
    """
    model = model or LandmarkModel()
    looks = [
        model(rgb, Roi(roi.x + dx * roi.size, roi.y + dy * roi.size, scale * roi.size, roi.angle + turn))
        for dx, dy, scale, turn in LOOKS
    ]
    return Landmarks(
        np.mean([look.points for look in looks], axis=0),
        np.mean([look.depth for look in looks], axis=0),
        float(np.mean([look.score for look in looks])),
    )


def _is_face(rgb: Bytes, face: Landmarks, detector: FaceDetector, sure: float) -> bool:
    """Whether the detector confirms what the landmarks say."""
    roi, points = roi_from_points(face.points), face.points
    again = detector.look_again(rgb, Roi(roi.x, roi.y, 1.4 * roi.size, roi.angle))
    if face.score < PRESENT or again is None or again.score < sure:
        return False
    same = np.array([points[468], points[473], points[4], (points[13] + points[14]) / 2])
    apart = np.linalg.norm(again.keypoints[:4] - same, axis=1).mean()
    return bool(apart < AGREEMENT * again.size)


def _distinct(faces: list[Landmarks]) -> list[Landmarks]:
    """One entry per face (two detections can settle on the same one), the largest first."""
    kept: list[Landmarks] = []
    for face in sorted(faces, key=lambda f: roi_from_points(f.points).size, reverse=True):
        middle = face.points.mean(axis=0)
        size = roi_from_points(face.points).size
        if all(np.hypot(*(middle - other.points.mean(axis=0))) > 0.3 * size for other in kept):
            kept.append(face)
    return kept


class FaceTracker:
    """Follows one face through a video; this object is the state of that video.

    >>> tracker = FaceTracker()
    >>> for rgb in frames: landmarks = tracker.track(rgb)     # None while no face is seen
    """

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._model = LandmarkModel()
        self._previous: Roi | None = None
        self._lost = True

    def reset(self) -> None:
        """Forget the face; the next frame is searched afresh."""
        self._previous, self._lost = None, True

    def track(self, rgb: Bytes) -> Landmarks | None:
        """Landmarks in the next frame (uint8 [H, W, 3]), None if there is no face.

        Looks where the face was; searches the whole frame when it is not there any more, first for
        a face near the one that was lost, then for the largest.
        """
        if self._previous is not None and not self._lost:
            face = self._model(rgb, self._previous)
            if face.score >= PRESENT:
                return self._follow(face)
        self._lost = True
        for detection in sorted(self._detector.detect(rgb, thorough=False), key=self._strangeness):
            face = self._model(rgb, roi_from_detection(detection), passes=2)
            if face.score >= PRESENT:
                return self._follow(face)
        return None

    def _follow(self, face: Landmarks) -> Landmarks:
        self._previous, self._lost = roi_from_points(face.points), False
        return face

    def _strangeness(self, detection: Detection) -> tuple[bool, float]:
        """Sort key: a face less than its own size from where the lost one was, then the largest."""
        roi, last = roi_from_detection(detection), self._previous
        near = last is not None and np.hypot(roi.x - last.x, roi.y - last.y) < 0.5 * last.size
        return (not near, -detection.size)


def mouth_opening(points: Floats) -> Floats:
    """How far the lips are apart, in inter-ocular distances: float32 [T] from ``points`` [T, 478, 2].

    The gap is the mean distance between the inner lips (82–87, 13–14, 312–317). Dividing it by the
    distance of the eyes would make a turn of the head look like an opening mouth, and a nod like a
    closing one. So the mean head (:data:`RIGID_SHAPE`, outer eye corners 1 apart) is fitted to the
    rigid landmarks of each frame by an affine camera A [2, 3] (least squares; lips, jaw and brows
    have no say), and the gap is divided by the length at which A shows a unit that points down the
    face, |A e_y|: lips and unit shrink alike under yaw, pitch, roll and scale. What remains is that the lower
    lip lies behind the upper one: up to 20 % at 20° of pitch, 5 % at 30° of yaw.
    """
    lips = [np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in INNER_LIPS]
    rigid = points[:, RIGID_POINTS].astype(np.float64)
    shape = RIGID_SHAPE - RIGID_SHAPE.mean(axis=0)
    # x - mean(x) = A (s - mean(s)), solved for A by the pseudo-inverse of the shape.
    camera = np.einsum("kc,tkd->tdc", np.linalg.pinv(shape).T, rigid - rigid.mean(axis=1, keepdims=True))
    unit = np.linalg.norm(camera[:, :, 1], axis=-1)
    return np.asarray(np.mean(lips, axis=0) / np.maximum(unit, 1e-6), np.float32)
