"""The motion space: attention over bases, scale, and codes that turn a head."""

from __future__ import annotations

import numpy as np
import torch

from engine.samplers.noise import Floats
from engine.samplers.osm.steering import DIRECTIONS, Steering
from engine.train.osm_calibrate import find_codes
from engine.types import ACTIONS
from tests.engine.samplers.osm.heads import small_space


def test_attention_is_a_softmax_of_scaled_cosines() -> None:
    space = small_space()
    feature = torch.randn(3, 32)
    weights = space.attend(feature).exp()
    assert torch.allclose(weights.sum(-1), torch.ones(3), atol=1e-6)
    cosine = torch.cosine_similarity(feature[:, None], space.bases[None], dim=-1)
    assert torch.allclose(weights, torch.softmax(space.config.sharpness * cosine, -1), atol=1e-5)
    assert torch.allclose(space.attend(7.0 * feature).exp(), weights, atol=1e-5)


def test_a_rescaled_space_decodes_the_same_clips() -> None:
    space = small_space()
    clips = 0.03 * torch.randn(4, 5, 6)
    before = space.decode(space.mixed(space.attend(space.encode(clips)).exp()))
    size = space.encode(clips).norm()
    space.rescale(0.3)
    after = space.decode(space.mixed(space.attend(space.encode(clips)).exp()))
    assert torch.allclose(before, after, atol=1e-6)
    assert torch.allclose(space.encode(clips).norm(), 0.3 * size, rtol=1e-4)


def test_codes_are_mixtures_of_bases_and_say_how_far_they_reach() -> None:
    space = small_space()
    codes, reach, about = find_codes(space, rounds=60)
    assert codes.shape == (len(DIRECTIONS), 32)
    assert set(about) == set(DIRECTIONS)
    ends = space.decode(codes)[:, -1, :3].detach()
    for k, name in enumerate(DIRECTIONS[1:], start=1):
        assert abs(abs(float(ends[k, "xyz".index(name[1])])) - float(reach[k])) < 1e-6


def test_actions_ask_for_nods_tilts_and_the_portrait() -> None:
    steering = Steering(torch.randn(len(DIRECTIONS), 32), torch.full((len(DIRECTIONS),), 0.06))
    pose = np.array([[0.1, -0.1, 0.05, 0.0, 0.0, 0.0]])

    def wanted(name: str, swing: float = 1.0) -> Floats:
        action = np.eye(len(ACTIONS))[[ACTIONS.index(name)]]
        return np.asarray(steering.wanted(action, pose, np.array([swing]))[0])

    assert wanted("nod", 1.0)[0] > wanted("nod", -1.0)[0]
    assert wanted("tilt")[2] > 0.0
    assert np.all(np.sign(wanted("frontal")) == -np.sign(pose[0, :3]))
