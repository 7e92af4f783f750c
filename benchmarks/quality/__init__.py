"""Quality measured against real people: correlation, amplitude and events of two curves.

Curves are float arrays at 25 frames/s; NaN marks frames where the real face was not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "Events", "agreement", "closures", "match_events", "pearson"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_LAG_FRAMES = 2
"""±80 ms: how far a curve may be moved to find its best correlation."""
CLOSED = 0.25
"""A mouth is closed below this share of the way from the clip's 2nd to its 95th percentile."""
OPEN = 0.40
"""...and a closure counts only if the mouth rises above this share on both sides of it."""
LONGEST_CLOSURE = 8
"""Frames; longer ones are pauses, not consonants."""
TOLERANCE = 2
"""Frames (80 ms) within which a generated closure matches a real one."""


@dataclass(frozen=True)
class Agreement:
    """How a generated curve follows a real one. ``lag_ms`` > 0: the generated one is late."""

    r: float
    lag_ms: float
    amplitude: float


@dataclass(frozen=True)
class Events:
    """Counts of matched, generated and real events; they add up over clips."""

    matched: int
    generated: int
    real: int

    def __add__(self, other: Events) -> Events:
        return Events(self.matched + other.matched, self.generated + other.generated, self.real + other.real)

    @property
    def f1(self) -> float:
        """2 matched / (generated + real); 1 where there was nothing to find and nothing found."""
        total = self.generated + self.real
        return 2.0 * self.matched / total if total else 1.0


def pearson(a: Floats, b: Floats) -> float:
    """Correlation over the frames where both are finite; 0 where either is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    x, y = a[both], b[both]
    if x.size < 3 or x.std() < 1e-9 or y.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def agreement(generated: Floats, real: Floats) -> Agreement:
    """Best correlation within ±:data:`MAX_LAG_FRAMES`, its lag, and the ratio of deviations."""
    best, lag = -2.0, 0
    for k in range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1):
        moved, fixed = (generated[k:], real[: len(real) - k]) if k >= 0 else (generated[:k], real[-k:])
        r = pearson(moved, fixed)
        if r > best:
            best, lag = r, k
    both = np.isfinite(generated) & np.isfinite(real)
    deviation = float(real[both].std())
    return Agreement(best, 40.0 * lag, float(generated[both].std()) / max(deviation, 1e-9))


def closures(opening: Floats) -> Ints:
    """Frames at which the mouth is briefly shut: the lowest frame of each closure [N].

    A closure is a run of at most :data:`LONGEST_CLOSURE` frames below :data:`CLOSED` of the clip's
    own range (2nd..95th percentile) with the mouth above :data:`OPEN` within the same number of
    frames before and after it. Long pauses are no closures, nor are dips of a mouth that never opens.
    """
    seen = np.isfinite(opening)
    if seen.sum() < 10:
        return np.zeros(0, np.int64)
    low, high = np.percentile(opening[seen], [2, 95])
    level = np.where(seen, (opening - low) / max(high - low, 1e-9), 1.0)
    edges = np.diff(np.concatenate([[0], (level < CLOSED).astype(np.int8), [0]]))
    found = []
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        before, after = level[max(0, start - LONGEST_CLOSURE) : start], level[stop : stop + LONGEST_CLOSURE]
        opens = before.size > 0 and after.size > 0 and before.max() > OPEN and after.max() > OPEN
        if stop - start <= LONGEST_CLOSURE and opens:
            found.append(start + int(np.argmin(level[start:stop])))
    return np.array(found, np.int64)


def match_events(generated: Ints, real: Ints, tolerance: int = TOLERANCE) -> Events:
    """Pair events one to one, nearest first, at most ``tolerance`` frames apart."""
    pairs = [(abs(int(g - r)), i, j) for i, g in enumerate(generated) for j, r in enumerate(real)]
    used_g: set[int] = set()
    used_r: set[int] = set()
    for distance, i, j in sorted(pairs):
        if distance <= tolerance and i not in used_g and j not in used_r:
            used_g.add(i)
            used_r.add(j)
    return Events(len(used_g), len(generated), len(real))
