"""The reference runtime: the module itself, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.runtime.checks import InputCheck

__all__ = ["EagerRunner"]


class EagerRunner:
    """Calls the module in evaluation mode and returns its outputs as a tuple."""

    backend = "eager"

    def __init__(self, module: nn.Module, examples: tuple[Tensor, ...], reason: str) -> None:
        self.reason = reason
        self._module = module.eval()
        self._check = InputCheck(examples)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._check(inputs)
        with torch.no_grad():
            outputs = self._module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
