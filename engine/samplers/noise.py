"""Counter-based noise: every random number is a pure function of (seed, stream, counter).

Nothing is drawn "next": the counter is an absolute frame, so chunk sizes, retries and batching never
change a face, and a stream may begin at any frame. The mixer is SplitMix64's finaliser (Steele,
Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), once per key word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Seeds", "hash64", "normals", "smooths", "uniforms"]

Floats = NDArray[np.float64]
Seeds = NDArray[np.uint64]
Ints = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_NORMAL = 1 << 20  # streams of the second uniform that Box-Muller needs


def _mix(z: Seeds) -> Seeds:
    """SplitMix64's finaliser; multiplication wraps modulo 2**64 on purpose."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def hash64(seed: Seeds, stream: Ints, counter: Ints) -> Seeds:
    """64 uniform bits for each key; the three arrays broadcast. Negative counters are allowed."""
    mixed = _mix(seed + _GOLDEN)
    mixed = _mix(mixed ^ (stream.astype(np.uint64) * _GOLDEN + _GOLDEN))
    return _mix(mixed ^ (counter.astype(np.uint64) * _GOLDEN + _MIX_2))


def uniforms(seed: Seeds, stream: int, frame: int, count: int) -> Floats:
    """``count`` uniforms in [0, 1) per row, from streams ``stream``...: float64 [count, B]."""
    streams = np.arange(stream, stream + count, dtype=np.int64)[:, None]
    return _unit(hash64(seed, streams, np.array([frame], dtype=np.int64)))


def normals(seed: Seeds, stream: int, frame: int, count: int) -> Floats:
    """``count`` standard normals per row (Box-Muller): float64 [count, B]."""
    radius = np.sqrt(-2.0 * np.log1p(-uniforms(seed, stream, frame, count)))
    angle = 2.0 * np.pi * uniforms(seed, stream + _NORMAL, frame, count)
    return np.asarray(radius * np.cos(angle))


def smooths(seed: Seeds, stream: int, position: Floats) -> Floats:
    """Band-limited noise in (-1, 1): uniform cubic B-splines over hashed lattice values.

    ``position`` [S] counts lattice cells (time * rate) of streams ``stream``... Returns float64
    [S, B]: twice continuously differentiable, bounded by construction (convex hull), stateless;
    standard deviation about 0.4.
    """
    cell = np.floor(position)
    u = (position - cell)[:, None, None]
    streams = (stream + np.arange(position.size, dtype=np.int64))[:, None, None]
    lattice = cell.astype(np.int64)[:, None, None] + np.arange(4, dtype=np.int64)[None, :, None]
    values = 2.0 * _unit(hash64(seed, streams, lattice)) - 1.0
    weights = np.concatenate(
        [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], axis=1
    )
    return np.asarray((values * weights).sum(axis=1) / 6.0)


def _unit(bits: Seeds) -> Floats:
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
