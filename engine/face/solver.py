"""The least-squares machinery of the fitter: landmark basis, camera, Jacobian, bounded Gauss–Newton.

Everything here works on the 468 landmark points in float64 and knows nothing about pictures,
people or time. See :mod:`engine.face.fitter` for what is fitted and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.types import EXPRESSION_NAMES

__all__ = [
    "CENTRE", "EYE_CORNERS", "HEAD_DISTANCE_CM", "MEAN_INTEROCULAR_CM", "Camera", "MarkBasis", "Problem",
    "expand", "first_pose", "interocular", "iterate", "mark_basis", "reduce", "solve_box",
]  # fmt: skip

Float = NDArray[np.float32]
Double = NDArray[np.float64]

HEAD_DISTANCE_CM = 100.0
"""Assumed distance of every face; one picture hardly tells focal length and distance apart."""

MEAN_INTEROCULAR_CM = 8.9
"""Distance of the outer eye corners on the mean head."""

EYE_CORNERS = (33, 263)
"""Outer eye corners; their distance in the picture is the inter-ocular distance."""

POINT_SIGMA = 0.015  # expected landmark error, in inter-ocular distances
GAP_SIGMA = 0.004  # expected error of a lip or lid gap
CENTRE = np.array([0.0, 0.0, 3.0])  # rotation increments turn about this head point

# Fitted halves; the symmetric part is moved into browInnerUp and cheekPuff afterwards.
_HALVES = {
    "browInnerUp": ("browInnerUpLeft", "browInnerUpRight"),
    "cheekPuff": ("cheekPuffLeft", "cheekPuffRight"),
}
# Units that landmarks cannot see, or that duplicate others.
_FROZEN = (
    "eyeLook", "pupil", "tongue", "lowerLipIn", "browInnerUp", "cheekPuff", "cheekRaiser",
)  # fmt: skip
# Prior precision of identity and expression coefficients; low where faces really go, high for units that
# could stand in for identity.
IDENTITY_STIFFNESS = 1.0
_STIFFNESS = 30.0
_STIFFNESS_OF = {
    "lipsSealed": 3.0, "eyeBlinkLeft": 3.0, "eyeBlinkRight": 3.0, "jawOpen": 6.0,
    "mouthSmileLeft": 12.0, "mouthSmileRight": 12.0, "mouthPucker": 15.0, "mouthFunnel": 15.0,
    "mouthShrugLower": 60.0, "jawLeft": 60.0, "jawRight": 60.0, "mouthShrugUpper": 80.0,
    "mouthClose": 80.0, "cheekPuffLeft": 80.0, "cheekPuffRight": 80.0, "jawForward": 80.0,
}  # fmt: skip


@dataclass(frozen=True)
class MarkBasis:
    """The basis at the landmarks, with the rows and columns the solver uses."""

    mean: Double
    """[468, 3]"""
    identity: Double
    """[80, 468, 3]"""
    expression: Double
    """[E, 468, 3], free units only"""
    free: NDArray[np.int64]
    """[E] their columns in the motion space"""
    weight: Double
    """[468]"""
    upper: NDArray[np.int64]
    """[P] facing points of lips and lids ..."""
    lower: NDArray[np.int64]
    """[P] ... whose gaps are fitted"""
    lips: NDArray[np.bool_]
    """[P] which of them are lips"""
    wide: Double
    """[P] gaps on the mean head, cm: lips at rest, eyes open"""
    closed: Double
    """[P] the same with full blinks: the visible lid edges do not quite meet in the model"""
    stiffness: Double
    """[E] prior precision"""
    eye_mean: Double
    """[2, 3] centres of the left and right eyeball on the mean head"""
    eye_identity: Double
    """[80, 2, 3] how they move with identity"""


@lru_cache(maxsize=1)
def mark_basis() -> MarkBasis:
    """The basis at the landmarks (cached; the basis is constant)."""
    basis = load_basis()
    halves = [h for pair in _HALVES.values() for h in pair]
    free = [k for k, name in enumerate(EXPRESSION_NAMES) if name in halves or not name.startswith(_FROZEN)]
    pairs = np.concatenate([m[:, 1:-1] for m in (INNER_LIPS, RIGHT_LIDS, LEFT_LIDS)], 1)
    lips = INNER_LIPS.shape[1] - 2
    shut = sum(basis.expression[EXPRESSION_NAMES.index(n)] for n in ("eyeBlinkLeft", "eyeBlinkRight"))
    height = basis.at_landmarks(np.stack([basis.mean, basis.mean + shut]))[..., 1].astype(float)
    wide, closed = np.maximum(height[:, pairs[0]] - height[:, pairs[1]], 0.0)

    def at(values: Float) -> Double:
        # Plain strides: every later product would copy otherwise.
        return np.ascontiguousarray(basis.at_landmarks(values), np.float64)

    return MarkBasis(
        mean=at(basis.mean),
        identity=at(basis.identity),
        expression=at(basis.expression[free]),
        free=np.array(free),
        weight=basis.landmark_weight.astype(float),
        upper=pairs[0],
        lower=pairs[1],
        lips=np.arange(pairs.shape[1]) < lips,
        wide=wide,
        closed=closed,
        stiffness=np.array([_STIFFNESS_OF.get(EXPRESSION_NAMES[k], _STIFFNESS) for k in free]),
        eye_mean=basis.eye_centre.astype(float),
        eye_identity=np.stack(
            [basis.identity[:, basis.part(n)].mean(1) for n in ("iris_left", "iris_right")], 1
        ),
    )


@dataclass
class Camera:
    """Pose and intrinsics while solving: Q = R (X - CENTRE) + t."""

    rotation: Double
    shift: Double
    focal: float
    centre: Double

    def place(self, shape: Double) -> Double:
        placed: Double = (shape - CENTRE) @ self.rotation.T + self.shift
        return placed

    def see(self, placed: Double) -> Double:
        depth = -placed[:, 2:]
        seen: Double = self.centre + self.focal * placed[:, :2] * [1.0, -1.0] / depth
        return seen

    def slope(self, placed: Double) -> Double:
        """[468, 2, 3] derivative of the image point by the camera-space point."""
        x, y, z = placed.T
        out = np.zeros((len(placed), 2, 3))
        out[:, 0, 0] = -self.focal / z
        out[:, 0, 2] = self.focal * x / z**2
        out[:, 1, 1] = self.focal / z
        out[:, 1, 2] = -self.focal * y / z**2
        return out


def interocular(points: Float | Double) -> float:
    """Distance of the outer eye corners in the picture, px."""
    return float(np.linalg.norm(points[EYE_CORNERS[0]] - points[EYE_CORNERS[1]]))


def first_pose(marks: Double, points: Double, weight: Double, centre: Double) -> Camera:
    """Weak-perspective pose: an affine camera by least squares, its rows made orthonormal."""
    middle = (weight[:, None] * marks).sum(0) / weight.sum()
    target = (weight[:, None] * points).sum(0) / weight.sum()
    root = np.sqrt(weight)[:, None]
    affine = np.linalg.lstsq((marks - middle) * root, (points - target) * root * [1.0, -1.0], rcond=None)[0].T
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    scale = float(s.mean())
    if not np.isfinite(scale) or scale < 1e-6:
        raise FaceError("the landmarks do not form a face: give a photo with one clear face")
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    focal = scale * HEAD_DISTANCE_CM
    at = np.append((target - centre) / scale * [1.0, -1.0], -HEAD_DISTANCE_CM)
    return Camera(rotation, at + rotation @ (CENTRE - middle), focal, centre)


def _jacobian(camera: Camera, placed: Double, columns: Double) -> Double:
    """[468, 2, 6 + K]: rotation and translation increments, then the basis ``columns`` [K, 468, 3]."""
    slope = camera.slope(placed)
    arm = placed - camera.shift
    # d(w x a)/dw = -[a]_x
    cross = np.zeros((len(arm), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2] = arm[:, 2], -arm[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = -arm[:, 2], arm[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = arm[:, 1], -arm[:, 0]
    shape = np.matmul(slope @ camera.rotation, columns.transpose(1, 2, 0))
    return np.concatenate([slope @ cross, slope, shape], 2)


def solve_box(matrix: Double, vector: Double, low: Double, high: Double) -> Double:
    """Minimise x'Ax/2 - b'x within bounds (A positive definite), by block principal pivoting.

    Portugal, Judice and Vicente 1994: all infeasible coefficients change sides at once; when that
    stops helping, only the last one does (Murty's rule), which always ends. Unbounded coefficients
    are eliminated first.
    """
    loose = np.isinf(high)
    inner = np.linalg.solve(
        matrix[np.ix_(loose, loose)], np.column_stack([matrix[np.ix_(loose, ~loose)], vector[loose]])
    )
    reduced = matrix[np.ix_(~loose, ~loose)] - matrix[np.ix_(~loose, loose)] @ inner[:, :-1]
    right = vector[~loose] - matrix[np.ix_(~loose, loose)] @ inner[:, -1]
    out = np.empty_like(vector)
    out[~loose] = _pivot(reduced, right, low[~loose], high[~loose])
    out[loose] = inner[:, -1] - inner[:, :-1] @ out[~loose]
    return out


def _pivot(matrix: Double, vector: Double, low: Double, high: Double) -> Double:
    side = np.zeros(len(vector), np.int64)  # -1 at the lower bound, 0 free, 1 at the upper bound
    x = np.zeros_like(vector)
    best, patience = len(vector) + 1, 3
    for _ in range(200):
        free = side == 0
        x = np.where(side < 0, low, high)
        x[free] = np.linalg.solve(
            matrix[np.ix_(free, free)], vector[free] - matrix[np.ix_(free, ~free)] @ x[~free]
        )
        pull = vector - matrix @ x
        wrong = np.where(free, (x < low - 1e-9) | (x > high + 1e-9), side * pull < -1e-9)
        count = int(wrong.sum())
        if count == 0:
            break
        if count < best:
            best, patience = count, 3
        elif patience > 0:
            patience -= 1
        else:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        side = np.where(wrong, np.where(free, np.where(x < low, -1, 1), 0), side)
    return np.clip(x, low, high)


@dataclass
class Problem:
    """One landmark fit: the fixed data of the Gauss–Newton iterations."""

    points: Double
    """[468, 2] px"""
    base: Double
    """[468, 3] shape that ``columns`` add to"""
    columns: Double
    """[K, 468, 3]"""
    prior: Double
    """[6 + K] precision around ``target``"""
    target: Double
    """[K]"""
    low: Double
    high: Double
    scale: float
    """inter-ocular distance, px"""
    sealable: bool = False
    """whether ``columns`` hold the unit that closes the visible lip edges"""

    def _gaps(self, camera: Camera, miss: Double, slope: Double) -> tuple[Double, Double]:
        """Residuals [P] px of the gaps of lips and lids along the face's up direction; slopes [P, 6 + K].

        The model's visible lid edges stay apart by ``closed`` in a full blink, so seen gaps are mapped
        from 0..wide to closed..wide; lips that cannot be sealed stay apart as on the mean head.
        """
        model = mark_basis()
        up = camera.rotation[:2, 1] * [1.0, -1.0]
        up = up / max(float(np.hypot(*up)), 1e-3)
        seen = (self.points[model.upper] - self.points[model.lower]) @ up
        unit = self.scale / MEAN_INTEROCULAR_CM
        wide, closed = model.wide * unit, model.closed * unit
        lids = closed + np.maximum(seen, 0.0) * (1.0 - closed / np.maximum(wide, 1e-6))
        lips = seen if self.sealable else np.maximum(seen, wide)
        wanted = np.where(model.lips, lips, lids)
        gap = (miss[model.upper] - miss[model.lower]) @ up + wanted - seen
        return gap, np.einsum("pck,c->pk", slope[model.upper] - slope[model.lower], up)

    def normal(self, camera: Camera, coefficients: Double) -> tuple[Double, Double]:
        """Normal matrix and right side of one robust, regularised step."""
        model = mark_basis()
        placed = camera.place(self.base + np.tensordot(coefficients, self.columns, 1))
        miss = self.points - camera.see(placed)
        slope = _jacobian(camera, placed, self.columns)
        gap, gap_slope = self._gaps(camera, miss, slope)
        point, pair = POINT_SIGMA * self.scale, GAP_SIGMA * self.scale
        rows = np.concatenate([slope.reshape(-1, slope.shape[2]) / point, gap_slope / pair])
        rest = np.concatenate([miss.ravel() / point, gap / pair])
        # Pseudo-Huber weights: beyond three sigmas the cost grows linearly. Whole regions of unusual
        # faces lie far off at first, so nothing may be dropped.
        near = model.weight / np.sqrt(1.0 + (miss**2).sum(1) / (3.0 * point) ** 2)
        robust = np.concatenate([np.repeat(near, 2), np.ones(len(gap))])
        weighted = rows * robust[:, None]
        matrix = rows.T @ weighted + np.diag(self.prior)
        right = weighted.T @ rest
        right[6:] += self.prior[6:] * (self.target - coefficients)
        return matrix, right


def iterate(problem: Problem, camera: Camera, coefficients: Double, steps: int) -> Double:
    """Gauss–Newton from ``camera`` (changed in place) and ``coefficients`` [K]; returns the latter."""
    unbounded = np.full(6, np.inf)
    for step in range(steps):
        matrix, right = problem.normal(camera, coefficients)
        low = np.concatenate([-unbounded, problem.low - coefficients])
        high = np.concatenate([unbounded, problem.high - coefficients])
        move = solve_box(matrix, right, low, high) * (0.7 if step < 2 and steps > 4 else 1.0)
        camera.rotation = Rotation.from_rotvec(move[:3]).as_matrix() @ camera.rotation
        camera.shift = camera.shift + move[3:6]
        coefficients = coefficients + move[6:]
        if np.abs(move[6:]).max() < 1e-3 and np.abs(move[:3]).max() < 1e-4:
            break
    return coefficients


def expand(values: Double) -> Float:
    """Free coefficients [E] to all 64, shared halves moved into the symmetric units."""
    out = np.zeros(len(EXPRESSION_NAMES), np.float32)
    out[mark_basis().free] = values
    for whole, (left, right) in _HALVES.items():
        i, j, k = (EXPRESSION_NAMES.index(n) for n in (whole, left, right))
        out[i] = min(out[j], out[k])
        out[j] -= out[i]
        out[k] -= out[i]
    return out


def reduce(expression: Float | Double) -> Double:
    """All 64 coefficients to the free ones [E]; the inverse of :func:`expand`."""
    full = expression.astype(float)
    for whole, pair in _HALVES.items():
        for half in pair:
            full[EXPRESSION_NAMES.index(half)] += full[EXPRESSION_NAMES.index(whole)]
    reduced: Double = full[mark_basis().free]
    return reduced
