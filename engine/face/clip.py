"""The motion of one clip: one person, every frame, consistent in time.

1. A few frames that look straight at the camera with open eyes and a quiet mouth, but differ from one
   another, give the person (:func:`engine.face.person.fit_person`).
2. Pose and expression of every frame are solved, each from the one before.
3. The pose is smoothed by local parabolas, jerks excepted; as many frames ahead as back, so nothing lags.
4. The expression is solved once more, slow units (brows, cheeks, nose, squint and wide eyes) held near
   their smoothed course, sideways and upward mouth units more loosely. The gaps of lips and lids are
   fitted as tightly as before and **jaw, lip closing and lids are never smoothed**: a bilabial closure
   or a blink lasts two or three frames. The pose stays free in this solve: held to the smoothed one, the
   landmarks' common tremble would turn up in brows and jaw.

Rest: pose and gaze are counted from the clip's own median, the units of
:data:`engine.face.fitter.IS_RELATIVE` (eyes, brows, upper cheeks, nose) from their own lower quintile, so
that a face at rest has motion zero in them. Lips, jaw and lower cheeks are absolute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.fitter import FRAME_STIFFNESS, IS_RELATIVE, NECK_PIVOT, FaceFit, eye_centres, gaze_angles
from engine.face.person import fit_person
from engine.face.residual import LEFT_LIDS, RIGHT_LIDS
from engine.face.smooth import bridge, fit_curve, gentle, lively, runs, without_spikes
from engine.face.solver import CENTRE, EYE_CORNERS, Camera, Problem, expand, iterate, mark_basis, reduce
from engine.types import EXPRESSION_NAMES, MOTION

__all__ = ["ClipFit", "blinks", "choose_frames", "eye_openings", "fit_clip", "head_yaw"]

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Flags = NDArray[np.bool_]

PERSON_FRAMES = 6
REST_QUANTILE = 0.2
ALONE, FOLLOWING = 12, 3
"""Iterations of a frame by itself and of one that follows another; more change units by 1e-4."""
SLOW = ("brow", "nose", "cheek", "eyeSquint", "eyeWide")
STEADY = (
    "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthShrugUpper",
    "mouthLeft", "mouthRight", "jawLeft", "jawRight", "jawForward",
)  # fmt: skip
HOLDS = ((SLOW, 300.0, 1.5), (STEADY, 60.0, 1.0))
"""Units, the prior precision that holds them to their smoothed course (their own is 1 to 25), and the
deviation of the Gaussian that smooths it, frames."""
POSE_WINDOW, DEPTH_WINDOW = 7, 15
"""Frames of the parabolas through rotation and place, and through the distance, which is noisier."""
TREMBLE_DEG, TREMBLE = 0.6, np.array([0.012, 0.012, 0.06])
"""Size of the landmarks' noise in rotation, and in place, in inter-ocular distances."""
SHUT = 0.25
"""Eye opening, relative to the clip's own open eye, at which the detector sees shut lids (full blinks of
real people reach 0.1 to 0.3)."""

_LIDS = [EXPRESSION_NAMES.index("eyeBlinkLeft"), EXPRESSION_NAMES.index("eyeBlinkRight")]


@dataclass(frozen=True)
class ClipFit:
    """T frames of one person."""

    person: FaceFit
    """the resting face: pose, gaze and relative units are the clip's rest"""
    motion: Float
    """float32 [T, 72] in :data:`~engine.types.MOTION`, relative to the rest; rows NaN where unseen"""
    blink: Float
    """float32 [T] 0 open .. 1 shut, from the lids themselves (:func:`blinks`); NaN where unseen"""
    residual: Float
    """float32 [T] mean landmark distance of the fitted model, % of the inter-ocular distance"""
    yaw: Float
    """float32 [T] turn of the head from the camera, rad, > 0 to image right; not relative to the rest"""
    chosen: NDArray[np.int64]
    """[K] frames the person was fitted to"""


@dataclass
class _Course:
    """Solved frames: rotation [T, 3, 3], shift [T, 3] cm, units [T, E]; rows are valid where ``seen``."""

    rotation: Double
    shift: Double
    units: Double
    seen: Flags


def fit_clip(
    points: Float,
    valid: Flags,
    size: tuple[int, int],
    person: FaceFit | None = None,
    steady: bool = True,
) -> ClipFit:
    """Fit one shot of one person.

    Args:
        points: float32 [T, 478, 2] px; rows that are not ``valid`` are ignored.
        valid: bool [T].
        size: width and height of the pictures.
        person: who it is, fitted in pictures of the same size; learned from the clip where it is None.
        steady: false leaves out steps 3 and 4, to see what they do.

    Raises:
        FaceError: no frame is valid, or what is tracked is no face.
    """
    seen = valid & np.isfinite(points).all(axis=(1, 2))
    if not seen.any():
        raise FaceError("no frame of the clip shows a face")
    chosen = choose_frames(points, seen)
    person = fit_person(points[chosen], size) if person is None else person
    course = _solve_all(points, seen, person)
    if steady:
        course = _solve_steadied(points, course, person)
    lids = np.stack([blinks(eye, seen) for eye in eye_openings(points, course.rotation)], axis=1)
    return _assemble(points, course, person, lids, chosen)


def choose_frames(points: Float, seen: Flags, count: int = PERSON_FRAMES) -> NDArray[np.int64]:
    """At most ``count`` frames to learn the person from; the first one is the most usual of all.

    Half of the frames are left out for looking away, blinking or opening the mouth wide; of the rest,
    the one nearest to the clip's median comes first, then those that differ most from all taken so far.
    """
    at = np.flatnonzero(seen)
    marks = points[at].astype(np.float64)
    unit = np.linalg.norm(marks[:, 168] - marks[:, 2], axis=1) * 1.6
    nose = (marks[:, 4] - 0.5 * (marks[:, 33] + marks[:, 263])) / unit[:, None]
    lids = np.linalg.norm(marks[:, [159, 386]] - marks[:, [145, 374]], axis=2).mean(1) / unit
    mouth = np.linalg.norm(marks[:, 13] - marks[:, 14], axis=1) / unit
    looks = np.column_stack([nose, 2.0 * lids, mouth])
    usual = np.median(looks, axis=0)
    # Far turns hide half a face, but a little variety shows its depth.
    away = np.abs(looks[:, 0]) + np.abs(nose[:, 1] - usual[1]) + np.maximum(0.0, mouth - usual[3])
    away += 3.0 * np.maximum(0.0, usual[2] - 2.0 * lids)
    good = np.flatnonzero(away <= np.median(away))
    taken = [int(good[np.argmin(np.abs(looks[good] - usual).sum(1))])]
    while len(taken) < min(count, len(good)):
        apart = np.linalg.norm(looks[good, None] - looks[None, taken], axis=2).min(1)
        taken.append(int(good[np.argmax(apart)]))
    return np.asarray(at[taken], np.int64)


# -- solving -----------------------------------------------------------------------------------


def _problem(marks: Double, base: Double, scale: float) -> Problem:
    model = mark_basis()
    units = len(model.free)
    return Problem(
        points=marks,
        base=base,
        columns=model.expression,
        prior=np.concatenate([np.full(6, 1e-6), FRAME_STIFFNESS * model.stiffness]),
        target=np.zeros(units),
        low=np.zeros(units),
        high=np.ones(units),
        scale=scale,
        sealable=True,
    )


def _neutral_marks(person: FaceFit) -> Double:
    model, basis = mark_basis(), load_basis()
    own = basis.at_landmarks(person.correction).astype(float)
    marks: Double = model.mean + np.tensordot(person.identity.astype(float), model.identity, 1) + own
    return marks


def _camera(person: FaceFit) -> Camera:
    rotation = person.rotation.astype(float)
    return Camera(rotation, person.translation + rotation @ CENTRE, person.focal, person.centre.astype(float))


def _solve_all(points: Float, seen: Flags, person: FaceFit) -> _Course:
    """Every frame by itself, started from the one before."""
    base, frames, units = _neutral_marks(person), len(points), len(mark_basis().free)
    course = _Course(
        np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3)), np.zeros((frames, units)), seen
    )
    unit_cm = person.interocular_cm
    for run in runs(seen):
        camera, found, steps = _camera(person), reduce(person.expression), ALONE
        for t in range(run.start, run.stop):
            scale = person.focal * unit_cm / float(-camera.shift[2])
            problem = _problem(points[t, :468].astype(float), base, scale)
            found = iterate(problem, camera, np.clip(found, 0.0, 1.0), steps)
            course.rotation[t], course.shift[t], course.units[t] = camera.rotation, camera.shift, found
            steps = FOLLOWING
    return course


def _solve_steadied(points: Float, rough: _Course, person: FaceFit) -> _Course:
    """Pose smoothed; expressions once more with slow units near their smoothed course."""
    base, seen = _neutral_marks(person), rough.seen
    turn = Rotation.from_matrix(rough.rotation @ person.rotation.T.astype(float)).as_rotvec()
    turn = lively(turn, fit_curve(turn, seen, POSE_WINDOW), np.radians(TREMBLE_DEG))
    shift = fit_curve(rough.shift, seen, POSE_WINDOW)
    shift[:, 2:] = fit_curve(rough.shift[:, 2:], seen, DEPTH_WINDOW)
    shift = lively(rough.shift, shift, person.interocular_cm * TREMBLE)
    hold, course = _held(rough)
    units, unit_cm = rough.units.copy(), person.interocular_cm
    for t in np.flatnonzero(seen):
        camera = Camera(
            rough.rotation[t].copy(), rough.shift[t].copy(), person.focal, person.centre.astype(float)
        )
        scale = person.focal * unit_cm / float(-camera.shift[2])
        problem = _problem(points[t, :468].astype(float), base, scale)
        problem.prior[6:] += hold
        problem.target = hold / problem.prior[6:] * course[t]
        units[t] = iterate(problem, camera, units[t], 1)
    rotation = Rotation.from_rotvec(turn).as_matrix() @ person.rotation.astype(float)
    return _Course(rotation, shift, units, seen)


def _held(rough: _Course) -> tuple[Double, Double]:
    """How firmly each unit is held [E], and to what [T, E]."""
    names = [EXPRESSION_NAMES[k] for k in mark_basis().free]
    hold, course = np.zeros(len(names)), rough.units.copy()
    for starts, firmness, sigma in HOLDS:
        chosen = np.array([name.startswith(starts) for name in names])
        hold[chosen] = firmness
        course[:, chosen] = gentle(rough.units[:, chosen], rough.seen, sigma)
    return hold, course


# -- what is made of it ------------------------------------------------------------------------


def eye_openings(points: Float, rotation: Double) -> tuple[Double, Double]:
    """[T] of the left and of the right eye: distance of the lids over the width of the eye, measured as if
    the head looked at the camera (``points`` [T, 478, 2] px, ``rotation`` [T, 3, 3])."""
    marks = points[:, :468].astype(np.float64)
    up = rotation[:, :2, 1] * [1.0, -1.0]
    across = rotation[:, :2, 0] * [1.0, -1.0]
    left, right = (_lid_gap(marks, lids, up, across) for lids in (LEFT_LIDS, RIGHT_LIDS))
    return left, right


def _lid_gap(marks: Double, lids: NDArray[np.int64], up: Double, across: Double) -> Double:
    gap = (marks[:, lids[0, 2:-2]] - marks[:, lids[1, 2:-2]]).mean(1)
    width = marks[:, lids[0, -1]] - marks[:, lids[0, 0]]
    # A head seen from the side shows little of the width: beyond 60 degrees nothing is corrected.
    high = (gap * up).sum(1) / np.maximum((up**2).sum(1), 0.25)
    wide = np.abs((width * across).sum(1)) / np.maximum((across**2).sum(1), 0.25)
    ratio: Double = high / np.maximum(wide, 1e-6)
    return ratio


def blinks(opening: Double, seen: Flags) -> Double:
    """[T] 0..1 from one eye's opening [T]: 0 at the clip's usual open eye (its median), 1 shut."""
    usual = float(np.median(opening[seen]))
    shut: Double = np.clip((1.0 - opening / max(usual, 1e-6)) / (1.0 - SHUT), 0.0, 1.0)
    return shut


def head_yaw(rotation: Double) -> Double:
    """[T] rad from rotations [T, 3, 3]: > 0 when the nose points to image right."""
    yaw: Double = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    return yaw


def _assemble(
    points: Float, course: _Course, person: FaceFit, lids: Double, chosen: NDArray[np.int64]
) -> ClipFit:
    """Motion relative to the clip's rest; ``lids`` [T, 2] is how shut the left and right eye are."""
    seen = course.seen
    blink = np.where(seen, lids.mean(axis=1), np.nan)
    expression = np.stack([expand(units) for units in course.units]).astype(float)
    rest = _rest(course, expression, person)
    base = _neutral_marks(person)
    unit = float(np.linalg.norm(base[EYE_CORNERS[0]] - base[EYE_CORNERS[1]]))
    motion = np.full((len(points), MOTION.size), np.nan)
    relative = np.where(IS_RELATIVE, expression - rest.expression, expression)
    relative[:, _LIDS] = _shut(relative[:, _LIDS], lids)
    motion[:, MOTION.expression] = np.clip(relative, 0.0, 1.0)
    turn = Rotation.from_matrix(course.rotation @ rest.rotation.T.astype(float))
    motion[:, MOTION.rotation] = turn.as_rotvec()
    pivot = _pivots(course)
    motion[:, MOTION.translation] = (pivot - rest.to_camera(NECK_PIVOT)) / unit
    gaze = _gazes(points, course, person)
    usable = seen & (np.nan_to_num(blink, nan=1.0) < 0.4)
    usable = usable if usable.any() else seen
    gaze = without_spikes(bridge(gaze, usable), seen)
    own = np.median(gaze[usable], axis=0)
    motion[:, MOTION.gaze] = gaze - own
    motion[~seen] = np.nan
    return ClipFit(
        person=replace(rest, gaze=own.astype(np.float32)),
        motion=motion.astype(np.float32),
        blink=blink.astype(np.float32),
        residual=_residuals(points, course, person),
        yaw=np.where(seen, head_yaw(course.rotation), np.nan).astype(np.float32),
        chosen=chosen,
    )


def _shut(units: Double, lids: Double) -> Double:
    """Blink units [T, 2] carried to 1 where the lids themselves are shut.

    The landmarks of a closed eye keep a gap, so the solved unit stops at 0.5 to 0.7; the last half of the
    way is taken from ``lids`` [T, 2].
    """
    share = np.clip(2.0 * lids - 1.0, 0.0, 1.0)
    full: Double = units + share * np.maximum(1.0 - units, 0.0)
    return full


def _pivots(course: _Course) -> Double:
    """[T, 3] cm, the neck pivot in camera space."""
    pivots: Double = course.shift + course.rotation @ (NECK_PIVOT.astype(float) - CENTRE)
    return pivots


def _rest(course: _Course, expression: Double, person: FaceFit) -> FaceFit:
    """``person`` in the clip's median pose, relative units at their lower quintile, lips as in frame 0."""
    seen = course.seen
    turn = Rotation.from_matrix(course.rotation[seen] @ person.rotation.T.astype(float)).as_rotvec()
    rotation = Rotation.from_rotvec(np.median(turn, axis=0)).as_matrix() @ person.rotation.astype(float)
    pivot = np.median(_pivots(course)[seen], axis=0)
    quiet = np.quantile(expression[seen], REST_QUANTILE, axis=0)
    return replace(
        person,
        rotation=rotation.astype(np.float32),
        translation=(pivot - rotation @ NECK_PIVOT).astype(np.float32),
        expression=np.where(IS_RELATIVE, quiet, person.expression).astype(np.float32),
    )


def _gazes(points: Float, course: _Course, person: FaceFit) -> Double:
    """[T, 2] pitch and yaw of the eyes relative to the head, rad."""
    centres = eye_centres(person.identity, person.correction)
    out = np.zeros((len(points), 2))
    for t in np.flatnonzero(course.seen):
        camera = Camera(course.rotation[t], course.shift[t], person.focal, person.centre.astype(float))
        out[t] = gaze_angles(camera, centres, points[t])
    return out


def _residuals(points: Float, course: _Course, person: FaceFit) -> Float:
    base, unit_cm = _neutral_marks(person), person.interocular_cm
    out = np.full(len(points), np.nan)
    for t in np.flatnonzero(course.seen):
        camera = Camera(course.rotation[t], course.shift[t], person.focal, person.centre.astype(float))
        placed = camera.place(base + np.tensordot(course.units[t], mark_basis().expression, 1))
        miss = np.linalg.norm(points[t, :468] - camera.see(placed), axis=1).mean()
        out[t] = 100 * miss * float(-camera.shift[2]) / (person.focal * unit_cm)
    return out.astype(np.float32)
