"""Lip motion as the contrastive code sees it: a description of the lips and its encoder.

PD-FGC's lip-motion encoder is an MLP on a unified motion feature of an image (§3.2); here the motion
is known as face coefficients, so a small convolution over five frames of them takes its place. Trained
beside the audio code, it also says how well any motion, tracked or generated, fits a voice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.contrastive import CODE
from engine.samplers.factors import LIPS
from engine.train.mouth_geometry import opening_of, shape_of
from engine.weights import load_weights

__all__ = ["DESCRIPTORS", "LipMotionModel", "describe_lips", "load_lip_motion"]

Floats = NDArray[np.float32]

DESCRIPTORS = 6 + len(LIPS)
"""Opening, the five mouth measures and the lips' own motion columns."""


def describe_lips(motion: Floats) -> Floats:
    """Motion [T, 72] (NaN where unknown) -> float32 [T, :data:`DESCRIPTORS`], relative to the take's
    own median, so that a person's mouth at rest does not tell who it is."""
    known = np.nan_to_num(motion)
    values = np.concatenate([opening_of(known)[:, None], shape_of(known), known[:, LIPS]], axis=1)
    values[~np.isfinite(motion).all(axis=1)] = np.nan
    if np.isfinite(values).any():
        values -= np.nanmedian(values, axis=0)
    return np.asarray(values, np.float32)


class LipMotionModel(nn.Module):
    """Described lips [B, T, D] -> code [B, T, 500] of length √500; frame t sees t − 2 .. t + 2."""

    deviation: Tensor

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(DESCRIPTORS))
        self.drop = nn.Dropout(0.2)
        self.conv = nn.Conv1d(DESCRIPTORS, width, 5, padding=2)
        self.inner = nn.Linear(width, width)
        self.code = nn.Linear(width, CODE)

    def forward(self, lips: Tensor) -> Tensor:
        """NaN counts as rest; codes within two frames of it are not worth much."""
        x = self.drop((lips / self.deviation).nan_to_num(0.0).clamp(-5.0, 5.0))
        x = nn.functional.gelu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        x = x + nn.functional.gelu(self.inner(self.drop(x)))
        code: Tensor = CODE**0.5 * nn.functional.normalize(self.code(x), dim=-1)
        return code


def load_lip_motion(weights: str | Path = "contrastive") -> LipMotionModel:
    """The lip-motion half of trained weights, frozen.

    Raises:
        AssetError: the weights are missing or damaged.
    """
    prefix = "lips."
    tensors = {
        name.removeprefix(prefix): value.float()
        for name, value in load_weights(weights).items()
        if name.startswith(prefix)
    }
    model = LipMotionModel(len(tensors["inner.bias"]))
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)
