"""One person from several frames: identity, the steady misfit and a common camera.

A single frame's fit takes its landmark noise and part of its expression for identity. Here the frames
are solved together, in one bounded Gauss-Newton system: the identity is shared, every frame has its
own pose and expression (the bundle of Cao et al. 2014, section 4.1, solved jointly instead of in
turns). What then remains at a landmark in all frames is the person too; frames that see the head from
different sides place it in depth as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.fitter import FaceFit, landmark_misses
from engine.face.residual import spread
from engine.face.solver import (
    CENTRE,
    HEAD_DISTANCE_CM,
    IDENTITY_STIFFNESS,
    MEAN_INTEROCULAR_CM,
    Camera,
    Problem,
    expand,
    first_pose,
    mark_basis,
    solve_box,
)
from engine.types import EXPRESSION_NAMES

__all__ = ["fit_person"]

Float = NDArray[np.float32]
Double = NDArray[np.float64]

ITERATIONS = 10
UNSEEN = 0.05
"""Weight that keeps a landmark's depth where no frame shows it from the side."""

_SEALED = EXPRESSION_NAMES.index("lipsSealed")


@dataclass
class _Joint:
    """The unknowns while solving: identity [80], then a pose and units [E] for each of K frames."""

    identity: Double
    cameras: list[Camera]
    units: Double
    """[K, E]"""


def fit_person(points: Float, size: tuple[int, int]) -> FaceFit:
    """The person that K frames of one shot show, posed as in the first of them.

    Args:
        points: float32 [K, 478, 2] px, K >= 1; six frames are plenty.
        size: width and height of the picture.

    Returns:
        the shared identity, correction and focal length; pose, expression and both error figures are
        those of frame 0, its gaze is left at 0.

    Raises:
        FaceError: the landmarks are not those of a face.
    """
    if points.ndim != 3 or points.shape[1:] != (478, 2) or not np.isfinite(points).all():
        raise FaceError(f"expected finite landmarks [K, 478, 2], got shape {points.shape}: track again")
    marks = points[:, :468].astype(float)
    centre = np.array([size[0] / 2, size[1] / 2])
    joint = _first(marks, centre)
    scale = joint.cameras[0].focal / HEAD_DISTANCE_CM * MEAN_INTEROCULAR_CM
    problems = [_problem(frame, scale, len(marks)) for frame in marks]
    for step in range(ITERATIONS):
        if _advance(problems, joint, 0.7 if step < 2 else 1.0) < 2e-3:
            break
    fits = [_as_fit(joint, k) for k in range(len(marks))]
    return _corrected(fits, points)


def _first(marks: Double, centre: Double) -> _Joint:
    """Weak-perspective poses, moved in depth to share one focal length."""
    model = mark_basis()
    cameras = [first_pose(model.mean, frame, model.weight, centre) for frame in marks]
    focal = float(np.median([camera.focal for camera in cameras]))
    for camera in cameras:
        camera.shift[2] += HEAD_DISTANCE_CM * (1.0 - focal / camera.focal)
        camera.focal = focal
    return _Joint(np.zeros(len(model.identity)), cameras, np.zeros((len(marks), len(model.free))))


def _problem(marks: Double, scale: float, frames: int) -> Problem:
    """One frame's share; its units cost 1/K, so that a lasting expression costs what it costs in a photo
    and is not pushed into the identity."""
    model = mark_basis()
    identities, units = len(model.identity), len(model.free)
    return Problem(
        points=marks,
        base=model.mean,
        columns=np.concatenate([model.identity, model.expression]),
        prior=np.concatenate([np.full(6, 1e-6), np.zeros(identities), model.stiffness / frames]),
        target=np.zeros(identities + units),
        low=np.concatenate([np.full(identities, -np.inf), np.zeros(units)]),
        high=np.concatenate([np.full(identities, np.inf), model.free != _SEALED]),
        scale=scale,
    )


def _advance(problems: list[Problem], joint: _Joint, pace: float) -> float:
    """One step of all unknowns; returns the largest change of a coefficient."""
    frames, units = joint.units.shape
    people = len(joint.identity)
    total = people + frames * (6 + units)
    matrix, right = np.zeros((total, total)), np.zeros(total)
    low, high = np.full(total, -np.inf), np.full(total, np.inf)
    matrix[range(people), range(people)] = IDENTITY_STIFFNESS
    right[:people] = -IDENTITY_STIFFNESS * joint.identity
    for k, problem in enumerate(problems):
        at = people + 6 * k + np.arange(6)
        mine = people + 6 * frames + units * k + np.arange(units)
        order = np.concatenate([at, np.arange(people), mine])
        own, pull = problem.normal(joint.cameras[k], np.concatenate([joint.identity, joint.units[k]]))
        matrix[np.ix_(order, order)] += own
        right[order] += pull
        low[mine] = problem.low[people:] - joint.units[k]
        high[mine] = problem.high[people:] - joint.units[k]
    move = pace * solve_box(matrix, right, low, high)
    joint.identity = joint.identity + move[:people]
    joint.units = joint.units + move[people + 6 * frames :].reshape(frames, units)
    for k, camera in enumerate(joint.cameras):
        step = move[people + 6 * k : people + 6 * k + 6]
        camera.rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ camera.rotation
        camera.shift = camera.shift + step[3:]
    return float(max(np.abs(move[:people]).max(), np.abs(move[people + 6 * frames :]).max()))


def _as_fit(joint: _Joint, k: int) -> FaceFit:
    camera = joint.cameras[k]
    return FaceFit(
        identity=joint.identity.astype(np.float32),
        expression=expand(joint.units[k]),
        rotation=camera.rotation.astype(np.float32),
        translation=(camera.shift - camera.rotation @ CENTRE).astype(np.float32),
        focal=camera.focal,
        centre=camera.centre.astype(np.float32),
        gaze=np.zeros(2, np.float32),
        correction=np.zeros_like(load_basis().mean),
        error_percent=0.0,
        spread_error_percent=0.0,
    )


def _corrected(fits: list[FaceFit], points: Float) -> FaceFit:
    """The first fit with the misses that all frames share, spread over the mesh.

    Frame k shows the miss d of a landmark only across its line of sight v: (1 - v v') d. The least-squares
    d of all frames is taken, kept small (:data:`UNSEEN`) where they do not tell.
    """
    matrix = np.tile(UNSEEN * np.eye(3), (468, 1, 1))
    right = np.zeros((468, 3))
    for fit, frame in zip(fits, points, strict=True):
        across = np.eye(3) - np.outer(fit.rotation[2], fit.rotation[2])
        matrix += across / len(fits)
        right += landmark_misses(fit, frame) @ across / len(fits)
    shared = np.linalg.solve(matrix, right[..., None])[..., 0] * (1.0 + UNSEEN)
    first = replace(fits[0], correction=spread(shared.astype(np.float32)))
    errors = [_error(fit, points[0]) for fit in (fits[0], first)]
    return replace(first, error_percent=errors[0], spread_error_percent=errors[1])


def _error(fit: FaceFit, points: Float) -> float:
    """Mean landmark distance, % of the inter-ocular distance."""
    seen = fit.project(load_basis().at_landmarks(fit.vertices()))[:, :2]
    return float(100 * np.linalg.norm(points[:468] - seen, axis=1).mean() / fit.interocular_px)
