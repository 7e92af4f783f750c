"""``compile(module, example_inputs) -> Runner``: shapes are fixed once, then only calls remain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.base import Precision, Runner
from engine.runtime.eager import EagerRunner
from engine.runtime.openvino import openvino_runner
from engine.runtime.quantise import Calibration, quantise

__all__ = ["BACKENDS", "available_backends", "compile"]

BACKENDS: tuple[str, ...] = ("eager", "openvino", "cuda_graph", "tensorrt")

_PRECISIONS: dict[str, tuple[str, ...]] = {
    "eager": ("f32", "bf16", "f16"),
    "openvino": ("f32", "bf16", "f16", "int8"),
    "cuda_graph": ("f32", "bf16", "f16"),
    "tensorrt": ("f32", "f16"),  # ONNX has no bf16 convolution
}


def available_backends() -> dict[str, str | None]:
    """Each backend with None where it can run here, or the reason why it cannot."""
    return {
        "eager": None,
        "openvino": _missing("openvino", "pip install openvino"),
        "cuda_graph": _no_cuda(),
        "tensorrt": _no_cuda()
        or _missing("tensorrt", "pip install 'visavis[tensorrt]'")
        or _missing("onnxscript", "pip install 'visavis[tensorrt]'"),
    }


def compile(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    backend: str = "auto",
    precision: Precision = "f32",
    *,
    calibration: Calibration | None = None,
    threads: int = 1,
) -> Runner:
    """Prepare ``module`` for inputs shaped like ``example_inputs``.

    ``auto`` decides once and says why in ``reason``: with a CUDA device TensorRT where it is
    installed, else a CUDA graph; without one OpenVINO where it is installed and can read the
    network, else eager torch. The GPU backends return their outputs on the CPU where all example
    inputs are there, else on the GPU.

    Args:
        precision: the arithmetic of convolutions and matrix products. Warp coordinates are always
            f32, and so are floating outputs. bf16 and f16 are faster only where the processor has
            them; int8 (OpenVINO only) needs ``calibration``.
        calibration: inputs of real calls, for int8; see :func:`engine.runtime.quantise`.
        threads: how many CPU threads one call may use (OpenVINO).

    Raises:
        BackendError: a named backend that is unknown, not installed or cannot run this network, or
            a precision that it does not have.
        ValueError: int8 without calibration.
    """
    examples = tuple(example_inputs)
    reasons = available_backends()
    build = _Build(module, examples, precision, calibration, threads)
    if backend == "auto":
        return _automatic(build, reasons)
    if backend not in BACKENDS:
        raise BackendError(f"no runtime {backend!r} here; available: {_usable(reasons)}")
    if reasons[backend] is not None:
        raise BackendError(
            f"runtime {backend!r} cannot run: {reasons[backend]}; available: {_usable(reasons)}"
        )
    return build(backend, "chosen by name")


class _Build:
    """Everything but the choice of the backend."""

    def __init__(
        self,
        module: nn.Module,
        examples: tuple[Tensor, ...],
        precision: Precision,
        calibration: Calibration | None,
        threads: int,
    ) -> None:
        self.module = module.eval()
        self.examples = examples
        self.precision = precision
        self.threads = threads
        self._calibration = calibration

    def __call__(self, backend: str, reason: str) -> Runner:
        if self.precision not in _PRECISIONS[backend]:
            raise BackendError(
                f"{backend} has no precision {self.precision!r}; it has {', '.join(_PRECISIONS[backend])}"
            )
        builders: dict[str, Callable[[str], Runner]] = {
            "eager": lambda why: EagerRunner(self.module, self.examples, self.precision, why),
            "openvino": self._openvino,
            "cuda_graph": self._cuda_graph,
            "tensorrt": self._tensorrt,
        }
        return builders[backend](reason)

    def _openvino(self, reason: str) -> Runner:
        if self.precision != "int8":
            return openvino_runner(self.module, self.examples, self.precision, self.threads, reason)
        if self._calibration is None:
            raise ValueError("int8 needs calibration=, or load() a network that is quantised already")
        return quantise(self.module, self.examples, self._calibration).runner(self.threads, reason)

    def _cuda_graph(self, reason: str) -> Runner:
        from engine.runtime.cuda_graph import cuda_graph_runner

        return cuda_graph_runner(self.module, self.examples, self.precision, reason)

    def _tensorrt(self, reason: str) -> Runner:
        from engine.runtime.tensorrt import tensorrt_runner

        return tensorrt_runner(self.module, self.examples, self.precision, reason)


def _automatic(build: _Build, reasons: dict[str, str | None]) -> Runner:
    """The first backend that can run this network, with what kept the better ones from it."""
    on_gpu = reasons["cuda_graph"] is None or any(v.device.type != "cpu" for v in build.examples)
    order = ("tensorrt", "cuda_graph", "openvino", "eager") if on_gpu else ("openvino", "eager")
    why = ["a CUDA device is there" if on_gpu else "no CUDA device"]
    failure: BackendError | None = None
    for backend in order:
        if (missing := reasons[backend]) is not None:
            why.append(f"{backend}: {missing}")
            continue
        try:
            return build(backend, f"auto: {'; '.join([*why, f'{backend} runs here'])}")
        except BackendError as error:
            why.append(f"{backend}: {error}")
            failure = error
    raise BackendError(f"no runtime can run this network: {'; '.join(why)}") from failure


def _usable(reasons: dict[str, str | None]) -> str:
    return ", ".join(name for name, reason in reasons.items() if reason is None)


def _missing(package: str, remedy: str) -> str | None:
    return None if find_spec(package) else f"the {package} package is not installed ({remedy})"


def _no_cuda() -> str | None:
    if not torch.cuda.is_available():
        return "no CUDA device, or a torch without CUDA"
    try:
        found = find_spec("cuda.bindings")
    except ModuleNotFoundError:
        found = None
    return None if found else "the cuda.bindings package is not installed (pip install 'visavis[gpu]')"
