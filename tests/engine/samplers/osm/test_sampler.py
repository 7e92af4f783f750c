"""OsmSampler: the stage laws, clips that join, bounds, forced actions, the ball."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import AssetError
from engine.samplers.osm import OsmSampler
from engine.samplers.osm.sampler import HeadMotion, Temper
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk
from tests.engine.samplers.osm.heads import random_osm, random_sampler
from tests.engine.samplers.voices import COLUMNS, chunk, talk
from tests.laws import LAWS, Case, feature_case

PITCH, ROLL = MOTION.index("rx"), MOTION.index("rz")


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> OsmSampler:
    return random_sampler(tmp_path_factory.mktemp("osm"))


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    return chunk(data)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None], sampler: OsmSampler) -> None:
    law(feature_case("osm", sampler, _make))


def _motion(sampler: OsmSampler, x: FeatureChunk, seed: int = 0) -> torch.Tensor:
    return sampler.forward(x, Cond.default(1, seed=seed))[0]


def test_a_clip_begins_where_the_last_one_ended(sampler: OsmSampler) -> None:
    pose = _motion(sampler, talk(20, [(0, 20)]))[:, MOTION.pose]
    steps = pose.diff(dim=0)
    joints = steps.diff(dim=0)[3::5].abs().mean(0)  # frame 5 k begins a clip
    inside = steps.diff(dim=0).abs().mean(0)
    assert (joints[:3] < 3.0 * inside[:3] + 1e-3).all()
    assert steps[:, :3].abs().max() < 0.08


def test_the_voice_is_heard_from_the_frame_that_begins_a_clip(sampler: OsmSampler) -> None:
    x, other = talk(4, [(0, 4)]), talk(4, [(0, 4)])
    other.data[0, 50:, 4:] += 2.0
    gap = (_motion(sampler, x) - _motion(sampler, other))[:, MOTION.pose].abs().amax(1)
    assert gap[:50].max() == 0.0
    assert gap[50] > 0.0


def test_one_voice_has_many_performances(sampler: OsmSampler) -> None:
    x = talk(8, [(0, 8)])
    a, b = (_motion(sampler, x, seed)[:, MOTION.rotation] for seed in (1, 2))
    assert (a - b).abs().mean() > 0.002
    assert torch.equal(a, _motion(sampler, x, 1)[:, MOTION.rotation])


def test_the_centre_draws_nothing(tmp_path: Path) -> None:
    centre = random_sampler(tmp_path, centre=True)
    x = talk(3, [(0, 3)])
    poses = [_motion(centre, x, seed)[:, MOTION.pose] for seed in (1, 2)]
    assert torch.equal(*poses)


def test_noise_stays_inside_the_ball(sampler: OsmSampler) -> None:
    head = sampler.motion
    wild = HeadMotion(head.space, head.audio, 5.0 * head.spread, head.steering, Temper(ball=3.0))
    seeds = np.arange(64, dtype=np.uint64)
    lengths = wild._ball(seeds, 7).norm(dim=1)
    assert lengths.max() <= 1.0 + 1e-6
    assert lengths.min() > 0.0


@pytest.mark.slow
def test_ten_minutes_do_not_drift(sampler: OsmSampler) -> None:
    spans = [(7.0 * k, 7.0 * k + 5) for k in range(86)]
    pose = _motion(sampler, talk(600, spans))[:, MOTION.pose]
    assert torch.isfinite(pose).all()
    assert pose[:, :3].abs().max() <= 0.36
    thirds = torch.stack([part[:, :3].mean(0) for part in pose.chunk(3)])
    assert thirds.diff(dim=0).abs().max() < 0.06


def test_an_action_shows_within_two_frames_and_never_jumps(sampler: OsmSampler) -> None:
    x, forced = talk(6, [(0, 6)]), talk(6, [(0, 6)])
    forced.controls[:, 52:, CONTROLS.index("action.frontal")] = 1.0
    plain, led = _motion(sampler, x), _motion(sampler, forced)
    gap = (plain - led)[:, MOTION.rotation].abs().amax(1)
    assert gap[:52].max() == 0.0
    assert gap[52:54].max() > 0.0
    assert led[:, MOTION.rotation].diff(dim=0).abs().max() < 0.1


def test_broken_features_never_reach_the_motion(sampler: OsmSampler) -> None:
    x = _make(60, 3)
    x.data[0, 10:20] = torch.nan
    x.data[1, 15:18] = torch.inf
    motion = sampler.forward(x, Cond.default(2))
    assert torch.isfinite(motion).all()
    assert motion[..., MOTION.expression].min() >= 0.0


def test_weights_of_other_columns_are_refused(tmp_path: Path) -> None:
    weights = random_osm(tmp_path)
    with pytest.raises(AssetError, match="mel encoder"):
        OsmSampler((*COLUMNS, "more"), "features:test:9", weights)


def test_temper_survives_its_tensor() -> None:
    temper = Temper(0.5, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 0.03125, 0.25, 0.5)
    assert Temper.of(temper.tensor()) == temper
