"""Every law on every stage of every recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch

from engine.animators.tiny import TinyAnimator
from engine.encoders.tiny import TinyEncoder
from engine.pipeline import Parallel
from engine.samplers.tiny import TinySampler
from engine.types import CONTROLS, FeatureChunk
from tests.laws import LAWS, Case, audio_case, feature_case, motion_case


def _features(size: int) -> Callable[[int, int], FeatureChunk]:
    def make(frames: int, seed: int) -> FeatureChunk:
        noise = torch.Generator().manual_seed(seed)
        controls = CONTROLS.default(2).unsqueeze(1).repeat(1, frames, 1)
        return FeatureChunk(0, torch.randn(2, frames, size, generator=noise), controls)

    return make


@lru_cache
def cases() -> dict[str, Case]:
    """Every stage of every recipe, by name."""
    mouth, head = list(range(64)), list(range(64, 72))
    found = [
        audio_case("tiny_encoder", TinyEncoder()),
        feature_case("tiny_sampler", TinySampler(), _features(16)),
        feature_case(
            "parallel", Parallel([TinySampler(seed=1), TinySampler(seed=2)], [mouth, head]), _features(16)
        ),
        motion_case("tiny_animator", TinyAnimator(32)),
    ]
    return {case.name: case for case in found}


NAMES = ["tiny_encoder", "tiny_sampler", "parallel", "tiny_animator"]


def test_every_case_is_listed() -> None:
    assert sorted(cases()) == sorted(NAMES)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize("name", NAMES)
def test_law(name: str, law: Callable[[Case], None]) -> None:
    law(cases()[name])
