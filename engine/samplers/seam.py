"""A seam between two performances: the motion goes on from where it was and glides to the new one.

When something discrete changes (the seed, the driver, a style), what is sampled jumps. The jump is
kept as an offset that decays: the frame of the change shows no step, a third of a second later (half
a second for the head) only the new performance is seen (inertialisation, Bollo, "Inertialization", GDC 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.factors import EXPRESSION, FACTOR_COLUMNS, POSE
from engine.samplers.noise import Floats
from engine.samplers.rows import Bools, spring
from engine.types import MOTION

__all__ = ["SEAM_COLUMNS", "SeamState", "fresh_seam", "glide"]

SEAM_COLUMNS: list[int] = [*EXPRESSION, *POSE, *range(MOTION.gaze.start, MOTION.gaze.stop)]
"""Lips and lids are left out: they are fast by nature and must not lag behind the voice."""
_RATE = np.array([8.0 if column in POSE else 12.0 for column in SEAM_COLUMNS])
"""1/s: a head has mass and takes half a second."""
_FACTOR = [
    next(k for k, columns in enumerate(FACTOR_COLUMNS.values()) if column in columns)
    for column in SEAM_COLUMNS
]


@dataclass
class SeamState:
    """``offset`` and ``speed`` [B, S] of the columns; ``last`` and ``before`` [B, S] delivered frames."""

    offset: Floats
    speed: Floats
    last: Floats
    before: Floats
    begun: Floats


def fresh_seam(batch: int) -> SeamState:
    def zero() -> Floats:
        return np.zeros((batch, len(SEAM_COLUMNS)))

    return SeamState(zero(), zero(), zero(), zero(), np.zeros(batch))


def glide(motion: Floats, change: Bools, dt: float, state: SeamState) -> None:
    """Smooth ``motion`` [B, 72] in place over the changes of factors flagged in ``change`` [B, 4]."""
    now = motion[:, SEAM_COLUMNS]
    cut = change[:, _FACTOR] & (state.begun[:, None] > 0)
    jump = state.last - now
    state.offset[...] = np.where(cut, jump, state.offset)
    state.speed[...] = np.where(cut, (state.last - state.before) / dt, state.speed)
    spring(state.offset, state.speed, 0.0, _RATE, dt)
    smooth = now + state.offset
    motion[:, SEAM_COLUMNS] = smooth
    state.before[...] = np.where(state.begun[:, None] > 0, state.last, smooth)
    state.last[...] = smooth
    state.begun[...] = 1.0
