"""Recipes driven by a clip's sound, in the streaming order, and what a frame costs.

The encoder runs once a clip; its features are shared by all performances (seeds, rests), which the
sampler makes as one batch. That equals separate streams: rows of a batch do not see one another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.pipeline import Pipeline
from engine.recipes import RECIPES, build
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk

__all__ = ["Cost", "measure_cost", "open_recipe", "perform", "recipe_names"]

Floats = NDArray[np.float64]


def recipe_names() -> list[str]:
    """Recipes whose motion comes from a trained sampler, the default first."""
    return [name for name in RECIPES if name != "tiny"]


def open_recipe(name: str) -> Pipeline:
    """Encoder and sampler of a recipe, without its animator."""
    whole = build(name)
    return Pipeline(whole.encoder, whole.sampler, None, name=name)


def perform(
    pipeline: Pipeline,
    audio: NDArray[np.float32],
    seeds: list[int],
    rests: Floats,
    controls: list[dict[str, float]] | None = None,
) -> Floats:
    """Motions [B, T, 72] of one voice, one row per entry of ``seeds`` and of ``rests`` [B, 72].

    ``controls`` [B] name the live controls of each row that are not neutral.
    """
    batch = len(seeds)
    values = CONTROLS.default(batch)
    for row, named in enumerate(controls or []):
        for name, value in named.items():
            values[row, CONTROLS.index(name)] = value
    cond = Cond(torch.tensor(seeds), torch.from_numpy(rests).float(), (None,) * batch)
    with torch.inference_mode():
        heard = pipeline.encoder.init_state(1, Cond.default(1))
        chunks = [
            pipeline.encoder.step(AudioChunk(0, torch.from_numpy(audio)[None]), heard),
            pipeline.encoder.drain(heard),
        ]
        state = pipeline.sampler.init_state(batch, cond)
        parts = [pipeline.sampler.step(_for_rows(chunk, values), state).data for chunk in chunks]
        parts.append(pipeline.sampler.drain(state).data)
    return np.asarray(torch.cat(parts, dim=1).numpy(), np.float64)


def _for_rows(chunk: FeatureChunk, controls: Tensor) -> FeatureChunk:
    """The features of one voice under each row of ``controls`` [B, K]."""
    batch, frames = len(controls), chunk.data.shape[1]
    return FeatureChunk(
        chunk.t0, chunk.data.repeat(batch, 1, 1), controls[:, None].repeat(1, frames, 1).contiguous()
    )


@dataclass(frozen=True)
class Cost:
    """One frame at a time on one thread. ``wall`` is by the clock, ``cpu`` the thread's own time, which
    other programs on the machine disturb less; ms."""

    wall_p50_ms: float
    wall_p99_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float
    lookahead_ms: float


def measure_cost(pipeline: Pipeline, audio: NDArray[np.float32], warm_frames: int = 25) -> Cost:
    """Encoder and sampler over ``audio`` in chunks of one frame (40 ms)."""
    state = pipeline.init_state(1, Cond.default(1))
    wall, cpu = [], []
    with torch.inference_mode():
        for frame in range(len(audio) // 640):
            chunk = torch.from_numpy(audio[640 * frame : 640 * (frame + 1)])[None]
            began, spent = time.perf_counter(), time.thread_time()
            pipeline.motion_step(AudioChunk(640 * frame, chunk), state)
            cpu.append(1000.0 * (time.thread_time() - spent))
            wall.append(1000.0 * (time.perf_counter() - began))
    wall_ms, cpu_ms = np.array(wall[warm_frames:]), np.array(cpu[warm_frames:])
    return Cost(
        float(np.percentile(wall_ms, 50)),
        float(np.percentile(wall_ms, 99)),
        float(np.percentile(cpu_ms, 50)),
        float(np.percentile(cpu_ms, 99)),
        float(pipeline.lookahead_ms),
    )
