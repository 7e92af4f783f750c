"""Small plots as inline SVG: a histogram and a timeline. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "Line", "histogram", "timeline"]

Floats = NDArray[np.float64]
_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 38


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low`` to ``high`` with a title."""

    low: float
    high: float
    title: str

    def ticks(self) -> list[float]:
        """Four to nine round numbers inside the range."""
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / 4))
        step = next(step * m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= 8)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Line:
    """A horizontal or vertical reference with a label."""

    at: float
    label: str


@dataclass(frozen=True)
class _Frame:
    x: Axis
    y: Axis

    def px(self, value: float) -> float:
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def py(self, value: float) -> float:
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for v in self.y.ticks():
            y = self.py(v)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{v:g}</text>')
        parts += [
            f'<text class="tick" x="{self.px(v):.1f}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>'
            for v in self.x.ticks()
        ]
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(
            f'<text class="title" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
            f"{escape(self.x.title)}</text>"
        )
        parts.append(f'<text class="title" x="{_LEFT - 38}" y="{_TOP - 2}">{escape(self.y.title)}</text>')
        return parts


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 -8 {_WIDTH} {_HEIGHT + 8}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _empty(label: str) -> str:
    text = f'<text class="tick" x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle">no data</text>'
    return _svg(label, [text])


def histogram(values: Floats, label: str, unit: str, lines: Sequence[Line] = (), bins: int = 48) -> str:
    """Counts of ``values`` [N] with vertical reference lines; outliers beyond 0.2 % share the edge bins."""
    if not values.size:
        return _empty(label)
    low, high = (float(v) for v in np.quantile(values, [0.002, 0.998]))
    low, high = min([low, *(v.at for v in lines)]), max([high, *(v.at for v in lines)])
    margin = max(0.06 * (high - low), 2.0)
    edges = np.linspace(low - margin, high + margin, bins + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    frame = _Frame(
        Axis(float(edges[0]), float(edges[-1]), f"{label} ({unit})"),
        Axis(0, 1.12 * float(counts.max()), "count"),
    )
    parts = frame.axes()
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            x0, x1, y = frame.px(left), frame.px(right), frame.py(float(count))
            parts.append(
                f'<rect class="bar" x="{x0 + 0.5:.1f}" y="{y:.1f}" width="{x1 - x0 - 1:.1f}" '
                f'height="{frame.py(0) - y:.1f}"><title>{left:.1f}–{right:.1f} {unit}: {count}</title></rect>'
            )
    for i, line in enumerate(lines):
        x = frame.px(line.at)
        side = "end" if x > _WIDTH * 0.8 else "start"
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{frame.py(0):.1f}"/>')
        parts.append(
            f'<text class="label" x="{x + (-5 if side == "end" else 5):.1f}" y="{_TOP + 10 + 14 * (i % 4)}" '
            f'text-anchor="{side}">{escape(line.label)}</text>'
        )
    return _svg(label, parts)


def timeline(
    series: Sequence[tuple[str, Floats, Floats]],
    label: str,
    unit: str,
    lines: Sequence[Line] = (),
    least_span: float = 20.0,
) -> str:
    """Dots of one or more series (name, seconds [N], values [N]) with horizontal reference lines."""
    filled = [(i, t, v) for i, (_, t, v) in enumerate(series) if v.size]
    if not filled:
        return _empty(label)
    values = np.concatenate([v for _, _, v in filled])
    low, high = (float(v) for v in np.quantile(values, [0.001, 0.999]))
    low, high = min([low, *(v.at for v in lines)]), max([high, *(v.at for v in lines)])
    pad = max(0.1 * (high - low), (least_span - (high - low)) / 2, 1.0)
    end = max(float(t.max()) for _, t, _ in filled)
    frame = _Frame(Axis(0, max(end, 1.0), "seconds"), Axis(low - pad, high + pad, f"{label} ({unit})"))
    parts = frame.axes()
    for i, t, v in filled:
        clipped = np.clip(v, frame.y.low, frame.y.high)
        dots = "".join(
            f"M{frame.px(float(a)):.1f} {frame.py(float(b)):.1f}h0" for a, b in zip(t, clipped, strict=True)
        )
        parts.append(f'<path class="dots s{i}" d="{dots}"/>')
    for line in lines:
        y = frame.py(line.at)
        right = _WIDTH - _RIGHT
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="label" x="{right - 4}" y="{y - 5:.1f}" text-anchor="end">'
            f"{escape(line.label)}</text>"
        )
    if len(series) > 1:
        for i, (name, _, _) in enumerate(series):
            x = _LEFT + 80 + 210 * i
            parts.append(f'<path class="dots s{i} big" d="M{x} {_TOP - 8}h0"/>')
            parts.append(f'<text class="label" x="{x + 9}" y="{_TOP - 4}">{escape(name)}</text>')
    return _svg(label, parts)
