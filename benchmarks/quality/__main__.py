"""The quality of recipes, measured against real people.

    python -m benchmarks.quality --data DIR --tracks TRACKS [--recipe NAME ... | all] [--split test]

DIR holds ``MANIFEST.csv`` and ``talking/``; TRACKS what ``visavis track`` wrote of them. For every
recipe one table, then all of them under one another: real people, another real person (chance), a still
face (its clip's median mouth, and the rest every recipe starts from), lips that follow loudness, lips
by ridge regression. Measures are defined in :mod:`benchmarks.quality.mouth`, ``upper``, ``head``,
``diversity`` and ``emotion``; ``all`` clips are free talk and read sentences, whose speakers sit still.
The last line is one JSON object, appended to ``--results`` where given; plots go to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality import performers, plots
from benchmarks.quality.driving import measure_cost, open_recipe, recipe_names
from benchmarks.quality.emotion import generated_accuracy, real_accuracy
from benchmarks.quality.rows import ClipRow, Performed, Row, interval_of_means, measure
from benchmarks.quality.subjects import Subject, read_subjects
from benchmarks.quality.table import combined, people, recipe_table
from benchmarks.records import append_line
from engine.config import asset_path
from engine.errors import AssetError, VisavisError
from engine.train.emotion import classify
from engine.train.provenance import commit
from engine.train.speech_data import load_audio

__all__ = ["main", "run"]

Groups = dict[str, Row]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="what visavis track wrote of its clips")
    parser.add_argument("--recipe", nargs="+", default=["default"], help="names, mixtures, or all")
    parser.add_argument("--split", nargs="+", default=["test"], help="splits to measure (default: test)")
    parser.add_argument("--seeds", type=int, default=performers.SEEDS, help="performances of each clip")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the plots")
    parser.add_argument("--results", type=Path, default=None, help="append the JSON line to this file")
    parser.add_argument("--clips", action="store_true", help="print every clip's own numbers too")
    return parser


def _cost(pipeline_name: str) -> Row:
    audio = load_audio(asset_path("demo/voice_a.wav"))
    cost = measure_cost(open_recipe(pipeline_name), audio)
    return {
        "cpu_p50_ms": cost.cpu_p50_ms,
        "cpu_p99_ms": cost.cpu_p99_ms,
        "wall_p50_ms": cost.wall_p50_ms,
        "wall_p99_ms": cost.wall_p99_ms,
        "lookahead_ms": cost.lookahead_ms,
    }


def _reference(subjects: list[Subject], training: list[Subject]) -> dict[str, list[Performed]]:
    rows = {
        "real": performers.real(subjects),
        "another person": performers.another(subjects),
        "still (median)": performers.still(subjects),
        "still (rest)": performers.rest(subjects),
    }
    if training:
        fitted = performers.fit_baselines(training)
        rows["loudness"] = fitted.follow_loudness(subjects)
        rows["ridge"] = fitted.follow_sound(subjects)
    return rows


def _without_amplitude(groups: Groups) -> Groups:
    """Loudness and the opening's ridge have a scale of their own."""
    return {g: {k: v for k, v in row.items() if not k.startswith("amplitude")} for g, row in groups.items()}


def _by_group(rows: dict[str, Groups], names: list[str]) -> dict[str, dict[str, Row]]:
    groups = rows[names[0]]
    return {g: {name: rows[name][g] for name in names} for g in groups}


def _print_clips(name: str, found: list[ClipRow]) -> None:
    print(f"\n{name}, clip by clip")
    for row in found:
        v, e = row.values, row.events
        print(
            f"  {row.clip[:42]:<43} r {v['r']:5.2f}  lag {v['lag_ms']:4.0f}  ampl. {v['amplitude']:4.2f}"
            f"  LMD-m {v['lmd_m']:5.2f}  closures {e.matched}/{e.generated}/{e.real}"
        )


def run(
    subjects: list[Subject], training: list[Subject], recipes: list[str], options: argparse.Namespace
) -> dict[str, Groups]:
    """Measure everything, print the tables, return row name -> group -> numbers."""
    made = _reference(subjects, training)
    rows: dict[str, Groups] = {}
    for name, performed in made.items():
        rows[name] = measure(subjects, performed)[0]
        if name in ("loudness", "ridge"):
            rows[name] = _without_amplitude(rows[name])
    fixed = list(rows)
    feelings = _feelings(options)
    driven: dict[str, list[Performed]] = {}
    for name in recipes:
        try:
            pipeline = open_recipe(name)
        except AssetError as error:
            print(f"{name} is not measured: {error}", file=sys.stderr)
            continue
        driven[name] = performers.recipe(pipeline, subjects, options.seeds, _progress(name))
        rows[name], clips = measure(subjects, driven[name])
        extra = _cost(name)
        if feelings:
            extra["emotion_accuracy"] = generated_accuracy(pipeline, subjects).accuracy
        rows[name]["all"] |= extra
        print(recipe_table(name, _by_group(rows, [*fixed, name])), flush=True)
        if options.clips:
            _print_clips(name, clips)
    for group in rows["real"]:
        if len(driven) > 1:
            print(combined(f"all rows: {group}", {n: rows[n][group] for n in rows}))
        ranges = interval_of_means(subjects, made["real"], group)
        print(people(group, rows["real"][group], ranges, {n: rows[n][group] for n in driven}))
    plots.write_all(options.out, subjects, driven)
    return rows


def _feelings(options: argparse.Namespace) -> bool:
    """Print what the emotion classifier is worth; False where its weights are missing."""
    try:
        classify(np.zeros((50, 64), np.float32))
    except AssetError as error:
        print(f"emotions are not measured: {error}")
        return False
    truth = real_accuracy(options.data, options.tracks)
    if truth is not None:
        print(truth.report())
    return True


def _progress(name: str) -> Callable[[str], None]:
    def show(clip: str) -> None:
        print(f"\r{name}: {clip[:50]:<52}", end="", file=sys.stderr, flush=True)

    return show


def _rounded(row: Row) -> dict[str, float | None]:
    return {k: (float(f"{v:.5g}") if np.isfinite(v) else None) for k, v in row.items()}


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 where there is nothing to measure."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(1)
    recipes = recipe_names() if options.recipe == ["all"] else options.recipe
    try:
        subjects, training = read_subjects(options.data, options.tracks, tuple(options.split))
        if not subjects:
            print(f"no tracked clip of {options.split}: {options.tracks} is empty or of other clips")
            return 1
        rows = run(subjects, training, recipes, options)
    except VisavisError as error:
        print(error, file=sys.stderr)
        return 1
    result = {
        "benchmark": "quality",
        "commit": commit(),
        "machine": platform.machine(),
        "split": options.split,
        "seeds": options.seeds,
        "rows": {name: {g: _rounded(row) for g, row in groups.items()} for name, groups in rows.items()},
    }
    line = json.dumps(result)
    if options.results is not None:
        append_line(options.results, line)
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
