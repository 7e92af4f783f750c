"""What the body reads from a voice: activity, loudness against the speaker's own level, accents.

Knows nothing of lips. Every value is causal and adapts to the speaker, so that a quiet and a loud
voice move the head alike; the reference level is a running one, never the utterance's maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.noise import Floats
from engine.samplers.rows import Bools

__all__ = ["CueState", "Cues", "VoiceCues", "VoiceFrame"]

_FLOOR_DB = -70.0
_RANGE_DB = 30.0
# No voice holds its level within 0.4 dB from frame to frame for 0.2 s: a hum or a test tone does.
_STEADY_DB, _STEADY_FRAMES = 0.4, 5.0


@dataclass(frozen=True)
class VoiceFrame:
    """One frame of the encoder's prosody, all float64 [B].

    ``voice`` probability of speech; ``level_db`` dB re full scale; ``pitch`` semitones re the
    voice's own mean, meaningful where ``voiced`` > 0.5.
    """

    voice: Floats
    level_db: Floats
    pitch: Floats
    voiced: Floats


@dataclass(frozen=True)
class Cues:
    """What gestures react to, all [B].

    ``gate`` 0..1 fast voice activity (opens within a frame or two, closes in three);
    ``presence`` 0..1 slow activity (bridges pauses inside a sentence); ``energy`` 0..1 smoothed
    loudness against the speaker's level; ``pitch`` smoothed deviation from the speaker's mean in
    semitones; ``accent`` 0..1, non-zero only on the frame where an emphasis begins;
    ``phrase_start`` and ``phrase_end`` are true on one frame each.
    """

    gate: Floats
    presence: Floats
    energy: Floats
    pitch: Floats
    accent: Floats
    phrase_start: Bools
    phrase_end: Bools


@dataclass
class CueState:
    """Running statistics of one voice; arrays [B]."""

    gate: Floats
    presence: Floats
    reference_db: Floats
    energy: Floats
    energy_slow: Floats
    pitch_mean: Floats
    pitch: Floats
    quiet_s: Floats
    speaking: Bools
    rest_s: Floats
    level_db: Floats
    steady: Floats
    """frames since the level last changed: a hum's never does"""


class VoiceCues:
    """Turns :class:`VoiceFrame` into :class:`Cues`, frame by frame."""

    def __init__(self, dt: float = 0.04) -> None:
        self.dt = dt

    def init_state(self, batch: int) -> CueState:
        zero = np.zeros(batch)
        return CueState(
            gate=zero.copy(),
            presence=zero.copy(),
            reference_db=np.full(batch, -26.0),
            energy=zero.copy(),
            energy_slow=zero.copy(),
            pitch_mean=zero.copy(),
            pitch=zero.copy(),
            quiet_s=np.full(batch, 10.0),
            speaking=np.zeros(batch, dtype=bool),
            rest_s=zero.copy(),
            level_db=np.full(batch, -120.0),
            steady=zero.copy(),
        )

    def step(self, frame: VoiceFrame, state: CueState) -> Cues:
        active = self._activity(frame, state)
        self._loudness(frame, state, active)
        self._pitch(frame, state, active)
        accent = self._accent(state, active)
        start, end = self._phrases(state, active)
        return Cues(
            state.gate.copy(),
            state.presence.copy(),
            state.energy.copy(),
            state.pitch.copy(),
            accent,
            start,
            end,
        )

    def _toward(self, value: Floats, target: Floats | float, up_s: float, down_s: float) -> None:
        """First-order approach in place, with its own time constant each way."""
        gap = target - value
        rate = 1.0 - np.exp(-self.dt / np.where(gap > 0, up_s, down_s))
        value += rate * gap

    def _activity(self, frame: VoiceFrame, state: CueState) -> Floats:
        """The speech probability, which must also be audible and alive: hiss and hum stay shut."""
        audible = np.clip((frame.level_db - _FLOOR_DB) / 6.0, 0.0, 1.0)
        still = np.abs(frame.level_db - state.level_db) < _STEADY_DB
        state.steady[...] = np.where(still, state.steady + 1.0, 0.0)
        state.level_db[...] = frame.level_db
        active = np.clip(frame.voice, 0.0, 1.0) * audible * (state.steady < _STEADY_FRAMES)
        self._toward(state.gate, active, 0.02, 0.03)
        self._toward(state.presence, active, 0.25, 0.7)
        return active

    def _loudness(self, frame: VoiceFrame, state: CueState, active: Floats) -> None:
        gap = np.where(active > 0.5, frame.level_db - state.reference_db, 0.0)
        state.reference_db += gap * (1.0 - np.exp(-self.dt / np.where(gap > 0, 0.6, 8.0)))
        raw = np.clip((frame.level_db - state.reference_db + _RANGE_DB) / _RANGE_DB, 0.0, 1.2) * active
        self._toward(state.energy, raw, 0.06, 0.12)
        self._toward(state.energy_slow, state.energy, 0.8, 0.8)

    def _pitch(self, frame: VoiceFrame, state: CueState, active: Floats) -> None:
        voiced = (frame.voiced > 0.5) & (active > 0.5)
        gap = np.where(voiced, np.clip(frame.pitch - state.pitch_mean, -12.0, 12.0), 0.0)
        state.pitch_mean += gap * (1.0 - np.exp(-self.dt / 3.0))
        self._toward(state.pitch, np.clip(gap, -8.0, 8.0), 0.25, 0.25)

    def _accent(self, state: CueState, active: Floats) -> Floats:
        """An emphasis: loudness or pitch stands out of its own recent past, at most every 0.45 s."""
        state.rest_s += self.dt
        salience = 1.6 * (state.energy - state.energy_slow - 0.12) + 0.10 * (state.pitch - 1.0)
        fires = (salience > 0.15) & (state.rest_s > 0.45) & (active > 0.5)
        state.rest_s[fires] = 0.0
        return np.where(fires, np.clip(0.4 + salience, 0.0, 1.0), 0.0)

    def _phrases(self, state: CueState, active: Floats) -> tuple[Bools, Bools]:
        """A phrase begins after a pause of 0.3 s and ends when 0.2 s were silent."""
        loud = active > 0.5
        start = loud & ~state.speaking
        state.quiet_s[...] = np.where(loud, 0.0, state.quiet_s + self.dt)
        end = state.speaking & (state.quiet_s > 0.2)
        start &= ~end
        state.speaking[...] = (state.speaking | loud) & ~end
        return start, end
