"""Labels of emotional clips and the counting of what a classifier saw."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.emotion import Accuracy, label_of
from engine.train.emotion import LABELS


@pytest.mark.parametrize(
    ("name", "notes", "label"),
    [
        ("driving/mead_M030_front_happy_level3_001.mp4", "acted emotion while speaking", "happy"),
        ("driving/mead_W011_front_neutral_level1_001.mp4", "", "neutral"),
        ("driving/styletalk_furious_talk2_clip6.mp4", "man, lively talking", "angry"),
        ("driving/styletalk_sadfather_clip1.mp4", "man, sad, silent, 256", "sad"),
        ("driving/edtalk_expression_source.mp4", "woman, happy talking, silent", "happy"),
        ("driving/liveportrait_d6.mp4", "woman, extreme expressions", None),
        ("driving/a.mp4", "sad, then happy", None),
    ],
)
def test_labels_come_from_names_and_notes(name: str, notes: str, label: str | None) -> None:
    assert label_of(name, notes) == label


def test_accuracy_is_the_share_on_the_diagonal() -> None:
    confusion = np.zeros((8, 8), np.int64)
    confusion[0, 0] = 3
    confusion[5, 0] = 1
    found = Accuracy(confusion)
    assert found.accuracy == 0.75
    lines = found.report().splitlines()
    assert [line.split()[0] for line in lines[2:]] == [LABELS[0], LABELS[5]]
    assert np.isnan(Accuracy(np.zeros((8, 8), np.int64)).accuracy)
