"""GoHD's training: the eye feature, blinks found in tracks, losses that fall, windows of the denoiser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders.mel import FEATURES
from engine.samplers.factors import UPPER
from engine.samplers.gohd.pose import AHEAD, PAST, PoseGenerator
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.gohd_data import Person, blink_onsets, free_talk, smoothed
from engine.train.gohd_eyes import (
    EyeRecipe,
    blink_profile,
    restore_upper,
    sequence_ssim,
    train_blinks,
    train_eyes,
    wandering,
)
from engine.train.gohd_features import eye_feature, eye_map, lip_landmarks
from engine.train.gohd_lips import StageOneTrainer, new_lip_stage
from engine.train.gohd_pose import PoseRecipe, PoseSet, _Windows, fit_scales, pose_of, train_pose
from engine.train.gohd_single import new_one_stage
from engine.train.lip_features import Sequence
from engine.train.lip_training import LipData, Recipe
from engine.types import MOTION
from tests.engine.samplers.gohd_nets import random_networks


def _expression(**columns: float) -> np.ndarray:
    expression = np.zeros((1, 64), np.float32)
    for name, value in columns.items():
        expression[0, MOTION.index(name)] = value
    return expression


def _person(seed: int = 0, frames: int = 260, speaker: str = "anna") -> Person:
    """A talker whose brow follows the level, who turns slowly and blinks every 3 s."""
    noise = np.random.default_rng(seed)
    t = np.arange(frames) / 25
    features = noise.normal(0, 0.3, (frames, len(FEATURES))).astype(np.float32)
    level = np.sin(2 * np.pi * 0.8 * t + seed)
    features[:, FEATURES.index("loudness")] = level
    upper = np.zeros((frames, len(UPPER)), np.float32)
    upper[:, 2] = 0.2 * level
    eyes = np.zeros((frames, 21), np.float32)
    eyes[:, 1:] = level[:, None]
    blink = np.zeros(frames, np.float32)
    for start in range(20, frames - 12, 75):
        blink[start : start + 6] = (0.1, 0.4, 0.7, 0.5, 0.25, 0.1)
    pose = (0.05 * np.sin(2 * np.pi * 0.2 * t[:, None] + np.arange(6))).astype(np.float32)
    rest, seen = np.zeros(21, np.float32), np.ones(frames, bool)
    return Person(f"take{seed}", speaker, features, eyes, rest, upper, blink, pose, seen)


def test_eye_feature_is_zero_at_rest_and_knows_lids_and_brows() -> None:
    assert np.abs(eye_feature(_expression())).max() == 0.0
    blink = eye_feature(_expression(eyeBlinkLeft=1.0, eyeBlinkRight=1.0))[0]
    assert -1.3 < blink[0] < -0.6  # the eyes' height falls to about nothing
    raised = eye_feature(_expression(browInnerUp=1.0))[0]
    assert raised[2::2].max() > 0.02  # some brow points rise
    assert abs(raised[0]) < 0.2


def test_a_mouth_moves_no_eye() -> None:
    assert np.abs(eye_feature(_expression(jawOpen=1.0, mouthSmileLeft=1.0))).max() == 0.0
    assert eye_map().shape == (21, 64)


def test_an_open_jaw_lowers_the_chin() -> None:
    moved = lip_landmarks()[LIP_CHANNELS.index("jawOpen")].reshape(-1, 2)
    assert moved[20:, 1].mean() < -0.05
    assert np.abs(moved[20:, 0]).max() < 0.1


def test_blink_onsets_start_where_the_lid_does() -> None:
    assert blink_onsets(_person().blink).tolist() == [21, 96, 171, 246]
    assert blink_onsets(np.full(50, 0.25, np.float32)).tolist() == []


def test_unseen_frames_are_bridged_before_smoothing() -> None:
    values = np.linspace(0, 1, 50, dtype=np.float32)[:, None].repeat(2, axis=1)
    values[20:25] = np.nan
    made = smoothed(values)
    assert np.isfinite(made).all()
    assert np.abs(made[5:45, 0] - np.linspace(0, 1, 50)[5:45]).max() < 0.02


def test_blink_profile_shuts_once_and_ends_open() -> None:
    profile = blink_profile([_person()])
    assert profile.max() == pytest.approx(1.0, abs=0.05)
    assert profile[0] == 0.0
    assert profile[-1] == 0.0
    assert 0.05 < profile.argmax() / 100 < 0.15
    with pytest.raises(ValueError, match="no tracked blink"):
        blink_profile([replace(_person(), blink=np.zeros(260, np.float32))])


def test_ssim_of_sequences() -> None:
    real = torch.randn(2, 100, 4)
    assert sequence_ssim(real, real).item() == pytest.approx(1.0)
    assert sequence_ssim(torch.randn(2, 100, 4), real).item() < 0.3
    assert sequence_ssim(0.2 * real, real).item() < 0.6


def test_wandering_is_slow_and_has_unit_spread() -> None:
    z = wandering(np.random.default_rng(0), 60, 200)
    assert z.shape == (60, 200, 8)
    assert 0.7 < z.std() < 1.3
    assert z.diff(dim=1).abs().max() < 0.6
    assert z[..., 0].diff(dim=1).abs().mean() < 0.3 * z[..., 7].diff(dim=1).abs().mean()


def test_stage_two_learns_a_brow_that_follows_the_voice() -> None:
    networks = random_networks()
    people = [_person(k) for k in range(4)]
    recipe = EyeRecipe(steps=100, batch=8, length=60, adversarial=0.0, spread=0.0, rate=5e-3)
    before = EyeRecipe(steps=1, batch=4, length=60)
    first = train_eyes(networks.lips, networks.eyes.requires_grad_(True), people, people, before)
    last = train_eyes(networks.lips, networks.eyes, people, people, recipe)
    assert last["eye_ssim"] > first["eye_ssim"] + 0.1
    assert restore_upper(networks.lips, networks.eyes, people).shape == (len(UPPER),)


def test_the_chance_of_a_blink_adds_up_to_the_tracked_rate() -> None:
    networks = random_networks()
    people = [_person(k) for k in range(4)]
    rates = train_blinks(networks.lips, networks.eyes, people, people, steps=60)
    assert rates["blinks_made"] == pytest.approx(rates["blinks_tracked"], rel=0.25)


def test_the_denoiser_sees_only_audio_that_has_been_heard() -> None:
    net, person = PoseGenerator(), _person()
    fit_scales(net, [person], FEATURES)
    windows = _Windows(PoseSet.of([person], FEATURES, net, 0.1), net, PoseRecipe())
    for known in (0, 1):
        x, audio, rest, velocity = windows.draw(known, 8)
        assert x.shape == (8, PAST + AHEAD, 6)
        assert velocity.shape == (8, AHEAD, 6)
        assert audio[:, PAST + known :].abs().max() == 0.0
        assert (audio[:, PAST + known - 1, -1] == 1.0).sum() >= 8 * known
        assert torch.equal(x[:, PAST - 1], torch.zeros(8, 6))
        assert rest.shape == (8, 6)


def test_pose_training_lowers_the_error() -> None:
    people = [_person(k) for k in range(3)]
    torch.manual_seed(0)
    net = PoseGenerator(width=16)
    short = train_pose(net, people, people, FEATURES, PoseRecipe(steps=8, batch=8))
    longer = train_pose(net, people, people, FEATURES, PoseRecipe(steps=40, batch=8, rate=1e-2))
    assert longer["free"] < 0.85 * short["free"]
    assert free_talk(people) == people
    made = pose_of(net, torch.from_numpy(people[0].features), FEATURES, seed=1)
    assert made.shape == (260, 6)
    assert np.isfinite(made).all()


def _lip_data() -> LipData:
    def sequence(seed: int) -> Sequence:
        person = _person(seed, frames=120)
        opening = 0.06 + 0.05 * person.features[:, FEATURES.index("loudness")]
        lips = np.zeros((120, len(LIP_CHANNELS)), np.float32)
        lips[:, 0] = opening * 3
        more = np.full((120, 21 + 13 + 15 + 129), np.nan, np.float32)
        more[:, :21], more[:, 21:34] = person.eyes, person.upper
        features = np.concatenate([person.features, more], axis=1)
        return Sequence("anna", features, lips, opening, np.full(120, np.nan, np.float32))

    return LipData([sequence(0), sequence(1)], [], [sequence(2)])


@pytest.mark.parametrize("make", [new_lip_stage, new_one_stage])
def test_stage_one_learns_to_open_with_the_voice(make: type) -> None:
    torch.manual_seed(0)
    net, recipe = (
        make(FEATURES),
        Recipe(steps=50, batch=8, window=50, check_every=10, labelled_share=0.0, rate=6e-3),
    )
    scores = StageOneTrainer(net, _lip_data(), FEATURES, recipe).best_of()
    assert scores["r"] > 0.5
    x = torch.zeros(1, 5, len(FEATURES))
    assert net.logits(x).shape == (1, 5, len(LIP_CHANNELS))
