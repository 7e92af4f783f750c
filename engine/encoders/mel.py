"""Audio to a normalised log-mel spectrum and prosody, 25 frames a second, one frame of look-ahead.

GoHD, OSM-Net and FlowVQTalker read speech as a mel spectrum. No network runs here: what the
samplers built on it know of sounds they have learned themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.encoders.listener import OWN, PROSODY, Heard, Listener, pool_bands, voice_of

__all__ = ["BANDS", "FEATURES", "HALVES", "MelEncoder"]

BANDS = 40
HALVES = 2

FEATURES: tuple[str, ...] = (
    *PROSODY,  # its ``voice`` is :func:`voice_of`
    # Half h (20 ms) of frame n in 40 bands up to 8 kHz, units of 20 dB relative to the voice's level:
    *(f"mel.{h:02d}.{k:02d}" for h in range(HALVES) for k in range(BANDS)),
    *(f"melNext.{h:02d}.{k:02d}" for h in range(HALVES) for k in range(BANDS)),  # of frame n + 1
)
"""Names of the columns of the :class:`~engine.types.FeatureChunk`, in order."""


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
