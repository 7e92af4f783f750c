"""Hair: cards grown from the scalp.

A card is a chain of points. It starts on the skin, leaves along the normal, and at every step follows
a comb direction, weight and curl; the skull, the neck and the shoulders push it out. All cards of a
person grow at once (arrays [N, ...]).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.synth.people.cards import Cards, join_cards, make_cards, sample_triangles, unit
from engine.synth.people.look import Look
from engine.synth.people.model import HEAD_CENTRE, hair_mask, head_model

__all__ = ["Style", "grow_hair", "style_of"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Style:
    """How hair grows. Lengths in cm; strengths about 0..1."""

    count: int
    length: tuple[float, float]
    lift: float
    """how far the hair stands off the skull, cm"""
    comb: str
    """which way it is combed: forward, back, side, down, part, out or tie"""
    width: float = 1.0
    weight: float = 0.35
    curl: float = 0.0
    turns: float = 2.0
    messy: float = 0.15
    part: float = 0.0
    """x of the parting, cm"""
    fringe: float = 0.0
    """share of the front that falls over the forehead"""
    steps: int = 9
    sides: float = 1.0
    """length of the sides relative to the top"""
    tail: str = ""


_STYLES: dict[str, Style] = {
    "buzz": Style(1200, (0.4, 0.8), 0.2, "forward", 0.4, 0.0, messy=0.4, steps=2),
    "short": Style(1500, (2.2, 4.5), 0.9, "forward", 0.5, 0.15, messy=0.28, steps=4, sides=0.45),
    "side_part": Style(1000, (5.5, 8.5), 1.2, "side", 0.7, 0.25, messy=0.12, part=2.6, steps=8, sides=0.4),
    "swept_back": Style(1000, (6.0, 9.5), 1.5, "back", 0.7, 0.15, messy=0.12, steps=8, sides=0.45),
    "messy": Style(1400, (4.0, 7.0), 1.5, "forward", 0.5, 0.2, curl=0.3, turns=1.0, messy=0.45, steps=6,
                   sides=0.55),
    "fringe": Style(1000, (6.0, 8.5), 0.9, "forward", 0.7, 0.5, messy=0.15, fringe=1.0, steps=9, sides=0.8),
    "bob": Style(850, (14.0, 17.0), 0.9, "part", 1.3, 0.75, messy=0.08, part=0.4, steps=12, fringe=0.0),
    "long": Style(750, (24.0, 34.0), 0.7, "part", 1.6, 0.8, messy=0.08, steps=12),
    "long_side": Style(750, (22.0, 32.0), 0.9, "part", 1.6, 0.8, messy=0.1, part=2.8, steps=12),
    "wavy": Style(800, (20.0, 30.0), 1.3, "part", 1.2, 0.85, curl=0.6, turns=2.8, messy=0.08, part=1.5,
                  steps=18),
    "curly": Style(1100, (6.0, 11.0), 1.6, "out", 0.6, 0.5, curl=0.9, turns=2.2, messy=0.35, steps=13),
    "afro": Style(1600, (3.0, 6.0), 3.2, "out", 0.55, 0.02, curl=0.8, turns=2.0, messy=0.6, steps=8),
    "bun": Style(750, (11.0, 15.0), 0.45, "tie", 1.0, 0.0, messy=0.06, steps=11, tail="bun"),
    "ponytail": Style(750, (12.0, 15.0), 0.5, "tie", 1.0, 0.0, messy=0.07, steps=11, tail="pony"),
}  # fmt: skip


def style_of(look: Look, rng: Rng) -> Style | None:
    """The person's own variant of their style; None for a bald head."""
    if look.hair == "bald":
        return None
    base = _STYLES[look.hair]
    stretch = float(rng.uniform(0.85, 1.15))
    side = -1.0 if rng.random() < 0.5 else 1.0
    fringe = base.fringe
    if look.hair in ("bob", "long", "bun", "ponytail") and rng.random() < 0.3:
        fringe = 1.0
    return replace(
        base,
        length=(base.length[0] * stretch, base.length[1] * stretch),
        lift=base.lift * float(rng.uniform(0.75, 1.35)),
        curl=base.curl * float(rng.uniform(0.7, 1.3)),
        messy=base.messy * float(rng.uniform(0.6, 1.6)),
        part=side * (base.part + float(rng.normal(0.0, 0.4))),
        fringe=fringe,
        sides=min(1.0, base.sides * float(rng.uniform(0.7, 1.3))),
    )


@lru_cache(maxsize=1)
def _scalp() -> tuple[Int, Float, Float]:
    """Triangles where hair may grow, their area, their middle on the mean head."""
    model = head_model()
    ear = model.basis.vertex_part == 1
    t = model.skin[(model.skin < len(model.hair)).all(1)]
    t = t[~ear[t].any(1)]
    p = model.basis.mean[t]
    middle = p.mean(1)
    t, p, middle = (a[middle[:, 1] > -7.0] for a in (t, p, middle))
    area = 0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    return t, area.astype(np.float32), middle


class _Body:
    """What hair cannot enter: the person's own skull, the neck, the shoulders."""

    def __init__(self, head: Float) -> None:
        spokes = np.linalg.norm(head[head_model().spokes] - HEAD_CENTRE, axis=-1).astype(np.float32)
        wrapped = np.concatenate([spokes[:, -8:], spokes, spokes[:, :8]], 1)
        self.radius = cv2.GaussianBlur(wrapped, (0, 0), 1.2)[:, 8:-8]

    def push(self, p: Float, margin: Float) -> Float:
        """Points [N, 3] moved out of the body, ``margin`` [N] cm above it."""
        d = p - HEAD_CENTRE
        r = np.linalg.norm(d, axis=1) + 1e-6
        row = np.clip(np.arccos(np.clip(d[:, 1] / r, -1, 1)) / np.pi * 64, 0, 63).astype(int)
        column = ((np.arctan2(d[:, 0], d[:, 2]) / (2 * np.pi) + 0.5) * 128).astype(int) % 128
        least = self.radius[row, column] + margin
        low = p[:, 1] < -7.5
        out = np.where(((r < least) & ~low)[:, None], HEAD_CENTRE + d * (least / r)[:, None], p)
        return self._shoulders(out.astype(np.float32), margin)

    @staticmethod
    def _shoulders(p: Float, margin: Float) -> Float:
        y = p[:, 1]
        reach = (
            np.interp(-y, [5.0, 8.5, 11.0, 13.0, 15.5, 18.0, 24.0], [0.0, 6.6, 8.0, 11.0, 17.0, 21.0, 23.0])
            + margin
        )
        deep = np.interp(-y, [5.0, 8.5, 12.0, 16.0, 24.0], [0.0, 6.6, 8.0, 10.0, 11.5]) + margin
        q = np.stack([p[:, 0] / np.maximum(reach, 0.1), (p[:, 2] + 1.0) / np.maximum(deep, 0.1)], 1)
        size = np.linalg.norm(q, axis=1) + 1e-6
        inside = (size < 1.0) & (y < -5.0)
        out = p.copy()
        # Off the neck sideways too; on the shoulders hair lies in front or behind.
        narrow = inside & (y > -10.0)
        out[narrow] = np.stack(
            [p[narrow, 0] / size[narrow], y[narrow], (p[narrow, 2] + 1.0) / size[narrow] - 1.0], 1
        )
        broad = inside & ~narrow
        span = np.sqrt(np.clip(1.0 - q[broad, 0] ** 2, 0.0, 1.0)) * deep[broad]
        out[broad, 2] = np.where(p[broad, 2] > -1.0, span - 1.0, -span - 1.0)
        return out


def _comb(style: Style, root: Float, p: Float, normal: Float) -> Float:
    """Where hair at ``p`` [N, 3] is combed, given its ``root``; unit vectors along the skull."""
    x = root[:, :1]
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    front = np.clip((root[:, 2:] - 2.0) / 6.0, 0.0, 1.0)
    if style.comb == "forward":
        d = np.concatenate([0.25 * x / 6.0, -0.6 * ones, 0.2 + 0.9 * front], 1)
        d = np.where(root[:, 2:] < -1.0, np.concatenate([0.1 * x, -1.0 * ones, -0.1 * ones], 1), d)
    elif style.comb == "back":
        d = np.concatenate([0.12 * x / 3.0, 0.35 * front - 0.3, -ones], 1)
    elif style.comb == "side":
        away = -np.sign(style.part) * ones
        far = np.sign(x - style.part)
        d = np.concatenate(
            [
                np.where(
                    np.abs(x) < 6.0,
                    away * (far == np.sign(away)) + far * (far != np.sign(away)),
                    0.2 * np.sign(x),
                ),
                -0.35 * ones,
                0.25 * front - 0.25,
            ],
            1,
        )
    elif style.comb == "part":
        far = np.sign(x - style.part)
        beside = np.clip((np.abs(p[:, :1]) - 4.5) / 3.0, 0.0, 1.0)
        d = np.concatenate(
            [far * (1.0 - beside), -0.35 - 0.8 * beside, (-0.35 + 0.1 * front) * (1 - beside)], 1
        )
    elif style.comb == "tie":
        d = np.array([0.0, 4.5, -11.0], np.float32) - p
    else:
        d = normal + np.concatenate([zeros, -0.15 * ones, zeros], 1)
    if style.comb in ("forward", "back", "side"):
        low = np.clip((3.5 - root[:, 1:2]) / 3.0, 0.0, 1.0)
        d = d * (1.0 - low) + low * np.concatenate([0.05 * x, -1.2 * ones, -0.2 * ones], 1)
    tangent = unit(d.astype(np.float32))
    return unit(
        tangent - (0.85 if style.comb != "out" else 0.0) * (tangent * normal).sum(1, keepdims=True) * normal
    )


def _grow(
    style: Style, root: Float, normal: Float, length: Float, fringe: NDArray[np.bool_], body: _Body, rng: Rng
) -> Float:
    """Chains [N, T, 3]."""
    n, steps = len(root), style.steps
    chain = np.empty((n, steps, 3), np.float32)
    chain[:, 0] = root - 0.15 * normal
    layer = rng.random(n).astype(np.float32)
    margin = 0.12 + style.lift * (0.25 + 0.75 * layer)
    piece = (length / (steps - 1))[:, None]
    direction = unit(normal * min(1.0, style.lift) + 0.6 * _comb(style, root, root, normal))
    wild = rng.normal(0, style.messy, (n, 3)).astype(np.float32)
    if style.comb in ("forward", "back", "side"):  # the nape is cut closer and lies flat
        low = np.clip((3.5 - root[:, 1]) / 3.0, 0.0, 1.0).astype(np.float32)
        wild *= (1.0 - 0.8 * low)[:, None]
        margin = margin * (1.0 - 0.75 * low)
        piece = piece * (1.0 - 0.45 * low)[:, None]
    phase = rng.uniform(0, 2 * np.pi, n).astype(np.float32)
    p = root.copy()
    for k in range(1, steps):
        outward = unit(p - HEAD_CENTRE)
        comb = _comb(style, root, p, outward)
        if fringe.any():
            comb[fringe] = unit(np.array([0.06, -0.85, 0.6], np.float32) + 0.15 * wild[fringe])
        fall = np.zeros((n, 3), np.float32)
        fall[:, 1] = -style.weight * (0.3 + 1.2 * k / steps)
        keep = 0.55 if style.comb != "tie" else 0.2
        heading = (
            keep * direction
            + (1 - keep) * (comb * (1.0 - 0.65 * (k / steps) * (style.weight > 0.6)) + wild)
            + 0.5 * fall
        )
        direction = unit(heading.astype(np.float32))
        p = (p + direction * piece).astype(np.float32)
        rise = margin * min(1.0, k / (0.35 * steps))
        p = body.push(p, np.where(fringe, 0.35, rise).astype(np.float32))
        if style.weight > 0.45:
            p = _off_face(p, fringe)
        chain[:, k] = p
    if style.curl > 0:
        chain += _curls(style, chain, phase, length)
    return chain


def _off_face(p: Float, fringe: NDArray[np.bool_]) -> Float:
    """Long hair falls beside the face, not over it."""
    half = np.interp(p[:, 1], [-8, -4, 2, 6, 8.5, 9.5], [5.2, 6.3, 7.3, 6.6, 3.5, 0.0])
    over = (np.abs(p[:, 0]) < half) & (p[:, 2] > 2.5) & ~fringe
    out = p.copy()
    out[over, 0] = np.sign(p[over, 0] + 1e-3) * (0.35 * np.abs(p[over, 0]) + 0.65 * half[over])
    out[over, 2] -= 0.5
    return out


def _curls(style: Style, chain: Float, phase: Float, length: Float) -> Float:
    steps = chain.shape[1]
    t = np.linspace(0, 1, steps, dtype=np.float32)
    along = unit(np.gradient(chain, axis=1))
    out = unit(chain - HEAD_CENTRE)
    side = unit(np.cross(along, out))
    # Neighbours wave together: curls come in locks.
    lock = np.sin(0.9 * chain[:, :1, 0] + 1.3) + np.sin(1.1 * chain[:, :1, 1]) + np.sin(0.8 * chain[:, :1, 2])
    phase = 2.2 * lock[:, 0] + 0.25 * phase
    angle = phase[:, None] + 2 * np.pi * style.turns * t * (length / length.mean())[:, None]
    size = (0.55 * style.curl * np.minimum(1.0, 4.0 * t))[None, :, None]
    wave: Float = size * (np.cos(angle)[..., None] * side + 0.7 * np.sin(angle)[..., None] * out)
    return wave.astype(np.float32)


def _count(style: Style) -> int:
    return round(0.75 * style.count) if style.length[1] < 12.0 else style.count


def grow_hair(look: Look, head: Float, normals: Float) -> Cards | None:
    """The head's hair on neutral vertices ``head`` [V, 3]; None for a bald head."""
    rng = np.random.default_rng([look.seed, 4])
    style = style_of(look, rng)
    if style is None:
        return None
    triangles, area, middle = _scalp()
    grows = hair_mask(middle, look.recede, look.temple, 0.12)
    azimuth = np.abs(np.arctan2(middle[:, 0], middle[:, 2] - 1.0))
    denser = 1.0 + 0.9 * (azimuth < 1.2) + 1.2 * (np.abs(middle[:, 0] - style.part) < 1.0)
    if style.length[1] < 12.0:  # of short hair the back of the head is hardly ever seen
        denser *= np.where(middle[:, 2] < -3.5, 0.35, 1.0)
    chosen, w = sample_triangles(rng, area * grows * denser, triangles, _count(style))
    root = np.einsum("nkc,nk->nc", head[chosen], w).astype(np.float32)
    normal = unit(np.einsum("nkc,nk->nc", normals[chosen], w).astype(np.float32))
    place = np.einsum("nkc,nk->nc", head_model().basis.mean[chosen], w)
    length = rng.uniform(*style.length, len(root)).astype(np.float32)
    side = np.clip((np.abs(place[:, 0]) - 4.5) / 2.5, 0, 1) * (place[:, 1] < 9.5) + (place[:, 1] < 3.0)
    length *= 1.0 - (1.0 - style.sides) * np.clip(side, 0, 1)
    fringe = (rng.random(len(root)) < style.fringe) & (place[:, 2] > 5.5) & (np.abs(place[:, 0]) < 5.5)
    bangs = float(rng.uniform(2.6, 4.6))
    length = np.where(fringe, bangs * rng.uniform(0.8, 1.15, len(root)), length).astype(np.float32)
    body = _Body(head[: len(normals)])
    chain = _grow(style, root, normal, length, fringe, body, rng)
    parts = [_finish(style, chain, rng, chosen[:, 0].astype(np.int32), body)]
    if style.tail:
        parts.append(_tail(style, rng, head))
    return join_cards(parts)


def _finish(style: Style, chain: Float, rng: Rng, root: Int, body: _Body) -> Cards:
    d = np.linalg.norm(chain - HEAD_CENTRE, axis=2)
    top = np.quantile(d[:, 1:], 0.9)
    outer = np.clip(1.0 - (top - d) / max(2.5, style.lift * 1.5), 0.0, 1.0)
    t = np.linspace(0, 1, style.steps)[None]
    ao = 0.45 + 0.2 * np.minimum(1.0, t * 2.5) + 0.35 * outer
    behind = (chain[..., 1] < 0.5) & (np.abs(chain[..., 0]) < 7.0) & (chain[..., 2] < 4.0)
    ao = np.where(behind, ao * 0.6, ao)
    width = (style.width * rng.uniform(0.7, 1.3, len(chain))).astype(np.float32)
    return make_cards(chain, width, rng, ao.astype(np.float32), root, None, style.comb != "out")


def _tail(style: Style, rng: Rng, head: Float) -> Cards:
    """A bun on the crown or the back of the head, or a pony tail."""
    n = 160
    high = style.tail == "bun" and rng.random() < 0.5
    crown = np.array([0.0, 14.0, -4.0] if high else [0.0, 5.0, -11.0], np.float32)
    if style.tail == "bun":
        axis = unit(rng.normal(0, 1, (n, 3)).astype(np.float32))
        other = unit(np.cross(axis, rng.normal(0, 1, (n, 3))).astype(np.float32))
        t = np.linspace(0, 2.6, 10, dtype=np.float32)[None, :, None]
        radius = rng.uniform(2.0, 2.8, (n, 1, 1)).astype(np.float32) * (1.25 if high else 1.4)
        chain = crown + radius * (np.cos(t) * axis[:, None] + np.sin(t) * other[:, None])
    else:
        t = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None]
        sway = rng.normal(0, 1.3, (n, 1, 3)).astype(np.float32)
        swing = np.array([float(rng.choice([-7.0, 0.0, 7.0])), -18.0, 1.5], np.float32)
        chain = (
            crown
            + np.array([0, 1.5, -1.5], np.float32) * np.sin(np.pi * t)
            + swing * t**1.3
            + sway * (0.3 + t)
        )
    ao = np.full(chain.shape[:2], 0.85, np.float32)
    return make_cards(
        chain.astype(np.float32),
        np.full(n, 1.2),
        rng,
        ao,
        np.zeros(n, np.int32),
        np.ones(chain.shape[0] * chain.shape[1] * 2, np.float32),
        False,
    )
