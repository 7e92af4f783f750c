"""Whole recordings as the acoustic model hears them; the live encoder does the same frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.encoders.acoustic import MEL
from engine.layers.level import LevelTracker
from kernels.logmel import log_mel

__all__ = ["normalised_mel"]


def normalised_mel(samples: NDArray[np.float32]) -> Tensor:
    """float32 [B, 160 K] at 16 kHz -> [B, K, bands], relative to the causally tracked voice level."""
    padded = torch.from_numpy(np.pad(samples, ((0, 0), (MEL.context, 0))))
    mel = log_mel(padded, MEL)
    tracker = LevelTracker()
    _, reference, _ = tracker.step(mel, tracker.init_state(mel.shape[0]))
    return tracker.normalise(mel, reference)
