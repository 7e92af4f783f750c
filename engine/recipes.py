"""Whole systems by name: the only file that knows which encoder, sampler and animator belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import ConfigError
from engine.pipeline import Pipeline
from engine.types import PixelFormat

__all__ = ["RECIPES", "build", "prepare_identity"]


def _tiny(pixels: PixelFormat) -> Pipeline:
    """Random small stages and a drawn face: no weights, no portrait; for tests and transport checks."""
    from engine.animators.tiny import TinyAnimator
    from engine.encoders.tiny import TinyEncoder
    from engine.samplers.tiny import TinySampler

    return Pipeline(TinyEncoder(), TinySampler(), TinyAnimator(pixels=pixels), name="tiny")


RECIPES: dict[str, Callable[[PixelFormat], Pipeline]] = {"tiny": _tiny}


def build(name: str = "default", pixels: PixelFormat = PixelFormat.RGB) -> Pipeline:
    """The pipeline of recipe ``name``, its weights loaded.

    Raises:
        ConfigError: no such recipe.
        AssetError: weights or model files are missing.
    """
    try:
        make = RECIPES[name]
    except KeyError:
        raise ConfigError(f"no recipe {name!r}; there are {', '.join(sorted(RECIPES))}") from None
    return make(pixels)


def prepare_identity(pipeline: Pipeline, portrait: Any) -> Any:
    """What the recipe's animator makes of ``portrait``; None for animators without portraits."""
    prepare = getattr(pipeline.animator, "prepare", None)
    return prepare(portrait) if prepare is not None else None
