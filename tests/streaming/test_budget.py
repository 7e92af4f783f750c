from __future__ import annotations

import pytest

from engine.errors import BudgetError, ConfigError
from engine.recipes import build
from engine.types import Cond
from streaming import hub
from streaming.budget import measure_compute, plan_budget
from streaming.metrics import Histogram


def test_the_sum_is_made_of_declared_and_measured_parts() -> None:
    budget = plan_budget(build("tiny"), 160, compute_ms=12.3)
    assert budget.needed_ms == pytest.approx(40 + 40 + 12.3 + 20)
    assert budget.spare_ms == pytest.approx(160 - 92.3)
    assert "112.3 ms needed" in budget.describe()


def test_a_budget_that_cannot_be_met_names_the_smallest_and_that_one_works() -> None:
    pipeline = build("tiny")
    with pytest.raises(BudgetError, match="--budget-ms 113") as refused:
        plan_budget(pipeline, 100, compute_ms=12.3)
    assert refused.value.smallest_ms == 113
    assert plan_budget(pipeline, 113, compute_ms=12.3).total_ms == 113


def test_the_warm_up_measures_every_frame() -> None:
    histogram = measure_compute(build("tiny"), Cond.default(), frames=8, warm=3)
    assert histogram.count == 8
    assert min(histogram.values()) > 0


def test_a_recipe_that_lies_about_its_lookahead_never_starts() -> None:
    pipeline = build("tiny")
    pipeline.lookahead_frames = 0
    with pytest.raises(ConfigError, match=r"declares a look-ahead of 0 frames.*0 have left instead of 1"):
        measure_compute(pipeline, Cond.default(), frames=2, warm=1)


@pytest.mark.parametrize(("costs", "tier"), [((20.0, 15.0), 0), ((60.0, 15.0), 1)])
def test_the_budget_is_promised_in_the_best_quality_that_meets_it(
    monkeypatch: pytest.MonkeyPatch, costs: tuple[float, float], tier: int
) -> None:
    measured = _Costs(costs)
    monkeypatch.setattr(hub, "measure_compute", measured)
    budget = hub._promise(build("tiny"), Cond.default(), None, 130.0)
    assert (budget.tier, budget.compute_ms) == (tier, costs[tier])
    assert ("quality tier 1" in budget.describe()) == (tier == 1)


def test_a_budget_that_no_quality_meets_is_refused_with_the_cheapest_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = _Costs((60.0, 50.0))
    monkeypatch.setattr(hub, "measure_compute", measured)
    with pytest.raises(BudgetError) as refused:
        hub._promise(build("tiny"), Cond.default(), None, 130.0)
    assert refused.value.smallest_ms == 150  # frame 40, look-ahead 40, compute 50, guard 20
    assert measured.asked.count(1) == 6


class _Costs:
    """Stands in for the measurement: what a frame costs in each quality."""

    def __init__(self, costs: tuple[float, ...]) -> None:
        self.costs = costs
        self.asked: list[int] = []

    def __call__(self, *_: object, tier: int) -> Histogram:
        self.asked.append(tier)
        found = Histogram(4)
        found.add(self.costs[tier])
        return found
