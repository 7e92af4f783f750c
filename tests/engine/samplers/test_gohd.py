"""GohdSampler: the stage laws, the parts of a frame, seeds, blinks, broken input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders.mel import FEATURES
from engine.errors import AssetError, ConfigError
from engine.samplers.gohd import GohdSampler
from engine.samplers.gohd.networks import load_gohd
from engine.samplers.gohd.pose import AHEAD, PAST, PoseGenerator
from engine.samplers.gohd.sampler import z_of
from engine.samplers.voice import Moment
from engine.types import MOTION, Cond
from tests.engine.samplers.gohd_nets import random_features, random_networks, random_sampler
from tests.laws import LAWS, Case, feature_case


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    law(feature_case("gohd", random_sampler(), random_features))


def _eyes(motion: torch.Tensor) -> torch.Tensor:
    return motion[..., MOTION.index("eyeBlinkLeft")]


def test_a_seed_is_a_performance_and_the_lips_hardly_care() -> None:
    x = random_features(80, 1)
    one, again = (random_sampler().forward(x, Cond.default(2, seed=3)) for _ in range(2))
    other = random_sampler().forward(x, Cond.default(2, seed=90))
    assert torch.equal(one, again)
    assert (one[..., MOTION.pose] - other[..., MOTION.pose]).abs().max() > 0.01
    assert not torch.equal(_eyes(one), _eyes(other))


def test_head_stays_within_fifteen_degrees_and_starts_at_rest() -> None:
    motion = random_sampler().forward(random_features(400, 2), Cond.default(2))
    assert motion[..., MOTION.rotation].abs().max() <= 0.2618
    assert motion[:, 0, MOTION.pose].abs().max() == 0.0


def test_a_row_that_starts_on_an_odd_frame_needs_no_guess_of_the_even_one() -> None:
    net = PoseGenerator().requires_grad_(False).eval()
    state, seeds = net.init_state(1), np.array([7], np.uint64)
    with torch.inference_mode():
        pose = net.step(torch.zeros(1, 16), seeds, 11, state)
    assert np.isfinite(pose).all()
    assert state.guessed.item() == 0.0
    assert torch.equal(state.past[0, :-1], torch.zeros(PAST - 1, 6))


def test_pose_noise_belongs_to_its_frame() -> None:
    """Two streams that start four frames apart meet the same noise in the frames they share."""
    net = PoseGenerator()
    seeds = np.array([7], np.uint64)
    early, late = net.init_state(1), net.init_state(1)
    net._begin(seeds, 20, early)
    net._begin(seeds, 24, late)
    sigma = net.schedule.sigma[net.window]
    a, b = early.future[0] / sigma[:, None], late.future[0] / sigma[:, None]
    assert torch.allclose(a[4:], b[: AHEAD - 4], atol=1e-6)


def test_blinks_are_whole_and_keep_a_refractory_time() -> None:
    stage, moment = random_sampler(), Moment(0, np.array([5], np.uint64), *[None] * 2)  # type: ignore[arg-type]
    state = stage.fresh_networks(1, Cond.default(1))
    ages, closed = [], []
    for frame in range(2000):
        closed.append(stage._blink(np.array([0.1]), replace(moment, frame=frame), state)[0])
        ages.append(state.age_s[0])
    starts = np.flatnonzero(np.diff(ages) < 0)
    assert np.max(closed) > 0.9
    assert 80 < len(starts) < 140  # 0.1 a frame once 0.4 s have passed
    assert np.diff(starts).min() * 0.04 >= 0.4


def test_z_wanders_slowly_with_unit_spread() -> None:
    seeds = np.arange(40, dtype=np.uint64)
    z = np.stack([z_of(seeds, frame, 0.04) for frame in range(0, 500, 5)])
    assert 0.7 < z.std() < 1.3
    assert np.abs(np.diff(z[:, :, :2], axis=0)).max() < 0.6


def test_a_portraits_own_brows_are_heard_by_the_eyes() -> None:
    stage = random_sampler()
    rest = torch.zeros(1, MOTION.size)
    rest[0, 3] = 0.5
    cond = Cond(torch.tensor([1]), rest, (None,))
    assert stage.fresh_networks(1, cond).rest.abs().max() > 0.0
    assert stage.fresh_networks(1, Cond.default(1)).rest.abs().max() == 0.0


def test_broken_features_never_reach_the_motion() -> None:
    x = random_features(60, 3)
    x.data[0, 10:20] = torch.nan
    x.data[1, 15:18] = torch.inf
    motion = random_sampler().forward(x, Cond.default(2))
    assert torch.isfinite(motion).all()
    assert motion[..., MOTION.expression].min() >= 0.0
    assert motion[..., MOTION.expression].max() <= 1.0


def test_a_missing_column_is_named() -> None:
    columns = tuple(name for name in FEATURES if name != "tilt")
    with pytest.raises(ConfigError, match="tilt"):
        GohdSampler(columns, "features:test:167", random_networks())


def test_shipped_weights_are_refused_for_other_columns() -> None:
    with pytest.raises(AssetError, match="visavis train gohd"):
        load_gohd(features=("no", "such", "columns"))


@pytest.mark.slow
def test_ten_minutes_of_head_do_not_drift() -> None:
    networks = load_gohd(features=FEATURES)
    state, seeds = networks.pose.init_state(1), np.array([5], np.uint64)
    noise = np.random.default_rng(0)
    poses = []
    for frame in range(15_000):
        loud = float(frame % 175 < 125)
        heard = torch.from_numpy(noise.normal(0, 1, (1, 16)).astype(np.float32))
        heard = networks.pose.audio_mean + loud * heard * networks.pose.audio_deviation
        poses.append(networks.pose.step(heard, seeds, frame, state))
    rotation = np.degrees(np.concatenate(poses)[:, :3])
    minutes = rotation.reshape(10, -1, 3)
    assert np.abs(minutes.mean(axis=1)).max() < 8.0
    assert minutes.std(axis=1).min() > 0.3  # alive to the end
    assert np.abs(np.diff(rotation, axis=0)).max() < 4.0  # degrees a frame, at every seam
