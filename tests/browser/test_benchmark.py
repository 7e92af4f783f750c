"""The latency benchmark from end to end, short: stamps and marks make the whole way and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import run as benchmark


@pytest.mark.slow
def test_benchmark_measures_a_real_call(
    chromium: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--recipe", "tiny", "--seconds", "12", "--budgets", "60", "500", "--out", str(tmp_path)]
    assert benchmark.main(options) == 0
    refused, measured = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["budgets"]
    assert refused["smallest_ms"] > 60
    # Nothing can be faster than the budget, but for the part of a frame by which a mark trails its start.
    assert measured["end_to_end_ms"]["low"] > 480.0
    assert measured["sound_off_ms"]["count"] > 20
    assert measured["marked_samples_ms"]["count"] >= 4
    assert measured["av_offset_ms"]["count"] >= 2
    assert measured["frames"]["shown"] > 100
    assert measured["frames"]["unreadable"] == 0
    assert measured["start"]["cold_process_s"] > measured["start"]["server_ready_s"]
