"""The reenactment benchmark's tables: means by group, clips won against the mesh, the papers beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.subjects import READ

__all__ = ["METRICS", "PAPERS", "Metric", "groups_of", "mean_rows", "report", "wins", "worst"]

Row = Mapping[str, float]
Clips = Mapping[str, Mapping[str, Row]]
"""clip -> row -> metric -> value"""

BASELINE = "mesh"


@dataclass(frozen=True)
class Metric:
    """One number: its key, its heading, its decimals, which way is better (+1 more, -1 less)."""

    key: str
    head: str
    digits: int
    better: int


METRICS: tuple[Metric, ...] = (
    Metric("ssim", "SSIM", 4, 1), Metric("ssim_face", "face", 4, 1), Metric("ssim_mouth", "mouth", 4, 1),
    Metric("psnr", "PSNR", 2, 1), Metric("psnr_face", "face", 2, 1), Metric("cpbd", "CPBD", 3, 1),
    Metric("cpbd_512", "at 512", 3, 1),
    Metric("lmd", "LMD", 2, -1), Metric("lmd_m", "LMD-m", 2, -1), Metric("gaze_deg", "gaze", 2, -1),
    Metric("blink", "blink", 3, -1), Metric("pose_deg", "pose", 2, -1), Metric("shape_mm", "shape", 2, -1),
    Metric("colour", "colour", 3, -1), Metric("jitter", "jitter", 3, 0),
    Metric("jitter_excess", "excess", 3, 0), Metric("jitter_error", "j.error", 3, -1),
    Metric("flicker", "flicker", 3, -1),
    Metric("found", "found", 2, 1), Metric("scale", "scale", 2, 0), Metric("frames", "frames", 0, 0),
)  # fmt: skip

PAPERS: dict[str, dict[str, float]] = {
    "VAST, GRID": {"ssim": 0.922, "cpbd": 0.2265, "lmd": 1.444, "lmd_m": 1.479},
    "PD-FGC, VoxCeleb2": {"lmd": 1.93, "lmd_m": 1.15},
    "PD-FGC, MEAD": {"lmd": 1.84, "lmd_m": 1.65},
    "FlowVQTalker, MEAD": {"ssim": 0.689, "cpbd": 0.181, "lmd": 2.06, "lmd_m": 1.94},
    "OSM-Net, HDTF": {"ssim": 0.790, "cpbd": 0.183, "lmd": 5.45},
}
"""Landmark distances in px of pictures of 224 to 256 px, in which eyes are about 45 to 90 px apart: 1 px is 1
to 2 % of ours. Other people, other motion (from sound), other detectors: for orientation only."""

_NAME = 20
_UNDRAWN = ("real", "motion", "floor")
_KEYS = ("lmd_m", "ssim", "ssim_mouth", "jitter_error", "lmd", "gaze_deg", "blink", "shape_mm", "colour")


def groups_of(clips: Clips) -> dict[str, list[str]]:
    """Clip names by group: all, free talk, sentences read off a screen; empty groups are left out."""
    read = [name for name in clips if name.startswith(READ)]
    groups = {"all": list(clips), "free_talk": [n for n in clips if n not in read], "read": read}
    return {group: names for group, names in groups.items() if names}


def mean_rows(clips: Clips, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Row -> metric -> mean over the clips ``names``, each counting once; clips without a value left out."""
    rows: dict[str, dict[str, float]] = {}
    for row in clips[names[0]]:
        keys = clips[names[0]][row]
        values = {key: np.array([clips[name][row][key] for name in names], float) for key in keys}
        rows[row] = {
            key: float(v[np.isfinite(v)].mean()) if np.isfinite(v).any() else float("nan")
            for key, v in values.items()
        }
    return rows


def wins(clips: Clips, row: str, metric: Metric, baseline: str = BASELINE) -> tuple[int, int]:
    """(clips on which ``row`` is better than ``baseline``, clips on which both have a value)."""
    pairs = np.array([[rows[row][metric.key], rows[baseline][metric.key]] for rows in clips.values()], float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    return int((metric.better * (pairs[:, 0] - pairs[:, 1]) > 0).sum()), len(pairs)


def worst(clips: Clips, row: str, metric: Metric, count: int = 3) -> list[tuple[str, float]]:
    """The clips on which ``row`` is worst, with their values."""
    values = [(name, rows[row][metric.key]) for name, rows in clips.items()]
    known = [pair for pair in values if np.isfinite(pair[1])]
    return sorted(known, key=lambda pair: metric.better * pair[1])[:count]


def report(clips: Clips) -> str:
    """All tables as text."""
    rows = list(next(iter(clips.values())))
    lines: list[str] = []
    for group, names in groups_of(clips).items():
        lines += [f"== {group}: {len(names)} clips ==", *_table(mean_rows(clips, names)), ""]
    lines += ["== the papers (px of 224 to 256; other people, driven by sound) ==", *_table(PAPERS), ""]
    if BASELINE in rows:
        others = [row for row in rows if row not in (*_UNDRAWN, BASELINE)]
        lines += [f"== clips on which a row is better than {BASELINE} ==", *_wins(clips, others), ""]
    for row in rows:
        if row not in (*_UNDRAWN, "still"):
            lines += [f"== where {row} is worst ==", *_worst(clips, row), ""]
    return "\n".join(lines)


def _table(rows: Mapping[str, Row]) -> list[str]:
    shown = [m for m in METRICS if any(np.isfinite(row.get(m.key, np.nan)) for row in rows.values())]
    lines = [" " * _NAME + "".join(f"{m.head:>8}" for m in shown)]
    for name, row in rows.items():
        cells = (_cell(row.get(m.key, float("nan")), m.digits) for m in shown)
        lines.append(f"{name[: _NAME - 1]:<{_NAME}}" + "".join(cells))
    return lines


def _cell(value: float, digits: int) -> str:
    return f"{value:>8.{digits}f}" if np.isfinite(value) else f"{'-':>8}"


def _wins(clips: Clips, rows: Sequence[str]) -> list[str]:
    metrics = [m for m in METRICS if m.better]
    lines = [" " * _NAME + "".join(f"{m.head:>8}" for m in metrics)]
    for row in rows:
        cells = ("{}/{}".format(*wins(clips, row, m)) for m in metrics)
        lines.append(f"{row[: _NAME - 1]:<{_NAME}}" + "".join(f"{cell:>8}" for cell in cells))
    return lines


def _worst(clips: Clips, row: str) -> list[str]:
    lines = []
    for metric in METRICS:
        if metric.key in _KEYS:
            cells = (f"{name[-34:]} {value:.{metric.digits}f}" for name, value in worst(clips, row, metric))
            lines.append(f"{metric.head:<10}" + "; ".join(cells))
    return lines
