"""Shared calls of several sessions: results, deadlines in simulated time, errors, shutdown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from engine.errors import StreamError
from engine.runtime import BatchRunner, Runner, compile
from engine.runtime.batching import Costs
from streaming.batcher import BatchCore, Batcher, DeadlineMissed, measure_costs
from streaming.clock import MS, RealClock, VirtualClock
from tests.engine.runtime.nets import example, warp_net

COSTS = {1: 4 * MS, 2: 5 * MS, 4: 7 * MS}
FAR = 10**18


class _Slow:
    """A runner that doubles its input and takes simulated time; fails where it reads a 13."""

    backend, precision, reason = "test", "f32", "test"

    def __init__(self, size: int, clock: VirtualClock) -> None:
        self._size = size
        self._clock = clock

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._clock._now += COSTS[self._size]
        if bool((inputs[0] == 13).any()):
            raise RuntimeError("unlucky")
        return (2 * inputs[0],)


def _core(clock: VirtualClock, patience_ns: int = 0, costs: Costs | None = None) -> BatchCore:
    build: Callable[[int], Runner] = lambda size: _Slow(size, clock)  # type: ignore  # noqa: E731
    runner = BatchRunner(build, (torch.zeros(1, 1),), tuple(COSTS))
    return BatchCore(runner, costs or Costs(COSTS), clock, patience_ns)


def _row(value: float) -> tuple[Tensor]:
    return (torch.full((1, 1), float(value)),)


def _value(future: Future[tuple[Tensor, ...]]) -> float:
    return float(future.result(0)[0])


def test_rows_share_a_call_and_each_gets_its_own_result() -> None:
    clock = VirtualClock()
    core = _core(clock)
    futures = [core.submit(_row(k), 40 * MS) for k in range(3)]
    core.step()
    assert [_value(future) for future in futures] == [0, 2, 4]
    assert clock.now_ns() == COSTS[4]
    assert core.stats.calls == {4: 1}
    assert core.stats.padding == 1
    assert core.step() is None


def test_deadlines_decide_the_order_not_the_arrival() -> None:
    clock = VirtualClock()
    core = _core(clock)
    relaxed = [core.submit(_row(k), 30 * MS) for k in range(3)]
    urgent = core.submit(_row(9), 5 * MS)
    core.step()
    assert _value(urgent) == 18
    assert sum(future.done() for future in relaxed) == 1
    core.step()
    assert all(future.done() for future in relaxed)
    assert clock.now_ns() <= 30 * MS


def test_a_row_that_cannot_be_on_time_fails_at_once() -> None:
    clock = VirtualClock()
    core = _core(clock)
    hopeless, fine = core.submit(_row(1), 3 * MS), core.submit(_row(2), 40 * MS)
    core.step()
    with pytest.raises(DeadlineMissed):
        hopeless.result(0)
    assert _value(fine) == 4
    assert core.stats.late == 1
    assert clock.now_ns() == COSTS[1]


def test_a_hiccup_does_not_make_every_later_row_late() -> None:
    clock = VirtualClock()
    costs = Costs(COSTS)
    core = _core(clock, costs=costs)
    for _ in range(3):
        costs.observe(1, 400 * MS)
    assert costs.of(1) > 10 * MS
    late = 0
    for _ in range(50):
        future = core.submit(_row(1), clock.now_ns() + 10 * MS)
        core.step()
        late += isinstance(future.exception(0), DeadlineMissed)
        clock._now += 40 * MS
    assert 0 < late < 40
    assert future.exception(0) is None


def test_an_error_reaches_only_the_row_it_belongs_to() -> None:
    core = _core(VirtualClock())
    futures = [core.submit(_row(value), FAR) for value in (1, 13, 3)]
    core.step()
    assert _value(futures[0]) == 2
    assert _value(futures[2]) == 6
    with pytest.raises(RuntimeError, match="unlucky"):
        futures[1].result(0)
    with pytest.raises(ValueError, match="compile again"):
        core.submit((torch.zeros(2, 1),), FAR)
    assert core.stats.failed == 1


def test_a_cancelled_row_is_not_run() -> None:
    core = _core(VirtualClock())
    keep, drop = core.submit(_row(1), FAR), core.submit(_row(2), FAR)
    assert drop.cancel()
    core.step()
    assert _value(keep) == 2
    assert core.stats.calls == {1: 1}
    with pytest.raises(CancelledError):
        drop.result(0)


def test_patience_gathers_company() -> None:
    clock = VirtualClock()
    core = _core(clock, patience_ns=2 * MS)
    first = core.submit(_row(1), 40 * MS)
    assert core.step() == 2 * MS
    assert not first.done()
    second = core.submit(_row(2), 40 * MS)
    clock._now = 2 * MS
    core.step()
    assert first.done()
    assert second.done()
    assert core.stats.calls == {2: 1}


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@torch.no_grad()
def test_many_threads_get_the_results_of_batch_1(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    net, clock = warp_net(), RealClock()
    runner = BatchRunner(lambda n: compile(net, example(batch=n), backend), example(), (1, 2, 4))
    core = BatchCore(runner, measure_costs(runner, example(), clock, repeats=1), clock)
    batcher = Batcher(core)
    gate = threading.Barrier(6)

    def session(first: int) -> list[tuple[int, tuple[Tensor, ...]]]:
        gate.wait(10)
        return [(k, batcher.submit(example(k), FAR).result(30)) for k in range(first, 60, 6)]

    with ThreadPoolExecutor(6) as pool:
        results = [pair for part in pool.map(session, range(6)) for pair in part]
    batcher.close()
    assert len(results) == 60
    for seed, outputs in results:
        for value, expected in zip(outputs, net(*example(seed)), strict=True):
            torch.testing.assert_close(value, expected, atol=2e-4, rtol=1e-3)
    assert batcher.stats.rows == 60
    assert sum(batcher.stats.calls.values()) < 60  # some shared a call


def test_shutdown_finishes_what_runs_and_fails_what_waits() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            entered.set()
            assert leave.wait(10)
            return x + 1

    clock = RealClock()
    runner = BatchRunner(lambda n: compile(Gate(), (torch.zeros(n, 1),), "eager"), _row(0), (1,))
    batcher = Batcher(BatchCore(runner, Costs({1: 1}), clock))
    running = batcher.submit(_row(1), FAR)
    assert entered.wait(10)
    waiting = batcher.submit(_row(2), FAR)
    closer = threading.Thread(target=batcher.close)
    closer.start()
    with pytest.raises(StreamError, match="closed"):
        waiting.result(10)
    leave.set()
    closer.join(10)
    assert not closer.is_alive()
    assert _value(running) == 2
    with pytest.raises(StreamError, match="closed"):
        batcher.submit(_row(3), FAR)
    batcher.close()  # twice is once
