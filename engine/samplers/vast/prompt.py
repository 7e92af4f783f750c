"""A style from a video prompt: any tracked clip becomes a code that travels with the live controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import InputError
from engine.samplers.vast.networks import VastNets, load_vast
from engine.types import MOTION, STYLE_SIZE

__all__ = ["SHORTEST", "code_of", "style_code"]

Floats = NDArray[np.float32]

SHORTEST = 12
"""Frames with a face that a prompt must have: half a second."""


def style_code(motion: NDArray[Any], features: NDArray[Any] | None, weights: str | Path = "vast") -> Floats:
    """The style of a clip, float32 [64], by the shipped networks; see :func:`code_of`.

    Raises:
        AssetError: the weights are missing.
    """
    return code_of(load_vast(weights), motion, features)


def code_of(nets: VastNets, motion: NDArray[Any], features: NDArray[Any] | None) -> Floats:
    """The style of a clip, float32 [64]: the middle of its posterior, padded with zeros.

    Zero-shot: neither person nor style need have been trained on (Chen et al., 2023, §3.1).

    Args:
        nets: the networks.
        motion: [T, 72] as tracked; rows that are not finite are left out.
        features: [T, F] of the encoder that VAST was trained on, of the clip's sound; None for a clip
            without sound.

    Raises:
        InputError: shapes that do not fit, or fewer than :data:`SHORTEST` frames with a face.
    """
    heard = np.zeros((len(motion), 1), np.float32) if features is None else features
    if motion.ndim != 2 or motion.shape[1] != MOTION.size or heard.ndim != 2:
        raise InputError(
            f"a prompt is motion [T, {MOTION.size}] and features [T, F], got {motion.shape} and {heard.shape}"
        )
    frames = min(len(motion), len(heard))
    seen = np.isfinite(motion[:frames]).all(axis=1) & np.isfinite(heard[:frames]).all(axis=1)
    if seen.sum() < SHORTEST:
        raise InputError(f"only {int(seen.sum())} frames of the prompt show a face; {SHORTEST} are needed")
    moved = torch.from_numpy(motion[:frames][seen])[None].float()
    with torch.inference_mode():
        if features is None:
            normal = torch.zeros(1, moved.shape[1], nets.config.style.features)
        else:
            normal = nets.strong.heard(torch.from_numpy(heard[:frames][seen])[None].float())
        style = nets.encoder.style(nets.encoder(moved, normal))[0].numpy()
    code = np.zeros(STYLE_SIZE, np.float32)
    code[: len(style)] = np.clip(style, -4.0, 4.0)
    return code
