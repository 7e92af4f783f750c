"""What every voice sampler does with look-ahead, seeds, emotions, drivers; and mixed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.samplers.factors import EXPRESSION, EYES, FACTOR_COLUMNS, LIPS, POSE, UPPER
from engine.samplers.mixed import MixedSampler
from engine.samplers.noise import normals
from engine.samplers.visemes import LIP_CHANNELS
from engine.samplers.voice import Moment, Sampled, VoiceSampler
from engine.types import CONTROLS, EMOTIONS, FACTORS, MOTION, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, sampler, talk
from tests.laws import LAWS, Case, feature_case


@dataclass
class Sums:
    """A running sum, so that the family has a memory."""

    total: Tensor


class Ahead(VoiceSampler):
    """A family that looks one frame ahead, remembers, and draws a pose."""

    def __init__(self) -> None:
        super().__init__("ahead", COLUMNS, f"features:test:{len(COLUMNS)}", lookahead_frames=1)

    def fresh_networks(self, batch: int, cond: Cond) -> Sums:
        return Sums(torch.zeros(batch))

    def sample(self, window: Tensor, moment: Moment, networks: Sums) -> Sampled:
        networks.total.mul_(0.9).add_(0.1 * window[:, 1, 4])
        lips = np.zeros((len(window), len(LIP_CHANNELS)))
        lips[:, 0] = 0.5 + 0.3 * np.tanh(networks.total.numpy())
        pose = 0.05 * normals(moment.seed, 900, moment.frame // 10, 6).T
        return Sampled(lips=lips, pose=pose, upper=np.full((len(window), len(UPPER)), 0.1))


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = 1.0
    data[..., 1] = noise.uniform(-4, -1, (2, frames))
    return chunk(data)


def mixed() -> MixedSampler:
    """Pose and eyes of the speech sampler, lips and brows of a family with look-ahead, two feature sets."""
    size = len(COLUMNS)
    speech, ahead = sampler(), Ahead()
    families: dict[str, VoiceSampler] = {"lips": ahead, "pose": speech, "eyes": speech, "expression": ahead}
    starts = {"lips": size, "pose": 0, "eyes": 0, "expression": size}
    return MixedSampler(families, starts, (*COLUMNS, *COLUMNS), f"features:two:{2 * size}")


def _make_two(frames: int, seed: int) -> FeatureChunk:
    a, b = _make(frames, seed), _make(frames, seed + 1)
    both = torch.cat([a.data, b.data], dim=-1)
    # The laws perturb every column at once, so both families hear the change.
    return FeatureChunk(0, both, a.controls)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("kind", ["ahead", "mixed"])
def test_law(kind: str, law: Callable[[Case], None]) -> None:
    stage = Ahead() if kind == "ahead" else mixed()
    assert stage.spec.lookahead_frames == 1
    law(feature_case(kind, stage, _make if kind == "ahead" else _make_two))


def test_factors_own_every_column_once() -> None:
    owned = sorted(c for columns in FACTOR_COLUMNS.values() for c in columns)
    assert owned == list(range(MOTION.size))
    assert tuple(FACTOR_COLUMNS) == FACTORS


def test_a_mixture_takes_each_factor_from_its_family() -> None:
    x, seed = _make_two(40, 5), Cond.default(2, seed=4)
    both = mixed().forward(x, seed)
    speech = sampler().forward(FeatureChunk(0, x.data[..., : len(COLUMNS)], x.controls), seed)
    assert torch.allclose(both[..., POSE], speech[..., POSE], atol=1e-6)
    ahead = Ahead().forward(FeatureChunk(0, x.data[..., len(COLUMNS) :], x.controls), seed)
    assert torch.allclose(both[..., UPPER], ahead[..., UPPER], atol=1e-6)
    assert not torch.allclose(both[..., POSE], ahead[..., POSE], atol=1e-3)


def test_a_mixture_needs_every_factor() -> None:
    with pytest.raises(ConfigError, match="one family for each"):
        MixedSampler({"lips": sampler()}, {"lips": 0}, COLUMNS, "features:test:8")


def _run(controls: dict[str, float], start: int = 50, seconds: int = 4) -> tuple[Tensor, Tensor]:
    """Motion [T, 72] without and with ``controls`` from frame ``start`` on."""
    plain, changed = talk(seconds, [(0.4, seconds)]), talk(seconds, [(0.4, seconds)])
    for name, value in controls.items():
        changed.controls[:, start:, CONTROLS.index(name)] = value
    return sampler().forward(plain, Cond.default(1))[0], sampler().forward(changed, Cond.default(1))[0]


def _largest_step(motion: Tensor, columns: list[int]) -> float:
    return float(motion[:, columns].diff(dim=0).abs().max())


def test_another_seed_is_another_performance_without_a_jump() -> None:
    plain, changed = _run({"seed": 7.0})
    assert torch.equal(plain[:50], changed[:50])
    assert (plain[51:, POSE] - changed[51:, POSE]).abs().max() > 0.02
    calm = [*POSE, *range(MOTION.gaze.start, MOTION.gaze.stop)]
    assert _largest_step(changed[49:54], POSE) < 1.5 * _largest_step(plain, POSE)
    assert _largest_step(changed[49:52], calm) < max(0.08, 1.5 * _largest_step(plain, calm))


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_an_emotion_comes_within_two_frames_and_without_a_jump(emotion: str) -> None:
    plain, changed = _run({f"emotion.{emotion}": 1.0})
    gap = (changed - plain)[:, MOTION.expression].abs().amax(dim=1)
    assert gap[:50].max() == 0.0
    assert gap[51] > 0.05
    assert gap[80] > 0.3
    steps = (changed - plain)[49:60, MOTION.expression].diff(dim=0).abs().max()
    assert steps < 0.25


def test_half_an_emotion_is_half_as_strong() -> None:
    column = MOTION.index("mouthSmileLeft")
    plain, full = _run({"emotion.happy": 1.0})
    _, half = _run({"emotion.happy": 0.5})
    ratio = (half - plain)[90:, column].mean() / (full - plain)[90:, column].mean()
    assert 0.3 < ratio < 0.75


def test_a_followed_driver_gives_its_factor_and_nothing_else() -> None:
    controls = {"follow.pose": 1.0, "driver.ry": 0.3, "driver.jawOpen": 0.9, "driver.browInnerUp": 0.8}
    plain, changed = _run(controls)
    ry = MOTION.index("ry")
    assert abs(float(changed[95, ry]) - 0.3) < 0.01
    assert abs(float(changed[52, ry] - plain[52, ry])) > 0.01
    assert _largest_step(changed[49:], [ry]) < 0.06
    assert torch.allclose(changed[:, LIPS], plain[:, LIPS])
    assert torch.allclose(changed[:, EXPRESSION], plain[:, EXPRESSION])


def test_driven_lips_replace_the_voices() -> None:
    _, changed = _run({"follow.lips": 1.0, "driver.jawOpen": 0.4})
    assert torch.allclose(changed[60:, MOTION.index("jawOpen")], torch.tensor(0.4), atol=1e-6)
    assert changed[60:, MOTION.index("mouthFunnel")].max() == 0.0


def test_driven_eyes_follow_blinks_too() -> None:
    _, changed = _run({"follow.eyes": 1.0, "driver.eyeBlinkLeft": 1.0, "driver.eyeBlinkRight": 1.0})
    assert changed[60:, MOTION.columns("eyeBlink")].min() > 0.99
    assert set(MOTION.columns("eyeBlink")) < set(EYES)


def test_sad_people_move_less_and_angry_ones_more() -> None:
    plain, sad = _run({"emotion.sad": 1.0}, start=0, seconds=8)
    _, angry = _run({"emotion.angry": 1.0}, start=0, seconds=8)
    turn = [float(m[:, MOTION.rotation].std(dim=0).norm()) for m in (sad, plain, angry)]
    assert turn[0] < 0.8 * turn[1] < turn[1] < turn[2]


def test_a_hum_that_passes_for_a_voice_shuts_the_mouth_again() -> None:
    x = talk(4, [(0.4, 4)])
    x.data[:, 50:, COLUMNS.index("level")] = -3.0  # as loud as speech, and never changing
    motion = sampler().forward(x, Cond.default(1))[0]
    assert motion[20:50, MOTION.index("jawOpen")].max() > 0.1
    assert motion[60:, LIPS].abs().max() == 0.0
