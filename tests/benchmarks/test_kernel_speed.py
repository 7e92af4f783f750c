"""The kernel benchmark: the roofline arithmetic, and a short real run."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import kernel_speed
from benchmarks.kernel_cases import Timed, cases
from kernels.fuse import fuse


def test_row_takes_the_binding_roof() -> None:
    roof = {"GB/s": 10.0, "GFLOP/s": 100.0}
    moved = Timed("copy", "1", "cpu", lambda: None, bytes=20_000_000, flops=1)
    row = kernel_speed.row_of(moved, [4.0] * 9, roof)
    assert (row["GB/s"], row["of roof"], row["p50"], row["calls"]) == (5.0, 0.5, 4.0, 9)
    computed = Timed("product", "1", "cpu", lambda: None, bytes=1, flops=50_000_000)
    assert kernel_speed.row_of(computed, [1.0, 2.0, 3.0], roof)["of roof"] == 0.25


def test_times_keep_to_the_limits_and_really_call() -> None:
    calls: list[int] = []
    watch = kernel_speed.Watch("cpu", cold=False)
    times = watch.times(lambda: calls.append(1), seconds=0.0, least=4, most=9)
    assert len(times) == 4
    assert len(calls) == 3 + 4
    assert len(watch.times(lambda: None, seconds=9.0, least=1, most=9)) == 9
    assert min(times) > 0


def test_counts_of_a_fused_frame() -> None:
    """Nine bytes a pixel (base, image, out) and a sixteenth of six float32 fields."""
    found = next(c for c in cases("cpu") if (c.kernel, c.size, c.body) == ("fuse", "1 x 512x512", "cpu"))
    assert found.bytes == 512 * 512 * 9 + 6 * 128 * 128 * 4
    assert torch.is_tensor(found.call())
    assert found.call.func is fuse  # type: ignore[attr-defined]


def test_a_short_run_ends_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_speed.main(["--device", "cpu", "--only", "NV12", "--seconds", "0.01", "--cold"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["kernel"], row["body"]) for row in line["rows"]] == [
        ("RGB to NV12", "ref"),
        ("RGB to NV12", "cpu"),
    ]
    assert line["cache"] == "cold"
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in line["rows"])
