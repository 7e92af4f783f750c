"""One network for several sessions: an animator's rows meet in a :class:`~streaming.batcher.Batcher`.

>>> batcher = share_network(pipeline.animator, clock, largest=8)
>>> ...
>>> batcher.close()

Rows can meet only if sessions ask at the same time, so the engine has several threads then
(:class:`EnginePool`); the hub makes both where there is a CUDA device. On the CPU a call of two rows costs
as much as two calls, and one engine thread serves all sessions without either.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from torch import Tensor

from engine.runtime import BatchRunner, Runner, power_sizes
from streaming.batcher import BatchCore, Batcher, DeadlineMissed, measure_costs
from streaming.clock import MS, Clock
from streaming.worker import EngineWorker, Lane

__all__ = ["EnginePool", "Shareable", "SharedRunner", "share_network"]

_WITHIN_NS = 30 * MS
"""A row's deadline after it came, which orders the rows; the lane decides what is too late to be shown."""
_PATIENCE_NS = MS
_LATER_NS = 10_000 * MS


@runtime_checkable
class Shareable(Protocol):
    """An animator whose network can run elsewhere, row by row."""

    def compiled(self, batch: int) -> Runner:
        """The network for so many rows."""
        ...

    def example(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs of a call."""
        ...

    def share(self, runner: Runner | None) -> None:
        """Use ``runner`` for single rows; None undoes it."""
        ...


class SharedRunner:
    """A :class:`~engine.runtime.Runner` of one row; calls of several threads are run together.

    Args:
        batcher: runs them.
        clock: the batcher's.
        like: a runner of the same network, for its names.
    """

    def __init__(self, batcher: Batcher, clock: Clock, like: Runner) -> None:
        self.backend, self.precision = like.backend, like.precision
        self.reason = f"rows of several sessions together; {like.reason}"
        self._batcher = batcher
        self._clock = clock
        self._started = threading.local()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.start(*inputs)
        return self.wait()

    def start(self, *inputs: Tensor) -> None:
        """Each thread has a call of its own in flight."""
        if getattr(self._started, "call", None) is not None:
            raise RuntimeError("start() again before wait(): one call of a thread is in flight at a time")
        self._started.call = (inputs, self._submit(inputs, _WITHIN_NS))

    def wait(self) -> tuple[Tensor, ...]:
        """The outputs [1, ...]; a row that came too late for its deadline is run all the same."""
        if getattr(self._started, "call", None) is None:
            raise RuntimeError("wait() without start()")
        call: tuple[tuple[Tensor, ...], Future[tuple[Tensor, ...]]] = self._started.call
        inputs, future = call
        self._started.call = None
        try:
            return future.result()
        except DeadlineMissed:
            return self._submit(inputs, _LATER_NS).result()

    def bind(self, outputs: Sequence[Tensor] | None) -> None:
        """Outputs of several sessions cannot go to one place: only None is taken.

        Raises:
            ValueError: tensors to bind.
        """
        if outputs is not None:
            raise ValueError("the outputs of shared rows cannot be bound")

    def _submit(self, inputs: tuple[Tensor, ...], within_ns: int) -> Future[tuple[Tensor, ...]]:
        return self._batcher.submit(inputs, self._clock.now_ns() + within_ns)


def share_network(animator: Shareable, clock: Clock, largest: int) -> Batcher:
    """Let all threads that step ``animator`` run its network together, at most ``largest`` rows.

    Compiles the network for 1, 2, 4 ... ``largest`` rows and measures each. Close what it returns after the
    last step.
    """
    row = animator.example(1)
    runners: dict[int, Runner] = {size: animator.compiled(size) for size in power_sizes(largest)}
    together = BatchRunner(runners.__getitem__, row, tuple(runners))
    batcher = Batcher(BatchCore(together, measure_costs(together, row, clock), clock, _PATIENCE_NS))
    animator.share(SharedRunner(batcher, clock, runners[1]))
    return batcher


class EnginePool:
    """Several :class:`~streaming.worker.EngineWorker`; a lane stays with the one it was given to."""

    def __init__(self, clock: Clock, threads: int) -> None:
        self._workers = [EngineWorker(clock) for _ in range(max(1, threads))]
        self._lanes: dict[int, tuple[EngineWorker, Lane]] = {}
        self._changing = threading.Lock()

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def add(self, lane: Lane) -> None:
        """To the thread with the fewest lanes."""
        with self._changing:
            taken = [worker for worker, _ in self._lanes.values()]
            chosen = min(self._workers, key=taken.count)
            self._lanes[id(lane)] = (chosen, lane)
        chosen.add(lane)

    def remove(self, lane: Lane) -> None:
        with self._changing:
            found = self._lanes.pop(id(lane), None)
        if found is not None:
            found[0].remove(lane)

    def wake(self) -> None:
        for worker in self._workers:
            worker.wake()
