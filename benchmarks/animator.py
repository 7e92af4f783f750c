"""Time of one frame of the mesh animator, by phase: ``python -m benchmarks.animator [PHOTO]``.

Draws a fixed lively motion (speech-like mouth, blinks, gaze, head sway) at 512 x 512 and prints a
table and, last, one JSON line with p50/p95/p99 in milliseconds per phase.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.render import SIZE, FrameBuffers, FrameRenderer
from engine.animators.mesh.sheet import moved
from engine.config import asset_path
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from kernels.i420 import rgb_to_i420

Float = NDArray[np.float32]

PHASES = ("geometry", "person", "windows")


def lively(rest: Float, frames: int) -> list[Float]:
    """A reproducible motion in which everything moves, 25 frames/s."""
    t = np.arange(frames) / 25.0
    out = []
    for k, s in enumerate(t):
        jaw = 0.22 * (1 + np.sin(2 * np.pi * 4.1 * s)) * (0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * s))
        change = {
            "jawOpen": jaw,
            "mouthFunnel": 0.25 * (1 + np.sin(2 * np.pi * 2.3 * s)),
            "mouthSmile": 0.1 * (1 + np.sin(s)),
            "browInnerUp": 0.2 * (1 + np.sin(1.7 * s)),
            "eyeBlink": float(max(0.0, 1.0 - abs(k % 75 - 3) / 3.0)),
            "ry": 8.0 * np.sin(1.1 * s),
            "rx": 4.0 * np.sin(1.9 * s),
            "rz": 3.0 * np.sin(0.8 * s),
            "gazeYaw": 10.0 * np.sin(1.3 * s),
        }
        out.append(moved(rest, {name: float(value) for name, value in change.items()}))
    return out


class Stopwatch:
    """Wraps a renderer's phases and keeps their times."""

    def __init__(self, renderer: FrameRenderer) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        for phase in PHASES:
            setattr(renderer, phase, self._timed(phase, getattr(renderer, phase)))

    def _timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = call(*args, **kwargs)
            self.times[phase].append(time.perf_counter() - start)
            return result

        return timed


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000.0, [50, 95, 99])
    return {
        "p50": round(p50, 3),
        "p95": round(p95, 3),
        "p99": round(p99, 3),
        "min": round(min(seconds) * 1000, 3),
    }


def measure(photo: Path, frames: int, tier: int, threads: int) -> dict[str, Any]:
    """Times of ``frames`` frames after a short warm-up."""
    animator = MeshAnimator()
    start = time.perf_counter()
    identity = animator.prepare(analyse_portrait(load_image(photo)))
    prepared = time.perf_counter() - start
    renderer = animator.renderer(identity)
    buffers = FrameBuffers.for_basis(renderer.basis)
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    packed = np.empty((SIZE * 3 // 2, SIZE), np.uint8)
    motion = lively(identity.rest, frames)
    for m in motion[:5]:
        renderer.draw(m, buffers, picture, tier)
    watch = Stopwatch(renderer)
    helper = ThreadPoolExecutor(1) if threads > 1 else None
    for m in motion:
        start = time.perf_counter()
        renderer.draw(m, buffers, picture, tier, helper)
        drawn = time.perf_counter()
        rgb_to_i420(picture, out=packed)
        end = time.perf_counter()
        watch.times["i420"].append(end - drawn)
        watch.times["frame"].append(end - start)
    phases = {phase: percentiles(values) for phase, values in watch.times.items()}
    return {
        "benchmark": "animator",
        "prepare_s": round(prepared, 3),
        "frames": frames,
        "tier": tier,
        "ms": phases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", nargs="?", type=Path, default=asset_path("demo/astronaut.png"))
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--tier", type=int, default=0, choices=(0, 1))
    parser.add_argument("--threads", type=int, default=2, choices=(1, 2))
    args = parser.parse_args()
    result = measure(args.photo, args.frames, args.tier, args.threads)
    for phase, row in result["ms"].items():
        print(f"{phase:14s} " + "  ".join(f"{k} {v:7.3f}" for k, v in row.items()))
    print(json.dumps({**result, "size": SIZE, "cpus": os.cpu_count(), "machine": platform.processor()}))


if __name__ == "__main__":
    main()
