"""What the face basis's mouth looks like for a motion: the measures a tracked real mouth is given by.

The neutral identity, seen straight from the front with a still head, so that generated and tracked
mouths are measured by the same landmarks and the same formulas.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.face.landmarks import INNER_LIPS, mouth_opening
from engine.train.motion_data import mouth_shape
from engine.types import MOTION

__all__ = ["landmarks_of", "opening_of", "shape_of"]

Floats = NDArray[np.float32]
_PX_PER_CM = 40.0


@lru_cache(maxsize=1)
def _linear() -> tuple[Floats, Floats]:
    """Landmarks of the mean head [468, 2] and of each unit [64, 468, 2], image axes, px."""
    basis = load_basis()
    flip = np.array([_PX_PER_CM, -_PX_PER_CM], np.float32)
    return (
        basis.at_landmarks(basis.mean)[:, :2] * flip,
        basis.at_landmarks(basis.expression)[..., :2] * flip,
    )


def landmarks_of(motion: Floats) -> Floats:
    """Front-view landmarks float32 [T, 478, 2] (irises left at zero) of ``motion`` [T, 72], pose ignored."""
    mean, units = _linear()
    points = np.zeros((len(motion), 478, 2), np.float32)
    points[:, :468] = mean + np.tensordot(motion[:, MOTION.expression].astype(np.float32), units, 1)
    return points


def opening_of(motion: Floats) -> Floats:
    """Mouth opening float32 [T] in inter-ocular distances; lips that overlap count as closed.

    :func:`~engine.face.landmarks.mouth_opening` takes lengths, which a tracked face cannot have
    negative; here the sign of each gap is kept and the mean limited at zero.
    """
    points = landmarks_of(motion)
    gaps = [points[:, b, 1] - points[:, a, 1] for a, b in INNER_LIPS]
    lengths = np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in INNER_LIPS], axis=0)
    share = np.mean(gaps, axis=0) / np.maximum(lengths, 1e-6)
    return np.asarray(mouth_opening(points) * np.clip(share, 0.0, 1.0), np.float32)


def shape_of(motion: Floats) -> Floats:
    """:func:`~engine.train.motion_data.mouth_shape` of ``motion`` [T, 72]: float32 [T, 5]."""
    return mouth_shape(landmarks_of(motion))
