"""The compact expression vector that ExpFlow models, and its way from and to motion columns.

The paper's flow makes all 64 coefficients of the face, lips included. Here lips come from a lips
network, for a voice decides them, and the flow makes what a voice leaves open: how far this mouth
opens beyond the network's mean, the upper face, the emotion's share of the mouth, heavy lids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.samplers.factors import UPPER
from engine.samplers.noise import Floats
from engine.samplers.visemes import spread_columns
from engine.types import MOTION

__all__ = ["MOUTH", "NAMES", "OPENING_UNIT", "SIZE", "to_expression", "to_vector"]

OPENING_UNIT = 0.05
"""Inter-ocular distances per unit of the vector's first column."""

_MOUTH_NAMES = (
    "mouthSmileLeft", "mouthSmileRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrown",
    "mouthPress", "mouthStretch", "mouthUpperUp", "mouthShrugLower",
)  # fmt: skip
_MOUTH_COLUMNS = [
    [MOTION.index(name)] if name in MOTION.names else MOTION.columns(name) for name in _MOUTH_NAMES
]
_LIDS = MOTION.columns("eyeBlink")

NAMES: tuple[str, ...] = ("opening", *(MOTION.names[k] for k in UPPER), *_MOUTH_NAMES, "lids")
"""Columns of the vector: opening beyond the lips network's (0.05 inter-ocular distances), the upper
face, the mouth's mood (0..1, slow), and the lids' slow closure (0..1)."""
SIZE = len(NAMES)
MOUTH = slice(1 + len(UPPER), SIZE - 1)

_MOOD_FRAMES, _LID_FRAMES, _UPPER_FRAMES = 5.0, 12, 2.0


def to_vector(motion: NDArray[np.float32], lips: NDArray[np.float32], opened: NDArray[np.float32]) -> Floats:
    """Vectors [T, SIZE] of a recorded face.

    ``motion`` [T, 72] relative to rest (NaN unknown), ``lips`` [T, 15] the lips network's channels of
    the same voice, ``opened`` [T] the real opening less the network's (inter-ocular distances).
    Unknown values become 0. The mouth's mood is what remains of its columns without the lips, without
    what is faster than about half a second: speech that the network missed is no mood.
    """
    known = np.nan_to_num(motion.astype(np.float64))
    mood = known - spread_columns(lips.astype(np.float64))
    x = np.zeros((len(motion), SIZE))
    x[:, 0] = _smooth(np.nan_to_num(opened.astype(np.float64)) / OPENING_UNIT, 0.6)
    x[:, 1 : 1 + len(UPPER)] = _smooth(known[:, UPPER], _UPPER_FRAMES)
    for k, columns in enumerate(_MOUTH_COLUMNS):
        x[:, MOUTH.start + k] = _smooth(mood[:, columns].mean(1), _MOOD_FRAMES)
    x[:, -1] = _smooth(_running_median(known[:, _LIDS].mean(1), _LID_FRAMES), _MOOD_FRAMES)
    return x


def to_expression(x: Floats) -> tuple[Floats, Floats]:
    """Vectors [B, SIZE] to (upper face [B, 13], mood [B, 64])."""
    mood = np.zeros((len(x), MOTION.expression.stop))
    for k, columns in enumerate(_MOUTH_COLUMNS):
        mood[:, columns] = x[:, MOUTH.start + k, None]
    mood[:, _LIDS] = np.clip(x[:, -1:], 0.0, 0.35)
    return x[:, 1 : 1 + len(UPPER)], mood


def _smooth(values: Floats, frames: float) -> Floats:
    """Gaussian smoothing over time, edges repeated."""
    reach = int(np.ceil(3 * frames))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)
    kernel /= kernel.sum()
    wide = values[:, None] if values.ndim == 1 else values
    padded = np.pad(wide, ((reach, reach), (0, 0)), mode="edge")
    made = np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
    return made[:, 0] if values.ndim == 1 else made


def _running_median(values: Floats, reach: int) -> Floats:
    padded = np.pad(values, reach, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=-1))
