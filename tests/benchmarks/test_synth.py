"""The benchmark of the synthetic people runs processes of its own and ends in one JSON line."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

import pytest

from benchmarks import synth
from engine.errors import BackendError
from engine.synth.people.person import Studio


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
    pytest.importorskip("moderngl")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")  # no EGL device
    with pytest.raises(BackendError, match="EGL"):
        synth.measure(1, 64, 1, 1)


def test_a_worker_that_dies_ends_it() -> None:
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=os._exit, args=(3,))
    worker.start()
    with pytest.raises(BackendError, match="status 3"):
        synth._answers([worker], context.Queue())


def test_without_moderngl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(BackendError, match=r"visavis\[train\]"):
        Studio(64)
