"""Contact sheet: one face in fourteen motions, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.render import SIZE, FrameBuffers
from engine.types import MOTION

__all__ = ["contact_sheet", "motions", "moved"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Changes to the rest motion; a name without a side means both sides. Angles in degrees.
_MOTIONS: dict[str, dict[str, float]] = {
    "jaw 0.3": {"jawOpen": 0.3},
    "jaw 0.7": {"jawOpen": 0.7},
    "funnel": {"mouthFunnel": 0.8, "jawOpen": 0.15},
    "pucker": {"mouthPucker": 0.8},
    "smile": {"mouthSmile": 0.7, "cheekSquint": 0.4},
    "grin": {"mouthSmile": 0.5, "jawOpen": 0.2, "mouthUpperUp": 0.35, "mouthLowerDown": 0.3},
    "neutral mouth": {"neutral": 1.0},
    "blink": {"eyeBlink": 1.0},
    "brows up": {"browInnerUp": 0.7, "browOuterUp": 0.7},
    "gaze": {"gazeYaw": 20.0, "gazePitch": -6.0},
    "yaw +20": {"ry": 20.0},
    "yaw -20": {"ry": -20.0},
    "pitch +15": {"rx": 15.0},
    "pitch -15, roll 15": {"rx": -15.0, "rz": 15.0},
}
_ANGLES = frozenset({"rx", "ry", "rz", "gazeYaw", "gazePitch"})


def moved(rest: Float, change: Mapping[str, float]) -> Float:
    """``rest`` float32 [72] with ``change`` added; see :data:`_MOTIONS` for its keys."""
    motion = rest.copy()
    if change.get("neutral"):
        motion[MOTION.expression] = 0.0
    for name, value in change.items():
        if name == "neutral":
            continue
        columns = [name] if name in MOTION.names else [f"{name}Left", f"{name}Right"]
        for column in columns:
            motion[MOTION.index(column)] += np.radians(value) if name in _ANGLES else value
    return motion


def motions(rest: Float) -> dict[str, Float]:
    """The sheet's fourteen motions float32 [72] by label, for a face whose rest is ``rest``."""
    return {label: moved(rest, change) for label, change in _MOTIONS.items()}


def contact_sheet(
    identity: MeshIdentity, table: Mapping[str, Float] | None = None, columns: int = 4
) -> Bytes:
    """The portrait, its rest and every motion of ``table`` (default :func:`motions`), labelled.

    Returns uint8 [rows * 512, columns * 512, 3].
    """
    animator = MeshAnimator()
    renderer = animator.renderer(identity)
    buffers = FrameBuffers.for_basis(renderer.basis)
    shown: dict[str, Float] = {"rest": identity.rest}
    shown.update(motions(identity.rest) if table is None else table)
    tiles = [_labelled(identity.crop, "source")]
    for label, motion in shown.items():
        picture = np.empty((SIZE, SIZE, 3), np.uint8)
        renderer.draw(np.asarray(motion, np.float32), buffers, picture)
        tiles.append(_labelled(picture, label))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _labelled(picture: Bytes, label: str) -> Bytes:
    """A copy of ``picture`` with ``label`` in its corner, readable on any ground."""
    out = picture.copy()
    out[:40, : 16 + 15 * len(label)] //= 3
    cv2.putText(out, label, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 230, 80), 1, cv2.LINE_AA)
    return out
