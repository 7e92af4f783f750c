from __future__ import annotations

from streaming.clock import MS
from streaming.governor import Governor


def feed(governor: Governor, start_s: float, seconds: float, cost: float, missed: bool = False) -> list[int]:
    first = round(start_s * 25)
    return [governor.update((first + i) * 40 * MS, cost, missed) for i in range(round(seconds * 25))]


def test_a_single_slow_frame_changes_nothing() -> None:
    governor = Governor(40.0)
    feed(governor, 0, 2, 10.0)
    governor.update(2000 * MS, 500.0, True)
    assert set(feed(governor, 2.04, 0.5, 10.0)) == {0}


def test_sustained_overload_lowers_and_calm_raises_again() -> None:
    governor = Governor(40.0, patience_s=2.0)
    assert feed(governor, 0, 3, 38.0)[-1] == 1
    tiers = feed(governor, 3, 6, 10.0)
    assert tiers[0] == 1
    assert tiers[-1] == 0


def test_overload_goes_down_tier_by_tier_to_the_last() -> None:
    governor = Governor(40.0, tiers=3)
    assert sorted(set(feed(governor, 0, 10, 39.0))) == [0, 1, 2]
    assert governor.tier == 2
    alone = Governor(40.0, tiers=1)
    assert set(feed(alone, 0, 10, 39.0)) == {0}


def test_misses_alone_lower_the_tier() -> None:
    governor = Governor(40.0)
    assert feed(governor, 0, 2, 5.0, missed=True)[-1] == 1


def test_a_relapse_waits_longer_before_the_next_try() -> None:
    governor = Governor(40.0, patience_s=2.0)
    now, raised = 0.0, []
    for _ in range(3):
        feed(governor, now, 2, 39.0)
        now += 2
        tiers = feed(governor, now, 20, 5.0)
        raised.append(tiers.index(0))
        now += tiers.index(0) / 25
    assert raised[0] < raised[1] < raised[2]
