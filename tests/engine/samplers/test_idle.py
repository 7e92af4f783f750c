"""IdleSampler: the stage laws alone and around a speaker, listening, thinking, changing over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.samplers.idle import IdleSampler, load_idle
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, sampler, talk
from tests.laws import LAWS, Case, feature_case

SPACE = f"features:test:{len(COLUMNS)}"
JAW, BLINK, PITCH = (MOTION.index(n) for n in ("jawOpen", "eyeBlinkLeft", "rx"))
MOUTH = [i for n in ("jaw", "mouth", "cheekPuff", "tongue", "lips", "lowerLip") for i in MOTION.columns(n)]


def _listener() -> IdleSampler:
    return IdleSampler(COLUMNS, SPACE)


def _around() -> IdleSampler:
    return IdleSampler(COLUMNS, SPACE, sampler())


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    return chunk(data)


@pytest.mark.parametrize("make", [_listener, _around], ids=["alone", "around a speaker"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None], make: Callable[[], IdleSampler]) -> None:
    law(feature_case("idle", make(), _make))


def _motion(
    stage: IdleSampler, x: FeatureChunk, seed: int = 0, rest: torch.Tensor | None = None
) -> torch.Tensor:
    cond = Cond.default(1, seed=seed)
    return stage.forward(x, cond if rest is None else Cond(cond.seed, rest, cond.identity))[0]


def test_a_listener_never_talks_and_keeps_the_portraits_mouth() -> None:
    rest = torch.zeros(1, MOTION.size)
    rest[0, JAW] = 0.25
    motion = _motion(_listener(), talk(20, [(2, 9), (10, 18)]), rest=rest)
    assert torch.allclose(motion[:, JAW], torch.tensor(0.25), atol=1e-6)
    assert motion[:, MOUTH].diff(dim=0).abs().max() < 0.06


def test_silence_is_alive_but_calm() -> None:
    motion = _motion(_listener(), talk(60, []), seed=3)
    degrees = torch.rad2deg(motion[:, MOTION.rotation])
    assert (degrees.std(0) > 0.3).all()
    assert (degrees.std(0) < 3.0).all()
    shut = motion[:, BLINK] > 0.5
    blinks = int((shut[1:] & ~shut[:-1]).sum())
    assert 6 <= blinks <= 30
    assert motion[:, MOTION.gaze].std(0).max() > 0.01
    assert motion[:, MOUTH].max() > 0.05


def test_nods_answer_the_ends_of_the_others_phrases() -> None:
    spans = [(6.0 * k, 6.0 * k + 4) for k in range(8)]
    x, quiet = talk(48, spans), talk(48, [])
    fast = [_motion(_listener(), v, seed=1)[:, PITCH].diff().abs() for v in (x, quiet)]
    turns = [(f > np.radians(0.3)).numpy() for f in fast]
    assert turns[0].sum() > 3 * turns[1].sum() + 8
    seconds = np.flatnonzero(turns[0]) / 25 % 6.0
    # After the phrase's end at 4 s, 0.2 s until it is taken for one, up to three cycles.
    assert np.mean((seconds > 4.0) | (seconds < 0.3)) > 0.8


def test_no_jump_between_speech_and_idling() -> None:
    x = talk(40, [(5, 12), (13, 20), (28, 33)])
    motion = _motion(_around(), x, seed=2)
    step = motion.diff(dim=0).abs()
    assert torch.rad2deg(step[:, MOTION.rotation]).max() < 2.0
    assert step[:, MOTION.translation].max() < 0.03
    slow = [MOTION.index(n) for n in ("browInnerUp", "browDownLeft", "mouthSmileLeft", "cheekSquintLeft")]
    silent = np.ones(len(x.data[0]), bool)
    for start, stop in ((5, 12), (13, 20), (28, 33)):
        silent[25 * start - 2 : 25 * stop + 6] = False
    assert step[silent[1:]][:, slow].max() < 0.08


def test_around_a_speaker_the_speaker_speaks() -> None:
    x = talk(20, [(4, 16)])
    both, alone = _motion(_around(), x), sampler().forward(x, Cond.default(1))[0]
    assert torch.allclose(both[110:390, JAW], alone[110:390, JAW], atol=1e-6)
    assert torch.allclose(both[200:390, MOTION.pose], alone[200:390, MOTION.pose], atol=1e-3)
    assert (both[440:, MOTION.pose] - alone[440:, MOTION.pose]).abs().max() > 0.005


def test_strengths_calm_it() -> None:
    x = talk(30, [])
    for name in ("strengthHead", "strengthBrows", "strengthEyes", "strengthLips"):
        x.controls[..., CONTROLS.index(name)] = 0.0
    motion = _motion(_listener(), x)
    assert motion[:, MOTION.pose].abs().max() == 0.0
    assert motion[:, MOUTH].abs().max() == 0.0
    assert motion[:, MOTION.columns("brow")].abs().max() == 0.0


@pytest.mark.slow
def test_ten_minutes_do_not_drift() -> None:
    motion = _motion(_listener(), talk(600, [(60.0 * k, 60.0 * k + 20) for k in range(10)]))
    thirds = torch.stack([part[:, MOTION.pose].mean(0) for part in motion.chunk(3)])
    assert thirds.abs().max() < 0.03
    assert motion[:, MOTION.rotation].abs().max() < 0.16


def test_the_speaker_must_read_the_same_features() -> None:
    with pytest.raises(ConfigError, match="other features"):
        IdleSampler((*COLUMNS, "more"), "features:test:9", sampler())


def test_the_fitted_model_is_a_stable_one() -> None:
    model = load_idle()
    assert np.all((model.inertia > 0.0) & (model.inertia < 1.0))
    assert np.all((model.pull > 0.0) & (model.pull < 0.1))
    assert np.allclose(model.kick, np.tril(model.kick))
    assert 0.05 < model.saccades_hz < 3.0
