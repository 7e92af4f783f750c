"""GoHD's handcrafted eye feature, and landmarks of the lips, as linear maps of the expression.

The face basis is linear, so are its landmarks, and so are lid aperture and brow displacement in the
front view of the head with pose and identity zero (GoHD, Fig. 4): one matrix each, made once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.samplers.factors import UPPER
from engine.samplers.visemes import LIP_CHANNELS, spread_columns
from engine.types import MOTION

__all__ = ["BLINK", "eye_feature", "eye_map", "lip_landmarks"]

Floats = NDArray[np.float32]

BLINK = [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]
_ALLOWED = [*UPPER, *BLINK, MOTION.index("browInnerUpLeft"), MOTION.index("browInnerUpRight")]

# MediaPipe's numbers for the landmarks the paper takes from the 68-point scheme: (upper, lower) lid
# pairs 37-41, 38-40, 43-47, 44-46; brows 17-26; jaw 3-13 and the mouth 48-67.
_LIDS = ((160, 144), (158, 153), (385, 380), (387, 373))
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_OUTER_EYES = (33, 263)
_MOUTH_AND_JAW = (
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
    172, 136, 150, 149, 148, 152, 377, 378, 379, 365, 397,
)  # fmt: skip


@lru_cache(maxsize=1)
def _landmarks() -> tuple[Floats, Floats]:
    """Of the mean head [468, 2] and of each unit [64, 468, 2], front view, inter-ocular distances."""
    basis = load_basis()
    mean = basis.at_landmarks(basis.mean)[:, :2]
    scale = float(np.linalg.norm(mean[_OUTER_EYES[0]] - mean[_OUTER_EYES[1]]))
    return mean / scale, basis.at_landmarks(basis.expression)[..., :2] / scale


@lru_cache(maxsize=1)
def eye_map() -> Floats:
    """[21, 64]: an expression to lid aperture (share of the neutral one, minus 1) and the displacement of
    ten brow points (x, y each, inter-ocular distances).

    Only brows, lids and cheeks count: a mouth must not move a brow.
    """
    mean, units = _landmarks()
    upper, lower = [a for a, _ in _LIDS], [b for _, b in _LIDS]
    neutral = (mean[upper, 1] - mean[lower, 1]).mean()
    lids = (units[:, upper, 1] - units[:, lower, 1]).mean(axis=1) / neutral
    brows = units[:, list(_BROWS)].reshape(len(units), -1)
    full = np.concatenate([lids[:, None], brows], axis=1).T
    kept = np.zeros_like(full)
    kept[:, _ALLOWED] = full[:, _ALLOWED]
    return np.asarray(kept, np.float32)


def eye_feature(expression: Floats) -> Floats:
    """[T, 21] of ``expression`` [T, 64]: zero for the neutral face."""
    return np.asarray(expression.astype(np.float32) @ eye_map().T, np.float32)


@lru_cache(maxsize=1)
def lip_landmarks() -> Floats:
    """[15, 2 K]: displacement of mouth and jaw landmarks by each lip channel at 1 (inter-ocular
    distances)."""
    _, units = _landmarks()
    spread = spread_columns(np.eye(len(LIP_CHANNELS)))[:, MOTION.expression]
    points = units[:, list(_MOUTH_AND_JAW)].reshape(len(units), -1)
    return np.asarray(spread.astype(np.float32) @ points, np.float32)
