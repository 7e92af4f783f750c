"""The batching policy in simulated time, and rows that share a call with others and with padding."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.runtime import BatchRunner, Runner, compile, power_sizes
from engine.runtime.batching import Costs, WaitingRow, plan_batch
from tests.engine.runtime.nets import example, warp_net

MS = 1_000_000
COSTS = {1: 4 * MS, 2: 5 * MS, 4: 7 * MS, 8: 11 * MS}


def _rows(*deadlines_ms: float, arrival: int = 0) -> list[WaitingRow]:
    return [WaitingRow(round(ms * MS), arrival, k) for k, ms in enumerate(deadlines_ms)]


def test_sizes_are_powers_and_the_largest() -> None:
    assert power_sizes(1) == (1,)
    assert power_sizes(8) == (1, 2, 4, 8)
    assert power_sizes(6) == (1, 2, 4, 6)
    with pytest.raises(ValueError, match="hold a row"):
        power_sizes(0)


def test_all_go_together_where_there_is_time() -> None:
    plan = plan_batch(_rows(40, 41, 42), Costs(COSTS), 0)
    assert plan.run == (0, 1, 2)
    assert plan.size == 4
    assert not plan.late


def test_an_urgent_row_takes_only_as_many_as_it_can() -> None:
    # 6 ms: a batch of 4 takes 7.
    plan = plan_batch(_rows(40, 6, 41, 42), Costs(COSTS), 0)
    assert plan.run == (1, 0)
    assert plan.size == 2


def test_a_hopeless_row_is_late_at_once_and_holds_nobody_up() -> None:
    plan = plan_batch(_rows(3, 40), Costs(COSTS), 0)
    assert plan.late == (0,)
    assert plan.run == (1,)
    assert plan_batch(_rows(4.5), Costs(COSTS), 0, guard_ns=MS).late == (0,)


def test_a_smaller_first_batch_where_it_saves_a_row() -> None:
    # All three together end at 7; the first alone at 4, and the other two together at 9.
    plan = plan_batch(_rows(8, 10, 10), Costs(COSTS), 0)
    assert plan.run == (0, 1, 2)
    # With the first due at 6 they cannot all go together: two now (5), or one now (4) and two later.
    plan = plan_batch(_rows(6, 9.5, 9.5), Costs(COSTS), 0)
    assert len(plan.run) < 3
    assert _simulate_until_empty(_rows(6, 9.5, 9.5), COSTS) == 0


def test_patience_waits_for_company_but_never_too_long() -> None:
    rows = _rows(40, 41)
    plan = plan_batch(rows, Costs(COSTS), 0, patience_ns=3 * MS)
    assert not plan.run
    assert plan.wake_ns == 3 * MS
    assert plan_batch(rows, Costs(COSTS), 3 * MS, patience_ns=3 * MS).run == (0, 1)
    # It must start at 7 to be ready at 12.
    assert plan_batch(_rows(12, 41), Costs(COSTS), 0, patience_ns=30 * MS).wake_ns == 7 * MS
    # A full batch waits for nobody.
    assert len(plan_batch(_rows(*[40] * 9), Costs(COSTS), 0, patience_ns=3 * MS).run) == 8


_DEADLINES = st.lists(st.integers(0, 60), min_size=1, max_size=12)


@given(_DEADLINES, st.integers(0, 10), st.integers(0, 3), st.randoms(use_true_random=False))
def test_laws_of_a_plan(deadlines: list[int], patience: int, guard: int, shuffle: random.Random) -> None:
    rows, costs = _rows(*deadlines), Costs(COSTS)
    plan = plan_batch(rows, costs, 0, patience * MS, guard * MS)
    mixed = rows.copy()
    shuffle.shuffle(mixed)
    assert plan_batch(mixed, costs, 0, patience * MS, guard * MS) == plan
    assert len({*plan.run, *plan.late}) == len(plan.run) + len(plan.late)
    due = {row.ticket: row.deadline_ns - guard * MS for row in rows}
    assert all(due[ticket] < costs.of(1) for ticket in plan.late)
    assert all(costs.of(len(plan.run)) <= due[ticket] for ticket in plan.run)
    left = set(due) - {*plan.run, *plan.late}
    if plan.run:
        assert len(plan.run) <= plan.size in costs.sizes
        assert all(due[a] <= due[b] for a in plan.run for b in left)
    elif left:
        assert plan.wake_ns is not None
        assert 0 < plan.wake_ns <= min(due.values() if not plan.late else (due[k] for k in left))


def _simulate_until_empty(rows: list[WaitingRow], costs: dict[int, int]) -> int:
    """How many rows are late where nothing else arrives."""
    now, late, waiting = 0, 0, {row.ticket: row for row in rows}
    while waiting:
        plan = plan_batch(waiting.values(), Costs(costs), now)
        late += len(plan.late)
        for ticket in (*plan.run, *plan.late):
            row = waiting.pop(ticket)
            assert ticket in plan.late or now + costs[plan.size] <= row.deadline_ns
        now += costs[plan.size] if plan.run else 0
    return late


@pytest.mark.parametrize(
    ("sessions", "batched", "on_time"), [(8, True, True), (12, True, True), (12, False, False)]
)
def test_sessions_at_25_frames_a_second_keep_their_deadlines(
    sessions: int, batched: bool, on_time: bool
) -> None:
    # Alone, twelve sessions would need 48 ms of every 40.
    costs = Costs(COSTS if batched else {1: COSTS[1]})
    noise = random.Random(1)
    phases = [noise.randrange(40 * MS) for _ in range(sessions)]
    arrivals = sorted(phase + 40 * MS * n for phase in phases for n in range(50))
    tickets = itertools.count()
    now, late, waiting = 0, 0, list[WaitingRow]()
    while arrivals or waiting:
        while arrivals and arrivals[0] <= now:
            arrival = arrivals.pop(0)
            waiting.append(WaitingRow(arrival + 40 * MS, arrival, next(tickets)))
        plan = plan_batch(waiting, costs, now)
        late += len(plan.late)
        gone = {*plan.run, *plan.late}
        waiting = [row for row in waiting if row.ticket not in gone]
        if plan.run:
            now += costs.of(len(plan.run))
        elif not waiting and arrivals:
            now = arrivals[0]
    assert (late == 0) is on_time


def test_costs_learn_faster_upwards() -> None:
    costs = Costs({1: 100, 2: 100})
    costs.observe(2, 0)
    costs.observe(1, 200)
    assert costs.of(1) == 140
    assert costs.of(2) == 90
    with pytest.raises(ValueError, match="largest batch"):
        costs.of(3)


def test_a_hiccup_is_forgotten() -> None:
    costs = Costs({1: 100, 2: 150})
    costs.observe(2, 10_000)
    assert costs.of(2) == 150 + 0.4 * 450  # a hiccup counts as four calls
    for _ in range(200):
        costs.observe(1, 100)
    assert costs.of(2) < 160
    costs.observe(1, 10_000)
    for _ in range(60):  # nothing runs
        costs.relax()
    assert costs.of(1) == 100


def _batched(backend: str, sizes: tuple[int, ...]) -> BatchRunner:
    net = warp_net()

    def build(size: int) -> Runner:
        return compile(net, example(batch=size), backend)

    return BatchRunner(build, example(), sizes)


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@torch.no_grad()
def test_rows_equal_those_of_batch_1(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    runner, net = _batched(backend, (1, 4)), warp_net()
    rows = [example(seed) for seed in range(4)]
    for count in (1, 2, 3, 4):
        for row, outputs in zip(rows[:count], runner.run(rows[:count], 4), strict=True):
            for value, expected in zip(outputs, net(*row), strict=True):
                assert value.shape == expected.shape
                torch.testing.assert_close(value, expected, atol=2e-4, rtol=1e-3)
    backwards = runner.run(rows[::-1], 4)[::-1]
    for one, other in zip(runner.run(rows, 4), backwards, strict=True):
        torch.testing.assert_close(one[0], other[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_never_changes_real_rows() -> None:
    seen: list[tuple[Tensor, ...]] = []

    class Spy:
        backend, precision, reason = "eager", "f32", "test"

        def __init__(self, size: int) -> None:
            self._runner = compile(warp_net(), example(batch=size), "eager")

        def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            seen.append(tuple(value.clone() for value in inputs))
            return self._runner(*inputs)

    build: Callable[[int], Runner] = Spy  # type: ignore[assignment]
    runner = BatchRunner(build, example(), (1, 4))
    rows = [example(5), example(6)]
    padded = runner.run(rows, 4)
    assert all(bool(torch.isfinite(value).all()) for value in seen[0])
    # The same call with the rudest padding: the real rows are bit for bit the same.
    rude = tuple(value.clone() for value in seen[0])
    for value in rude:
        value[2:] = torch.nan
    outputs = compile(warp_net(), example(batch=4), "eager")(*rude)
    for k in range(2):
        assert torch.equal(outputs[0][k : k + 1], padded[k][0])


def test_what_is_not_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="one row"):
        BatchRunner(lambda size: compile(warp_net(), example(), "eager"), example(batch=2), (1,))
    with pytest.raises(ValueError, match="batch of 1"):
        BatchRunner(lambda size: compile(warp_net(), example(), "eager"), example(), (2, 4))
    runner = _batched("eager", (1, 2))
    with pytest.raises(ValueError, match="do not fit"):
        runner.run([example()] * 3, 2)
    with pytest.raises(ValueError, match="compile again"):
        runner.check(example(batch=2))
