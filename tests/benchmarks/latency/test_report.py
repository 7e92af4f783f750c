"""Table, JSON line and report of measured, refused and engine-only runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import run as benchmark
from benchmarks.latency.analyse import analyse
from benchmarks.latency.engine_only import prepare_engine, run_engine
from benchmarks.latency.process import ResourceLog, Server
from benchmarks.latency.report import html_report
from benchmarks.latency.result import BenchmarkRun, BudgetRun, describe_machine, json_record, table
from benchmarks.latency.svg import Axis, Line, histogram, timeline
from engine.errors import BudgetError, StreamError
from tests.benchmarks.latency.test_analyse import SAID, observe

STATS = {
    "frames": {"total": 400, "late": 2},
    "stages": [{"name": "<stage>", "p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0, "count": 400}],
    "counters": {"misses": 2},
    "av_offset_ms": {"p50": 0.2, "p99": 0.9},
}


def measured() -> BudgetRun:
    return BudgetRun(
        budget_ms=160.0,
        measured=analyse(observe(213.0, 5.0, {30}), SAID),
        sound_off=analyse(observe(188.0, 0.0, set()), SAID),
        stats=STATS,
        resources=ResourceLog([1.0, 2.0], [80.0, 90.0], [400.0, 401.0], [60.0, 70.0]),
        server_ready_s=4.0,
        cold_s=6.0,
        cold_call_ms=700.0,
    )


def whole() -> BenchmarkRun:
    pipeline, cond = prepare_engine("tiny")
    refused = BudgetRun(60.0, refusal="a budget of 60 ms cannot be met", smallest_ms=118)
    engine = run_engine(pipeline, cond, 1.0)
    return BenchmarkRun("tiny", 16.0, engine, [refused, measured()], describe_machine("Chromium 1"))


def test_every_output_names_what_was_measured_and_what_was_refused() -> None:
    run = whole()
    text, html, record = table(run), html_report(run), json_record(run)
    assert re.search(r"^160 +213 +213 +213 +188 ", text, re.MULTILINE)
    assert "60 ms: refused, the smallest budget here is 118 ms" in text
    assert record == json.loads(json.dumps(record))
    assert record["budgets"][0]["smallest_ms"] == 118
    assert record["budgets"][1]["end_to_end_ms"]["p50"] == pytest.approx(213.0, abs=1.0)
    assert record["budgets"][1]["frames"]["missing"] == 1
    assert record["engine"]["frames"] == 25
    assert record["machine"]["commit"]
    assert "cannot be met" in html
    assert "&lt;stage&gt;" in html
    assert "<stage>" not in html


def test_report_asks_nothing_from_outside() -> None:
    html = html_report(whole())
    assert not re.search(r"""(src|href)=|@import|url\(|https?://""", html)


def test_engine_run_adds_up_the_budget() -> None:
    pipeline, cond = prepare_engine("tiny")
    run = run_engine(pipeline, cond, 2.0)
    b = run.budget
    assert b["lookahead"] == float(pipeline.lookahead_ms)
    assert b["smallest"] >= b["frame"] + b["lookahead"] + b["compute_p99"] + b["guard"]
    assert set(run.stages) == {stage.spec.name for stage in pipeline.stages}
    assert run.total.count == 50


def test_engine_only_prints_one_json_line_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        benchmark.main(["--engine-only", "--recipe", "tiny", "--seconds", "1", "--out", str(tmp_path)]) == 0
    )
    record = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert record["budgets"] == []
    assert record["engine"]["frames"] == 25
    assert (tmp_path / "latency.html").read_text().startswith("<!doctype html>")


def test_unknown_recipe_is_one_line_and_status_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--engine-only", "--recipe", "nonsense"]) == 1
    assert "no recipe 'nonsense'" in capsys.readouterr().err


def test_a_refused_budget_and_a_wrong_option_are_told_apart(tmp_path: Path) -> None:
    with (
        pytest.raises(BudgetError) as refused,
        Server(["--recipe", "tiny", "--budget-ms", "60"], tmp_path / "a"),
    ):
        pass
    assert refused.value.smallest_ms > 100
    with pytest.raises(StreamError, match="unrecognized"), Server(["--nonsense"], tmp_path / "b"):
        pass


def test_plots_have_round_ticks_and_survive_no_data() -> None:
    assert Axis(0.0, 97.0, "").ticks() == [0.0, 20.0, 40.0, 60.0, 80.0]
    assert "no data" in histogram(np.array([]), "latency", "ms")
    assert "no data" in timeline([("a", np.array([]), np.array([]))], "latency", "ms")
    values = np.random.default_rng(0).normal(200.0, 8.0, 1000)
    picture = histogram(values, "latency", "ms", [Line(160.0, "budget")])
    assert sum(int(n) for n in re.findall(r": (\d+)</title>", picture)) == 1000
    constant = timeline([("a", np.arange(3.0), np.full(3, 7.0))], "latency", "ms")
    assert constant.count("h0") == 3


def test_a_run_too_short_for_resources_has_zeros() -> None:
    bare = replace(measured(), resources=ResourceLog())
    assert (
        json_record(BenchmarkRun("tiny", 1.0, None, [bare], {}))["budgets"][0]["server"]["cpu_percent"] == 0.0
    )
