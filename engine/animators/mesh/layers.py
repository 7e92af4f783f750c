"""What the mesh animator tells its layers: the face once (source) and every frame (geometry).

Layers are painted back to front: background, person, eyes, mouth interior, face, lids. A layer
prepares plain arrays once per portrait and then draws into small supersampled windows of the
frame. When a layer draws, its window already holds the person layer (at rest: the photo itself);
whatever it leaves untouched shows through, and the face mesh is painted over it afterwards, so
lips and lids cut the layer off with anti-aliased edges.

All frame coordinates are crop pixels as in :mod:`kernels.raster`; depths are camera distances in
cm; model space is +x subject's left, +y up, +z to the camera, cm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.geometry import project
from engine.face.basis import FaceBasis
from engine.face.fitter import FaceFit
from kernels.raster import Canvas

__all__ = ["Arrays", "FrameGeometry", "Layer", "SourceGeometry"]

Float = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class SourceGeometry:
    """One portrait, as the layers see it while they prepare.

    ``crop`` uint8 [512, 512, 3]; ``matte`` float32 [512, 512], 1 on the person; ``landmarks``
    float32 [478, 2] crop px (468.. are the irises); ``neutral`` float32 [V, 3] this person's shape
    without expression (mean + identity + correction, model space); ``expression`` float32 [64] as
    fitted; ``vertices`` float32 [V, 3] shape with that expression; ``projected`` float32 [V, 3]
    crop px and camera distance of ``vertices``; ``normals`` float32 [V, 3] outward unit normals in
    camera space; ``visible`` bool [V] seen in the photo; ``pixels_per_cm`` scale at the face.
    """

    crop: NDArray[np.uint8]
    matte: Float
    landmarks: Float
    fit: FaceFit
    basis: FaceBasis
    neutral: Float
    expression: Float
    vertices: Float
    projected: Float
    normals: Float
    visible: NDArray[np.bool_]
    pixels_per_cm: float


@dataclass
class FrameGeometry:
    """One frame; the arrays are buffers of the animator's state and change with the next frame.

    ``motion`` float32 [72] as received (softly clamped); ``expression`` float32 [64] the
    coefficients really applied (mouth columns absolute, eye and brow columns added to the
    portrait's own, 0..1); ``vertices`` float32 [V, 3] model space, expression applied, before head
    motion; ``projected`` float32 [V, 3] crop px and camera distance, head motion applied;
    ``normals`` float32 [V, 3] outward unit normals in camera space of eye sockets and mouth interior
    (zero on the skin); ``landmarks`` float32 [468, 2] crop px of this frame: the photo's own
    landmarks moved with the mesh (equal to them at rest);
    ``head`` float32 [3, 4] the rigid motion of the skull in camera space, x -> R x + t (cm),
    identity at rest; ``camera`` float32 [3, 4] model space -> camera space of the portrait; ``focal``
    and ``centre`` of the pinhole: u = cx + f x / d, v = cy - f y / d with d = -z the camera
    distance; ``pixels_per_cm`` at the face; ``tier`` 0 full quality, 1 cheaper.
    """

    motion: Float
    expression: Float
    vertices: Float
    projected: Float
    normals: Float
    landmarks: Float
    head: Float
    camera: Float
    focal: float
    centre: tuple[float, float]
    pixels_per_cm: float
    tier: int = 0

    def place(self, points: Float, *, moved: bool = True) -> Float:
        """Project model-space ``points`` float32 [N, 3] that are fixed to the skull.

        Returns float32 [N, 3]: crop px and camera distance; ``moved=False`` leaves out the head
        motion (where the points were in the photo).
        """
        out, follows = np.empty((len(points), 3), np.float32), np.full(len(points), moved, np.float32)
        cx, cy = self.centre
        project(
            np.ascontiguousarray(points, np.float32), follows, self.camera, self.head, self.focal, cx, cy, out
        )
        return out


class Layer(Protocol):
    """A part of the picture with its own prepared arrays.

    ``prepare`` runs once per portrait and returns plain arrays (saved with the avatar);
    the constructor takes them back; ``draw`` must not change the layer. A mouth layer is asked
    once per frame (``part`` 0), an eye layer once per eye (``part`` 0 the subject's right eye,
    at the image left; 1 the left eye).
    """

    @classmethod
    def prepare(cls, source: SourceGeometry) -> Arrays:
        """Everything the layer needs later, as named arrays."""
        ...

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], basis: FaceBasis) -> None: ...

    def draw(self, canvas: Canvas, frame: FrameGeometry, part: int) -> None:
        """Paint into ``canvas`` (already showing the person layer); about 1 ms at most."""
        ...
