"""What the lips network should have done: a phonetic prior, and real mouths where there are any.

The prior blends each phone's target over its neighbours by dominance (Cohen, Massaro, 1993): phone p
at distance tau weighs alpha_p exp(-|tau| / theta) on a channel, posteriors stand in for hard phone
boundaries, so no transcript is needed. Rounding, seals and lip-to-teeth contact exist only here in
numbers worth learning; opening and width come from tracked people.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from torch import Tensor

from engine.encoders.phones import PHONES
from engine.samplers.visemes import LIP_CHANNELS, spread_columns, viseme_table
from engine.train.mouth_geometry import opening_of, shape_of

__all__ = [
    "SPEECH_OPENING",
    "coarticulate",
    "geometry",
    "normal_opening",
    "opening_from",
    "phone_openings",
    "scale_opening",
    "width_from",
]

Floats = NDArray[np.float32]

SPEECH_OPENING = 0.13
"""Opening of a typical speaker's 95th percentile above rest, inter-ocular distances."""

_JAW, _LOWER, _UPPER, _FUNNEL, _CLOSE, _SEAL = (
    LIP_CHANNELS.index(n)
    for n in ("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel", "mouthClose", "lipsSealed")
)
# Amplitudes that turn the viseme table's "wide vowel" units into columns.
_JAW_GAIN, _LOWER_GAIN, _UPPER_GAIN = 0.28, 0.35, 0.3
# Reach of a phone to either side, seconds, by channel group.
_REACH_S = {"mouthFunnel": 0.09, "mouthPucker": 0.10, "mouthSmile": 0.08, "mouthStretch": 0.07,
            "jawOpen": 0.045, "mouthLowerDown": 0.045, "mouthUpperUp": 0.045}  # fmt: skip
_SHORT_REACH_S = 0.015
_HALF_S = 0.02


def coarticulate(posteriors: Floats, opening: Floats | None = None) -> Floats:
    """Phone posteriors [N, P] every 20 ms to channels [N // 2, C], one per 40 ms frame.

    ``opening`` [N // 2], where given, says how far the lips part: the channels that part them are
    scaled to it, within reason.
    """
    targets, dominance = viseme_table(PHONES)
    out = np.zeros((len(posteriors), len(LIP_CHANNELS)))
    for channel, name in enumerate(LIP_CHANNELS):
        kernel = np.exp(-np.abs(np.arange(-12, 13)) * _HALF_S / _REACH_S.get(name, _SHORT_REACH_S))
        weight = posteriors.astype(np.float64) @ dominance[:, channel]
        pull = posteriors.astype(np.float64) @ (dominance[:, channel] * targets[:, channel])
        spread = convolve1d(weight, kernel, mode="nearest")
        out[:, channel] = convolve1d(pull, kernel, mode="nearest") / np.maximum(spread, 1e-6)
    out *= _gains()
    frames = out[: len(out) // 2 * 2].reshape(-1, 2, out.shape[1])
    channels = torch.from_numpy(frames.mean(axis=1)).float()
    # A closure of 40 ms may fall between two frames: keep the tighter half.
    channels[:, _SEAL] = torch.from_numpy(frames[:, :, _SEAL].max(axis=1)).float()
    if opening is not None:
        scale_opening(channels, torch.from_numpy(opening), geometry()[0])
    return np.asarray(channels.numpy(), np.float32)


def scale_opening(channels: Tensor, opening: Tensor, unit: Tensor) -> None:
    """Scale, in place, the channels [..., T, C] that part the lips so that they part by ``opening``
    [..., T] (NaN leaves them). Rounding keeps at least half of its funnel."""
    factor = (opening / opening_from(channels, unit).clamp(min=0.01)).clamp(0.2, 2.5).nan_to_num(1.0)
    for index in (_JAW, _LOWER, _UPPER):
        channels[..., index] *= factor
    channels[..., _FUNNEL] *= factor.clamp(0.5, 1.2)


def _gains() -> NDArray[np.float64]:
    gains = np.ones(len(LIP_CHANNELS))
    gains[[_JAW, _LOWER, _UPPER]] = _JAW_GAIN, _LOWER_GAIN, _UPPER_GAIN
    return gains


def phone_openings() -> tuple[Floats, Floats]:
    """The table's opening (inter-ocular distances) and dominance of each phone, float32 [P] each."""
    targets, dominance = viseme_table(PHONES)
    unit, _ = geometry()
    opening = opening_from(torch.from_numpy(targets * _gains()).float(), unit)
    return np.asarray(opening.numpy(), np.float32), dominance[:, _JAW].astype(np.float32)


@lru_cache(maxsize=1)
def geometry() -> tuple[Tensor, Tensor]:
    """Opening and width (inter-ocular distances) per unit of each channel, float32 [C] each."""
    step = 0.25
    probes = spread_columns(step * np.eye(len(LIP_CHANNELS))).astype(np.float32)
    rest = np.zeros((1, probes.shape[1]), np.float32)
    opening = (opening_of(probes) - opening_of(rest)) / step
    width = (shape_of(probes)[:, 0] - shape_of(rest)[:, 0]) / step
    opening[[_CLOSE, _SEAL]] = 0.0
    return torch.from_numpy(np.maximum(opening, 0.0)), torch.from_numpy(width)


def opening_from(channels: Tensor, unit: Tensor) -> Tensor:
    """Differentiable opening [..., T] of channels [..., T, C]; a seal shuts whatever is open."""
    return (channels @ unit) * (1.0 - channels[..., _SEAL])


def width_from(channels: Tensor, unit: Tensor) -> Tensor:
    """Differentiable change of the mouth's width [..., T]."""
    return channels @ unit


def normal_opening(opening: Floats, low: float, high: float) -> Floats:
    """A person's opening [T] on the common scale: their rest is 0, their 95th percentile
    :data:`SPEECH_OPENING`, at most twice that."""
    scaled = (opening - low) / max(high - low, 1e-6) * SPEECH_OPENING
    return np.asarray(np.clip(scaled, 0.0, 2.0 * SPEECH_OPENING), np.float32)
