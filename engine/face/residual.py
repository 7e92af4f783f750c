"""Spreads what a linear face model cannot explain over the mesh, as a Gaussian process.

After a fit some landmarks still miss their model points by a millimetre. A displacement field
that passes (nearly) through those misses is smooth on the skin but must not tie the upper lip to
the lower one or lid to lid, so distances are measured on an opened face. Kernel exp(-r / 2 cm),
measurement variance 0.03 of the prior's (0.5 on the silhouette).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from engine.face.basis import PARTS, load_basis
from engine.types import EXPRESSION_NAMES

__all__ = ["INNER_LIPS", "LEFT_LIDS", "RIGHT_LIDS", "SILHOUETTE", "spread"]

Float = NDArray[np.float32]

LENGTH_CM = 2.0
NOISE, SILHOUETTE_NOISE = 0.03, 0.5

# Face-mesh landmark numbers.
SILHOUETTE = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])  # fmt: skip
INNER_LIPS = np.array([
    [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308],
    [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308],
])  # fmt: skip
"""[2, 11] upper and lower visible lip edge, right corner to left corner."""
RIGHT_LIDS = np.array([
    [33, 246, 161, 160, 159, 158, 157, 173, 133],
    [33, 7, 163, 144, 145, 153, 154, 155, 133],
])  # fmt: skip
"""[2, 9] upper and lower lid of the subject's right eye, outer corner to inner corner."""
LEFT_LIDS = np.array([
    [263, 466, 388, 387, 386, 385, 384, 398, 362],
    [263, 249, 390, 373, 374, 380, 381, 382, 362],
])  # fmt: skip
"""[2, 9] likewise the left eye."""

_OPENING = {
    "jawOpen": 0.6, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3,
    "eyeWideLeft": 1.0, "eyeWideRight": 1.0,
}  # fmt: skip


@lru_cache(maxsize=1)
def process() -> tuple[Float, NDArray[np.float64]]:
    """Cross-covariance [V', 468] of skin, eye sockets and mouth bag; inverse landmark covariance."""
    basis = load_basis()
    opening = np.zeros(len(EXPRESSION_NAMES), np.float32)
    for name, value in _OPENING.items():
        opening[EXPRESSION_NAMES.index(name)] = value
    shape = basis.shape(expression=opening)
    marks = basis.at_landmarks(shape)
    moved = shape[basis.parts("face", "socket")]
    noise = np.full(len(marks), NOISE)
    noise[SILHOUETTE] = SILHOUETTE_NOISE
    covariance = np.exp(-cdist(marks, marks) / LENGTH_CM) + np.diag(noise)
    inverse = cho_solve(cho_factor(covariance), np.eye(len(marks)))
    cross = np.exp(cdist(moved, marks).astype(np.float32) / np.float32(-LENGTH_CM))
    return cross, inverse


def spread(miss: Float) -> Float:
    """Displacement of every vertex [V, 3] that (nearly) carries the landmarks by ``miss`` [468, 3], cm.

    Skin and the bags behind lips and lids follow the process; each eyeball moves as its lids do on
    average, teeth, gums and tongue as the lips do on average: they are rigid.
    """
    basis = load_basis()
    cross, inverse = process()
    out = np.zeros_like(basis.mean)
    out[basis.parts("face", "socket")] = cross @ (inverse @ miss).astype(np.float32)
    at = basis.at_landmarks(out)
    out[basis.parts("gums", "teeth_lower")] = at[INNER_LIPS].mean((0, 1))
    out[basis.parts("eye_left", "iris_left")] = at[LEFT_LIDS].mean((0, 1))
    out[basis.parts("eye_right", "iris_right")] = at[RIGHT_LIDS].mean((0, 1))
    assert len(PARTS) == 14  # every part is named above
    return out
