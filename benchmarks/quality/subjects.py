"""The real people of the benchmark: tracked clips with sound, motion and the person's own rest.

Everything is at 25 frames/s with the clip's own A/V offset taken out, as in
:mod:`engine.train.motion_data`; frames in which the face was not seen are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.samplers.factors import BROWS, EXPRESSION, LIPS
from engine.train.motion_data import FRAME_MS, Clip, clip_items, load_clip
from engine.types import MOTION

__all__ = ["READ", "Subject", "read_subjects", "rest_of", "tracked_motion"]

Floats = NDArray[np.float64]

READ = ("grid/", "grid_s1/", "elospheres")
"""Clips of sentence corpora: a sentence read off a screen, the head held still. All others are free talk."""
_CLOSED_SHARE = 15.0
_QUIET_SHARE = 10.0


@dataclass(frozen=True)
class Subject:
    """One person talking, T frames.

    ``motion`` float64 [T, 72]: expression as tracked, pose and gaze minus the clip's median;
    ``rest`` float64 [72]: the expression at which this person's mouth is shut and brows are quiet.
    """

    clip: Clip
    motion: Floats
    rest: Floats

    @property
    def name(self) -> str:
        return self.clip.item.name

    @property
    def free_talk(self) -> bool:
        return not self.name.startswith(READ)

    @property
    def opening(self) -> Floats:
        """Mouth opening [T] from the landmarks, inter-ocular distances; NaN where unseen."""
        return np.where(self.clip.good, self.clip.opening, np.nan).astype(np.float64)


def tracked_motion(motion: Floats, valid: NDArray[np.bool_], offset_ms: float) -> Floats:
    """``motion`` [T, 72] moved to where the audio says, pose and gaze relative to their median.

    Frames that touch one that is not ``valid`` are NaN.
    """
    motion = np.asarray(motion, np.float64).copy()
    seen = valid & np.isfinite(motion).all(axis=1)
    if seen.sum() < 10:
        return np.full_like(motion, np.nan)
    for columns in (MOTION.pose, MOTION.gaze):
        motion[:, columns] -= np.median(motion[seen][:, columns], axis=0)
    at = np.arange(len(motion)) + offset_ms / FRAME_MS
    known = np.flatnonzero(seen)
    moved = np.stack([np.interp(at, known, motion[known, k]) for k in range(MOTION.size)], axis=1)
    good = np.interp(at, np.arange(len(seen)), seen.astype(np.float64), left=0.0, right=0.0) > 0.99
    moved[~good] = np.nan
    return moved


def rest_of(motion: Floats, opening: Floats) -> Floats:
    """The rest [72] of a tracked person: what a portrait taken in a quiet moment would show.

    Lip columns are the median over the 15 % of the frames with the most closed mouth (without the
    seal, which a mouth about to speak must be free to break), the rest of the face its 10th
    percentile; lids, gaze and head rest at 0.
    """
    seen = np.isfinite(motion).all(axis=1) & np.isfinite(opening)
    rest = np.zeros(MOTION.size)
    if seen.sum() < 10:
        return rest
    known, gap = motion[seen], opening[seen]
    shut = known[gap <= np.percentile(gap, _CLOSED_SHARE)]
    rest[LIPS] = np.median(shut[:, LIPS], axis=0)
    rest[MOTION.index("lipsSealed")] = 0.0
    quiet = sorted(set(EXPRESSION) | set(BROWS))
    rest[quiet] = np.percentile(known[:, quiet], _QUIET_SHARE, axis=0)
    return rest


def _subject(clip: Clip, tracks: Path) -> Subject:
    path = tracks / (clip.item.name.replace("/", "__") + ".npz")
    with np.load(path) as file:
        if "motion" not in file:
            raise InputError(f"{path} has landmarks but no motion; run 'visavis track' on the clip again")
        motion = tracked_motion(file["motion"], file["valid"], clip.item.offset_ms)
    length = min(len(motion), len(clip.opening))
    opening = np.where(clip.good, clip.opening, np.nan)[:length]
    return Subject(clip, motion[:length], rest_of(motion[:length], opening))


def read_subjects(
    data: Path, tracks: Path, splits: tuple[str, ...], training: bool = True
) -> tuple[list[Subject], list[Subject]]:
    """(people of ``splits``, people the baselines may learn from), in order of name.

    Clips that are not in ``tracks`` are left out; ``training`` = False returns none to learn from.

    Raises:
        InputError: there is no manifest in ``data``, or a track lacks its motion.
    """
    measured: list[Subject] = []
    learned: list[Subject] = []
    for item in clip_items(data):
        wanted = item.split in splits
        if not wanted and not (training and item.trains):
            continue
        clip = load_clip(item, tracks)
        if clip is not None:
            (measured if wanted else learned).append(_subject(clip, tracks))
    return measured, learned
