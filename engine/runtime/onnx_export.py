"""Networks as ONNX, checked against eager torch by onnxruntime before anything is built from them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import BackendError

__all__ = ["OPSET", "check_onnx", "export_onnx"]

OPSET = 18
"""The oldest that torch's exporter writes: every TensorRT that has strong typing reads it."""


def export_onnx(module: nn.Module, examples: tuple[Tensor, ...], outputs: int) -> bytes:
    """``module`` as an ONNX model of fixed shapes; ports named ``input0`` … and ``output0`` …

    Args:
        outputs: how many tensors the module returns.

    Raises:
        BackendError: the ONNX packages are missing, or torch cannot export this network.
    """
    try:
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise BackendError(
            f"ONNX export needs onnxscript ({error}); pip install 'visavis[tensorrt]'"
        ) from error
    try:
        with torch.no_grad(), _silence():
            program = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=[f"input{k}" for k in range(len(examples))],
                output_names=[f"output{k}" for k in range(outputs)],
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(f"torch cannot export this network to ONNX: {first}") from error
    assert program is not None
    data: bytes = program.model_proto.SerializeToString(deterministic=True)
    return data


def check_onnx(
    data: bytes, examples: tuple[Tensor, ...], expected: tuple[Tensor, ...], atol: float, rtol: float
) -> float:
    """Run ``data`` by onnxruntime on the CPU and compare with ``expected``; the largest difference.

    Raises:
        BackendError: onnxruntime is missing, cannot run the model, or an output differs by more
            than ``atol + rtol · |value|``.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f"the ONNX check needs onnxruntime ({error}); pip install 'visavis[tensorrt]'"
        ) from error
    feeds = {f"input{k}": value.detach().cpu().numpy() for k, value in enumerate(examples)}
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        # Inputs that the network does not use are not part of the exported graph.
        used = {port.name for port in session.get_inputs()}
        found: list[Any] = session.run(None, {k: v for k, v in feeds.items() if k in used})
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise BackendError(f"onnxruntime cannot run the exported network: {error}") from error
    worst = 0.0
    for index, (value, array) in enumerate(zip(expected, found, strict=True)):
        difference = (torch.from_numpy(array).double() - value.detach().cpu().double()).abs()
        allowed = atol + rtol * value.detach().cpu().double().abs()
        # Written so that a NaN, which compares false with everything, is refused too.
        if not bool((difference <= allowed).all()):
            raise BackendError(
                f"the exported network differs from torch: output {index} by {float(difference.max()):.3g}"
            )
        worst = max(worst, float(difference.max()))
    return worst


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints and logs its progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
