"""Expression styles of the emotions, authored in the face basis.

After the action units that people agree on for each emotion (Ekman, Friesen, "Facial action coding
system", 1978; Du, Tao, Martinez, 2014). Written by hand, not measured: no labelled emotional video
may be trained on here.
"""

from __future__ import annotations

import numpy as np

from engine.samplers.noise import Floats
from engine.types import EMOTIONS, EXPRESSION_NAMES, MOTION

__all__ = ["STYLES", "add_emotion"]

_BOTH = ("Left", "Right")
# Unit -> amount at full strength; names without a side stand for both.
_AUTHORED: dict[str, dict[str, float]] = {
    "angry": {"browDown": 0.8, "eyeSquint": 0.35, "noseSneer": 0.25, "mouthPress": 0.25, "mouthFrown": 0.2},
    "contempt": {"mouthSmileLeft": 0.4, "mouthDimpleLeft": 0.45, "eyeSquint": 0.15, "browOuterUpRight": 0.15},
    "disgusted": {"noseSneer": 0.75, "mouthUpperUp": 0.3, "browDown": 0.45, "cheekSquint": 0.35,
                  "mouthFrown": 0.25},
    "fearful": {"browInnerUp": 0.75, "browOuterUp": 0.25, "eyeWide": 0.6, "mouthStretch": 0.35},
    "happy": {"mouthSmile": 0.6, "cheekSquint": 0.5, "eyeSquint": 0.2, "mouthDimple": 0.15},
    "sad": {"browInnerUp": 0.65, "mouthFrown": 0.5, "mouthShrugLower": 0.25, "eyeSquint": 0.15},
    "surprised": {"browInnerUp": 0.7, "browOuterUp": 0.75, "eyeWide": 0.6, "jawOpen": 0.06},
}  # fmt: skip


def _styles() -> Floats:
    table = np.zeros((len(EMOTIONS), len(EXPRESSION_NAMES)))
    for row, emotion in enumerate(EMOTIONS):
        for name, amount in _AUTHORED[emotion].items():
            names = [name] if name in EXPRESSION_NAMES else [name + side for side in _BOTH]
            for column in names:
                table[row, EXPRESSION_NAMES.index(column)] = amount
    return table


STYLES: Floats = _styles()
"""[7, 64] expression at full strength, in the order of :data:`~engine.types.EMOTIONS`."""


def add_emotion(motion: Floats, strength: Floats) -> None:
    """Add the styles to ``motion`` [B, 72] in place; ``strength`` [B, 7] 0..1, several may mix.

    A sealed mouth stays sealed: what would part the lips gives way to ``lipsSealed``.
    """
    total = np.maximum(strength.sum(axis=1, keepdims=True), 1.0)
    added = (strength / total) @ STYLES
    free = 1.0 - np.clip(motion[:, [_SEAL]], 0.0, 1.0)
    added[:, _PARTING] *= free
    motion[:, MOTION.expression] += added


_SEAL = EXPRESSION_NAMES.index("lipsSealed")
_PARTING = [
    k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("mouthUpperUp", "mouthLowerDown", "jawOpen"))
]
