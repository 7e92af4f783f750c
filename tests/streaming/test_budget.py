from __future__ import annotations

import pytest

from engine.errors import BudgetError, ConfigError
from engine.recipes import build
from engine.types import Cond
from streaming.budget import measure_compute, plan_budget


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
