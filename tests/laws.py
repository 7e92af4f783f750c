"""The laws every stage keeps, as functions over a :class:`Case`.

``tests/engine/test_laws.py`` runs each law on each registered stage; a new stage joins by adding its
case there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk, MotionChunk

__all__ = ["LAWS", "Case", "audio_case", "feature_case", "motion_case"]

FRAMES = 14
PERTURBED = 8


@dataclass(frozen=True)
class Case:
    """One stage and how to feed it.

    ``make(frames, seed)`` builds a whole input of ``frames`` frames and two rows; ``unit`` is the
    number of input items per frame (640 for audio, 1 elsewhere); ``chunk_any`` allows chunks that
    are no whole number of frames.
    """

    name: str
    stage: Any
    make: Callable[[int, int], Any]
    cond: Cond
    unit: int = 1
    tolerance: float = 0.0


def audio_case(name: str, stage: Any, cond: Cond | None = None, tolerance: float = 0.0) -> Case:
    """A case fed with speech-like audio: bursts of tones and noise with pauses."""
    return Case(name, stage, _audio, cond or Cond.default(2, seed=3), unit=640, tolerance=tolerance)


def feature_case(name: str, stage: Any, make: Callable[[int, int], Any], tolerance: float = 0.0) -> Case:
    """A case fed with features from ``make``."""
    return Case(name, stage, make, Cond.default(2, seed=3), tolerance=tolerance)


def motion_case(name: str, stage: Any, cond: Cond | None = None) -> Case:
    """A case fed with smooth random motion."""
    return Case(name, stage, _motion, cond or Cond.default(2, seed=3))


def _audio(frames: int, seed: int) -> AudioChunk:
    noise = np.random.default_rng(seed)
    t = np.arange(frames * 640) / 16_000
    rows = []
    for row in range(2):
        tone = sum(np.sin(2 * np.pi * f * (t + row)) for f in (140.0 + 20 * row, 510.0, 1480.0, 2300.0))
        envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 4.0 * t + row)
        rows.append(0.1 * tone * envelope + 0.01 * noise.standard_normal(t.size))
    controls = CONTROLS.default(2)
    return AudioChunk(0, torch.tensor(np.stack(rows), dtype=torch.float32), controls)


def _motion(frames: int, seed: int) -> MotionChunk:
    noise = torch.Generator().manual_seed(seed)
    data = torch.rand(2, frames, 72, generator=noise) * 0.4
    data[..., 64:] = (data[..., 64:] - 0.2) * 0.5
    return MotionChunk(0, data)


def cut(x: Any, start: int, stop: int) -> Any:
    """Items ``start``..``stop`` of a whole input, as the chunk that continues the stream."""
    if isinstance(x, AudioChunk):
        return AudioChunk(x.t0 + start, x.samples[:, start:stop], x.controls)
    if isinstance(x, FeatureChunk):
        return FeatureChunk(x.t0 + start, x.data[:, start:stop], x.controls[:, start:stop])
    return MotionChunk(x.t0 + start, x.data[:, start:stop])


def length(x: Any) -> int:
    return int(x.samples.shape[1] if isinstance(x, AudioChunk) else x.data.shape[1])


def shifted(x: Any, items: int) -> Any:
    """The same input, later on the time line."""
    moved = copy.copy(x)
    moved.t0 = x.t0 + items
    return moved


def stream(case: Case, x: Any, chunks: list[int], state: Any = None) -> tuple[Tensor, Any]:
    """Feed ``x`` in ``chunks`` (last one repeated), drain, return all frames and the state."""
    state = state if state is not None else case.stage.init_state(2, case.cond)
    outputs, start, turn = [], 0, 0
    while start < length(x):
        stop = min(length(x), start + chunks[min(turn, len(chunks) - 1)])
        outputs.append(case.stage.step(cut(x, start, stop), state))
        start, turn = stop, turn + 1
    outputs.append(case.stage.drain(state))
    _check_times(outputs)
    return torch.cat([y.data for y in outputs], dim=1), state


def _check_times(outputs: list[Any]) -> None:
    due = outputs[0].t0
    for y in outputs:
        if y.data.shape[1]:
            assert y.t0 == due, f"chunk starts at frame {y.t0}, {due} was due"
            due = y.t1


def assert_same(a: Tensor, b: Tensor, tolerance: float, what: str) -> None:
    assert a.shape == b.shape, f"{what}: {list(a.shape)} against {list(b.shape)}"
    worst = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
    assert worst <= tolerance, f"{what}: differs by {worst:g} (allowed {tolerance:g})"


def law_streamed_equals_offline(case: Case) -> None:
    """Random chunkings, and the stage's own ``forward``, give one result."""
    x = case.make(FRAMES, 0)
    whole, _ = stream(case, x, [length(x)])
    assert whole.shape[1] == FRAMES
    assert_same(case.stage.forward(x, case.cond), whole, case.tolerance, "forward against streamed")
    noise = np.random.default_rng(1)
    for _ in range(3):
        chunks = [int(c) for c in noise.integers(1, 3 * case.unit + 1, 200)]
        parts, _ = stream(case, x, chunks)
        assert_same(parts, whole, case.tolerance, f"chunks {chunks[:6]}...")
    frames, _ = stream(case, x, [case.unit])
    assert_same(frames, whole, case.tolerance, "frame by frame")


def law_lookahead_is_exact(case: Case) -> None:
    """Perturb input frame t: the first output that changes is t - L, and it leaves when t is in."""
    ahead = case.stage.spec.lookahead_frames
    x, other = case.make(FRAMES, 0), case.make(FRAMES, 0)
    values = other.samples if isinstance(other, AudioChunk) else other.data
    part = values[:, PERTURBED * case.unit : (PERTURBED + 1) * case.unit]
    noise = torch.Generator().manual_seed(7)
    part.copy_(0.5 * part + 0.3 * torch.rand(part.shape, generator=noise))
    a, _ = stream(case, x, [case.unit])
    b, _ = stream(case, other, [case.unit])
    changed = (a != b).flatten(2).any(-1).any(0).nonzero().flatten()
    assert changed.numel(), "the perturbation changed nothing"
    first = int(changed[0])
    assert first == PERTURBED - ahead, f"first change at {first}, declared {PERTURBED - ahead}"
    state = case.stage.init_state(2, case.cond)
    out = case.stage.step(cut(x, 0, (PERTURBED + 1) * case.unit), state)
    assert out.t1 == PERTURBED + 1 - ahead, "frames leave later (or earlier) than declared"


def law_states_never_talk(case: Case) -> None:
    """Two interleaved streams give what each gives alone."""
    x, y = case.make(FRAMES, 0), case.make(FRAMES, 5)
    alone, _ = stream(case, x, [case.unit])
    one, two = case.stage.init_state(2, case.cond), case.stage.init_state(2, case.cond)
    out = []
    for k in range(0, length(x), case.unit):
        out.append(case.stage.step(cut(x, k, k + case.unit), one).data)
        case.stage.step(cut(y, k, k + case.unit), two)
    out.append(case.stage.drain(one).data)
    assert_same(torch.cat(out, 1), alone, 0.0, "interleaved against alone")


def law_rows_never_talk(case: Case) -> None:
    """Row 0 does not notice what row 1 hears."""
    x, y = case.make(FRAMES, 0), case.make(FRAMES, 0)
    values = y.samples if isinstance(y, AudioChunk) else y.data
    values[1] = values[1].flip(0) * 0.7
    a, _ = stream(case, x, [case.unit])
    b, _ = stream(case, y, [case.unit])
    assert_same(a[0], b[0], case.tolerance, "row 0 with another row 1")


def law_reset_row_equals_fresh(case: Case) -> None:
    """After ``reset``, that row gives what a fresh stream gives; the other row goes on."""
    x, cut_at = case.make(FRAMES, 0), 6
    tail = cut(x, cut_at * case.unit, length(x))
    going, _ = stream(case, x, [case.unit])
    state = case.stage.init_state(2, case.cond)
    head = case.stage.step(cut(x, 0, cut_at * case.unit), state).data
    case.stage.reset(state, torch.tensor([True, False]))
    rest, _ = stream(case, tail, [case.unit], state)
    both = torch.cat([head, rest], 1)
    fresh, _ = stream(case, tail, [case.unit])
    assert_same(both[1], going[1], case.tolerance, "the row that was not reset")
    assert_same(both[0, cut_at:], fresh[0], case.tolerance, "the row that was reset")


def law_copied_state_resumes(case: Case) -> None:
    """A deep copy of a state goes on bit-exactly."""
    x = case.make(FRAMES, 0)
    half = 7 * case.unit
    state = case.stage.init_state(2, case.cond)
    case.stage.step(cut(x, 0, half), state)
    twin = copy.deepcopy(state)
    a = case.stage.step(cut(x, half, length(x)), state).data
    b = case.stage.step(cut(x, half, length(x)), twin).data
    assert a.shape[1] > 0
    assert_same(a, b, 0.0, "the copied state")


def law_any_start_is_deterministic(case: Case) -> None:
    """A stream may start at any frame, and twice the same input gives twice the same output."""
    x = shifted(case.make(FRAMES, 0), 1000 * case.unit)
    a, _ = stream(case, x, [case.unit])
    b, _ = stream(case, x, [2 * case.unit])
    assert_same(a, b, case.tolerance, "two runs from frame 1000")
    state = case.stage.init_state(2, case.cond)
    assert case.stage.step(cut(x, 0, 5 * case.unit), state).t0 == 1000


LAWS: list[Callable[[Case], None]] = [
    law_streamed_equals_offline,
    law_lookahead_is_exact,
    law_states_never_talk,
    law_rows_never_talk,
    law_reset_row_equals_fresh,
    law_copied_state_resumes,
    law_any_start_is_deterministic,
]
