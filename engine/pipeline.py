"""Encoder → sampler → animator, joined by one time line.

The pipeline is itself clockless: it takes audio in any chunking and returns every frame that is now
due. Look-ahead adds up in series (a stage that runs parallel branches declares their maximum), is
checked against the joints at construction and printed by :meth:`Pipeline.describe`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.stage import Stage, StageSpec
from engine.types import AudioChunk, Cond, FrameChunk, MotionChunk, samples_per_frame

__all__ = ["Parallel", "Pipeline", "PipelineState", "Probe", "lookahead_parallel", "lookahead_series"]

Probe = Callable[[str], None]
"""Called with a stage's name right after the stage has run, so that a caller can time it."""


def lookahead_series(specs: list[StageSpec]) -> int:
    """Look-ahead of stages that follow one another: it adds up."""
    return sum(spec.lookahead_frames for spec in specs)


def lookahead_parallel(specs: list[StageSpec]) -> int:
    """Look-ahead of branches beside one another: the longest one counts."""
    return max((spec.lookahead_frames for spec in specs), default=0)


@dataclass
class PipelineState:
    """Everything that changes while one batch of streams runs."""

    cond: Cond
    encoder: Any
    sampler: Any
    animator: Any
    next_frame: int | None = None
    """Index of the next frame that will leave (None before the first audio)."""


class Pipeline:
    """One recipe, ready to stream.

    Args:
        encoder: audio -> features.
        sampler: features -> motion.
        animator: motion -> frames; None for a pipeline that stops at motion.

    Raises:
        ConfigError: the stages' spaces or frame rates do not join.
    """

    def __init__(
        self,
        encoder: Stage[Any, Any, Any],
        sampler: Stage[Any, Any, Any],
        animator: Stage[Any, Any, Any] | None,
        name: str = "custom",
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.sampler = sampler
        self.animator = animator
        self.stages: list[Stage[Any, Any, Any]] = [encoder, sampler]
        if animator is not None:
            self.stages.append(animator)
        _check_joints([stage.spec for stage in self.stages])
        self.frame_rate: Fraction = encoder.spec.frame_rate
        self.samples_per_frame = samples_per_frame(self.frame_rate)
        self.lookahead_frames = lookahead_series([stage.spec for stage in self.stages])
        self.lookahead_ms = Fraction(1000 * self.lookahead_frames) / self.frame_rate

    @property
    def tiers(self) -> int:
        """How many quality tiers there are to choose from, at least one."""
        return max(int(getattr(stage, "tiers", 1)) for stage in self.stages)

    def describe(self) -> str:
        """One line per stage and the sum, for the start of a session."""
        lines = [
            f"  {s.name:<16} {s.input} -> {s.output}, look-ahead {float(s.lookahead_ms):g} ms"
            for s in (stage.spec for stage in self.stages)
        ]
        total = f"  look-ahead in all: {self.lookahead_frames} frames = {float(self.lookahead_ms):g} ms"
        return "\n".join([f"recipe {self.name}, {float(self.frame_rate):g} frames/s", *lines, total])

    def init_state(self, batch: int, cond: Cond) -> PipelineState:
        """A fresh state for ``batch`` streams; ``cond`` has one entry per stream."""
        if cond.batch != batch:
            raise ConfigError(
                f"the condition has {cond.batch} rows, the batch {batch}; give one row per stream"
            )
        return PipelineState(
            cond=cond,
            encoder=self.encoder.init_state(batch, cond),
            sampler=self.sampler.init_state(batch, cond),
            animator=self.animator.init_state(batch, cond) if self.animator is not None else None,
        )

    def step(
        self, audio: AudioChunk, state: PipelineState, *, render: bool = True, probe: Probe | None = None
    ) -> FrameChunk:
        """Take audio that continues the stream, return the frames now due (T may be 0).

        ``render=False`` advances every stage but draws nothing: the cheap way to catch up.
        """
        motion = self.motion_step(audio, state, probe=probe)
        return self._draw(motion, state, render, probe)

    def motion_step(
        self, audio: AudioChunk, state: PipelineState, *, probe: Probe | None = None
    ) -> MotionChunk:
        """The same up to the motion: what an engine without an animator delivers."""
        features = self.encoder.step(audio, state.encoder)
        _mark(probe, self.encoder)
        motion: MotionChunk = self.sampler.step(features, state.sampler)
        _mark(probe, self.sampler)
        state.next_frame = motion.t1
        return motion

    def drain(self, state: PipelineState, *, probe: Probe | None = None) -> FrameChunk:
        """The frames still held back, silence taken as the missing future."""
        features = self.encoder.drain(state.encoder)
        first: MotionChunk = self.sampler.step(features, state.sampler)
        rest: MotionChunk = self.sampler.drain(state.sampler)
        motion = MotionChunk(first.t0, torch.cat([first.data, rest.data], dim=1))
        state.next_frame = motion.t1
        return self._draw(motion, state, render=True, probe=probe)

    def reset(self, state: PipelineState, rows: Tensor) -> None:
        """Rows (bool [B]) start afresh, as after a barge-in; the time line goes on."""
        self.encoder.reset(state.encoder, rows)
        self.sampler.reset(state.sampler, rows)
        if self.animator is not None:
            self.animator.reset(state.animator, rows)

    def set_tier(self, state: PipelineState, tier: int) -> None:
        """0 = full quality, below :attr:`tiers` ever cheaper; stages without tiers ignore it."""
        for part in (state.encoder, state.sampler, state.animator):
            if hasattr(part, "tier"):
                part.tier = tier

    def _draw(
        self, motion: MotionChunk, state: PipelineState, render: bool, probe: Probe | None
    ) -> FrameChunk:
        if self.animator is None:
            raise ConfigError("this pipeline has no animator; use motion_step, or build it with one")
        if not render:
            motion = MotionChunk(motion.t1, motion.data[:, :0])
        frames: FrameChunk = self.animator.step(motion, state.animator)
        _mark(probe, self.animator)
        return frames


@dataclass
class ParallelState:
    """States of the branches and, per branch, the frames that wait for slower branches."""

    branches: list[Any]
    held: list[Tensor]
    t0: int | None = None


class Parallel:
    """Several samplers side by side on the same features, merged column by column.

    Each branch gives the columns assigned to it; the look-ahead is the longest branch's, faster
    branches wait in a queue.

    Args:
        branches: samplers with motion as output.
        columns: for each branch the motion columns it owns; together exactly all columns, once.
    """

    def __init__(self, branches: list[Stage[Any, Any, Any]], columns: list[list[int]]) -> None:
        owned = sorted(c for group in columns for c in group)
        if len(branches) != len(columns) or owned != list(range(len(owned))):
            raise ConfigError("give every branch its columns, each motion column exactly once")
        first = branches[0].spec
        self.branches = branches
        self.columns = columns
        self.spec = StageSpec(
            name="+".join(b.spec.name for b in branches),
            input=first.input,
            output=first.output,
            lookahead_frames=lookahead_parallel([b.spec for b in branches]),
            frame_rate=first.frame_rate,
        )

    def init_state(self, batch: int, cond: Cond) -> ParallelState:
        width = sum(len(group) for group in self.columns)
        return ParallelState(
            branches=[b.init_state(batch, cond) for b in self.branches],
            held=[torch.zeros(batch, 0, width) for _ in self.branches],
        )

    def step(self, x: Any, state: ParallelState) -> MotionChunk:
        return self._merge([b.step(x, s) for b, s in zip(self.branches, state.branches, strict=True)], state)

    def drain(self, state: ParallelState) -> MotionChunk:
        return self._merge([b.drain(s) for b, s in zip(self.branches, state.branches, strict=True)], state)

    def reset(self, state: ParallelState, rows: Tensor) -> None:
        for branch, part in zip(self.branches, state.branches, strict=True):
            branch.reset(part, rows)

    def forward(self, x: Any, cond: Cond) -> Tensor:
        outputs = [b.forward(x, cond) for b in self.branches]
        merged = torch.empty_like(outputs[0])
        for out, group in zip(outputs, self.columns, strict=True):
            merged[..., group] = out[..., group]
        return merged

    def _merge(self, chunks: list[MotionChunk], state: ParallelState) -> MotionChunk:
        if state.t0 is None:
            state.t0 = chunks[0].t0
        state.held = [torch.cat([h, c.data], dim=1) for h, c in zip(state.held, chunks, strict=True)]
        ready = min(h.shape[1] for h in state.held)
        merged = torch.empty_like(state.held[0][:, :ready])
        for held, group in zip(state.held, self.columns, strict=True):
            merged[..., group] = held[:, :ready, group]
        state.held = [h[:, ready:].clone() for h in state.held]
        chunk = MotionChunk(state.t0, merged)
        state.t0 += ready
        return chunk


def _mark(probe: Probe | None, stage: Stage[Any, Any, Any]) -> None:
    if probe is not None:
        probe(stage.spec.name)


def _check_joints(specs: list[StageSpec]) -> None:
    if specs[0].input != "audio":
        raise ConfigError(f"a pipeline starts from audio, but {specs[0].name} takes {specs[0].input}")
    for left, right in itertools.pairwise(specs):
        if left.output != right.input:
            raise ConfigError(
                f"{left.name} gives {left.output}, {right.name} takes {right.input}; choose parts that join"
            )
        if left.frame_rate != right.frame_rate:
            raise ConfigError(
                f"{left.name} runs at {left.frame_rate} frames/s, {right.name} at {right.frame_rate}"
            )
