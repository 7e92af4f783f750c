"""What the network is shown of a frame, cut from the mesh animator's work; the same in training and use."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.animators.gohd.region import Region, region_of, region_side, whole
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.render import FrameBuffers, FrameRenderer

__all__ = ["Guide", "guide_of", "source_region"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Guide:
    """One frame as the mesh animator draws it; ``picture`` uint8 [S, S, 3], ``grid`` [S/4, S/4, 2]."""

    region: Region
    picture: Bytes
    grid: Float


def source_region(identity: MeshIdentity) -> Region:
    """The face region of the portrait itself."""
    return whole(region_of(identity.landmarks[:468], region_side(identity.landmarks)))


def guide_of(
    renderer: FrameRenderer,
    motion: Float,
    source: Region,
    buffers: FrameBuffers,
    frame: Bytes,
    pixels: int = 256,
    tier: int = 0,
    helper: Executor | None = None,
    painted: bool = True,
) -> Guide:
    """Draw ``motion`` [72] into ``frame`` uint8 [512, 512, 3] and cut the network's inputs from it.

    Not ``painted``: without the mesh animator's eyes, mouth and lids, as the stage on a device draws it.
    """
    if painted:
        renderer.draw(motion, buffers, frame, tier, helper)
    else:
        renderer.person(renderer.geometry(motion, buffers, tier, helper), buffers, frame, helper)
    # The renderer leaves the frame's landmarks and sampling positions in its buffers.
    region = whole(region_of(buffers.landmarks, source.side))
    return Guide(region, region.cut(frame, pixels), region.grid(buffers.positions, source, pixels // 4))
