"""OSM-Net's training: clips cut where they say, losses that fall, the ball, the temper, landmarks."""

from __future__ import annotations

import numpy as np
import torch

from engine.encoders.mel import BANDS, FEATURES
from engine.samplers.osm.audio import PAST_FRAMES, AudioConfig, AudioMotion
from engine.samplers.osm.sampler import HeadMotion, Temper
from engine.samplers.osm.space import SpaceConfig
from engine.samplers.osm.steering import DIRECTIONS, Steering
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.lip_targets import geometry
from engine.train.lip_training import Batch
from engine.train.osm import heard_columns
from engine.train.osm_calibrate import calibrate_temper, fit_spread, head_numbers, roll_out
from engine.train.osm_lips import landmark_loss, landmark_matrix, other_throats
from engine.train.osm_motion import MotionRecipe, MotionTrainer, Moves, clips_of
from tests.engine.samplers.osm.heads import small_space

COLUMNS = heard_columns("mel")


def _person(seed: int, frames: int = 400, speaker: str = "anna") -> Moves:
    """Talks all the time and turns like a spring-held random walk of a few degrees; pitch and yaw lead,
    everything else follows them."""
    noise = np.random.default_rng(seed)
    features = noise.normal(0, 0.3, (frames, len(FEATURES))).astype(np.float32)
    features[:, FEATURES.index("voice")] = 0.9
    features[:, FEATURES.index("level")] = -3.0
    led = np.zeros((frames, 2))
    speed = np.zeros(2)
    for n in range(1, frames):
        speed = 0.8 * speed + 0.2 * noise.normal(0, 0.03, 2)
        led[n] = 0.97 * led[n - 1] + speed
    follow = np.array([[1.0, 0.0, 0.2, 0.1, -0.3, 0.5], [0.0, 1.0, -0.3, 0.4, 0.0, 0.2]])
    return Moves(speaker, True, features, (led @ follow).astype(np.float32))


def _small(steps: int) -> MotionTrainer:
    recipe = MotionRecipe(
        window=60, batch=16, rate=8e-3, space_steps=steps, audio_steps=steps, check_every=steps
    )
    space = SpaceConfig(bases=24, width=64)
    people = [_person(k) for k in range(3)] + [_person(9, 80, "grid_s1")]
    return MotionTrainer(people, [_person(5)], COLUMNS, recipe, space)


def test_clips_are_counted_from_the_pose_before_them() -> None:
    person = _person(0, 60)
    audio = AudioMotion(AudioConfig(len(COLUMNS), 12, 8))
    x, pose = torch.from_numpy(person.features)[None], torch.from_numpy(person.pose)[None]
    clips = clips_of(audio, x, pose, 5, PAST_FRAMES + 2)
    assert clips.clip.shape == (1, (60 - 12) // 5, 5, 6)
    start = PAST_FRAMES + 2 + 5
    assert torch.equal(clips.pose[0, 1], pose[0, start - 1])
    assert torch.allclose(clips.clip[0, 1], pose[0, start : start + 5] - pose[0, start - 1])
    assert torch.allclose(clips.steps[0, 1, -1], pose[0, start - 1] - pose[0, start - 2])
    assert torch.equal(clips.memory[0, 1], audio.hear(x)[0, start])


def test_training_learns_to_rebuild_clips_from_bases() -> None:
    trainer = _small(120)
    before = trainer.evaluate(trainer.space_terms)["mixed"]
    scores = trainer.run()
    assert scores["mixed"] < 0.9 * before
    assert np.isfinite(scores["kl"])


def test_the_voice_decides_only_by_what_is_past() -> None:
    audio = AudioMotion(AudioConfig(len(COLUMNS), 12, 8))
    x = torch.randn(1, 30, len(FEATURES))
    memory = torch.zeros(1, 8)
    for n in range(30):
        memory = audio.advance(x[:, n], memory)
        assert torch.allclose(memory, audio.hear(x)[:, n], atol=1e-5)


def test_the_ball_of_radius_one_holds_nearly_all_clips() -> None:
    people = [_person(k) for k in range(2)]
    space, audio = small_space(), AudioMotion(AudioConfig(len(COLUMNS), 12, 8))
    spread = fit_spread(space, audio, people)
    again = fit_spread(space, audio, people)
    # The space is scaled already: a second fit changes nothing.
    assert torch.allclose(spread.norm(dim=1), again.norm(dim=1), rtol=1e-3)
    assert 0.2 < float(spread.square().sum().sqrt()) < 1.0


def test_the_temper_moves_a_head_as_far_as_people() -> None:
    people = [_person(k) for k in range(3)]
    space, audio = small_space(), AudioMotion(AudioConfig(len(COLUMNS), 12, 8))
    spread = fit_spread(space, audio, people)
    head = HeadMotion(
        space, audio, spread, Steering(torch.zeros(len(DIRECTIONS), 32), torch.ones(7)), Temper()
    )
    calibrate_temper(head, people, FEATURES, rounds=5)
    real, _ = head_numbers([p.pose for p in people])
    made, _ = head_numbers(list(roll_out(head, people, FEATURES, seed=3)))
    assert 0.4 < float((made / real)[:3].mean()) < 2.0


def test_landmarks_weigh_the_inner_mouth_and_follow_the_channels() -> None:
    matrix, share = landmark_matrix()
    assert abs(float(share[::3].sum()) - 1.0) < 1e-5
    assert float(share.max() / share.min()) > 19.0
    jaw = matrix[LIP_CHANNELS.index("jawOpen")].reshape(-1, 3)
    assert float(jaw[:, 1].min()) < -0.05  # a twentieth of the eyes' distance, downwards
    assert float(matrix[LIP_CHANNELS.index("tongueUp")].abs().max()) == 0.0


def test_the_landmark_loss_is_zero_on_the_target_alone() -> None:
    prior = 0.3 * torch.rand(2, 20, len(LIP_CHANNELS))
    unknown = torch.full((2, 20), torch.nan)
    batch = Batch(torch.zeros(2, 20, 1), prior, unknown, unknown, torch.zeros(2, dtype=torch.bool))
    loss = landmark_loss(geometry()[0])
    assert float(loss(prior, batch)) < 1e-9
    assert float(loss(prior + 0.1, batch)) > 0.01


def test_another_throat_moves_the_bands_and_leaves_time_alone() -> None:
    torch.manual_seed(0)
    spectra = torch.zeros(8, 5, 4 * BANDS)
    spectra[:, 2, 20::BANDS] = 10.0
    moved = other_throats(spectra).reshape(8, 5, 4, BANDS)
    peaks = moved[:, 2].argmax(-1)
    assert (peaks == peaks[:, :1]).all()
    assert peaks.min() >= 17
    assert peaks.max() <= 23
    assert len(set(peaks[:, 0].tolist())) > 1
    assert moved[:, [0, 1, 3, 4]].abs().max() < 1.0
