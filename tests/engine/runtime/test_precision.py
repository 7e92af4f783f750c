"""Mixed precision: what runs in 16 bits, and what never does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.runtime.precision import Mixed, mixed
from tests.engine.runtime.nets import example, warp_net


class _Probe(nn.Module):
    """Remembers the dtypes its parts computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 4)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.exact = nn.Linear(4, 2)
        self.exact.full_precision = True  # type: ignore[assignment]
        self.seen: dict[str, torch.dtype] = {}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        n = self.norm(y)
        h = self.head(n.mean((2, 3)))
        g, _ = self.gru(h[:, None])
        e = self.exact(h)
        grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, 8, 8], align_corners=False)
        w = F.grid_sample(x.to(y.dtype), grid, align_corners=False)
        attention = h @ h.mT
        parts = {"conv": y, "norm": n, "head": h, "gru": g, "exact": e, "warp": w, "matmul": attention}
        self.seen = {name: value.dtype for name, value in parts.items()}
        return e, attention.argmax(-1)


@pytest.mark.parametrize("norms", [None, torch.float32])
@torch.no_grad()
def test_which_parts_compute_in_16_bits(norms: torch.dtype | None) -> None:
    torch.manual_seed(0)
    net = _Probe().eval()
    x = torch.randn(1, 3, 8, 8)
    expected = net(x)[0]
    low = mixed(net, "bf16", norms)
    assert isinstance(low, Mixed)
    got, index = low(x)
    probe = low._module
    assert isinstance(probe, _Probe)
    half, single = torch.bfloat16, torch.float32
    assert probe.seen == {
        "conv": half,
        "norm": half,
        "head": half,
        "matmul": half,
        "gru": single,
        "exact": single,
        "warp": single,
    }
    assert probe.norm.weight.dtype == (norms or half)
    assert got.dtype == single
    assert index.dtype == torch.int64
    torch.testing.assert_close(got, expected, atol=0.03, rtol=0.03)


def test_the_original_is_left_alone() -> None:
    net = warp_net()
    assert mixed(net, "f32") is net
    mixed(net, "bf16")
    assert all(value.dtype == torch.float32 for value in net.parameters())


@torch.no_grad()
def test_a_failing_call_does_not_leave_the_policy_in_force() -> None:
    low = mixed(warp_net(), "bf16")
    with pytest.raises(RuntimeError):
        low(*(value[..., :3] for value in example()))
    assert F.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype == torch.float32
    assert low(*example())[0].dtype == torch.float32
