"""A slow, causal estimate of how loud the voice is, for input that may be quiet, loud or noisy.

Two trackers follow the energy of every 10 ms frame (dB): ``peak`` rises within about 60 ms and
falls 3 dB/s, ``floor`` falls within about 30 ms and rises 2 dB/s. The reference level is the peak,
but never less than 15 dB over the floor, so that noise alone does not pass for a quiet voice.
Nothing looks ahead and nothing is normalised over an utterance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LevelState", "LevelTracker"]

Floats = NDArray[np.float32]

_ATTACK, _RELEASE_DB = 0.15, 0.03
_FALL, _RISE_DB = 0.3, 0.02
_MARGIN_DB, _LOWEST_DB, _START_DB = 15.0, -85.0, -60.0
_DB_PER_NEPER = 10.0 / math.log(10.0)


@dataclass
class LevelState:
    """float32 [B, 3]: peak (dB), floor (dB), 1 once the first frame has been seen."""

    values: Tensor


@numba.njit(cache=True, nogil=True)
def _track(log_mel: Floats, state: Floats, energy: Floats, reference: Floats, floor: Floats) -> None:
    rows, steps, bands = log_mel.shape
    for row in range(rows):
        peak, low, seen = float(state[row, 0]), float(state[row, 1]), float(state[row, 2])
        for t in range(steps):
            total = 0.0
            for band in range(bands):
                total += np.exp(log_mel[row, t, band])
            level = float(_DB_PER_NEPER * np.log(total / bands))
            if seen == 0.0:
                peak, low, seen = max(level, _START_DB), level, 1.0
            peak = peak + _ATTACK * (level - peak) if level > peak else peak - _RELEASE_DB
            low = low + _FALL * (level - low) if level < low else low + _RISE_DB
            energy[row, t] = level
            floor[row, t] = low
            reference[row, t] = max(peak, low + _MARGIN_DB, _LOWEST_DB)
        state[row, 0], state[row, 1], state[row, 2] = peak, low, seen


class LevelTracker:
    """Energy, reference level and noise floor in dB for every mel frame."""

    def init_state(self, batch: int) -> LevelState:
        return LevelState(torch.zeros(batch, 3))

    def step(self, log_mel: Tensor, state: LevelState) -> tuple[Tensor, Tensor, Tensor]:
        """Natural-log mel power [B, T, M] -> (energy, reference, floor), each [B, T] in dB."""
        batch, steps, _ = log_mel.shape
        energy, reference, floor = (torch.empty(batch, steps) for _ in range(3))
        mel = log_mel.contiguous().numpy()
        _track(mel, state.values.numpy(), energy.numpy(), reference.numpy(), floor.numpy())
        return energy, reference, floor

    def reset(self, state: LevelState, rows: Tensor) -> None:
        state.values[rows] = 0.0

    def normalise(self, log_mel: Tensor, reference: Tensor) -> Tensor:
        """Mel power relative to the reference level, in units of 20 dB, limited to −3.5..1.25."""
        relative = log_mel * (_DB_PER_NEPER / 20.0) - reference.unsqueeze(-1) / 20.0
        return relative.clamp(-3.5, 1.25)
