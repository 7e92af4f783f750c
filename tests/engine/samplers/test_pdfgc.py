"""PdfgcSampler: the stage laws with a driver at work, and that each factor keeps to its own source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import AssetError
from engine.samplers.factors import POSE
from engine.samplers.pdfgc.expression import CODE_SIZE, READ, ExpressionNet
from engine.samplers.pdfgc.sampler import PdfgcSampler, load_expression_net
from engine.train.mouth_geometry import opening_of
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, random_lips, talk
from tests.laws import LAWS, Case, feature_case

Floats = NDArray[np.float32]
SPACE = f"features:test:{len(COLUMNS)}"
SMILE = MOTION.columns("mouthSmile")
BROW = MOTION.index("browInnerUp")


def random_expression(window: int = 13) -> ExpressionNet:
    torch.manual_seed(3)
    return ExpressionNet(hidden=16, window=window).requires_grad_(False).eval()


def sampler(expression: ExpressionNet | None = None) -> PdfgcSampler:
    return PdfgcSampler(COLUMNS, SPACE, random_lips(), expression or random_expression())


@pytest.fixture(scope="module")
def shipped() -> PdfgcSampler:
    """Random lips, the shipped expression factor."""
    return sampler(load_expression_net())


def _driven(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    x = chunk(data)
    x.controls[..., CONTROLS.driver] = torch.from_numpy(
        noise.uniform(0, 0.5, (2, frames, MOTION.size)).astype(np.float32)
    )
    x.controls[:, 3:, CONTROLS.index("follow.expression")] = 1.0
    x.controls[:, 6:, CONTROLS.index("follow.pose")] = 0.7
    # One row has no driver for a while: its window must not notice the other's.
    x.controls[0, 5:9, CONTROLS.driver] = 0.0
    return x


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    law(feature_case("pdfgc", sampler(), _driven))


def follow(x: FeatureChunk, driver: Floats, *factors: str, start: int = 0) -> FeatureChunk:
    """``x`` with ``driver`` [T, 72] followed in ``factors`` from frame ``start`` on."""
    x.controls[:, :, CONTROLS.driver] = torch.from_numpy(driver)
    for factor in factors:
        x.controls[:, start:, CONTROLS.index(f"follow.{factor}")] = 1.0
    return x


def perform(stage: PdfgcSampler, x: FeatureChunk) -> Floats:
    return stage.forward(x, Cond.default(1))[0].numpy()


def turning(frames: int) -> Floats:
    """A head that turns and nods as people's do: 6 and 4 degrees, under 1 degree a frame."""
    t = np.arange(frames) / 25
    motion = np.zeros((frames, MOTION.size), np.float32)
    motion[:, MOTION.index("ry")] = np.radians(6) * np.sin(2 * np.pi * 0.45 * t + 1.0)
    motion[:, MOTION.index("rx")] = np.radians(4) * np.sin(2 * np.pi * 0.8 * t + 2.0)
    motion[:, MOTION.index("tx")] = 0.03 * np.sin(2 * np.pi * 0.45 * t)
    return motion


def talking(frames: int) -> Floats:
    """The face of someone who says other words: jaw, lips and seals at five syllables a second."""
    t = np.arange(frames) / 25
    wave = np.clip(np.sin(2 * np.pi * 4.7 * t + np.sin(2.1 * t)), 0, 1)
    motion = np.zeros((frames, MOTION.size), np.float32)
    for name, size in (("jawOpen", 0.35), ("mouthLowerDownLeft", 0.4), ("mouthLowerDownRight", 0.4),
                       ("mouthUpperUpLeft", 0.2), ("mouthUpperUpRight", 0.2)):  # fmt: skip
        motion[:, MOTION.index(name)] = size * wave
    motion[:, MOTION.index("lipsSealed")] = (wave == 0) * 0.8
    motion[:, MOTION.index("mouthFunnel")] = 0.25 * np.clip(np.sin(2 * np.pi * 1.9 * t), 0, 1)
    return motion


def test_a_drivers_head_is_followed_within_two_frames_and_without_a_jump() -> None:
    frames, start = 150, 50
    driver = turning(frames)
    motion = perform(sampler(), follow(talk(6, [(0.5, 5)]), driver, "pose", start=start))
    steps = np.abs(np.diff(motion[:, POSE], axis=0))
    # The seam glides from the voice's own head to the driver's: no step beyond what heads do.
    assert steps[start - 2 : start + 15, :3].max() < np.radians(2.5)
    settled = slice(start + 25, frames)
    np.testing.assert_allclose(motion[settled, POSE], driver[settled, POSE], atol=np.radians(0.5))
    lag = [np.abs(motion[settled, POSE] - np.roll(driver, k, axis=0)[settled, POSE]).mean() for k in range(5)]
    assert int(np.argmin(lag)) <= 2


def test_without_following_a_driver_changes_nothing() -> None:
    x = talk(3, [(0.5, 2.5)])
    np.testing.assert_array_equal(
        perform(sampler(), follow(talk(3, [(0.5, 2.5)]), talking(75))), perform(sampler(), x)
    )


def test_a_driver_at_rest_gives_an_expression_at_rest() -> None:
    net = random_expression()
    codes = net.init_window(2)
    motion = torch.zeros(2, MOTION.size)
    motion[1, READ] = 0.3
    for _ in range(5):
        expression = net.express(motion, codes)
    assert not expression[0].any()
    assert expression[1].abs().max() > 0
    assert codes.shape == (2, 13, CODE_SIZE)


def test_the_words_of_the_driver_do_not_reach_the_lips(shipped: PdfgcSampler) -> None:
    frames = 250
    alone = opening_of(perform(shipped, talk(10, [(0.2, 9.8)])))
    driven = opening_of(perform(shipped, follow(talk(10, [(0.2, 9.8)]), talking(frames), "expression")))
    added = driven[25:] - alone[25:]
    spoken = opening_of(talking(frames))[25:]
    # The driver's own mouth moves far more than what of it arrives.
    assert added.std() < 0.1 * spoken.std()
    assert np.corrcoef(alone[25:], driven[25:])[0, 1] > 0.97


def test_a_drivers_smile_and_brows_arrive_while_it_talks(shipped: PdfgcSampler) -> None:
    frames = 100
    driver = talking(frames)
    for name, size in (("mouthSmile", 0.6), ("cheekSquint", 0.5)):
        driver[30:, MOTION.columns(name)] += size
    driver[60:, MOTION.columns("browOuterUp")] = 0.7
    driver[60:, BROW] = 0.7
    x, plain = talk(4, [(0.2, 3.8)]), talk(4, [(0.2, 3.8)])
    motion = perform(shipped, follow(x, driver, "expression"))
    plain_motion = perform(shipped, follow(plain, talking(frames), "expression"))
    added = motion - plain_motion
    assert np.abs(added[:30, READ]).max() < 1e-6
    assert added[48:, SMILE].mean() > 0.35
    assert added[50:60, BROW].mean() < 0.1
    assert added[80:, BROW].mean() > 0.4


def test_the_expression_comes_and_goes_without_a_jump(shipped: PdfgcSampler) -> None:
    frames = 100
    driver = np.zeros((frames, MOTION.size), np.float32)
    driver[:, SMILE] = 0.8
    x = follow(talk(4, []), driver, "expression", start=40)
    x.controls[:, 70:, CONTROLS.index("follow.expression")] = 0.0
    motion = perform(shipped, x)
    assert np.abs(np.diff(motion[:, SMILE], axis=0)).max() < 0.25
    assert motion[60, SMILE].min() > 0.4
    assert motion[:40, SMILE].max() < 0.01
    assert motion[95, SMILE].max() < 0.02


def test_lips_that_follow_the_driver_are_the_drivers_own(shipped: PdfgcSampler) -> None:
    driver = talking(75)
    motion = perform(shipped, follow(talk(3, []), driver, "lips", "expression"))
    np.testing.assert_allclose(motion[10:, MOTION.index("jawOpen")], driver[10:, 17], atol=1e-5)


def test_weights_of_other_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {"encoder.0.weight": torch.zeros(8, 5), "encoder.2.weight": torch.zeros(30, 8)}
    monkeypatch.setattr("engine.samplers.pdfgc.sampler.load_weights", lambda name: odd)
    with pytest.raises(AssetError, match="rebuild them"):
        load_expression_net()
