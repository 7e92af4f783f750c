"""The stage: motion in, pictures out, for one prepared face per row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.animators.mesh.eyes import EyeLayer
from engine.animators.mesh.geometry import SparseUnits, pack_units
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.layers import Layer
from engine.animators.mesh.mouth import MouthLayer
from engine.animators.mesh.prepare import CropPortrait, prepare_identity
from engine.animators.mesh.render import FrameBuffers, FrameRenderer
from engine.animators.portrait_stage import SIZE, PortraitStage
from engine.face.basis import load_basis
from engine.stage import StageSpec
from engine.types import Cond, FrameChunk, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420

__all__ = ["LAYERS", "MeshAnimator", "MeshState"]

_UNIT_THRESHOLD_CM = 0.002


LAYERS: Mapping[str, type[Layer]] = {"eyes": EyeLayer, "mouth": MouthLayer}
"""Painted behind the face mesh, by the name their arrays are saved under."""


@dataclass
class MeshState:
    """Buffers of one batch of streams. ``tier`` 0 = full quality, 1 = cheaper windows.

    ``helper`` is one thread that shares the work of a frame; pictures do not depend on it.
    """

    renderers: tuple[FrameRenderer, ...]
    buffers: FrameBuffers
    tier: int = 0
    frame: int | None = None
    """index of the frame that must come next, None before the first"""
    rgb: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((SIZE, SIZE, 3), np.uint8))
    helper: Executor | None = None

    @property
    def rows(self) -> int:
        """Streams in the batch."""
        return len(self.renderers)

    def __deepcopy__(self, memo: dict[int, object]) -> MeshState:
        """Renderers are frozen and shared, buffers hold nothing between frames."""
        buffers = FrameBuffers.for_basis(load_basis())
        return MeshState(self.renderers, buffers, self.tier, self.frame, helper=self.helper)


class MeshAnimator(PortraitStage[MeshIdentity, MeshState]):
    """Warps the portrait's own pixels through the fitted face; needs no trained weights.

    Args:
        pixels: layout of the frames it returns, RGB or I420.

    >>> animator = MeshAnimator()
    >>> identity = animator.prepare(analyse_portrait(load_image("me.jpg")))
    >>> cond = Cond(seed=torch.tensor([0]), rest=torch.from_numpy(identity.rest)[None], identity=(identity,))
    >>> frames = animator.forward(MotionChunk(0, motion), cond)  # uint8 [1, T, 512, 512, 3]
    """

    identity = MeshIdentity
    tiers = 2

    def __init__(self, pixels: PixelFormat = PixelFormat.RGB) -> None:
        self.pixels = pixels
        self.spec = StageSpec("mesh_animator", "motion", "frames")
        self._basis = load_basis()
        self._units: SparseUnits = pack_units(self._basis.expression, _UNIT_THRESHOLD_CM)

    def prepare(self, portrait: CropPortrait) -> MeshIdentity:
        """Once per face; about a second."""
        return prepare_identity(portrait, dict(LAYERS))

    def renderer(self, identity: MeshIdentity) -> FrameRenderer:
        """The frozen drawing part for one face."""
        layers = {
            name: kind(identity.layers[name], self._basis)
            for name, kind in LAYERS.items()
            if name in identity.layers
        }
        return FrameRenderer(identity, self._basis, self._units, layers)

    def init_state(self, batch: int, cond: Cond) -> MeshState:
        faces = self.faces(batch, cond)
        shared = {id(identity): identity for identity in faces}
        renderers = {key: self.renderer(identity) for key, identity in shared.items()}
        rows = tuple(renderers[id(identity)] for identity in faces)
        helper = ThreadPoolExecutor(1, "mesh") if (os.cpu_count() or 1) > 1 else None
        return MeshState(rows, FrameBuffers.for_basis(self._basis), helper=helper)

    def step(self, x: MotionChunk, state: MeshState) -> FrameChunk:
        motion = self.accept(x, state).numpy()
        batch, frames = motion.shape[:2]
        out = np.empty((batch, frames, *self.frame_shape), np.uint8)
        for b, renderer in enumerate(state.renderers):
            for t in range(frames):
                self._draw(renderer, motion[b, t], state, out[b, t])
        return FrameChunk(x.t0, torch.from_numpy(out), self.pixels)

    def reset(self, state: MeshState, rows: Tensor) -> None:
        """Nothing to reset: a picture depends on its own motion only."""

    def _draw(
        self, renderer: FrameRenderer, motion: NDArray[np.float32], state: MeshState, out: NDArray[np.uint8]
    ) -> None:
        if self.pixels is PixelFormat.RGB:
            renderer.draw(motion, state.buffers, out, state.tier, state.helper)
        else:
            renderer.draw(motion, state.buffers, state.rgb, state.tier, state.helper)
            rgb_to_i420(state.rgb, out=out)
