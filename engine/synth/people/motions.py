"""What synthetic people do: speech-like mouths, smiles, brows, blinks, gaze, head turns; or real tracks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.samplers.visemes import LIP_CHANNELS, LIP_COLUMNS, viseme_table
from engine.types import MOTION

__all__ = ["first_motion", "lively_motion", "tracked_motions"]

Float = NDArray[np.float32]
Rng = np.random.Generator

_PHONES = (
    "SIL", "AA", "AE", "AH", "AO", "EH", "ER", "EY", "IH", "IY", "OW", "UH", "UW", "B", "P", "M", "F", "V",
    "TH", "T", "L", "N", "S", "SH", "K", "R", "W", "Y",
)  # fmt: skip
_MAX_TURN = np.radians([20.0, 30.0, 15.0])
_FACES: dict[str, tuple[tuple[str, float], ...]] = {
    "smile": (("mouthSmile", 0.8), ("cheekSquint", 0.5), ("eyeSquint", 0.3)),
    "grin": (("mouthSmile", 1.0), ("mouthUpperUp", 0.4), ("mouthLowerDown", 0.3), ("jawOpen", 0.12),
             ("cheekSquint", 0.6)),
    "frown": (("mouthFrown", 0.6), ("browDown", 0.5), ("mouthShrugLower", 0.3)),
    "angry": (("browDown", 0.9), ("noseSneer", 0.5), ("mouthPress", 0.5), ("eyeSquint", 0.4)),
    "surprise": (("browInnerUp", 0.8), ("browOuterUp", 0.8), ("eyeWide", 0.8), ("jawOpen", 0.5)),
    "sad": (("browInnerUp", 0.8), ("mouthFrown", 0.5), ("mouthPucker", 0.15)),
    "disgust": (("noseSneer", 0.9), ("mouthUpperUp", 0.5), ("browDown", 0.5)),
    "puff": (("cheekPuff", 0.8), ("lipsSealed", 0.8)),
    "kiss": (("mouthPucker", 1.0),),
    "aside": (("mouthLeft", 0.7), ("jawLeft", 0.4)),
    "other_side": (("mouthRight", 0.7), ("jawRight", 0.4)),
    "shout": (("jawOpen", 0.95), ("mouthLowerDown", 0.5), ("mouthUpperUp", 0.4), ("browDown", 0.3)),
    "tight": (("mouthRollLower", 0.6), ("mouthRollUpper", 0.6), ("lipsSealed", 1.0)),
    "shrug": (("mouthShrugLower", 0.7), ("mouthShrugUpper", 0.4), ("browOuterUp", 0.4)),
}  # fmt: skip


@lru_cache(maxsize=1)
def _mouths() -> NDArray[np.float64]:
    return np.asarray(viseme_table(_PHONES)[0], np.float64)


@lru_cache(maxsize=64)
def _columns(prefix: str) -> tuple[int, ...]:
    return tuple(MOTION.columns(prefix))


def _add(motion: Float, prefix: str, value: float, rng: Rng) -> None:
    """Both sides of a unit, a little unequal."""
    for column in _columns(prefix):
        if column < 52 or MOTION.names[column] == prefix:
            motion[column] += value * float(rng.uniform(0.75, 1.15))


def first_motion(rng: Rng) -> Float:
    """[72] near neutral: lips closed or slightly open, eyes and brows at rest, about frontal, gaze ahead."""
    motion = np.zeros(MOTION.size, np.float32)
    if rng.random() < 0.35:
        motion[MOTION.index("jawOpen")] = rng.uniform(0.0, 0.12)
    if rng.random() < 0.4:
        _add(motion, "mouthSmile", float(rng.uniform(0.0, 0.45)), rng)
    motion[MOTION.rotation] = rng.normal(0.0, [0.05, 0.07, 0.03])
    motion[MOTION.gaze] = rng.normal(0.0, 0.04, 2)
    return motion


def _speech(motion: Float, rng: Rng) -> None:
    table = _mouths()
    a, b = rng.integers(0, len(_PHONES), 2)
    t = float(rng.choice([0.0, 1.0, rng.random()]))
    mouth = (1 - t) * table[a] + t * table[b]
    wide = float(rng.uniform(0.5, 1.1))
    for name, columns, value in zip(LIP_CHANNELS, LIP_COLUMNS, mouth, strict=True):
        gain = wide if name not in ("lipsSealed", "lowerLipIn") else 1.0
        for column in columns:
            motion[column] += gain * float(value) * float(rng.uniform(0.9, 1.1))


def _eyes(motion: Float, rng: Rng) -> None:
    if rng.random() < 0.22:
        shut = float(rng.choice([1.0, rng.random()]))
        _add(motion, "eyeBlink", shut, rng)
        if shut == 1.0:
            motion[MOTION.columns("eyeBlink")] = 1.0
        if rng.random() < 0.1:
            motion[MOTION.index("eyeBlinkLeft" if rng.random() < 0.5 else "eyeBlinkRight")] = 0.0
    elif rng.random() < 0.3:
        _add(motion, "eyeSquint" if rng.random() < 0.5 else "eyeWide", float(rng.uniform(0.2, 0.9)), rng)
    if rng.random() < 0.5:
        name = str(rng.choice(["browInnerUp", "browOuterUp", "browDown"]))
        _add(motion, name, float(rng.uniform(0.2, 0.9)), rng)


def lively_motion(rng: Rng, first: Float) -> Float:
    """[72] absolute motion of a later frame of the person whose first frame is ``first`` [72]."""
    motion = np.zeros(MOTION.size, np.float32)
    if rng.random() < 0.75:
        _speech(motion, rng)
    if rng.random() < 0.45:
        name = str(rng.choice(list(_FACES)))
        strength = float(rng.uniform(0.35, 1.0))
        for unit, value in _FACES[name]:
            _add(motion, unit, strength * value, rng)
    if rng.random() < 0.12:
        motion[int(rng.integers(0, 52))] += rng.uniform(0.3, 1.0)
    _eyes(motion, rng)
    motion[list(_columns("eyeLook"))] = 0.0
    motion[list(_columns("pupil"))] = 0.0
    motion[MOTION.expression] = np.clip(motion[MOTION.expression], 0.0, 1.0)
    sealed = motion[MOTION.index("lipsSealed")]
    motion[MOTION.index("jawOpen")] *= 1.0 - 0.75 * sealed
    motion[MOTION.index("tongueOut")] *= float(motion[MOTION.index("jawOpen")] > 0.2)
    far = float(rng.choice([0.35, 1.0], p=[0.5, 0.5]))
    turn = np.clip(rng.normal(0.0, 0.5, 3), -1.0, 1.0) * far * _MAX_TURN
    motion[MOTION.rotation] = first[MOTION.rotation] * 0.3 + turn
    motion[MOTION.translation] = rng.normal(0.0, [0.06, 0.05, 0.1])
    look = rng.random()
    spread = 0.05 if look < 0.4 else 0.16 if look < 0.8 else 0.3
    motion[MOTION.gaze] = np.clip(rng.normal(0.0, [0.7 * spread, spread]), [-0.35, -0.5], [0.35, 0.5])
    if rng.random() < 0.4:  # eyes on the camera while the head turns
        motion[MOTION.gaze] = np.clip([turn[0], -turn[1]], [-0.4, -0.55], [0.4, 0.55])
    return motion.astype(np.float32)


def tracked_motions(tracks: list[Float], rng: Rng, first: Float, count: int) -> Float:
    """[count, 72] frames of one real clip, chosen by chance; ``tracks`` are [T, 72] without NaN rows."""
    clip = tracks[int(rng.integers(len(tracks)))]
    rows = clip[rng.integers(0, len(clip), count)].copy()
    rows[:, MOTION.columns("eyeLook")] = 0.0
    rows[:, MOTION.expression] = np.clip(rows[:, MOTION.expression], 0.0, 1.0)
    rows[:, MOTION.rotation] += first[MOTION.rotation]
    return rows.astype(np.float32)
