"""What the mesh animator keeps of one face: plain, immutable arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.geometry import SparseUnits
from engine.animators.mesh.layers import Arrays
from engine.errors import AvatarError

__all__ = ["IDENTITY_VERSION", "MeshIdentity"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Bytes = NDArray[np.uint8]

IDENTITY_VERSION = 1


@dataclass(frozen=True)
class MeshIdentity:
    """One prepared face; V vertices of the basis, N grid nodes, F drawn triangles."""

    crop: Bytes
    """[512, 512, 3] the portrait's crop."""
    person: Bytes
    """[512, 512, 4] the person, premultiplied by the matte."""
    background: Bytes
    """[512, 512, 3] the crop without the person."""
    rest: Float
    """[72] the motion that shows the portrait itself."""
    expression: Float
    """[64] fitted expression."""
    neutral: Float
    """[V, 3] model space, no expression."""
    projected: Float
    """[V, 3] crop px and camera distance in the portrait."""
    camera: Float
    """[3, 4] model -> camera space."""
    intrinsics: Float
    """[3] focal length, principal point x and y (px)."""
    pivot: Float
    """[3] the top of the neck, camera space."""
    scale: Float
    """[2] pixels per cm at the face, inter-ocular distance in cm."""
    weight: Float
    """[V] share in the head's motion."""
    triangles: Int
    """[F, 3] skin triangles that are drawn."""
    source: Float
    """[V, 2] where each vertex takes its colour in the crop, px."""
    alpha: Float
    """[V] 1 where the face mesh is shown, 0 where the grid is."""
    landmarks: Float
    """[478, 2] of the portrait, crop px."""
    seal: Float
    """[V, 3] cm: moves the visible lip edges onto each other."""
    blink: Float
    """[2, V, 3] cm: what the full blink unit lacks to close this eye (right, left)."""
    lid: Float
    """[2, V, 4] colour 0..255 and opacity of a closed upper lid (right, left)."""
    lash: Float
    """[2, 4] lash colour 0..255 and strength (right, left)."""
    lip_line: Float
    """[4] colour 0..255 and strength of the shadow between closed lips."""
    node_points: Float
    """[N, 3] grid nodes, model space."""
    node_weight: Float
    """[N] share in the head's motion."""
    node_hold: Float
    """[N, 4] share of a motion away from each border that is held back."""
    node_unit_offset: Int
    node_unit_vertex: Int
    node_unit_value: Float
    """Expression units of the nodes, as in ``SparseUnits``."""
    layers: Mapping[str, Arrays]
    """Arrays of the mouth and eye layers, by layer name."""

    @property
    def node_units(self) -> SparseUnits:
        return SparseUnits(self.node_unit_offset, self.node_unit_vertex, self.node_unit_value)

    def to_arrays(self) -> Arrays:
        """Everything by name; layer arrays as ``layer.<layer>.<name>``."""
        arrays: Arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        for layer, content in self.layers.items():
            arrays.update({f"layer.{layer}.{name}": value for name, value in content.items()})
        arrays["version"] = np.array([IDENTITY_VERSION], np.int32)
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> MeshIdentity:
        """Back from :meth:`to_arrays`; AvatarError if something is missing or of another version."""
        version = int(np.asarray(arrays.get("version", [-1]))[0])
        if version != IDENTITY_VERSION:
            raise AvatarError(
                f"this avatar's mesh has version {version}, this visavis reads {IDENTITY_VERSION}: "
                "run 'visavis prepare' on the photo again"
            )
        named = {f.name for f in fields(MeshIdentity)} - {"layers"}
        missing = sorted(named - set(arrays))
        if missing:
            raise AvatarError(f"the avatar lacks {missing}: run 'visavis prepare' on the photo again")
        layers: dict[str, Arrays] = {}
        for key, value in arrays.items():
            if key.startswith("layer."):
                _, layer, name = key.split(".", 2)
                layers.setdefault(layer, {})[name] = value
        content = {name: np.ascontiguousarray(arrays[name]) for name in named}
        return MeshIdentity(**content, layers=layers)
