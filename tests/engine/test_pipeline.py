"""The pipeline: look-ahead arithmetic, joints, catching up without drawing, controls, reset, drain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engine.animators.tiny import TinyAnimator
from engine.encoders.tiny import TinyEncoder
from engine.errors import ConfigError, StreamError
from engine.pipeline import Parallel, Pipeline, lookahead_parallel, lookahead_series
from engine.recipes import build
from engine.samplers.tiny import TinySampler
from engine.stage import StageSpec
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk, MotionChunk


class Delayed(TinySampler):
    """A sampler that holds every frame back for ``ahead`` frames: a longer branch."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.spec = dataclasses.replace(self.spec, lookahead_frames=ahead)
        self.ahead = ahead

    def init_state(self, batch: int, cond: Cond) -> list[MotionChunk]:  # type: ignore[override]
        self.inner = super().init_state(batch, cond)
        return []

    def step(self, x: FeatureChunk, state: list[MotionChunk]) -> MotionChunk:  # type: ignore[override]
        state.append(super().step(x, self.inner))
        data = torch.cat([c.data for c in state], 1)
        ready = max(0, data.shape[1] - self.ahead)
        t0 = state[0].t0
        state[:] = [MotionChunk(t0 + ready, data[:, ready:])]
        return MotionChunk(t0, data[:, :ready])

    def drain(self, state: list[MotionChunk]) -> MotionChunk:  # type: ignore[override]
        return state.pop()


def _audio(frames: int) -> torch.Tensor:
    t = torch.arange(frames * 640) / 16_000
    return (0.2 * torch.sin(2 * torch.pi * 220 * t) * (0.5 + 0.5 * torch.sin(2 * torch.pi * 3 * t)))[None]


def test_lookahead_adds_in_series_and_takes_the_maximum_in_parallel() -> None:
    specs = [StageSpec("a", "audio", "x", 2), StageSpec("b", "x", "y", 1), StageSpec("c", "y", "z", 0)]
    assert lookahead_series(specs) == 3
    assert lookahead_parallel(specs) == 2
    half = [list(range(36)), list(range(36, 72))]
    assert Parallel([Delayed(1), Delayed(3)], half).spec.lookahead_frames == 3
    pipeline = Pipeline(TinyEncoder(), Parallel([TinySampler(), Delayed(2)], half), TinyAnimator(32))
    assert pipeline.lookahead_frames == 3
    assert "3 frames = 120 ms" in pipeline.describe()


def test_parallel_branches_leave_together() -> None:
    half = [list(range(36)), list(range(36, 72))]
    parallel = Parallel([TinySampler(), Delayed(2)], half)
    state = parallel.init_state(1, Cond.default())
    noise = torch.Generator().manual_seed(0)
    data = torch.randn(1, 9, 16, generator=noise)
    out = []
    for k in range(9):
        chunk = parallel.step(FeatureChunk(k, data[:, k : k + 1], CONTROLS.default().unsqueeze(1)), state)
        assert chunk.t1 == max(0, k + 1 - 2)
        out.append(chunk.data)
    out.append(parallel.drain(state).data)
    alone = TinySampler().forward(FeatureChunk(0, data, CONTROLS.default().repeat(1, 9, 1)), Cond.default())
    torch.testing.assert_close(torch.cat(out, 1), alone, rtol=0, atol=0)


def test_stages_that_do_not_join_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose parts that join"):
        Pipeline(TinyEncoder(), TinySampler(features=8), TinyAnimator(32))
    with pytest.raises(ConfigError, match="starts from audio"):
        Pipeline(TinySampler(), TinySampler(), None)
    with pytest.raises(ConfigError, match="each motion column exactly once"):
        Parallel([TinySampler(), TinySampler()], [[0, 1], [1, 2]])
    with pytest.raises(ConfigError, match="one row per stream"):
        build("tiny").init_state(2, Cond.default(1))


@pytest.mark.parametrize("chunk", [1, 37, 160, 640, 641, 1920])
def test_frames_leave_when_due_whatever_the_chunks(chunk: int) -> None:
    pipeline, frames = build("tiny"), 6
    audio = _audio(frames)
    state = pipeline.init_state(1, Cond.default())
    pictures = []
    for start in range(0, audio.shape[1], chunk):
        out = pipeline.step(AudioChunk(start, audio[:, start : start + chunk]), state)
        arrived = min(start + chunk, audio.shape[1]) // 640
        assert out.t1 == max(0, arrived - pipeline.lookahead_frames)
        pictures.append(out.data)
    pictures.append(pipeline.drain(state).data)
    whole = torch.cat(pictures, 1)
    assert whole.shape[1] == frames
    once = build("tiny")
    again = once.init_state(1, Cond.default())
    reference = torch.cat([once.step(AudioChunk(0, audio), again).data, once.drain(again).data], 1)
    assert torch.equal(whole, reference)


def test_catching_up_without_drawing_changes_no_later_frame() -> None:
    pipeline, audio = build("tiny"), _audio(8)
    drawn, skipped = (pipeline.init_state(1, Cond.default()) for _ in range(2))
    for k in range(8):
        chunk = AudioChunk(640 * k, audio[:, 640 * k : 640 * (k + 1)])
        a = pipeline.step(chunk, drawn)
        b = pipeline.step(chunk, skipped, render=k not in (3, 4))
        if k in (3, 4):
            assert b.data.shape[1] == 0
            assert b.t0 == a.t1
        else:
            assert torch.equal(a.data, b.data)


def test_controls_reach_the_frames_that_start_after_them() -> None:
    pipeline, audio = build("tiny"), _audio(8)
    still = CONTROLS.default()
    still[0, CONTROLS.index("strengthLips")] = 0.0
    plain, changed = (pipeline.init_state(1, Cond.default()) for _ in range(2))
    outputs = []
    for state, controls in ((plain, None), (changed, still)):
        motion = []
        for k in range(8):
            given = controls if k == 4 else None
            chunk = AudioChunk(640 * k, audio[:, 640 * k : 640 * (k + 1)], given)
            motion.append(pipeline.motion_step(chunk, state).data)
        outputs.append(torch.cat(motion, 1))
    assert torch.equal(outputs[0][:, :4], outputs[1][:, :4])
    assert float(outputs[1][:, 4:, :64].abs().max()) == 0.0
    assert float(outputs[0][:, 4:, :64].abs().max()) > 0.0


def test_a_gap_in_the_time_line_is_an_error_with_an_address() -> None:
    pipeline = build("tiny")
    state = pipeline.init_state(1, Cond.default())
    pipeline.step(AudioChunk(0, torch.zeros(1, 640)), state)
    with pytest.raises(StreamError, match=r"expected sample 640, got 1280 \(stage tiny_encoder\)"):
        pipeline.step(AudioChunk(1280, torch.zeros(1, 640)), state)


def test_probe_is_called_after_every_stage_in_order() -> None:
    seen: list[str] = []
    pipeline = build("tiny")
    state = pipeline.init_state(1, Cond.default())
    pipeline.step(AudioChunk(0, torch.zeros(1, 1280)), state, probe=seen.append)
    assert seen == ["tiny_encoder", "tiny_sampler", "tiny_animator"]


def test_another_seed_is_another_face_motion_and_the_same_seed_the_same() -> None:
    pipeline, audio = build("tiny"), _audio(6)
    runs = []
    for seed in (1, 1, 2):
        state = pipeline.init_state(1, Cond.default(seed=seed))
        runs.append(pipeline.motion_step(AudioChunk(0, audio), state).data.numpy())
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tiny"):
        build("nonsense")
