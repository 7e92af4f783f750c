"""Who is measured: the real person, another one, a still face, the baselines, a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.baselines import ColumnRidge, Ridge, fit_columns, fit_ridge, loudness
from benchmarks.quality.driving import perform
from benchmarks.quality.rows import Performed
from benchmarks.quality.subjects import Subject
from engine.pipeline import Pipeline
from engine.samplers.factors import LIPS
from engine.train.mouth_geometry import opening_of
from engine.types import MOTION

__all__ = ["SEEDS", "Baselines", "another", "fit_baselines", "real", "recipe", "rest", "still"]

Floats = NDArray[np.float64]

SEEDS = 8
"""Performances of each clip, as many as the papers' diversity needs."""


def _opening(motion: Floats) -> Floats:
    seen = np.isfinite(motion).all(axis=1)
    found = opening_of(np.nan_to_num(motion).astype(np.float32)).astype(np.float64)
    return np.where(seen, found, np.nan)


def real(subjects: list[Subject]) -> list[Performed]:
    """The tracked people themselves, the mouth rebuilt from their coefficients: the tracker's own error
    is what this row lacks to a perfect one."""
    return [Performed(s.motion[None], _opening(s.motion)) for s in subjects]


def another(subjects: list[Subject]) -> list[Performed]:
    """For each person the next one of the same kind (free talk or reading): what chance gives.

    Shorter clips are repeated; expressions are carried over relative to rest.
    """
    found = []
    for s in subjects:
        kind = [o for o in subjects if o.free_talk == s.free_talk]
        other = kind[(kind.index(s) + 1) % len(kind)]
        at = np.arange(len(s.motion)) % len(other.motion)
        motion = (other.motion - other.rest + s.rest)[at]
        found.append(Performed(motion[None], _opening(other.motion)[at]))
    return found


def still(subjects: list[Subject]) -> list[Performed]:
    """A face that shows the clip's own median mouth and never moves: the best a picture can do, told
    what the clip's mouth looks like on the whole."""
    found = []
    for s in subjects:
        pose = s.rest.copy()
        pose[LIPS] = np.nanmedian(s.motion[:, LIPS], axis=0)
        found.append(_held(pose, len(s.motion)))
    return found


def rest(subjects: list[Subject]) -> list[Performed]:
    """The portrait every recipe starts from, never moving."""
    return [_held(s.rest, len(s.motion)) for s in subjects]


def _held(pose: Floats, frames: int) -> Performed:
    return Performed(np.repeat(pose[None, None], frames, axis=1), np.zeros(frames), flat=True)


@dataclass(frozen=True)
class Baselines:
    """Regressions from the training people; ``opening`` is the ridge that is fitted to openings."""

    opening: Ridge
    ridge: ColumnRidge
    loud: ColumnRidge

    def follow_loudness(self, subjects: list[Subject]) -> list[Performed]:
        """Lips as far as loudness says."""
        return [
            Performed(self.loud(s.clip.audio, s.rest)[: len(s.motion)][None], loudness(s.clip))
            for s in subjects
        ]

    def follow_sound(self, subjects: list[Subject]) -> list[Performed]:
        """Lips as far as a ridge regression from the log-mel window says."""
        return [
            Performed(self.ridge(s.clip.audio, s.rest)[: len(s.motion)][None], self.opening(s.clip))
            for s in subjects
        ]


def fit_baselines(training: list[Subject]) -> Baselines:
    """Fit all regressions on ``training``."""
    clips = [(s.name, s.clip.audio, s.motion, s.rest) for s in training]
    return Baselines(
        fit_ridge([s.clip for s in training]),
        fit_columns(clips, LIPS, window=True),
        fit_columns(clips, LIPS, window=False),
    )


def recipe(
    pipeline: Pipeline,
    subjects: list[Subject],
    seeds: int = SEEDS,
    progress: Callable[[str], None] | None = None,
) -> list[Performed]:
    """``pipeline`` driven by every voice: once from a neutral face, then from the person's rest with
    ``seeds`` seeds."""
    found = []
    for s in subjects:
        if progress is not None:
            progress(s.name)
        rests = np.concatenate([np.zeros((1, MOTION.size)), np.repeat(s.rest[None], seeds, axis=0)])
        motion = perform(pipeline, s.clip.audio, [0, *range(seeds)], rests)[:, : len(s.motion)]
        found.append(Performed(motion[1:], _opening(motion[0])))
    return found
