"""Where a tracked clip changes its shot: a cut, or another person under the tracker.

Told from landmarks alone: between neighbouring frames a face neither jumps by :data:`JUMP` of its own
eye distance, nor grows by :data:`GROWTH`, nor changes its rigid shape (eyes, nose, forehead) by
:data:`CHANGE`. Real heads at 25 frames/s stay under a third of each. A cut between two pictures in
which the same person sits in the same place goes unnoticed, and does no harm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.face.landmarks import RIGID_POINTS

__all__ = ["eye_distance", "find_shots"]

Floats = NDArray[np.float32]
Double = NDArray[np.float64]

JUMP = 0.7
GROWTH = 0.28
CHANGE = 0.1
PATIENCE = 12
"""Frames without a face after which the one that comes back starts a new shot if it is elsewhere."""


def eye_distance(points: Floats) -> Double:
    """[T] px between the outer eye corners as if seen from the front: turned heads keep the nose's length."""
    marks = points.astype(np.float64)
    across = np.linalg.norm(marks[:, 33] - marks[:, 263], axis=1)
    along = np.linalg.norm(marks[:, 168] - marks[:, 2], axis=1) / 0.55
    longest: Double = np.maximum(across, along)
    return longest


def find_shots(points: Floats, valid: NDArray[np.bool_]) -> list[slice]:
    """Stretches of frames that show one face without a break, in order.

    ``points`` [T, 478, 2] px. A slice starts and ends with a valid frame and may hold others between:
    a face that is lost for a moment and found again where it was is still the same shot.
    """
    seen = np.flatnonzero(valid & np.isfinite(points).all(axis=(1, 2)))
    if not len(seen):
        return []
    marks = points[seen]
    size = eye_distance(marks)
    gap = np.diff(seen)
    rigid = marks[:, RIGID_POINTS].astype(np.float64)
    middle = rigid.mean(axis=1)
    # A face may wander while it is not seen, but no further than it could walk.
    reach = np.minimum(gap, PATIENCE) ** 0.5
    moved = np.linalg.norm(np.diff(middle, axis=0), axis=1) / size[1:]
    grown = np.abs(np.diff(np.log(size)))
    changed = _misfit(rigid - middle[:, None]) / size[1:]
    cut = (moved > JUMP * reach) | (grown > GROWTH * reach) | (changed > CHANGE * reach)
    starts = np.concatenate([[0], np.flatnonzero(cut) + 1])
    ends = np.concatenate([np.flatnonzero(cut), [len(seen) - 1]])
    return [slice(int(seen[a]), int(seen[b]) + 1) for a, b in zip(starts, ends, strict=True)]


def _misfit(centred: Double) -> Double:
    """[T - 1] px, mean distance of each frame's points [T, P, 2] from the frame's before, turned and scaled
    to fit best."""
    plane = centred[..., 0] + 1j * centred[..., 1]
    before, after = plane[:-1], plane[1:]
    similarity = (np.conj(before) * after).sum(1) / np.maximum((np.abs(before) ** 2).sum(1), 1e-9)
    miss: Double = np.abs(after - similarity[:, None] * before).mean(1)
    return miss
