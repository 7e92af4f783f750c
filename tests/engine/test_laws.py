"""Every law on every stage of every recipe, each stage fed with what the stage before it really gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch

from engine.config import asset_path
from engine.errors import AssetError
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.pipeline import Parallel, Pipeline
from engine.recipes import RECIPES, build, prepare_identity
from engine.samplers.tiny import TinySampler
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk, MotionChunk
from tests.laws import LAWS, Case, audio_case

PARTS = ("encoder", "sampler", "animator")
# The encoder's network may round differently in another batch; everything after it is exact.
TOLERANCE = {"encoder": 2e-4}


@lru_cache
def _pipeline(recipe: str) -> Pipeline:
    try:
        return build(recipe)
    except AssetError as error:
        pytest.skip(f"recipe {recipe}: {error}")


@lru_cache
def _cond(recipe: str) -> Cond:
    """Two rows: the astronaut and the drawn character."""
    pipeline = _pipeline(recipe)
    rows = []
    for seed, name in enumerate(("astronaut.png", "character.png")):
        portrait = analyse_portrait(load_image(asset_path(f"demo/{name}")))
        rows.append(Cond.for_identity(prepare_identity(pipeline, portrait), seed=seed))
    return Cond(
        seed=torch.cat([row.seed for row in rows]),
        rest=torch.cat([row.rest for row in rows]),
        identity=rows[0].identity + rows[1].identity,
    )


def _features(recipe: str, frames: int, seed: int) -> FeatureChunk:
    audio: AudioChunk = audio_case("", None).make(frames, seed)
    controls = CONTROLS.default(2).unsqueeze(1).repeat(1, frames, 1)
    return FeatureChunk(0, _pipeline(recipe).encoder.forward(audio, _cond(recipe)), controls)


def _motion(recipe: str, frames: int, seed: int) -> MotionChunk:
    return MotionChunk(0, _pipeline(recipe).sampler.forward(_features(recipe, frames, seed), _cond(recipe)))


def recipe_case(recipe: str, part: str) -> Case:
    """The stage ``part`` of ``recipe`` with inputs from the stages before it."""
    stage: Any = getattr(_pipeline(recipe), part)
    tolerance = TOLERANCE.get(part, 0.0)
    if part == "encoder":
        return audio_case(f"{recipe}.{part}", stage, _cond(recipe), tolerance)
    make = _features if part == "sampler" else _motion
    return Case(f"{recipe}.{part}", stage, lambda frames, seed: make(recipe, frames, seed), _cond(recipe))


def parallel_case() -> Case:
    """Two samplers side by side, which no recipe uses yet."""
    stage = Parallel([TinySampler(seed=1), TinySampler(seed=2)], [list(range(64)), list(range(64, 72))])
    return Case("parallel", stage, lambda frames, seed: _features("tiny", frames, seed), _cond("tiny"))


CASES: dict[str, Callable[[], Case]] = {"parallel": parallel_case} | {
    f"{recipe}.{part}": (lambda recipe=recipe, part=part: recipe_case(recipe, part))
    for recipe in RECIPES
    for part in PARTS
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize("name", sorted(CASES))
def test_law(name: str, law: Callable[[Case], None]) -> None:
    law(CASES[name]())
