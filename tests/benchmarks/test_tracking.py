"""Known motion, tracked: the fitter alone is exact, the whole chain from pixels is bounded."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from benchmarks.tracking import measure
from engine.config import asset_path
from engine.face.models import model_status

pytestmark = pytest.mark.skipif(
    not all(m.present for m in model_status()), reason="face-model files are not installed (make setup)"
)


@lru_cache(maxsize=1)
def measured() -> dict[str, Any]:
    return measure(asset_path("demo/astronaut.png"), 5.0)


@pytest.mark.parametrize(
    ("group", "most", "least_r"),
    [
        ("jaw", 0.04, 0.95),
        ("lips", 0.07, 0.7),
        ("brows", 0.03, 0.97),
        ("blink", 0.05, 0.95),
        ("rotation_deg", 0.2, 0.99),
        ("gaze_deg", 1.2, 0.95),
    ],
)
def test_landmarks_give_the_motion_back(group: str, most: float, least_r: float) -> None:
    row = measured()["landmarks"][group]
    assert row["mae"] < most
    assert row["r"] > least_r


def test_landmarks_give_the_mouth_back() -> None:
    row = measured()["landmarks"]
    assert row["lips_mm"] < 0.4 < row["lips_mm_still"]
    assert row["opening_r"] > 0.99
    assert row["closure_f1"] > 0.85
    assert row["closure_opening"][1] < 0.02


def test_pixels_give_mouth_lids_and_head_back() -> None:
    row = measured()["pixels"]
    assert row["seen"] == row["frames"] == 125
    assert row["opening_r"] > 0.95
    assert 0.8 < row["opening_amplitude"] < 1.3
    assert row["lips_mm"] < row["lips_mm_still"]
    assert row["blink_curve_r"] > 0.93
    assert row["blink"]["r"] > 0.85
    assert row["rotation_deg"]["r"] > 0.9
    assert row["rotation_deg"]["mae"] < 2.5
    assert row["residual_percent"] < 1.5
