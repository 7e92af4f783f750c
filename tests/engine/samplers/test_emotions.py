"""Authored styles: every emotion is its own, strengths scale and share, manners."""

from __future__ import annotations

import numpy as np
import pytest

from engine.samplers.emotions import DYNAMICS, STYLES, add_emotion, manner, sober
from engine.types import EMOTIONS, EXPRESSION_NAMES, MOTION


def _face(
    emotion: str, strength: float = 1.0, seal: float = 0.0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    motion = np.zeros((1, MOTION.size))
    motion[0, MOTION.index("lipsSealed")] = seal
    weights = np.zeros((1, len(EMOTIONS)))
    weights[0, EMOTIONS.index(emotion)] = strength
    add_emotion(motion, weights)
    face: np.ndarray[tuple[int], np.dtype[np.float64]] = motion[0]
    return face


@pytest.mark.parametrize(
    ("emotion", "units"),
    [
        ("angry", ["browDownLeft", "eyeSquintLeft"]),
        ("contempt", ["mouthDimpleLeft", "browOuterUpRight"]),
        ("disgusted", ["noseSneerLeft", "browDownRight"]),
        ("fearful", ["browInnerUp", "eyeWideRight", "mouthStretchLeft"]),
        ("happy", ["mouthSmileLeft", "cheekSquintRight"]),
        ("sad", ["browInnerUp", "mouthFrownLeft"]),
        ("surprised", ["browOuterUpLeft", "eyeWideLeft"]),
    ],
)
def test_each_emotion_shows_its_action_units(emotion: str, units: list[str]) -> None:
    face = _face(emotion)
    assert all(face[MOTION.index(name)] >= 0.3 for name in units)


def test_no_two_emotions_look_alike() -> None:
    shown = np.clip(STYLES, 0.0, 1.0)
    angles = np.asarray(np.corrcoef(shown))[~np.eye(len(EMOTIONS), dtype=bool)]
    assert angles.max() < 0.8


def test_contempt_is_one_sided_and_the_others_nearly_even() -> None:
    left = [
        k
        for k, n in enumerate(EXPRESSION_NAMES)
        if n.endswith("Left") and n[:-4] + "Right" in EXPRESSION_NAMES
    ]
    right = [EXPRESSION_NAMES.index(EXPRESSION_NAMES[k][:-4] + "Right") for k in left]
    apart = np.abs(STYLES[:, left] - STYLES[:, right]).max(1)
    one_sided = EMOTIONS.index("contempt")
    assert apart[one_sided] > 0.4
    assert np.delete(apart, one_sided).max() < 0.12


def test_strength_scales_and_several_share() -> None:
    brow = MOTION.index("browInnerUp")
    assert _face("sad", 0.5)[brow] == pytest.approx(0.5 * _face("sad")[brow])
    motion = np.zeros((1, MOTION.size))
    add_emotion(motion, np.ones((1, len(EMOTIONS))))
    assert motion[0, :64] == pytest.approx(STYLES.mean(0))


def test_sealed_lips_stay_sealed() -> None:
    assert _face("surprised")[MOTION.index("jawOpen")] > 0
    assert _face("surprised", seal=1.0)[MOTION.index("jawOpen")] == 0.0


def test_manner_is_one_for_neutral_and_the_table_at_full_strength() -> None:
    assert np.array_equal(manner(np.zeros((2, len(EMOTIONS)))), np.ones((2, 3)))
    assert np.allclose(manner(np.eye(len(EMOTIONS))), DYNAMICS)
    assert DYNAMICS[EMOTIONS.index("sad"), 1] < 1.0 < DYNAMICS[EMOTIONS.index("happy"), 1]


def test_a_smiling_portrait_loses_its_smile_to_sadness_only() -> None:
    columns = MOTION.columns("mouthSmile")
    rest = np.zeros((3, MOTION.size))
    rest[:, columns] = 0.85
    strength = np.zeros((3, len(EMOTIONS)))
    strength[1, EMOTIONS.index("sad")] = 1.0
    strength[2, EMOTIONS.index("happy")] = 1.0
    motion = rest.copy()
    add_emotion(motion, strength)
    before = motion.copy()
    sober(motion, strength, rest)
    assert np.array_equal(motion[[0, 2]], before[[0, 2]])
    assert (motion[1, columns] < 0.1).all()
    assert (motion[1, columns] > -0.05).all()
