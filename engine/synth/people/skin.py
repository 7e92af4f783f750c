"""Paints a person's skin in the chart of :mod:`engine.synth.people.model`: colour, hairs, relief.

Colour is albedo in sRGB: the tone, what blood and melanin do to it by region, freckles, moles, blemishes,
make-up, brows and stubble. The fourth channel says how far a texel is covered by short hairs. Relief is
the slope of a height map of pores and age lines, with the gloss and the regions that labels need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.synth.people.look import Look
from engine.synth.people.model import CHART, chart_pixels, head_model

__all__ = ["Regions", "paint_relief", "paint_skin", "regions"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator

_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_BROWS = (
    ((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)),  # the subject's right: upper and lower edge, outside in
    ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)),
)
_LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
_UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))


@dataclass(frozen=True)
class Regions:
    """Float32 [CHART, CHART] masks 0..1 in the skin chart, and the texels' chart coordinates."""

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


def _at(marks: tuple[int, ...] | list[int]) -> Float:
    return chart_pixels(head_model().marks[list(marks)])


def _polygon(points: Float, blur: float, grow: float = 0.0) -> Float:
    mask = np.zeros((CHART, CHART), np.uint8)
    centre = points.mean(0)
    wide = centre + (points - centre) * (1.0 + grow)
    cv2.fillPoly(mask, [np.round(wide * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), blur) if blur > 0 else mask
    return soft.astype(np.float32) / 255.0


def _blob(mark: int | tuple[float, float], rx: float, ry: float, dx: float = 0.0, dy: float = 0.0) -> Float:
    x0, y0 = _at([mark])[0] if isinstance(mark, int) else mark
    y, x = np.mgrid[0:CHART, 0:CHART].astype(np.float32)
    return np.asarray(np.exp(-(((x - x0 - dx) / rx) ** 2) - ((y - y0 - dy) / ry) ** 2), np.float32)


def _stroke(points: Float, width: float, blur: float) -> Float:
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
        sheet = np.max([_stroke(c, width, blur) for c in curves], axis=0)
        drawn.append((sheet / max(float(sheet.max()), 1e-6)).astype(np.float32))
    return tuple(drawn)


def _brow_zone() -> Float:
    total = np.zeros((CHART, CHART), np.float32)
    for upper, lower in _BROWS:
        total = np.maximum(total, _polygon(np.concatenate([_at(upper), _at(lower)[::-1]]), 1.5, 0.15))
    return total


@lru_cache(maxsize=1)
def regions() -> Regions:
    """The shared masks, painted once per process from the mean head's landmarks."""
    lips = np.zeros((CHART, CHART), np.float32)
    lips = _polygon(_at(_LIPS), 0.7, 0.02)
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
    keep = 1.0 - np.clip(_polygon(_at(_LIPS), 2.0, 0.12), 0, 1)
    beard = _polygon(np.concatenate([jaw, inner]), 5.0) * keep
    below = _stroke(_curve((-3, -8.5), (0, -9.5), (3, -8.5)), 16, 9)
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
    lids = np.maximum(*[_polygon(_at(p), 2.5, 0.25) for p in _LIDS])
    socket = np.maximum(*[_polygon(_at(p), 7.0, 0.75) for p in _LIDS])
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
        neck=np.clip((y - _at([152])[0, 1] - 8) / 40.0, 0, 1),
    )


@lru_cache(maxsize=16)
def _tile(cell: float) -> Float:
    """Smooth noise N(0, 1) at the nodes, which repeats without a seam; blobs of about ``cell`` px."""
    n = 2 ** round(np.log2(CHART / cell))
    small = np.random.default_rng(int(10 * cell)).standard_normal((n, n), np.float32)
    edge, scale = min(2, n), CHART // n
    side = (n + 2 * edge) * scale
    wide = cv2.resize(np.pad(small, edge, mode="wrap"), (side, side), interpolation=cv2.INTER_CUBIC)
    inner = np.s_[edge * scale : edge * scale + CHART]
    return np.ascontiguousarray(wide[inner, inner], np.float32)


@lru_cache(maxsize=1)
def _grain() -> Float:
    """Noise of single texels, a little smoothed, that repeats without a seam."""
    noise = np.random.default_rng(3).standard_normal((CHART, CHART), np.float32)
    wide = cv2.GaussianBlur(np.pad(noise, 8, mode="wrap"), (0, 0), 0.8)
    return np.ascontiguousarray(wide[8:-8, 8:-8], np.float32)


def _rolled(rng: Rng, tile: Float) -> Float:
    down, across = (int(v) for v in rng.integers(0, CHART, 2))
    return np.asarray(np.roll(tile if rng.random() < 0.5 else tile[::-1], (down, across), (0, 1)), np.float32)


def _clouds(rng: Rng, cell: float) -> Float:
    return _rolled(rng, _tile(cell))


def _spots(rng: Rng, count: int, size: tuple[float, float], within: Float) -> Float:
    sheet = np.zeros((CHART, CHART), np.uint8)
    at = rng.integers(0, CHART, (count * 4, 2))
    at = at[rng.random(len(at)) < within[at[:, 1], at[:, 0]]][:count]
    for (x, y), r in zip(at, rng.uniform(*size, len(at)), strict=True):
        centre = (int(x * 16 + rng.integers(16)), int(y * 16 + rng.integers(16)))
        cv2.circle(sheet, centre, int(r * 16), int(rng.integers(90, 255)), -1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(sheet, (0, 0), 0.7).astype(np.float32) / 255.0


def _brow_hairs(rng: Rng, look: Look) -> Float:
    """Single strokes, fanning out from the nose's side to the temple's."""
    sheet = np.zeros((CHART, CHART), np.float32)
    count = int(120 + 130 * look.brow)
    arch = rng.normal(0.0, 1.0)
    for side, (upper, lower) in enumerate(_BROWS):
        top, bottom = _at(upper)[::-1], _at(lower)[::-1]  # from the nose outwards
        u = np.sort(rng.random(count)) * 0.98
        t = u * (len(top) - 1)
        k = np.minimum(t.astype(int), len(top) - 2)
        f = (t - k)[:, None]
        high, low = top[k] + f * (top[k + 1] - top[k]), bottom[k] + f * (bottom[k + 1] - bottom[k])
        wide = look.brow_thick * np.interp(u, [0, 0.12, 0.6, 1], [0.55, 0.85, 0.75, 0.25])
        v = 0.5 + (rng.random(count) - 0.5) * wide
        root = low + (high - low) * v[:, None] + [0.0, 2.2 - arch * np.sin(np.pi * u).mean()]
        out = -1.0 if side == 0 else 1.0
        lean = (
            np.interp(u, [0, 0.25, 0.6, 1], [1.35, 0.75, 0.25, -0.25])
            + 0.5 * (0.5 - v)
            + rng.normal(0, 0.15, count)
        )
        length = rng.uniform(5.0, 9.0, count) * np.interp(u, [0, 0.2, 1], [0.75, 1.1, 0.85])
        tip = root + np.stack([out * np.cos(lean), -np.sin(lean)], 1) * length[:, None]
        mark = np.zeros((CHART, CHART), np.uint8)
        for a, b in zip(np.round(root * 16).astype(int), np.round(tip * 16).astype(int), strict=True):
            cv2.line(
                mark, tuple(map(int, a)), tuple(map(int, b)), int(rng.integers(120, 230)), 1, cv2.LINE_AA, 4
            )
        sheet = np.maximum(sheet, mark.astype(np.float32) / 255.0)
    soft = cv2.GaussianBlur(sheet, (0, 0), 0.6) * 0.9 + 0.75 * cv2.GaussianBlur(sheet, (0, 0), 2.2)
    return np.clip(soft * (0.5 + 0.6 * look.brow), 0, 0.96).astype(np.float32)


def _stubble(rng: Rng, look: Look) -> Float:
    r = regions()
    zone = {
        "none": 0.0,
        "shadow": 0.3,
        "stubble": 0.62,
        "moustache": 0.22,
        "goatee": 0.25,
        "short": 0.85,
        "full": 0.9,
    }
    strength = zone[look.beard]
    if strength == 0.0:
        return np.zeros((CHART, CHART), np.float32)
    whole = np.clip(r.beard + r.moustache, 0, 1) * strength
    if look.beard == "goatee":
        whole = np.maximum(whole, r.goatee * 0.85)
    if look.beard == "moustache":
        whole = np.maximum(whole, r.moustache * 0.9)
    grain = 0.55 + 0.4 * _rolled(rng, _grain()) + 0.06 * _clouds(rng, 12)
    return np.asarray(np.clip(whole * np.clip(grain + 0.1, 0, 1.1), 0, 0.95), np.float32)


def _tint(colour: Float, mask: Float, factor: tuple[float, float, float]) -> None:
    """Multiply ``colour`` by ``factor`` where ``mask`` is 1, in the texels it covers."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        colour[box] *= 1.0 + mask[box][..., None] * (np.array(factor, np.float32) - 1.0)


def _cover(colour: Float, mask: Float, over: Float) -> None:
    """Mix ``colour`` with ``over`` by ``mask``, in the texels it covers."""
    rows, columns = np.flatnonzero((mask > 0.004).any(1)), np.flatnonzero((mask > 0.004).any(0))
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        paint = over[box] if over.ndim == 3 else over
        colour[box] += mask[box][..., None] * (paint.astype(np.float32) - colour[box])


@lru_cache(maxsize=1)
def _stack() -> Float:
    """[CHART * CHART / 4, R] the masks, at half size, whose tints are one matrix product."""
    r = regions()
    masks = [r.cheeks, r.nose, r.sockets, r.under_eye, r.neck, r.beard, r.forehead, r.upper_lip, *r.lines]
    half = [cv2.resize(m, (CHART // 2, CHART // 2), interpolation=cv2.INTER_AREA).ravel() for m in masks]
    return np.ascontiguousarray(np.stack(half, 1), np.float32)


def _region_tints(look: Look, rng: Rng) -> Float:
    """float32 [CHART, CHART, 3]: factors by region."""
    red = look.ruddy * (1.0 - 0.65 * look.tone)
    pinch = 0.4 + 1.3 * look.age
    factors = [
        (1.0 - 0.01 * red, 1 - 0.14 * red, 1 - 0.12 * red), (1.0 - 0.01 * red, 1 - 0.12 * red, 1 - 0.1 * red),
        (0.95, 0.90, 0.92), (0.93**pinch, 0.9**pinch, 0.93**pinch), (0.96, 0.95, 0.94),
        (1 - 0.03 * look.male, 1 - 0.02 * look.male, 1.0), (1.0, 1.005, 0.985), (0.99, 0.96, 0.96),
    ]  # fmt: skip
    if look.makeup > 0.2:
        factors[0] = (1.0, 1 - 0.14 * red - 0.1 * look.makeup, 1 - 0.12 * red - 0.08 * look.makeup)
    lines = [np.array([0.91, 0.87, 0.86]) ** min(v, 1.0) for v in _line_strengths(look, rng)]
    logs = np.log(np.array([*factors, *lines], np.float32))
    tints = np.exp(_stack() @ logs).reshape(CHART // 2, CHART // 2, 3)
    return np.asarray(cv2.resize(tints, (CHART, CHART), interpolation=cv2.INTER_LINEAR), np.float32)


def paint_skin(look: Look) -> Bytes:
    """uint8 [CHART, CHART, 4]: sRGB albedo and the cover of short hairs."""
    rng, r = np.random.default_rng([look.seed, 1]), regions()
    light = 1.0 - 0.65 * look.tone
    mottle = 0.55 * _clouds(rng, 40) + 0.35 * _clouds(rng, 14) + 0.25 * _clouds(rng, 5)
    colour = _region_tints(look, np.random.default_rng([look.seed, 3]))
    colour *= look.skin
    shade = 1.0 + 0.018 * mottle
    thin = shade * (1.0 - 0.014 * light * _clouds(rng, 22))
    colour *= cv2.merge([shade, thin, thin])
    _freckles(colour, look, rng)
    _lips(colour, look, rng)
    _makeup(colour, look)
    brows, stubble = _brow_hairs(rng, look), _stubble(rng, look)
    _cover(colour, brows, np.clip(look.hair_colour * 0.75 + 0.02, 0.03, 0.45))
    _cover(colour, 0.8 * stubble, np.clip(look.hair_colour * 0.8 + 0.1 * look.skin, 0.0, 0.5))
    cover = np.where(r.brow_zone > 0.1, brows, 0.5 * stubble)
    out = np.empty((CHART, CHART, 4), np.uint8)
    out[..., :3] = cv2.convertScaleAbs(colour, alpha=255.0)
    out[..., 3] = cv2.convertScaleAbs(cover, alpha=255.0)
    return out


def _freckles(colour: Float, look: Look, rng: Rng) -> None:
    r = regions()
    if look.freckles > 0.05:
        where = np.clip(0.12 + r.cheeks + r.nose, 0, 1) * (1 - r.lips_soft)
        _tint(
            colour, _spots(rng, int(700 * min(look.freckles, 1.0)), (0.3, 1.4), where) * 0.7, (0.82, 0.7, 0.6)
        )
    everywhere = np.ones((CHART, CHART), np.float32)
    if look.moles:
        _tint(colour, _spots(rng, look.moles, (1.0, 2.2), everywhere), (0.5, 0.4, 0.36))
    if look.blemish > 0.25:
        _tint(colour, _spots(rng, int(28 * look.blemish), (1.5, 4.0), everywhere) * 0.5, (0.97, 0.78, 0.76))
    if look.age > 0.55:
        _tint(colour, _spots(rng, int(50 * look.age), (1.5, 5.0), everywhere) * 0.35, (0.85, 0.76, 0.68))


def _lips(colour: Float, look: Look, rng: Rng) -> None:
    r = regions()
    fair = 1.0 - look.tone
    natural = look.skin * np.array([0.87 - 0.02 * fair, 0.62 + 0.12 * look.tone, 0.64 + 0.12 * look.tone])
    natural = look.skin + (natural - look.skin) * look.lip_depth
    lines = np.clip(1.0 + 0.05 * _clouds(rng, 3), 0.85, 1.12)
    lines = np.asarray(cv2.merge([lines, lines, lines]), np.float32)
    edge = np.asarray(0.45 * r.lips + 0.45 * r.lips_soft, np.float32)
    _cover(colour, edge, np.asarray(natural * lines, np.float32))
    if look.makeup > 0.35:
        _cover(colour, 0.85 * look.makeup * r.lips, look.lipstick * lines)


def _makeup(colour: Float, look: Look) -> None:
    if look.makeup < 0.2:
        return
    r = regions()
    shadow = np.asarray(np.clip(r.sockets * 0.35 + r.lids * 0.5, 0, 1) * (look.makeup - 0.1), np.float32)
    _cover(colour, shadow, (look.eyeshadow * np.sqrt(look.skin)).astype(np.float32))
    for marks in _UPPER_LIDS:
        line = _stroke((_at(marks) - np.array([0.0, 0.6])).astype(np.float32), 2, 0.9)
        _cover(colour, line * look.makeup * 0.9, np.full(3, 0.06, np.float32))


def _line_strengths(look: Look, rng: Rng) -> list[float]:
    """One strength per group of age lines."""
    start = np.array([0.25, 0.3, 0.3, 0.15, 0.05, 0.3, 0.2])
    grown = np.clip((look.age - start) * rng.uniform(0.6, 1.8, 7), 0.0, 1.2)
    grown[4] += 0.12
    return [float(v) for v in grown]


def paint_relief(look: Look) -> Bytes:
    """uint8 [CHART, CHART, 4]: slope along the columns and the rows, gloss, and 1 on lips, 1/2 on brows."""
    rng, r = np.random.default_rng([look.seed, 2]), regions()
    pores = _rolled(rng, _grain())
    height = 0.35 * pores * (0.6 + 0.8 * look.age) + 0.1 * _clouds(rng, 6)
    for mask, strength in zip(
        r.lines, _line_strengths(look, np.random.default_rng([look.seed, 3])), strict=True
    ):
        if strength > 0.02:
            height -= np.float32(2.6 * strength) * mask
    creases = np.zeros((CHART, CHART), np.float32) + cv2.GaussianBlur(
        rng.standard_normal((1, CHART)).astype(np.float32), (0, 0), 0.9
    )
    height += 0.7 * r.lips * creases + 0.9 * r.lips_soft
    height += 0.5 * cv2.GaussianBlur(r.brow_zone, (0, 0), 1.0)
    across, down = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    gloss = (
        0.5
        + 0.35 * r.nose
        + 0.15 * r.cheeks
        + 0.1 * _clouds(rng, 10)
        - 0.25 * r.sockets
        - 0.2 * r.beard * look.male
    )
    gloss = gloss + r.lips * (0.25 + 0.5 * look.makeup) + 0.25 * (0.5 + 0.3 * pores)
    region = np.where(r.lips > 0.5, 1.0, np.where(r.brow_zone > 0.15, 0.5, 0.0)).astype(np.float32)
    out = cv2.merge([0.5 + 0.06 * across, 0.5 - 0.06 * down, np.maximum(gloss, 0.0) * 0.75, region])
    return np.asarray(cv2.convertScaleAbs(np.maximum(out, 0.0), alpha=255.0), np.uint8)
