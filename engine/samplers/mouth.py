"""The mouth of a frame: sampled lips over the portrait's own, and closed where there is no voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.noise import Floats
from engine.samplers.visemes import LIP_CHANNELS, spread_columns
from engine.types import MOTION

__all__ = ["Mouth", "MouthState"]

_SEAL = LIP_CHANNELS.index("lipsSealed")
_CLOSE = LIP_CHANNELS.index("mouthClose")
_JAW = LIP_CHANNELS.index("jawOpen")
_PARTING = [LIP_CHANNELS.index(n) for n in ("mouthLowerDown", "mouthUpperUp", "mouthFunnel")]
# What a resting mouth gives up while it speaks, as far as it rests open; its mood stays.
_YIELDS = {
    "jawOpen": 1.0, "mouthClose": 1.0, "mouthLowerDownLeft": 0.8, "mouthLowerDownRight": 0.8,
    "mouthUpperUpLeft": 0.6, "mouthUpperUpRight": 0.6, "mouthFunnel": 0.8, "mouthPucker": 0.5,
    "mouthSmileLeft": 0.25, "mouthSmileRight": 0.25,
}  # fmt: skip
# Most a channel may change in one frame: lips round in about 120 ms, jaw and seal are as fast as speech.
_SLOWER = {"mouthPucker": 0.34, "mouthFunnel": 0.34, "lowerLipIn": 0.45, "tongueUp": 0.5, "tongueBack": 0.5}
_FASTEST = np.array([_SLOWER.get(name, 1.0) for name in LIP_CHANNELS])
# Share of the sampled mouth that remains k frames after the voice stopped (k = 0, 1, 2, ...): a stop
# consonant's gap of up to two frames stays open, silence is shut within three (120 ms).
_FADE = np.array([1.0, 1.0, 0.5, 0.06, 0.0])


@dataclass
class MouthState:
    """``quiet`` [B] frames since the voice stopped; ``share`` [B] how far speech has taken the mouth
    over; ``last`` [B, C] the channels of the frame before."""

    quiet: Floats
    share: Floats
    last: Floats


class Mouth:
    """Joins sampled channels with ``rest`` [B, 72].

    ``rest_open`` [B] 0..1 tells how far each portrait's own mouth is open; a closed one is simply
    added to (its fitted coefficients are what closed looks like there).
    """

    def init_state(self, batch: int) -> MouthState:
        return MouthState(np.full(batch, 99.0), np.zeros(batch), np.zeros((batch, len(LIP_CHANNELS))))

    def step(
        self,
        channels: Floats,
        gate: Floats,
        strength: Floats,
        rest: Floats,
        rest_open: Floats,
        state: MouthState,
    ) -> Floats:
        """Motion [B, 72] with the mouth set and all else as at rest."""
        state.quiet[...] = np.where(gate > 0.35, 0.0, state.quiet + 1.0)
        fade = _FADE[np.minimum(state.quiet, len(_FADE) - 1).astype(int)]
        # Opening takes at most two frames, so that a voice's onset never snaps.
        state.share[...] = np.minimum(fade, state.share + 0.6)
        scaled = np.clip(channels * (state.share * strength)[:, None], 0.0, 1.0)
        scaled = np.clip(scaled, state.last - _FASTEST, state.last + _FASTEST)
        state.last[...] = scaled
        _close_with_seal(scaled)
        motion = rest * (1.0 - _yielded() * (state.share * rest_open)[:, None])
        motion = motion + spread_columns(scaled)
        return np.asarray(motion)


def _close_with_seal(channels: Floats) -> None:
    """Sealed lips meet whatever the jaw does: mouthClose follows jawOpen, what parts them lets go."""
    seal = np.clip(channels[:, _SEAL], 0.0, 1.0)
    channels[:, _CLOSE] = seal * channels[:, _JAW]
    for index in _PARTING:
        channels[:, index] *= 1.0 - seal


def _yielded() -> Floats:
    weights = np.zeros(MOTION.size)
    for name, share in _YIELDS.items():
        weights[MOTION.index(name)] = share
    return weights
