"""Head motion: posture, sway, breathing, nods, all bounded.

Sway and breathing are pure functions of (seed, frame); posture and nods are springs driven by
bounded inputs, so the pose cannot drift away over hours. Head motion in speech follows loudness
and pitch (Yehia, Kuratate, Vatikiotis-Bateson, 2002; Busso et al., 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.cues import Cues
from engine.samplers.noise import Floats, Seeds, smooths, uniforms
from engine.samplers.rows import spring

__all__ = ["Head", "HeadState"]

_STREAM = 200
_DEG = np.pi / 180.0
# Lattice rates (cells/s) of the noise: slow, middle and speech sway (pitch, yaw, roll each), the
# breath's wander, sideways and depth translation. The dominant frequency is about half of each.
_WAVES_HZ = np.array([0.21, 0.23, 0.19, 0.72, 0.76, 0.67, 1.8, 1.7, 1.6, 0.08, 0.16, 0.13])
_SLOW_DEG = np.array([2.6, 4.0, 2.4])
_MID_DEG = np.array([2.0, 2.75, 2.0])
_SPEECH_DEG = np.array([5.8, 7.6, 5.4])
_POSTURE_DEG = np.array([3.6, 7.2, 4.4])
_LIMIT = np.array([9.0, 13.0, 8.0]) * _DEG


@dataclass
class HeadState:
    """Arrays [B, 3] (pitch, yaw, roll; rad): springs of posture and nod; ``hold_s`` [B]."""

    posture: Floats
    posture_speed: Floats
    posture_goal: Floats
    nod: Floats
    nod_speed: Floats
    nod_goal: Floats
    hold_s: Floats
    drive: Floats


class Head:
    """Pose [B, 6] relative to the portrait: rotation (rad), translation (inter-ocular distances)."""

    def __init__(self, dt: float = 0.04) -> None:
        self.dt = dt

    def init_state(self, batch: int) -> HeadState:
        def zero() -> Floats:
            return np.zeros((batch, 3))

        return HeadState(zero(), zero(), zero(), zero(), zero(), zero(), np.zeros(batch), np.zeros(batch))

    def step(self, seed: Seeds, frame: int, cues: Cues, state: HeadState) -> Floats:
        draw = uniforms(seed, _STREAM, frame, 9)
        self._move_posture(draw, cues, state)
        self._nod(draw, cues, state)
        state.drive += (cues.energy * cues.presence - state.drive) * (1.0 - np.exp(-self.dt / 0.15))
        seconds = frame * self.dt
        waves = smooths(seed, _STREAM + 20, seconds * _WAVES_HZ)
        rotation = self._sway(waves, cues, state) + state.posture + state.nod
        # The chin rises with the pitch of the voice.
        rotation[:, 0] -= 0.35 * _DEG * np.clip(cues.pitch, -6.0, 6.0) * cues.presence
        breath = self._breath(waves, seconds)
        rotation[:, 0] -= 0.25 * _DEG * breath
        rotation = _LIMIT * np.tanh(rotation / _LIMIT)
        return np.concatenate([rotation, self._translation(waves, rotation, breath)], axis=1)

    def _move_posture(self, draw: Floats, cues: Cues, state: HeadState) -> None:
        """A new posture now and then, mostly where a phrase begins; never far from the portrait's."""
        state.hold_s += self.dt
        hazard = (0.14 + 0.10 * cues.presence) * np.clip(state.hold_s - 1.5, 0.0, 3.0)
        idle = draw[0] < hazard * self.dt
        spoken = cues.phrase_start & (draw[1] < 0.6) & (state.hold_s > 0.8)
        change = idle | spoken
        goal = (2.0 * draw[2:5].T - 1.0) * _POSTURE_DEG * _DEG
        scale = (0.55 + 0.45 * cues.presence)[:, None]
        state.posture_goal[...] = np.where(change[:, None], goal * scale, state.posture_goal)
        state.hold_s[change] = 0.0
        spring(state.posture, state.posture_speed, state.posture_goal, 3.2, self.dt)

    def _nod(self, draw: Floats, cues: Cues, state: HeadState) -> None:
        """An accent pulls the head down (or, less often, up or aside) and lets it go again."""
        state.nod_goal *= np.exp(-self.dt / 0.16)
        hit = cues.accent
        size = 5.5 * _DEG * hit * (0.4 + 0.9 * draw[5])
        down = np.where(draw[6] < 0.75, 1.0, -0.6)
        aside = 2.0 * draw[7] - 1.0
        tilt = 2.0 * draw[8] - 1.0
        kick = np.stack([size * down, 0.6 * size * aside, 0.4 * size * tilt], axis=1)
        state.nod_goal[...] = np.clip(state.nod_goal + kick, -0.12, 0.12)
        spring(state.nod, state.nod_speed, state.nod_goal, 13.0, self.dt)

    def _sway(self, waves: Floats, cues: Cues, state: HeadState) -> Floats:
        lively = (0.75 + 0.5 * cues.presence)[:, None]
        slow = waves[0:3].T * _SLOW_DEG + waves[3:6].T * _MID_DEG
        fast = waves[6:9].T * _SPEECH_DEG * state.drive[:, None]
        return np.asarray((slow * lively + fast) * _DEG)

    def _breath(self, waves: Floats, seconds: float) -> Floats:
        """About 15 breaths a minute, the period wandering by a few per cent."""
        return np.asarray(np.sin(2.0 * np.pi * 0.25 * seconds + 1.2 * waves[9]))

    def _translation(self, waves: Floats, rotation: Floats, breath: Floats) -> Floats:
        """The head turns about the neck, so it moves with its rotation; breathing lifts it a little."""
        return np.stack(
            [
                0.035 * waves[10] - 0.25 * rotation[:, 2] + 0.10 * rotation[:, 1],
                0.006 * breath - 0.15 * rotation[:, 0],
                0.03 * waves[11] + 0.15 * rotation[:, 0],
            ],
            axis=1,
        )
