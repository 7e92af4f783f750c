"""OpenVINO's networks: hashes, one file, and warps that 16 bits leave alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.runtime import compile
from engine.runtime.ir import convert, from_bytes, keep_warps_exact, network_hash, to_bytes
from engine.runtime.openvino import OpenVINORunner, has_capability
from tests.engine.runtime.nets import example, warp_net

pytest.importorskip("openvino")


class _Shift(nn.Module):
    """Moves a picture by a third of a pixel and then convolves: the warp is not at the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.flow = nn.Conv2d(3, 2, 1)
        self.look = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.zeros_(self.flow.weight)
        nn.init.constant_(self.flow.bias, 2 / 3 / size)
        nn.init.dirac_(self.look.weight)
        axis = (torch.arange(size) + 0.5) * 2 / size - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.grid: Tensor
        self.register_buffer("grid", torch.stack([x, y], -1)[None])

    def forward(self, image: Tensor) -> Tensor:
        grid = self.grid + self.flow(image).permute(0, 2, 3, 1)
        moved = F.grid_sample(image, grid, align_corners=False, padding_mode="border")
        return self.look(moved)


@torch.no_grad()
def test_bf16_does_not_round_warp_coordinates() -> None:
    size = 256
    net = _Shift(size).eval()
    ramp = torch.linspace(0, 1, size).expand(1, 3, size, size).contiguous()
    exact = net(ramp)[..., 8:-8, 8:-8]
    got = compile(net, (ramp,), "openvino", "bf16")(ramp)[0][..., 8:-8, 8:-8]
    # The value of a ramp is a position: bf16 values at 1 are 1/256 apart, so half a step is exact.
    error = (got - exact).abs().mean() * size
    assert float(error) < 0.35
    if has_capability("BF16"):
        # Without the marks whole regions move; this is what the marks are for.
        rounded = keep_warps_exact(convert(net, (ramp,)))
        for operation in rounded.get_ordered_ops():
            for key in list(operation.get_rt_info()):
                if "Precision" in key or "precise" in key:
                    del operation.get_rt_info()[key]
        plain = OpenVINORunner(rounded, "f32", 1, "test")(ramp)[0]
        torch.testing.assert_close(plain, net(ramp), atol=1e-5, rtol=0)


def test_hashes_follow_what_is_computed() -> None:
    first = network_hash(convert(warp_net(), example()))
    assert network_hash(convert(warp_net(), example(seed=9))) == first
    assert network_hash(convert(warp_net(), example(batch=2))) != first
    other = warp_net()
    with torch.no_grad():
        other.up.bias[0] += 1e-6
    assert network_hash(convert(other, example())) != first

    class Edited(type(other)):  # type: ignore[misc]
        def forward(self, source: Tensor, drive: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
            picture, fused = super().forward(source, drive, style)
            return picture, -fused

    other.__class__ = Edited
    with torch.no_grad():
        other.up.bias[0] -= 1e-6
    assert network_hash(convert(other, example())) != first


@torch.no_grad()
def test_one_file_holds_the_network_and_keeps_the_order_of_its_ports() -> None:
    net = warp_net()
    model = convert(net, example())
    data = to_bytes(model)
    assert to_bytes(model) == data
    for read in (from_bytes(data, "test"), keep_warps_exact(model)):
        runner = OpenVINORunner(read, "f32", 1, "test")
        for value, expected in zip(runner(*example(1)), net(*example(1)), strict=True):
            torch.testing.assert_close(value, expected, atol=2e-4, rtol=1e-3)
