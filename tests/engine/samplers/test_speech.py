"""SpeechSampler: the stage laws, the mouth in silence, rests, controls, endurance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.errors import AssetError, ConfigError, StreamError
from engine.samplers.lips import load_lip_net
from engine.samplers.speech import SpeechSampler
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, random_lips, sampler, talk
from tests.laws import LAWS, Case, feature_case

JAW = MOTION.index("jawOpen")
MOUTH = [i for n in ("jaw", "mouth", "cheekPuff", "tongue", "lips", "lowerLip") for i in MOTION.columns(n)]


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    return chunk(data)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    law(feature_case("speech", sampler(), _make))


def _mouth(x: FeatureChunk, rest: torch.Tensor | None = None) -> torch.Tensor:
    cond = Cond.default(1)
    if rest is not None:
        cond = Cond(cond.seed, rest, cond.identity)
    return sampler().forward(x, cond)[0]


def test_silence_shuts_the_mouth_within_120_ms() -> None:
    motion = _mouth(talk(4, [(1, 2)]))
    assert motion[26:50, JAW].max() > 0.1
    assert motion[53:, MOUTH].abs().max() == 0.0  # silent from frame 50 on
    assert motion[:25, MOUTH].abs().max() == 0.0


def test_stop_consonants_do_not_shut_the_mouth_by_the_gate() -> None:
    x = talk(3, [(0.5, 2.5)])
    x.data[0, 40:42, 0] = 0.0  # 80 ms without voice
    motion = _mouth(x)
    plain = _mouth(talk(3, [(0.5, 2.5)]))
    assert motion[40, JAW] > 0.8 * plain[40, JAW]


def test_speech_starts_without_a_jump() -> None:
    motion = _mouth(talk(3, [(1, 3)]))
    assert (motion[25, MOUTH] - motion[24, MOUTH]).abs().max() < 0.65
    body = motion[:, [i for i in range(MOTION.size) if i not in MOUTH and "Blink" not in MOTION.names[i]]]
    assert (body[25, :] - body[24, :]).abs().max() < 0.12


def test_at_idle_a_portrait_keeps_its_own_mouth() -> None:
    rest = torch.zeros(1, MOTION.size)
    for name, value in (("jawOpen", 0.2), ("mouthSmileLeft", 0.4), ("mouthPressRight", 0.3)):
        rest[0, MOTION.index(name)] = value
    motion = _mouth(talk(4, [(1, 2)]), rest)
    assert torch.allclose(motion[:20, MOUTH], rest[:, MOUTH], atol=1e-6)
    assert torch.allclose(motion[60:, MOUTH], rest[:, MOUTH], atol=1e-6)
    assert motion[40, MOTION.index("mouthSmileLeft")] > 0.25  # the mood stays in speech


def test_a_closed_portrait_is_only_added_to() -> None:
    rest = torch.zeros(1, MOTION.size)
    rest[0, MOTION.index("mouthFrownLeft")] = 0.3
    motion = _mouth(talk(2, [(0.2, 2)]), rest)
    assert torch.allclose(motion[:, MOTION.index("mouthFrownLeft")], torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize(
    ("control", "value", "column", "low"),
    [
        ("smile", 1.0, "mouthSmileLeft", 0.5),
        ("gazeYaw", 0.4, "gazeYaw", 0.25),
        ("gazePitch", 0.3, "gazePitch", 0.15),
    ],
)
def test_a_control_is_fully_there_on_its_second_frame(
    control: str, value: float, column: str, low: float
) -> None:
    x = talk(1, [])
    changed = talk(1, [])
    changed.controls[:, 10:, CONTROLS.index(control)] = value
    gap = (_mouth(changed) - _mouth(x))[:, MOTION.index(column)]
    assert gap[:10].abs().max() == 0.0
    assert gap[11] > low
    assert 0.4 * gap[11] < gap[10] < 0.6 * gap[11]


def test_head_lock_holds_the_head_and_strength_scales_the_lips() -> None:
    x = talk(3, [(0, 3)])
    x.controls[..., CONTROLS.index("headLock")] = 1.0
    x.controls[..., CONTROLS.index("strengthLips")] = 0.5
    motion, plain = _mouth(x), _mouth(talk(3, [(0, 3)]))
    assert motion[:, MOTION.pose].abs().max() == 0.0
    assert torch.allclose(motion[:, JAW], 0.5 * plain[:, JAW], atol=0.02)


def test_broken_features_and_controls_never_reach_the_motion() -> None:
    x = _make(60, 3)
    x.data[0, 10:20] = torch.nan
    x.data[1, 15:18] = torch.inf
    x.controls[0, 30] = torch.nan
    motion = sampler().forward(x, Cond.default(2))
    assert torch.isfinite(motion).all()
    assert motion[..., MOTION.expression].min() >= 0.0
    assert motion[..., MOTION.expression].max() <= 1.0


@pytest.mark.slow
def test_ten_minutes_do_not_drift() -> None:
    spans = [(7.0 * k, 7.0 * k + 5) for k in range(86)]
    motion = _mouth(talk(600, spans))
    thirds = [part[:, MOTION.pose].mean(0) for part in motion.chunk(3)]
    assert torch.stack(thirds).abs().max() < 0.03
    assert motion[:, MOTION.rotation].abs().max() < 0.25
    assert motion[:, MOTION.translation].abs().max() < 0.12


def test_a_gap_in_the_time_line_is_refused() -> None:
    stage = sampler()
    state = stage.init_state(2, Cond.default(2))
    stage.step(_make(3, 0), state)
    with pytest.raises(StreamError, match="expected frame 3, got 9"):
        stage.step(chunk(np.zeros((2, 1, len(COLUMNS)), np.float32), t0=9), state)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ConfigError, match="lacks a column"):
        SpeechSampler(("voice", "level"), "features:test:2", random_lips(2))


def test_weights_trained_on_other_columns_are_refused() -> None:
    with pytest.raises(AssetError, match="rebuild them"):
        load_lip_net(features=("no", "such", "columns"))
