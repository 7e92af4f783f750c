"""Sequences for the lips network: encoder features with their targets, augmented and cached.

Real clips give opening and width (offset taken out, the person's own range normalised) and, through
the encoder's posteriors on the clean audio, the phonetic prior. Phone-labelled speech of many
speakers gives the prior alone. An augmented copy is played faster or slower, through another
channel, quieter or louder and in noise; its targets move with it in time and not otherwise.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, maximum_filter1d
from tqdm import tqdm

from engine.encoders.phones import PHONES
from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.train.augment import add_noise, channel, gain
from engine.train.lip_targets import coarticulate, normal_opening
from engine.train.motion_data import Clip, speaker_of
from engine.train.speech_data import Corpus
from engine.types import AudioChunk, Cond
from engine.weights import weights_path

__all__ = ["FeatureCache", "Sequence", "clip_sequences", "labelled_sequences", "posteriors_of"]

Floats = NDArray[np.float32]

_A = slice(FEATURES.index(f"phoneA.{PHONES[0]}"), FEATURES.index(f"phoneA.{PHONES[0]}") + len(PHONES))
_B = slice(FEATURES.index(f"phoneB.{PHONES[0]}"), FEATURES.index(f"phoneB.{PHONES[0]}") + len(PHONES))


@dataclass(frozen=True)
class Sequence:
    """T frames: ``features`` [T, F]; ``channels`` [T, C] of the prior; ``opening`` and ``width`` [T],
    NaN where no real mouth was seen; ``speaker`` for balancing."""

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


def _augment(audio: Floats, noise: np.random.Generator) -> tuple[Floats, float]:
    """An augmented copy and how much faster it plays."""
    factor = float(np.exp(noise.uniform(-0.2, 0.2)))
    at = np.arange(int(len(audio) / factor)) * factor
    out = np.interp(at, np.arange(len(audio)), audio).astype(np.float32)
    if noise.random() < 0.6:
        out = channel(out, noise)
    if noise.random() < 0.6:
        out = add_noise(out, np.zeros_like(out), noise)
    return gain(out, noise).astype(np.float32), factor


def _warp(values: Floats, factor: float, frames: int) -> Floats:
    """Per-frame targets [T] or [T, C] played ``factor`` times faster, cut or held to ``frames``."""
    at = np.clip((np.arange(frames) + 0.5) * factor - 0.5, 0, len(values) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).astype(np.float32)
    share = share[:, None] if values.ndim == 2 else share
    return np.asarray(values[low] * (1 - share) + values[high] * share, np.float32)


def clip_sequences(clips: list[Clip], cache: FeatureCache, copies: dict[str, int]) -> Iterator[Sequence]:
    """Each clip clean, then ``copies[speaker]`` augmented ones (none where the speaker is not named)."""
    members: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        # A person's range is one, but cameras differ: group the clips of one sentence corpus only.
        many = clip.item.name.startswith("grid_s1/")
        members["grid_s1" if many else clip.item.name].append(clip)
    for group in tqdm(members.values(), desc="clips", unit="person"):
        seen = np.concatenate([c.opening[c.good] for c in group])
        low, high = (float(np.percentile(seen, q)) for q in (5, 95))
        wide = float(np.median(np.concatenate([c.shape[c.good, 0] for c in group])))
        for clip in group:
            yield from _copies(clip, cache, copies, (low, high, wide))


def _copies(
    clip: Clip, cache: FeatureCache, copies: dict[str, int], scale: tuple[float, float, float]
) -> Iterator[Sequence]:
    low, high, wide = scale
    speaker = speaker_of(clip.item.name)
    missing = np.where(clip.good, 0.0, np.nan).astype(np.float32)
    opening = normal_opening(clip.opening, low, high) + missing
    width = ((clip.shape[:, 0] / wide - 1.0) * 0.55).astype(np.float32) + missing
    clean = cache(clip.item.name, clip.audio)
    prior = coarticulate(posteriors_of(clean))
    length = min(len(clean), len(opening))
    opening[:length] *= _near_voice(clean[:length])
    yield Sequence(speaker, clean[:length], prior[:length], opening[:length], width[:length])
    for k in range(copies.get(speaker, 0)):
        key = f"{clip.item.name}+{k}"
        audio, factor = _augment(clip.audio, _noise_of(key))
        made = cache(key, audio)
        rows = len(made)
        yield Sequence(
            speaker,
            made,
            _warp(prior, factor, rows),
            _warp(opening, factor, rows),
            _warp(width, factor, rows),
        )


def _near_voice(features: Floats) -> Floats:
    """1 near speech, 0 from 160 ms away on [T]: people breathe in and smile through an open mouth
    where nothing can be heard, and a mouth that is silent is to be shut."""
    voice = maximum_filter1d(features[:, FEATURES.index("voice")], 5)
    return np.asarray(np.clip(convolve1d(voice, np.ones(3) / 3, mode="nearest") * 2.0, 0.0, 1.0), np.float32)


def labelled_sequences(folder: Path, cache: FeatureCache, count: int) -> Iterator[Sequence]:
    """``count`` phone-labelled utterances (human first), their prior from the labels, augmented."""
    corpus = Corpus(folder)
    items = [i for i in corpus.items if i.split == "train" and i.frames > 150]
    order = np.random.default_rng(0).permutation(len(items))
    for index in tqdm(order[:count], desc="speech", unit="utterance"):
        item = items[index]
        labels = corpus.phones(item).astype(np.int64)[:1000]
        audio = corpus.samples(item)[: len(labels) * 160]
        key = f"speech+{item.name}"
        heard, factor = _augment(audio, _noise_of(key))
        made = cache(key, heard)
        known = np.where(labels >= 0, labels, 0)
        posteriors = np.eye(len(PHONES), dtype=np.float32)[known][: len(labels) // 4 * 4]
        prior = coarticulate(posteriors.reshape(-1, 2, len(PHONES)).mean(axis=1))
        rows = len(made)
        nothing = np.full(rows, np.nan, np.float32)
        yield Sequence(f"labelled:{item.speaker}", made, _warp(prior, factor, rows), nothing, nothing)
