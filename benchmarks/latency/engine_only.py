"""The pipeline alone, driven with a file: time per stage, real-time factor, smallest budget."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.latency.analyse import Summary, summarise
from benchmarks.latency.microphone import read_wav
from engine.config import asset_path
from engine.pipeline import Pipeline
from engine.recipes import build
from engine.types import SAMPLE_RATE, AudioChunk, Cond
from streaming.budget import Budget

__all__ = ["EngineRun", "prepare_engine", "run_engine"]

_WARM_FRAMES = 25


@dataclass(frozen=True)
class EngineRun:
    """Times in ms per frame; ``cold_frame_ms`` is the very first frame of a fresh state."""

    frames: int
    stages: dict[str, Summary]
    total: Summary
    total_ms: list[float]
    cold_frame_ms: float
    realtime_factor: float
    """Seconds of video made per second of computing."""
    budget: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "total_ms"}


def prepare_engine(recipe: str) -> tuple[Pipeline, Cond]:
    """The recipe's pipeline and a session's condition with the bundled portrait."""
    from engine.types import Cond
    from streaming.portraits import load_identity

    pipeline = build(recipe)
    return pipeline, Cond.for_identity(load_identity(pipeline, asset_path("demo/astronaut.png")), seed=0)


def run_engine(pipeline: Pipeline, cond: Cond, seconds: float) -> EngineRun:
    """Speak ``seconds`` of the demo voice to ``pipeline``, one frame at a time, as live."""
    voice = 0.5 * read_wav(asset_path("demo/voice_a.wav"), SAMPLE_RATE)
    hop = int(pipeline.samples_per_frame)
    state = pipeline.init_state(1, cond)
    stages: dict[str, list[float]] = {}
    totals: list[float] = []
    cold = 0.0
    mark = 0

    def probe(stage: str) -> None:
        nonlocal mark
        now = time.perf_counter_ns()
        stages.setdefault(stage, []).append((now - mark) / 1e6)
        mark = now

    torch.set_num_threads(1)  # as the engine's thread does
    with torch.inference_mode():
        for n in range(_WARM_FRAMES + round(seconds * float(pipeline.frame_rate))):
            samples = np.take(voice, np.arange(n * hop, (n + 1) * hop), mode="wrap")
            began = mark = time.perf_counter_ns()
            frames = pipeline.step(AudioChunk(n * hop, torch.from_numpy(samples)[None]), state, probe=probe)
            took = (time.perf_counter_ns() - began) / 1e6
            if frames.t1 > 0 and frames.t0 == 0:
                cold = took
            totals.append(took)
    kept = {name: summarise(np.array(values[_WARM_FRAMES:])) for name, values in stages.items()}
    total = np.array(totals[_WARM_FRAMES:])
    frame_ms = float(1000 / pipeline.frame_rate)
    budget = Budget(0.0, frame_ms, float(pipeline.lookahead_ms), summarise(total).p99)
    return EngineRun(
        frames=total.size,
        stages=kept,
        total=summarise(total),
        total_ms=total.round(3).tolist(),
        cold_frame_ms=cold,
        realtime_factor=total.size * frame_ms / float(total.sum()),
        budget={
            "frame": frame_ms,
            "lookahead": budget.lookahead_ms,
            "compute_p99": budget.compute_ms,
            "guard": budget.guard_ms,
            "smallest": float(budget.smallest_ms),
        },
    )
