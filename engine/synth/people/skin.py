"""Paints a person's skin in the chart of :mod:`engine.synth.people.model`: colour, hairs, relief.

Colour is albedo in sRGB: the tone, what blood and melanin do to it by region, freckles, moles, blemishes,
make-up, brows and stubble. The fourth channel says how far a texel is covered by short hairs. Relief is
the slope of a height map of pores and age lines, with the gloss and the regions that labels need.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.synth.people.look import Look
from engine.synth.people.model import CHART
from engine.synth.people.regions import BROWS, UPPER_LIDS, Regions, at_marks, halved, regions, stroke

__all__ = ["Regions", "paint_relief", "paint_skin", "regions"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator


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


@lru_cache(maxsize=64)
def _small(cell: float, side: int) -> Float:
    """:func:`_tile`, or :func:`_grain` for a cell of 0, at ``side`` px."""
    return np.asarray(halved(_tile(cell) if cell else _grain(), side), np.float32)


@lru_cache(maxsize=1)
def _grain() -> Float:
    """Noise of single texels, a little smoothed, that repeats without a seam."""
    noise = np.random.default_rng(3).standard_normal((CHART, CHART), np.float32)
    wide = cv2.GaussianBlur(np.pad(noise, 8, mode="wrap"), (0, 0), 0.8)
    return np.ascontiguousarray(wide[8:-8, 8:-8], np.float32)


def _clouds(rng: Rng, cell: float, side: int) -> Float:
    """Noise with blobs of ``cell`` px of the full chart (0: single texels), shifted by chance."""
    tile, shrink = _small(cell, side), CHART // side
    down, across = (int(v) // shrink for v in rng.integers(0, CHART, 2))
    return np.asarray(np.roll(tile if rng.random() < 0.5 else tile[::-1], (down, across), (0, 1)), np.float32)


def _spots(rng: Rng, count: int, size: tuple[float, float], side: int, within: Float | None = None) -> Float:
    sheet = np.zeros((CHART, CHART), np.uint8)
    at = rng.integers(0, CHART, (count * 4, 2))
    chance = 1.0 if within is None else within[at[:, 1], at[:, 0]]
    at = at[rng.random(len(at)) < chance][:count]
    for (x, y), r in zip(at, rng.uniform(*size, len(at)), strict=True):
        centre = (int(x * 16 + rng.integers(16)), int(y * 16 + rng.integers(16)))
        cv2.circle(sheet, centre, int(r * 16), int(rng.integers(90, 255)), -1, cv2.LINE_AA, 4)
    soft = halved(cv2.GaussianBlur(sheet, (0, 0), 0.7), side)
    return np.asarray(soft, np.float32) * np.float32(1.0 / 255.0)


@lru_cache(maxsize=1)
def _freckled() -> Float:
    r = regions()
    return np.asarray(np.clip(0.12 + r.cheeks + r.nose, 0, 1) * (1 - r.lips_soft), np.float32)


@lru_cache(maxsize=1)
def _brow_box() -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero((regions().brow_zone > 0.02).any(k)) for k in (1, 0))
    return np.s_[rows[0] - 24 : rows[-1] + 24, columns[0] - 24 : columns[-1] + 24]


def _brow_hairs(rng: Rng, look: Look, chart: int) -> Float:
    """Single strokes, fanning out from the nose's side to the temple's."""
    sheet = np.zeros((CHART, CHART), np.uint8)
    count = int(120 + 130 * look.brow)
    arch = rng.normal(0.0, 1.0)
    for side, (upper, lower) in enumerate(BROWS):
        top, bottom = at_marks(upper)[::-1], at_marks(lower)[::-1]  # from the nose outwards
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
        sheet = np.maximum(sheet, mark)
    box = _brow_box()
    drawn = sheet[box].astype(np.float32) / 255.0
    soft = cv2.GaussianBlur(drawn, (0, 0), 0.6) * 0.9 + 0.75 * cv2.GaussianBlur(drawn, (0, 0), 2.2)
    hairs = np.zeros((CHART, CHART), np.float32)
    hairs[box] = np.clip(soft * (0.5 + 0.6 * look.brow), 0, 0.96)
    return np.asarray(halved(hairs, chart), np.float32)


def _stubble(rng: Rng, look: Look, side: int) -> Float:
    r = regions(side)
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
        return np.zeros((side, side), np.float32)
    whole = np.clip(r.beard + r.moustache, 0, 1) * strength
    if look.beard == "goatee":
        whole = np.maximum(whole, r.goatee * 0.85)
    if look.beard == "moustache":
        whole = np.maximum(whole, r.moustache * 0.9)
    grain = 0.55 + 0.4 * _clouds(rng, 0, side) + 0.06 * _clouds(rng, 12, side)
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


def _region_tints(look: Look, rng: Rng, side: int) -> Float:
    """float32 [side, side, 3]: skin colour by region."""
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
    tints = np.exp(_stack() @ logs) * look.skin.astype(np.float32)
    tints = tints.reshape(CHART // 2, CHART // 2, 3)
    if side == CHART // 2:
        return np.asarray(tints, np.float32)
    return np.asarray(cv2.resize(tints, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def paint_skin(look: Look, side: int = CHART) -> Bytes:
    """uint8 [side, side, 4]: sRGB albedo and the cover of short hairs; ``side`` is CHART or its half, ..."""
    rng, r = np.random.default_rng([look.seed, 1]), regions(side)
    light = 1.0 - 0.65 * look.tone
    mottle = 0.55 * _clouds(rng, 40, side) + 0.35 * _clouds(rng, 14, side) + 0.25 * _clouds(rng, 5, side)
    colour = _region_tints(look, np.random.default_rng([look.seed, 3]), side)
    shade = 1.0 + np.float32(0.018) * mottle
    thin = shade * (1.0 - np.float32(0.014 * light) * _clouds(rng, 22, side))
    colour *= cv2.merge([shade, thin, thin])
    _freckles(colour, look, rng)
    _lips(colour, look, rng)
    _makeup(colour, look)
    brows, stubble = _brow_hairs(rng, look, side), _stubble(rng, look, side)
    _cover(colour, brows, np.clip(look.hair_colour * 0.75 + 0.02, 0.03, 0.45))
    _cover(colour, 0.8 * stubble, np.clip(look.hair_colour * 0.8 + 0.1 * look.skin, 0.0, 0.5))
    cover = np.where(r.brow_zone > 0.1, brows, 0.5 * stubble)
    out = np.empty((side, side, 4), np.uint8)
    out[..., :3] = cv2.convertScaleAbs(colour, alpha=255.0)
    out[..., 3] = cv2.convertScaleAbs(cover, alpha=255.0)
    return out


def _freckles(colour: Float, look: Look, rng: Rng) -> None:
    side = colour.shape[0]
    if look.freckles > 0.05:
        spots = _spots(rng, int(700 * min(look.freckles, 1.0)), (0.3, 1.4), side, _freckled())
        _tint(colour, spots * 0.7, (0.82, 0.7, 0.6))
    if look.moles:
        _tint(colour, _spots(rng, look.moles, (1.0, 2.2), side), (0.5, 0.4, 0.36))
    if look.blemish > 0.25:
        _tint(colour, _spots(rng, int(28 * look.blemish), (1.5, 4.0), side) * 0.5, (0.97, 0.78, 0.76))
    if look.age > 0.55:
        _tint(colour, _spots(rng, int(50 * look.age), (1.5, 5.0), side) * 0.35, (0.85, 0.76, 0.68))


def _lips(colour: Float, look: Look, rng: Rng) -> None:
    r = regions(colour.shape[0])
    fair = 1.0 - look.tone
    natural = look.skin * np.array([0.87 - 0.02 * fair, 0.62 + 0.12 * look.tone, 0.64 + 0.12 * look.tone])
    natural = look.skin + (natural - look.skin) * look.lip_depth
    edge = np.asarray(0.45 * r.lips + 0.45 * r.lips_soft, np.float32)
    rows, columns = np.flatnonzero((edge > 0.004).any(1)), np.flatnonzero((edge > 0.004).any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    lines = np.clip(1.0 + 0.05 * _clouds(rng, 3, colour.shape[0])[box], 0.85, 1.12)[..., None]
    _cover(colour[box], edge[box], np.asarray(natural * lines, np.float32))
    if look.makeup > 0.35:
        _cover(colour[box], 0.85 * look.makeup * r.lips[box], np.asarray(look.lipstick * lines, np.float32))


def _makeup(colour: Float, look: Look) -> None:
    if look.makeup < 0.2:
        return
    side = colour.shape[0]
    r = regions(side)
    shadow = np.asarray(np.clip(r.sockets * 0.35 + r.lids * 0.5, 0, 1) * (look.makeup - 0.1), np.float32)
    _cover(colour, shadow, (look.eyeshadow * np.sqrt(look.skin)).astype(np.float32))
    _cover(colour, _liner(side) * np.float32(look.makeup * 0.9), np.full(3, 0.06, np.float32))


@lru_cache(maxsize=4)
def _liner(side: int) -> Float:
    """Lines along the upper lids."""
    both = [stroke((at_marks(m) - np.array([0.0, 0.6])).astype(np.float32), 2, 0.9) for m in UPPER_LIDS]
    return np.asarray(halved(np.maximum(*both), side), np.float32)


def _line_strengths(look: Look, rng: Rng) -> list[float]:
    """One strength per group of age lines."""
    start = np.array([0.25, 0.3, 0.3, 0.15, 0.05, 0.3, 0.2])
    grown = np.clip((look.age - start) * rng.uniform(0.6, 1.8, 7), 0.0, 1.2)
    grown[4] += 0.12
    return [float(v) for v in grown]


@lru_cache(maxsize=4)
def _static_relief(side: int) -> tuple[Float, Float]:
    """Height of lips and brows, and gloss, that all people share."""
    r = regions(side)
    brows = cv2.GaussianBlur(regions().brow_zone, (0, 0), 1.0)
    height = 0.9 * r.lips_soft + 0.5 * halved(brows, side)
    gloss = 0.5 + 0.35 * r.nose + 0.15 * r.cheeks - 0.25 * r.sockets
    return np.asarray(height, np.float32), np.asarray(gloss, np.float32)


def paint_relief(look: Look, side: int = CHART) -> Bytes:
    """uint8 [side, side, 4]: slope along the columns and the rows, gloss, and 1 on lips, 1/2 on brows."""
    rng, r = np.random.default_rng([look.seed, 2]), regions(side)
    pores = _clouds(rng, 0, side)
    shared, shine = _static_relief(side)
    height = (
        shared + np.float32(0.35 * (0.6 + 0.8 * look.age)) * pores + np.float32(0.1) * _clouds(rng, 6, side)
    )
    for mask, strength in zip(
        r.lines, _line_strengths(look, np.random.default_rng([look.seed, 3])), strict=True
    ):
        if strength > 0.02:
            height -= np.float32(2.6 * strength) * mask
    creases = cv2.GaussianBlur(rng.standard_normal((1, CHART)).astype(np.float32), (0, 0), 0.9)
    height += 0.7 * r.lips * cv2.resize(creases, (side, 1), interpolation=cv2.INTER_AREA)
    across, down = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    slope = np.float32(0.06 * side / CHART)  # per texel of the full chart
    gloss = shine + np.float32(0.1) * _clouds(rng, 10, side) - np.float32(0.2 * look.male) * r.beard
    gloss += r.lips * np.float32(0.25 + 0.5 * look.makeup) + np.float32(0.075) * pores + np.float32(0.125)
    region = np.where(r.lips > 0.5, 1.0, np.where(r.brow_zone > 0.15, 0.5, 0.0)).astype(np.float32)
    out = cv2.merge([0.5 + slope * across, 0.5 - slope * down, np.maximum(gloss, 0.0) * 0.75, region])
    return np.asarray(cv2.convertScaleAbs(np.maximum(out, 0.0), alpha=255.0), np.uint8)
