"""The benchmark's tables, as text; columns are named once and mean the same in every table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.rows import AXES, Row

__all__ = ["SECTIONS", "Column", "Section", "combined", "people", "recipe_table"]


@dataclass(frozen=True)
class Column:
    """One number of a row: its key, its heading, and how many decimals it shows."""

    key: str
    head: str
    digits: int = 2


@dataclass(frozen=True)
class Section:
    title: str
    columns: tuple[Column, ...]


SECTIONS: tuple[Section, ...] = (
    Section(
        "mouth (r: mean correlation of the opening; LMD-m in % of the inter-ocular distance, LVE in mm)",
        (
            Column("r", "r", 3), Column("r_median", "median", 3), Column("r_speech", "speech", 3),
            Column("lag_ms", "lag ms", 0), Column("amplitude_median", "ampl."), Column("closure_f1", "F1", 3),
            Column("lmd_m", "LMD-m"), Column("lmd_m_no_lag", "no lag"), Column("lmd_m_moving", "moving"),
            Column("lve_mm", "LVE"),
        ),
    ),
    Section(
        "eyes, brows and head against the same clip (SSIM; variances x 1000) and jitter per frame",
        (
            Column("ssim_eyes", "SSIM e", 3), Column("var_eyes_e3", "Var e"),
            Column("ssim_pose", "SSIM p", 3), Column("var_pose_e3", "Var p"),
            Column("beat_alignment", "beats", 3),
            Column("beat_gain", "gain", 3),
            Column("stroke_gain", "strokes", 3), Column("jitter_lips", "lips %"),
            Column("jitter_brows", "brows %"),
            Column("jitter_head_deg", "head deg"),
        ),
    ),
    Section(
        "amount of motion (deg, deg per frame), its spectrum (deg2; distance to the real one in dB), blinks",
        (
            *(Column(f"deviation_{axis}", axis) for axis in AXES),
            *(Column(f"speed_{axis}", f"{axis}/f") for axis in AXES),
            Column("power_0_05", "0-0.5Hz", 1), Column("power_05_2", "0.5-2Hz", 1),
            Column("power_2_5", "2-5Hz"), Column("spectral_distance_db", "dB", 1),
            Column("blinks_per_minute", "blinks", 1), Column("blink_ms", "ms", 0),
        ),
    ),
    Section(
        "diversity (OSM-Net's head, rad; VAST's D_vt; mean distance between seeds), emotion, cost",
        (
            Column("head_diversity", "head", 3), Column("dvt_all", "D_vt"), Column("dvt_lips", "D_vt lips"),
            Column("seeds_lips", "s.lips"), Column("seeds_upper", "s.upper"),
            Column("seeds_head_deg", "s.head"),
            Column("emotion_accuracy", "emotion"), Column("cpu_p50_ms", "p50 ms"),
            Column("cpu_p99_ms", "p99 ms"), Column("lookahead_ms", "ahead ms", 0),
        ),
    ),
)  # fmt: skip

_NAME_WIDTH = 16


def _cell(value: float | None, digits: int, width: int) -> str:
    shown = "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
    return f"{shown:>{width}}"


def _section(section: Section, rows: Mapping[str, Row]) -> list[str]:
    columns = [c for c in section.columns if any(np.isfinite(r.get(c.key, np.nan)) for r in rows.values())]
    if not columns:
        return []
    widths = [max(9, len(c.head) + 2) for c in columns]
    lines = [section.title]
    lines.append(" " * _NAME_WIDTH + "".join(f"{c.head:>{w}}" for c, w in zip(columns, widths, strict=True)))
    for name, row in rows.items():
        cells = (_cell(row.get(c.key), c.digits, w) for c, w in zip(columns, widths, strict=True))
        lines.append(f"{name[: _NAME_WIDTH - 1]:<{_NAME_WIDTH}}" + "".join(cells))
    return [*lines, ""]


def combined(title: str, rows: Mapping[str, Row]) -> str:
    """All rows under one another, a block per section; columns nobody has are left out."""
    lines = [f"== {title} =="]
    for section in SECTIONS:
        lines += _section(section, rows)
    return "\n".join(lines)


def recipe_table(name: str, groups: Mapping[str, Mapping[str, Row]]) -> str:
    """One recipe beside the baselines. ``groups``: group -> row name -> numbers."""
    return "\n".join(combined(f"{name}: {group}", rows) for group, rows in groups.items())


_AMOUNTS = (
    *((f"deviation_{axis}", f"{axis} deviation, deg") for axis in AXES),
    *((f"speed_{axis}", f"{axis} speed, deg/frame") for axis in AXES),
    ("blinks_per_minute", "blinks a minute"),
    ("blink_ms", "blink duration, ms"),
)


def people(
    title: str, real: Row, interval: Mapping[str, tuple[float, float]], recipes: Mapping[str, Row]
) -> str:
    """Head and blinks as ratios to real people; ``interval`` is the 90 % range of the real mean."""
    lines = [f"== {title}: ratio to real people (wanted: 0.75 to 1.25) =="]
    names = list(recipes)
    lines.append(f"{'':<26}{'real':>8}{'90 % range':>18}" + "".join(f"{n[:11]:>12}" for n in names))
    for key, label in _AMOUNTS:
        truth = real.get(key, float("nan"))
        low, high = interval.get(key, (float("nan"), float("nan")))
        cells = []
        for name in names:
            ratio = recipes[name].get(key, float("nan")) / truth if truth else float("nan")
            cells.append(_cell(ratio, 2, 11) + ("*" if not 0.75 <= ratio <= 1.25 else " "))
        spread = f"{low:.2f} .. {high:.2f}" if np.isfinite(low) else "-"
        lines.append(f"{label:<26}{_cell(truth, 2, 8)}{spread:>18}" + "".join(cells))
    return "\n".join([*lines, "* outside the wanted range", ""])
