"""Blinks with human statistics.

Rates follow Bentivoglio et al. (1997): about 17 a minute at rest and 26 in conversation; both lids
close fast and open slowly (closing 60–90 ms, opening 110–170 ms; VanderWerf et al., 2003). Blinks
gather at the ends of phrases and with large saccades, and now and then come in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.cues import Cues
from engine.samplers.noise import Floats, Seeds, uniforms

__all__ = ["BlinkState", "Blinks"]

_STREAM = 100
_NEVER = 1e9


@dataclass
class BlinkState:
    """Arrays [B]: ``age_s`` time since the blink began; ``speed`` of this blink; ``due_s`` until a
    planned one."""

    age_s: Floats
    speed: Floats
    due_s: Floats


class Blinks:
    """Lid closure 0..1 for both eyes at once."""

    closing_s = 0.075
    closed_s = 0.045
    opening_s = 0.135
    refractory_s = 0.9

    def __init__(self, dt: float = 0.04) -> None:
        self.dt = dt
        self.length_s = self.closing_s + self.closed_s + self.opening_s

    def init_state(self, batch: int) -> BlinkState:
        return BlinkState(np.full(batch, 1.0), np.ones(batch), np.full(batch, _NEVER))

    def step(
        self,
        seed: Seeds,
        frame: int,
        cues: Cues,
        saccade: Floats,
        state: BlinkState,
        often: Floats | float = 1.0,
    ) -> Floats:
        """Closure [B]. ``saccade`` rad: size of a gaze shift that starts now, else 0; ``often`` [B]
        factor of the rate."""
        state.age_s += self.dt
        state.due_s -= self.dt
        draw = uniforms(seed, _STREAM, frame, 7)
        self._plan(draw, cues, saccade, state, often)
        state.due_s[state.due_s < -1.0] = _NEVER
        start = (state.due_s <= 0.0) & (state.age_s * state.speed > self.length_s)
        # A blink begins between two frames: the leftover phase keeps its shape from repeating.
        phase = draw[1] * self.dt
        state.age_s[...] = np.where(start, phase, state.age_s)
        state.speed[...] = np.where(start, 0.88 + 0.3 * draw[2], state.speed)
        double = start & (draw[3] < 0.07)
        state.due_s[...] = np.where(start, np.where(double, 0.30, _NEVER), state.due_s)
        return self._closure(state.age_s * state.speed)

    def _plan(
        self, draw: Floats, cues: Cues, saccade: Floats, state: BlinkState, often: Floats | float
    ) -> None:
        """Spontaneous, phrase-end and gaze-evoked blinks all set ``due_s``."""
        ready = (state.age_s > self.refractory_s) & (state.due_s > _NEVER / 2)
        # Hazard per second, ramping in after the refractory time: 17 a minute at rest, 26 in talk.
        rate = (0.40 + 0.33 * cues.presence) * np.clip((state.age_s - self.refractory_s) / 1.5, 0.0, 1.0)
        rate = np.where(state.age_s > 7.0, 1.2, rate) * often  # eyes dry
        spontaneous = draw[0] < rate * self.dt
        spoken = cues.phrase_end & (draw[4] < 0.35)
        evoked = (saccade > 0.12) & (draw[5] < 0.3)
        wait = np.where(spoken, 0.16 * draw[6], 0.0)
        state.due_s[...] = np.where(ready & (spontaneous | spoken | evoked), wait, state.due_s)

    def _closure(self, t: Floats) -> Floats:
        """Smooth-step down, hold, and a slower exponential-like way up; 1 is shut."""
        down = np.clip(t / self.closing_s, 0.0, 1.0)
        up = np.clip((t - self.closing_s - self.closed_s) / self.opening_s, 0.0, 1.0)
        shut = down * down * (3.0 - 2.0 * down)
        return np.asarray(shut * (1.0 - up) ** 1.6)
