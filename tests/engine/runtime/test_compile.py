"""The runtime doorway: backends agree, say why they run, and refuse with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.encoders.acoustic import AcousticModel, AcousticStep
from engine.errors import BackendError
from engine.runtime import BACKENDS, available_backends, compile


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


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_backends_equal_eager(backend: str) -> None:
    net = _Net().eval()
    runner = compile(net, _example(), backend)
    assert runner.backend == backend
    for seed in (1, 2):
        for got, expected in zip(runner(*_example(seed)), net(*_example(seed)), strict=True):
            torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_later_calls_leave_earlier_outputs_alone(backend: str) -> None:
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


def test_bf16_is_close() -> None:
    net = _Net().eval()
    got = compile(net, _example(), "openvino", precision="bf16")(*_example())[1]
    with torch.no_grad():
        torch.testing.assert_close(got, net(*_example())[1], atol=0.05, rtol=0.05)


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
    with pytest.raises(BackendError, match="cannot run this network"):
        compile(_Unreadable(), example, "openvino")


@pytest.mark.parametrize("backend", ["cuda_graph", "tensorrt", "quantum"])
def test_unknown_backends_name_the_available_ones(backend: str) -> None:
    with pytest.raises(BackendError, match="eager"):
        compile(_Net(), _example(), backend)
    assert available_backends()["eager"] is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_shapes_are_refused_with_the_remedy(backend: str) -> None:
    runner = compile(_Net(), _example(), backend)
    image, shift = _example()
    with pytest.raises(ValueError, match="compile again"):
        runner(image[:, :, :-1], shift)
    with pytest.raises(ValueError, match="2 inputs"):
        runner(image)
