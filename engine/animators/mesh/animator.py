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
from engine.animators.mesh.render import SIZE, FrameBuffers, FrameRenderer
from engine.errors import ConfigError, StreamError
from engine.face.basis import load_basis
from engine.stage import StageSpec
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat
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

    def __deepcopy__(self, memo: dict[int, object]) -> MeshState:
        """Renderers are frozen and shared, buffers hold nothing between frames."""
        buffers = FrameBuffers.for_basis(load_basis())
        return MeshState(self.renderers, buffers, self.tier, self.frame, helper=self.helper)


class MeshAnimator:
    """Warps the portrait's own pixels through the fitted face; needs no trained weights.

    Args:
        pixels: layout of the frames it returns, RGB or I420.

    >>> animator = MeshAnimator()
    >>> identity = animator.prepare(analyse_portrait(load_image("me.jpg")))
    >>> cond = Cond(seed=torch.tensor([0]), rest=torch.from_numpy(identity.rest)[None], identity=(identity,))
    >>> frames = animator.forward(MotionChunk(0, motion), cond)  # uint8 [1, T, 512, 512, 3]
    """

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
        if len(cond.identity) != batch:
            raise ConfigError(f"the condition has {len(cond.identity)} identities for a batch of {batch}")
        for identity in cond.identity:
            if not isinstance(identity, MeshIdentity):
                raise ConfigError(
                    f"the mesh animator needs a prepared face per row, got {type(identity).__name__}: "
                    "pass Cond(identity=(animator.prepare(portrait), ...))"
                )
        shared = {id(identity): identity for identity in cond.identity}
        renderers = {key: self.renderer(identity) for key, identity in shared.items()}
        rows = tuple(renderers[id(identity)] for identity in cond.identity)
        helper = ThreadPoolExecutor(1, "mesh") if (os.cpu_count() or 1) > 1 else None
        return MeshState(rows, FrameBuffers.for_basis(self._basis), helper=helper)

    def step(self, x: MotionChunk, state: MeshState) -> FrameChunk:
        batch, frames = x.data.shape[:2]
        if batch != len(state.renderers) or x.data.shape[2] != MOTION.size:
            raise ConfigError(
                f"motion must be [{len(state.renderers)}, T, {MOTION.size}], got {list(x.data.shape)}"
            )
        if frames and state.frame is not None and x.t0 != state.frame:
            raise StreamError(f"the motion continues at {x.t0}, expected {state.frame}", stage=self.spec.name)
        state.frame = x.t1
        out = np.empty((batch, frames, *self._shape), np.uint8)
        motion = np.ascontiguousarray(x.data.detach().numpy(), np.float32)
        for b, renderer in enumerate(state.renderers):
            for t in range(frames):
                self._draw(renderer, motion[b, t], state, out[b, t])
        return FrameChunk(x.t0, torch.from_numpy(out), self.pixels)

    def drain(self, state: MeshState) -> FrameChunk:
        empty = torch.zeros(len(state.renderers), 0, *self._shape, dtype=torch.uint8)
        return FrameChunk(state.frame or 0, empty, self.pixels)

    def reset(self, state: MeshState, rows: Tensor) -> None:
        """Nothing to reset: a picture depends on its own motion only."""

    def forward(self, x: MotionChunk, cond: Cond) -> Tensor:
        return self.step(x, self.init_state(x.data.shape[0], cond)).data

    @property
    def _shape(self) -> tuple[int, ...]:
        return (SIZE, SIZE, 3) if self.pixels is PixelFormat.RGB else (SIZE * 3 // 2, SIZE)

    def _draw(
        self, renderer: FrameRenderer, motion: NDArray[np.float32], state: MeshState, out: NDArray[np.uint8]
    ) -> None:
        if self.pixels is PixelFormat.RGB:
            renderer.draw(motion, state.buffers, out, state.tier, state.helper)
        else:
            renderer.draw(motion, state.buffers, state.rgb, state.tier, state.helper)
            rgb_to_i420(state.rgb, out=out)
