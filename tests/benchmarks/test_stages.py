"""Timing of stages: every stage is stepped as a stream, in every runtime that is here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import run, stages
from benchmarks.stages import AS_BUILT, WARM, Timing, table, time_stage
from engine.animators.mesh.animator import MeshAnimator
from engine.config import asset_path
from engine.errors import AssetError, BackendError
from engine.runtime import available_backends
from engine.types import PixelFormat


def test_frames_are_consecutive_and_the_first_ones_do_not_count() -> None:
    asked: list[int] = []
    timing = time_stage("animator", "x", "eager", 4, asked.append, 5)
    assert asked == list(range(WARM + 5))
    assert timing.frames == 5
    assert 0.0 <= timing.p50 <= timing.p95 <= timing.p99


def test_frames_per_second_counts_all_rows() -> None:
    timing = Timing("animator", "x", "eager", 4, 2.0, 2.5, 3.0, 2.0, 100)
    assert timing.frames_per_s == 500.0
    assert "500" in table([timing])


def test_every_kind_of_stage_is_measured() -> None:
    rows = stages.measure(["mesh", "ppg", "speech"], [1, 2], 2, asset_path("demo/astronaut.png"))
    usable = [name for name, missing in available_backends().items() if missing is None]
    wanted = {("animator", "mesh", AS_BUILT), ("sampler", "speech", AS_BUILT)}
    wanted |= {("encoder", "ppg", name) for name in usable}
    assert {(row.kind, row.name, row.runtime) for row in rows} == wanted
    assert {row.batch for row in rows} == {1, 2}
    assert all(row.p50 > 0.0 for row in rows)


def test_runtimes_and_precisions_are_tried_where_there_is_a_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[tuple[str, str]] = []

    def choosy(pixels: PixelFormat, backend: str = "auto", precision: str = "f32") -> MeshAnimator:
        tried.append((backend, precision))
        if backend == "eager":
            raise BackendError("not today")
        return MeshAnimator(pixels)

    makers: dict[str, Callable[..., Any]] = {"choosy": choosy}
    monkeypatch.setattr(stages, "animator_makers", lambda: makers)
    monkeypatch.setattr(stages, "available_backends", lambda: {"eager": None, "openvino": None, "x": "no x"})
    rows = stages.measure(["choosy"], [1], 1, asset_path("demo/astronaut.png"))
    assert tried == [("eager", "f32"), ("openvino", "f32"), ("openvino", "bf16")]
    assert [row.runtime for row in rows] == ["openvino f32", "openvino bf16"]
    assert "choosy on eager f32 is left out: not today" in capsys.readouterr().err


def test_a_makers_class_may_have_the_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Choosy(MeshAnimator):
        def __init__(self, pixels: PixelFormat, backend: str = "auto") -> None:
            super().__init__(pixels)

    def unready(pixels: PixelFormat) -> MeshAnimator:
        raise AssetError("no weights")

    makers: dict[str, Callable[..., Any]] = {"choosy": lambda pixels: Choosy(pixels), "unready": unready}
    monkeypatch.setattr(stages, "animator_makers", lambda: makers)
    monkeypatch.setattr(stages, "available_backends", lambda: {"eager": None, "openvino": None})
    rows = stages.measure(["choosy", "unready"], [1], 1, asset_path("demo/astronaut.png"))
    assert [row.runtime for row in rows] == ["eager", "openvino"]
    assert "unready is left out: no weights" in capsys.readouterr().err


def test_the_command_ends_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--stages", "--only", "mel", "--frames", "2", "--batches", "1"]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert said["benchmark"] == "stages"
    assert [(row["name"], row["batch"]) for row in said["rows"]] == [("mel", 1)]
    assert stages.main(["--only", "nobody"]) == 1
    assert "no stage named nobody" in capsys.readouterr().err
