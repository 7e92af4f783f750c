"""The stage: motion in, the mesh animator's pictures refined by the network out."""

from __future__ import annotations

import json
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.animators.gohd.composite import Composite
from engine.animators.gohd.guide import guide_of, source_region
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.navigator import Navigator
from engine.animators.gohd.network import GohdNet, Refiner, Size
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.prepare import CropPortrait
from engine.animators.mesh.render import FrameBuffers, FrameRenderer
from engine.animators.portrait_stage import SIZE, PortraitStage
from engine.errors import ConfigError
from engine.runtime import Runner, compile
from engine.stage import StageSpec
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat
from engine.weights import load_weights, weights_metadata
from kernels.i420 import rgb_to_i420

__all__ = ["WEIGHTS", "GohdAnimator", "GohdState", "load_network", "network_example"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

WEIGHTS = "gohd_animator"
_WINDOWS = 1
"""The mesh animator's tier whose picture the network sees: it smooths the edges of mouth and eyes itself."""
_PLAIN_TIER = 1
"""From this tier on the network rests and the mesh animator's picture is shown, at full quality first."""


def load_network(name: str = WEIGHTS) -> GohdNet:
    """The trained network, its dictionary decomposed, ready to be compiled.

    Raises:
        AssetError: the weights are missing or damaged.
        ConfigError: they are an ablation's, for measuring only.
    """
    size = json.loads(weights_metadata(name)["size"])
    size["channels"] = tuple(size["channels"])
    if not size["guided"]:
        raise ConfigError(f"{name} was trained without the mesh's picture (an ablation); it cannot animate")
    net = GohdNet(Size(**size))
    net.load_state_dict({key: value.float() for key, value in load_weights(name).items()})
    net.navigation.dictionary.freeze()
    return net.eval().requires_grad_(False)


@dataclass
class GohdState:
    """Buffers and the recent motion of one batch of streams.

    ``window`` float32 [B, W, 72] holds the last rows, minus each portrait's rest, oldest first; where
    ``fresh`` is true no row has come yet. ``tier`` 0 = full quality, 1 = the mesh animator's picture, 2 = its
    cheaper one.
    """

    identities: tuple[GohdIdentity, ...]
    renderers: tuple[FrameRenderer, ...]
    buffers: FrameBuffers
    composites: tuple[Composite, ...]
    window: Float
    fresh: NDArray[np.bool_]
    tier: int = 0
    frame: int | None = None
    rgb: Bytes = field(default_factory=lambda: np.zeros((SIZE, SIZE, 3), np.uint8))
    helper: Executor | None = None

    @property
    def rows(self) -> int:
        """Streams in the batch."""
        return len(self.renderers)

    def __deepcopy__(self, memo: dict[int, object]) -> GohdState:
        """Identities and renderers are frozen and shared; buffers hold nothing between frames, but two
        states that draw at once must not write to the same ones."""
        return GohdState(
            self.identities,
            self.renderers,
            FrameBuffers.for_basis(self.renderers[0].basis),
            tuple(Composite(c.side) for c in self.composites),
            self.window.copy(),
            self.fresh.copy(),
            self.tier,
            self.frame,
            helper=self.helper,
        )


class GohdAnimator(PortraitStage[GohdIdentity, GohdState]):
    """GoHD's latent navigation on top of the warped portrait (GoHD, section 3.3).

    Args:
        pixels: layout of the frames it returns, RGB or I420.
        backend: runtime of the network, see :func:`engine.runtime.compile`.
        precision: its arithmetic.
        network: the network; by default the shipped weights.
        strength: λ, how far z moves from the portrait's own code towards the driven one (Fig. 8).
        threads: CPU threads of the network; a second one takes a third off a frame's time.

    Raises:
        AssetError: the weights are missing.
        BackendError: the named runtime cannot run here.
    """

    identity = GohdIdentity
    tiers = _PLAIN_TIER + MeshAnimator.tiers

    def __init__(
        self,
        pixels: PixelFormat = PixelFormat.RGB,
        backend: str = "auto",
        precision: str = "bf16",
        network: GohdNet | None = None,
        strength: float = 1.0,
        threads: int = 2,
    ) -> None:
        self.pixels = pixels
        self.spec = StageSpec("gohd_animator", "motion", "frames")
        self.strength = strength
        self._mesh = MeshAnimator(pixels)
        self._net = load_network() if network is None else network
        self.size = self._net.size
        self._navigate = Navigator(self._net)
        self._runtime = (backend, precision, min(threads, os.cpu_count() or 1))
        self._own = self._runner = self.compiled(1)

    @property
    def runner(self) -> Runner:
        """What runs the network."""
        return self._runner

    def compiled(self, batch: int) -> Runner:
        """The network for calls of ``batch`` rows, with inputs as :meth:`example`."""
        return _compiled(self._net, *self._runtime, batch)

    def example(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs of a call: guide uint8 [B, S, S, 3], grid, the source's features, z."""
        return _inputs(self._net, batch)

    def share(self, runner: Runner | None) -> None:
        """Run the network by ``runner``, which other sessions use too; None undoes it."""
        self._runner = self._own if runner is None else runner

    def prepare(self, portrait: CropPortrait) -> GohdIdentity:
        """Once per face; about a second."""
        return self.adopt(self._mesh.prepare(portrait))

    def adopt(self, mesh: MeshIdentity) -> GohdIdentity:
        """The identity of a face that the mesh animator has prepared."""
        region = source_region(mesh)
        source = _picture(region.cut(mesh.crop, self.size.side))
        with torch.no_grad():
            code, f2, f3, f4 = self._net.encoder(source)
        return GohdIdentity(mesh, region, (code, f2, f3, f4))

    def init_state(self, batch: int, cond: Cond) -> GohdState:
        faces = self.faces(batch, cond)
        shared = {id(one): self._mesh.renderer(one.mesh) for one in faces}
        renderers = tuple(shared[id(one)] for one in faces)
        return GohdState(
            faces,
            renderers,
            FrameBuffers.for_basis(renderers[0].basis),
            tuple(Composite(round(one.region.side)) for one in faces),
            np.zeros((batch, self.size.window, MOTION.size), np.float32),
            np.ones(batch, np.bool_),
            helper=ThreadPoolExecutor(1, "gohd") if (os.cpu_count() or 1) > 1 else None,
        )

    def step(self, x: MotionChunk, state: GohdState) -> FrameChunk:
        motion = self.accept(x, state).numpy()
        batch, frames = motion.shape[:2]
        out = np.empty((batch, frames, *self.frame_shape), np.uint8)
        for b in range(batch):
            for t in range(frames):
                rgb = out[b, t] if self.pixels is PixelFormat.RGB else state.rgb
                self._draw(b, motion[b, t], state, rgb)
                if self.pixels is PixelFormat.I420:
                    rgb_to_i420(rgb, out=out[b, t])
        return FrameChunk(x.t0, torch.from_numpy(out), self.pixels)

    def reset(self, state: GohdState, rows: Tensor) -> None:
        """Those rows forget their recent motion."""
        state.fresh |= rows.numpy()

    def _draw(self, b: int, motion: Float, state: GohdState, frame: Bytes) -> None:
        """One frame of row ``b`` into ``frame`` uint8 [512, 512, 3]."""
        one, window = state.identities[b], state.window[b]
        row = motion - one.mesh.rest
        window[:-1] = row if state.fresh[b] else window[1:]
        window[-1] = row
        state.fresh[b] = False
        guide = guide_of(
            state.renderers[b], motion, one.region, state.buffers, frame, self.size.side,
            _WINDOWS if state.tier < _PLAIN_TIER else state.tier - _PLAIN_TIER, state.helper,
        )  # fmt: skip
        if state.tier >= _PLAIN_TIER:
            return
        code, *features = one.features
        z = torch.from_numpy(self._navigate(window, code[0].numpy(), self.strength))[None]
        picture, grid = (torch.from_numpy(of[None]) for of in (guide.picture, guide.grid))
        flow, paint = self._runner(picture, grid, *features, z)
        state.composites[b](frame, guide.region, flow[0], paint[0], state.helper)


def network_example(net: GohdNet, batch: int) -> tuple[Tensor, ...]:
    """Inputs of :class:`~engine.animators.gohd.network.Refiner` for ``batch`` rows, all float32."""
    side = net.size.side
    with torch.no_grad():
        code, *features = net.encoder(torch.zeros(batch, 3, side, side))
    grid = torch.zeros(batch, side // 4, side // 4, 2)
    return (torch.zeros(batch, 3, side, side), grid, *features, code)


def _inputs(net: GohdNet, batch: int) -> tuple[Tensor, ...]:
    """The same, the guide as bytes: a quarter of the memory, and no pass over it before the network's own."""
    _, *others = network_example(net, batch)
    return (torch.zeros(batch, net.size.side, net.size.side, 3, dtype=torch.uint8), *others)


def _compiled(net: GohdNet, backend: str, precision: str, threads: int, batch: int) -> Runner:
    example = _inputs(net, batch)
    if backend == "eager":
        precision = "f32"
    return compile(Refiner(net), example, backend=backend, precision=precision, threads=threads)  # type: ignore[arg-type]


def _picture(rgb: Bytes) -> Tensor:
    """uint8 [S, S, 3] to float32 [1, 3, S, S] in 0..1."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float().mul_(1.0 / 255.0)
