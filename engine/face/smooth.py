"""Zero-phase smoothing of tracked curves, in runs of frames that were seen.

Offline only: every function looks as far ahead as back, so nothing is delayed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import savgol_filter

__all__ = ["bridge", "fit_curve", "gentle", "lively", "runs", "without_spikes"]

Double = NDArray[np.float64]
Flags = NDArray[np.bool_]


def runs(seen: Flags) -> list[slice]:
    """The longest stretches of true values, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def fit_curve(curve: Double, seen: Flags, window: int) -> Double:
    """Local parabolas over ``window`` (odd) frames (Savitzky and Golay 1964), per run of ``seen``.

    ``curve`` [T, D]. Peaks of the width of the window keep their height, which a mean does not; runs
    shorter than five frames stay as they are.
    """
    out = curve.copy()
    for run in runs(seen):
        length = run.stop - run.start
        width = min(window, length if length % 2 else length - 1)
        if width >= 5:
            out[run] = savgol_filter(curve[run], width, 2, axis=0)
    return out


def lively(rough: Double, smooth: Double, size: Double | float) -> Double:
    """``smooth`` [T, D] where it differs from ``rough`` by noise of the given ``size``, ``rough`` where by
    much more: a difference d keeps the share |d|^2 / (|d|^2 + size^2) of itself.

    A jerk of the head is not noise, and a curve drawn through it would leave the face for some frames.
    """
    gone = (rough - smooth) / size
    far = (gone**2).sum(axis=1, keepdims=True)
    blended: Double = smooth + (rough - smooth) * far / (far + 1.0)
    return blended


def gentle(curve: Double, seen: Flags, sigma_frames: float) -> Double:
    """Gaussian smoothing of ``curve`` [T, D], per run of ``seen``."""
    out = curve.copy()
    for run in runs(seen):
        out[run] = gaussian_filter1d(curve[run], sigma_frames, axis=0, mode="nearest")
    return out


def without_spikes(curve: Double, seen: Flags) -> Double:
    """Median of three frames of ``curve`` [T, D], per run of ``seen``: steps keep their place."""
    out = curve.copy()
    for run in runs(seen):
        out[run] = median_filter(curve[run], size=(3, 1), mode="nearest")
    return out


def bridge(curve: Double, trusted: Flags) -> Double:
    """``curve`` [T, D] with straight lines across frames that are not ``trusted``; as it is where none is."""
    known = np.flatnonzero(trusted)
    if not len(known):
        return curve
    at = np.arange(len(curve))
    columns = [np.interp(at, known, curve[known, k]) for k in range(curve.shape[1])]
    bridged: Double = np.stack(columns, axis=1)
    return bridged
