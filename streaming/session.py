"""One avatar, live: a source, the time line, the engine's lane, the pacer and the sinks.

Everything here runs on the event loop except the engine. A session lives from :meth:`Session.start`
to :meth:`Session.close`; when any of its tasks dies, the channels are closed with the reason, every
sink and the source are released and :attr:`Session.error` holds the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from fractions import Fraction

from engine.errors import InputError, StreamError
from engine.pipeline import Pipeline
from engine.types import CONTROLS
from streaming.channel import AudioBlock
from streaming.clock import MS, OUT_RATE, Clock, SampleClock
from streaming.drivers import Drivers, MotionSource
from streaming.metrics import StreamMetrics
from streaming.options import SessionOptions
from streaming.pacer import Pacer
from streaming.shared import EnginePool
from streaming.sinks.base import PACKET, Sink
from streaming.sources.base import Silence, Source
from streaming.sources.file import FileSource
from streaming.sources.live import LiveSource
from streaming.timeline import AudioTimeline
from streaming.worker import EngineWorker, Lane

__all__ = ["Session"]

log = logging.getLogger("visavis")

_TICK_NS = 10 * MS


class Session:
    """See the module's docstring.

    Args:
        worker: the engine's thread; may be shared by many sessions.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        worker: EngineWorker | EnginePool,
        clock: Clock,
        options: SessionOptions,
    ) -> None:
        self.options = options
        self.name = options.name
        self.metrics = StreamMetrics()
        self.error: BaseException | None = None
        self.source: Source = Silence()
        self.sinks: list[Sink] = []
        self.controls: tuple[float, ...] = CONTROLS.neutral
        self.drivers = Drivers()
        """Who moves which factor; see :meth:`set_driver`."""
        self.closed = asyncio.Event()
        self.users = 0
        """Viewers and speakers, as the hub counts them."""
        self._pipeline = pipeline
        self._worker = worker
        self._clock = clock
        self._delay_ns = int(options.budget.total_ms * MS)
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._time: SampleClock | None = None
        self._timeline: AudioTimeline | None = None
        self._lane: Lane | None = None
        self._pacer: Pacer | None = None

    # -- life ------------------------------------------------------------------------------

    @property
    def frame_rate(self) -> Fraction:
        return self._pipeline.frame_rate

    @property
    def started(self) -> bool:
        return self._time is not None

    def start(self) -> None:
        """Sample 0 arrives now. Does nothing if the session has started."""
        if self.started or self.closed.is_set():
            return
        if isinstance(self.source, FileSource):
            self.source.start()
        time = SampleClock(self._clock.now_ns(), self._pipeline.frame_rate)
        lane = Lane(self._pipeline, self.options, time, self._delay_ns, self.metrics)
        timeline = AudioTimeline(time, seconds=4.0 + self.options.budget.total_ms / 1000)
        self._time, self._lane, self._timeline = time, lane, timeline
        self._pacer = Pacer(
            self._clock,
            time,
            self._delay_ns,
            lane.outbox,
            timeline,
            lambda: list(self.sinks),
            self._sink_failed,
            self.metrics,
        )
        self._worker.add(lane)
        self._worker.wake()
        self._task = asyncio.create_task(self._run(self._pacer), name=f"session {self.name}")

    async def close(self, error: BaseException | None = None) -> None:
        """End the session; safe to call from anywhere, any number of times."""
        if self.closed.is_set():
            return
        self.closed.set()
        self.error = self.error or error
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._lane is not None:
            self._worker.remove(self._lane)
            self._lane.fail(self.error or StreamError(f"session {self.name} is closed"))
        sinks, self.sinks = self.sinks, []
        for sink in sinks:
            with contextlib.suppress(Exception):
                await sink.close()
        source, self.source = self.source, Silence()
        with contextlib.suppress(Exception):
            await source.close()
        self.drivers.close()

    async def _run(self, pacer: Pacer) -> None:
        """The session's root task: whichever part dies takes the session down, with its reason."""
        parts = [asyncio.create_task(pacer.run()), asyncio.create_task(self._pump_forever())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except Exception as error:
            cause = self._lane.outbox.error if self._lane is not None else None
            log.error("session %s ends: %s", self.name, cause or error)
            self.error = cause or error
            self._closing.add(asyncio.create_task(self.close()))
        finally:
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    # -- audio in --------------------------------------------------------------------------

    def head(self) -> int:
        """Samples at 48 kHz that have arrived by now (0 before the start)."""
        return 0 if self._time is None else self._time.head(self._clock.now_ns())

    async def silence(self) -> None:
        """The voice has gone; the avatar idles."""
        await self.set_source(Silence())

    async def set_source(self, source: Source) -> None:
        """Replace the source; the former one is closed."""
        former, self.source = self.source, source
        await former.close()

    @property
    def time(self) -> SampleClock:
        """When each sample arrives. Raises StreamError before the start."""
        if self._time is None:
            raise StreamError(f"session {self.name} has not started")
        return self._time

    def live_source(self, name: str) -> LiveSource:
        """A source for audio that arrives in real time, settled to this session's clock."""
        # Audio that comes later than this would miss its own deadline anyway.
        patience = max(5.0, self.options.budget.spare_ms - 5.0)
        return LiveSource(
            name,
            self.head,
            patience,
            on_data=self.pump,
            on_slip=lambda n: self.metrics.count("slipped_samples", n),
        )

    def pump(self) -> None:
        """Move what has arrived into the time line, and every complete frame on to the engine."""
        if self._timeline is None or self._lane is None or self.closed.is_set():
            return
        timeline, lane = self._timeline, self._lane
        failure = self.source.failure()
        if failure is not None:
            raise StreamError(f"the source {self.source.name} broke: {failure}") from failure
        timeline.append(self.source.read(timeline.head, self.head()))
        woke = False
        while (block := timeline.take_frame()) is not None:
            frame, start, samples = block
            lane.inbox.put(AudioBlock(frame, start, samples, self.drivers.apply(self.controls, frame)))
            woke = True
        if woke:
            self._worker.wake()

    async def _pump_forever(self) -> None:
        assert self._time is not None
        while True:
            self.pump()
            tick = (self._clock.now_ns() - self._time.origin_ns) // _TICK_NS + 1
            await self._clock.sleep_until(self._time.origin_ns + tick * _TICK_NS)

    def clear(self) -> float:
        """Barge-in: forget what waits and fade out what has not left; ms of audio that were cut."""
        cut = self.source.clear()
        if self._timeline is not None and self._pacer is not None:
            unsent = (self._pacer.packet + 1) * PACKET
            cut += max(0, self._timeline.head - unsent)
            self._timeline.mute_from(unsent)
        return 1000.0 * cut / OUT_RATE

    # -- sinks and controls ----------------------------------------------------------------

    def add_sink(self, sink: Sink) -> None:
        self.sinks.append(sink)

    async def remove_sink(self, sink: Sink) -> None:
        """Release one sink; the others go on."""
        if sink in self.sinks:
            self.sinks.remove(sink)
            with contextlib.suppress(Exception):
                await sink.close()

    def _sink_failed(self, sink: Sink, error: Exception) -> None:
        log.warning("session %s: sink %s is dropped: %s", self.name, sink.name, error)
        self._closing.add(asyncio.create_task(self.remove_sink(sink)))

    def set_controls(self, values: Mapping[str, float]) -> dict[str, float]:
        """Change some live controls (clamped to their range); returns all that are sliders.

        Raises:
            InputError: an unknown name, or a value that is not a finite number.
        """
        row = list(self.controls)
        for name, value in values.items():
            if name not in CONTROLS.names:
                raise InputError(f"no control {name!r}; there are {', '.join(CONTROLS.sliders)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise InputError(f"control {name} needs a number, got {value!r}")
            i = CONTROLS.index(name)
            row[i] = min(max(float(value), CONTROLS.low[i]), CONTROLS.high[i])
        self.controls = tuple(row)
        return self._sliders()

    def _sliders(self) -> dict[str, float]:
        """The controls that a person sets; drivers and style codes are left out."""
        return {name: self.controls[CONTROLS.index(name)] for name in CONTROLS.sliders}

    def set_driver(self, factor: str, source: MotionSource | None, share: float = 1.0) -> None:
        """Let ``source`` (None: nobody) drive ``factor``; ``follow.FACTOR`` becomes ``share`` (0 for nobody).

        A source that drives nothing any more is closed, the last ones with the session.

        Raises:
            InputError: no such factor.
        """
        former = self.drivers.set(factor, source)
        if former is not None:
            former.close()
        self.set_controls({f"follow.{factor}": 0.0 if source is None else share})

    # -- numbers ---------------------------------------------------------------------------

    def stats(self) -> dict[str, object]:
        """Everything the page and a monitor want to know, as plain JSON values."""
        metrics, budget = self.metrics, self.options.budget
        parts = {
            "frame": budget.frame_ms,
            "look-ahead": budget.lookahead_ms,
            "compute p99": budget.compute_ms,
            "guard": budget.guard_ms,
            "reserve": max(0.0, budget.total_ms - budget.needed_ms),
        }
        stages = [{"name": name, **h.quantiles().as_dict()} for name, h in metrics.stages.items()]
        stages.append({"name": "total", **metrics.compute.quantiles().as_dict()})
        return {
            "session": self.name,
            "portrait": self.options.portrait,
            "recipe": self._pipeline.name,
            "source": self.source.name,
            "sinks": [sink.name for sink in self.sinks],
            "budget_ms": budget.total_ms,
            "smallest_budget_ms": budget.smallest_ms,
            "lookahead_ms": budget.lookahead_ms,
            "parts": [{"name": name, "ms": round(ms, 2)} for name, ms in parts.items()],
            "stages": stages,
            "frames": {"total": metrics.value("frames"), "late": metrics.value("misses")},
            "counters": {name: counter.value for name, counter in metrics.counters.items()},
            "fps": round(metrics.fps, 2),
            "tier": metrics.tier,
            "video_late_ms": metrics.video_late.quantiles().as_dict(),
            "audio_late_ms": metrics.audio_late.quantiles().as_dict(),
            "av_offset_ms": metrics.av_offset.quantiles().as_dict(),
            "drivers": self.drivers.names,
            "controls": self._sliders(),
        }
