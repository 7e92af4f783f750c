"""What the flows learn from: expression vectors and poses of takes, cut into windows.

Neutral faces are tracked people; emotions are styled takes (authored styles over recorded emotional
voices, :mod:`engine.train.styled`). Heads are those of tracked free talkers only: people who read
sentences to a camera hold still, and a flow shown both learns to fall still.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from engine.samplers.flowvq.networks import CLASSES, TAPS
from engine.samplers.flowvq.vector import NAMES, to_vector
from engine.samplers.lips import LipNet
from engine.train.corpus import Corpus, Entry, Features, Take, mirrored
from engine.train.lip_targets import geometry, opening_from
from engine.train.lip_training import channels_of
from engine.train.styled import strength_of
from engine.types import EMOTIONS, MOTION

__all__ = ["Face", "Head", "Windows", "faces", "heads", "past_of", "weights_of"]

Floats = NDArray[np.float32]

READERS = ("grid", "elospheres")
"""Speakers who read sentences and hold their heads still."""
_POSE_SMOOTHING = 0.8


@dataclass(frozen=True)
class Face:
    """One take as ExpFlow sees it: ``features`` [T, F], ``x`` [T, SIZE], ``weights`` [8] its label."""

    speaker: str
    features: Floats
    x: Floats
    weights: Floats


@dataclass(frozen=True)
class Head:
    """One take as PoseFlow sees it: ``features`` [T, F], ``pose`` [T, 6] (rad, inter-ocular distances)."""

    speaker: str
    features: Floats
    pose: Floats


def weights_of(entry: Entry) -> Floats:
    """Label weights [8] of an entry: its strength for its emotion, neutral for what is left."""
    weights = np.zeros(CLASSES, np.float32)
    strength = strength_of(entry) if entry.emotion in EMOTIONS else 0.0
    weights[0] = 1.0 - strength
    if strength:
        weights[1 + EMOTIONS.index(entry.emotion)] = strength
    return weights


def faces(corpora: list[tuple[Corpus, Features]], split: str, lips: LipNet) -> list[Face]:
    """Tracked and styled takes of ``split``; tracked people also in the mirror."""
    found = []
    for corpus, features in corpora:
        for entry in corpus.select(split, "real", "styled"):
            if entry.kind == "styled" and entry.emotion not in EMOTIONS:
                continue  # their upper faces are the tracked people's
            take = corpus.take(entry)
            heard = features(take)
            frames = min(len(heard), take.frames)
            if frames < 40 or np.isnan(take.motion[:frames, : MOTION.expression.stop]).mean() > 0.2:
                continue
            found += _face(take, heard[:frames], lips)
    return found


def _face(take: Take, heard: Floats, lips: LipNet) -> list[Face]:
    channels = channels_of(lips, heard)
    base = channels
    opening = opening_from(torch.from_numpy(channels), geometry()[0]).numpy()
    if take.entry.kind == "styled":  # made over the shipped map's lips: only what the style adds counts
        base = take.lips[: len(heard)]
        opening = opening_from(torch.from_numpy(base), geometry()[0]).numpy()
    opened = take.opening[: len(heard)] - opening
    weights = weights_of(take.entry)
    sides = [take.motion[: len(heard)]]
    if take.entry.kind == "real":
        sides.append(mirrored(sides[0]))
    made = [to_vector(side, base, opened).astype(np.float32) for side in sides]
    return [Face(take.entry.speaker, heard, x, weights) for x in made]


def heads(corpora: list[tuple[Corpus, Features]], split: str) -> list[Head]:
    """Free talkers of ``split`` and their mirror images, poses lightly smoothed."""
    found = []
    for corpus, features in corpora:
        for entry in corpus.select(split, "real"):
            if entry.speaker.startswith(READERS):
                continue
            take = corpus.take(entry)
            heard = features(take)
            frames = min(len(heard), take.frames)
            for motion in (take.motion, mirrored(take.motion)):
                pose = motion[:frames, MOTION.pose]
                known = np.isfinite(pose).all(axis=1)
                if known.sum() < 50:
                    continue
                at = np.arange(frames)
                whole = np.stack([np.interp(at, at[known], column[known]) for column in pose.T], axis=1)
                smooth = gaussian_filter1d(whole, _POSE_SMOOTHING, axis=0).astype(np.float32)
                found.append(Head(entry.speaker, heard[:frames], smooth))
    return found


class Windows:
    """Random windows of takes. Labels are as likely as asked for; a speaker's chance is the fourth root
    of its frames, so that one person who hardly moves does not set the rule."""

    def __init__(self, items: list[Face] | list[Head], length: int, seed: int) -> None:
        self.noise = np.random.default_rng(seed)
        self.length = length
        self.groups: dict[str, dict[str, list[Face | Head]]] = defaultdict(lambda: defaultdict(list))
        for item in items:
            group = "all"
            if isinstance(item, Face):
                group = "neutral" if item.weights[0] > 0.99 else str(int(item.weights[1:].argmax()))
            if len(item.features) > length + max(TAPS):
                self.groups[group][item.speaker].append(item)

    def batch(self, count: int, neutral: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
        """(features [B, T, F], values [B, T, D], weights [B, C]); each emotion is as likely."""
        names = sorted(self.groups)
        chance = np.array(
            [neutral if n == "neutral" else (1 - neutral) / max(len(names) - 1, 1) for n in names]
        )
        cut = [self._cut(names[self.noise.choice(len(names), p=chance / chance.sum())]) for _ in range(count)]
        x, values, weights = (torch.from_numpy(np.stack(part)) for part in zip(*cut, strict=True))
        return x, values, weights

    def _cut(self, group: str) -> tuple[Floats, Floats, Floats]:
        speakers = self.groups[group]
        names = sorted(speakers)
        frames = np.array([sum(len(item.features) for item in speakers[n]) for n in names]) ** 0.25
        members = speakers[names[self.noise.choice(len(names), p=frames / frames.sum())]]
        sizes = np.array([len(item.features) for item in members], np.float64)
        item = members[self.noise.choice(len(members), p=sizes / sizes.sum())]
        length = self.length + max(TAPS)
        start = int(self.noise.integers(0, len(item.features) - length + 1))
        values = item.x if isinstance(item, Face) else item.pose
        weights = item.weights if isinstance(item, Face) else np.ones(1, np.float32)
        return item.features[start : start + length], values[start : start + length], weights


def past_of(values: Tensor) -> Tensor:
    """The taps before each frame from the ``max(TAPS)``-th on: [B, T, D] to [B, T - max, taps, D]."""
    first, frames = max(TAPS), values.shape[1]
    return torch.stack([values[:, first - lag : frames - lag] for lag in TAPS], dim=2)


def column(name: str) -> int:
    """Index of a named column of the expression vector."""
    return NAMES.index(name)
