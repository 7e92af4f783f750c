"""The lips half of VAST's training: the strong decoder at the neutral style.

The losses are the ones every family's lips share (:mod:`engine.train.lip_training`). The range is
then set on the ``dev`` speakers as the mouth is shown: shut where nothing is heard.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.samplers.lips import expand
from engine.samplers.vast.decoder import StrongConfig, StrongDecoder
from engine.samplers.vast.networks import input_columns
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.lip_features import Sequence, near_voice
from engine.train.lip_targets import opening_from
from engine.train.lip_training import LipData, LipTrainer, Recipe, calibrate
from engine.train.motion_data import best_correlation

__all__ = ["RECIPE", "spread_opening", "train_lips"]

Floats = NDArray[np.float32]

RECIPE = Recipe(steps=240, check_every=60, dropout=0.25, w_error=0.2, w_velocity=0.1)
WIDTH = 96
SEAL_RANGE = (0.1, 0.55)
"""Raw seals that become 0 and 1. With :data:`SHUT`, of a dozen pairs the one with the best correlation
and closures together on ``dev`` and ``train`` clips (benchmarks.quality.lips)."""
SHUT = 0.04
"""Opening (inter-ocular distances) taken for shut lips: half-believed closures become real ones."""
AMPLITUDE = 1.1
"""Ratio of deviations aimed at near speech: over whole clips, in whose pauses real mouths move and
ours are shut, it comes to about 1."""


def train_lips(
    features: tuple[str, ...], data: LipData, recipe: Recipe = RECIPE, ahead: int = 1
) -> tuple[StrongDecoder, dict[str, float]]:
    """A strong decoder for ``features`` and its scores on ``dev``."""
    torch.manual_seed(recipe.seed)
    columns = input_columns(features)
    net = StrongDecoder(StrongConfig(len(columns), width=WIDTH, ahead=ahead))
    net.columns.copy_(torch.tensor(columns))
    LipTrainer(net, data, recipe).run()
    calibrate(net, data)
    scores = spread_opening(net, data.dev)
    return net, scores


def spread_opening(net: StrongDecoder, dev: list[Sequence]) -> dict[str, float]:
    """Set the range: seals by :data:`SEAL_RANGE`, shut below :data:`SHUT`, and as wide as the ``dev``
    people open. Returns correlation and median ratio of deviations near speech."""
    net.eval()
    seal, (low, high) = LIP_CHANNELS.index("lipsSealed"), SEAL_RANGE
    net.range.gain[seal], net.range.bias[seal] = 1.0 / (high - low), -low / (high - low)
    with torch.no_grad():
        raw = [torch.sigmoid(net.logits(torch.from_numpy(s.features)[None]))[0] for s in dev]
    gain = 1.0
    for _ in range(5):
        _, ratio = _follows(net, raw, dev, gain)
        gain *= AMPLITUDE / max(ratio, 0.2)
    r, ratio = _follows(net, raw, dev, gain)
    net.range.stretch.copy_(torch.tensor([gain, gain * SHUT]))
    print(f"opening: {gain:.2f} x, less {gain * SHUT:.3f}; dev r {r:.4f}, amplitude {ratio:.2f}", flush=True)
    return {"r": round(r, 4), "amplitude": round(ratio, 3)}


def _follows(net: StrongDecoder, raw: list[Tensor], dev: list[Sequence], gain: float) -> tuple[float, float]:
    """Mean correlation and median ratio of deviations with this gain of the opening."""
    scores = []
    for values, item in zip(raw, dev, strict=True):
        channels = (values * net.range.gain + net.range.bias).clamp(0.0, 1.0)
        channels = expand(channels, net.range.opening_unit, torch.tensor([gain, gain * SHUT]))
        made = opening_from(channels, net.range.opening_unit).numpy() * near_voice(item.features)
        seen = np.isfinite(item.opening)
        ratio = made[seen].std() / max(float(item.opening[seen].std()), 1e-6)
        scores.append((best_correlation(made, item.opening), ratio))
    r, ratios = np.array(scores).T
    return float(r.mean()), float(np.median(ratios))
