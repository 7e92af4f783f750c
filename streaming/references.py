"""How a performance is asked for: controls and emotions by name, the style of a reference clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError, InputError
from engine.face.video import read_audio
from engine.pipeline import Pipeline
from engine.samplers.voice import VoiceSampler
from engine.types import CONTROLS, EMOTIONS, AudioChunk, Cond
from streaming.drivers import ClipDriver

__all__ = ["LONGEST_S", "acts", "parse_controls", "style_controls", "style_of", "takes_style"]

LONGEST_S = 60
"""Seconds of a clip that are looked at: a style shows within one minute."""

Floats = NDArray[np.float32]


def takes_style(pipeline: Pipeline) -> bool:
    """Does the recipe take a style code?"""
    return bool(getattr(pipeline.sampler, "styled", False))


def acts(pipeline: Pipeline) -> bool:
    """Does the recipe act on nod, tilt and frontal?"""
    return bool(getattr(pipeline.sampler, "acting", False))


def style_of(pipeline: Pipeline, clip: Path) -> Floats:
    """The style code of ``clip``, float32 [STYLE_SIZE].

    Raises:
        ConfigError: the recipe takes no style.
        InputError: not a video, no face in it, or no sound.
    """
    sampler = pipeline.sampler
    if not isinstance(sampler, VoiceSampler) or not sampler.styled:
        raise ConfigError(
            f"recipe {pipeline.name} takes no style from a clip; choose --recipe vast or flowvq"
        )
    motion = ClipDriver.open(clip, LONGEST_S * int(pipeline.frame_rate)).motion
    audio = read_audio(clip)[: LONGEST_S * 16_000]
    chunk = AudioChunk(0, torch.from_numpy(audio)[None])
    with torch.inference_mode():
        features = pipeline.encoder.forward(chunk, Cond.default(1))[0].numpy()
    frames = min(len(motion), len(features))
    return np.asarray(sampler.style_code(motion[:frames], features[:frames]), np.float32)


def style_controls(code: Floats, strength: float | None = None) -> dict[str, float]:
    """``code`` [STYLE_SIZE] as controls by name, with its strength if that is to be set too."""
    names = CONTROLS.names[CONTROLS.style]
    values = {name: float(value) for name, value in zip(names, code, strict=True)}
    return values if strength is None else values | {"style": strength}


def parse_controls(settings: Iterable[str] = (), emotions: Iterable[str] = ()) -> dict[str, float]:
    """``NAME=VALUE`` settings and ``EMOTION[=STRENGTH]`` as controls by name.

    Raises:
        InputError: another form, or a name that does not exist.
    """
    values: dict[str, float] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or name not in CONTROLS.sliders:
            raise InputError(f"--set takes NAME=VALUE with NAME one of {', '.join(CONTROLS.sliders)}")
        values[name] = _number(value, text)
    for text in emotions:
        name, equals, value = text.partition("=")
        if name not in EMOTIONS:
            raise InputError(f"--emotion takes one of {', '.join(EMOTIONS)}, got {name!r}")
        values[f"emotion.{name}"] = _number(value, text) if equals else 1.0
    return values


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{text}: {value!r} is not a number") from None
