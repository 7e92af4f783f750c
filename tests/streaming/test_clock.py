from __future__ import annotations

import asyncio
import itertools
from fractions import Fraction

import pytest

from streaming.clock import MS, RealClock, SampleClock, VirtualClock


def test_frames_own_their_samples_exactly() -> None:
    time = SampleClock(0)
    assert [time.frame_start(n) for n in range(4)] == [0, 640, 1280, 1920]
    assert time.frame_ns(25) == 1_000_000_000


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30), Fraction(50), Fraction(30000, 1001)])
def test_deadlines_do_not_drift_in_a_day(rate: Fraction) -> None:
    time = SampleClock(12345, rate)
    day = int(rate * 86_400)
    exact = 12345 + Fraction(day, 1) / rate * 1_000_000_000
    # A frame starts at a whole sample, so at most one sample (62.5 µs) after its exact moment.
    assert 0 <= time.frame_ns(day) - exact <= 62_500
    starts = [time.frame_start(n) for n in range(1000)]
    assert all(b > a for a, b in itertools.pairwise(starts))


def test_head_counts_arrived_samples() -> None:
    time = SampleClock(10 * MS)
    assert time.head(9 * MS) == 0
    assert time.head(30 * MS) == 960


async def test_virtual_clock_wakes_at_each_deadline_in_order() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, deadline: int) -> None:
        await clock.sleep_until(deadline)
        woken.append((name, clock.now_ns()))

    tasks = [asyncio.create_task(sleeper(n, d)) for n, d in (("b", 20), ("a", 10), ("c", 90))]
    await clock.advance_to(50)
    assert woken == [("a", 10), ("b", 20)]
    assert clock.now_ns() == 50
    await clock.advance_to(90)
    assert woken[-1] == ("c", 90)
    await asyncio.gather(*tasks)


async def test_real_clock_is_never_early() -> None:
    clock = RealClock()
    for _ in range(5):
        deadline = clock.now_ns() + 3 * MS
        await clock.sleep_until(deadline)
        assert clock.now_ns() >= deadline
