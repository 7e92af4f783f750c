"""The laws of pacing, on real sessions and a virtual clock."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError, StreamError
from engine.pipeline import Pipeline
from engine.recipes import build
from engine.types import CONTROLS, AudioChunk, FrameChunk
from streaming.clock import MS, OUT_RATE
from streaming.resample import DECIMATOR_DELAY
from streaming.sinks.base import PACKET
from streaming.sources.base import BufferedSource
from tests.streaming.helpers import BUDGET, RecordingSink, stage, tone


async def test_every_frame_and_packet_leaves_at_exactly_arrival_plus_budget() -> None:
    live = stage(start_ms=7)
    await live.run_until(2007)
    frames = live.sink.frames
    assert [n for n, _ in frames] == list(range(len(frames)))
    assert len(frames) == 47  # (2000 - 160) / 40, and the frame at the very end
    assert all(t == (7 + 40 * n + 160) * MS for n, t in frames)
    assert all(t == (7 + 10 * k + 160) * MS for k, t in live.sink.packets)
    assert live.session.metrics.value("misses") == 0
    await live.session.close()


@pytest.mark.parametrize("budget_ms", [120.0, 600.0, 2000.0])
async def test_any_budget_from_tight_to_lavish_is_kept(budget_ms: float) -> None:
    live = stage(budget=dataclasses.replace(BUDGET, total_ms=budget_ms))
    await live.run_until(int(budget_ms) + 1000)
    assert live.session.metrics.value("misses") == 0
    assert all(t == (40 * n + budget_ms) * MS for n, t in live.sink.frames)
    await live.session.close()


async def test_sound_leaves_to_the_sample_where_it_arrived_plus_budget() -> None:
    live = stage()
    source = BufferedSource("voice")
    await live.session.set_source(source)
    voice = tone(OUT_RATE)
    await source.write(voice)
    await live.run_until(1500)
    out = np.concatenate(live.sink.samples)
    np.testing.assert_array_equal(out[DECIMATOR_DELAY : DECIMATOR_DELAY + OUT_RATE], voice)
    await live.session.close()


async def test_late_frames_are_replaced_and_dropped_while_sound_goes_on() -> None:
    live = stage()
    await live.run_until(1000)
    await live.run_until(1600, engine=False)
    await live.run_until(3000)
    frames, packets = live.sink.frames, live.sink.packets
    # Every packet and every frame left on its own time, ready or not.
    assert [k for k, _ in packets] == list(range(len(packets)))
    assert all(t == (10 * k + 160) * MS for k, t in packets)
    assert all(t == (40 * n + 160) * MS for n, t in frames)
    misses = live.session.metrics.value("misses")
    assert 10 <= misses <= 16
    # The previous picture stood in, and the engine did not draw what nobody would see.
    frozen = [a is b for a, b in zip(live.sink.pictures, live.sink.pictures[1:], strict=False)]
    assert sum(frozen) == misses
    assert live.session.metrics.value("skipped") > 0
    assert not any(frozen[-25:])
    await live.session.close()


async def test_an_engine_that_is_always_behind_still_shows_a_face() -> None:
    live = stage()
    await live.run_until(5, slice_ms=5)  # the lane gets ready
    lane = live.session._lane
    assert lane is not None
    for ms in range(40, 4000, 40):
        await live.run_until(ms, engine=False)
        while len(lane.inbox) > 12:  # half a second late, always
            live.worker.run_once()
    misses, frames = (live.session.metrics.value(name) for name in ("misses", "frames"))
    assert misses == frames
    # One picture as soon as there is one, then about two a second; every other frame repeats one.
    assert live.sink.frames[0][1] <= 800 * MS
    assert 4 <= len({id(picture) for picture in live.sink.pictures}) <= 10
    await live.session.close()


async def test_a_stall_longer_than_the_channel_restarts_the_engine_in_time() -> None:
    live = stage()
    await live.run_until(500)
    await live.run_until(4000, engine=False)
    await live.run_until(5000)
    assert live.session.metrics.value("restarts") == 1
    frames = live.sink.frames
    assert [n for n, _ in frames] == list(range(len(frames)))
    last = live.sink.pictures[-10:]
    assert len({id(p) for p in last}) == 10
    await live.session.close()


async def test_memory_stays_bounded_without_anyone_to_take_the_output() -> None:
    live = stage()
    live.session.sinks.clear()
    await live.run_until(60_000, slice_ms=40)
    lane = live.session._lane
    assert lane is not None
    assert len(lane.inbox) <= 1
    assert len(lane.outbox) <= 8
    assert live.session.metrics.value("frames") == 1497
    await live.session.close()


async def test_a_slow_event_loop_skips_pictures_but_not_sound() -> None:
    live = stage()
    await live.run_until(1000)
    live.clock._now += 500 * MS  # everything stands still for half a second
    await live.run_until(2500)
    packets = [k for k, _ in live.sink.packets]
    assert packets == list(range(len(packets)))
    sent = [n for n, _ in live.sink.frames]
    assert sent == sorted(set(sent))
    # What left after the stall left on time: no backlog is worked off.
    assert all(t - (40 * n + 160) * MS < 40 * MS for n, t in live.sink.frames)
    await live.session.close()


class _Dying:
    """The real pipeline, until its engine breaks at a given frame."""

    def __init__(self, at: int) -> None:
        self._pipeline = build("tiny")
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def step(self, audio: AudioChunk, state: Any, **options: Any) -> FrameChunk:
        if audio.t0 >= 640 * self._at:
            raise RuntimeError("the engine has died")
        return self._pipeline.step(audio, state, **options)


class _Slow(_Dying):
    """The real pipeline, with a pause in each step while ``pause_s`` is set."""

    def __init__(self) -> None:
        super().__init__(at=1 << 30)
        self.pause_s = 0.036
        self.asked: list[int] = []

    def set_tier(self, state: Any, tier: int) -> None:
        self.asked.append(tier)

    def step(self, audio: AudioChunk, state: Any, **options: Any) -> FrameChunk:
        time.sleep(self.pause_s)
        return super().step(audio, state, **options)


async def test_sustained_overload_lowers_the_tier_and_calm_raises_it_again() -> None:
    slow = _Slow()
    pipeline: Pipeline = slow  # type: ignore[assignment]
    live = stage(pipeline)
    await live.run_until(2000)
    assert live.session.stats()["tier"] == 1
    assert slow.asked[-1] == 1
    slow.pause_s = 0.0
    await live.run_until(10_000, slice_ms=20)
    assert live.session.stats()["tier"] == 0
    assert slow.asked[-1] == 0
    assert live.session.metrics.value("tier_changes") == 2
    await live.session.close()


async def test_a_dying_engine_ends_the_session_with_its_reason() -> None:
    pipeline: Pipeline = _Dying(at=10)  # type: ignore[assignment]
    live = stage(pipeline)
    await live.run_until(1000)
    assert live.session.closed.is_set()
    assert str(live.session.error) == "the engine has died"
    assert live.sink.closed
    assert not live.worker._lanes


async def test_a_dying_source_ends_the_session_with_its_reason() -> None:
    live = stage()
    source = BufferedSource("voice")
    await live.session.set_source(source)
    await live.run_until(200)
    source.fail(ValueError("the source has died"))
    await live.run_until(1000)
    assert live.session.closed.is_set()
    assert "the source has died" in str(live.session.error)
    with pytest.raises(StreamError):
        await source.write(np.zeros(10, np.float32))


async def test_a_dying_sink_leaves_alone() -> None:
    live = stage(fail_at=5)
    second = RecordingSink(live.clock)
    live.session.add_sink(second)
    await live.run_until(1000)
    assert live.sink.closed
    assert len(live.sink.frames) == 5
    assert not live.session.closed.is_set()
    assert [n for n, _ in second.frames] == list(range(len(second.frames)))
    await live.session.close()


async def test_closing_twice_is_fine_and_releases_everything() -> None:
    live = stage()
    await live.run_until(300)
    await live.session.close()
    await live.session.close()
    assert live.sink.closed
    assert not live.worker._lanes
    assert live.session.error is None


async def test_a_barge_in_stops_the_voice_within_a_packet() -> None:
    live = stage()
    source = BufferedSource("voice")
    await live.session.set_source(source)
    await source.write(tone(5 * OUT_RATE))
    await live.run_until(1000)
    cut_ms = live.session.clear()
    sent = len(live.sink.packets)
    await live.run_until(1600)
    assert cut_ms == pytest.approx(4000 + 160 - 10, abs=40)
    after = np.concatenate(live.sink.samples[sent:])
    assert not after[3 * PACKET :].any()
    assert live.session.metrics.value("misses") == 0
    await live.session.close()


async def test_controls_are_checked_and_clamped() -> None:
    live = stage()
    changed = live.session.set_controls({"strengthLips": 5, "smile": -0.5})
    assert changed["strengthLips"] == CONTROLS.high[CONTROLS.index("strengthLips")]
    assert changed["smile"] == -0.5
    for bad in ({"mood": 1.0}, {"smile": float("nan")}, {"smile": True}, {"smile": "much"}):
        with pytest.raises(InputError):
            live.session.set_controls(bad)  # type: ignore[arg-type]
    await live.session.close()


async def test_stats_are_plain_json() -> None:
    import json

    live = stage()
    await live.run_until(1000)
    stats = json.loads(json.dumps(live.session.stats()))
    assert stats["frames"] == {"total": 22, "late": 0}
    assert stats["budget_ms"] == 160
    assert sum(part["ms"] for part in stats["parts"]) == pytest.approx(160)
    assert {s["name"] for s in stats["stages"]} >= {"tiny_encoder", "tiny_sampler", "tiny_animator", "total"}
    await live.session.close()
