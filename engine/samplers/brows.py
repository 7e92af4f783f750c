"""Brows: raised with emphasis and pitch, a little alive at rest (Cavé et al., 1996)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.cues import Cues
from engine.samplers.noise import Floats, Seeds, smooths, uniforms
from engine.samplers.rows import spring

__all__ = ["BrowState", "Brows"]

_STREAM = 400


@dataclass
class BrowState:
    """Arrays [B]: the raise (spring) and its goal, the frown, the lean to one side."""

    raised: Floats
    raised_speed: Floats
    goal: Floats
    inner: Floats
    frown: Floats
    frown_speed: Floats
    frown_goal: Floats


class Brows:
    """Columns [B, 5]: browDownLeft, browDownRight, browInnerUp, browOuterUpLeft, browOuterUpRight."""

    def __init__(self, dt: float = 0.04) -> None:
        self.dt = dt

    def init_state(self, batch: int) -> BrowState:
        def zero() -> Floats:
            return np.zeros(batch)

        return BrowState(zero(), zero(), zero(), np.full(batch, 0.5), zero(), zero(), zero())

    def step(self, seed: Seeds, frame: int, cues: Cues, state: BrowState) -> Floats:
        state.goal *= np.exp(-self.dt / 0.32)
        state.frown_goal *= np.exp(-self.dt / 0.5)
        choice, size, where = uniforms(seed, _STREAM, frame, 3)
        strength = cues.accent * (0.4 + 0.8 * size)
        rises = (cues.accent > 0) & (choice < 0.42)
        frowns = (cues.accent > 0) & (choice > 0.86)
        state.goal[...] = np.clip(state.goal + np.where(rises, strength, 0.0), 0.0, 0.9)
        state.frown_goal[...] = np.clip(state.frown_goal + np.where(frowns, 0.6 * strength, 0.0), 0.0, 0.5)
        fresh = 0.25 + 0.6 * where
        state.inner[...] = np.where(rises, fresh, state.inner)
        spring(state.raised, state.raised_speed, state.goal, 14.0, self.dt)
        spring(state.frown, state.frown_speed, state.frown_goal, 10.0, self.dt)
        return self._columns(seed, frame, cues, state)

    def _columns(self, seed: Seeds, frame: int, cues: Cues, state: BrowState) -> Floats:
        seconds = frame * self.dt
        wave = smooths(seed, _STREAM + 3, seconds * np.array([0.25, 0.3, 0.2]))
        idle = 0.05 + 0.06 * wave[0]
        lean = 0.25 * wave[1]
        melody = 0.03 * np.clip(cues.pitch, 0.0, 6.0) * cues.presence
        lift = np.clip(1.3 * state.raised + melody + np.maximum(idle, 0.0), 0.0, 1.0)
        frown = np.clip(0.8 * state.frown + 0.04 * wave[2], 0.0, 1.0)
        return np.stack(
            [
                frown * (1.0 + 0.3 * lean),
                frown * (1.0 - 0.3 * lean),
                lift * (0.45 + 0.55 * state.inner),
                lift * (1.0 - 0.55 * state.inner) * (1.0 + lean),
                lift * (1.0 - 0.55 * state.inner) * (1.0 - lean),
            ],
            axis=1,
        ).clip(0.0, 1.0)
