"""Where things are in the skin chart of :mod:`engine.synth.people.model`: lips, brows, beard, age lines."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.synth.people.model import CHART, chart_pixels, head_model

__all__ = ["BROWS", "UPPER_LIDS", "Regions", "at_marks", "halved", "regions", "stroke"]

Float = NDArray[np.float32]

_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
BROWS = (
    ((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)),  # the subject's right: upper and lower edge, outside in
    ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)),
)
_LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))


@dataclass(frozen=True)
class Regions:
    """Float32 [N, N] masks 0..1 in the skin chart, N = CHART or less."""

    lips: Float
    lips_soft: Float
    cheeks: Float
    nose: Float
    sockets: Float
    lids: Float
    under_eye: Float
    beard: Float
    moustache: Float
    goatee: Float
    brow_zone: Float
    lines: tuple[Float, ...]
    """age lines by group: forehead, frown, crow's feet, under the eyes, nose to mouth, mouth to chin, neck"""
    neck: Float
    forehead: Float
    upper_lip: Float


def at_marks(marks: tuple[int, ...] | list[int]) -> Float:
    return chart_pixels(head_model().marks[list(marks)])


def _polygon(points: Float, blur: float, grow: float = 0.0) -> Float:
    mask = np.zeros((CHART, CHART), np.uint8)
    centre = points.mean(0)
    wide = centre + (points - centre) * (1.0 + grow)
    cv2.fillPoly(mask, [np.round(wide * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), blur) if blur > 0 else mask
    return soft.astype(np.float32) / 255.0


def _blob(mark: int | tuple[float, float], rx: float, ry: float, dx: float = 0.0, dy: float = 0.0) -> Float:
    x0, y0 = at_marks([mark])[0] if isinstance(mark, int) else mark
    y, x = np.mgrid[0:CHART, 0:CHART].astype(np.float32)
    return np.asarray(np.exp(-(((x - x0 - dx) / rx) ** 2) - ((y - y0 - dy) / ry) ** 2), np.float32)


def stroke(points: Float, width: float, blur: float) -> Float:
    mask = np.zeros((CHART, CHART), np.uint8)
    at = [np.round(points * 16).astype(np.int32)]
    cv2.polylines(mask, at, False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32) / 255.0


def _curve(*points: tuple[float, float]) -> Float:
    """Smooth curve through frontal points (x, y) cm of the mean head, in chart px."""
    p = np.array(points)
    t = np.linspace(0, len(p) - 1, 24)
    x = np.interp(t, np.arange(len(p)), p[:, 0])
    y = np.interp(t, np.arange(len(p)), p[:, 1])
    x, y = (np.convolve(np.pad(v, 3, "edge"), np.ones(7) / 7, "valid") for v in (x, y))
    z = np.interp(np.abs(x), [0, 2, 4, 5.5, 6.6, 7.3], [11.0, 10.7, 9.7, 8.2, 6.4, 3.0])
    return chart_pixels(np.stack([x, y, z], 1).astype(np.float32))


def _both(*points: tuple[float, float]) -> list[Float]:
    return [_curve(*[(s * x, y) for x, y in points]) for s in (1.0, -1.0)]


def _age_lines() -> tuple[Float, ...]:
    forehead = [
        _curve((-4.6, y - 0.2), (-2.5, y + 0.25), (0, y), (2.5, y + 0.25), (4.6, y - 0.2))
        for y in (7.0, 7.9, 8.7)
    ]
    frown = _both((0.55, 5.2), (0.7, 6.1), (0.6, 6.9))
    crow = [
        c
        for dy in (-0.55, 0.0, 0.55)
        for c in _both((5.1, 3.5 + 0.5 * dy), (6.0, 3.6 + 1.3 * dy), (6.7, 3.6 + 2.2 * dy))
    ]
    under = [c for d in (0.0, 0.5) for c in _both((2.0, 2.3 - d), (3.1, 1.75 - d), (4.5, 2.3 - d))]
    nasal = _both((1.75, 0.5), (2.5, -1.0), (3.1, -2.6), (3.3, -3.6))
    mario = _both((2.8, -4.0), (3.0, -5.0), (2.9, -5.9))
    neck = [_curve((-5, y + 0.8), (0, y), (5, y + 0.8)) for y in (-10.2, -11.8)]
    drawn = []
    for curves, width, blur in (
        (forehead, 1, 2.0), (frown, 1, 1.9), (crow, 1, 1.5), (under, 1, 2.0), (nasal, 2, 3.2),
        (mario, 1, 3.0), (neck, 2, 2.6),
    ):  # fmt: skip
        sheet = np.max([stroke(c, width, blur) for c in curves], axis=0)
        drawn.append((sheet / max(float(sheet.max()), 1e-6)).astype(np.float32))
    return tuple(drawn)


def _brow_zone() -> Float:
    total = np.zeros((CHART, CHART), np.float32)
    for upper, lower in BROWS:
        total = np.maximum(
            total, _polygon(np.concatenate([at_marks(upper), at_marks(lower)[::-1]]), 1.5, 0.15)
        )
    return total


def halved(sheet: NDArray[Any], side: int) -> Any:
    """``sheet`` [CHART, CHART, ...] averaged down to ``side`` px; itself where that is its side."""
    if sheet.shape[0] == side:
        return sheet
    return cv2.resize(sheet, (side, side), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=4)
def regions(side: int = CHART) -> Regions:
    """The shared masks, painted once per process from the mean head's landmarks, ``side`` px wide."""
    if side == CHART:
        return _painted()
    full: dict[str, Any] = {f.name: getattr(_painted(), f.name) for f in fields(Regions)}
    small: dict[str, Any] = {
        k: tuple(halved(m, side) for m in v) if isinstance(v, tuple) else halved(v, side)
        for k, v in full.items()
    }
    return Regions(**small)


@lru_cache(maxsize=1)
def _painted() -> Regions:
    lips = np.zeros((CHART, CHART), np.float32)
    lips = _polygon(at_marks(_LIPS), 0.7, 0.02)
    jaw = _curve(
        (-7.2, 1.5),
        (-7.2, -3.0),
        (-6.6, -6.6),
        (-4.2, -9.0),
        (0, -9.8),
        (4.2, -9.0),
        (6.6, -6.6),
        (7.2, -3.0),
        (7.2, 1.5),
    )
    inner = _curve(
        (6.2, -0.3),
        (4.9, -2.2),
        (3.7, -2.2),
        (2.7, -1.35),
        (0, -1.25),
        (-2.7, -1.35),
        (-3.7, -2.2),
        (-4.9, -2.2),
        (-6.2, -0.3),
    )
    keep = 1.0 - np.clip(_polygon(at_marks(_LIPS), 2.0, 0.12), 0, 1)
    beard = _polygon(np.concatenate([jaw, inner]), 5.0) * keep
    below = stroke(_curve((-3, -8.5), (0, -9.5), (3, -8.5)), 16, 9)
    beard = np.clip(beard + 0.6 * below, 0, 1) * keep
    tache = _polygon(
        np.concatenate(
            [
                _curve((-2.9, -3.3), (-1.9, -1.8), (0, -1.35), (1.9, -1.8), (2.9, -3.3)),
                _curve((2.6, -3.2), (0, -2.6), (-2.6, -3.2)),
            ]
        ),
        2.0,
    )
    chin = np.clip(_blob(199, 34, 24) * 1.6 + _blob(18, 22, 14) * 0.6, 0, 1)
    lids = np.maximum(*[_polygon(at_marks(p), 2.5, 0.25) for p in _LIDS])
    socket = np.maximum(*[_polygon(at_marks(p), 7.0, 0.75) for p in _LIDS])
    y, _ = np.mgrid[0:CHART, 0:CHART].astype(np.float32)
    return Regions(
        lips=lips,
        lips_soft=np.asarray(cv2.GaussianBlur(lips, (0, 0), 2.2), np.float32),
        cheeks=np.clip(_blob(50, 42, 36) + _blob(280, 42, 36), 0, 1),
        nose=np.clip(_blob(4, 26, 22) + 0.6 * _blob(197, 16, 30), 0, 1),
        sockets=socket,
        lids=lids,
        under_eye=np.clip(_blob(230, 24, 12, 0, 2) + _blob(450, 24, 12, 0, 2), 0, 1),
        beard=np.clip(beard, 0, 1),
        moustache=tache * keep,
        goatee=np.clip(chin + tache, 0, 1) * keep,
        brow_zone=_brow_zone(),
        lines=_age_lines(),
        forehead=_blob(151, 70, 34),
        upper_lip=_blob(164, 22, 9) + _blob(18, 26, 8),
        neck=np.clip((y - at_marks([152])[0, 1] - 8) / 40.0, 0, 1),
    )
