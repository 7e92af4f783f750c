"""Beards: cards that grow from the face and move with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.synth.people.cards import Cards, make_cards, sample_triangles, unit
from engine.synth.people.look import Look
from engine.synth.people.model import chart_pixels, head_model
from engine.synth.people.skin import regions

__all__ = ["grow_beard"]

Float = NDArray[np.float32]
Rng = np.random.Generator


def grow_beard(look: Look, head: Float, normals: Float) -> Cards | None:
    """A beard's cards on neutral vertices ``head`` [V, 3]; None where it is shaved or only stubble."""
    if look.beard not in ("moustache", "goatee", "short", "full"):
        return None
    rng, model, r = np.random.default_rng([look.seed, 5]), head_model(), regions()
    zone = {
        "moustache": r.moustache, "goatee": r.goatee, "short": np.maximum(r.beard, r.moustache),
        "full": np.maximum(r.beard, r.moustache),
    }[look.beard]  # fmt: skip
    t = model.basis.triangles_of("face")
    p = model.basis.mean[t]
    middle = p.mean(1)
    at = np.clip(chart_pixels(middle).astype(int), 0, 511)
    front = (middle[:, 2] > 9.0) | (np.abs(middle[:, 0]) > 2.8) | (middle[:, 1] < -5.0)
    area = 0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    density = area * np.clip(zone[at[:, 1], at[:, 0]] - 0.12, 0, 1) * front
    count = {"moustache": 420, "goatee": 700, "short": 1700, "full": 1700}[look.beard]
    chosen, w = sample_triangles(rng, density.astype(np.float32), t, count)
    root = np.einsum("nkc,nk->nc", head[chosen], w).astype(np.float32)
    normal = unit(np.einsum("nkc,nk->nc", normals[chosen], w).astype(np.float32))
    place = np.einsum("nkc,nk->nc", model.basis.mean[chosen], w)
    longest = {"moustache": 1.3, "goatee": 1.9, "short": 1.2, "full": 3.6}[look.beard] * look.beard_length
    chain = _beard_chains(root, normal, place, longest, rng)
    ao = np.broadcast_to(np.linspace(0.6, 1.0, chain.shape[1], dtype=np.float32), chain.shape[:2])
    cards = make_cards(
        chain,
        rng.uniform(0.14, 0.3, count).astype(np.float32),
        rng,
        ao,
        chosen[:, 0].astype(np.int32),
        None,
        False,
    )
    roots = model.weight[cards.root]
    return replace(cards, weight=roots.astype(np.float32))


def _beard_chains(root: Float, normal: Float, place: Float, longest: float, rng: Rng) -> Float:
    steps, n = 3, len(root)
    upper = (place[:, 1] > -3.1) & (np.abs(place[:, 0]) < 3.2)
    down = np.stack([0.2 * np.sign(place[:, 0]), -np.ones(n), 0.15 * np.ones(n)], 1)
    across = np.stack([np.clip(place[:, 0], -1, 1) * 1.1, -0.75 * np.ones(n), 0.1 * np.ones(n)], 1)
    way = unit((np.where(upper[:, None], across, down) + rng.normal(0, 0.3, (n, 3))).astype(np.float32))
    way = unit(way - 0.8 * (way * normal).sum(1, keepdims=True) * normal)
    chin = np.clip((-place[:, 1] - 3.0) / 4.0, 0.35, 1.0)
    length = longest * np.where(upper, 0.45, chin) * rng.uniform(0.6, 1.1, n)
    length = np.minimum(length, np.where(upper, 0.75, 9.0))
    t = np.linspace(0, 1, steps)[None, :, None]
    stand = normal[:, None] * (
        0.12 * np.sqrt(t)
        + 0.25 * t * np.minimum(length, 2.0)[:, None, None] * (1 - 0.6 * upper[:, None, None])
    )
    chain = (
        root[:, None]
        + stand
        + way[:, None] * t * length[:, None, None]
        + np.array([0, -0.25, 0]) * t**2 * length[:, None, None]
    )
    return chain.astype(np.float32)
