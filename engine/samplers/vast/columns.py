"""Which units of the face move the mouth: VAST's split, measured on our face basis.

Chen et al., 2023, §3.3: each parameter's largest offset of a mouth vertex decides whether it is
*speech-strong* (predicted from speech alone, accurately) or *speech-weak* (inherited from its own past).

    python -m engine.samplers.vast.columns
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.face.basis import FaceBasis, load_basis
from engine.types import EXPRESSION_NAMES

__all__ = ["THRESHOLD_CM", "main", "mouth_offsets", "split_columns"]

THRESHOLD_CM = 0.1
"""Units that move some vertex of the mouth by more than a millimetre are speech-strong."""

_REACH = (1.1, 0.6)
"""The mouth region across and up and down: vertices of skin, mouth bag and tongue this near to the
lips' centre, in half-widths of the mouth."""


def mouth_region(basis: FaceBasis) -> NDArray[np.int64]:
    """Indices of the vertices of lips and what is around and behind them."""
    lips = np.concatenate([basis.lip_upper, basis.lip_lower])
    points = basis.mean[lips]
    centre, half = points.mean(axis=0), 0.5 * np.ptp(points[:, 0])
    near = (np.abs(basis.mean - centre)[:, :2] < np.array(_REACH) * half).all(axis=1)
    inside = np.zeros(len(basis.mean), dtype=bool)
    for part in ("face", "socket", "tongue"):
        inside[basis.part(part)] = True
    front = basis.mean[:, 2] > centre[2] - 4.0 * half
    return np.flatnonzero(near & inside & front)


@lru_cache(maxsize=1)
def mouth_offsets() -> NDArray[np.float32]:
    """Largest offset of a vertex of the mouth when each unit goes from 0 to 1, cm, float32 [64]."""
    basis = load_basis()
    moved = basis.expression[:, mouth_region(basis)]
    return np.asarray(np.linalg.norm(moved, axis=-1).max(axis=1), np.float32)


def split_columns(threshold_cm: float = THRESHOLD_CM) -> tuple[list[int], list[int]]:
    """(speech-strong, speech-weak) columns of the expression; every column is in one of them."""
    strong = mouth_offsets() > threshold_cm
    return np.flatnonzero(strong).tolist(), np.flatnonzero(~strong).tolist()


def main() -> int:
    """Print the table, largest first."""
    offsets = mouth_offsets()
    for k in np.argsort(-offsets):
        kind = "strong" if offsets[k] > THRESHOLD_CM else "weak"
        print(f"{EXPRESSION_NAMES[k]:<22}{10 * offsets[k]:>7.2f} mm  {kind}")
    strong, weak = split_columns()
    print(f"{len(strong)} speech-strong, {len(weak)} speech-weak")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
