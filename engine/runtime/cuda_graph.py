"""A network captured once as a CUDA graph: copy in, compute, copy out, in one launch.

Once warm a call allocates nothing on the device, queues one graph, and the host waits for at most
one event. Where all example inputs are on the CPU, inputs and outputs go through pinned memory and
both copies are part of the graph; otherwise outputs stay on the device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.errors import BackendError
from engine.runtime.base import InputCheck, RunnerBase
from engine.runtime.cuda_api import Capture, CudaApi, CudaBindings
from engine.runtime.precision import mixed

__all__ = ["Body", "GraphRunner", "cuda_graph_runner", "device_of", "network_body"]

Body = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Queues a network on the stream in force: static device inputs to contiguous device outputs."""

_WARM_UP = 3


@dataclass(frozen=True)
class _Input:
    """One input's static memory; ``pinned`` is None where it comes from the device."""

    device: Tensor
    pinned: Tensor | None


class GraphRunner(RunnerBase):
    """Any body behind static buffers and one captured graph per shape.

    Args:
        api: CUDA.
        body: see :data:`Body`; it must give the same shapes at every call.
        examples: fix shapes and dtypes; those on the CPU are copied through pinned memory.
    """

    def __init__(
        self,
        api: CudaApi,
        body: Body,
        examples: tuple[Tensor, ...],
        precision: str,
        reason: str,
        backend: str = "cuda_graph",
    ) -> None:
        super().__init__(InputCheck.like(examples), precision, reason)
        self.backend = backend
        self._api = api
        self._body = body
        api.enter()
        self._stream = api.stream()
        self._ready, self._done = api.event(), api.event()
        self._in_flight = False
        self._inputs = [_static(api, value) for value in examples]
        self._to_host = all(api.on_host(value) for value in examples)
        self._pins = any(slot.pinned is not None for slot in self._inputs)
        self._held: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()
        self._hosts: tuple[Tensor, ...] = ()
        self._targets: tuple[Tensor, ...] | None = None
        self._fill(examples)
        self._warm_up()
        self._capture = self._captured()
        self._executable = api.instantiate(self._capture)

    def _fill(self, examples: tuple[Tensor, ...]) -> None:
        """Real values in the static inputs: warming up on zeros may choose other kernels."""
        self._api.record(self._ready, self._api.current_stream())
        self._api.wait(self._stream, self._ready)
        for slot, value in zip(self._inputs, examples, strict=True):
            if slot.pinned is None:
                self._from_device(slot, value)
            else:
                slot.pinned.copy_(value)
                self._api.copy(slot.device, slot.pinned, self._stream)

    def _from_device(self, slot: _Input, value: Tensor) -> None:
        # Held until the copy is over: torch would hand its memory to the caller's next tensor.
        self._held.append(value.contiguous())
        self._api.copy(slot.device, self._held[-1], self._stream)

    def _warm_up(self) -> None:
        statics = tuple(slot.device for slot in self._inputs)

        def work() -> None:
            self._outputs = self._body(statics)

        for _ in range(_WARM_UP):
            self._api.run(work, self._stream)
        self._api.record(self._done, self._stream)
        self._api.synchronize(self._done)
        self._held.clear()
        if self._to_host:
            self._hosts = tuple(self._api.pinned_tensor(v.shape, v.dtype) for v in self._outputs)

    def _captured(self) -> Capture:
        """Record a frame with the output addresses that are in force now."""
        outputs: list[Tensor] = []

        def work() -> None:
            for slot in self._inputs:
                if slot.pinned is not None:
                    self._api.copy(slot.device, slot.pinned, self._stream)
            outputs.extend(self._body(tuple(slot.device for slot in self._inputs)))
            targets = self._targets or (self._hosts if self._to_host else ())
            for target, value in zip(targets, outputs, strict=bool(targets)):
                self._api.copy(target, value, self._stream)

        capture = self._api.capture(work, self._stream)
        self._outputs = tuple(outputs)
        return capture

    def _begin(self, inputs: tuple[Tensor, ...]) -> None:
        self._api.enter()
        if self._in_flight and self._pins:  # its graph may still be reading the pinned inputs
            self._api.synchronize(self._done)
        self._in_flight = False
        # The inputs, and the reader of the last outputs, are on the caller's stream.
        self._api.record(self._ready, self._api.current_stream())
        self._api.wait(self._stream, self._ready)
        for slot, value in zip(self._inputs, inputs, strict=True):
            if slot.pinned is None:
                self._from_device(slot, value)
            else:
                slot.pinned.copy_(value)
        self._api.launch(self._executable, self._stream)
        self._api.record(self._done, self._stream)
        self._in_flight = True

    def _finish(self) -> tuple[Tensor, ...]:
        self._api.enter()
        if not self._to_host:
            self._api.wait(self._api.current_stream(), self._done)
            self._held.clear()
            return self._bound or tuple(value.clone() for value in self._outputs)
        self._api.synchronize(self._done)
        self._in_flight = False
        self._held.clear()
        if self._bound is None:
            return tuple(value.clone() for value in self._hosts)
        if self._targets is None:
            for target, value in zip(self._bound, self._hosts, strict=True):
                target.copy_(value)
        return self._bound

    def _output_like(self) -> tuple[Tensor, ...]:
        return self._hosts if self._to_host else self._outputs

    def _bind(self, outputs: tuple[Tensor, ...] | None) -> None:
        """Let the graph write there itself, where it can reach: new addresses, the same graph."""
        reachable = outputs is not None and (
            not self._to_host or all(self._api.is_pinned(value) for value in outputs)
        )
        targets = outputs if reachable else None
        if targets is None and self._targets is None:
            return
        self._api.enter()
        self._api.synchronize(self._done)
        self._in_flight = False
        self._targets = targets
        capture = self._captured()
        if not self._api.update(self._executable, capture):
            self._api.release((), (), (self._executable,))
            self._executable = self._api.instantiate(capture)
        self._capture = capture

    def __del__(self) -> None:
        if hasattr(self, "_executable"):
            self._api.release((self._stream,), (self._ready, self._done), (self._executable,))


def cuda_graph_runner(
    module: nn.Module, examples: tuple[Tensor, ...], precision: str, reason: str
) -> GraphRunner:
    """``module`` in channels-last order and f32, bf16 or f16 arithmetic as a CUDA graph.

    Raises:
        BackendError: no CUDA, or a network that cannot be captured (it asks the host for values).
    """
    device = device_of(examples)
    api = CudaBindings(device)
    body = network_body(module, f"cuda:{device}", precision)
    try:
        return GraphRunner(api, body, examples, precision, reason)
    except RuntimeError as error:
        raise BackendError(f"cuda_graph cannot capture this network: {error}") from error


def network_body(module: nn.Module, device: str, precision: str) -> Body:
    """A copy of ``module`` on ``device``, channels last, as the work of a graph or of a part of one."""
    network = mixed(copy.deepcopy(module).eval().to(device), precision)
    network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def body(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # TF32 keeps 10 bits of a number: that is not what f32 asks for.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            outputs = network(*(_channels_last(value) for value in inputs))
        listed = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        return tuple(value.contiguous() for value in listed)

    return body


def device_of(examples: Sequence[Tensor]) -> int:
    """The CUDA device of the inputs, or the current one where all of them are on the CPU."""
    for value in examples:
        if value.device.type == "cuda":
            return value.device.index or 0
    return torch.cuda.current_device()


def _static(api: CudaApi, example: Tensor) -> _Input:
    device = api.device_tensor(example.shape, example.dtype)
    on_host = api.on_host(example)
    return _Input(device, api.pinned_tensor(example.shape, example.dtype) if on_host else None)


def _channels_last(value: Tensor) -> Tensor:
    if value.dim() == 4 and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value
