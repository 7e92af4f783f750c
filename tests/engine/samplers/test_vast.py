"""VastSampler: the stage laws, styles, seeds, prompts; Householder flow; the measured split of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.samplers.factors import UPPER
from engine.samplers.vast.columns import mouth_offsets, split_columns
from engine.samplers.vast.decoder import WEAK, WeakConfig, WeakDecoder
from engine.samplers.vast.networks import CHEEKS, MOOD, VastConfig, VastNets
from engine.samplers.vast.prompt import SHORTEST, code_of
from engine.samplers.vast.sampler import VastSampler
from engine.samplers.vast.style import HouseholderFlow
from engine.types import CONTROLS, EXPRESSION_NAMES, MOTION, STYLE_SIZE, Cond, FeatureChunk
from tests.engine.samplers.voices import COLUMNS, chunk, talk
from tests.laws import LAWS, Case, feature_case


@lru_cache(maxsize=2)
def _nets(ahead: int = 1) -> VastNets:
    """Random networks whose styles and cheeks move the face."""
    torch.manual_seed(0)
    config = VastConfig.of(len(COLUMNS), ahead)
    nets = VastNets(replace(config, strong=replace(config.strong, width=16, past=5)))
    for linear in (nets.strong.style, nets.mood, nets.cheeks):
        torch.nn.init.normal_(linear.weight, std=0.2)
    return nets.requires_grad_(False).eval()


def _sampler(ahead: int = 1) -> VastSampler:
    return VastSampler(COLUMNS, f"features:test:{len(COLUMNS)}", _nets(ahead))


def _make(frames: int, seed: int) -> FeatureChunk:
    noise = np.random.default_rng(seed)
    data = noise.normal(0, 1, (2, frames, len(COLUMNS))).astype(np.float32)
    data[..., 0] = noise.random((2, frames)) > 0.3
    data[..., 1] = noise.uniform(-6, -1, (2, frames))
    x = chunk(data)
    x.controls[:, frames // 2 :, CONTROLS.index("style")] = 0.7
    x.controls[..., CONTROLS.style] = torch.linspace(-1, 1, STYLE_SIZE)
    return x


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None], ahead: int) -> None:
    law(feature_case("vast", _sampler(ahead), _make))


def _run(x: FeatureChunk, seed: int = 0) -> torch.Tensor:
    return _sampler().forward(x, Cond.default(1, seed=seed))[0]


def test_a_seed_is_another_performance() -> None:
    x = talk(4, [(0, 4)])
    a, b = _run(x, 1), _run(x, 2)
    brows = MOTION.columns("brow")
    assert torch.equal(a, _run(x, 1))
    assert (a[:, brows] - b[:, brows]).abs().mean() > 0.01


def test_a_style_is_fully_there_on_its_second_frame() -> None:
    x, plain = talk(2, [(0, 2)]), talk(2, [(0, 2)])
    for y, strength in ((x, 1.0), (plain, 0.0)):
        y.controls[..., CONTROLS.style] = torch.cat([torch.full((16,), 1.5), torch.zeros(48)])
        y.controls[:, 20:, CONTROLS.index("style")] = strength
    networks = _sampler().fresh_networks(1, Cond.default(1))
    assert networks.style.shape == (1, 32)
    a, b = _run(x), _run(plain)
    jaw = MOTION.index("jawOpen")
    assert torch.equal(a[:20, jaw], b[:20, jaw])
    assert (a[21:25, jaw] - b[21:25, jaw]).abs().max() > 1e-3


def test_a_style_moves_upper_face_and_mood() -> None:
    x = talk(3, [(0, 3)])
    x.controls[..., CONTROLS.index("style")] = 1.0
    x.controls[..., CONTROLS.style.start : CONTROLS.style.start + 16] = 2.0
    gap = (_run(x) - _run(talk(3, [(0, 3)])))[20:].abs().mean(0)
    assert gap[MOOD].max() > 0.02
    assert gap[WEAK].max() > 0.005


def test_silence_keeps_the_mouth_shut_in_any_style() -> None:
    x = talk(4, [(1, 2)])
    x.controls[..., CONTROLS.index("style")] = 1.0
    x.controls[..., CONTROLS.style.start : CONTROLS.style.start + 16] = -1.5
    assert _run(x)[60:, MOTION.index("jawOpen")].max() == 0.0


def test_a_prompt_becomes_a_code_of_any_length() -> None:
    noise = np.random.default_rng(0)
    motion = noise.random((90, 72)).astype(np.float32)
    features = noise.normal(0, 1, (90, len(COLUMNS))).astype(np.float32)
    code = code_of(_nets(), motion, features)
    assert code.shape == (STYLE_SIZE,)
    assert code.dtype == np.float32
    assert np.abs(code[:16]).max() > 0.0
    assert not code[16:].any()
    motion[30:40] = np.nan
    assert np.isfinite(code_of(_nets(), motion, features)).all()
    other = code_of(_nets(), np.clip(motion + 0.3, 0, 1), features)
    assert np.abs(other - code).max() > 1e-3
    features[:, 0] = 1.0
    assert np.array_equal(_sampler().style_code(motion, features), code_of(_nets(), motion, features))


def test_a_prompt_without_a_voice_counts_as_silent() -> None:
    noise = np.random.default_rng(1)
    motion = noise.random((40, 72)).astype(np.float32)
    features = noise.normal(0, 1, (40, len(COLUMNS))).astype(np.float32)
    features[:, 0] = 0.0
    assert np.array_equal(_sampler().style_code(motion, features), code_of(_nets(), motion, None))


def test_a_prompt_without_a_face_is_refused() -> None:
    motion = np.full((50, 72), np.nan, np.float32)
    motion[: SHORTEST - 1] = 0.0
    with pytest.raises(InputError, match="show a face"):
        code_of(_nets(), motion, np.zeros((50, len(COLUMNS)), np.float32))
    with pytest.raises(InputError, match="prompt is motion"):
        code_of(_nets(), motion[:, :64], np.zeros((50, len(COLUMNS)), np.float32))


def test_householder_flow_keeps_lengths_and_volume() -> None:
    torch.manual_seed(1)
    flow = HouseholderFlow(hidden=12, size=6, flows=3)
    z, hidden = torch.randn(4, 6), torch.randn(4, 12)
    turned = flow(z, hidden)
    assert torch.allclose(turned.norm(dim=1), z.norm(dim=1), atol=1e-5)
    assert (turned - z).abs().max() > 0.1
    # The map is linear in z: its columns are what it makes of the unit vectors.
    matrix = flow(torch.eye(6), hidden[:1].expand(6, -1))
    assert torch.linalg.slogdet(matrix).logabsdet.abs() < 1e-5
    # Hidden states that differ turn differently: over many of them the covariance is full.
    assert (flow(z[:1], hidden[1:2]) - turned[:1]).abs().max() > 1e-2


def test_the_weak_decoder_streams_what_it_was_taught() -> None:
    torch.manual_seed(2)
    weak = WeakDecoder(WeakConfig(features=5, hidden=8)).requires_grad_(False).eval()
    heard, style = torch.randn(2, 9, 5), torch.randn(2, 16)
    state, still = weak.init_state(2), torch.zeros(2, len(WEAK))
    values = torch.stack([weak.step(heard[:, t], style, still, state).clone() for t in range(9)], dim=1)
    past = torch.cat([torch.zeros(2, 1, len(WEAK)), values[:, :-1]], dim=1)
    mean, _ = weak.believe(past, heard, style)
    assert (mean - values).abs().max() < 1e-5


def test_the_split_follows_the_measured_offsets() -> None:
    strong, weak = split_columns()
    names = np.array(EXPRESSION_NAMES)
    assert sorted(strong + weak) == list(range(64))
    assert {"jawOpen", "mouthClose", "lipsSealed", "mouthSmileLeft", "noseSneerLeft"} <= set(names[strong])
    assert {"browInnerUp", "eyeBlinkLeft", "eyeWideRight", "eyeSquintLeft"} <= set(names[weak])
    # The gap between both kinds is wide: no threshold had to be tuned.
    assert mouth_offsets()[strong].min() > 4.0 * mouth_offsets()[weak].max()
    assert sorted(WEAK + CHEEKS) == sorted(UPPER)
