"""The contact sheets show the frames that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.quality.sheets import main, sheet
from engine.types import MOTION


def test_a_sheet_has_a_cell_per_picture_and_curves_below() -> None:
    pictures = np.full((12, 64, 64, 3), 200, np.uint8)
    made = sheet(pictures, np.zeros((60, MOTION.size), np.float32), "title", every=5)
    assert made.shape[1] == 10 * 176
    assert made.shape[0] > 2 * 176 + 300
    assert (made[100, 1 * 176 + 60] == 200).all()  # the second picture
    assert (made[176 + 100, 3 * 176 + 60] == 0).all()  # beyond the twelfth


def test_a_recipe_is_performed_and_drawn(tmp_path: Path) -> None:
    assert main(["--recipe", "speech", "--seconds", "0.8", "--every", "10", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.png")
    assert path.name == "speech_astronaut_voice_a.png"
    assert np.asarray(Image.open(path)).std() > 20
