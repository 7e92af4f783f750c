"""Captured networks: buffers, order of work and waits on a fake CUDA, results on a real one."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime import compile
from engine.runtime.cuda_api import Capture, CudaBindings
from engine.runtime.cuda_graph import GraphRunner
from tests.engine.runtime.fakes import FakeCuda
from tests.engine.runtime.nets import example, warp_net


def _affine(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return 2 * x + y, x.sum(1)


def _inputs(seed: int) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, generator=noise), torch.randn(3, 4, generator=noise)


def _runner(fake: FakeCuda, on_device: bool = False) -> GraphRunner:
    examples = tuple(fake.on_device(v) for v in _inputs(0)) if on_device else _inputs(0)
    return GraphRunner(fake, fake.kernel(_affine), examples, "f32", "test")


def test_results_are_those_of_the_body() -> None:
    runner = _runner(FakeCuda())
    kept = [runner(*_inputs(seed)) for seed in range(4)]
    for seed, got in enumerate(kept):
        for value, expected in zip(got, _affine(*_inputs(seed)), strict=True):
            assert torch.equal(value, expected)


def test_a_warm_call_is_one_launch_and_one_wait() -> None:
    fake = FakeCuda()
    runner = _runner(fake)
    runner(*_inputs(1))
    fake.calls.clear()
    runner(*_inputs(2))
    # No allocation, no capture, no copy outside the graph; the host waits once, for one event.
    assert fake.calls == ["record", "wait", "launch", "record", "synchronize"]


def test_nothing_is_ready_before_wait() -> None:
    fake = FakeCuda()
    runner = _runner(fake)
    runner(*_inputs(1))
    stale = runner._hosts[0].clone()
    runner.start(*_inputs(2))
    assert torch.equal(runner._hosts[0], stale)
    assert torch.equal(runner.wait()[0], _affine(*_inputs(2))[0])


def test_device_inputs_stay_on_the_device() -> None:
    fake = FakeCuda()
    runner = _runner(fake, on_device=True)
    fake.calls.clear()
    got = [runner(*(fake.on_device(v) for v in _inputs(seed))) for seed in range(3)]
    assert "synchronize" not in fake.calls
    for seed, outputs in enumerate(got):
        assert torch.equal(outputs[0], _affine(*_inputs(seed))[0])


def test_strided_inputs_are_read_correctly() -> None:
    runner = _runner(FakeCuda())
    x, y = _inputs(3)
    strided = torch.empty(4, 3).t().copy_(x)
    assert torch.equal(runner(strided, y)[0], _affine(x, y)[0])


@pytest.mark.parametrize("updates", [True, False])
def test_bound_pinned_outputs_are_written_by_the_graph(updates: bool) -> None:
    fake = FakeCuda(updates=updates)
    runner = _runner(fake)
    bound = tuple(fake.pinned_tensor(v.shape, v.dtype) for v in _affine(*_inputs(0)))
    fake.calls.clear()
    runner.bind(bound)
    assert ("instantiate" in fake.calls) is (not updates)
    got = runner(*_inputs(5))
    assert all(value is target for value, target in zip(got, bound, strict=True))
    assert torch.equal(bound[1], _affine(*_inputs(5))[1])
    runner.bind(None)
    kept = bound[0].clone()
    assert torch.equal(runner(*_inputs(6))[0], _affine(*_inputs(6))[0])
    assert torch.equal(bound[0], kept)


def test_bound_pageable_and_device_outputs() -> None:
    fake = FakeCuda()
    runner = _runner(fake)
    pageable = tuple(torch.empty_like(v) for v in _affine(*_inputs(0)))
    runner.bind(pageable)
    runner(*_inputs(7))
    assert torch.equal(pageable[0], _affine(*_inputs(7))[0])
    runner = _runner(fake, on_device=True)
    device = tuple(fake.on_device(torch.empty_like(v)) for v in _affine(*_inputs(0)))
    runner.bind(device)
    runner(*(fake.on_device(v) for v in _inputs(8)))
    assert torch.equal(device[0], _affine(*_inputs(8))[0])


def test_everything_is_released() -> None:
    fake = FakeCuda()
    runner = _runner(fake)
    runner(*_inputs(1))
    assert fake.alive
    del runner
    gc.collect()
    assert not fake.alive


@pytest.mark.gpu
@pytest.mark.parametrize("on_device", [False, True])
@torch.no_grad()
def test_real_graph_equals_eager(on_device: bool) -> None:
    net = warp_net()

    def move(value: Tensor) -> Tensor:
        return value.to("cuda") if on_device else value

    runner = compile(net, [move(v) for v in example()], "cuda_graph", "f16")
    results = [runner(*(move(v) for v in example(seed))) for seed in range(5)]
    for seed, (picture, _) in enumerate(results):
        assert picture.is_cuda is on_device
        torch.testing.assert_close(picture.cpu(), net(*example(seed))[0], atol=5e-3, rtol=0)


@pytest.mark.gpu
@torch.no_grad()
def test_real_graph_rebinds_by_update() -> None:
    net = nn.Conv2d(3, 4, 3, padding=1).eval()
    runner = compile(net, (torch.zeros(1, 3, 16, 16),), "cuda_graph")
    assert isinstance(runner, GraphRunner)
    before = runner._executable
    bound = torch.empty(1, 4, 16, 16, pin_memory=True)
    runner.bind((bound,))
    assert runner._executable == before
    image = torch.rand(1, 3, 16, 16)
    runner(image)
    torch.testing.assert_close(bound, net(image), atol=2e-4, rtol=1e-3)


@pytest.mark.gpu
def test_warm_calls_allocate_nothing_on_the_device() -> None:
    runner = compile(warp_net(), example(), "cuda_graph", "f16")
    runner(*example(1))
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for seed in range(5):
        runner(*example(seed))
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_every_call_fits_the_signatures_of_cuda_python() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    if torch.cuda.is_available():
        pytest.skip("with a device the calls are made for real")
    api = object.__new__(CudaBindings)
    api._rt, api._device = runtime, torch.device("cuda", 0)
    value = torch.zeros(4)
    capture = Capture(2, None)
    calls: list[Callable[[], object]] = [
        api.enter,
        api.stream,
        api.event,
        lambda: api.record(2, 3),
        lambda: api.wait(2, 3),
        lambda: api.synchronize(2),
        lambda: api.copy(value, value, 3),
        lambda: api.instantiate(capture),
        lambda: api.launch(2, 3),
    ]
    # Wrong arguments would be a TypeError of the bindings; CUDA itself only says it is not there.
    for call in calls:
        with pytest.raises(BackendError, match=r"cuda.* failed"):
            call()
    assert api.update(2, capture) is False
    api.release((2,), (3,), (4,))


def test_without_a_device_the_reason_is_given() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(BackendError, match=r"no CUDA device|visavis\[gpu\]"):
        CudaBindings()
