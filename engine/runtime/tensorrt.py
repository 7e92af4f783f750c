"""TensorRT: a torch module exported to ONNX, built into an engine once per machine, captured.

The network is strongly typed: every tensor has the type that the export gave it (convolutions and
matrix products in f16, warps and normalisations in f32), and the builder chooses only how to compute
it. Engines and the timings of their kernels are kept in the user's cache. An engine's key is made of
the network, the GPU, its compute capability, the driver and TensorRT's version, because an engine is
of use on exactly such a machine.

Written against TensorRT's Python API of 10.12 and later (in 11 all networks are strongly typed, and
the flag that asks for it is accepted and ignored).
"""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.config import cache_dir
from engine.errors import BackendError
from engine.runtime.cuda_api import CudaApi, CudaBindings
from engine.runtime.cuda_graph import GraphRunner, device_of
from engine.runtime.onnx_export import check_onnx, export_onnx
from engine.runtime.precision import mixed

__all__ = ["Engine", "build_plan", "cached_plan", "network_engine", "tensorrt_runner"]

_WORKSPACE = 1 << 30
_TOLERANCE = {"f32": (1e-3, 1e-3), "f16": (2e-2, 2e-2)}
"""Absolute and relative: how far the exported network may be from the f32 module."""

_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


def tensorrt_runner(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    precision: str,
    reason: str,
    *,
    trt: Any = None,
    api: CudaApi | None = None,
) -> GraphRunner:
    """``module`` as a TensorRT engine behind a CUDA graph; the first call on a machine takes minutes.

    Args:
        trt: the tensorrt module; imported where None.
        api: CUDA; the device of the examples where None.

    Raises:
        BackendError: a package is missing, the network cannot be exported or built, or the exported
            network does not compute what ``module`` computes.
    """
    trt = trt or _import_tensorrt()
    api = api or CudaBindings(device_of(examples))
    engine = network_engine(module, examples, precision, api, trt=trt)
    return GraphRunner(api, engine, examples, precision, reason, backend="tensorrt")


def network_engine(
    module: nn.Module, examples: tuple[Tensor, ...], precision: str, api: CudaApi, *, trt: Any = None
) -> Engine:
    """``module`` as an engine, which is the work of a graph or of a part of one.

    Raises:
        BackendError: as :func:`tensorrt_runner`.
    """
    trt = trt or _import_tensorrt()
    return Engine(trt, api, cached_plan(trt, api, _onnx(module, examples, precision)))


def build_plan(trt: Any, onnx: bytes, timings: bytes) -> tuple[bytes, bytes]:
    """The serialised engine of an ONNX model, and the timing cache with what was learned.

    Args:
        timings: an earlier timing cache of the same device and version, or nothing.

    Raises:
        BackendError: TensorRT cannot read or build the network.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        errors = "; ".join(str(parser.get_error(k).desc()) for k in range(parser.num_errors))
        raise BackendError(f"tensorrt cannot read this network: {errors or 'no reason given'}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)  # f32 is f32
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):
        # Another version's or another device's: begin anew.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError("tensorrt cannot build this network; its log says why")
    return bytes(plan), bytes(cache.serialize())


class Engine:
    """A deserialised engine; calling it queues it on the stream in force.

    Outputs are allocated once: the addresses that the first call sets are the engine's for good,
    so that a captured call can be replayed.

    Raises:
        BackendError: the plan does not fit this machine, or an execution cannot be queued.
    """

    def __init__(self, trt: Any, api: CudaApi, plan: bytes) -> None:
        self._api = api
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError("tensorrt cannot load this engine on this machine; its log says why")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError("tensorrt has not enough device memory to run this engine")
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        is_input = {n: self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self._inputs = [name for name in names if is_input[name]]
        # TensorRT may list them in another order than the network returns them.
        outputs = sorted((n for n in names if not is_input[n]), key=lambda n: int(n.removeprefix("output")))
        self._outputs = {name: self._allocate(trt, name) for name in outputs}

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # An input that the network does not use is no input of the engine.
        tensors = {name: inputs[int(name.removeprefix("input"))] for name in self._inputs}
        for name, tensor in (tensors | self._outputs).items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise BackendError(f"tensorrt refuses the memory of {name}")
        if not self._context.execute_async_v3(self._api.current_stream()):
            raise BackendError("tensorrt could not queue the engine; its log says why")
        return tuple(self._outputs.values())

    def _allocate(self, trt: Any, name: str) -> Tensor:
        kind = self._engine.get_tensor_dtype(name)
        dtypes = {getattr(trt.DataType, key): value for key, value in _DTYPES.items()}
        return self._api.device_tensor(tuple(self._engine.get_tensor_shape(name)), dtypes[kind])


def _onnx(module: nn.Module, examples: tuple[Tensor, ...], precision: str) -> bytes:
    """The exported network, proven to compute what the f32 module computes."""
    on_cpu = tuple(value.detach().cpu() for value in examples)
    reference = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        outputs = reference(*on_cpu)
    expected = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    data = export_onnx(mixed(reference, precision, norms=torch.float32), on_cpu, len(expected))
    check_onnx(data, on_cpu, expected, *_TOLERANCE[precision])
    return data


def cached_plan(trt: Any, api: CudaApi, onnx: bytes) -> bytes:
    """The engine of an ONNX model from the user's cache; built, and put there, where it is new.

    Raises:
        BackendError: see :func:`build_plan`.
    """
    machine = f"{api.device_name()} tensorrt {trt.__version__}"
    folder = cache_dir() / "networks"
    path = folder / f"{_key(onnx, machine.encode())}.engine"
    timings = folder / f"{_key(machine.encode())}.timings"
    if path.is_file():
        return path.read_bytes()
    plan, learned = build_plan(trt, onnx, timings.read_bytes() if timings.is_file() else b"")
    _write(timings, learned)
    _write(path, plan)
    return plan


def _key(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _import_tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise BackendError(
            f"tensorrt cannot be imported ({error}); pip install 'visavis[tensorrt]'"
        ) from error
    return tensorrt
