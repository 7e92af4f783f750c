"""Time and roofline of every kernel body: ``python -m benchmarks.kernel_speed [--device cuda] [--save]``.

Prints a table and, last, one JSON line, which ``--save`` appends to ``benchmarks/results/kernels.jsonl``.
Per kernel, size and body: milliseconds min, p50, p95 and p99 of one call, GB/s and GFLOP/s reached (by the
counts of :mod:`benchmarks.kernel_cases`), and **of roof**: the least time that the device's measured
copy bandwidth and float32 matmul speed allow, over the median time. A GPU is timed with CUDA events
and a cold cache (what the cache holds is overwritten before each call; ``--warm`` leaves it), with
launch gaps hidden behind that write; the CPU with one thread and a warm cache (``--cold`` for cold).
On a CPU that others use too, ``--clock thread`` counts only the time that the calling thread ran, and
leaves out the rows of two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kernel_cases import Timed, cases
from benchmarks.records import append_line
from engine.train.provenance import commit

RESULTS = Path(__file__).parent / "results" / "kernels.jsonl"
_COLUMNS = ("min", "p50", "p95", "p99", "GB/s", "GFLOP/s", "of roof")


class Watch:
    """Times calls on one device; ``cold`` empties its cache before each, ``clock`` is the CPU's."""

    def __init__(
        self, device: str, cold: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.cold = device, cold
        self.clock = clock
        self.event: Any = torch.cuda.Event
        # More than the last cache of the devices at hand.
        self.flush = torch.empty(
            256 << 20 if device == "cuda" else 96 << 20, dtype=torch.uint8, device=device
        )

    def times(self, call: Callable[[], object], seconds: float, least: int, most: int) -> list[float]:
        """Milliseconds of single calls: as many as fit ``seconds``, within ``least``..``most``."""
        for _ in range(3):
            call()
        self._wait()
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < least or (len(taken) < most and time.perf_counter() - began < seconds):
            taken.append(self._once(call))
        return taken

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _once(self, call: Callable[[], object]) -> float:
        if self.cold:
            self.flush.add_(1)
        if self.device == "cuda":
            start, end = (self.event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))
        began = self.clock()
        call()
        return (self.clock() - began) * 1000.0


def roofs(watch: Watch, seconds: float) -> dict[str, float]:
    """Measured peaks: copy bandwidth (read + write) in GB/s and float32 matmul in GFLOP/s."""
    device = watch.device
    size, side = (1 << 30, 8192) if device == "cuda" else (128 << 20, 1024)
    a = torch.empty(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    copy = float(np.median(watch.times(lambda: b.copy_(a), seconds, 5, 100)))
    x = torch.randn(side, side, device=device)
    y = torch.empty_like(x)
    product = float(np.median(watch.times(lambda: torch.mm(x, x, out=y), seconds, 5, 100)))
    return {"GB/s": 2e-6 * size / copy, "GFLOP/s": 2e-6 * side**3 / product}


def row_of(case: Timed, times: list[float], roof: dict[str, float]) -> dict[str, Any]:
    """One row of the table; ``of roof`` is a share, 1 at the roof."""
    p50, p95, p99 = (float(v) for v in np.percentile(times, [50, 95, 99]))
    least = max(1e-6 * case.bytes / roof["GB/s"], 1e-6 * case.flops / roof["GFLOP/s"])
    figures = (min(times), p50, p95, p99, 1e-6 * case.bytes / p50, 1e-6 * case.flops / p50, least / p50)
    about = {"kernel": case.kernel, "size": case.size, "body": case.body, "calls": len(times)}
    return about | {name: round(v, 4) for name, v in zip(_COLUMNS, figures, strict=True)}


def _about(device: str, cold: bool) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "benchmark": "kernels", "commit": commit(), "device": gpu or "cpu", "machine": platform.machine(),
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "cache": "cold" if cold else "warm",
        "torch": torch.__version__,
    }  # fmt: skip


def _print(row: dict[str, Any]) -> None:
    name = f"{row['kernel']:17s} {row['size']:34s} {row['body']:14s}"
    print(name + " ".join(f"{row[c]:9.3f}" for c in _COLUMNS), flush=True)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default=None, help="default: cuda where there is"
    )
    parser.add_argument("--seconds", type=float, default=0.4, help="time spent on each row")
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--clock", choices=("wall", "thread"), default="wall", help="of a CPU")
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cold", action="store_true", help="empty the cache before each call")
    cache.add_argument("--warm", action="store_true", help="leave the cache as the last call left it")
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.name}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = _arguments(argv)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    cold = args.cold or (device == "cuda" and not args.warm)
    torch.set_num_threads(1)
    clock = time.thread_time if args.clock == "thread" else time.perf_counter
    roof = roofs(Watch(device, clock=clock), args.seconds)
    print("roofs: " + ", ".join(f"{v:.1f} {unit}" for unit, v in roof.items()))
    print(f"{'':67s}" + " ".join(f"{c:>9s}" for c in _COLUMNS))
    watch, rows = Watch(device, cold, clock), []
    for case in cases(device):
        if args.only not in case.kernel or (args.clock == "thread" and "threads" in case.body):
            continue
        rows.append(row_of(case, watch.times(case.call, args.seconds, 5, 2000), roof))
        _print(rows[-1])
    about = _about(device, cold) | {"clock": "events" if device == "cuda" else args.clock}
    about["roofs"] = {unit: round(v, 1) for unit, v in roof.items()}
    line = json.dumps(about | {"rows": rows})
    print(line)
    if args.save:
        append_line(RESULTS, line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
