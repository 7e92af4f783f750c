"""The benchmark of the synthetic people runs processes of its own and ends in one JSON line."""

from __future__ import annotations

import json

import pytest

from benchmarks import synth
from engine.errors import BackendError


def test_it_ends_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("moderngl")
    arguments = ["--processes", "1", "--people", "1", "--frames", "2", "--size", "64"]
    if synth.main(arguments):
        pytest.skip(capsys.readouterr().err)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["benchmark"] == "synth"
    assert (line["people"], line["frames"], line["size"]) == (1, 2, 64)
    assert line["frames_per_s"] > 0
    assert line["cpu_ms"] > 0


def test_a_worker_that_cannot_draw_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")  # no EGL device
    with pytest.raises(BackendError, match="EGL"):
        synth.measure(1, 64, 1, 1)
