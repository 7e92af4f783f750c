"""How different performances of one voice are: the papers' definitions, and the spread over seeds.

* **head** (OSM-Net, "Diversity"): standard deviation over time of the head's motion features; ours are
  pitch, yaw and roll in rad, mean over axes and clips. The paper's features are a pose network's.
* **D_vt** (VAST, Table 2): mean Euclidean distance between expression sequences. Ours: all
  sequences of two seconds, relative to the clip's rest, distance per frame (root mean square over
  frames), over all pairs, ``all`` columns of the expression or the speech-strong ``lips``.
* **over seeds**: mean over clips of the mean distance per frame between performances of the same
  voice under different seeds, for the lips, the upper face and the head (deg).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.head import angles
from engine.samplers.factors import LIPS, UPPER
from engine.types import MOTION

__all__ = ["head_diversity", "pairwise", "seed_spread", "segments"]

Floats = NDArray[np.float64]

_SEGMENT = 50
_MOST = 400


def head_diversity(motions: list[Floats]) -> float:
    """Standard deviation of head rotation over time, rad, mean over axes and clips [T, 72]."""
    found = [np.nanstd(m[:, MOTION.rotation], axis=0).mean() for m in motions if len(m) > 1]
    return float(np.mean(found)) if found else float("nan")


def segments(motions: list[Floats], rests: list[Floats]) -> Floats:
    """Two-second stretches [N, 50, 64] of expressions relative to rest; those with gaps are left out."""
    found = []
    for motion, rest in zip(motions, rests, strict=True):
        moved = motion[:, MOTION.expression] - rest[MOTION.expression]
        for start in range(0, len(moved) - _SEGMENT + 1, _SEGMENT):
            piece = moved[start : start + _SEGMENT]
            if np.isfinite(piece).all():
                found.append(piece)
    return np.stack(found[:_MOST]) if found else np.zeros((0, _SEGMENT, MOTION.expression.stop))


def pairwise(sequences: Floats) -> float:
    """Mean distance per frame between all pairs of [N, T, K]: sqrt(sum of squares / T)."""
    count, frames = sequences.shape[:2]
    if count < 2:
        return float("nan")
    flat = sequences.reshape(count, -1)
    squares = (flat**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2.0 * flat @ flat.T, 0.0) / frames)
    return float(distance.sum() / (count * (count - 1)))


def seed_spread(performances: list[Floats]) -> dict[str, float]:
    """Distances between seeds of clips [S, T, 72]: ``lips``, ``upper``, ``head_deg``; NaN with one seed."""
    parts = {"lips": LIPS, "upper": UPPER}
    several = [p for p in performances if len(p) > 1]
    if not several:
        return {"lips": float("nan"), "upper": float("nan"), "head_deg": float("nan")}
    spread = {
        name: float(np.mean([pairwise(p[:, :, columns]) for p in several])) for name, columns in parts.items()
    }
    spread["head_deg"] = float(np.mean([pairwise(np.stack([angles(s) for s in p])) for p in several]))
    return spread
