"""Band attention: streamed equals offline, its reach is exact, long streams need no more memory."""

from __future__ import annotations

import pytest
import torch

from engine.layers.attention import BandAttention, TransformerLayer


def _layer(past: int, ahead: int) -> TransformerLayer:
    torch.manual_seed(0)
    return TransformerLayer(8, 2, past, ahead).requires_grad_(False).eval()


def _streamed(layer: TransformerLayer, x: torch.Tensor) -> torch.Tensor:
    """All frames whose future is known, one at a time."""
    state, ahead = layer.init_state(x.shape[0]), layer.attention.ahead
    frames = range(x.shape[1] - ahead)
    return torch.stack([layer.step(x[:, t : t + 1 + ahead], state) for t in frames], dim=1)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_streamed_equals_offline(ahead: int) -> None:
    layer, x = _layer(5, ahead), torch.randn(3, 23, 8)
    whole = layer(x)[:, : 23 - ahead]
    assert (_streamed(layer, x) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_frame_sees_its_band_and_nothing_else(ahead: int) -> None:
    layer, x = _layer(5, ahead), torch.randn(1, 30, 8)
    other = x.clone()
    other[:, 12] += torch.randn(8)
    changed = (layer(x) != layer(other)).any(-1)[0].nonzero().flatten().tolist()
    assert changed == list(range(12 - ahead, 12 + 5 + 1))


def test_blocks_do_not_show() -> None:
    torch.manual_seed(1)
    attention = BandAttention(8, 2, past=6, ahead=1).requires_grad_(False)
    x = torch.randn(1, 600, 8)
    # A block border lies at frame 256: a part cut well around it has none.
    assert (attention(x)[:, 240:280] - attention(x[:, 200:320])[:, 40:80]).abs().max() < 1e-5


def test_a_reset_row_starts_afresh_and_the_other_goes_on() -> None:
    layer, x = _layer(4, 1), torch.randn(2, 12, 8)
    state = layer.init_state(2)
    for t in range(6):
        layer.step(x[:, t : t + 2], state)
    layer.reset(state, torch.tensor([True, False]))
    after = layer.step(x[:, 6:8], state)
    fresh = layer.step(x[:, 6:8], layer.init_state(2))
    assert torch.equal(after[0], fresh[0])
    assert not torch.equal(after[1], fresh[1])


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        BandAttention(10, 4, past=3)
