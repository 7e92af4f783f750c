"""Prepared faces that the layer tests share: the two demo portraits, analysed once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.layers import FrameGeometry, SourceGeometry
from engine.animators.mesh.prepare import source_geometry
from engine.animators.mesh.render import FrameBuffers, FrameRenderer
from engine.errors import AssetError
from engine.face.basis import load_basis
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.types import MOTION
from kernels.raster import Canvas

Float = NDArray[np.float32]

_DEMO = Path(__file__).parents[3] / "engine" / "assets" / "demo"


class Face:
    """One demo portrait with everything a layer test needs."""

    def __init__(self, name: str) -> None:
        try:
            self.portrait: Portrait = analyse_portrait(load_image(_DEMO / name))
        except AssetError as error:
            pytest.skip(f"face model files are not here: {error}")
        animator = MeshAnimator()
        self.source: SourceGeometry = source_geometry(self.portrait, load_basis())
        self.identity: MeshIdentity = animator.prepare(self.portrait)
        self.renderer: FrameRenderer = animator.renderer(self.identity)

    def motion(self, **columns: float) -> Float:
        """The portrait's rest with ``columns`` set; jaw, mouth and tongue columns start at 0."""
        motion = self.identity.rest.copy()
        if any(c.startswith(("jaw", "mouth", "tongue")) for c in columns):
            motion[MOTION.expression] = 0.0
        for name, value in columns.items():
            motion[MOTION.index(name)] = value
        return motion

    def frame(self, motion: Float) -> FrameGeometry:
        """Geometry of one frame, in buffers of its own."""
        return self.renderer.geometry(motion, FrameBuffers.for_basis(load_basis()))

    def window(self, frame: FrameGeometry, rows: NDArray[np.int64], margin: int = 12) -> Canvas:
        """A 2 x 2 supersampled window around landmarks ``rows`` that shows the photo."""
        points = np.concatenate([frame.landmarks[rows], self.source.landmarks[rows]])
        x0, y0 = (int(v) for v in np.maximum(np.floor(points.min(0)) - margin, 0))
        x1, y1 = (int(v) for v in np.minimum(np.ceil(points.max(0)) + margin, 512))
        canvas = Canvas.window(x0, y0, x1 - x0, y1 - y0, sx=2, sy=2)
        photo = self.source.crop[y0:y1, x0:x1].astype(np.float32)
        canvas.pixels[:] = photo.repeat(2, 0).repeat(2, 1)
        return canvas


@lru_cache(maxsize=2)
def face(name: str) -> Face:
    """``astronaut.png`` or ``character.png``, prepared once per test run."""
    return Face(name)
