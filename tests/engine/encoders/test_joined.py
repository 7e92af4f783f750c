"""Encoders side by side: the laws, and each one's features unchanged."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from engine.encoders.joined import JoinedEncoder
from engine.encoders.tiny import TinyEncoder
from engine.errors import ConfigError
from engine.stage import StageSpec
from engine.types import Cond
from tests.laws import LAWS, Case, audio_case


def joined() -> JoinedEncoder:
    return JoinedEncoder([TinyEncoder(seed=0), TinyEncoder(seed=1)])


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    law(audio_case("joined", joined()))


def test_features_stand_side_by_side() -> None:
    audio = audio_case("", None).make(10, 0)
    both = joined().forward(audio, Cond.default(2))
    assert joined().spec.output == "features:tiny_encoder+tiny_encoder:32"
    assert torch.equal(both[..., 16:], TinyEncoder(seed=1).forward(audio, Cond.default(2)))


def test_different_rates_do_not_join() -> None:
    slow = SimpleNamespace(spec=StageSpec("slow", "audio", "features:slow:3", frame_rate=Fraction(30)))
    with pytest.raises(ConfigError, match="same frame rate"):
        JoinedEncoder([TinyEncoder(), slow])
