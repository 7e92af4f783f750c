"""Pitch and voice activity of a short window, computed afresh for every frame."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendError
from engine.types import SAMPLE_RATE

__all__ = ["PITCH_WINDOW", "VAD_WINDOW", "speech_share", "yin"]

Floats = NDArray[np.float32]

PITCH_WINDOW = 800
"""Samples that :func:`yin` looks at (50 ms)."""
VAD_WINDOW = 3200
"""Samples that :func:`speech_share` looks at (200 ms)."""

_SHORTEST, _LONGEST = SAMPLE_RATE // 500, SAMPLE_RATE // 62
_SPAN = PITCH_WINDOW - _LONGEST - 1
_THRESHOLD = 0.15
_VAD_FRAME = 320
_VAD_JUDGED = 4


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _differences(window: Floats, relative: Floats) -> None:
    """d(τ) for τ = 1.. into ``relative``; additions in any order, so that they vectorise."""
    for lag in range(1, len(relative)):
        difference = np.float32(0.0)
        for j in range(_SPAN):
            gap = window[j] - window[j + lag]
            difference += gap * gap
        relative[lag] = difference


@numba.njit(cache=True, nogil=True)
def yin(window: Floats) -> tuple[float, float]:
    """(f0 in Hz, voicing 0..1) of float32 [:data:`PITCH_WINDOW`] samples, 62..500 Hz.

    de Cheveigné & Kawahara 2002: the difference function d(τ) = Σ (x_j − x_{j+τ})², divided by its
    own running mean (eq. 8), the first dip under the threshold, else the lowest, parabola-refined.
    Voicing is one minus the dip's depth.
    """
    relative = np.ones(_LONGEST + 1, np.float32)
    _differences(window, relative)
    total = np.float32(0.0)
    for lag in range(1, _LONGEST + 1):
        total += relative[lag]
        relative[lag] = relative[lag] * lag / total if total > 0.0 else np.float32(1.0)
    best = _SHORTEST
    for lag in range(_SHORTEST, _LONGEST):
        if relative[lag] < relative[best]:
            best = lag
        if relative[best] < _THRESHOLD and relative[lag + 1] > relative[best]:
            break
    before, at, after = relative[best - 1], relative[best], relative[best + 1]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend > 1e-9 else 0.0
    return SAMPLE_RATE / (best + min(max(shift, -0.5), 0.5)), min(max(1.0 - at, 0.0), 1.0)


@cache
def _vad_class() -> Any:
    try:
        import webrtcvad
    except ImportError as error:
        raise BackendError(f"webrtcvad cannot be imported ({error}); pip install webrtcvad-wheels") from error
    return webrtcvad.Vad


def speech_share(window: Floats, gain: float) -> float:
    """Share of the last 80 ms of ``window`` that WebRTC's detector calls speech.

    The detector adapts as it listens and its state cannot be copied, so a new one hears the whole
    window, float32 [:data:`VAD_WINDOW`] samples amplified by ``gain``, every time.
    """
    detector = _vad_class()(2)
    data = np.clip(window * np.float32(32767.0 * gain), -32768.0, 32767.0).astype(np.int16).tobytes()
    size = 2 * _VAD_FRAME
    said = [detector.is_speech(data[at : at + size], SAMPLE_RATE) for at in range(0, len(data), size)]
    return float(sum(said[-_VAD_JUDGED:])) / _VAD_JUDGED
