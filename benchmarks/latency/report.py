"""The HTML report: one file, no outside requests, readable in light and dark."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.analyse import SETTLE_S, Summary
from benchmarks.latency.engine_only import EngineRun
from benchmarks.latency.result import BenchmarkRun, BudgetRun
from benchmarks.latency.svg import Line, histogram, timeline

__all__ = ["html_report"]

_STYLE = Path(__file__).with_name("report.css")

_EXPLAINED = {
    "end_to_end_ms": "End to end (first owned sample → frame on screen)",
    "sound_off_ms": "End to end with the sound off (nothing to wait for)",
    "marked_samples_ms": "Marked samples (mark spoken → mark on screen)",
    "silence_to_speech_ms": "Silence → speech (first audible sample → its frame)",
    "av_offset_ms": "A/V offset (mark on the screen − mark at the loudspeaker)",
    "av_offset_browser_ms": "A/V offset as the browser estimates it",
}


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _card(title: str, body: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h3>{escape(title)}</h3>{body}</section>'


def _tiles(values: list[tuple[str, str]]) -> str:
    tiles = "".join(
        f'<div class="card tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in values
    )
    return f'<div class="tiles">{tiles}</div>'


def _row(name: str, s: Summary) -> list[str]:
    if not s.count:
        return [name, "0", *["–"] * 5]
    return [name, str(s.count), *(f"{v:.1f}" for v in (s.low, s.p50, s.p95, s.p99, s.high))]


_HEAD = ["ms", "n", "min", "p50", "p95", "p99", "max"]


def _stage_table(stages: list[dict[str, Any]]) -> str:
    rows = [
        [s["name"], str(s["count"]), *(f"{s[k]:.2f}" for k in ("p50", "p95", "p99", "max"))] for s in stages
    ]
    return _table(["ms per frame", "n", "p50", "p95", "p99", "max"], rows)


def _server_table(run: BudgetRun) -> str:
    counters = run.stats.get("counters", {})
    cpu, rss = run.resources.cpu_percent or [0.0], run.resources.rss_mb or [0.0]
    offset = run.stats.get("av_offset_ms", {})
    rows = [
        ["processor, mean / peak (100 = one core)", f"{np.mean(cpu):.0f} % / {max(cpu):.0f} %"],
        ["whole machine, mean", f"{np.mean(run.resources.machine_percent or [0.0]):.0f} %"],
        ["memory, first / last", f"{rss[0]:.0f} / {rss[-1]:.0f} MB"],
        [
            "A/V offset where it leaves, p50 / p99",
            f"{offset.get('p50', 0):.2f} / {offset.get('p99', 0):.2f} ms",
        ],
        *([name.replace("_", " "), f"{value}"] for name, value in counters.items()),
    ]
    return _table(["server", ""], rows)


def _budget_section(run: BudgetRun) -> str:
    title = f"<h2>Budget {run.budget_ms:g} ms</h2>"
    if run.measured is None:
        return title + _card("Refused", f"<p>{escape(run.refusal or '')}</p>", "refused")
    m, s = run.measured, run.summaries()
    e2e, av = s["end_to_end_ms"], s["av_offset_ms"]
    frames = run.stats.get("frames", {})
    on_time = 100 * (1 - frames.get("late", 0) / max(1, frames.get("total", 0)))
    tiles = _tiles([
        ("end to end, median", f"{e2e.p50:.0f} ms"),
        ("end to end, p99", f"{e2e.p99:.0f} ms"),
        ("median with the sound off", f"{s['sound_off_ms'].p50:.0f} ms"),
        ("A/V offset, median", f"{av.p50:+.0f} ms" if av.count else "none seen"),
        ("frames shown", f"{m.fps:.1f} fps"),
        ("left the server on time", f"{on_time:.2f} %"),
        ("warm start to first frame", f"{m.first_frame_ms:.0f} ms"),
        ("cold start, process included", f"{run.cold_s:.1f} s"),
    ])  # fmt: skip
    lines = [Line(run.budget_ms, f"budget {run.budget_ms:g}"), Line(e2e.p50, f"p50 {e2e.p50:.0f}"),
             Line(e2e.p99, f"p99 {e2e.p99:.0f}")]  # fmt: skip
    plots = (
        _card("Latency", histogram(m.frame_latency, "end-to-end latency", "ms", lines))
        + _card("Latency over time", timeline(
            [("every frame", m.frame_at, m.frame_latency)], "latency", "ms", lines[:1]))
        + _card("A/V offset at the receiver", histogram(m.av_offset, "picture minus sound", "ms",
                [Line(-20, "−20"), Line(20, "+20")], bins=24))
        + _card("A/V offset over time", timeline(
            [("marks, seen minus heard", m.av_at, m.av_offset),
             ("the browser's estimate", m.playout_at, m.playout_offset)],
            "offset", "ms", [Line(-20, ""), Line(20, "±20 ms")]))
    )  # fmt: skip
    shown = (
        f"Without the first {SETTLE_S:g} s, in which buffers and lip sync settle (the plots show them). "
        f"{m.shown} frames shown, {m.missing} missing, {m.repeated} repeated, {m.unreadable} unreadable. "
        f"First call after the start of the server: first frame after {run.cold_call_ms:.0f} ms; "
        f"the server answered after {run.server_ready_s:.1f} s."
    )
    tables = (
        _card(
            "At the page", _table(_HEAD, [_row(_EXPLAINED[k], v) for k, v in s.items()]) + f"<p>{shown}</p>"
        )
        + '<div class="grid">'
        + _card("Stages in the server", _stage_table(run.stats.get("stages", [])))
        + _card("Server", _server_table(run))
        + "</div>"
    )
    return f'{title}{tiles}<div class="grid">{plots}</div>{tables}'


def _engine_section(engine: EngineRun) -> str:
    rows = [_row(name, s) for name, s in [*engine.stages.items(), ("total", engine.total)]]
    b = engine.budget
    arithmetic = (
        f"frame {b['frame']:g} + look-ahead {b['lookahead']:g} + compute p99 {b['compute_p99']:.1f} + guard "
        f"{b['guard']:g} → the smallest budget is {b['smallest']:g} ms. {engine.realtime_factor:.1f} times "
        f"real time; the first frame of a fresh state took {engine.cold_frame_ms:.1f} ms."
    )
    plot = histogram(np.array(engine.total_ms), "time per frame", "ms")
    return (
        "<h2>Engine alone</h2>"
        + '<div class="grid">'
        + _card("Stages", _table(_HEAD, rows))
        + _card("Time per frame", plot)
        + f"</div><p>{escape(arithmetic)}</p>"
    )


def _machine_section(run: BenchmarkRun) -> str:
    versions = run.machine.get("versions", {})
    rows = [[k.replace("_", " "), str(v)] for k, v in run.machine.items() if k != "versions"]
    rows.append(["versions", ", ".join(f"{k} {v}" for k, v in versions.items())])
    return "<h2>Machine</h2>" + _card("Where these numbers are from", _table(["", ""], rows))


def html_report(run: BenchmarkRun) -> str:
    """The whole report as one HTML document."""
    intro = (
        "A sample is spoken into the page's microphone; the frame that owns it comes back with its index "
        "written into its pixels. Both moments are read off the page's one clock: microphone, encoder, "
        "network, jitter buffers, the server's fixed budget, video coding and the screen are all inside. "
        "With the sound on, the page holds the picture back until its sound is at the loudspeaker."
    )
    parts = [
        f"<h1>visavis latency, recipe {escape(run.recipe)}</h1><p>{intro}</p>",
        *(_budget_section(b) for b in run.budgets),
        _engine_section(run.engine) if run.engine is not None else "",
        _machine_section(run),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>visavis latency</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
