"""From the motion space to what the mesh can show: absolute and relative units, soft limits.

Mouth, jaw, cheek-puff and tongue columns are absolute, so that the same speech closes everybody's
lips; the other units (eyes, brows, cheeks, nose) are added to what the portrait already shows, so
that nobody loses their own brows. Pose and gaze are relative to the portrait by definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.types import EXPRESSION_NAMES, MOTION

__all__ = [
    "ABSOLUTE",
    "HABIT",
    "HABITUAL",
    "MAX_ANGLE",
    "MAX_SHIFT",
    "effective_expression",
    "head_motion",
    "rest_motion",
    "soft_limit",
]

Float = NDArray[np.float32]

ABSOLUTE: NDArray[np.bool_] = np.array(
    [n.startswith(("jaw", "mouth", "cheekPuff", "tongue", "lips", "lowerLip")) for n in EXPRESSION_NAMES]
)
"""bool [64]: the columns that are taken as they are."""

# A smile leaves folds, raised cheeks and narrowed eyes in the photo which no warp removes. Taking
# the corners all the way down would contradict them, so this share of the portrait's own smile stays.
HABIT = 0.4
HABITUAL = np.array(
    [n.startswith(("mouthSmile", "mouthDimple", "mouthFrown", "mouthStretch")) for n in EXPRESSION_NAMES]
)
_BLINK = [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]
_WIDE = [MOTION.index("eyeWideLeft"), MOTION.index("eyeWideRight")]
MAX_ANGLE: Float = np.radians([22.0, 28.0, 24.0]).astype(np.float32)  # pitch, yaw, roll
MAX_SHIFT = np.array([0.6, 0.6, 0.8], np.float32)  # inter-ocular distances


def soft_limit(x: Float, limit: Float | float) -> Float:
    """``x`` unchanged up to 70 % of ``limit``, then approaching it smoothly (C1), any sign."""
    knee = 0.7 * np.asarray(limit, np.float32)
    span = np.asarray(limit, np.float32) - knee
    over = np.maximum(np.abs(x) - knee, 0.0)
    return np.asarray(np.sign(x) * (np.minimum(np.abs(x), knee) + span * np.tanh(over / span)), np.float32)


def rest_motion(expression: Float) -> Float:
    """The motion [72] at which a portrait with fitted ``expression`` [64] shows itself."""
    rest = np.zeros(MOTION.size, np.float32)
    rest[MOTION.expression] = np.where(ABSOLUTE, expression, 0.0)
    return rest


def effective_expression(motion: Float, expression: Float) -> Float:
    """Coefficients [64] applied to the mesh for ``motion`` [72] and the portrait's ``expression``.

    Equals ``expression`` at :func:`rest_motion`, to the bit.
    """
    wanted = motion[MOTION.expression]
    kept = np.where(HABITUAL, HABIT * np.maximum(expression - wanted, 0.0), 0.0)
    e = np.where(ABSOLUTE, wanted + kept, expression + wanted).astype(np.float32)
    # A blink closes the eye whatever the portrait's lids do; an eye cannot be shut and wide.
    blink = wanted[_BLINK]
    e[_BLINK] = expression[_BLINK] + blink * (1.0 - expression[_BLINK])
    e[_WIDE] *= 1.0 - np.clip(blink, 0.0, 1.0)
    above, below = np.maximum(e - 1.0, 0.0), np.minimum(e, 0.0)
    soft = np.clip(e, 0.0, 1.0) + 0.15 * np.tanh(above / 0.15) + 0.1 * np.tanh(below / 0.1)
    return np.asarray(soft, np.float32)


def head_motion(motion: Float, pivot: Float, iod_cm: float) -> Float:
    """Rigid motion [3, 4] of the skull in camera space: x -> R (x - pivot) + pivot + t.

    ``pivot`` [3] is the top of the neck in camera space; the rotation (axis-angle) is limited to
    what a warped photo can show, the translation to what the crop can hold.
    """
    turn = soft_limit(motion[MOTION.rotation], MAX_ANGLE)
    shift = soft_limit(motion[MOTION.translation], MAX_SHIFT) * np.float32(iod_cm)
    head = np.empty((3, 4), np.float32)
    head[:, :3] = _rotation(turn)
    head[:, 3] = pivot - head[:, :3] @ pivot + shift
    return head


def _rotation(vector: Float) -> Float:
    """Rodrigues' formula, float32 [3, 3]."""
    angle = float(np.sqrt(np.dot(vector, vector)))
    if angle < 1e-8:
        return np.eye(3, dtype=np.float32)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], np.float64)
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return np.asarray(matrix, np.float32)
