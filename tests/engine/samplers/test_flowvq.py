"""FlowvqSampler: stage laws, live emotion and style without a jump, transfer, vectors, bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.errors import AssetError, InputError
from engine.samplers.emotions import STYLES
from engine.samplers.flowvq.networks import (
    CLASSES,
    TAPS,
    ExpFlow,
    FlowNetConfig,
    Hearing,
    PoseFlow,
    labels,
)
from engine.samplers.flowvq.sampler import FlowvqSampler, FlowvqWeights, bounded, load_flowvq
from engine.samplers.flowvq.transfer import style_code
from engine.samplers.flowvq.vector import MOUTH, NAMES, SIZE, to_expression, to_vector
from engine.samplers.visemes import LIP_CHANNELS
from engine.types import CONTROLS, EMOTIONS, MOTION, STYLE_SIZE, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, random_lips, talk
from tests.laws import LAWS, Case, feature_case

MOOD_COLUMNS = [
    k for k, n in enumerate(MOTION.names[:64]) if n.startswith(("brow", "mouthSmile", "mouthFrown"))
]


def random_weights(seed: int = 0, freedom: float = 10.0) -> FlowvqWeights:
    """Untrained networks shaken out of the identity; actnorms as if fitted to the authored styles."""
    torch.manual_seed(seed)
    exp = ExpFlow(FlowNetConfig(len(COLUMNS), width=16, steps=2, freedom=freedom), codes=32)
    pose = PoseFlow(FlowNetConfig(len(COLUMNS), width=16, steps=2, freedom=float("inf")))
    with torch.no_grad():
        for net in (exp, pose):
            for parameter in net.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
        for row, style in enumerate(STYLES):
            motion = np.zeros((1, MOTION.size), np.float32)
            motion[0, :64] = np.clip(style, 0.0, 1.0)
            lips, opened = np.zeros((1, len(LIP_CHANNELS)), np.float32), np.zeros(1, np.float32)
            exp.norm.mean[row + 1] = torch.from_numpy(to_vector(motion, lips, opened)[0]).float()
        exp.norm.mean[0] = 0.0
        exp.norm.log_scale.fill_(np.log(0.05))
        exp.codes.copy_(torch.randn(exp.codes.shape))
        exp.low.fill_(-2.0)
        exp.high.fill_(2.0)
        pose.scale[6:] = 0.01
    lips_net = random_lips()
    for module in (exp, pose):
        module.requires_grad_(False).eval()
    return FlowvqWeights(lips_net, exp, pose, 0.5)


WEIGHTS = random_weights()


def sampler() -> FlowvqSampler:
    return FlowvqSampler(COLUMNS, f"features:test:{len(COLUMNS)}", WEIGHTS)


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    made = chunk(data)
    made.controls[:, frames // 2 :, CONTROLS.index("emotion.happy")] = 0.7
    made.controls[:, frames // 2 :, CONTROLS.index("style")] = 0.5
    made.controls[..., CONTROLS.style] = torch.linspace(-1, 1, STYLE_SIZE)
    return made


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    law(feature_case("flowvq", sampler(), _make))


def _motion(x: FeatureChunk, seed: int = 0) -> torch.Tensor:
    return sampler().forward(x, Cond.default(1, seed=seed))[0]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_each_emotion_moves_the_face_toward_its_style(emotion: str) -> None:
    x, plain = talk(4, [(0, 4)]), talk(4, [(0, 4)])
    x.controls[..., CONTROLS.index(f"emotion.{emotion}")] = 1.0
    change = (_motion(x) - _motion(plain))[50:, :64].mean(0).numpy()
    style = STYLES[EMOTIONS.index(emotion)]
    shown = [k for k in np.flatnonzero(style > 0.2) if MOTION.names[k] != "eyeBlinkLeft"]
    assert np.corrcoef(change[shown + MOOD_COLUMNS], style[shown + MOOD_COLUMNS])[0, 1] > 0.7


def test_strength_is_continuous_and_a_switch_has_no_jump() -> None:
    x = talk(6, [(0, 6)])
    x.controls[:, 75:, CONTROLS.index("emotion.happy")] = 1.0
    half = talk(6, [(0, 6)])
    half.controls[:, 75:, CONTROLS.index("emotion.happy")] = 0.5
    full, some, none = _motion(x), _motion(half), _motion(talk(6, [(0, 6)]))
    smile = MOTION.index("mouthSmileLeft")
    a, b = (full - none)[110:, smile].mean(), (some - none)[110:, smile].mean()
    assert 0.3 * a < b < 0.7 * a
    cheek = MOTION.index("cheekSquintLeft")
    assert (full[75:100, cheek].diff().abs()).max() < 0.2  # of 0.55 in all
    assert (full - none)[76, MOOD_COLUMNS].abs().max() > 0.005  # two frames after the control


def test_seeds_differ_and_repeat() -> None:
    x = talk(3, [(0, 3)])
    a, b, again = _motion(x, 1), _motion(x, 2), _motion(x, 1)
    assert torch.equal(a, again)
    assert (a - b)[:, MOTION.pose].abs().max() > 0.01
    assert (a - b)[:, MOOD_COLUMNS].abs().max() > 0.01


def test_the_mouth_is_shut_in_silence() -> None:
    motion = _motion(talk(4, [(1, 2)]))
    mouth = [k for k, n in enumerate(MOTION.names[:64]) if n.startswith(("jaw", "mouth", "lips", "tongue"))]
    assert motion[26:50, MOTION.index("jawOpen")].max() > 0.05
    assert motion[54:, mouth].abs().max() == 0.0


def test_pose_is_bounded_for_any_step() -> None:
    wild = torch.linspace(-50, 50, 606).reshape(-1, 6)
    held = bounded(wild)
    assert held.abs().amax(0).max() <= 0.32
    small = 0.05 * torch.ones(1, 6)
    assert torch.equal(bounded(small), small)


@pytest.mark.slow
def test_five_minutes_do_not_drift() -> None:
    motion = _motion(talk(300, [(7.0 * k, 7.0 * k + 5) for k in range(43)]))
    assert torch.isfinite(motion).all()
    assert motion[:, MOTION.rotation].abs().max() < 0.35
    # Untrained networks hold the head a little askew; what counts is that it stays there.
    thirds = torch.stack([part[:, MOTION.rotation].mean(0) for part in motion.chunk(3)])
    assert (thirds.amax(0) - thirds.amin(0)).max() < 0.06
    assert thirds.abs().max() < 0.25


def test_broken_features_and_controls_never_reach_the_motion() -> None:
    x = _make(40, 3)
    x.data[0, 10:14] = torch.nan
    x.data[1, 15:18] = 1e30
    x.controls[0, 20] = torch.nan
    motion = sampler().forward(x, Cond.default(2))
    assert torch.isfinite(motion).all()
    assert motion[..., :64].min() >= 0.0
    assert motion[..., :64].max() <= 1.0


def _reference(emotion: str, frames: int = 60) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    noise = np.random.default_rng(4)
    motion = np.zeros((frames, MOTION.size), np.float32)
    style = np.clip(STYLES[EMOTIONS.index(emotion)], 0.0, 1.0)
    motion[:, :64] = np.clip(style + 0.02 * noise.standard_normal((frames, 64)), 0.0, 1.0)
    return motion


def test_a_reference_clip_carries_its_expression_over() -> None:
    code = style_code(_reference("happy"), None, WEIGHTS)
    assert code.shape == (STYLE_SIZE,)
    assert np.abs(code).max() <= 8.0
    x = talk(4, [(0, 4)])
    x.controls[:, 50:, CONTROLS.index("style")] = 1.0
    x.controls[..., CONTROLS.style] = torch.from_numpy(code)
    motion, plain = _motion(x), _motion(talk(4, [(0, 4)]))
    change = (motion - plain)[80:].mean(0)
    assert change[MOTION.index("cheekSquintLeft")] > 0.1
    assert change[MOTION.index("cheekSquintLeft")] > 1.5 * change[MOTION.index("browInnerUp")].abs()
    steps = motion[45:70].diff(dim=0).abs().amax(0)
    assert steps[MOTION.index("cheekSquintLeft")] < 0.3
    assert (motion - plain)[:50].abs().max() == 0.0


def test_a_neutral_clip_has_a_smaller_code() -> None:
    neutral = style_code(np.zeros((40, MOTION.size), np.float32), None, WEIGHTS)
    sad = style_code(_reference("sad"), None, WEIGHTS)
    assert np.linalg.norm(sad[:SIZE]) > 1.5 * np.linalg.norm(neutral[:SIZE])


def test_the_sampler_makes_the_code_and_hears_whether_the_clip_speaks() -> None:
    made, motion = sampler(), _reference("happy")
    assert made.styled
    features = np.zeros((len(motion), len(COLUMNS)), np.float32)
    features[:, 1:] = np.random.default_rng(5).normal(0, 1, (len(motion), len(COLUMNS) - 1))
    silent = made.style_code(motion, features)
    assert np.array_equal(silent, style_code(motion, None, WEIGHTS))
    features[:, COLUMNS.index("voice")] = 1.0
    spoken = made.style_code(motion, features)
    assert np.array_equal(spoken, style_code(motion, features, WEIGHTS))
    assert not np.array_equal(spoken, silent)


def test_a_clip_without_a_face_is_refused() -> None:
    with pytest.raises(InputError, match="ten are needed"):
        style_code(np.full((40, MOTION.size), np.nan, np.float32), None, WEIGHTS)
    with pytest.raises(InputError, match="40 frames of motion and 3 of audio"):
        style_code(np.zeros((40, MOTION.size), np.float32), np.zeros((3, 8), np.float32), WEIGHTS)


def test_vectors_leave_speech_out_of_the_mood() -> None:
    motion = np.zeros((80, MOTION.size), np.float32)
    lips = np.zeros((80, len(LIP_CHANNELS)), np.float32)
    smile = LIP_CHANNELS.index("mouthSmile")
    lips[:, smile] = np.where(np.arange(80) % 6 < 3, 0.3, 0.0)
    motion[:, MOTION.columns("mouthSmile")] = lips[:, [smile]]
    motion[:, MOTION.columns("browDown")] = 0.4
    x = to_vector(motion, lips, np.zeros(80, np.float32))
    assert np.abs(x[:, MOUTH]).max() < 1e-6
    assert x[40, NAMES.index("browDownLeft")] == pytest.approx(0.4)
    upper, mood = to_expression(x)
    assert upper.shape == (80, 13)
    assert np.abs(mood).max() < 1e-6


def test_labels_sum_to_one_and_share_beyond() -> None:
    both = torch.zeros(2, len(EMOTIONS))
    both[0, 1] = 0.4
    both[1, :] = 1.0
    made = labels(both)
    assert made.shape == (2, CLASSES)
    assert torch.allclose(made.sum(1), torch.ones(2))
    assert made[0, 0] == pytest.approx(0.6)
    assert made[1, 0] == pytest.approx(0.0, abs=1e-6)


def test_hearing_streams_as_it_runs_offline() -> None:
    torch.manual_seed(1)
    net = Hearing(6, 8)
    x = torch.randn(2, 15, 6)
    state = net.init_state(2)
    parts = torch.cat([net.advance(x[:, k : k + 1], state) for k in range(15)], dim=1)
    assert torch.allclose(parts, net(x), atol=1e-6)


def test_context_marks_what_is_missing() -> None:
    exp = WEIGHTS.exp
    audio, weights = torch.zeros(1, 16), torch.eye(CLASSES)[:1]
    past = torch.randn(1, len(TAPS), SIZE)
    none = exp.context(audio, weights, past, torch.zeros(1, len(TAPS)))
    other = exp.context(audio, weights, 2 * past, torch.zeros(1, len(TAPS)))
    assert torch.equal(none, other)
    assert not torch.equal(none, exp.context(audio, weights, past, torch.ones(1, len(TAPS))))


def test_weights_trained_on_other_columns_are_refused() -> None:
    with pytest.raises(AssetError):
        load_flowvq(features=("no", "such", "columns"))
