"""What a frame costs in every stage: animators, encoders and samplers, by runtime and batch.

    python benchmarks/run.py --stages [--batches 1 4] [--frames 100] [--only mesh ppg ...] [--save]
    python -m benchmarks.stages ...       # the same without the packages of the latency benchmark

A stage is stepped as in a stream, one frame of 40 ms per row at a time, on one torch thread; animators draw
a lively motion at 512 x 512 to I420. ``ms`` is the time of a frame of one row, wall clock (``cpu``: the
calling thread's own, which other programs disturb less); frames/s = 1000 / p50. Stages whose network can run
in several runtimes have a row for each that is available here, GPU runtimes too; where a runtime is missing,
the reason is said once. With a GPU, ``gohd_device`` and ``gohd_base`` draw whole frames there, all rows of a
batch in one call. A batch is rows of one process, each with its own state.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.animator import lively
from benchmarks.latency.result import describe_machine
from benchmarks.quality.reenacted import animator_makers
from benchmarks.records import append_line
from engine.config import asset_path
from engine.errors import VisavisError
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.recipes import SYSTEMS, build
from engine.runtime import available_backends
from engine.stage import Animator, Stage
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk, MotionChunk, PixelFormat

__all__ = ["RESULTS", "Timing", "add_arguments", "main", "measure", "run", "table", "time_stage"]

RESULTS = Path(__file__).resolve().parent / "results" / "stages.jsonl"
AS_BUILT = "built-in"
"""Runtime of stages that have no network, or no choice of where it runs."""
PRECISIONS: dict[str, tuple[str, ...]] = {
    "eager": ("f32",),
    "openvino": ("f32", "bf16"),
    "cuda_graph": ("f32", "f16"),
    "tensorrt": ("f32", "f16"),
}
_HOP = 640
WARM = 10


@dataclass(frozen=True)
class Timing:
    """One row of the table; milliseconds of one frame of one row of the batch."""

    kind: str
    """animator, encoder or sampler"""
    name: str
    runtime: str
    batch: int
    p50: float
    p95: float
    p99: float
    cpu_p50: float
    frames: int

    @property
    def frames_per_s(self) -> float:
        """All rows of the batch together."""
        return 1000.0 / self.p50 if self.p50 > 0 else float("inf")


Step = Callable[[int], Any]
"""Steps a prepared stream by one frame."""


def time_stage(kind: str, name: str, runtime: str, batch: int, step: Step, frames: int) -> Timing:
    """Call ``step`` for :data:`WARM` frames, then ``frames`` times with the watch running."""
    wall, cpu = [], []
    with torch.inference_mode():
        for n in range(WARM + frames):
            began, used = time.perf_counter(), time.thread_time()
            step(n)
            _finish()
            if n >= WARM:
                wall.append(1000.0 * (time.perf_counter() - began) / batch)
                cpu.append(1000.0 * (time.thread_time() - used) / batch)
    p50, p95, p99 = (float(v) for v in np.percentile(wall, [50, 95, 99]))
    return Timing(kind, name, runtime, batch, p50, p95, p99, float(np.median(cpu)), frames)


def _finish() -> None:
    """Wait for the GPU, if there is one: calls only queue work there."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _variants(maker: Callable[..., Any]) -> dict[str, dict[str, str]]:
    """Label -> arguments: the available runtimes, if ``maker`` takes a backend, in the precisions that are of
    use there, if it takes a precision."""
    takes = inspect.signature(maker).parameters
    if "backend" not in takes:
        return {AS_BUILT: {}}
    usable = [name for name, missing in available_backends().items() if missing is None]
    if "precision" not in takes:
        return {name: {"backend": name} for name in usable}
    return {
        f"{name} {precision}": {"backend": name, "precision": precision}
        for name in usable
        for precision in PRECISIONS.get(name, ("f32",))
    }


def device_makers() -> dict[str, Callable[..., Any]]:
    """The animator with whole frames on a GPU: with the shipped weights, and at its larger size, which is as
    fast untrained; none where there is no GPU."""
    if not torch.cuda.is_available():
        return {}
    from engine.animators.gohd.device import GohdDeviceAnimator
    from engine.animators.gohd.network import GohdNet
    from engine.animators.gohd.sizes import BASE

    def base(pixels: PixelFormat, backend: str = "auto", precision: str = "f16") -> Animator:
        torch.manual_seed(0)
        return GohdDeviceAnimator(pixels, "cuda", backend, precision, GohdNet(BASE))

    def shipped(pixels: PixelFormat, backend: str = "auto", precision: str = "f16") -> Animator:
        return GohdDeviceAnimator(pixels, "cuda", backend, precision)

    return {"gohd_device": shipped, "gohd_base": base}


def animator_timings(
    names: Sequence[str], batches: Sequence[int], frames: int, portrait: Portrait
) -> Iterator[Timing]:
    """Every animator in every runtime and batch; what cannot run is said on stderr."""
    makers: dict[str, Callable[..., Any]] = {**animator_makers(), **device_makers()}
    for name, maker in makers.items():
        if names and name not in names:
            continue
        for runtime, options, make in _animator_variants(name, maker):
            try:
                animator: Animator = make(PixelFormat.I420, **options)
                identity = animator.prepare(portrait)
            except VisavisError as error:
                print(f"{name} on {runtime} is left out: {error}", file=sys.stderr)
                continue
            for batch in batches:
                step = _animator_step(animator, identity, batch, WARM + frames)
                yield time_stage("animator", name, runtime, batch, step, frames)


def _animator_variants(
    name: str, maker: Callable[..., Any]
) -> list[tuple[str, dict[str, str], Callable[..., Any]]]:
    """(label, arguments, what takes them): a recipe's maker may leave the runtime to the class of
    what it makes."""
    if not inspect.isclass(maker) and "backend" not in inspect.signature(maker).parameters:
        try:
            kind = type(maker(PixelFormat.I420))
        except VisavisError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            return []
        if "backend" in inspect.signature(kind).parameters:
            maker = kind
    return [(label, options, maker) for label, options in _variants(maker).items()]


def _animator_step(animator: Animator, identity: Any, batch: int, frames: int) -> Step:
    one = Cond.for_identity(identity)
    cond = Cond(torch.arange(batch), one.rest.repeat(batch, 1), (identity,) * batch)
    motion = torch.from_numpy(np.stack(lively(one.rest[0].numpy(), frames)))
    state = animator.init_state(batch, cond)

    def step(n: int) -> Any:
        return animator.step(MotionChunk(n, motion[n : n + 1][None].repeat(batch, 1, 1)), state)

    return step


def encoder_timings(names: Sequence[str], batches: Sequence[int], frames: int) -> Iterator[Timing]:
    """Every audio encoder that a recipe names."""
    from engine.encoders.contrastive import ContrastiveEncoder
    from engine.encoders.mel import MelEncoder
    from engine.encoders.ppg import PpgEncoder

    makers: dict[str, Callable[..., Any]] = {
        "ppg": PpgEncoder, "mel": MelEncoder, "contrastive": ContrastiveEncoder,
    }  # fmt: skip
    for name, maker in makers.items():
        if names and name not in names:
            continue
        for runtime, options in _variants(maker).items():
            try:
                encoder = maker(**options)
                for batch in batches:
                    step = _encoder_step(encoder, batch)
                    yield time_stage("encoder", name, runtime, batch, step, frames)
            except VisavisError as error:
                print(f"{name} on {runtime} is left out: {error}", file=sys.stderr)


def _encoder_step(encoder: Stage[Any, Any, Any], batch: int) -> Step:
    voice = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((batch, _HOP), np.float32))
    state = encoder.init_state(batch, Cond.default(batch))
    return lambda n: encoder.step(AudioChunk(n * _HOP, voice), state)


def sampler_timings(names: Sequence[str], batches: Sequence[int], frames: int) -> Iterator[Timing]:
    """The sampler of every system, and of the default recipe."""
    for name in (*SYSTEMS, "default"):
        if names and name not in names:
            continue
        try:
            pipeline = build(name)
            for batch in batches:
                step = _sampler_step(pipeline.encoder, pipeline.sampler, batch, WARM + frames)
                yield time_stage("sampler", name, AS_BUILT, batch, step, frames)
        except VisavisError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def _sampler_step(
    encoder: Stage[Any, Any, Any], sampler: Stage[Any, Any, Any], batch: int, frames: int
) -> Step:
    """Features of a second of voice, over and over."""
    heard = encoder.init_state(1, Cond.default(1))
    voice = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((1, 25 * _HOP), np.float32))
    with torch.inference_mode():
        chunks = [encoder.step(AudioChunk(0, voice), heard), encoder.drain(heard)]
    data = torch.cat([chunk.data for chunk in chunks], dim=1)
    controls = CONTROLS.default(batch)[:, None]
    state = sampler.init_state(batch, Cond.default(batch))

    def step(n: int) -> Any:
        row = data[:, n % data.shape[1]][:, None].repeat(batch, 1, 1)
        return sampler.step(FeatureChunk(n, row, controls), state)

    return step


def measure(names: Sequence[str], batches: Sequence[int], frames: int, photo: Path) -> list[Timing]:
    """All rows; ``names`` empty: every stage there is."""
    portrait = analyse_portrait(load_image(photo))
    return [
        *animator_timings(names, batches, frames, portrait),
        *encoder_timings(names, batches, frames),
        *sampler_timings(names, batches, frames),
    ]


def table(rows: Sequence[Timing]) -> str:
    """As text."""
    head = f"{'stage':<10}{'name':<14}{'runtime':<15}{'batch':>5}"
    head += "".join(f"{h:>9}" for h in ("p50 ms", "p95", "p99", "cpu p50", "frames/s"))
    lines = [head]
    for row in rows:
        numbers = "".join(f"{v:9.2f}" for v in (row.p50, row.p95, row.p99, row.cpu_p50))
        lines.append(
            f"{row.kind:<10}{row.name:<14}{row.runtime:<15}{row.batch:>5}{numbers}{row.frames_per_s:9.0f}"
        )
    return "\n".join(lines)


def record(rows: Sequence[Timing]) -> dict[str, Any]:
    """One JSON line."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "benchmark": "stages",
        **describe_machine(None),
        "gpu": gpu,
        "torch_threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "missing_runtimes": {k: why for k, why in available_backends().items() if why is not None},
        "rows": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}
            | {"frames_per_s": round(row.frames_per_s, 1)}
            for row in rows
        ],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that ``benchmarks/run.py`` takes with ``--stages``."""
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], metavar="B", help="with --stages")
    parser.add_argument("--frames", type=int, default=100, help="with --stages: frames timed per row")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="with --stages: these stages")


def run(args: argparse.Namespace) -> int:
    """``args`` of :func:`add_arguments` and ``save``; 1 where nothing could be timed."""
    torch.set_num_threads(1)
    for name, missing in available_backends().items():
        if missing is not None:
            print(f"runtime {name} is not measured: {missing}", file=sys.stderr)
    rows = measure(args.only, args.batches, args.frames, asset_path("demo/astronaut.png"))
    if not rows:
        print(f"error: no stage named {', '.join(args.only)}", file=sys.stderr)
        return 1
    print(table(rows))
    line = json.dumps(record(rows), separators=(",", ":"))
    if args.save:
        append_line(RESULTS, line)
    print(line)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.name}")
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
