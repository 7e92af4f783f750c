"""VAST's trainer: the asymmetric loss, prompts and targets, what a style run leaves alone, the range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders.ppg import FEATURES
from engine.samplers.vast.decoder import StrongConfig, StrongDecoder
from engine.samplers.vast.networks import input_columns
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.lip_features import Sequence
from engine.train.vast import ABLATIONS, train_style
from engine.train.vast_lips import AMPLITUDE, spread_opening
from engine.train.vast_style import Stretch, StyleRecipe, StyleTrainer, asymmetric
from engine.types import MOTION

_FEW = StyleRecipe(steps=3, batch=3, window=20, prompt=20)


def _strong() -> StrongDecoder:
    torch.manual_seed(0)
    columns = input_columns(FEATURES)
    net = StrongDecoder(StrongConfig(len(columns), width=16, past=5))
    net.columns.copy_(torch.tensor(columns))
    net.range.opening_unit[0] = 0.5
    return net.eval()


def _clips() -> list[Stretch]:
    noise = np.random.default_rng(0)
    found = []
    for k in range(3):
        motion = np.clip(0.2 + 0.1 * noise.standard_normal((60, MOTION.size)), 0, 1).astype(np.float32)
        heard = noise.normal(0, 1, (60, len(FEATURES))).astype(np.float32)
        found.append(Stretch(f"clip{k}", f"person{k % 2}", heard, motion, np.ones(60, dtype=bool)))
    return found


def test_falling_short_costs_more_than_going_too_far() -> None:
    real = torch.tensor([1.0, -1.0])
    short, far = asymmetric(0.5 * real, real, 3.0), asymmetric(1.5 * real, real, 3.0)
    assert torch.allclose(short, torch.tensor([0.75, 0.75]))
    assert torch.allclose(far, torch.tensor([0.25, 0.25]))
    assert asymmetric(real, real, 3.0).sum() == 0.0


@pytest.mark.parametrize("ablate", ABLATIONS)
def test_a_style_run_leaves_the_neutral_lips_alone(ablate: str) -> None:
    strong = _strong()
    nets, losses = train_style(strong, _clips(), _FEW, ablate)
    x = torch.randn(1, 15, len(FEATURES))
    with torch.no_grad():
        assert torch.equal(nets.strong.logits(x), strong.logits(x))
    assert all(np.isfinite(v) for v in losses.values())
    moved = nets.strong.style.weight.abs().max() > 0
    assert bool(moved) == (ablate != "style")


def test_prompt_and_target_change_alike() -> None:
    nets, _ = train_style(_strong(), _clips(), replace(_FEW, steps=1))
    trainer = StyleTrainer(nets, _clips(), replace(_FEW, changed=1.0))
    held = [MOTION.index(n) for n in ("mouthSmileLeft", "mouthFrownLeft", "browInnerUp", "eyeWideLeft")]
    batch = [trainer.batch() for _ in range(12)]
    prompts = torch.cat([b.prompt[..., held].mean((1, 2)) for b in batch])
    targets = torch.cat([b.motion[..., held].mean((1, 2)) for b in batch])
    assert prompts.std() > 0.01
    assert torch.corrcoef(torch.stack([prompts, targets]))[0, 1] > 0.8


def test_the_range_restores_the_amplitude_of_real_mouths() -> None:
    net, noise = _strong(), np.random.default_rng(1)
    with torch.no_grad():
        net.out.weight.mul_(3.0)
        net.out.bias[0] = -2.0
        net.out.bias[LIP_CHANNELS.index("lipsSealed")] = -12.0
    x = noise.normal(0, 1, (80, len(FEATURES))).astype(np.float32)
    x[:, FEATURES.index("voice")] = 1.0
    with torch.no_grad():
        opening = 0.5 * torch.sigmoid(net.logits(torch.from_numpy(x)[None]))[0, :, 0].numpy()
    real = np.clip(2.0 * (opening - 0.04), 0, None).astype(np.float32)
    item = Sequence("p", x, np.zeros((80, 15), np.float32), real, np.full(80, np.nan, np.float32))
    scores = spread_opening(net, [item])
    assert abs(scores["amplitude"] - AMPLITUDE) < 0.1
    assert scores["r"] > 0.9
