"""The emotion classifier: what it reads, what it says of authored faces, and of no face."""

from __future__ import annotations

import numpy as np
import pytest

from engine.samplers.emotions import STYLES
from engine.train.emotion import LABELS, classify, statistics
from engine.types import EMOTIONS, EXPRESSION_NAMES

Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def _clip(emotion: str | None, strength: float = 0.8, frames: int = 120, seed: int = 0) -> Floats:
    noise = np.random.default_rng(seed)
    face = np.abs(0.03 * noise.standard_normal((frames, len(EXPRESSION_NAMES))))
    jaw = EXPRESSION_NAMES.index("jawOpen")
    face[:, jaw] += 0.15 * (1 + np.sin(np.arange(frames)))
    if emotion is not None:
        face += strength * STYLES[EMOTIONS.index(emotion)]
    return np.clip(face, 0.0, 1.0).astype(np.float32)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_authored_faces_are_told_apart(emotion: str) -> None:
    chances = classify(_clip(emotion))
    assert LABELS[int(chances.argmax())] == emotion
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_talking_face_without_emotion_is_neutral() -> None:
    assert LABELS[int(classify(_clip(None)).argmax())] == "neutral"


def test_a_stronger_emotion_is_surer() -> None:
    happy = LABELS.index("happy")
    assert classify(_clip("happy", 0.9))[happy] > classify(_clip("happy", 0.25))[happy]


def test_unknown_frames_do_not_count() -> None:
    clip = _clip("sad")
    holes = clip.copy()
    holes[::3] = np.nan
    assert np.allclose(classify(holes), classify(clip), atol=0.1)
    assert np.allclose(classify(np.full((50, 64), np.nan, np.float32)), 1.0 / len(LABELS))


def test_a_window_is_two_seconds_and_short_clips_are_one() -> None:
    assert len(statistics(_clip(None, frames=20))) == 1
    assert len(statistics(_clip(None, frames=125))) == 4


def test_speech_alone_changes_nothing() -> None:
    quiet, loud = _clip("happy"), _clip("happy")
    for name in ("jawOpen", "mouthFunnel", "mouthPucker", "mouthLowerDownLeft", "mouthUpperUpRight"):
        loud[:, EXPRESSION_NAMES.index(name)] += 0.3
    assert np.array_equal(statistics(quiet), statistics(loud))
