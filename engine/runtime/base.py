"""What all runners share: shape checks, one call in flight at a time, bound outputs."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["InputCheck", "Precision", "Runner", "RunnerBase"]

Precision = Literal["f32", "bf16", "f16", "int8"]


class Runner(Protocol):
    """A network ready to run. Calls take tensors of exactly the example's shapes and dtypes.

    >>> runner.start(motion)          # returns while the network runs ...
    >>> draw_something_else()
    >>> (picture,) = runner.wait()    # ... and this is when its outputs are needed

    One call is in flight at a time; callers in other threads wait for their turn.
    """

    backend: str
    precision: str
    reason: str
    """Why this backend runs: chosen by name, or what ``auto`` found."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """New output tensors, which later calls leave alone (or the bound ones, see ``bind``)."""
        ...

    def start(self, *inputs: Tensor) -> None:
        """Begin a call; the inputs must stay unchanged until ``wait``."""
        ...

    def wait(self) -> tuple[Tensor, ...]:
        """The outputs of the call that ``start`` began.

        Raises:
            RuntimeError: nothing was started.
        """
        ...

    def bind(self, outputs: Sequence[Tensor] | None) -> None:
        """Write the outputs of all later calls into these tensors and return them; None undoes it.

        Raises:
            ValueError: a shape, dtype or device differs from the output's, or is not contiguous.
            RuntimeError: the caller's own call is in flight.
        """
        ...


class InputCheck:
    """Remembers the shapes and dtypes a network was compiled for."""

    def __init__(self, examples: Sequence[tuple[Sequence[int], torch.dtype]]) -> None:
        self._expected = tuple((torch.Size(shape), dtype) for shape, dtype in examples)

    @staticmethod
    def like(tensors: Sequence[Tensor]) -> InputCheck:
        return InputCheck([(value.shape, value.dtype) for value in tensors])

    def __call__(self, inputs: Sequence[Tensor]) -> None:
        """Raises ValueError, with the remedy, where a call does not fit what was compiled."""
        if len(inputs) != len(self._expected):
            raise ValueError(f"compiled for {len(self._expected)} inputs, got {len(inputs)}")
        for index, (value, (shape, dtype)) in enumerate(zip(inputs, self._expected, strict=True)):
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(
                    f"input {index} is {value.dtype} {list(value.shape)}, compiled for {dtype} "
                    f"{list(shape)}; compile again for another shape"
                )


class RunnerBase(ABC):
    """Turns ``_begin`` and ``_finish`` of a backend into a :class:`Runner`."""

    backend = "?"

    def __init__(self, check: InputCheck, precision: str, reason: str) -> None:
        self.precision = precision
        self.reason = reason
        self._check = check
        self._bound: tuple[Tensor, ...] | None = None
        self._busy = threading.Lock()
        self._owner: int | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._take(inputs)
        try:
            return self._run(inputs)
        finally:
            self._release()

    def start(self, *inputs: Tensor) -> None:
        self._take(inputs)
        try:
            self._begin(inputs)
        except BaseException:
            self._release()
            raise

    def wait(self) -> tuple[Tensor, ...]:
        if self._owner is None:
            raise RuntimeError("wait() without start()")
        try:
            return self._finish()
        finally:
            self._release()

    def bind(self, outputs: Sequence[Tensor] | None) -> None:
        bound = None if outputs is None else tuple(outputs)
        if self._owner == threading.get_ident():
            raise RuntimeError("bind() between start() and wait(): outputs are fixed while a call runs")
        with self._busy:
            if bound is not None:
                self._check_outputs(bound)
            self._bind(bound)
            self._bound = bound

    def _take(self, inputs: tuple[Tensor, ...]) -> None:
        """Check the inputs and wait for the runner to be free."""
        self._check(inputs)
        if self._owner == threading.get_ident():
            raise RuntimeError("start() again before wait(): one call is in flight at a time")
        self._busy.acquire()
        self._owner = threading.get_ident()

    def _release(self) -> None:
        self._owner = None
        self._busy.release()

    def _check_outputs(self, outputs: tuple[Tensor, ...]) -> None:
        expected = self._output_like()
        if len(outputs) != len(expected):
            raise ValueError(f"the network has {len(expected)} outputs, got {len(outputs)} to bind")
        for index, (value, like) in enumerate(zip(outputs, expected, strict=True)):
            same = value.shape == like.shape and value.dtype == like.dtype and value.device == like.device
            if not same or not value.is_contiguous():
                raise ValueError(
                    f"output {index} cannot be bound: give a contiguous {like.dtype} {list(like.shape)} "
                    f"on {like.device}, not {value.dtype} {list(value.shape)} on {value.device}"
                )

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The whole call, for a caller that has nothing else to do meanwhile."""
        self._begin(inputs)
        return self._finish()

    @abstractmethod
    def _begin(self, inputs: tuple[Tensor, ...]) -> None:
        """Start the work."""

    @abstractmethod
    def _finish(self) -> tuple[Tensor, ...]:
        """Wait for the work; new tensors, or the bound ones."""

    @abstractmethod
    def _output_like(self) -> tuple[Tensor, ...]:
        """Tensors with the outputs' shapes, dtypes and device (their values mean nothing)."""

    @abstractmethod
    def _bind(self, outputs: tuple[Tensor, ...] | None) -> None:
        """Prepare to write into ``outputs``, which have been checked."""
