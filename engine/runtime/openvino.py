"""OpenVINO on the CPU: fixed shapes, the precision and the threads that were asked for.

One thread is the default, because a real-time server gains nothing from two threads that wait for
each other while another process spins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.base import InputCheck, RunnerBase
from engine.runtime.ir import convert, failures, first_line, import_openvino, keep_warps_exact

__all__ = ["OpenVINORunner", "cpu_name", "has_capability", "openvino_runner"]

_DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "boolean": torch.bool,
}


def openvino_runner(
    module: nn.Module, examples: tuple[Tensor, ...], precision: str, threads: int, reason: str
) -> OpenVINORunner:
    """A runner for ``module`` in f32, bf16 or f16 arithmetic, warp coordinates always in f32.

    Raises:
        BackendError: OpenVINO is missing, cannot read the network or has no such arithmetic here.
    """
    if any(value.device.type != "cpu" for value in examples):
        raise BackendError("openvino runs networks on the CPU; the example inputs are on another device")
    if precision == "f16" and not has_capability("FP16"):
        raise BackendError("openvino has no f16 arithmetic on this CPU; use bf16 or f32")
    return OpenVINORunner(convert(module, examples), precision, threads, reason)


class OpenVINORunner(RunnerBase):
    """An ``openvino.Model`` with ports ``input0`` … and ``output0`` …, compiled for this CPU.

    Inputs are read where they lie and bound outputs are written where they lie: nothing is copied.

    Args:
        model: of fixed shapes; :func:`engine.runtime.ir.convert` makes one.
        precision: f32, bf16 or f16 (the arithmetic), or int8: a quantised model, whose other
            operations compute in bf16. A CPU without bf16 instructions computes in f32 instead, which
            is faster there than to imitate them; ``reason`` says so.
        threads: how many threads one call may use.

    Raises:
        BackendError: OpenVINO cannot run this network.
    """

    backend = "openvino"

    def __init__(self, model: Any, precision: str, threads: int, reason: str) -> None:
        self._inputs = [_find(model.inputs, f"input{k}") for k in range(len(model.inputs))]
        outputs = [_find(model.outputs, f"output{k}") for k in range(len(model.outputs))]
        shapes = [(tuple(p.get_shape()), _dtype(p)) for p in (model.inputs[k] for k in self._inputs)]
        arithmetic = "bf16" if precision == "int8" else precision
        if arithmetic == "bf16" and not has_capability("BF16"):
            arithmetic = "f32"
            reason = f"{reason}; f32 in place of bf16, which this CPU lacks"
        super().__init__(InputCheck(shapes), precision, reason)
        self._outputs = outputs
        self._request = _compile(model, arithmetic, threads).create_infer_request()
        self._held: dict[int, Any] = {}

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Started, the work would go to a thread of OpenVINO's own while this one only waits: of three that
        # wake, two may meet on one core and share it for milliseconds before they are moved apart.
        self._held = self._arrays(inputs)
        self._request.infer(self._held, share_inputs=True, share_outputs=True)
        return self._made()

    def _begin(self, inputs: tuple[Tensor, ...]) -> None:
        self._held = self._arrays(inputs)
        self._request.start_async(self._held, share_inputs=True)

    def _finish(self) -> tuple[Tensor, ...]:
        self._request.wait()
        return self._made()

    def _arrays(self, inputs: tuple[Tensor, ...]) -> dict[int, Any]:
        """The inputs by port; whoever runs on them holds them, for nothing is copied."""
        return {
            port: value.detach().contiguous().numpy()
            for port, value in zip(self._inputs, inputs, strict=True)
        }

    def _made(self) -> tuple[Tensor, ...]:
        self._held = {}
        if self._bound is not None:
            return self._bound
        tensors = (self._request.get_output_tensor(port) for port in self._outputs)
        return tuple(torch.from_numpy(tensor.data.copy()) for tensor in tensors)

    def _output_like(self) -> tuple[Tensor, ...]:
        tensors = (self._request.get_output_tensor(port) for port in self._outputs)
        return tuple(torch.from_numpy(tensor.data) for tensor in tensors)

    def _bind(self, outputs: tuple[Tensor, ...] | None) -> None:
        openvino = import_openvino()
        for index, port in enumerate(self._outputs):
            if outputs is None:
                old = self._request.get_output_tensor(port)
                fresh = openvino.Tensor(old.get_element_type(), old.get_shape())
            else:
                fresh = openvino.Tensor(outputs[index].numpy(), shared_memory=True)
            self._request.set_output_tensor(port, fresh)


def has_capability(name: str) -> bool:
    """Whether OpenVINO computes in ``name`` (BF16, FP16, INT8) on this CPU."""
    found: list[str] = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return name in found


def cpu_name() -> str:
    """Model and arithmetic of this CPU, as OpenVINO sees it."""
    core = import_openvino().Core()
    capabilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} {' '.join(capabilities)}"


def _find(ports: list[Any], name: str) -> int:
    for index, port in enumerate(ports):
        if name in port.get_names():
            return index
    raise BackendError(f"the network has no port {name}; write it with engine.runtime")


def _dtype(port: Any) -> torch.dtype:
    return _DTYPES[port.get_element_type().get_type_name()]


def _compile(model: Any, arithmetic: str, threads: int) -> Any:
    core = import_openvino().Core()
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # A pinned thread waits for whatever else runs on its core, with another core idle beside it.
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": arithmetic,
    }
    try:
        return core.compile_model(model if arithmetic == "f32" else keep_warps_exact(model), "CPU", hints)
    except failures() as error:
        raise BackendError(f"openvino cannot run this network: {first_line(error)}") from error
