"""What the learned animator keeps of one face: the mesh animator's arrays and the source's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.animators.gohd.region import Region
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.layers import Arrays

__all__ = ["GohdIdentity"]


@dataclass(frozen=True)
class GohdIdentity:
    """One prepared face."""

    mesh: MeshIdentity
    region: Region
    """the face region of the portrait"""
    features: tuple[Tensor, Tensor, Tensor, Tensor]
    """z_s [1, Z] and maps [1, C, h, w], as :class:`engine.animators.gohd.network.Encoder` gives them"""

    @property
    def rest(self) -> NDArray[np.float32]:
        """[72] the motion that shows the portrait itself."""
        return self.mesh.rest

    @property
    def person(self) -> NDArray[np.uint8]:
        """[512, 512, 4] the person, premultiplied by the matte."""
        return self.mesh.person

    def to_arrays(self) -> Arrays:
        """The mesh animator's arrays: features are encoded again, by whatever weights are then in use."""
        return self.mesh.to_arrays()
