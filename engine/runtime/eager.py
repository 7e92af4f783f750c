"""The reference runtime: the module itself, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.base import InputCheck, RunnerBase
from engine.runtime.precision import mixed

__all__ = ["EagerRunner"]


class EagerRunner(RunnerBase):
    """Calls the module in evaluation mode and returns its outputs as a tuple.

    ``start`` computes at once: torch has no other thread to do it in.

    Raises:
        BackendError: a precision that this device cannot compute.
    """

    backend = "eager"

    def __init__(self, module: nn.Module, examples: tuple[Tensor, ...], precision: str, reason: str) -> None:
        super().__init__(InputCheck.like(examples), precision, reason)
        if precision == "f16" and not _has_f16(examples):
            raise BackendError("eager cannot compute in f16 on this CPU; use bf16 or f32")
        self._module = mixed(module.eval(), precision)
        self._examples = examples
        self._outputs: tuple[Tensor, ...] = ()

    def _begin(self, inputs: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            outputs = self._module(*inputs)
        self._outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)

    def _finish(self) -> tuple[Tensor, ...]:
        outputs, self._outputs = self._outputs, ()
        if self._bound is None:
            return outputs
        for target, value in zip(self._bound, outputs, strict=True):
            target.copy_(value)
        return self._bound

    def _output_like(self) -> tuple[Tensor, ...]:
        self._begin(self._examples)
        outputs, self._outputs = self._outputs, ()
        return outputs

    def _bind(self, outputs: tuple[Tensor, ...] | None) -> None:
        pass


def _has_f16(examples: tuple[Tensor, ...]) -> bool:
    on_cpu = all(value.device.type == "cpu" for value in examples)
    return not on_cpu or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
