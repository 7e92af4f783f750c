"""The motion and control spaces: names, order, ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.types import ARKIT_NAMES, CONTROLS, EXPRESSION_NAMES, MOTION, Cond


def test_motion_space_is_arkit_then_extras_then_pose_then_gaze() -> None:
    assert len(ARKIT_NAMES) == 52
    assert len(EXPRESSION_NAMES) == 64
    assert len(MOTION.names) == MOTION.size == 72
    assert len(set(MOTION.names)) == 72
    assert ARKIT_NAMES[0] == "eyeBlinkLeft"
    assert ARKIT_NAMES[17] == "jawOpen"
    assert ARKIT_NAMES[51] == "tongueOut"
    assert MOTION.index("rx") == MOTION.pose.start == 64
    assert MOTION.index("gazePitch") == MOTION.gaze.start == 70


def test_an_unknown_column_names_near_ones() -> None:
    with pytest.raises(KeyError, match="jawOpen"):
        MOTION.index("jawopen")


def test_controls_have_neutral_values_inside_their_ranges() -> None:
    assert len(CONTROLS.neutral) == len(CONTROLS.low) == len(CONTROLS.high) == CONTROLS.size
    neutral = CONTROLS.default(3)
    assert neutral.shape == (3, CONTROLS.size)
    assert torch.equal(CONTROLS.clamp(neutral), neutral)
    assert torch.equal(CONTROLS.clamp(torch.full((1, CONTROLS.size), 1e6))[0], torch.tensor(CONTROLS.high))


def test_cond_rows_are_conds_of_one() -> None:
    cond = Cond.default(3, seed=5)
    assert cond.batch == 3
    assert int(cond.row(2).seed) == 7
    assert cond.row(2).batch == 1


def test_every_control_is_documented_with_its_range() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "CONTROLS.md"
    text = page.read_text(encoding="utf-8").replace("−", "-")
    for name in CONTROLS.sliders:
        (row,) = [
            line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]
        ]
        k = CONTROLS.index(name)
        numbers = row.split("|")[2].replace("rad", "").partition("(")[0].replace(", whole", "").split("…")
        assert [float(n) for n in numbers] == [CONTROLS.low[k], CONTROLS.high[k]], name
