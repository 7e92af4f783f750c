"""Parts that several streaming tests share: real sessions on a virtual clock, and recording sinks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.pipeline import Pipeline
from engine.recipes import build
from engine.types import Cond
from streaming.budget import Budget
from streaming.channel import Picture
from streaming.clock import MS, VirtualClock
from streaming.options import SessionOptions
from streaming.session import Session
from streaming.worker import EngineWorker

BUDGET = Budget(total_ms=160.0, frame_ms=40.0, lookahead_ms=40.0, compute_ms=10.0)


@dataclass
class RecordingSink:
    """Keeps what came and when."""

    clock: VirtualClock
    name: str = "recording"
    audio_lead: int = 0
    frames: list[tuple[int, int]] = field(default_factory=list)
    """(frame, time in ns)"""
    pictures: list[Picture] = field(default_factory=list)
    packets: list[tuple[int, int]] = field(default_factory=list)
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    fail_at: int | None = None
    closed: bool = False

    def video(self, frame: int, picture: Picture) -> None:
        if frame == self.fail_at:
            raise RuntimeError("the sink has died")
        self.frames.append((frame, self.clock.now_ns()))
        self.pictures.append(picture)

    def audio(self, packet: int, samples: NDArray[np.float32]) -> None:
        self.packets.append((packet, self.clock.now_ns()))
        self.samples.append(samples)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Stage:
    """A session on a virtual clock whose engine is stepped by the test, not by a thread."""

    clock: VirtualClock
    worker: EngineWorker
    session: Session
    sink: RecordingSink

    async def run_until(self, ms: int, engine: bool = True, slice_ms: int = 5) -> None:
        """Advance to ``ms`` after time zero; the engine works between slices if ``engine``."""
        while self.clock.now_ns() < ms * MS:
            await self.clock.advance_to(min(ms * MS, self.clock.now_ns() + slice_ms * MS))
            while engine and self.worker.run_once():
                pass


def stage(
    pipeline: Pipeline | None = None, budget: Budget = BUDGET, start_ms: int = 0, **sink: int | None
) -> Stage:
    """A started session with one recording sink."""
    clock = VirtualClock(start_ms * MS)
    worker = EngineWorker(clock)
    pipeline = pipeline or build("tiny")
    session = Session(pipeline, worker, clock, SessionOptions("test", budget, Cond.default(1, seed=3)))
    recording = RecordingSink(clock, fail_at=sink.get("fail_at"))
    session.add_sink(recording)
    session.start()
    return Stage(clock, worker, session, recording)


def tone(samples: int, hz: float = 220.0, rate: int = 48_000) -> NDArray[np.float32]:
    """A sine of amplitude 0.5, float32 [N]."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)).astype(np.float32)
