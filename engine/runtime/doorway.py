"""``compile(module, example_inputs) -> Runner``: shapes are fixed once, then only calls remain."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, Protocol

from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.eager import EagerRunner
from engine.runtime.openvino import OpenVINORunner

__all__ = ["BACKENDS", "Precision", "Runner", "available_backends", "compile"]

BACKENDS: tuple[str, ...] = ("eager", "openvino")
Precision = Literal["f32", "bf16"]


class Runner(Protocol):
    """A network ready to run. Calls take tensors of exactly the example's shapes and dtypes."""

    backend: str
    reason: str
    """Why this backend runs: chosen by name, or what ``auto`` found."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """New output tensors, which later calls leave alone."""
        ...


def available_backends() -> dict[str, str | None]:
    """Each backend with None where it can run here, or the reason why it cannot."""
    missing = (
        None if find_spec("openvino") else "the openvino package is not installed (pip install openvino)"
    )
    return {"eager": None, "openvino": missing}


def compile(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    backend: str = "auto",
    precision: Precision = "f32",
) -> Runner:
    """Prepare ``module`` for inputs shaped like ``example_inputs``.

    ``auto`` takes OpenVINO for networks on the CPU where it is installed and can read the network,
    else eager torch, and says why in ``reason``. ``precision`` is the arithmetic of OpenVINO's
    kernels; bf16 needs a CPU with bf16 instructions to be faster. Eager runs the module as it is.

    Raises:
        BackendError: a named backend that is unknown, not installed or cannot run this network.
    """
    examples = tuple(example_inputs)
    reasons = available_backends()
    if backend == "auto":
        return _automatic(module, examples, precision, reasons["openvino"])
    if backend not in BACKENDS:
        raise BackendError(f"no runtime {backend!r} here; available: {_usable(reasons)}")
    if reasons[backend] is not None:
        raise BackendError(
            f"runtime {backend!r} cannot run: {reasons[backend]}; available: {_usable(reasons)}"
        )
    if backend == "eager":
        if precision != "f32":
            raise BackendError("eager runs the module in its own dtype; convert the module for bf16")
        return EagerRunner(module, examples, "chosen by name")
    return OpenVINORunner(module, examples, precision, "chosen by name")


def _usable(reasons: dict[str, str | None]) -> str:
    return ", ".join(name for name, reason in reasons.items() if reason is None)


def _automatic(
    module: nn.Module, examples: tuple[Tensor, ...], precision: Precision, missing: str | None
) -> Runner:
    device = examples[0].device.type if examples else "cpu"
    if device != "cpu":
        return EagerRunner(module, examples, f"auto: the network is on {device}, where openvino does not run")
    if missing is not None:
        return EagerRunner(module, examples, f"auto: {missing}")
    try:
        return OpenVINORunner(module, examples, precision, "auto: CPU network and openvino is installed")
    except BackendError as error:
        return EagerRunner(module, examples, f"auto: {error}")
