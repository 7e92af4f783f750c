"""Cards: ribbons that carry a texture of strands, for hair and beards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.grid import head_weight
from engine.synth.people.model import HEAD_CENTRE

__all__ = ["Cards", "card_texture", "join_cards", "make_cards", "sample_triangles", "unit"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Cards:
    """Vertices of N cards in head coordinates, cm."""

    points: Float
    """[M, 3]"""
    tangent: Float
    """[M, 3] along the strands"""
    normal: Float
    """[M, 3] outwards"""
    uv: Float
    """[M, 2] in the card texture"""
    paint: Float
    """[M, 4] place along the strand 0..1, occlusion 0..1, shade of the card 0..1, 1"""
    weight: Float
    """[M] share in the head's motion"""
    triangles: Int
    """[F, 3]"""
    root: Int
    """[M] the skin vertex a card grows from"""
    few: Int
    """[F', 3] the triangles of every third card: enough for shadows"""


@lru_cache(maxsize=1)
def card_texture() -> NDArray[np.uint8]:
    """uint8 [128, 1024, 2]: brightness and cover of strands; columns across cards, rows along them."""
    rng = np.random.default_rng(7)
    wide, high = 1024, 128
    shade = np.zeros((high, wide), np.float32)
    cover = np.zeros((high, wide), np.float32)
    row = np.arange(high) / (high - 1)
    for _ in range(1500):
        x0, drift, width = rng.uniform(0, wide), rng.normal(0, 8), rng.uniform(1.0, 2.6)
        end = rng.uniform(0.4, 1.0)
        x = x0 + drift * row + 3 * np.sin(row * rng.uniform(2, 6) + rng.uniform(0, 6))
        w = width * np.clip((end - row) / 0.35, 0.0, 1.0) ** 0.5
        tone = rng.beta(2, 2)
        for dx in range(-4, 5):
            a = np.clip(w - abs(dx) + 0.5, 0.0, 1.0)
            columns = (np.floor(x).astype(int) + dx) % wide
            r = np.arange(high)
            over = a > 0.4
            shade[r[over], columns[over]] = tone * (1 - 0.12 * abs(dx))
            cover[r, columns] = np.maximum(cover[r, columns], a)
    shade = np.where(cover > 0, shade, 0.5)
    return (np.stack([shade, cover], 2) * 255).astype(np.uint8)


def unit(v: Float) -> Float:
    return np.asarray(v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-8), np.float32)


def sample_triangles(rng: Rng, density: Float, triangles: Int, count: int) -> tuple[Int, Float]:
    """``count`` triangles by density, and barycentric weights in them."""
    total = float(density.sum())
    even = (np.arange(count) + rng.random(count)) / count * total
    order = rng.permutation(len(density))
    chosen = order[np.minimum(np.searchsorted(np.cumsum(density[order]), even), len(density) - 1)]
    w = rng.dirichlet([1, 1, 1], count).astype(np.float32)
    return triangles[chosen], w


def make_cards(
    chain: Float, width: Float, rng: Rng, ao: Float, root: Int, weight: Float | None, flat: bool
) -> Cards:
    """Ribbons around chains [N, T, 3]; ``width`` [N] cm, ``ao`` [N, T]."""
    n, steps = chain.shape[:2]
    t = np.linspace(0, 1, steps, dtype=np.float32)
    along = unit(np.gradient(chain, axis=1))
    out = unit(chain - HEAD_CENTRE)
    across = np.cross(along, out) + (0.22 if flat else 0.8) * rng.normal(0, 1, (n, 1, 3))
    side: Float = unit((across - (across * along).sum(2, keepdims=True) * along).astype(np.float32))
    taper = np.asarray(np.interp(t, [0, 0.25, 0.7, 1], [0.75, 1.0, 1.0, 0.55]), np.float32)
    half = 0.5 * width[:, None] * taper[None, :]
    left, right = chain - side * half[..., None], chain + side * half[..., None]
    points = np.stack([left, right], 2).reshape(-1, 3).astype(np.float32)
    face = unit(out - (out * along).sum(2, keepdims=True) * along)
    face = unit(face + out)
    bulge = np.stack([face - 0.2 * side, face + 0.2 * side], 2).reshape(-1, 3)
    u0 = np.repeat(rng.random((n, 1)), steps, 1)
    u = np.stack([u0, u0 + 0.035 * width[:, None]], 2)
    v = np.broadcast_to(t[None, :, None], (n, steps, 2))
    tint = np.broadcast_to(rng.random((n, 1, 1)), (n, steps, 2))
    shade = np.broadcast_to(ao[..., None], (n, steps, 2))
    # Long strands keep their cover and thin out over their last centimetres only.
    longest = np.linalg.norm(np.diff(chain, axis=1), axis=2).sum(1)
    ends = np.interp(longest, [3.0, 8.0, 25.0], [1.0, 0.85, 0.68])[:, None, None]
    v = v * np.where(v > 0.8, ends + (1.0 - ends) * (v - 0.8) * 5.0, ends)
    paint = np.stack([v, shade, tint, np.ones_like(v)], 3).reshape(-1, 4).astype(np.float32)
    base = (np.arange(n)[:, None] * steps + np.arange(steps - 1)[None]).reshape(-1, 1) * 2
    triangles = np.concatenate([base + np.array([0, 1, 2]), base + np.array([1, 3, 2])]).astype(np.int32)
    if weight is None:
        weight = np.maximum(head_weight(points), 0.0)
    return Cards(
        points=points,
        tangent=np.repeat(along.reshape(-1, 3), 2, 0),
        normal=unit(bulge.astype(np.float32)),
        uv=np.stack([u, v * 0.98 + 0.01], 3).reshape(-1, 2).astype(np.float32),
        paint=paint,
        weight=weight.astype(np.float32),
        triangles=triangles,
        root=np.repeat(root, steps * 2).astype(np.int32),
        few=triangles[np.tile(np.arange(n).repeat(steps - 1) % 3 == 0, 2)],
    )


def join_cards(parts: list[Cards]) -> Cards:
    """Several groups of cards as one."""
    offset, triangles, few = 0, [], []
    for part in parts:
        triangles.append(part.triangles + offset)
        few.append(part.few + offset)
        offset += len(part.points)
    names = ("points", "tangent", "normal", "uv", "paint", "weight", "root")
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return Cards(**arrays, triangles=np.concatenate(triangles), few=np.concatenate(few))
