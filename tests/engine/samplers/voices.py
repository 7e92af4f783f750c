"""Prosody-like features and a small random lips network, so that sampler tests need no encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from engine.samplers.lips import LipNet, LipNetConfig
from engine.samplers.speech import SpeechSampler
from engine.types import CONTROLS, FeatureChunk

COLUMNS = ("voice", "level", "pitch", "voicing", "a", "b", "c", "d")


def random_lips(features: int = len(COLUMNS), seed: int = 0) -> LipNet:
    """A network that moves the mouth a good deal for any input."""
    torch.manual_seed(seed)
    net = LipNet(LipNetConfig(features=features, hidden=16))
    return net.requires_grad_(False).eval()


def sampler() -> SpeechSampler:
    return SpeechSampler(COLUMNS, f"features:test:{len(COLUMNS)}", random_lips())


def talk(seconds: float, spans: list[tuple[float, float]], seed: int = 0) -> FeatureChunk:
    """One row that speaks inside ``spans`` (s) and is silent elsewhere."""
    frames = int(seconds * 25)
    t = np.arange(frames) / 25
    noise = np.random.default_rng(seed)
    speaks = np.zeros(frames, dtype=bool)
    for start, stop in spans:
        speaks |= (t >= start) & (t < stop)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4.1 * t + np.sin(1.3 * t))
    columns = np.stack(
        [
            0.97 * speaks,
            np.where(speaks, -4.0 + 2.2 * syllables + noise.normal(0, 0.2, frames), -7.8),
            np.where(speaks, 0.25 * np.sin(2 * np.pi * 0.35 * t) + 0.17 * np.sin(2 * np.pi * 0.9 * t), 0.0),
            1.0 * (speaks & (syllables > 0.3)),
            *(noise.normal(0, 1, (4, frames)) * speaks),
        ],
        axis=1,
    )
    return chunk(columns.astype(np.float32)[None])


def chunk(data: NDArray[np.float32], t0: int = 0) -> FeatureChunk:
    """Features [B, T, F] with neutral controls."""
    batch, frames = data.shape[:2]
    controls = CONTROLS.default(batch)[:, None].repeat(1, frames, 1)
    return FeatureChunk(t0, torch.from_numpy(data), controls)
