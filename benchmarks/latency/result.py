"""What a benchmark run leaves behind: plain numbers, the machine they are from, the sizes they are for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.analyse import SETTLE_S, Measured, Summary, summarise
from benchmarks.latency.engine_only import EngineRun
from benchmarks.latency.process import ResourceLog

__all__ = ["HEADINGS", "BenchmarkRun", "BudgetRun", "describe_machine", "headline", "json_record", "table"]


@dataclass(frozen=True)
class BudgetRun:
    """One budget: refused (``refusal`` says why) or measured."""

    budget_ms: float
    refusal: str | None = None
    smallest_ms: int | None = None
    measured: Measured | None = None
    sound_off: Measured | None = None
    """A short call without sound, in which the picture need not wait for it."""
    stats: dict[str, Any] = field(default_factory=dict)
    resources: ResourceLog = field(default_factory=ResourceLog)
    server_ready_s: float = 0.0
    """Process start -> answers HTTP."""
    cold_s: float = 0.0
    """Process start -> first frame on the screen, page load and call included."""
    cold_call_ms: float = 0.0
    """Start button -> first frame on the screen, first call of the server."""

    @property
    def ok(self) -> bool:
        return self.measured is not None

    def summaries(self) -> dict[str, Summary]:
        """Of every series in steady state, in ms."""
        if self.measured is None:
            return {}
        series = self.measured.steady()
        muted = np.array([]) if self.sound_off is None else self.sound_off.steady()["end_to_end_ms"]
        return {name: summarise(values) for name, values in {**series, "sound_off_ms": muted}.items()}


@dataclass(frozen=True)
class BenchmarkRun:
    """Everything of one invocation."""

    recipe: str
    seconds: float
    engine: EngineRun | None
    budgets: list[BudgetRun]
    machine: dict[str, Any]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        out = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return out.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_machine(browser: str | None) -> dict[str, Any]:
    """Processor, memory, load, versions and commit."""
    import psutil

    packages = ("visavis", "torch", "openvino", "numpy", "numba", "aiortc", "av", "aiohttp", "uvloop")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": sys.version.split()[0],
        "browser": browser,
        "versions": {name: v for name in packages if (v := _version(name)) is not None},
    }


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {k: _round(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_round(v) for v in value]
    return value


def _budget_record(run: BudgetRun) -> dict[str, Any]:
    if run.measured is None:
        return {"budget_ms": run.budget_ms, "refused": run.refusal, "smallest_ms": run.smallest_ms}
    m, cpu = run.measured, run.resources.cpu_percent or [0.0]
    rss = run.resources.rss_mb or [0.0]
    return {
        "budget_ms": run.budget_ms,
        **{name: asdict(s) for name, s in run.summaries().items()},
        "frames": {
            "shown": m.shown, "missing": m.missing, "repeated": m.repeated, "unreadable": m.unreadable,
            "fps": m.fps,
        },
        "start": {
            "server_ready_s": run.server_ready_s, "cold_process_s": run.cold_s,
            "cold_call_ms": run.cold_call_ms, "warm_call_ms": m.first_frame_ms,
        },
        "server": {
            "cpu_percent": float(np.mean(cpu)), "rss_mb_first": rss[0], "rss_mb_last": rss[-1],
            "machine_percent": float(np.mean(run.resources.machine_percent or [0.0])),
            "frames": run.stats.get("frames"), "counters": run.stats.get("counters"),
            "stages": run.stats.get("stages"), "av_offset_ms": run.stats.get("av_offset_ms"),
            "parts": run.stats.get("parts"),
        },
    }  # fmt: skip


def json_record(run: BenchmarkRun) -> dict[str, Any]:
    """All numbers of a run as plain JSON values."""
    record = {
        "benchmark": "latency",
        "recipe": run.recipe,
        "seconds": run.seconds,
        "settle_s": SETTLE_S,
        "machine": run.machine,
        "engine": None if run.engine is None else run.engine.as_dict(),
        "budgets": [_budget_record(b) for b in run.budgets],
    }
    rounded: dict[str, Any] = _round(record)
    return rounded


def headline(run: BudgetRun) -> list[str]:
    """One table row of a measured budget, under :data:`HEADINGS`."""
    assert run.measured is not None
    s, m = run.summaries(), run.measured
    e2e, av = s["end_to_end_ms"], s["av_offset_ms"]
    late = run.stats.get("frames", {})
    share = 100 * late.get("late", 0) / max(1, late.get("total", 0))
    return [
        f"{run.budget_ms:g}",
        f"{e2e.p50:.0f}",
        f"{e2e.p95:.0f}",
        f"{e2e.p99:.0f}",
        f"{s['sound_off_ms'].p50:.0f}",
        f"{s['silence_to_speech_ms'].p50:.0f}",
        f"{av.p50:+.0f}" if av.count else "none seen",
        f"{m.fps:.1f}",
        f"{share:.2f}",
        f"{run.cold_s:.1f}",
        f"{m.first_frame_ms:.0f}",
        f"{np.mean(run.resources.cpu_percent or [0.0]):.0f} / {(run.resources.rss_mb or [0.0])[-1]:.0f}",
    ]


HEADINGS = [
    "budget ms", "end to end p50", "p95", "p99", "sound off", "silence>speech", "A/V ms", "fps", "late %",
    "cold s", "warm ms", "CPU % / MB",
]  # fmt: skip


def _format(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
        )
        for r in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def table(run: BenchmarkRun) -> str:
    """The tables for the terminal."""
    parts = []
    if run.engine is not None:
        e = run.engine
        rows = [["engine, ms per frame", "p50", "p95", "p99", "max"]]
        for name, s in [*e.stages.items(), ("total", e.total)]:
            rows.append([name, *(f"{v:.2f}" for v in (s.p50, s.p95, s.p99, s.high))])
        b = e.budget
        parts.append(_format(rows))
        parts.append(
            f"{e.realtime_factor:.1f} times real time; smallest budget: frame {b['frame']:g} + look-ahead "
            f"{b['lookahead']:g} + compute p99 {b['compute_p99']:.1f} + guard {b['guard']:g} = "
            f"{b['smallest']:g} ms"
        )
    measured = [b for b in run.budgets if b.ok]
    if measured:
        parts.append(_format([HEADINGS, *(headline(b) for b in measured)]))
    parts.extend(
        f"{b.budget_ms:g} ms: refused, the smallest budget here is {b.smallest_ms} ms ({b.refusal})"
        for b in run.budgets
        if not b.ok
    )
    return "\n\n".join(parts)
