"""Styled takes: names carry strengths, styles follow the voice, labels map to emotions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.samplers.emotions import STYLES
from engine.train.corpus import Entry
from engine.train.styled import strength_of, styled_expression, utterances
from engine.types import EMOTIONS, EXPRESSION_NAMES

LOUD = np.concatenate([np.zeros(60), np.ones(80), np.zeros(60)]).astype(np.float32)
OPEN = np.zeros(200, np.float32)


def _style(
    emotion: str,
    strength: float = 1.0,
    seal: np.ndarray[tuple[int], np.dtype[np.float32]] = OPEN,
    seed: int = 0,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]]]:
    return styled_expression(emotion, strength, LOUD, seal, np.random.default_rng(seed))


def test_strength_is_read_from_the_name() -> None:
    entry = Entry("styled/emodb03/happy_0@0.62", "styled", "train", "styled:emodb03", 150, "happy")
    assert strength_of(entry) == pytest.approx(0.62)
    assert strength_of(Entry("clip@0.5", "real", "train", "a", 150)) == 0.0


def test_neutral_adds_nothing() -> None:
    added, factor = _style("neutral")
    assert np.abs(added).max() == 0.0
    assert np.array_equal(factor, np.ones(200, np.float32))


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_style_is_the_authored_one_with_variation(emotion: str) -> None:
    added, _ = _style(emotion)
    style = STYLES[EMOTIONS.index(emotion)]
    assert np.corrcoef(added.mean(0), style)[0, 1] > 0.9
    other, _ = _style(emotion, seed=1)
    assert np.abs(added - other).mean() > 0.003
    moved = added[:, int(style.argmax())]
    assert moved.std() > 0.02
    assert np.abs(np.diff(moved)).max() < 0.1  # slow


def test_expression_rises_with_the_voice_and_with_strength() -> None:
    smile = EXPRESSION_NAMES.index("mouthSmileLeft")
    runs = [_style("happy", seed=k)[0][:, smile] for k in range(8)]
    assert np.mean([run[80:120].mean() for run in runs]) > 1.2 * np.mean([run[:40].mean() for run in runs])
    assert np.allclose(_style("happy", 0.5)[0], 0.5 * _style("happy", 1.0)[0], atol=1e-6)


def test_sealed_lips_are_not_parted() -> None:
    jaw = EXPRESSION_NAMES.index("jawOpen")
    added, _ = _style("surprised", seal=np.ones(200, np.float32))
    assert np.abs(added[:, jaw]).max() == 0.0
    assert added[:, EXPRESSION_NAMES.index("browOuterUpLeft")].mean() > 0.4


def test_corpora_without_a_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no MANIFEST"):
        utterances(tmp_path)


def test_recordings_leave_the_held_out_speakers_alone(data: Path) -> None:
    found = utterances(data / "speech" / "corpora")
    speakers = {item.speaker for item in found}
    assert len(speakers) == 8
    assert not speakers & {"emodb15", "emodb16"}
    assert {item.label for item in found} == {
        "anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness",
    }  # fmt: skip
