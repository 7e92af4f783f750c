"""Whole systems by name: the only file that knows which encoder, sampler and animator belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import AvatarError, ConfigError
from engine.pipeline import Pipeline
from engine.types import PixelFormat

__all__ = ["RECIPES", "build", "prepare_identity", "restore_identity"]


def _tiny(pixels: PixelFormat) -> Pipeline:
    """Random small stages and a drawn face: no weights, no portrait; for tests and transport checks."""
    from engine.animators.tiny import TinyAnimator
    from engine.encoders.tiny import TinyEncoder
    from engine.samplers.tiny import TinySampler

    return Pipeline(TinyEncoder(), TinySampler(), TinyAnimator(pixels=pixels), name="tiny")


def _default(pixels: PixelFormat) -> Pipeline:
    """Phonetic posteriors -> lips and gestures -> the warped photo; runs on two CPU cores."""
    from engine.animators.mesh.animator import MeshAnimator
    from engine.encoders.ppg import FEATURES, PpgEncoder
    from engine.samplers.speech import SpeechSampler

    encoder = PpgEncoder()
    sampler = SpeechSampler(FEATURES, encoder.spec.output)
    return Pipeline(encoder, sampler, MeshAnimator(pixels), name="default")


RECIPES: dict[str, Callable[[PixelFormat], Pipeline]] = {"default": _default, "tiny": _tiny}


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


def restore_identity(pipeline: Pipeline, animator: str, arrays: Mapping[str, Any]) -> Any:
    """The identity that ``animator`` saved as ``arrays`` (an avatar's layers).

    Raises:
        AvatarError: it was made for another animator than the recipe's, or by another version.
    """
    from engine.animators.mesh.identity import MeshIdentity

    own = pipeline.animator.spec.name if pipeline.animator is not None else "none"
    if animator != own or own != "mesh_animator":
        raise AvatarError(
            f"this avatar was made for {animator!r}, recipe {pipeline.name} needs {own!r}: "
            f"run 'visavis prepare' on the photo with --recipe {pipeline.name}"
        )
    return MeshIdentity.from_arrays(arrays)
