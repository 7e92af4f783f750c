"""On a real GPU: full-size frames, results that stay on the device, and capture in a CUDA graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.fuse import fuse, fuse_i420
from kernels.i420 import rgb_to_i420, rgb_to_nv12
from kernels.logmel import MelSpec, log_mel
from tests.kernels.cases import CASES
from tests.kernels.laws import Case, assert_near

pytestmark = pytest.mark.gpu

ON_GPU = [case for case in CASES if "triton" in case.bodies]


@pytest.mark.parametrize("case", ON_GPU, ids=lambda case: case.name)
def test_frame_sized_inputs_equal_the_reference(case: Case) -> None:
    size = (3, 250) if case.name == "log-mel" else (514, 770)
    inputs = case.make(torch.Generator().manual_seed(0), size, torch.float16)
    there = {name: x.cuda() for name, x in inputs.items()}
    got, wanted = case.run(there, "auto"), case.run(there, "ref")
    assert got.device.type == "cuda"
    assert_near(case, got.cpu(), wanted.cpu())


def _frame(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (2, 1, height, width, 3), generator=noise, dtype=torch.uint8)
    fields = torch.randn(1, 6, height // 4, width // 4, generator=noise)
    flow, residual = 3 * fields[:, :2], 20 * fields[:, 3:]
    base, image = pictures.cuda().unbind(0)
    mask, residual = fields[:, 2].sigmoid().cuda(), residual.cuda().permute(0, 2, 3, 1)
    return base, image, flow.cuda().permute(0, 2, 3, 1), mask, residual


def test_frame_to_i420_is_captured_in_a_graph() -> None:
    inputs = _frame(512, 512)
    out = torch.zeros(1, 768, 512, dtype=torch.uint8, device="cuda")
    fuse_i420(*inputs, out)  # compiled before the capture
    wanted = out.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fuse_i420(*inputs, out)
    out.zero_()
    graph.replay()
    assert torch.equal(out, wanted)
    inputs[0].fill_(0)
    graph.replay()
    assert not torch.equal(out, wanted)


def test_device_in_device_out() -> None:
    inputs = _frame(64, 96)
    picture = torch.zeros_like(inputs[0])
    fuse(*inputs, picture)
    for convert in (rgb_to_i420, rgb_to_nv12):
        packed = convert(picture)
        assert packed.device == picture.device
        torch.testing.assert_close(packed.cpu(), convert(picture.cpu()), atol=1, rtol=0)


def test_a_stream_of_audio_cut_anywhere_is_bit_identical() -> None:
    spec = MelSpec()
    samples = torch.randn(2, spec.context + 24 * spec.hop, generator=torch.Generator().manual_seed(0)).cuda()
    whole = log_mel(samples, spec)
    for hops in (1, 3, 4, 8):
        cuts = range(0, 24, hops)
        parts = [log_mel(samples[:, k * spec.hop : (k + hops) * spec.hop + spec.context], spec) for k in cuts]
        assert torch.equal(torch.cat(parts, 1), whole)
