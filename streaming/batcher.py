"""Frames of several sessions in shared calls of one network, each by its deadline.

>>> clock = RealClock()
>>> batcher = Batcher(BatchCore(runner, measure_costs(runner, row, clock), clock))
>>> future = batcher.submit((features, motion), deadline_ns)   # from any thread
>>> (picture,) = future.result()
>>> batcher.close()

:mod:`engine.runtime.batching` decides which rows go; this module owns the clock and the thread.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from torch import Tensor

from engine.errors import StreamError
from engine.runtime.batching import BatchRunner, Costs, WaitingRow, plan_batch
from streaming.clock import Clock
from streaming.threads import one_torch_thread

__all__ = ["BatchCore", "BatchStats", "Batcher", "DeadlineMissed", "measure_costs"]

Row = tuple[Tensor, ...]


class DeadlineMissed(StreamError):
    """A row that could not be ready in time; it was not run."""


@dataclass
class BatchStats:
    """What was run: calls per batch size, rows, padding rows, late rows, failed rows."""

    calls: dict[int, int] = field(default_factory=dict)
    rows: int = 0
    padding: int = 0
    late: int = 0
    failed: int = 0


def measure_costs(runner: BatchRunner, row: Row, clock: Clock, repeats: int = 5) -> Costs:
    """The median time of a call at each size, after one that warms up."""
    costs: dict[int, int] = {}
    for size in runner.sizes:
        spent = []
        for _ in range(repeats + 1):
            begin = clock.now_ns()
            runner.run([row] * size, size)
            spent.append(clock.now_ns() - begin)
        costs[size] = round(statistics.median(spent[1:]))
    return Costs(costs)


class BatchCore:
    """The waiting rows, and one step of work; no thread of its own. ``submit`` is thread-safe.

    Args:
        costs: see :func:`measure_costs`.
        patience_ns: how long a row may wait for company where nothing else is to do. 0: never;
            rows still gather while a call runs.
        guard_ns: how long before its deadline a row must be finished.
    """

    def __init__(
        self,
        runner: BatchRunner,
        costs: Costs,
        clock: Clock,
        patience_ns: int = 0,
        guard_ns: int = 0,
    ) -> None:
        self.stats = BatchStats()
        self._arrived = threading.Condition()
        self._runner = runner
        self._costs = costs
        self._clock = clock
        self._patience_ns = patience_ns
        self._guard_ns = guard_ns
        self._tickets = 0
        self._seen = 0
        self._closed = False
        self._waiting: dict[int, tuple[WaitingRow, Row, Future[Row]]] = {}

    def submit(self, inputs: Sequence[Tensor], deadline_ns: int) -> Future[Row]:
        """Ask for one row's outputs, each [1, …], by ``deadline_ns`` on the clock.

        The inputs must stay unchanged until the future is done. A future that is cancelled in time
        is not run.

        Raises:
            ValueError: inputs of other shapes or dtypes than the network was compiled for.
            StreamError: closed.
        """
        row = tuple(inputs)
        self._runner.check(row)
        future: Future[Row] = Future()
        with self._arrived:
            if self._closed:
                raise StreamError("the batcher is closed")
            self._tickets += 1
            waiting = WaitingRow(deadline_ns, self._clock.now_ns(), self._tickets)
            self._waiting[self._tickets] = (waiting, row, future)
            self._arrived.notify()
        return future

    def close(self) -> None:
        """Refuse new rows; those that still wait fail with StreamError."""
        with self._arrived:
            self._closed = True
            left, self._waiting = self._waiting, {}
            self._arrived.notify_all()
        for _, _, future in left.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(StreamError("the batcher was closed"))

    @property
    def closed(self) -> bool:
        return self._closed

    def step(self) -> int | None:
        """Run one batch if one is due.

        Returns:
            When to step again where nothing arrives: now or earlier after a batch; None with nothing
            waiting.
        """
        now = self._clock.now_ns()
        with self._arrived:
            self._seen = self._tickets
            rows = [row for row, _, _ in self._waiting.values()]
            plan = plan_batch(rows, self._costs, now, self._patience_ns, self._guard_ns)
            late = [self._waiting.pop(ticket)[2] for ticket in plan.late]
            chosen = [self._waiting.pop(ticket) for ticket in plan.run]
        if late:  # dropped because of an estimate that nothing will correct if nothing runs
            self._costs.relax()
        for future in late:
            if future.set_running_or_notify_cancel():
                self.stats.late += 1
                future.set_exception(DeadlineMissed("the row could not be ready in time"))
        if not chosen:
            return plan.wake_ns
        self._serve([(row, future) for _, row, future in chosen if future.set_running_or_notify_cancel()])
        return now

    def sleep(self, wake_ns: int | None) -> None:
        """Wait until ``wake_ns``, or until something arrives that the last step has not seen."""
        with self._arrived:
            if self._closed or self._tickets != self._seen:
                return
            left = None if wake_ns is None else (wake_ns - self._clock.now_ns()) / 1e9
            if left is None or left > 0:
                self._arrived.wait(left)

    def _serve(self, batch: list[tuple[Row, Future[Row]]]) -> None:
        if not batch:
            return
        size = self._costs.size_for(len(batch))
        begin = self._clock.now_ns()
        try:
            results = self._runner.run([row for row, _ in batch], size)
        except Exception as error:  # the root of this work: the error goes to the row it belongs to
            self._serve_failed(batch, error)
            return
        self._costs.observe(size, self._clock.now_ns() - begin)
        self.stats.calls[size] = self.stats.calls.get(size, 0) + 1
        self.stats.rows += len(batch)
        self.stats.padding += size - len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _serve_failed(self, batch: list[tuple[Row, Future[Row]]], error: Exception) -> None:
        """One row's error must not reach the others: run each alone."""
        if len(batch) == 1:
            self.stats.failed += 1
            batch[0][1].set_exception(error)
            return
        for single in batch:
            self._serve([single])


class Batcher:
    """One thread that steps a :class:`BatchCore`; used by many sessions."""

    def __init__(self, core: BatchCore, name: str = "visavis-batcher") -> None:
        self._core = core
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def stats(self) -> BatchStats:
        return self._core.stats

    def submit(self, inputs: Sequence[Tensor], deadline_ns: int) -> Future[Row]:
        """See :meth:`BatchCore.submit`."""
        return self._core.submit(inputs, deadline_ns)

    def close(self) -> None:
        """Finish the call that is running, fail what still waits, end the thread."""
        self._core.close()
        self._thread.join()

    def _work(self) -> None:
        one_torch_thread()
        try:
            while not self._core.closed:
                self._core.sleep(self._core.step())
        finally:  # whatever ends this thread, nobody waits for it forever
            self._core.close()
