"""The runtime doorway: backends agree, say why they run, and refuse with the reason."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.encoders.acoustic import AcousticModel, AcousticStep
from engine.errors import BackendError
from engine.runtime import BACKENDS, available_backends, compile
from tests.conftest import REPO

HERE = [
    pytest.param(name, marks=pytest.mark.gpu if name in ("cuda_graph", "tensorrt") else ())
    for name in BACKENDS
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))


def _need(backend: str) -> None:
    if (reason := available_backends()[backend]) is not None:
        pytest.skip(f"{backend}: {reason}")


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.functional.gelu(self.conv(image))
        return x, self.head(x.mean((2, 3))) + shift


def _example(seed: int = 0) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 17, 23, generator=noise), torch.randn(2, 5, generator=noise)


@pytest.mark.parametrize("backend", HERE)
@torch.no_grad()
def test_backends_equal_eager(backend: str) -> None:
    _need(backend)
    net = _Net().eval()
    runner = compile(net, _example(), backend)
    assert runner.backend == backend
    for seed in (1, 2):
        for got, expected in zip(runner(*_example(seed)), net(*_example(seed)), strict=True):
            torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("backend", HERE)
def test_later_calls_leave_earlier_outputs_alone(backend: str) -> None:
    _need(backend)
    runner = compile(_Net(), _example(), backend)
    first = runner(*_example(1))
    kept = [value.clone() for value in first]
    runner(*_example(2))
    for value, copy in zip(first, kept, strict=True):
        assert torch.equal(value, copy)


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_recurrent_step_compiles(batch: int) -> None:
    model = AcousticModel(16, 32).eval()
    state = model.init_state(batch).tensors()
    noise = torch.Generator().manual_seed(0)
    runner = compile(AcousticStep(model), (torch.zeros(batch, 4, 16), *state), "openvino")
    mel = torch.randn(batch, 5 * 4, 16, generator=noise)
    whole, _ = model(mel)
    for step in range(5):
        outputs = runner(mel[:, 4 * step : 4 * step + 4], *state)
        state = outputs[2:]  # type: ignore[assignment]
        torch.testing.assert_close(outputs[0], whole[:, step], atol=1e-4, rtol=1e-3)


def test_precisions_that_a_backend_lacks_are_refused() -> None:
    with pytest.raises(BackendError, match="no precision 'int8'"):
        compile(_Net(), _example(), "eager", "int8")
    with pytest.raises(ValueError, match="calibration"):
        compile(_Net(), _example(), "openvino", "int8")


@pytest.mark.parametrize("backend", HERE)
@torch.no_grad()
def test_outputs_can_be_bound(backend: str) -> None:
    _need(backend)
    net = _Net().eval()
    runner = compile(net, _example(), backend)
    free = runner(*_example(1))
    bound = tuple(torch.empty_like(value) for value in free)
    runner.bind(bound)
    got = runner(*_example(2))
    assert [value.data_ptr() for value in got] == [value.data_ptr() for value in bound]
    for value, expected in zip(bound, net(*_example(2)), strict=True):
        torch.testing.assert_close(value, expected, atol=2e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="output 1 cannot be bound"):
        runner.bind((bound[0], bound[1].double()))
    runner.bind(None)
    kept = [value.clone() for value in bound]
    again = runner(*_example(1))
    for value, copy, first, new in zip(bound, kept, free, again, strict=True):
        assert torch.equal(value, copy)
        torch.testing.assert_close(first, new)


@pytest.mark.parametrize("backend", HERE)
@torch.no_grad()
def test_start_and_wait_equal_a_call(backend: str) -> None:
    _need(backend)
    runner = compile(_Net(), _example(), backend)
    expected = runner(*_example(3))
    runner.start(*_example(3))
    with pytest.raises(RuntimeError, match="before wait"):
        runner.start(*_example(4))
    with pytest.raises(RuntimeError, match="between start"):
        runner.bind(None)
    for value, same in zip(runner.wait(), expected, strict=True):
        torch.testing.assert_close(value, same)
    with pytest.raises(RuntimeError, match="without start"):
        runner.wait()


@pytest.mark.parametrize("backend", HERE)
@torch.no_grad()
def test_threads_take_turns(backend: str) -> None:
    _need(backend)
    net = _Net().eval()
    runner = compile(net, _example(), backend)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: runner(*_example(seed)), range(24)))
    for seed, result in enumerate(results):
        torch.testing.assert_close(result[1], net(*_example(seed))[1], atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_bf16_on_a_cpu_without_it_is_f32_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("engine.runtime.openvino.has_capability", lambda name: False)
    net = _Net().eval()
    runner = compile(net, _example(), "openvino", "bf16")
    assert "f32 in place of bf16" in runner.reason
    torch.testing.assert_close(runner(*_example(1))[0], net(*_example(1))[0], atol=2e-4, rtol=1e-3)
    with pytest.raises(BackendError, match="no f16 arithmetic"):
        compile(net, _example(), "openvino", "f16")


def test_non_contiguous_inputs_are_read_correctly() -> None:
    image, shift = _example(5)
    runner = compile(_Net(), (image, shift), "openvino")
    strided = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(runner(strided, shift)[0], runner(image, shift)[0])


def test_auto_says_why() -> None:
    runner = compile(_Net(), _example())
    assert runner.backend in BACKENDS
    assert runner.reason.startswith("auto: ")
    assert compile(_Net(), _example(), "eager").reason == "chosen by name"


class _Unreadable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.real(torch.linalg.eigvals(x))


def test_auto_falls_back_loudly_and_a_named_backend_does_not() -> None:
    example = (torch.eye(3),)
    runner = compile(_Unreadable(), example)
    assert runner.backend == "eager"
    assert "cannot run this network" in runner.reason
    assert "linalg_eigvals" in runner.reason
    with pytest.raises(BackendError, match="cannot run this network"):
        compile(_Unreadable(), example, "openvino")


def test_backends_that_cannot_run_name_the_reason_and_the_available_ones() -> None:
    reasons = available_backends()
    assert tuple(reasons) == BACKENDS
    assert reasons["eager"] is None
    with pytest.raises(BackendError, match=r"no runtime 'quantum'.*eager"):
        compile(_Net(), _example(), "quantum")
    for backend, reason in reasons.items():
        if reason is not None:
            with pytest.raises(BackendError, match="cannot run") as caught:
                compile(_Net(), _example(), backend)
            assert reason in str(caught.value)
            assert "eager" in str(caught.value)


@pytest.mark.parametrize("backend", HERE)
def test_other_shapes_are_refused_with_the_remedy(backend: str) -> None:
    _need(backend)
    runner = compile(_Net(), _example(), backend)
    image, shift = _example()
    with pytest.raises(ValueError, match="compile again"):
        runner(image[:, :, :-1], shift)
    with pytest.raises(ValueError, match="2 inputs"):
        runner(image)


def test_the_runtimes_import_where_optional_packages_are_missing() -> None:
    code = """
import sys
for name in ("openvino", "nncf", "onnx", "onnxscript", "onnxruntime", "tensorrt", "cuda", "cuda.bindings"):
    sys.modules[name] = None
import torch
import engine.runtime, engine.runtime.cuda_graph, engine.runtime.tensorrt, engine.runtime.onnx_export
import streaming.batcher
reasons = engine.runtime.available_backends()
assert "openvino" in reasons["openvino"], reasons
assert reasons["cuda_graph"] and reasons["tensorrt"], reasons
runner = engine.runtime.compile(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
assert runner.backend == "eager" and "openvino" in runner.reason, runner.reason
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
