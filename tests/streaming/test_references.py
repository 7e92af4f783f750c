"""Controls, emotions and styles as a user names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError, InputError
from engine.recipes import build
from engine.types import CONTROLS, STYLE_SIZE
from streaming.references import acts, parse_controls, style_controls, style_of, takes_style


def test_settings_and_emotions_become_controls() -> None:
    values = parse_controls(["strengthHead=0.5", "gazeYaw=9"], ["happy", "sad=0.25"])
    assert values == {"strengthHead": 0.5, "gazeYaw": 9.0, "emotion.happy": 1.0, "emotion.sad": 0.25}
    row = CONTROLS.row(values)
    assert row[CONTROLS.index("gazeYaw")] == CONTROLS.high[CONTROLS.index("gazeYaw")]
    assert row[CONTROLS.index("strengthLips")] == 1.0


@pytest.mark.parametrize(
    ("settings", "emotions", "reason"),
    [(["nose=1"], [], "strengthLips"), (["headLock"], [], "NAME=VALUE"), (["headLock=x"], [], "not a number"),
     ([], ["bored"], "surprised")],
)  # fmt: skip
def test_wrong_settings_name_the_right_ones(settings: list[str], emotions: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_controls(settings, emotions)


def test_a_recipe_without_styles_refuses_a_clip() -> None:

    pipeline = build("tiny")
    assert not takes_style(pipeline)
    assert not acts(pipeline)
    with pytest.raises(ConfigError, match="vast"):
        style_of(pipeline, Path("any.mp4"))


def test_a_code_is_set_by_name() -> None:

    values = style_controls(np.arange(STYLE_SIZE, dtype=np.float32), 0.5)
    assert values["style"] == 0.5
    assert values["style.03"] == 3.0
    assert set(values) - {"style"} == set(CONTROLS.names[CONTROLS.style])
