"""TensorRT: ONNX export against eager torch, and the engine's life on a recorded fake."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime import available_backends, compile
from engine.runtime.onnx_export import check_onnx, export_onnx
from engine.runtime.precision import mixed
from engine.runtime.tensorrt import Engine, build_plan, cached_plan, tensorrt_runner
from tests.engine.runtime.fakes import FakeCuda, FakeTensorRT
from tests.engine.runtime.nets import example, warp_net

pytest.importorskip("onnxscript", reason="ONNX export needs onnxscript (visavis[tensorrt])")
pytest.importorskip("onnxruntime", reason="the ONNX check needs onnxruntime (visavis[tensorrt])")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))


class _Small(nn.Module):
    """Two outputs, and an input that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor, unused: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(image) + shift
        return x, x.mean((2, 3))


def _net() -> _Small:
    torch.manual_seed(0)
    return _Small().eval()


def _small(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, 6, 6, generator=noise), torch.zeros(1), torch.randn(1, generator=noise)


@pytest.fixture(scope="module")
def half() -> bytes:
    """The network with warps, exported in f16."""
    return export_onnx(mixed(warp_net(), "f16", norms=torch.float32), example(), 2)


@pytest.fixture(scope="module")
def small() -> bytes:
    """The small network, exported in f32."""
    return export_onnx(_net(), _small(0), 2)


@torch.no_grad()
def test_export_computes_what_torch_computes(half: bytes, small: bytes) -> None:
    # The inputs differ from those of the export: nothing of them is baked in.
    assert 0 < check_onnx(half, example(3), warp_net()(*example(3)), 5e-3, 5e-3) <= 1e-2
    assert check_onnx(small, _small(3), _net()(*_small(3)), 1e-5, 1e-5) <= 1e-4


def test_f16_is_in_the_types_of_the_graph(half: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(half)
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    low, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert kinds[node.output[0]] == low
        if node.op_type in ("GridSample", "InstanceNormalization"):
            assert kinds[node.output[0]] == single
    assert all(port.type.tensor_type.elem_type == single for port in model.graph.output)


@torch.no_grad()
def test_the_check_refuses_another_network(small: bytes) -> None:
    other = _Small().eval()
    other.conv.weight.mul_(2)
    with pytest.raises(BackendError, match="differs from torch: output 0"):
        check_onnx(small, _small(0), other(*_small(0)), 1e-3, 1e-3)
    with pytest.raises(BackendError, match="differs from torch"):
        check_onnx(small, _small(0), tuple(torch.full_like(v, torch.nan) for v in other(*_small(0))), 1, 1)


def test_networks_that_cannot_be_exported_say_so() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(BackendError, match="cannot export"):
        export_onnx(Branches(), (torch.ones(2),), 1)


@torch.no_grad()
def test_an_engine_from_export_to_captured_frame() -> None:
    cuda = FakeCuda()
    trt = FakeTensorRT(cuda)
    net = _net()
    runner = tensorrt_runner(net, _small(0), "f32", "test", trt=trt, api=cuda)
    assert runner.backend == "tensorrt"
    assert trt.calls.index("clear tf32") < trt.calls.index("build")
    assert trt.calls.index("parse") < trt.calls.index("build") < trt.calls.index("deserialize")
    # TensorRT asks for an execution before a capture.
    executions = trt.calls.count("execute_async_v3")
    assert executions > 1
    results = [runner(*_small(seed)) for seed in range(3)]
    assert trt.calls.count("execute_async_v3") == executions  # frames replay the graph
    for seed, outputs in enumerate(results):
        for value, expected in zip(outputs, net(*_small(seed)), strict=True):
            torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_engines_are_cached_by_network_gpu_driver_and_version(small: bytes, half: bytes) -> None:
    def built(cuda: FakeCuda, version: str, onnx: bytes) -> bool:
        trt = FakeTensorRT(cuda, version)
        assert cached_plan(trt, cuda, onnx) == b"PLAN" + onnx
        return "build" in trt.calls

    assert built(FakeCuda(), "10.13", small)
    assert not built(FakeCuda(), "10.13", small)
    assert built(FakeCuda(), "10.14", small)
    assert built(FakeCuda("Other GPU sm_90 driver 13000"), "10.13", small)
    assert built(FakeCuda("Fake GPU sm_90 driver 12080"), "10.13", small)
    assert built(FakeCuda(), "10.13", half)


def test_timings_are_kept_and_begun_anew_where_tensorrt_rejects_them(small: bytes) -> None:
    trt = FakeTensorRT(FakeCuda())
    _, timings = build_plan(trt, small, b"")
    assert timings == b"timings"
    assert trt.calls.count("new_timing_cache") == 1
    trt = FakeTensorRT(FakeCuda())
    build_plan(trt, small, timings)
    assert "new_timing_cache" not in trt.calls
    trt.timings_rejected = True
    build_plan(trt, small, timings)
    assert trt.calls.count("new_timing_cache") == 1


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("parse", "no importer for GridSample"),
        ("build", "cannot build"),
        ("deserialize", "cannot load"),
        ("create_execution_context", "memory"),
        ("set_tensor_address", "refuses the memory of"),
        ("execute_async_v3", "could not queue"),
    ],
)
def test_every_failure_is_a_backend_error(step: str, message: str, small: bytes) -> None:
    cuda = FakeCuda()
    trt = FakeTensorRT(cuda)
    trt.fail = step
    with pytest.raises(BackendError, match=message):
        Engine(trt, cuda, build_plan(trt, small, b"")[0])(_small(0))


def test_without_a_gpu_or_the_library_the_reason_names_the_extra() -> None:
    if (reason := available_backends()["tensorrt"]) is None:
        pytest.skip("TensorRT can run here")
    with pytest.raises(BackendError) as caught:
        compile(_Small(), _small(0), "tensorrt")
    assert reason in str(caught.value)
    assert "CUDA" in reason or "visavis[tensorrt]" in reason


@pytest.mark.gpu
@torch.no_grad()
def test_real_engine_equals_eager() -> None:
    if (reason := available_backends()["tensorrt"]) is not None:
        pytest.skip(reason)
    net = warp_net()
    runner = compile(net, example(), "tensorrt", "f16")
    for seed in range(3):
        torch.testing.assert_close(runner(*example(seed))[0], net(*example(seed))[0], atol=5e-3, rtol=0)
