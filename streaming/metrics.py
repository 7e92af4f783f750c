"""Numbers of a running stream: exact quantiles over a sliding window, counters, Prometheus text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

__all__ = ["Counter", "Histogram", "Quantiles", "StreamMetrics", "prometheus"]

WINDOW = 1500
"""Values kept per histogram: one minute of frames at 25 frames/s."""


@dataclass(frozen=True)
class Quantiles:
    """Of the values in the window; all 0 while there are none."""

    p50: float
    p95: float
    p99: float
    largest: float
    count: int

    def as_dict(self) -> dict[str, float]:
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.largest, "count": self.count}


class Histogram:
    """The last :data:`WINDOW` values, with exact quantiles; safe to add to from any thread."""

    def __init__(self, window: int = WINDOW) -> None:
        self._values: deque[float] = deque(maxlen=window)
        self._lock = Lock()
        self._count = 0
        self._sum = 0.0

    def add(self, value: float) -> None:
        with self._lock:
            self._values.append(value)
            self._count += 1
            self._sum += value

    @property
    def count(self) -> int:
        """Values ever added."""
        return self._count

    @property
    def total(self) -> float:
        """Sum of all values ever added."""
        return self._sum

    def values(self) -> list[float]:
        """A copy of the window, oldest first."""
        with self._lock:
            return list(self._values)

    def quantiles(self) -> Quantiles:
        values = np.asarray(self.values())
        if not values.size:
            return Quantiles(0.0, 0.0, 0.0, 0.0, 0)
        p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99], method="higher")
        return Quantiles(float(p50), float(p95), float(p99), float(values.max()), self._count)


class Counter:
    """A number that only grows; safe to add to from any thread."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = Lock()

    def add(self, amount: int = 1) -> None:
        with self._lock:
            self._value += amount

    @property
    def value(self) -> int:
        return self._value


COUNTERS: dict[str, str] = {
    "frames": "frames that left, repeated ones included",
    "misses": "frames not ready at their deadline, replaced by the newest picture before",
    "late_frames": "frames finished after their deadline and thrown away",
    "skipped": "frames advanced without drawing, to catch up",
    "sink_drops": "pictures a slow sink did not take in time",
    "restarts": "engine restarts after a gap in its input",
    "concealed_samples": "48 kHz samples replaced by silence because none had arrived",
    "slipped_samples": "48 kHz samples inserted or dropped to follow the sender's clock",
    "tier_changes": "changes of the quality tier by the governor",
}


@dataclass
class StreamMetrics:
    """All numbers of one session. Times in ms; stage histograms appear as stages report."""

    stages: dict[str, Histogram] = field(default_factory=dict)
    compute: Histogram = field(default_factory=Histogram)
    """One engine step, I420 conversion included."""
    video_late: Histogram = field(default_factory=Histogram)
    """Moment of leaving minus deadline, per frame."""
    audio_late: Histogram = field(default_factory=Histogram)
    av_offset: Histogram = field(default_factory=Histogram)
    """Video's lateness minus that of the audio of the same instant, per frame."""
    counters: dict[str, Counter] = field(default_factory=lambda: {name: Counter() for name in COUNTERS})
    tier: int = 0
    fps: float = 0.0

    def stage(self, name: str) -> Histogram:
        return self.stages.setdefault(name, Histogram())

    def count(self, name: str, amount: int = 1) -> None:
        self.counters[name].add(amount)

    def value(self, name: str) -> int:
        return self.counters[name].value

    def histograms(self) -> dict[str, Histogram]:
        own = {"compute": self.compute, "video_late": self.video_late, "audio_late": self.audio_late}
        return {**self.stages, **own, "av_offset": self.av_offset}


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _summary(session: str, metrics: StreamMetrics) -> Iterable[str]:
    for stage, histogram in metrics.histograms().items():
        where = f'session="{_label(session)}",stage="{_label(stage)}"'
        q = histogram.quantiles()
        for name, value in (("0.5", q.p50), ("0.95", q.p95), ("0.99", q.p99)):
            yield f'visavis_stage_milliseconds{{{where},quantile="{name}"}} {value:.4f}'
        yield f"visavis_stage_milliseconds_sum{{{where}}} {histogram.total:.4f}"
        yield f"visavis_stage_milliseconds_count{{{where}}} {histogram.count}"


def prometheus(sessions: Mapping[str, StreamMetrics], gauges: Mapping[str, float]) -> str:
    """Prometheus text exposition format 0.0.4 of all sessions and the server's own ``gauges``."""
    lines = [f"# TYPE visavis_{name} gauge\nvisavis_{name} {value:g}" for name, value in gauges.items()]
    lines.append("# HELP visavis_stage_milliseconds time per stage, quantiles over the last minute")
    lines.append("# TYPE visavis_stage_milliseconds summary")
    for session, metrics in sessions.items():
        lines.extend(_summary(session, metrics))
    for name, text in COUNTERS.items():
        lines.append(f"# HELP visavis_{name}_total {text}")
        lines.append(f"# TYPE visavis_{name}_total counter")
        lines.extend(
            f'visavis_{name}_total{{session="{_label(s)}"}} {m.value(name)}' for s, m in sessions.items()
        )
    for name in ("tier", "fps"):
        lines.append(f"# TYPE visavis_{name} gauge")
        lines.extend(
            f'visavis_{name}{{session="{_label(s)}"}} {getattr(m, name):g}' for s, m in sessions.items()
        )
    return "\n".join(lines) + "\n"
