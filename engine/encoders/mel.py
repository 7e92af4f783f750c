"""Audio to a normalised log-mel spectrum and prosody, 25 frames a second, one frame of look-ahead.

GoHD, OSM-Net and FlowVQTalker read speech as a mel spectrum. No network runs here: what the
samplers built on it know of sounds they have learned themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.encoders.listener import OWN, PROSODY, Heard, Listener, pool_bands

__all__ = ["BANDS", "FEATURES", "HALVES", "MelEncoder", "voice_of"]

BANDS = 40
HALVES = 2

FEATURES: tuple[str, ...] = (
    *PROSODY,  # its ``voice`` is :func:`voice_of`
    # Half h (20 ms) of frame n in 40 bands up to 8 kHz, units of 20 dB relative to the voice's level:
    *(f"mel.{h:02d}.{k:02d}" for h in range(HALVES) for k in range(BANDS)),
    *(f"melNext.{h:02d}.{k:02d}" for h in range(HALVES) for k in range(BANDS)),  # of frame n + 1
)
"""Names of the columns of the :class:`~engine.types.FeatureChunk`, in order."""

# Bels: below the first a frame is surely quiet for this voice, above the second it may be speech.
_LOUDNESS_LEAST, _LOUDNESS_SURE = -3.4, -2.4
# Logistic regression on the phonetic encoder's ``voice`` over human and synthetic training speech:
# weights of the energy over the noise floor (bels, at most 2), the detector, the voicing, and the bias.
_SNR_MOST, _SNR_WEIGHT, _VAD_WEIGHT, _VOICING_WEIGHT, _BIAS = 2.0, 0.63, 2.3, 3.1, -2.27


def voice_of(heard: Heard) -> Tensor:
    """Probability of speech [..., 1] without an acoustic model.

    The frame (or the one after it, so that closures do not count as pauses) must be loud for this
    voice, the sound must not be stationary, and energy over the noise floor, periodicity and
    WebRTC's detector vote.
    """
    loudness = torch.maximum(heard.own[..., 1:2], heard.following[..., 1:2])
    snr = torch.maximum(heard.own[..., 2:3], heard.following[..., 2:3]).clamp(max=_SNR_MOST)
    voicing, detected, lively = (heard.late[..., k : k + 1] for k in (0, 2, 3))
    loud = ((loudness - _LOUDNESS_LEAST) / (_LOUDNESS_SURE - _LOUDNESS_LEAST)).clamp(0.0, 1.0)
    votes = _SNR_WEIGHT * snr + _VAD_WEIGHT * detected + _VOICING_WEIGHT * voicing + _BIAS
    return lively * loud * torch.sigmoid(votes)


class MelEncoder(Listener):
    """The audio stage: :class:`AudioChunk` at 16 kHz to :class:`FeatureChunk` in :data:`FEATURES`."""

    def __init__(self) -> None:
        super().__init__("mel", FEATURES, HALVES * BANDS)

    def summary(self, mel: Tensor) -> Tensor:
        halves = mel.reshape(mel.shape[0], HALVES, -1, mel.shape[-1]).mean(2)
        return pool_bands(halves, BANDS).flatten(1)

    def arrange(self, heard: Heard, outputs: tuple[Tensor, ...]) -> Tensor:
        kept = len(OWN)
        parts = [heard.own[..., :kept], heard.late[..., :3], voice_of(heard)]
        return torch.cat([*parts, heard.own[..., kept:], heard.following[..., kept:]], dim=-1)
