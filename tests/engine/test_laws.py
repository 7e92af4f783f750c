"""Every law on every stage of every recipe, each stage fed with what the stage before it really gives.

Stages that several recipes share (encoders, the warped photo) are held to the laws once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch

from engine.config import asset_path
from engine.errors import AssetError
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.pipeline import Parallel, Pipeline
from engine.recipes import RECIPES, SYSTEMS, build, prepare_identity
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
def _portrait(name: str) -> Portrait:
    return analyse_portrait(load_image(asset_path(f"demo/{name}")))


@lru_cache
def _cond(recipe: str) -> Cond:
    """Two rows: the astronaut and the drawn character."""
    pipeline = _pipeline(recipe)
    rows = [
        Cond.for_identity(prepare_identity(pipeline, _portrait(name)), seed=seed)
        for seed, name in enumerate(("astronaut.png", "character.png"))
    ]
    return Cond(
        seed=torch.cat([row.seed for row in rows]),
        rest=torch.cat([row.rest for row in rows]),
        identity=rows[0].identity + rows[1].identity,
    )


@lru_cache
def _heard(recipe: str, frames: int, seed: int) -> torch.Tensor:
    audio: AudioChunk = audio_case("", None).make(frames, seed)
    return _pipeline(recipe).encoder.forward(audio, _cond(recipe))


def _features(recipe: str, frames: int, seed: int) -> FeatureChunk:
    controls = CONTROLS.default(2).unsqueeze(1).repeat(1, frames, 1)
    return FeatureChunk(0, _heard(recipe, frames, seed).clone(), controls)


@lru_cache
def _moved(recipe: str, frames: int, seed: int) -> torch.Tensor:
    return _pipeline(recipe).sampler.forward(_features(recipe, frames, seed), _cond(recipe))


def _motion(recipe: str, frames: int, seed: int) -> MotionChunk:
    return MotionChunk(0, _moved(recipe, frames, seed).clone())


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


MIXTURE = "vast,head=osm,eyes=gohd"
"""Two encoders side by side, three systems, two look-aheads."""


def _stages() -> list[tuple[str, str]]:
    """(recipe, part), leaving out an encoder or animator that an earlier recipe has."""
    encoders = {system.encoder: name for name, system in reversed(SYSTEMS.items())}
    found = [("default", part) for part in PARTS] + [("tiny", part) for part in PARTS]
    for name in SYSTEMS:
        found += [(name, "encoder")] if name in encoders.values() else []
        found.append((name, "sampler"))
    return [*found, (MIXTURE, "encoder"), (MIXTURE, "sampler")]


CASES: dict[str, Callable[[], Case]] = {"parallel": parallel_case} | {
    f"{recipe}.{part}": (lambda recipe=recipe, part=part: recipe_case(recipe, part))
    for recipe, part in _stages()
}


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_stage_has_its_case(recipe: str) -> None:
    for part in PARTS:
        stage = getattr(_pipeline(recipe), part)
        kinds = {
            (type(one), one.spec)
            for name in RECIPES
            if f"{name}.{part}" in CASES
            for one in (getattr(_pipeline(name), part),)
        }
        assert (type(stage), stage.spec) in kinds, part


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize("name", sorted(CASES))
def test_law(name: str, law: Callable[[Case], None]) -> None:
    law(CASES[name]())
