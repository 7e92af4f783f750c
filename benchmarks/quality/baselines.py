"""What the lips must beat: loudness alone, and a ridge regression from a log-mel window."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.train.motion_data import Clip, log_mel, speaker_of, window_features

__all__ = ["ColumnRidge", "Ridge", "fit_columns", "fit_ridge", "loudness"]

Floats = NDArray[np.float64]

_BEFORE, _AFTER = 12, 6  # columns of 20 ms: -240 .. +120 ms around the start of a frame
_PENALTY = 3e3


def loudness(clip: Clip) -> Floats:
    """Log energy of each frame [T]: how far a mouth that only follows loudness would get."""
    mel = log_mel(clip.audio)
    energy = np.log(np.exp(mel.astype(np.float64)).sum(axis=1) + 1e-6)
    return np.asarray(energy[: len(energy) // 2 * 2].reshape(-1, 2).mean(axis=1))


@dataclass(frozen=True)
class Ridge:
    """A linear map from a log-mel window (-240..+120 ms, 40 bands, 20 ms) to mouth opening."""

    weight: Floats
    deviation: Floats

    def __call__(self, clip: Clip) -> Floats:
        """Opening [T], its mean removed, in units of the speakers' 95th percentile."""
        return (_window(clip) / self.deviation) @ self.weight


def fit_ridge(clips: list[Clip]) -> Ridge:
    """Fit on ``clips``; each speaker weighs as the square root of its frames.

    Channel differences go out with each clip's mean; openings are divided by each speaker's 95th
    percentile, so that a wide mouth does not count more than a small one.
    """
    speakers: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        speakers[speaker_of(clip.item.name)].append(clip)
    inputs, targets, weights = [], [], []
    for members in speakers.values():
        seen = np.concatenate([clip.opening[clip.good] for clip in members])
        scale = max(float(np.percentile(seen, 95)), 1e-6)
        for clip in members:
            target = clip.opening / scale
            inputs.append(_window(clip)[clip.good])
            targets.append((target - target[clip.good].mean())[clip.good])
            weights.append(np.full(int(clip.good.sum()), seen.size**-0.5))
    x, y, w = np.concatenate(inputs), np.concatenate(targets), np.concatenate(weights)
    w /= w.mean()
    deviation = x.std(axis=0) + 1e-9
    x = x / deviation
    gram = (x * w[:, None]).T @ x + _PENALTY * np.eye(x.shape[1])
    return Ridge(np.linalg.solve(gram, (x * w[:, None]).T @ y), deviation)


def _window(clip: Clip) -> Floats:
    columns = window_features(log_mel(clip.audio), 2, _BEFORE, _AFTER).astype(np.float64)
    return np.asarray(columns - columns.mean(axis=0))


@dataclass(frozen=True)
class ColumnRidge:
    """A linear map from sound to the lip columns of the motion space, relative to a person's rest.

    The best least-squares mouth that sound alone gives: with ``window`` it sees the log-mel of
    -240..+120 ms, without it loudness only. Landmarks and vertices are linear in the columns, so this
    is also the ridge regression to landmarks.
    """

    window: bool
    mean: Floats
    deviation: Floats
    weight: Floats
    columns: tuple[int, ...]

    def __call__(self, audio: NDArray[np.float32], rest: Floats) -> Floats:
        """Motion [T, 72]: the lips as predicted, all else at ``rest`` [72]."""
        x = _sound(audio, self.window) / self.deviation
        motion = np.repeat(rest[None], len(x), axis=0)
        motion[:, list(self.columns)] += x @ self.weight + self.mean
        return motion


def _sound(audio: NDArray[np.float32], window: bool) -> Floats:
    """Inputs [T, F] of :class:`ColumnRidge`, each clip's mean removed."""
    mel = log_mel(audio)
    if window:
        x = window_features(mel, 2, _BEFORE, _AFTER).astype(np.float64)
    else:
        energy = np.log(np.exp(mel.astype(np.float64)).sum(axis=1) + 1e-6)
        x = energy[: len(energy) // 2 * 2].reshape(-1, 2).mean(axis=1)[:, None]
    return np.asarray(x - x.mean(axis=0))


def fit_columns(
    clips: list[tuple[str, NDArray[np.float32], Floats, Floats]], columns: list[int], window: bool
) -> ColumnRidge:
    """Fit on (name, audio, motion [T, 72], rest [72]) of training clips; frames with NaN are left out.

    Each speaker weighs as the square root of its frames, as in :func:`fit_ridge`.
    """
    frames: dict[str, int] = defaultdict(int)
    for name, _, motion, _ in clips:
        frames[speaker_of(name)] += int(np.isfinite(motion).all(axis=1).sum())
    inputs, targets, weights = [], [], []
    for name, audio, motion, rest in clips:
        x = _sound(audio, window)
        length = min(len(x), len(motion))
        seen = np.isfinite(motion[:length]).all(axis=1)
        inputs.append(x[:length][seen])
        targets.append((motion[:length] - rest)[seen][:, columns])
        weights.append(np.full(int(seen.sum()), max(frames[speaker_of(name)], 1) ** -0.5))
    x, y, w = np.concatenate(inputs), np.concatenate(targets), np.concatenate(weights)
    w /= w.mean()
    mean = np.asarray((y * w[:, None]).sum(axis=0) / w.sum())
    deviation = x.std(axis=0) + 1e-9
    x = x / deviation
    gram = (x * w[:, None]).T @ x + _PENALTY * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, (x * w[:, None]).T @ (y - mean))
    return ColumnRidge(window, mean, deviation, weight, tuple(columns))
