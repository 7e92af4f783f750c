"""The latency contract of a session: what it is made of, and the smallest that can be met."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from engine.errors import BudgetError, ConfigError
from engine.pipeline import Pipeline
from engine.types import AudioChunk, Cond, PixelFormat
from kernels.i420 import rgb_to_i420
from streaming.framing import Compose
from streaming.metrics import Histogram
from streaming.threads import one_torch_thread

__all__ = ["GUARD_MS", "Budget", "measure_compute", "plan_budget"]

GUARD_MS = 20.0
"""For what the engine cannot know: one network packet of the source (20 ms), less than a timer's slack."""


@dataclass(frozen=True)
class Budget:
    """Delay D between a sample's arrival and its leaving, and the parts it must cover (all in ms)."""

    total_ms: float
    frame_ms: float
    lookahead_ms: float
    compute_ms: float
    guard_ms: float = GUARD_MS
    tier: int = 0
    """The best quality that the promise was measured with; a session starts there."""

    @property
    def needed_ms(self) -> float:
        return self.frame_ms + self.lookahead_ms + self.compute_ms + self.guard_ms

    @property
    def smallest_ms(self) -> int:
        """The smallest whole number of ms that can be met."""
        return math.ceil(self.needed_ms)

    @property
    def spare_ms(self) -> float:
        """What arrival jitter may use up: everything beyond frame, look-ahead and compute."""
        return self.total_ms - self.frame_ms - self.lookahead_ms - self.compute_ms

    def describe(self) -> str:
        """The sum, for the start of a session."""
        said = (
            f"latency budget {self.total_ms:g} ms: frame {self.frame_ms:g} + look-ahead {self.lookahead_ms:g}"
            f" + compute p99 {self.compute_ms:.1f} + guard {self.guard_ms:g} = {self.needed_ms:.1f} ms needed"
        )
        if self.tier:
            said += f"\nthis machine is too slow now for the best picture: quality tier {self.tier}"
        return said

    def as_dict(self) -> dict[str, float]:
        return {
            "total": self.total_ms,
            "frame": self.frame_ms,
            "lookahead": self.lookahead_ms,
            "compute_p99": round(self.compute_ms, 2),
            "guard": self.guard_ms,
            "smallest": self.smallest_ms,
        }


def plan_budget(pipeline: Pipeline, total_ms: float, compute_ms: float, tier: int = 0) -> Budget:
    """The budget of a session whose frames cost ``compute_ms`` in quality ``tier``.

    Raises:
        BudgetError: it cannot be met; the message and ``smallest_ms`` name the smallest that can.
    """
    budget = Budget(
        total_ms=float(total_ms),
        frame_ms=float(1000 / pipeline.frame_rate),
        lookahead_ms=float(pipeline.lookahead_ms),
        compute_ms=compute_ms,
        tier=tier,
    )
    if budget.total_ms < budget.smallest_ms:
        raise BudgetError(
            f"a budget of {total_ms:g} ms cannot be met: frame {budget.frame_ms:g} + look-ahead "
            f"{budget.lookahead_ms:g} + compute p99 {compute_ms:.1f} + guard {budget.guard_ms:g} = "
            f"{budget.needed_ms:.1f} ms; use --budget-ms {budget.smallest_ms} or more",
            budget.smallest_ms,
        )
    return budget


def measure_compute(
    pipeline: Pipeline,
    cond: Cond,
    compose: Compose | None = None,
    frames: int = 50,
    warm: int = 10,
    tier: int = 0,
) -> Histogram:
    """Time in ms of single-frame steps on noise, framing and I420 included, after ``warm`` steps.

    Of wall-clock and processor time the smaller counts: when another program holds the processor that
    is no need of the engine's, and a stage that uses several threads is done before their times add up.
    """
    one_torch_thread()
    state = pipeline.init_state(1, cond.row(0))
    pipeline.set_tier(state, tier)
    noise = np.random.default_rng(0)
    result = Histogram(frames)
    with torch.inference_mode():
        for n in range(warm + frames):
            start, end = (math.ceil(m * pipeline.samples_per_frame) for m in (n, n + 1))
            samples = torch.from_numpy(0.1 * noise.standard_normal((1, end - start), np.float32))
            wall, processor = time.perf_counter_ns(), time.process_time_ns()
            drawn = pipeline.step(AudioChunk(start, samples), state)
            _check_lookahead(pipeline, arrived=n + 1, left=drawn.t1)
            if drawn.format is PixelFormat.RGB:
                for picture in drawn.data[0]:
                    rgb = picture.cpu().numpy()
                    rgb_to_i420(compose(rgb) if compose is not None else rgb)
            if n >= warm:
                took = min(time.perf_counter_ns() - wall, time.process_time_ns() - processor)
                result.add(took / 1e6)
    return result


def _check_lookahead(pipeline: Pipeline, arrived: int, left: int) -> None:
    """The budget rests on the declared look-ahead: hold the recipe to it before the first frame."""
    due = max(0, arrived - pipeline.lookahead_frames)
    if left != due:
        raise ConfigError(
            f"recipe {pipeline.name} declares a look-ahead of {pipeline.lookahead_frames} frames, but after "
            f"{arrived} frames of audio {left} have left instead of {due}; mend that stage's spec"
        )
