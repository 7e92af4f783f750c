"""Distances between a generated and a real mouth, both on the neutral head of the face basis.

Both mouths are rebuilt from expression coefficients with pose and identity at zero, as GoHD and
PD-FGC do it, so that neither head motion nor face shape counts.

* **LMD-m** (mouth landmark distance; Chen et al., 2018, as FlowVQTalker, PD-FGC and VAST report it):
  mean distance of 40 lip landmarks in the front view, each frame's mouth centre moved onto the
  other's, in % of the distance of the outer eye corners.
* **LMD-m, moving part**: the same after each side's own mean mouth shape over the clip is taken
  away. What is left is the motion; a person's rest or habitual smile no longer counts.
* **LVE** (lip vertex error; Richard et al., 2021): the largest distance over the lip vertices in a
  frame, mean over frames, mm on a mean head. Published values square it; ours do not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.types import MOTION

__all__ = ["INTER_OCULAR_CM", "LIP_LANDMARKS", "lip_points", "lip_vertices", "lmd", "lmd_moving", "lve_mm"]

Floats = NDArray[np.float64]

LIP_LANDMARKS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
"""Outer, then inner lip line, in MediaPipe's numbering."""
_EYE_CORNERS = (33, 263)


def _inter_ocular_cm() -> float:
    basis = load_basis()
    corners = basis.at_landmarks(basis.mean)[list(_EYE_CORNERS)]
    return float(np.linalg.norm(corners[0] - corners[1]))


INTER_OCULAR_CM = _inter_ocular_cm()
"""Distance of the outer eye corners of the mean head."""


@lru_cache(maxsize=1)
def _landmark_basis() -> tuple[Floats, Floats]:
    """Mean [40, 2] and units [64, 40, 2] of the lip landmarks, front view, inter-ocular distances."""
    basis = load_basis()
    rows = list(LIP_LANDMARKS)
    mean = basis.at_landmarks(basis.mean)[rows, :2]
    units = basis.at_landmarks(basis.expression)[:, rows, :2]
    return mean.astype(np.float64) / INTER_OCULAR_CM, units.astype(np.float64) / INTER_OCULAR_CM


@lru_cache(maxsize=1)
def _vertex_basis() -> tuple[Floats, Floats]:
    """Mean [V, 3] and units [64, V, 3] of the vertices that carry lip landmarks, mm."""
    basis = load_basis()
    vertices = np.unique(basis.landmark_tri[list(LIP_LANDMARKS)])
    return 10.0 * basis.mean[vertices].astype(np.float64), 10.0 * basis.expression[:, vertices].astype(
        np.float64
    )


def lip_points(motion: Floats) -> Floats:
    """Lip landmarks [T, 40, 2] of ``motion`` [T, 72], inter-ocular distances."""
    mean, units = _landmark_basis()
    return np.asarray(mean + np.tensordot(motion[:, MOTION.expression], units, 1))


def lip_vertices(motion: Floats) -> Floats:
    """Lip vertices [T, V, 3] of ``motion`` [T, 72], mm."""
    mean, units = _vertex_basis()
    return np.asarray(mean + np.tensordot(motion[:, MOTION.expression], units, 1))


def _moved(made: Floats, real: Floats, lag: int) -> tuple[Floats, Floats]:
    """Both motions where both are known, the generated one advanced by ``lag`` frames."""
    length = min(len(made), len(real))
    made, real = made[max(0, lag) : length + min(0, lag)], real[max(0, -lag) : length - max(0, lag)]
    both = np.isfinite(made).all(axis=1) & np.isfinite(real).all(axis=1)
    return made[both], real[both]


def lmd(made: Floats, real: Floats, lag: int = 0) -> float:
    """LMD-m of two motions [T, 72], % of the inter-ocular distance; NaN without a common frame."""
    a, b = (lip_points(m) for m in _moved(made, real, lag))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return _mean_percent(a - b)


def lmd_moving(made: Floats, real: Floats, lag: int = 0) -> float:
    """The moving part of LMD-m, % of the inter-ocular distance."""
    a, b = (lip_points(m) for m in _moved(made, real, lag))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return _mean_percent((a - a.mean(axis=0)) - (b - b.mean(axis=0)))


def lve_mm(made: Floats, real: Floats, lag: int = 0) -> float:
    """Lip vertex error of two motions [T, 72], mm; NaN without a common frame."""
    a, b = (lip_vertices(m) for m in _moved(made, real, lag))
    if not len(a):
        return float("nan")
    return float(np.linalg.norm(a - b, axis=-1).max(axis=1).mean())


def _mean_percent(difference: Floats) -> float:
    if not len(difference):
        return float("nan")
    return 100.0 * float(np.linalg.norm(difference, axis=-1).mean())
