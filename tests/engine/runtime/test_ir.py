"""OpenVINO's networks: hashes, one file, and warps that 16 bits leave alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.runtime import compile
from engine.runtime.ir import (
    convert,
    from_bytes,
    import_openvino,
    keep_warps_exact,
    network_hash,
    to_bytes,
)
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
        with torch.no_grad():
            self.flow.bias[:] = 2 / 3 / size  # type: ignore[index]
        nn.init.dirac_(self.look.weight)
        axis = (torch.arange(size) + 0.5) * 2 / size - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.grid: Tensor
        self.register_buffer("grid", torch.stack([x, y], -1)[None])

    def forward(self, image: Tensor) -> Tensor:
        grid = self.grid + self.flow(image).permute(0, 2, 3, 1)
        moved = F.grid_sample(image, grid, align_corners=False, padding_mode="border")
        seen: Tensor = self.look(moved)
        return seen


@torch.no_grad()
def test_bf16_does_not_round_warp_coordinates() -> None:
    size = 256
    net = _Shift(size).eval()
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = net(image)
    got = compile(net, (image,), "openvino", "bf16")(image)[0]
    # What is left is the rounding of the picture itself, at most 1/512 of its value.
    assert float((got - expected).abs().mean()) < 0.004
    if has_capability("BF16"):
        # Without the marks the same network reads up to half a pixel beside.
        core = import_openvino().Core()
        plain = core.compile_model(convert(net, (image,)), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
        moved = torch.from_numpy(plain(image.numpy())[0])
        assert float((moved - expected).abs().mean()) > 0.02


def test_hashes_follow_what_is_computed() -> None:
    image = torch.zeros(1, 3, 8, 8)
    first = network_hash(convert(_Shift(8), (image,)))
    assert network_hash(convert(_Shift(8), (torch.ones(1, 3, 8, 8),))) == first
    assert network_hash(convert(_Shift(8), (torch.zeros(2, 3, 8, 8),))) != first
    changed = _Shift(8)
    with torch.no_grad():
        changed.look.weight[0] += 1e-6
    assert network_hash(convert(changed, (image,))) != first
    assert network_hash(convert(nn.Sequential(_Shift(8), nn.ReLU()), (image,))) != first


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
