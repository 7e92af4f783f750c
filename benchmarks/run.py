"""The latency benchmark: audio sample in -> frame on a real Chromium page.

::

    python benchmarks/run.py                       # 60 s at each of 120, 160 and 240 ms, in Chromium
    python benchmarks/run.py --quick               # the same in about two minutes
    python benchmarks/run.py --engine-only         # no browser, no server: the pipeline alone
    python benchmarks/run.py --budgets 160 --seconds 600
    python benchmarks/run.py --stages              # ms a frame of every stage, runtime and batch instead

Prints a table and, last, one JSON line; writes ``out/latency.html`` and ``out/latency.json``.
``--save`` appends the line to ``benchmarks/results/latency.jsonl`` (``stages.jsonl`` with ``--stages``,
:mod:`benchmarks.stages`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    # Run as a plain script: the packages are found from the repository, not from this folder.
    sys.path[0] = str(ROOT)

from benchmarks import stages  # noqa: E402
from benchmarks.latency.analyse import analyse  # noqa: E402
from benchmarks.latency.browser import LiveRun, PageDriver, open_browser  # noqa: E402
from benchmarks.latency.engine_only import EngineRun, prepare_engine, run_engine  # noqa: E402
from benchmarks.latency.microphone import build_microphone  # noqa: E402
from benchmarks.latency.process import Server  # noqa: E402
from benchmarks.latency.report import html_report  # noqa: E402
from benchmarks.latency.result import (  # noqa: E402
    BenchmarkRun,
    BudgetRun,
    describe_machine,
    json_record,
    table,
)
from benchmarks.records import append_line  # noqa: E402
from engine.errors import BudgetError, VisavisError  # noqa: E402

__all__ = ["main"]

RESULTS = ROOT / "benchmarks" / "results" / "latency.jsonl"
_FIRST_CALL_S = 8.0
_CONNECT_S = 6.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="default", help="recipe to measure (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="steady state per budget (default: 60)")
    parser.add_argument("--budgets", type=float, nargs="+", default=[120.0, 160.0, 240.0], metavar="MS")
    parser.add_argument("--quick", action="store_true", help="12 s per budget")
    parser.add_argument("--engine-only", action="store_true", help="no server and no browser")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the report (default: out)")
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--stages", action="store_true", help="time every stage instead of the latency")
    stages.add_arguments(parser)
    return parser


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _measure_engine(recipe: str, seconds: float) -> EngineRun:
    pipeline, cond = prepare_engine(recipe)
    return run_engine(pipeline, cond, seconds)


def _measure_budget(args: argparse.Namespace, budget_ms: float) -> tuple[BudgetRun, str | None]:
    """One budget on a fresh server: a short first call without sound, then the steady one with sound.

    Also the browser's version.
    """
    options = ["--budget-ms", f"{budget_ms:g}", "--recipe", args.recipe]
    said = build_microphone(args.seconds + _CONNECT_S)
    log = args.out / f"latency_server_{budget_ms:g}.log"
    with open_browser() as browser:
        try:
            with Server(options, log) as server:
                driver = PageDriver(browser, server.url, said)
                driver.open()
                driver.call(sound=False)
                cold_s = driver.first_frame_wall_s() - server.started_at
                first = driver.hold(_FIRST_CALL_S, server.pid)
                driver.call(sound=True)
                run = driver.hold(args.seconds, server.pid)
                driver.close()
        except BudgetError as error:
            return BudgetRun(budget_ms, refusal=str(error), smallest_ms=error.smallest_ms), browser.version
        for problem in driver.problems:
            _say(f"the page reported: {problem}")
        return _judge(budget_ms, run, first, server.ready_s, cold_s), browser.version


def _judge(budget_ms: float, run: LiveRun, first: LiveRun, ready_s: float, cold_s: float) -> BudgetRun:
    return BudgetRun(
        budget_ms=budget_ms,
        measured=analyse(run.seen, run.said),
        sound_off=analyse(first.seen, first.said),
        stats=run.stats,
        resources=run.resources,
        server_ready_s=ready_s,
        cold_s=cold_s,
        cold_call_ms=first.seen.first_frame_at - first.seen.clicked_at,
    )


def _write(run: BenchmarkRun, args: argparse.Namespace) -> None:
    line = json.dumps(json_record(run), separators=(",", ":"))
    args.out.mkdir(parents=True, exist_ok=True)
    report = args.out / "latency.html"
    report.write_text(html_report(run), encoding="utf-8")
    (args.out / "latency.json").write_text(line + "\n", encoding="utf-8")
    if args.save:
        append_line(RESULTS, line)
    print(table(run))
    print(f"\nreport: {report}")
    print(line)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when something was measured: a budget, the engine alone, or the stages."""
    args = _parser().parse_args(argv)
    if args.stages:
        return stages.run(args)
    if args.quick:
        args.seconds = 12.0
    try:
        _say(f"engine alone, recipe {args.recipe}")
        engine = _measure_engine(args.recipe, args.seconds)
        budgets: list[BudgetRun] = []
        browser: str | None = None
        for budget_ms in [] if args.engine_only else args.budgets:
            _say(f"budget {budget_ms:g} ms: {args.seconds:g} s in the browser")
            measured, browser = _measure_budget(args, budget_ms)
            budgets.append(measured)
    except (VisavisError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    machine = describe_machine(None if browser is None else f"Chromium {browser}")
    _write(BenchmarkRun(args.recipe, args.seconds, engine, budgets, machine), args)
    return 0 if args.engine_only or any(b.ok for b in budgets) else 1


if __name__ == "__main__":
    sys.exit(main())
