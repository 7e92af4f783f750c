"""Head motion measured against people: amount, speed, spectrum, beats, jitter.

Angles are the rotation's three components (pitch, yaw, roll) in degrees, relative to the clip's
median; a curve of a clip is float64 [T, 3] at 25 frames/s, NaN where unseen.

* **deviation** and **speed**: standard deviation within a clip, and mean absolute change per frame
  of the curve below 5 Hz. Above that a tracked head shows the tracker's noise, a flat floor, which
  adds a fifth to a free talker's speed per frame; ``raw speed`` is without the filter.
* **spectrum**: Welch's power (64-frame Hann windows, half overlapped, mean removed) in 0-0.5, 0.5-2
  and 2-5 Hz, deg², summed over the axes; **spectral distance**: root mean square of the
  difference of the log power from 0.3 to 5 Hz, dB, mean over the axes.
* **beats** (BA; Siyao et al., 2022): head beats are local minima of the rotation's speed (below
  5 Hz, smoothed over 3 frames) that lie below 0.8 of the speed on either side; audio beats are onsets, the
  local maxima of the rise of loudness. BA = mean over the head's beats of exp(-d²/2s²), d the distance
  to the nearest audio beat, s = 3 frames. Heads with many beats score higher by chance, so the mean
  over 24 circular shifts of the head against the sound is taken away: **beat gain**. Our real
  people have none of it; what they do is move fastest near onsets, so **stroke gain** is the same
  with the peaks of the speed (at least half a deviation high) in the place of its minima.
* **jitter**: mean absolute second difference per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, find_peaks, sosfiltfilt, welch

from engine.types import MOTION

__all__ = [
    "BANDS",
    "HeadAmount",
    "amount",
    "angles",
    "audio_beats",
    "band_power",
    "beat_alignment",
    "below_5_hz",
    "head_beats",
    "head_strokes",
    "jitter",
    "spectral_distance_db",
    "spectrum",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BANDS: tuple[tuple[float, float], ...] = ((0.0, 0.5), (0.5, 2.0), (2.0, 5.0))
"""Hz."""
_RATE = 25.0
_WINDOW = 64
_SHORTEST = 16
_SIGMA_FRAMES = 3.0
_SHIFTS = 24
_HOP = 160
_PER_FRAME = 4


@dataclass(frozen=True)
class HeadAmount:
    """Pitch, yaw, roll of one clip: ``deviation`` deg, ``speed`` and ``raw_speed`` deg per frame."""

    deviation: Floats
    speed: Floats
    raw_speed: Floats


def angles(motion: Floats) -> Floats:
    """Rotation [T, 3] of ``motion`` [T, 72], deg."""
    return np.asarray(np.degrees(motion[:, MOTION.rotation]))


def amount(curve: Floats) -> HeadAmount:
    """How much and how fast a head [T, 3] moves."""
    seen = _whole(curve)
    raw, calm = (np.abs(np.diff(c, axis=0)).mean(axis=0) for c in (seen, below_5_hz(seen)))
    return HeadAmount(seen.std(axis=0), calm, raw)


def below_5_hz(curve: Floats) -> Floats:
    """``curve`` [T, K] without what is faster than 5 Hz, in phase; too short ones as they are."""
    if len(curve) <= _SHORTEST:
        return curve
    return np.asarray(sosfiltfilt(butter(4, 5.0, fs=_RATE, output="sos"), curve, axis=0))


def _whole(curve: Floats) -> Floats:
    """The seen frames of a clip; gaps are rare and short, and are closed up."""
    return curve[np.isfinite(curve).all(axis=1)]


def spectrum(curves: list[Floats]) -> tuple[Floats, Floats]:
    """(frequencies [F] Hz, power [F, 3] deg²/Hz) of clips [T, 3], each weighing as its frames."""
    total = np.zeros((_WINDOW // 2 + 1, 3))
    frames = 0
    for curve in (_whole(c) for c in curves):
        if len(curve) < _WINDOW:
            continue
        centred = curve - curve.mean(axis=0)
        _, power = welch(centred, _RATE, "hann", _WINDOW, detrend=False, axis=0)
        total += len(curve) * power
        frames += len(curve)
    return np.asarray(np.fft.rfftfreq(_WINDOW, 1.0 / _RATE), np.float64), total / max(frames, 1)


def band_power(hertz: Floats, power: Floats) -> tuple[float, ...]:
    """Power in each of :data:`BANDS`, deg², summed over the axes."""
    step = hertz[1] - hertz[0]
    return tuple(float(power[(hertz >= a) & (hertz < b)].sum() * step) for a, b in BANDS)


def spectral_distance_db(hertz: Floats, made: Floats, real: Floats) -> float:
    """Root mean square difference of two power spectra [F, 3] in dB; a still head is at -60 dB."""
    inside = (hertz >= 0.3) & (hertz <= 5.0)
    floor = 1e-6 * max(float(real[inside].max()), 1e-12)
    difference = 10.0 * np.log10((made[inside] + floor) / (real[inside] + floor))
    return float(np.sqrt((difference**2).mean(axis=0)).mean())


def head_beats(curve: Floats) -> Ints:
    """Frames [N] at which a moving head [T, 3] halts."""
    known = below_5_hz(np.nan_to_num(curve))
    speed = uniform_filter1d(np.linalg.norm(np.diff(known, axis=0), axis=1), 3)
    found, _ = find_peaks(-speed)
    kept = []
    for k in found:
        sides = speed[max(0, k - 8) : k].max(initial=0.0), speed[k + 1 : k + 9].max(initial=0.0)
        if speed[k] < 0.8 * min(sides):
            kept.append(k + 1)
    return np.array(kept, np.int64)


def head_strokes(curve: Floats) -> Ints:
    """Frames [N] at which a head [T, 3] moves fastest."""
    known = below_5_hz(np.nan_to_num(curve))
    speed = uniform_filter1d(np.linalg.norm(np.diff(known, axis=0), axis=1), 3)
    found, _ = find_peaks(speed, prominence=max(0.5 * float(speed.std()), 1e-9))
    return np.asarray(found + 1, np.int64)


def audio_beats(audio: NDArray[np.float32]) -> Floats:
    """Times [N] of onsets in frames (fractions allowed): where loudness rises fastest.

    Loudness is the level of 30 ms windows every 10 ms, smoothed over 50 ms; its rise over 50 ms must
    exceed 3 dB, end within 25 dB of the loud parts, and lead its neighbours within 150 ms.
    """
    hops = len(audio) // _HOP
    if hops < 30:
        return np.zeros(0)
    energy = np.square(audio[: hops * _HOP].astype(np.float64)).reshape(hops, _HOP).mean(axis=1)
    level = uniform_filter1d(10.0 * np.log10(uniform_filter1d(energy, 3) + 1e-9), 5)
    rise = np.concatenate([np.zeros(5), level[5:] - level[:-5]])
    loud = level > np.percentile(level, 95) - 25.0
    peaks, _ = find_peaks(np.where(loud, rise, 0.0), height=3.0, distance=15)
    return np.asarray((peaks - 2) / _PER_FRAME)


def beat_alignment(beats: Ints, onsets: Floats, frames: int) -> tuple[float, float]:
    """(BA, BA less its mean over circular shifts) of head beats and onsets of one clip.

    NaN where either has none.
    """
    if not len(beats) or not len(onsets):
        return float("nan"), float("nan")
    shifts = np.arange(1, _SHIFTS + 1) * frames / (_SHIFTS + 1)
    chance = [_alignment((beats + s) % frames, onsets) for s in shifts]
    found = _alignment(beats.astype(np.float64), onsets)
    return found, found - float(np.mean(chance))


def _alignment(beats: Floats, onsets: Floats) -> float:
    distance = np.abs(beats[:, None] - onsets[None]).min(axis=1)
    return float(np.exp(-(distance**2) / (2.0 * _SIGMA_FRAMES**2)).mean())


def jitter(curve: Floats) -> float:
    """Mean absolute second difference of sequences [T, K], over frames and columns."""
    second = np.abs(np.diff(curve, n=2, axis=0))
    return float(np.nanmean(second)) if np.isfinite(second).any() else float("nan")
