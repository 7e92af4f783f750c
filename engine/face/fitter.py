"""Fits the face basis to landmarks: identity, expression, pose, gaze and camera.

Method: damped Gauss–Newton on the re-projection error with an analytic Jacobian, pseudo-Huber weights,
Gaussian priors on all coefficients and expression coefficients boxed to 0..1 (Blanz and Vetter
1999; Cao et al. 2014, "Displaced dynamic expression regression"). Besides the points themselves,
the gaps between facing points of lips and lids are fitted, more tightly than the points: a closed
mouth must come out closed. What is left is spread over the mesh (:mod:`engine.face.residual`).

Camera space: cm, +x image right, +y up, +z to the camera, which sits at the origin; a head vertex
X lies at ``rotation @ X + translation`` and its depth is -z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.residual import spread
from engine.face.solver import (
    CENTRE,
    EYE_CORNERS,
    HEAD_DISTANCE_CM,
    IDENTITY_STIFFNESS,
    MEAN_INTEROCULAR_CM,
    Camera,
    Problem,
    expand,
    first_pose,
    interocular,
    iterate,
    mark_basis,
    reduce,
)
from engine.types import EXPRESSION_NAMES, MOTION

__all__ = [
    "HEAD_DISTANCE_CM",
    "IS_RELATIVE",
    "NECK_PIVOT",
    "FaceFit",
    "fit_face",
    "fit_frame",
    "landmark_misses",
]

Float = NDArray[np.float32]
Double = NDArray[np.float64]

NECK_PIVOT = np.array([0.0, -7.0, -1.0], np.float32)
"""Where the head turns on the neck, head coordinates, cm: pose translation is that of this point."""

IS_RELATIVE = np.array(
    [
        n.startswith(("eye", "brow", "cheekSquint", "cheekRaiser", "noseSneer", "pupil"))
        for n in EXPRESSION_NAMES
    ]
)
"""[64] units that motion counts from the portrait's own expression; the others (lips, jaw, cheeks,
tongue) are absolute."""

IRIS_DEPTH = 1.4
"""cm from the centre of the eyeball to the iris."""

_SEALED = EXPRESSION_NAMES.index("lipsSealed")

ITERATIONS, FRAME_ITERATIONS = 12, 6
FRAME_STIFFNESS = 0.3
"""Prior of expressions in video relative to a photo's: there the identity is known."""


@dataclass(frozen=True)
class FaceFit:
    """One face: its basis coefficients and how the camera saw it."""

    identity: Float
    """[80] about N(0, 1)"""
    expression: Float
    """[64] 0..1, in the order of ``EXPRESSION_NAMES``, absolute (not relative to the portrait)"""
    rotation: Float
    """[3, 3] head to camera"""
    translation: Float
    """[3] head origin in camera space, cm (z < 0)"""
    focal: float
    """px"""
    centre: Float
    """[2] principal point, px"""
    gaze: Float
    """[2] pitch (up > 0) and yaw (image right > 0) of the eyes relative to the head, rad"""
    correction: Float
    """[V, 3] cm, what the coefficients could not explain, spread over the mesh; head coordinates"""
    error_percent: float
    """mean landmark distance of the coefficients alone, % of ``interocular_px``"""
    spread_error_percent: float
    """the same with ``correction``"""

    def neutral(self) -> Float:
        """[V, 3] this person without expression, correction included; head coordinates, cm."""
        return load_basis().shape(self.identity) + self.correction

    def vertices(self, expression: Float | None = None) -> Float:
        """[V, 3] with ``expression`` [64] (default: the fitted one); head coordinates, cm."""
        moving = np.tensordot(
            self.expression if expression is None else expression, load_basis().expression, 1
        )
        result: Float = self.neutral() + moving.astype(np.float32)
        return result

    def to_camera(self, points: Float) -> Float:
        """Head coordinates [..., 3] to camera space."""
        result: Float = points @ self.rotation.T + self.translation
        return result

    def to_image(self, camera: Float) -> Float:
        """Camera space [..., 3] to (u, v, depth): px, px, cm."""
        depth = -camera[..., 2]
        u = self.centre[0] + self.focal * camera[..., 0] / depth
        v = self.centre[1] - self.focal * camera[..., 1] / depth
        return np.stack([u, v, depth], -1).astype(np.float32)

    def project(self, points: Float) -> Float:
        """Head coordinates [..., 3] to (u, v, depth)."""
        return self.to_image(self.to_camera(points))

    @property
    def interocular_cm(self) -> float:
        """Distance of the outer eye corners of this person: the unit of pose translation."""
        basis, model, corners = load_basis(), mark_basis(), list(EYE_CORNERS)
        at = model.mean[corners] + np.tensordot(self.identity, model.identity[:, corners], 1)
        at += np.einsum(
            "lkc,lk->lc", self.correction[basis.landmark_tri[corners]], basis.landmark_bary[corners]
        )
        return float(np.linalg.norm(at[0] - at[1]))

    @property
    def interocular_px(self) -> float:
        """The same in the picture, as if the face looked straight at the camera."""
        return self.focal * self.interocular_cm / float(-self.to_camera(CENTRE.astype(np.float32))[2])

    @property
    def yaw(self) -> float:
        """Turn of the head, rad: > 0 when the nose points to image right."""
        return float(np.arctan2(self.rotation[0, 2], self.rotation[2, 2]))


def eye_centres(identity: Float, correction: Float) -> Double:
    """[2, 3] centres of this person's left and right eyeball, head coordinates, cm."""
    basis, model = load_basis(), mark_basis()
    moved = [correction[basis.part(n)].mean(0) for n in ("iris_left", "iris_right")]
    centres: Double = model.eye_mean + np.tensordot(identity, model.eye_identity, 1) + np.array(moved)
    return centres


def gaze_angles(camera: Camera, centres: Double, points: Float) -> Float:
    """Pitch and yaw of the eyes, head coordinates, from landmarks 473 and 468 (left, right iris).

    An iris centre lies ``IRIS_DEPTH`` from the eyeball's centre [2, 3] (left, right); the direction
    is limited where the iris is seen further out than the ball reaches.
    """
    angles = []
    for centre, iris in zip(camera.place(centres), (473, 468), strict=True):
        depth = -centre[2] - IRIS_DEPTH
        seen = (points[iris] - camera.centre) / camera.focal * [depth, -depth] - centre[:2]
        seen *= min(1.0, 0.9 * IRIS_DEPTH / max(float(np.hypot(*seen)), 1e-6))
        toward = np.append(seen, np.sqrt(IRIS_DEPTH**2 - (seen**2).sum())) @ camera.rotation
        pitch = np.arctan2(toward[1], np.hypot(toward[0], toward[2]))
        angles.append([pitch, np.arctan2(toward[0], toward[2])])
    mean: Float = np.mean(angles, 0).astype(np.float32)
    return mean


def _check(points: Float) -> Double:
    if points.shape != (478, 2) or not np.isfinite(points).all():
        raise FaceError(
            f"expected 478 finite landmarks [478, 2], got shape {points.shape}: track the face again"
        )
    marks: Double = points[:468].astype(float)
    if interocular(marks) < 1.0:
        raise FaceError("the eye corners coincide: give a photo in which both eyes can be seen")
    return marks


def fit_face(points: Float, size: int | tuple[int, int]) -> FaceFit:
    """Fit everything to the landmarks of one picture.

    Args:
        points: float32 [478, 2] px, irises included.
        size: width and height of the picture (or one number for a square): its middle is taken as
            the principal point.

    Raises:
        FaceError: the landmarks are not those of a face.
    """
    marks = _check(points)
    width, height = (size, size) if isinstance(size, int) else size
    model = mark_basis()
    identities, units = len(model.identity), len(model.free)
    camera = first_pose(model.mean, marks, model.weight, np.array([width / 2, height / 2]))
    problem = Problem(
        points=marks,
        base=model.mean,
        columns=np.concatenate([model.identity, model.expression]),
        prior=np.concatenate([np.full(6, 1e-6), np.full(identities, IDENTITY_STIFFNESS), model.stiffness]),
        target=np.zeros(identities + units),
        low=np.concatenate([np.full(identities, -np.inf), np.zeros(units)]),
        high=np.concatenate([np.full(identities, np.inf), model.free != _SEALED]),
        scale=camera.focal / HEAD_DISTANCE_CM * MEAN_INTEROCULAR_CM,
    )
    found = iterate(problem, camera, np.zeros(identities + units), ITERATIONS)
    fit = FaceFit(
        identity=found[:identities].astype(np.float32),
        expression=expand(found[identities:]),
        rotation=camera.rotation.astype(np.float32),
        translation=(camera.shift - camera.rotation @ CENTRE).astype(np.float32),
        focal=camera.focal,
        centre=camera.centre.astype(np.float32),
        gaze=np.zeros(2, np.float32),
        correction=np.zeros_like(load_basis().mean),
        error_percent=0.0,
        spread_error_percent=0.0,
    )
    return _correct(fit, points)


def landmark_misses(fit: FaceFit, points: Float) -> Float:
    """[468, 3] cm, how far each landmark lies from where the coefficients put it (correction left
    out), parallel to the picture, in head coordinates."""
    miss, depth, _ = _misses(replace(fit, correction=np.zeros_like(fit.correction)), points)
    return _lift(miss, depth, fit)


def _lift(miss: Float, depth: Float, fit: FaceFit) -> Float:
    """Picture offsets [468, 2] px at ``depth`` [468] cm as head-space offsets [468, 3] cm."""
    flat = miss * depth[:, None] / fit.focal
    in_camera = np.stack([flat[:, 0], -flat[:, 1], np.zeros_like(depth)], 1)
    lifted: Float = (in_camera @ fit.rotation).astype(np.float32)
    return lifted


def _misses(fit: FaceFit, points: Float) -> tuple[Float, Float, float]:
    """Landmark misses [468, 2] px, landmark depths [468] cm, mean error in % of the inter-ocular distance."""
    seen = fit.project(load_basis().at_landmarks(fit.vertices()))
    miss = points[:468] - seen[:, :2]
    return miss, seen[:, 2], float(100 * np.linalg.norm(miss, axis=1).mean() / fit.interocular_px)


def _correct(fit: FaceFit, points: Float) -> FaceFit:
    """Spread the remaining misses over the mesh, then measure errors and gaze."""
    miss, depth, error = _misses(fit, points)
    fit = replace(fit, correction=spread(_lift(miss, depth, fit)), error_percent=error)
    fit = replace(fit, spread_error_percent=_misses(fit, points)[2])
    centres = eye_centres(fit.identity, fit.correction)
    return replace(fit, gaze=gaze_angles(_camera_of(fit), centres, points))


def _camera_of(fit: FaceFit) -> Camera:
    """The solver's camera with the pose of ``fit``."""
    rotation = fit.rotation.astype(float)
    return Camera(rotation, fit.translation + rotation @ CENTRE, fit.focal, fit.centre.astype(float))


def fit_frame(
    points: Float, person: FaceFit, previous: Float | None = None, steps: int = FRAME_ITERATIONS
) -> Float:
    """Motion float32 [72] of one video frame of a known person.

    Args:
        points: float32 [478, 2] px, in a picture of the size ``person`` was fitted in.
        person: the fit that motion is relative to; its identity and camera are kept.
        previous: motion of the frame before; speeds convergence up and steadies what is slow.
        steps: Gauss–Newton steps (about 1.2 ms each); 2 are enough for live frames that follow one another.

    Returns:
        expression 0..1 (units of :data:`IS_RELATIVE` counted from the person's own), head rotation
        as axis-angle in camera axes and translation of :data:`NECK_PIVOT` in inter-ocular
        distances, both relative to ``person``; gaze relative to the head, counted from the person's own.
    """
    marks = _check(points)
    model = mark_basis()
    own = load_basis().at_landmarks(person.correction).astype(float)
    base = model.mean + np.tensordot(person.identity.astype(float), model.identity, 1) + own
    camera, start, hold = _start(person, previous)
    before = replace(camera)
    problem = Problem(
        points=marks,
        base=base,
        columns=model.expression,
        prior=np.concatenate([np.full(6, 1e-6), FRAME_STIFFNESS * model.stiffness + hold]),
        target=hold / (FRAME_STIFFNESS * model.stiffness + hold) * start,
        low=np.zeros(len(start)),
        high=np.ones(len(start)),
        scale=person.interocular_px,
        sealable=True,
    )
    found = iterate(problem, camera, start, steps)
    if previous is not None:
        # Expression once more, for the steadied pose.
        _steady(camera, before, person.interocular_cm)
        problem.prior[:6] = 1e12
        found = iterate(problem, camera, found, 2)
    return _motion(expand(found), camera, person, base, points)


def _steady(camera: Camera, before: Camera, unit_cm: float) -> None:
    """Draw the pose towards the one before where the difference is of the size of the noise.

    A step d is taken as d |d|^2 / (|d|^2 + s^2): noise (s = 0.35 degrees, 0.006 and, along the line of
    sight, 0.03 inter-ocular distances) is flattened, a real turn of the head passes with little lag.
    """
    turn = Rotation.from_matrix(camera.rotation @ before.rotation.T).as_rotvec()
    size = float(turn @ turn)
    turn *= size / (size + np.radians(0.35) ** 2)
    camera.rotation = Rotation.from_rotvec(turn).as_matrix() @ before.rotation
    step = camera.shift - before.shift
    scaled = (step / (unit_cm * np.array([0.006, 0.006, 0.03]))) ** 2
    camera.shift = before.shift + step * scaled / (scaled + 1.0)


def _start(person: FaceFit, previous: Float | None) -> tuple[Camera, Double, Double]:
    """Pose and coefficients [E] to start from, and how firmly each coefficient is held there [E].

    Lips and lids are not held at all: smoothing would leak through closures and blinks.
    """
    model = mark_basis()
    if previous is None:
        return _camera_of(person), reduce(person.expression), np.zeros(len(model.free))
    expression = previous[MOTION.expression].astype(float)
    expression[IS_RELATIVE] += person.expression[IS_RELATIVE]
    turn = Rotation.from_rotvec(previous[MOTION.rotation]).as_matrix()
    pivot = person.to_camera(NECK_PIVOT) + previous[MOTION.translation] * person.interocular_cm
    rotation = turn @ person.rotation
    shift = pivot + rotation @ (CENTRE - NECK_PIVOT)
    names = [EXPRESSION_NAMES[k] for k in model.free]
    slow = np.array([n.startswith(("brow", "nose", "cheek", "eyeSquint", "eyeWide")) for n in names])
    camera = Camera(rotation, shift, person.focal, person.centre.astype(float))
    return camera, np.clip(reduce(expression), 0.0, 1.0), np.where(slow, 20.0, 0.0)


def _motion(expression: Float, camera: Camera, person: FaceFit, base: Double, points: Float) -> Float:
    """Assemble [72] from a solved frame; ``base`` [468, 3] is the person at rest."""
    out = np.zeros(MOTION.size, np.float32)
    out[MOTION.expression] = np.where(IS_RELATIVE, expression - person.expression, expression)
    out[MOTION.expression] = np.clip(out[MOTION.expression], 0.0, 1.0)
    turn = Rotation.from_matrix(camera.rotation @ person.rotation.T)
    out[MOTION.rotation] = turn.as_rotvec()
    unit = np.linalg.norm(base[EYE_CORNERS[0]] - base[EYE_CORNERS[1]])
    pivot = camera.place(NECK_PIVOT[None].astype(float))[0]
    out[MOTION.translation] = (pivot - person.to_camera(NECK_PIVOT)) / unit
    centres = eye_centres(person.identity, person.correction)
    out[MOTION.gaze] = gaze_angles(camera, centres, points) - person.gaze
    return out
