"""Every streaming block gives offline's answer however the stream is cut, and rows reset alone."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.layers.causal_conv import CausalConv1d
from engine.layers.level import LevelTracker
from engine.layers.recurrent import GRU


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _cuts(total: int, unit: int, seed: int) -> list[tuple[int, int]]:
    steps = np.random.default_rng(seed).integers(1, 5, total)
    edges = [0, *[int(e) for e in np.cumsum(steps) * unit if e < total], total]
    return list(pairwise(edges))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (2, 2), (7, 3)])
@torch.no_grad()
def test_convolution_streams(kernel: int, stride: int) -> None:
    layer = CausalConv1d(3, 5, kernel, stride)
    x = _noise(2, 3, 24 * stride)
    whole = layer(x)
    for seed in range(3):
        state = layer.init_state(2)
        parts = [layer.step(x[:, :, a:b], state) for a, b in _cuts(24 * stride, stride, seed)]
        torch.testing.assert_close(torch.cat(parts, 2), whole, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_convolution_looks_only_back() -> None:
    layer = CausalConv1d(1, 1, kernel=5, stride=2)
    x = _noise(1, 1, 20)
    other = x.clone()
    other[:, :, 12:] += 1.0
    same = (layer(x) == layer(other)).flatten()
    assert same[:6].all()
    assert not same[6]


def test_convolution_refuses_to_skip_input() -> None:
    with pytest.raises(ValueError, match="at least the stride"):
        CausalConv1d(1, 1, kernel=2, stride=3)


@torch.no_grad()
def test_recurrent_streams_and_copies() -> None:
    layer = GRU(6, 8)
    x = _noise(3, 17, 6)
    whole = layer(x)
    state = layer.init_state(3)
    parts = [layer.step(x[:, a:b], state) for a, b in _cuts(17, 1, 4)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    twin = copy.deepcopy(state)
    assert torch.equal(layer.step(x, state), layer.step(x, twin))
    assert layer.step(x[:, :0], state).shape == (3, 0, 8)


@torch.no_grad()
def test_reset_touches_only_its_rows() -> None:
    conv, gru, level = CausalConv1d(4, 4, 3), GRU(4, 4), LevelTracker()
    rows = torch.tensor([False, True])
    x = _noise(2, 4, 9)
    conv_state, gru_state, level_state = conv.init_state(2), gru.init_state(2), level.init_state(2)
    conv.step(x, conv_state)
    gru.step(x.transpose(1, 2), gru_state)
    level.step(x, level_state)
    before = conv_state.past[0].clone(), gru_state.hidden[0].clone(), level_state.values[0].clone()
    conv.reset(conv_state, rows)
    gru.reset(gru_state, rows)
    level.reset(level_state, rows)
    after = conv_state.past, gru_state.hidden, level_state.values
    for kept, value in zip(before, after, strict=True):
        assert torch.equal(value[0], kept)
        assert not value[1].any()


def _mel(level_db: float, steps: int) -> Tensor:
    """Flat mel frames of a given level, natural logarithm."""
    return torch.full((1, steps, 8), level_db * float(np.log(10.0)) / 10.0)


def test_level_rises_fast_falls_slowly_and_stays_over_noise() -> None:
    tracker = LevelTracker()
    state = tracker.init_state(1)
    mel = torch.cat([_mel(-70, 100), _mel(-20, 30), _mel(-70, 200)], dim=1)
    energy, reference, floor = tracker.step(mel, state)
    torch.testing.assert_close(energy[0, 50], torch.tensor(-70.0))
    assert reference[0, 99] == pytest.approx(-55, abs=3)
    assert reference[0, 129] == pytest.approx(-20, abs=1)
    assert reference[0, 229] == pytest.approx(-23, abs=1)
    assert floor[0, 329] == pytest.approx(-70, abs=1)


def test_level_tracker_streams() -> None:
    tracker, mel = LevelTracker(), _noise(2, 40, 8) * 3 - 6
    whole = tracker.step(mel, tracker.init_state(2))
    state = tracker.init_state(2)
    parts = [tracker.step(mel[:, a:b], state) for a, b in _cuts(40, 1, 1)]
    for index in range(3):
        torch.testing.assert_close(torch.cat([p[index] for p in parts], 1), whole[index], atol=1e-4, rtol=0)


def test_normalised_mel_forgets_the_gain() -> None:
    tracker = LevelTracker()
    mel = _noise(1, 300, 8) - 6
    results = []
    for gain_db in (0.0, -12.0):
        shifted = mel + gain_db * float(np.log(10.0)) / 10.0
        _, reference, _ = tracker.step(shifted, tracker.init_state(1))
        results.append(tracker.normalise(shifted, reference)[:, 100:])
    torch.testing.assert_close(results[0], results[1], atol=0.02, rtol=0)
