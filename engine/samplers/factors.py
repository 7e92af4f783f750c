"""Which motion columns belong to which factor: lips, eyes, brows, the rest of the expression, pose.

PD-FGC drives lips, pose, eyes and expression each from its own source (Wang et al., 2023); the same
split serves the live strengths and mixed recipes. Together the four factors own every column once.
"""

from __future__ import annotations

from engine.types import EXPRESSION_NAMES, MOTION

__all__ = ["BROWS", "EXPRESSION", "EYES", "FACTOR_COLUMNS", "LIPS", "POSE", "UPPER"]


def _starting(*prefixes: str) -> list[int]:
    return [k for k, name in enumerate(EXPRESSION_NAMES) if name.startswith(prefixes)]


LIPS: list[int] = _starting("jaw", "mouth", "tongue", "lips", "lowerLip", "cheekPuff")
"""Everything speech moves; smiles and frowns too, which the expression only adds to."""
EYES: list[int] = [*_starting("eyeBlink", "eyeLook", "pupil"), *range(MOTION.gaze.start, MOTION.gaze.stop)]
"""Gaze and blinks."""
BROWS: list[int] = _starting("brow")
EXPRESSION: list[int] = sorted(
    set(range(MOTION.expression.stop)) - set(LIPS) - {c for c in EYES if c < MOTION.expression.stop}
)
"""Brows, cheeks, nose, squint and wide lids."""
POSE: list[int] = list(range(MOTION.pose.start, MOTION.pose.stop))
UPPER: list[int] = [MOTION.index(name) for name in (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
)]  # fmt: skip
"""Columns of the expression that tracked people show and networks predict [13]."""

FACTOR_COLUMNS: dict[str, list[int]] = {"lips": LIPS, "pose": POSE, "eyes": EYES, "expression": EXPRESSION}
