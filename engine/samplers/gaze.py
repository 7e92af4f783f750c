"""Gaze: fixations joined by saccades, a little fixational drift, and the vestibulo-ocular reflex.

Saccades follow the main sequence, duration = 2.2 ms/deg * amplitude + 21 ms (Bahill, Clark, Stark,
1975); fixations last 0.3–4 s. A speaker looks at the listener about two thirds of the time and
looks away more while starting to speak (Argyle, Cook, 1976). The eyes turn against the head so
that the point looked at stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.cues import Cues
from engine.samplers.noise import Floats, Seeds, normals, smooths, uniforms
from engine.samplers.rows import Bools

__all__ = ["Gaze", "GazeState"]

_STREAM = 300
_DEG = np.pi / 180.0
_SPREAD = np.array([3.6, 6.5]) * _DEG  # pitch, yaw of looking away
_LIMIT = np.array([12.0, 18.0]) * _DEG
_REFLEX_GAIN = 0.85


@dataclass
class GazeState:
    """Arrays [B, 2] (pitch, yaw; rad) or [B]: the saccade under way and the fixation's age."""

    start: Floats
    goal: Floats
    elapsed_s: Floats
    duration_s: Floats
    fixation_s: Floats
    away: Bools


class Gaze:
    """Gaze of both eyes [B, 2] relative to the head, and the size of a saccade that starts now."""

    def __init__(self, dt: float = 0.04) -> None:
        self.dt = dt

    def init_state(self, batch: int) -> GazeState:
        zero = np.zeros(batch)
        return GazeState(
            np.zeros((batch, 2)),
            np.zeros((batch, 2)),
            np.full(batch, 1.0),
            np.full(batch, 0.03),
            zero.copy(),
            np.zeros(batch, dtype=bool),
        )

    def step(self, seed: Seeds, frame: int, cues: Cues, state: GazeState) -> tuple[Floats, Floats]:
        """Returns (gaze in the world [B, 2], saccade size [B] rad, 0 where none begins)."""
        state.elapsed_s += self.dt
        state.fixation_s += self.dt
        size = self._saccade(seed, frame, cues, state)
        progress = np.clip(state.elapsed_s / state.duration_s, 0.0, 1.0)[:, None]
        # Minimum-jerk course between the two fixations.
        course = progress**3 * (10.0 - 15.0 * progress + 6.0 * progress**2)
        eyes = state.start + (state.goal - state.start) * course
        seconds = frame * self.dt
        tremor = smooths(seed, _STREAM + 40, np.array([1.7, 1.6]) * seconds).T
        return eyes + 0.35 * _DEG * tremor, size

    def _saccade(self, seed: Seeds, frame: int, cues: Cues, state: GazeState) -> Floats:
        """Leave a fixation with a hazard that grows with its age; return to the listener sooner."""
        ready = np.clip((state.fixation_s - 0.28) / 0.8, 0.0, 1.0)
        hazard = np.where(state.away, 1.5, 0.55) * ready
        draw = uniforms(seed, _STREAM, frame, 4)
        starts = cues.phrase_start & (draw[1] < 0.35) & (ready > 0)
        change = (draw[0] < hazard * self.dt) | starts
        leave = draw[2] < np.where(state.away, 0.3, 0.45)
        goal = self._goal(seed, frame, leave)
        size = np.linalg.norm(goal - state.goal, axis=1)
        moving = change[:, None]
        state.start[...] = np.where(moving, state.goal, state.start)
        state.goal[...] = np.where(moving, goal, state.goal)
        state.elapsed_s[...] = np.where(change, self.dt * draw[3], state.elapsed_s)
        state.duration_s[...] = np.where(change, 0.021 + 0.0022 * size / _DEG, state.duration_s)
        state.fixation_s[...] = np.where(change, 0.0, state.fixation_s)
        state.away[...] = np.where(change, leave, state.away)
        return np.where(change, size, 0.0)

    def _goal(self, seed: Seeds, frame: int, leave: Bools) -> Floats:
        """Away: a few degrees aside, seldom up; at the listener: one eye or the other, or the mouth."""
        draw = normals(seed, _STREAM + 10, frame, 2).T
        away = np.clip(draw, -2.0, 2.0) * _SPREAD
        away[:, 0] -= 1.5 * _DEG
        near = np.clip(draw, -1.5, 1.5) * np.array([0.6, 0.9]) * _DEG
        return np.where(leave[:, None], away, near)

    @staticmethod
    def against_head(gaze: Floats, rotation: Floats) -> Floats:
        """Vestibulo-ocular reflex: world gaze [B, 2] and head rotation [B, 3] to gaze in the head.

        rx > 0 nods down, so the eyes rise; ry > 0 turns the nose to image right, so they go left.
        """
        turned = gaze + _REFLEX_GAIN * np.stack([rotation[:, 0], -rotation[:, 1]], axis=1)
        return np.asarray(_LIMIT * np.tanh(turned / _LIMIT))
