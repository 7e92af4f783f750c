"""Sequences for the lips network: encoder features with their targets, augmented and cached.

Real clips give opening and width (offset taken out, the person's own range normalised) and, through
the encoder's posteriors on the clean audio, the phonetic prior. Phone-labelled speech of many
speakers gives the prior alone. An augmented copy is played faster or slower, through another
channel, quieter or louder and in noise; its targets move with it in time and not otherwise.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, maximum_filter1d

from engine.encoders.phones import PHONES
from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.train.articulation import Spoken
from engine.train.augment import add_noise, channel, gain
from engine.train.lip_targets import normal_opening
from engine.train.motion_data import Clip, speaker_of
from engine.types import AudioChunk, Cond
from engine.weights import weights_path

__all__ = [
    "FeatureCache",
    "Person",
    "Sequence",
    "augmented",
    "near_voice",
    "people",
    "posteriors_of",
    "warped",
]

Floats = NDArray[np.float32]

_A = slice(FEATURES.index(f"phoneA.{PHONES[0]}"), FEATURES.index(f"phoneA.{PHONES[0]}") + len(PHONES))
_B = slice(FEATURES.index(f"phoneB.{PHONES[0]}"), FEATURES.index(f"phoneB.{PHONES[0]}") + len(PHONES))


@dataclass(frozen=True)
class Sequence:
    """T frames: ``features`` [T, F]; ``channels`` [T, C] of the prior; ``opening`` and ``width`` [T],
    NaN where unknown; ``speaker`` for balancing."""

    speaker: str
    features: Floats
    channels: Floats
    opening: Floats
    width: Floats


class FeatureCache:
    """Encoder features by key, on disk; another encoder weight means another folder."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256(weights_path("ppg").read_bytes()).hexdigest()[:10]
        self.folder = folder / f"features_{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._encoder = PpgEncoder(backend="eager")

    def __call__(self, key: str, audio: Floats) -> Floats:
        """Features [T, F] of ``audio``; ``key`` must name the audio, augmentation included."""
        path = self.folder / (key.replace("/", "__") + ".npy")
        if path.is_file():
            return np.asarray(np.load(path), np.float32)
        chunk = AudioChunk(0, torch.from_numpy(audio.astype(np.float32))[None])
        with torch.no_grad():
            made = self._encoder.forward(chunk, Cond.default(1))[0].numpy()
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, made.astype(np.float16))
        part.replace(path)
        return made.astype(np.float16).astype(np.float32)


def posteriors_of(features: Floats) -> Floats:
    """The encoder's posteriors as 20 ms columns: [T, F] to [2 T, P]."""
    return np.stack([features[:, _A], features[:, _B]], axis=1).reshape(-1, len(PHONES))


def _noise_of(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))


def augmented(audio: Floats, key: str) -> tuple[Floats, float]:
    """An augmented copy, the same for the same ``key``, and how much faster it plays."""
    noise = _noise_of(key)
    factor = float(np.exp(noise.uniform(-0.2, 0.2)))
    at = np.arange(int(len(audio) / factor)) * factor
    out = np.interp(at, np.arange(len(audio)), audio).astype(np.float32)
    if noise.random() < 0.6:
        out = channel(out, noise)
    if noise.random() < 0.6:
        out = add_noise(out, np.zeros_like(out), noise)
    return gain(out, noise).astype(np.float32), factor


def warped(values: Floats, factor: float, frames: int, delay: float) -> Floats:
    """Per-frame targets [T] or [T, C] played ``factor`` times faster and ``delay`` frames later, cut
    or held to ``frames``."""
    at = np.clip((np.arange(frames) + 0.5 - delay) * factor - 0.5, 0, len(values) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).astype(np.float32)
    share = share[:, None] if values.ndim == 2 else share
    return np.asarray(values[low] * (1 - share) + values[high] * share, np.float32)


@dataclass(frozen=True)
class Person:
    """Clips that share one range of the mouth (one person before one camera)."""

    clips: list[Clip]
    low: float
    high: float
    width: float

    def spoken(self, clip: Clip, cache: FeatureCache) -> Spoken:
        """The clip's posteriors and its opening on the common scale, unknown away from speech."""
        features = cache(clip.item.name, clip.audio)
        length = min(len(features), len(clip.opening))
        opening = normal_opening(clip.opening[:length], self.low, self.high)
        opening[~clip.good[:length] | (near_voice(features[:length]) < 0.5)] = np.nan
        return Spoken(speaker_of(clip.item.name), posteriors_of(features[:length]), opening)


def people(clips: list[Clip]) -> list[Person]:
    """Clips grouped by person and camera: a sentence corpus is one, any other clip stands alone."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups["grid_s1" if clip.item.name.startswith("grid_s1/") else clip.item.name].append(clip)
    found = []
    for group in groups.values():
        seen = np.concatenate([c.opening[c.good] for c in group])
        width = float(np.median(np.concatenate([c.shape[c.good, 0] for c in group])))
        found.append(Person(group, float(np.percentile(seen, 5)), float(np.percentile(seen, 95)), width))
    return found


def near_voice(features: Floats) -> Floats:
    """1 near speech, 0 from 160 ms away on [T]. Where nothing can be heard people breathe in and smile
    through an open mouth: that teaches nothing, and a silent mouth is to be shut."""
    voice = maximum_filter1d(features[:, FEATURES.index("voice")], 5)
    return np.asarray(np.clip(convolve1d(voice, np.ones(3) / 3, mode="nearest") * 2.0, 0.0, 1.0), np.float32)
