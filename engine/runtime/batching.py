"""Rows of several sessions in one call: which rows go now, and how they share a captured batch.

The policy is pure. It is given the waiting rows, what each batch size costs and the time, and says
what to run; who asks, and when, is :mod:`streaming.batcher`'s business.

* A batch is finished for all its rows at once, so the most urgent row limits how many others may
  ride with it. Rows go in the order of their deadlines.
* A row that cannot be on time even alone is named late at once: its session draws something cheaper,
  and nobody waits for it.
* Sizes 1, 2, 4, 8 … are compiled. Padding repeats a real row, and its results are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.runtime.base import InputCheck, Runner

__all__ = ["BatchPlan", "BatchRunner", "Costs", "WaitingRow", "plan_batch", "power_sizes"]


@dataclass(frozen=True, order=True)
class WaitingRow:
    """One row: the most urgent first, and of equally urgent ones the older."""

    deadline_ns: int
    arrival_ns: int
    ticket: int


@dataclass(frozen=True)
class BatchPlan:
    """What to do now.

    Attributes:
        run: tickets of the rows to run together, at most ``size`` of them; empty: nothing yet.
        size: the compiled batch size to run them in.
        late: tickets of rows that can no longer be on time.
        wake_ns: when to ask again where nothing new arrives; None: not before something does.
    """

    run: tuple[int, ...]
    size: int
    late: tuple[int, ...]
    wake_ns: int | None


class Costs:
    """How long a call takes at each compiled size, in nanoseconds; learns from what it observes.

    A size whose estimate a hiccup has raised would not be chosen again and so never be corrected:
    estimates that nothing confirms go back to the initial ones (:meth:`relax`).

    Args:
        initial: per size; measured while warming up.
        weight: of a new observation that is lower than the estimate. Higher ones count four times
            as much: a row that is late is worse than a row that rides alone.
    """

    def __init__(self, initial: Mapping[int, int], weight: float = 0.1) -> None:
        if not initial or any(size < 1 for size in initial):
            raise ValueError(f"costs need positive batch sizes, got {sorted(initial)}")
        self.sizes = tuple(sorted(initial))
        self._initial = {size: float(initial[size]) for size in self.sizes}
        self._estimates = dict(self._initial)
        self._weight = weight

    def size_for(self, rows: int) -> int:
        """The smallest compiled size that holds ``rows``."""
        for size in self.sizes:
            if size >= rows:
                return size
        raise ValueError(f"{rows} rows do not fit the largest batch of {self.sizes[-1]}")

    def of(self, rows: int) -> int:
        """Nanoseconds of a call with so many rows."""
        return round(self._estimates[self.size_for(rows)])

    def observe(self, size: int, spent_ns: int) -> None:
        """A call at ``size`` took so long; one hiccup counts as at most four calls' time."""
        old = self._estimates[size]
        weight = self._weight if spent_ns < old else min(1.0, 4 * self._weight)
        self.relax(self._weight / 4, but=size)
        self._estimates[size] = old + weight * (min(spent_ns, 4 * old) - old)

    def relax(self, weight: float | None = None, but: int | None = None) -> None:
        """Move raised estimates, except that of size ``but``, towards the initial ones."""
        share = self._weight if weight is None else weight
        for size, old in self._estimates.items():
            if size != but and old > self._initial[size]:
                self._estimates[size] = old + share * (self._initial[size] - old)


def power_sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4, 8 … and ``largest``."""
    if largest < 1:
        raise ValueError(f"the largest batch must hold a row, got {largest}")
    sizes = {largest}
    size = 1
    while size < largest:
        sizes.add(size)
        size *= 2
    return tuple(sorted(sizes))


def plan_batch(
    waiting: Iterable[WaitingRow], costs: Costs, now_ns: int, patience_ns: int = 0, guard_ns: int = 0
) -> BatchPlan:
    """Which rows go now.

    1. Rows that would be late alone are set aside.
    2. Of all sizes with which the most urgent row is on time, the one that lets most of the waiting
       rows be on time is taken; of several, the one that ends all of them soonest; then the larger.
    3. Where the batch is not full, it waits for company until its oldest row has waited
       ``patience_ns``, or until it must start to be on time.

    Args:
        guard_ns: how long before its deadline a row must be finished.
    """
    rows = sorted(waiting)
    late = [row for row in rows if now_ns + costs.of(1) + guard_ns > row.deadline_ns]
    rows = rows[len(late) :]  # the order is that of the deadlines
    tickets = tuple(row.ticket for row in late)
    if not rows:
        return BatchPlan((), 0, tickets, None)
    count = _best_count(rows, costs, now_ns, guard_ns)
    chosen = rows[:count]
    latest = chosen[0].deadline_ns - guard_ns - costs.of(count)
    wake = min(latest, min(row.arrival_ns for row in chosen) + patience_ns)
    if count < costs.sizes[-1] and count == len(rows) and wake > now_ns:
        return BatchPlan((), 0, tickets, wake)
    return BatchPlan(tuple(row.ticket for row in chosen), costs.size_for(count), tickets, None)


def _best_count(rows: Sequence[WaitingRow], costs: Costs, now_ns: int, guard_ns: int) -> int:
    """How many of ``rows`` to run first."""
    best: tuple[int, int, int] | None = None
    for count in _feasible(rows, costs, now_ns, guard_ns):
        met, end = _simulate(rows, count, costs, now_ns, guard_ns)
        score = (met, -end, count)
        best = score if best is None else max(best, score)
    assert best is not None, "a row that is not late is feasible alone"
    return best[2]


def _feasible(rows: Sequence[WaitingRow], costs: Costs, now_ns: int, guard_ns: int) -> list[int]:
    """Counts worth trying: full compiled sizes and all rows, with the most urgent row on time."""
    if not rows:
        return []
    fits = min(len(rows), costs.sizes[-1])
    counts = sorted({size for size in costs.sizes if size < fits} | {fits})
    return [n for n in counts if now_ns + costs.of(n) + guard_ns <= rows[0].deadline_ns]


def _simulate(
    rows: Sequence[WaitingRow], count: int, costs: Costs, now_ns: int, guard_ns: int
) -> tuple[int, int]:
    """How many rows are on time if ``count`` go now and then as many as can; and the end of all."""
    met, time, rest = 0, now_ns, list(rows)
    while rest:
        time += costs.of(count)
        met += count
        # What has become hopeless meanwhile is dropped, as it will be.
        rest = [row for row in rest[count:] if time + costs.of(1) + guard_ns <= row.deadline_ns]
        count = max(_feasible(rest, costs, time, guard_ns), default=0)
    return met, time


class BatchRunner:
    """One network compiled at several batch sizes.

    Args:
        build: a runner for a batch size.
        row: example inputs of one row, each [1, …].
        sizes: ascending; the smallest must be 1.

    Raises:
        ValueError: an input that is not one row, or no size for a single row.
    """

    def __init__(self, build: Callable[[int], Runner], row: Sequence[Tensor], sizes: Sequence[int]) -> None:
        if not sizes or sizes[0] != 1:
            raise ValueError(f"a batch of 1 must be among the sizes, got {list(sizes)}")
        if any(value.dim() == 0 or value.shape[0] != 1 for value in row):
            raise ValueError(f"each input is one row [1, …], got {[list(v.shape) for v in row]}")
        self.sizes = tuple(sizes)
        self._check = InputCheck.like(row)
        self._runners = {size: build(size) for size in self.sizes}
        self._inputs = {
            size: tuple(value.repeat(size, *[1] * (value.dim() - 1)) for value in row) for size in self.sizes
        }

    def check(self, row: Sequence[Tensor]) -> None:
        """Raises ValueError where ``row`` is not shaped like the example."""
        self._check(row)

    def run(self, rows: Sequence[Sequence[Tensor]], size: int) -> list[tuple[Tensor, ...]]:
        """The outputs [1, …] of each row, ready to be read on any stream. One call at a time."""
        if not 1 <= len(rows) <= size:
            raise ValueError(f"{len(rows)} rows do not fit a batch of {size}")
        if size == 1:
            return [_settled(self._runners[1](*rows[0]))]
        with torch.no_grad():
            for index, buffer in enumerate(self._inputs[size]):
                for position in range(size):
                    buffer[position].copy_(rows[min(position, len(rows) - 1)][index][0])
        outputs = _settled(self._runners[size](*self._inputs[size]))
        return [tuple(value[k : k + 1] for value in outputs) for k in range(len(rows))]


def _settled(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Wait for outputs on a device: who takes them may work on another stream."""
    if any(value.is_cuda for value in outputs):
        torch.cuda.current_stream().record_event().synchronize()
    return outputs
