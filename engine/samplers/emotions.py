"""Expression styles of the emotions, authored in the face basis, and how each changes a performance.

After the action units that people agree on for each emotion (Ekman, Friesen, "Facial action coding
system", 1978; Du, Tao, Martinez, 2014). Written by hand, not measured: no labelled emotional video
may be trained on here.
"""

from __future__ import annotations

import numpy as np

from engine.samplers.noise import Floats
from engine.types import EMOTIONS, EXPRESSION_NAMES, MOTION

__all__ = ["DYNAMICS", "STYLES", "add_emotion", "manner", "sober"]

_BOTH = ("Left", "Right")
# Unit -> amount at full strength; names without a side stand for both. Sides differ by a little
# where faces do: posed expressions are slightly stronger on the subject's left (Sackeim et al., 1978).
# Below zero: what the emotion takes from a portrait that smiles.
_AUTHORED: dict[str, dict[str, float]] = {
    # brow lowerer 4, lid tightener 7, upper lid raiser 5, lip tightener 23, a trace of sneer 9
    "angry": {"browDown": 0.85, "eyeSquint": 0.4, "eyeWide": 0.15, "noseSneer": 0.3, "mouthPress": 0.25,
              "mouthFrown": 0.3, "mouthShrugLower": 0.15, "jawForward": 0.15, "mouthSmile": -0.35},
    # one-sided lip corner tightener 14 with a little 12, one brow raised
    "contempt": {"mouthSmileLeft": 0.5, "mouthSmileRight": -0.2, "mouthDimpleLeft": 0.6,
                 "mouthPressLeft": 0.25, "mouthLeft": 0.2, "cheekSquintLeft": 0.25, "eyeSquint": 0.2,
                 "browDownLeft": 0.2, "browOuterUpRight": 0.4, "eyeBlink": 0.08},
    # nose wrinkler 9, upper lip raiser 10, chin raiser 17
    "disgusted": {"noseSneer": 0.6, "mouthUpperUp": 0.12, "browDown": 0.55, "cheekSquint": 0.4,
                  "eyeSquint": 0.35, "mouthFrown": 0.4, "mouthShrugLower": 0.2, "mouthSmile": -0.35},
    # inner and outer brow raisers 1 + 2 drawn together 4, upper lid raiser 5, lip stretcher 20
    "fearful": {"browInnerUp": 0.8, "browOuterUp": 0.25, "browDown": 0.2, "eyeWide": 0.7,
                "mouthStretch": 0.4, "mouthLowerDown": 0.08, "mouthFrown": 0.15, "mouthSmile": -0.35},
    # cheek raiser 6, lip corner puller 12
    "happy": {"mouthSmileLeft": 0.64, "mouthSmileRight": 0.58, "cheekSquint": 0.55, "eyeSquint": 0.25,
              "mouthDimple": 0.15, "mouthUpperUp": 0.08, "browOuterUp": 0.08},
    # inner brow raiser 1 with 4, lip corner depressor 15, chin raiser 17, heavy lids
    "sad": {"browInnerUp": 0.8, "browDown": 0.15, "mouthFrown": 0.6, "mouthShrugLower": 0.3,
            "eyeSquint": 0.12, "eyeBlink": 0.16, "mouthSmile": -0.5, "mouthDimple": -0.2},
    # brow raisers 1 + 2, upper lid raiser 5, jaw drop 26
    "surprised": {"browInnerUp": 0.75, "browOuterUpLeft": 0.82, "browOuterUpRight": 0.76, "eyeWide": 0.7,
                  "jawOpen": 0.08, "mouthSmile": -0.25},
}  # fmt: skip

# How far each emotion changes (blinks a minute, size of head motion, size of the mouth's motion);
# factors at full strength. Aroused states move more, sad ones less; fear and anger stare.
_MANNER: dict[str, tuple[float, float, float]] = {
    "angry": (0.7, 1.15, 1.2),
    "contempt": (0.8, 0.8, 0.85),
    "disgusted": (1.1, 0.95, 1.0),
    "fearful": (1.3, 0.9, 0.95),
    "happy": (1.0, 1.15, 1.1),
    "sad": (0.8, 0.65, 0.75),
    "surprised": (0.7, 1.1, 1.15),
}


# Share of a portrait's own smile that goes besides what the style takes: on a broad smile the
# fixed amounts leave a grin under angry brows.
_SOBERS: dict[str, float] = {"angry": 0.85, "contempt": 0.4, "disgusted": 0.7, "fearful": 0.8, "happy": 0.0,
                             "sad": 0.9, "surprised": 0.6}  # fmt: skip
_SMILING = [
    k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("mouthSmile", "mouthDimple", "cheekSq"))
]


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

DYNAMICS: Floats = np.array([_MANNER[emotion] for emotion in EMOTIONS])
"""[7, 3] factors of blink rate, head motion and mouth opening at full strength of each emotion."""


def manner(strength: Floats) -> Floats:
    """Factors [B, 3] (:data:`DYNAMICS`) of ``strength`` [B, 7]; neutral is 1 throughout."""
    return np.asarray(1.0 + _shares(strength) @ (DYNAMICS - 1.0))


def add_emotion(motion: Floats, strength: Floats) -> None:
    """Add the styles to ``motion`` [B, 72] in place; ``strength`` [B, 7] 0..1, several may mix.

    A sealed mouth stays sealed: what would part the lips gives way to ``lipsSealed``.
    """
    added = _shares(strength) @ STYLES
    free = 1.0 - np.clip(motion[:, [_SEAL]], 0.0, 1.0)
    added[:, _PARTING] *= free
    motion[:, MOTION.expression] += added


def sober(motion: Floats, strength: Floats, rest: Floats) -> None:
    """Take the smile of ``rest`` [B, 72] out of ``motion`` [B, 72] in place, as far as the emotions
    bar one."""
    shares = _shares(strength)
    left = np.maximum(rest[:, _SMILING] + shares @ np.minimum(STYLES[:, _SMILING], 0.0), 0.0)
    motion[:, _SMILING] -= (shares @ _BARRED)[:, None] * left


def _shares(strength: Floats) -> Floats:
    """Strengths that sum to at most 1."""
    return np.asarray(strength / np.maximum(strength.sum(axis=1, keepdims=True), 1.0))


_SEAL = EXPRESSION_NAMES.index("lipsSealed")
_PARTING = [
    k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("mouthUpperUp", "mouthLowerDown", "jawOpen"))
]
_BARRED: Floats = np.array([_SOBERS[emotion] for emotion in EMOTIONS])
