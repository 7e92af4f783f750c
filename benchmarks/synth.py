"""Speed of the synthetic people: frames/s of one process a core, everything that is true about them included.

    python -m benchmarks.synth [--processes 2] [--people 40] [--frames 8] [--size 256] [--save]

Every process keeps to one thread and draws people of its own, each one's set-up included: picture with
compression and blur, motion, landmarks, labels, flow. All start together; the time is that of the last one.
One JSON line comes last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from threading import BrokenBarrierError
from typing import Any

from benchmarks.latency.result import describe_machine
from benchmarks.records import append_line
from engine.errors import BackendError

RESULTS = Path(__file__).resolve().parent / "results" / "synth.jsonl"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_WARM = 2
_APART = 100_000


def _draw(seed: int, size: int, people: int, frames: int, start: Barrier, out: Queue[Any]) -> None:
    import cv2

    from engine.synth.people.person import Studio

    cv2.setNumThreads(1)
    try:
        studio = Studio(size)
        for k in range(_WARM):
            studio.person(seed, _APART + k, frames)
        start.wait()
    except (BackendError, BrokenBarrierError) as error:
        start.abort()
        out.put(str(error))
        return
    wall, cpu = time.perf_counter(), time.process_time()
    for k in range(people):
        studio.person(seed, k, frames)
    out.put((wall, time.perf_counter(), time.process_time() - cpu))


def _answers(workers: Sequence[BaseProcess], out: Queue[Any]) -> list[Any]:
    """One answer of every worker. Raises BackendError where one has died instead."""
    answers: list[Any] = []
    while len(answers) < len(workers):
        try:
            answers.append(out.get(timeout=0.5))
        except Empty:
            dead = [worker.exitcode for worker in workers if worker.exitcode]
            if dead:
                for worker in workers:
                    worker.terminate()
                raise BackendError(f"a process that draws ended with status {dead[0]}; see above") from None
    return answers


def measure(processes: int, size: int, people: int, frames: int) -> dict[str, float]:
    """Frames a second of all processes together, and ms of processor time a frame.

    Raises:
        BackendError: nothing can be drawn on this machine.
    """
    context = multiprocessing.get_context("spawn")
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    start, out = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_draw, args=(seed, size, people, frames, start, out))
        for seed in range(processes)
    ]
    for worker in workers:
        worker.start()
    times = _answers(workers, out)
    for worker in workers:
        worker.join()
    failed = [t for t in times if isinstance(t, str)]
    if failed:
        raise BackendError(max(failed, key=len))
    total = processes * people * frames
    wall = max(t[1] for t in times) - min(t[0] for t in times)
    return {
        "frames_per_s": round(total / wall, 2),
        "cpu_ms": round(1000 * sum(t[2] for t in times) / total, 2),
        "wall_s": round(wall, 2),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="one a core by default")
    parser.add_argument("--people", type=int, default=40, help="of each process")
    parser.add_argument("--frames", type=int, default=8, help="of each person")
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.name}")
    args = parser.parse_args(argv)
    sizes = {"processes": args.processes, "people": args.people, "frames": args.frames, "size": args.size}
    machine = describe_machine(None)
    try:
        found = measure(args.processes, args.size, args.people, args.frames)
    except BackendError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{found['frames_per_s']:.1f} frames/s, {found['cpu_ms']:.1f} ms of processor time a frame")
    line = json.dumps({"benchmark": "synth", **machine, **sizes, **found}, separators=(",", ":"))
    if args.save:
        append_line(RESULTS, line)
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
