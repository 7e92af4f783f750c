"""OpenVINO on the CPU: one thread, fixed shapes, the precision that was asked for.

One thread, because a real-time server gains nothing from two threads that wait for each other
while another process spins.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.checks import InputCheck

__all__ = ["OpenVINORunner"]


class OpenVINORunner:
    """A network traced by torch, compiled by OpenVINO for exactly the example's shapes."""

    backend = "openvino"

    def __init__(self, module: nn.Module, examples: tuple[Tensor, ...], precision: str, reason: str) -> None:
        self.reason = reason
        self._check = InputCheck(examples)
        self._compiled = _compile(module.eval(), examples, precision)
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._check(inputs)
        arrays = [value.detach().contiguous().numpy() for value in inputs]
        # One request holds the activations, so concurrent calls take turns.
        with self._lock:
            results = self._request.infer(arrays, share_inputs=True, share_outputs=True)
            return tuple(torch.from_numpy(results[index].copy()) for index in range(len(results)))


def _failures() -> tuple[type[Exception], ...]:
    """What OpenVINO raises for a network that it cannot read or run."""
    from openvino import frontend

    names = ("GeneralFailure", "InitializationFailure", "NotImplementedFailure", "OpConversionFailure")
    return (
        RuntimeError,
        TypeError,
        ValueError,
        *(getattr(frontend, n) for n in names if hasattr(frontend, n)),
    )


def _compile(module: nn.Module, examples: tuple[Tensor, ...], precision: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"openvino cannot be imported ({error}); pip install openvino") from error
    hints = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    failures = _failures()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(
                module, example_input=examples, input=[list(value.shape) for value in examples]
            )
        return openvino.Core().compile_model(graph, "CPU", hints)
    except failures as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(f"openvino cannot run this network: {first}") from error
