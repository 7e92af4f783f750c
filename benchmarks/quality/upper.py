"""Eyes and brows: GoHD's 21 eye-motion features, their SSIM and variance, and one detector of blinks.

**Features** (GoHD, section "Handcrafted Eye Motion Features"): from the landmarks of the mesh with
pose and identity at zero, the height of the eyes against the neutral mesh, and the displacement of
ten brow landmarks in x and y: 1 + 20 sequences. Displacements are in inter-ocular distances.

**SSIM** (GoHD, eq. 26, without the loss's ``1 -``): per sequence (2 m m' + C1)(2 cov + C2) /
((m² + m'² + C1)(v + v' + C2)), mean over sequences, C1 = 0.01², C2 = 0.03² (a range of 1). The paper
names neither constants nor units, so its values do not compare with ours; orders do. Since a
generated blink never falls on a real one, compare with the row of *another* real person.

**Variance**: mean over the sequences of the variance over time.

**Blinks**: the same detector on real and generated lids: closure is the mean of both
``eyeBlink`` columns, less its lowest value within ±0.6 s; a blink is a peak that rises at least
0.25 above both sides. Duration is its width at half that height; eyes shut longer than 480 ms do not blink.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d
from scipy.signal import find_peaks, peak_prominences, peak_widths

from benchmarks.quality.mouth import INTER_OCULAR_CM
from engine.face.basis import load_basis
from engine.types import MOTION

__all__ = ["BlinkCount", "blinks", "closure", "eye_features", "ssim", "variance"]

Floats = NDArray[np.float64]

_C1, _C2 = 0.01**2, 0.03**2
# Upper and lower lid landmarks of each eye, then ten brow landmarks (five a side), as MediaPipe counts.
_LIDS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_BLINK = MOTION.columns("eyeBlink")
_LEAST_RISE = 0.25
_WINDOW_FRAMES = 31
_LONGEST_FRAMES = 12


@lru_cache(maxsize=1)
def _bases() -> tuple[Floats, Floats, Floats]:
    """Neutral lid gap [6] and units [64, 6] (cm), and brow units [64, 20] (inter-ocular distances)."""
    basis = load_basis()
    mean, units = basis.at_landmarks(basis.mean), basis.at_landmarks(basis.expression)
    top, bottom = [a for a, _ in _LIDS], [b for _, b in _LIDS]
    gap = (mean[top] - mean[bottom])[:, 1]
    gaps = (units[:, top] - units[:, bottom])[..., 1]
    brows = units[:, list(_BROWS), :2].reshape(len(units), -1) / INTER_OCULAR_CM
    return gap.astype(np.float64), gaps.astype(np.float64), brows.astype(np.float64)


def eye_features(motion: Floats) -> Floats:
    """The 21 sequences [T, 21] of ``motion`` [T, 72]: eye height (neutral = 1), then brows x, y."""
    gap, gaps, brows = _bases()
    expression = motion[:, MOTION.expression]
    height = np.maximum(gap + expression @ gaps, 0.0).mean(axis=1) / gap.mean()
    return np.asarray(np.concatenate([height[:, None], expression @ brows], axis=1))


def _both(made: Floats, real: Floats) -> tuple[Floats, Floats]:
    length = min(len(made), len(real))
    both = np.isfinite(made[:length]).all(axis=1) & np.isfinite(real[:length]).all(axis=1)
    return made[:length][both], real[:length][both]


def ssim(made: Floats, real: Floats) -> float:
    """Structural similarity of sequences [T, K], one window over the whole clip, mean over K."""
    a, b = _both(made, real)
    if len(a) < 3:
        return float("nan")
    ma, mb = a.mean(axis=0), b.mean(axis=0)
    va, vb = a.var(axis=0), b.var(axis=0)
    covariance = ((a - ma) * (b - mb)).mean(axis=0)
    top = (2 * ma * mb + _C1) * (2 * covariance + _C2)
    return float((top / ((ma**2 + mb**2 + _C1) * (va + vb + _C2))).mean())


def variance(sequences: Floats) -> float:
    """Mean over the columns of [T, K] of the variance over time; NaN rows are left out."""
    seen = sequences[np.isfinite(sequences).all(axis=1)]
    return float(seen.var(axis=0).mean()) if len(seen) else float("nan")


def closure(motion: Floats) -> Floats:
    """Lid closure [T] above the local baseline; frames without a face count as open."""
    lids = np.nan_to_num(motion[:, _BLINK].mean(axis=1))
    return np.asarray(lids - minimum_filter1d(lids, _WINDOW_FRAMES, mode="nearest"))


@dataclass(frozen=True)
class BlinkCount:
    """Blinks of one or more clips; they add up. ``durations_ms`` holds one entry a blink."""

    frames: int
    durations_ms: tuple[float, ...]

    def __add__(self, other: BlinkCount) -> BlinkCount:
        return BlinkCount(self.frames + other.frames, self.durations_ms + other.durations_ms)

    @property
    def per_minute(self) -> float:
        return len(self.durations_ms) * 1500.0 / self.frames if self.frames else float("nan")

    @property
    def median_ms(self) -> float:
        return float(np.median(self.durations_ms)) if self.durations_ms else float("nan")


def blinks(motion: Floats) -> BlinkCount:
    """Blinks of one clip [T, 72] at 25 frames/s."""
    seen = int(np.isfinite(motion[:, _BLINK]).all(axis=1).sum())
    curve = closure(motion)
    padded = np.concatenate([[0.0], curve, [0.0]])
    peaks, _ = find_peaks(padded, prominence=_LEAST_RISE)
    if not len(peaks):
        return BlinkCount(seen, ())
    prominences = peak_prominences(padded, peaks, wlen=_WINDOW_FRAMES)
    widths = peak_widths(padded, peaks, rel_height=0.5, prominence_data=prominences)[0]
    brief = (widths <= _LONGEST_FRAMES) & (prominences[0] >= _LEAST_RISE)
    return BlinkCount(seen, tuple(40.0 * float(w) for w in widths[brief]))
