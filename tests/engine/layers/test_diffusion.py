"""Noise levels: ends, the velocity's algebra, the deterministic step, guidance; the conformer's reach."""

from __future__ import annotations

import pytest
import torch

from engine.layers.conformer import Conformer
from engine.layers.diffusion import Levels, guided


def test_levels_keep_variance_and_start_clean() -> None:
    levels = Levels(4)
    assert torch.allclose(levels.alpha.square() + levels.sigma.square(), torch.ones(5))
    assert levels.alpha[0] == 1.0
    assert levels.sigma[0] == 0.0
    assert levels.alpha[4] < 0.05


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_true_velocity_gives_back_the_clean_signal(level: int) -> None:
    levels, at = Levels(4), torch.full((5,), level)
    clean, noise = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    noisy, velocity = levels.noised(clean, noise, at), levels.velocity(clean, noise, at)
    assert torch.allclose(levels.clean(noisy, velocity, at), clean, atol=1e-5)
    below = levels.down(noisy, velocity, at)
    assert torch.allclose(below, levels.noised(clean, noise, at - 1), atol=1e-5)


def test_a_wild_prediction_is_bounded() -> None:
    levels, at = Levels(4), torch.tensor([1])
    down = levels.down(torch.full((1, 1, 1), 50.0), torch.full((1, 1, 1), -50.0), at, limit=3.0)
    assert down.abs().max() == 3.0


def test_guidance_mixes() -> None:
    a, b = torch.tensor([2.0]), torch.tensor([1.0])
    assert guided(a, b, 0.4).item() == pytest.approx(1.4)
    assert guided(a, b, 0.0).item() == 1.0


@pytest.mark.parametrize("attention", [True, False])
def test_conformer_reach(attention: bool) -> None:
    """Attention hears the whole window, convolution only its kernel."""
    torch.manual_seed(0)
    block = Conformer(8, heads=2, kernel=3, dilation=2, attention=attention).eval()
    x = torch.randn(1, 12, 8)
    other = x.clone()
    other[0, 0] = torch.randn(8)
    changed = (block(x) != block(other)).any(-1)[0]
    assert changed.tolist() == ([True] * 12 if attention else [True, False, True] + [False] * 9)


def test_conformer_refuses_an_even_kernel() -> None:
    with pytest.raises(ValueError, match="odd"):
        Conformer(8, kernel=4)
