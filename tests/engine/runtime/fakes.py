"""CUDA and TensorRT without a GPU: they record every call and refuse what the real ones forbid.

:class:`FakeCuda` queues work and runs it only when something waits for it, so that a result that is
read too early is wrong, as on a GPU. :class:`FakeTensorRT` has the signatures of the Python API and
runs an engine's ONNX model by onnxruntime on the memory at the addresses it was given.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.runtime.cuda_api import Capture

__all__ = ["FakeCuda", "FakeTensorRT"]

Work = Callable[[], None]


class FakeCuda:
    """A :class:`engine.runtime.cuda_api.CudaApi` on host memory; stream 0 is the caller's."""

    def __init__(self, name: str = "Fake GPU sm_90 driver 13000", updates: bool = True) -> None:
        self.calls: list[str] = []
        self.alive: set[int] = set()
        self._name = name
        self._updates = updates
        self._next = 1
        self._queues: dict[int, list[Work]] = {0: []}
        self._events: dict[int, tuple[int, int] | None] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._executables: dict[int, list[Work]] = {}
        self._capturing: list[Work] | None = None
        self._current = 0
        # By address; kept alive, so that no host tensor takes the address later.
        self._device: dict[int, Tensor] = {}
        self._pinned: dict[int, Tensor] = {}

    def enter(self) -> None:
        pass

    def stream(self) -> int:
        handle = self._handle("stream")
        self._queues[handle] = []
        return handle

    def current_stream(self) -> int:
        return self._current

    def event(self) -> int:
        handle = self._handle("event")
        self._events[handle] = None
        return handle

    def record(self, event: int, stream: int) -> None:
        self._outside("record")
        self._events[event] = (stream, len(self._queues[stream]))

    def wait(self, stream: int, event: int) -> None:
        self._outside("wait")
        marker = self._events[event]
        assert marker is not None, "waits for an event that was never recorded"
        self.queue(stream, lambda: self._run(*marker))

    def synchronize(self, event: int) -> None:
        self._outside("synchronize")
        marker = self._events[event]
        assert marker is not None, "waits for an event that was never recorded"
        self._run(*marker)

    def device_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        self._outside("device_tensor")
        return self.on_device(torch.zeros(tuple(shape), dtype=dtype))

    def pinned_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        self._outside("pinned_tensor")
        value = torch.zeros(tuple(shape), dtype=dtype)
        self._pinned[value.data_ptr()] = value
        return value

    def on_host(self, value: Tensor) -> bool:
        return value.data_ptr() not in self._device

    def is_pinned(self, value: Tensor) -> bool:
        return value.data_ptr() in self._pinned

    def device_name(self) -> str:
        return self._name

    def copy(self, target: Tensor, source: Tensor, stream: int) -> None:
        self.calls.append("copy")
        assert target.dtype == source.dtype
        assert target.shape == source.shape
        for value in (target, source):
            assert value.is_contiguous(), "copies bytes of strided tensors"
            reachable = value.data_ptr() in self._device or value.data_ptr() in self._pinned
            assert reachable, "an asynchronous copy of pageable memory"

        def work() -> None:
            target.copy_(source)

        self.queue(stream, work)

    def run(self, work: Work, stream: int) -> None:
        self._outside("run")
        with self._on(stream):
            work()

    def capture(self, work: Work, stream: int) -> Capture:
        self._outside("capture")
        assert stream != 0, "the default stream cannot be captured"
        self._capturing = []
        with self._on(stream):
            work()
        recorded, self._capturing = self._capturing, None
        assert recorded, "nothing was captured"
        handle = self._handle("graph")
        self._graphs[handle] = recorded
        return Capture(handle, recorded)

    def instantiate(self, capture: Capture) -> int:
        self._outside("instantiate")
        handle = self._handle("executable")
        self._executables[handle] = self._graphs[capture.graph]
        return handle

    def update(self, executable: int, capture: Capture) -> bool:
        self._outside("update")
        new = self._graphs[capture.graph]
        if not self._updates or len(new) != len(self._executables[executable]):
            return False
        self._executables[executable] = new
        return True

    def launch(self, executable: int, stream: int) -> None:
        self._outside("launch")
        for work in self._executables[executable]:
            self.queue(stream, work)

    def release(self, streams: Sequence[int], events: Sequence[int], executables: Sequence[int]) -> None:
        for handle in (*streams, *events, *executables):
            assert handle in self.alive, f"{handle} is released twice"
            self.alive.remove(handle)

    # What tests and the fake TensorRT use.

    def on_device(self, value: Tensor) -> Tensor:
        """Call this tensor's memory device memory."""
        self._device[value.data_ptr()] = value
        return value

    def queue(self, stream: int, work: Work) -> None:
        """Do ``work`` on ``stream``: later, or never while it is captured."""
        if self._capturing is not None:
            assert stream == self._current, "work on another stream during capture"
            self._capturing.append(work)
            return
        self._queues[stream].append(work)
        if stream == 0:
            self._run(0, len(self._queues[0]))

    def kernel(
        self, function: Callable[..., tuple[Tensor, ...]]
    ) -> Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]:
        """A body for a graph runner: ``function`` of tensors as queued work on the stream in force."""

        def body(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            with torch.no_grad():
                outputs = tuple(self.on_device(torch.full_like(v, -7)) for v in function(*inputs))

            def work() -> None:
                with torch.no_grad():
                    for target, value in zip(outputs, function(*inputs), strict=True):
                        target.copy_(value)

            self.queue(self._current, work)
            return outputs

        return body

    def _handle(self, kind: str) -> int:
        self._outside(kind)
        self._next += 1
        if kind != "graph":
            self.alive.add(self._next)
        return self._next

    def _outside(self, name: str) -> None:
        assert self._capturing is None, f"{name} during capture"
        self.calls.append(name)

    def _run(self, stream: int, end: int) -> None:
        queue = self._queues[stream]
        for index in range(min(end, len(queue))):
            work, queue[index] = queue[index], _nothing
            work()

    @contextlib.contextmanager
    def _on(self, stream: int) -> Iterator[None]:
        self._current, before = stream, self._current
        try:
            yield
        finally:
            self._current = before


def _nothing() -> None:
    pass


class FakeTensorRT:
    """The parts of the tensorrt module that an engine's life needs, in the order it allows."""

    def __init__(self, cuda: FakeCuda, version: str = "10.13.3.9") -> None:
        self.__version__ = version
        self.calls: list[str] = []
        self.timings_rejected = False
        self.fail: str | None = None
        self._cuda = cuda
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.TensorIOMode = SimpleNamespace(NONE=0, INPUT=1, OUTPUT=2)
        names = ("FLOAT", "HALF", "BF16", "INT64", "INT32", "INT8", "UINT8", "BOOL")
        self.DataType = SimpleNamespace(**{name: f"DataType.{name}" for name in names})
        self.Logger = _Logger
        self.Builder = lambda logger: _Builder(self, logger)
        self.OnnxParser = lambda network, logger: _Parser(self, network, logger)
        self.Runtime = lambda logger: _Runtime(self, logger)

    def note(self, call: str) -> bool:
        """Record a call; whether it succeeds."""
        self.calls.append(call)
        return self.fail != call


class _Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        assert severity == self.WARNING


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << 1, "the network is not strongly typed"
        self.onnx: bytes | None = None


class _Config:
    def __init__(self, fake: FakeTensorRT) -> None:
        self._fake = fake
        self.timings: bytes | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "workspace"
        assert size > 0

    def clear_flag(self, flag: str) -> None:
        self._fake.note(f"clear {flag}")

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        self._fake.note("create_timing_cache" if serialized_timing_cache else "new_timing_cache")
        return SimpleNamespace(data=serialized_timing_cache, serialize=lambda: bytearray(b"timings"))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if self._fake.timings_rejected and cache.data:
            return False
        self.timings = cache.data
        return True


class _Builder:
    def __init__(self, fake: FakeTensorRT, logger: _Logger) -> None:
        self._fake = fake

    def create_network(self, flags: int) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config(self._fake)

    def build_serialized_network(self, network: _Network, config: _Config) -> bytearray | None:
        assert network.onnx is not None, "builds an empty network"
        assert config.timings is not None, "builds without a timing cache"
        return bytearray(b"PLAN" + network.onnx) if self._fake.note("build") else None


class _Parser:
    num_errors = 1

    def __init__(self, fake: FakeTensorRT, network: _Network, logger: _Logger) -> None:
        self._fake = fake
        self._network = network

    def parse(self, model: bytes) -> bool:
        self._network.onnx = model
        return self._fake.note("parse")

    def get_error(self, index: int) -> Any:
        assert index < self.num_errors
        return SimpleNamespace(desc=lambda: "no importer for GridSample")


class _Runtime:
    def __init__(self, fake: FakeTensorRT, logger: _Logger) -> None:
        self._fake = fake

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> _Engine | None:
        assert serialized_engine.startswith(b"PLAN")
        return _Engine(self._fake, serialized_engine[4:]) if self._fake.note("deserialize") else None


class _Engine:
    def __init__(self, fake: FakeTensorRT, onnx: bytes) -> None:
        import onnxruntime

        self._fake = fake
        self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        # Outputs first and backwards: nothing promises the order of the export.
        outputs = list(reversed(self.session.get_outputs()))
        self._ports = {port.name: port for port in [*outputs, *self.session.get_inputs()]}
        self._outputs = {port.name for port in outputs}
        self.num_io_tensors = len(self._ports)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._ports)[index])

    def get_tensor_mode(self, name: str) -> int:
        return 2 if name in self._outputs else 1

    def get_tensor_dtype(self, name: str) -> str:
        kind: str = self._ports[name].type
        return {"tensor(float)": "DataType.FLOAT", "tensor(int64)": "DataType.INT64"}[kind]

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        shape: list[int] = self._ports[name].shape
        return shape

    def create_execution_context(self) -> _Context | None:
        return _Context(self._fake, self) if self._fake.note("create_execution_context") else None


class _Context:
    def __init__(self, fake: FakeTensorRT, engine: _Engine) -> None:
        self._fake = fake
        self._engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory > 0
        self._addresses[name] = memory
        return self._fake.note("set_tensor_address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)}
        assert set(self._addresses) == names, "a tensor has no address"
        # A captured execution keeps the addresses of its capture.
        addresses = dict(self._addresses)
        self._fake._cuda.queue(stream_handle, lambda: self._compute(addresses))
        return self._fake.note("execute_async_v3")

    def _compute(self, addresses: dict[str, int]) -> None:
        session = self._engine.session
        feeds = {port.name: self._memory(port.name, addresses) for port in session.get_inputs()}
        names = [port.name for port in session.get_outputs()]
        for name, value in zip(names, session.run(names, feeds), strict=True):
            self._memory(name, addresses)[...] = value

    def _memory(self, name: str, addresses: dict[str, int]) -> Any:
        kinds = {"DataType.FLOAT": np.float32, "DataType.INT64": np.int64}
        dtype = np.dtype(kinds[self._engine.get_tensor_dtype(name)])
        shape = tuple(self._engine.get_tensor_shape(name))
        size = int(np.prod(shape)) * dtype.itemsize
        raw: Any = (ctypes.c_char * size).from_address(addresses[name])
        return np.frombuffer(raw, dtype=dtype).reshape(shape)
