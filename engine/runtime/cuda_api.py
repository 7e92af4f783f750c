"""The few CUDA calls that a captured network needs, behind one interface.

:class:`CudaBindings` makes them through cuda-python (streams, events, copies, graphs) and torch
(memory, capture of torch operations). Streams, events and executable graphs are plain integers, the
handles of the CUDA runtime.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.errors import BackendError

__all__ = ["Capture", "CudaApi", "CudaBindings"]

# Torch's caching allocator knows one capture at a time.
_capturing = threading.Lock()


@dataclass(frozen=True)
class Capture:
    """A recorded graph: its handle, and what owns the memory that the recorded work uses."""

    graph: int
    owner: object = field(repr=False)


class CudaApi(Protocol):
    """What a captured network asks of CUDA. All work is queued; only ``synchronize`` waits."""

    def enter(self) -> None:
        """Make the device current in the calling thread."""
        ...

    def stream(self) -> int:
        """A new stream of the highest priority, which does not wait for the default stream."""
        ...

    def current_stream(self) -> int:
        """The stream on which the calling thread's torch operations run."""
        ...

    def event(self) -> int: ...

    def record(self, event: int, stream: int) -> None:
        """``event`` is all work queued on ``stream`` so far."""
        ...

    def wait(self, stream: int, event: int) -> None:
        """Later work on ``stream`` waits for ``event``; the caller does not."""
        ...

    def synchronize(self, event: int) -> None:
        """The caller waits for ``event``."""
        ...

    def device_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor: ...

    def pinned_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Host memory that the device reads and writes while the host goes on."""
        ...

    def on_host(self, value: Tensor) -> bool: ...

    def is_pinned(self, value: Tensor) -> bool: ...

    def device_name(self) -> str:
        """What compiled code depends on: the GPU, its compute capability, the driver."""
        ...

    def copy(self, target: Tensor, source: Tensor, stream: int) -> None:
        """Queue a copy between contiguous tensors of the same dtype and size."""
        ...

    def run(self, work: Callable[[], None], stream: int) -> None:
        """Queue torch operations on ``stream``."""
        ...

    def capture(self, work: Callable[[], None], stream: int) -> Capture:
        """Record what ``work`` queues on ``stream``, without running it."""
        ...

    def instantiate(self, capture: Capture) -> int: ...

    def update(self, executable: int, capture: Capture) -> bool:
        """Give ``executable`` the addresses of ``capture``; False where the graphs differ in shape."""
        ...

    def launch(self, executable: int, stream: int) -> None: ...

    def release(self, streams: Sequence[int], events: Sequence[int], executables: Sequence[int]) -> None: ...


class CudaBindings:
    """:class:`CudaApi` on a real device.

    Raises:
        BackendError: cuda-python is missing, or any call of CUDA fails.
    """

    def __init__(self, device: int = 0) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise BackendError(
                f"cuda-python cannot be imported ({error}); pip install 'visavis[gpu]'"
            ) from error
        if not torch.cuda.is_available():
            raise BackendError("no CUDA device, or a torch without CUDA")
        self._rt: Any = runtime
        self._device = torch.device("cuda", device)
        # Torch makes the context that all of this shares.
        torch.zeros(1, device=self._device)
        self.enter()

    def enter(self) -> None:
        self._call("cudaSetDevice", self._device.index)

    def stream(self) -> int:
        _, highest = self._call("cudaDeviceGetStreamPriorityRange")
        flags = self._rt.cudaStreamNonBlocking
        return int(self._call("cudaStreamCreateWithPriority", flags, highest)[0])

    def current_stream(self) -> int:
        return int(torch.cuda.current_stream(self._device).cuda_stream)

    def event(self) -> int:
        return int(self._call("cudaEventCreateWithFlags", self._rt.cudaEventDisableTiming)[0])

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def synchronize(self, event: int) -> None:
        self._call("cudaEventSynchronize", event)

    def device_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.zeros(tuple(shape), dtype=dtype, device=self._device)

    def pinned_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.zeros(tuple(shape), dtype=dtype, pin_memory=True)

    def on_host(self, value: Tensor) -> bool:
        return value.device.type == "cpu"

    def device_name(self) -> str:
        major, minor = torch.cuda.get_device_capability(self._device)
        (driver,) = self._call("cudaDriverGetVersion")
        return f"{torch.cuda.get_device_name(self._device)} sm_{major}{minor} driver {driver}"

    def is_pinned(self, value: Tensor) -> bool:
        return value.device.type == "cpu" and value.is_pinned()

    def copy(self, target: Tensor, source: Tensor, stream: int) -> None:
        size = target.numel() * target.element_size()
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaMemcpyAsync", target.data_ptr(), source.data_ptr(), size, kind, stream)

    def run(self, work: Callable[[], None], stream: int) -> None:
        with torch.cuda.stream(self._torch_stream(stream)):
            work()

    def capture(self, work: Callable[[], None], stream: int) -> Capture:
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        ours = self._torch_stream(stream)
        with _capturing, torch.cuda.graph(graph, stream=ours, capture_error_mode="thread_local"):
            work()
        return Capture(int(graph.raw_cuda_graph()), graph)

    def instantiate(self, capture: Capture) -> int:
        return int(self._call("cudaGraphInstantiate", self._rt.cudaGraph_t(capture.graph), 0)[0])

    def update(self, executable: int, capture: Capture) -> bool:
        result, *_ = self._rt.cudaGraphExecUpdate(
            self._rt.cudaGraphExec_t(executable), self._rt.cudaGraph_t(capture.graph)
        )
        return bool(result == self._rt.cudaError_t.cudaSuccess)

    def launch(self, executable: int, stream: int) -> None:
        self._call("cudaGraphLaunch", self._rt.cudaGraphExec_t(executable), stream)

    def release(self, streams: Sequence[int], events: Sequence[int], executables: Sequence[int]) -> None:
        # The process may be ending, and CUDA gone before us: failures here mean nothing.
        for executable in executables:
            self._rt.cudaGraphExecDestroy(self._rt.cudaGraphExec_t(executable))
        for event in events:
            self._rt.cudaEventDestroy(event)
        for stream in streams:
            self._rt.cudaStreamDestroy(stream)

    def _torch_stream(self, stream: int) -> torch.cuda.Stream:
        wrap: Callable[..., torch.cuda.Stream] = torch.cuda.ExternalStream
        return wrap(stream, device=self._device)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        result, *values = getattr(self._rt, name)(*arguments)
        if result != self._rt.cudaError_t.cudaSuccess:
            _, text = self._rt.cudaGetErrorString(result)
            reason = text.decode() if isinstance(text, bytes) else str(text)
            raise BackendError(f"{name} failed: {reason} ({int(result)})")
        return tuple(values)
