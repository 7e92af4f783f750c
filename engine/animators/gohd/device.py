"""The stage on a GPU: motion goes up, packed frames come down, and the frame itself is one captured graph.

>>> animator = GohdDeviceAnimator(PixelFormat.I420)        # CUDA; TensorRT where it is installed
>>> identity = animator.prepare(analyse_portrait(load_image("me.jpg")))
>>> frames = animator.step(MotionChunk(0, motion), animator.init_state(1, Cond.for_identity(identity)))

A call sends 72 numbers a row and its window through pinned memory, launches one graph (geometry, map, guide,
network, composite, colour conversion) and waits for one event, after which the frames are in pinned memory;
on the device nothing is allocated. Rows of one call may be rows of several sessions: a row names its face
by its place in a table. On ``device="cpu"`` the same code runs in eager torch, for tests.
"""

from __future__ import annotations

import copy
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.animators.gohd.animator import load_network, network_example
from engine.animators.gohd.device_frame import DeviceFrame, FaceTable, face_rows
from engine.animators.gohd.device_mesh import MeshMap
from engine.animators.gohd.guide import source_region
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.network import GohdNet, Refiner
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.prepare import CropPortrait
from engine.animators.portrait_stage import PortraitStage
from engine.errors import BackendError, ConfigError
from engine.runtime import Runner, available_backends
from engine.runtime.cuda_api import CudaApi, CudaBindings
from engine.runtime.cuda_graph import Body, GraphRunner, network_body
from engine.runtime.eager import EagerRunner
from engine.stage import StageSpec
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat

__all__ = ["DeviceState", "GohdDeviceAnimator"]

Float = NDArray[np.float32]


class _Lease:
    """A face's place in the table, kept for as long as any state draws it."""

    def __init__(self, identity: GohdIdentity, place: int) -> None:
        self.identity, self.place = identity, place


@dataclass
class DeviceState:
    """The recent motion of one batch of streams; everything else lives on the device.

    ``window`` float32 [B, W, 72] holds the last rows, minus each portrait's rest, oldest first; where
    ``fresh`` is true no row has come yet. ``tier`` is the governor's: a graph always does the same work.
    """

    leases: tuple[_Lease, ...]
    places: Tensor
    rest: Float
    window: Float
    fresh: NDArray[np.bool_]
    tier: int = 0
    frame: int | None = None

    @property
    def rows(self) -> int:
        """Streams in the batch."""
        return len(self.leases)

    def __deepcopy__(self, memo: dict[int, object]) -> DeviceState:
        window, fresh = self.window.copy(), self.fresh.copy()
        return DeviceState(self.leases, self.places, self.rest, window, fresh, self.tier, self.frame)


class _Drawer:
    """A runner for one batch size, whose frames are taken before the next call overwrites them."""

    def __init__(self, runner: Runner, bound: Tensor | None) -> None:
        self.runner = runner
        self._turn = threading.Lock()
        if bound is not None:
            runner.bind([bound])

    def __call__(self, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        with self._turn:
            (frames,) = self.runner(*inputs)
            out.copy_(frames)


class _Hosted(nn.Module):
    """The frame for callers on the host, without a graph."""

    def __init__(self, frame: DeviceFrame, device: torch.device) -> None:
        super().__init__()
        self.frame, self.device = frame, device

    def forward(self, *inputs: Tensor) -> Tensor:
        frames: Tensor = self.frame(*(value.to(self.device) for value in inputs))
        return frames.cpu()


class GohdDeviceAnimator(PortraitStage[GohdIdentity, DeviceState]):
    """:class:`~engine.animators.gohd.animator.GohdAnimator` with every step on one device.

    Its pictures differ from that one's where the mesh animator's mouth and eye layers paint (see
    :mod:`engine.animators.gohd.device_frame`); elsewhere by rounding.

    Args:
        pixels: layout of the frames it returns, RGB or I420.
        device: "cuda", "cuda:1"; "cpu" for tests.
        backend: "eager", "cuda_graph" or "tensorrt" (the network an engine inside the graph); "auto": the
            best that is installed.
        precision: arithmetic of the network; geometry and colours are always f32.
        network: the network; by default the shipped weights.
        strength: λ, as in GohdAnimator.
        faces: how many faces can be drawn at a time.

    Raises:
        AssetError: the weights are missing.
        BackendError: no such device or runtime here.
    """

    identity = GohdIdentity

    def __init__(
        self,
        pixels: PixelFormat = PixelFormat.I420,
        device: str = "cuda",
        backend: str = "auto",
        precision: str = "f16",
        network: GohdNet | None = None,
        strength: float = 1.0,
        faces: int = 16,
    ) -> None:
        self.pixels = pixels
        self.spec = StageSpec("gohd_animator", "motion", "frames")
        self.strength = strength
        self.device = torch.device(device)
        self.backend = _chosen(backend, self.device)
        self.precision = "f32" if self.backend == "eager" else precision
        self._net = (load_network() if network is None else network).eval()
        self.size = self._net.size
        self._mesh = MeshAnimator(pixels)
        self._faces = faces
        self._api: CudaApi | None = None
        if self.backend != "eager":
            self._api = CudaBindings(self.device.index or 0)
        self._changing = threading.RLock()
        self._free = list(range(faces))
        self._leases: weakref.WeakValueDictionary[int, _Lease] = weakref.WeakValueDictionary()
        self._frame: DeviceFrame | None = None
        self._drawers: dict[int, _Drawer] = {}
        self._shared: Runner | None = None

    # -- faces ---------------------------------------------------------------------------------

    def prepare(self, portrait: CropPortrait) -> GohdIdentity:
        """Once per face; about a second."""
        return self.adopt(self._mesh.prepare(portrait))

    def adopt(self, mesh: MeshIdentity) -> GohdIdentity:
        """The identity of a face that the mesh animator has prepared."""
        region = source_region(mesh)
        source = torch.from_numpy(region.cut(mesh.crop, self.size.side)).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            code, f2, f3, f4 = self._net.encoder(source * (1.0 / 255.0))
        return GohdIdentity(mesh, region, (code, f2, f3, f4))

    def _lease(self, identity: GohdIdentity) -> _Lease:
        """The face's place; it is written there if it is new.

        Raises:
            ConfigError: all places are taken.
        """
        with self._changing:
            lease = self._leases.get(id(identity))
            if lease is not None:
                return lease
            if not self._free:
                raise ConfigError(f"all {self._faces} faces on the device are in use: give a larger faces=")
            renderer = self._mesh.renderer(identity.mesh)
            rows = face_rows(identity, renderer)
            if self._frame is None:
                mesh = MeshMap(renderer.basis, renderer.units, renderer.lip_opening)
                self._frame = self._built(mesh, FaceTable(rows, self._faces))
            place = self._free[0]
            self._frame.table.write(place, rows)
            self._free.pop(0)
            lease = _Lease(identity, place)
            weakref.finalize(lease, self._free.append, place)
            self._leases[id(identity)] = lease
            return lease

    # -- runners -------------------------------------------------------------------------------

    def _built(self, mesh: MeshMap, table: FaceTable) -> DeviceFrame:
        """The frame on the device, its network still to be prepared for a batch size."""
        navigation = copy.deepcopy(self._net.navigation)
        fixed = navigation.dictionary.directions().detach()

        def missing(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            raise RuntimeError("the network is set for each batch size")

        frame = DeviceFrame(mesh, table, navigation, missing, self.size, self.pixels)
        frame.eval().requires_grad_(False).to(self.device)
        # Not a buffer, so it stayed behind.
        frame.navigation.dictionary.fixed = fixed.to(self.device)
        return frame

    def _network(self, batch: int) -> Body:
        if self.backend != "tensorrt":
            return network_body(Refiner(self._net), str(self.device), self.precision)
        from engine.runtime.tensorrt import network_engine

        assert self._api is not None
        return network_engine(
            Refiner(self._net), network_example(self._net, batch), self.precision, self._api
        )

    def example(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs of a call: motion, window, strength, places of the faces."""
        window = torch.zeros(batch, self.size.window, MOTION.size)
        return window[:, 0].clone(), window, torch.ones(batch, 1), torch.zeros(batch, dtype=torch.int64)

    def compiled(self, batch: int) -> Runner:
        """What draws ``batch`` rows: inputs as :meth:`example`, frames [B, ...] on the host.

        A face must have been taken up (:meth:`init_state`) before.
        """
        with self._changing:
            assert self._frame is not None, "init_state comes first"
            frame = copy.copy(self._frame)  # the same tensors, another network
            frame.network = self._network(batch)
            examples = self.example(batch)
            if self._api is None:
                return EagerRunner(_Hosted(frame, self.device), examples, "f32", "chosen by name")

            def body(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                with torch.no_grad():
                    return (frame(*inputs),)

            try:
                return GraphRunner(
                    self._api, body, examples, self.precision, "chosen by name", backend=self.backend
                )
            except RuntimeError as error:
                raise BackendError(f"{self.backend} cannot capture this frame: {error}") from error

    def share(self, runner: Runner | None) -> None:
        """Draw single rows with ``runner``, which other sessions use too; None undoes it."""
        self._shared = runner

    def _drawer(self, batch: int) -> _Drawer:
        with self._changing:
            if batch not in self._drawers:
                pinned = None
                if self._api is not None:
                    pinned = self._api.pinned_tensor((batch, *self.frame_shape), torch.uint8)
                self._drawers[batch] = _Drawer(self.compiled(batch), pinned)
            return self._drawers[batch]

    # -- the stage -----------------------------------------------------------------------------

    def init_state(self, batch: int, cond: Cond) -> DeviceState:
        faces = self.faces(batch, cond)
        leases = tuple(self._lease(identity) for identity in faces)
        if self._shared is None:
            self._drawer(batch)
        return DeviceState(
            leases,
            torch.tensor([lease.place for lease in leases]),
            np.stack([identity.rest for identity in faces]),
            np.zeros((batch, self.size.window, MOTION.size), np.float32),
            np.ones(batch, np.bool_),
        )

    def step(self, x: MotionChunk, state: DeviceState) -> FrameChunk:
        motion = self.accept(x, state)
        batch, frames = motion.shape[:2]
        out = torch.empty(frames, batch, *self.frame_shape, dtype=torch.uint8)
        for t in range(frames):
            self._draw(motion[:, t].contiguous(), state, out[t])
        return FrameChunk(x.t0, out.transpose(0, 1), self.pixels)

    def reset(self, state: DeviceState, rows: Tensor) -> None:
        """Those rows forget their recent motion."""
        state.fresh |= rows.numpy()

    def _draw(self, motion: Tensor, state: DeviceState, out: Tensor) -> None:
        """One frame of every row, ``motion`` [B, 72] to ``out`` uint8 [B, ...]."""
        row = motion.numpy() - state.rest
        fresh = state.fresh[:, None, None]
        state.window[:, :-1] = np.where(fresh, row[:, None], state.window[:, 1:])
        state.window[:, -1] = row
        state.fresh[:] = False
        batch = len(row)
        inputs = (motion, torch.from_numpy(state.window), torch.full((batch, 1), self.strength), state.places)
        if self._shared is None:
            self._drawer(batch)(inputs, out)
            return
        for b in range(batch):
            # A copy: the batch's thread reads its rows while this one goes on.
            (frame,) = self._shared(*(value[b : b + 1].clone() for value in inputs))
            out[b].copy_(frame[0])


def _chosen(backend: str, device: torch.device) -> str:
    """The backend's name; raises BackendError where it cannot run on ``device``."""
    reasons: dict[str, Any] = {"eager": None} | {
        name: why for name, why in available_backends().items() if name in ("cuda_graph", "tensorrt")
    }
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"frames are drawn on cuda (or, in tests, on cpu), not on {device.type}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError("no CUDA device, or a torch without CUDA: use the animator of the CPU")
    if backend == "auto":
        usable = [n for n in ("tensorrt", "cuda_graph") if reasons[n] is None and device.type == "cuda"]
        return usable[0] if usable else "eager"
    if backend not in reasons:
        raise BackendError(f"no runtime {backend!r} for frames on a device; there are {', '.join(reasons)}")
    if reasons[backend] is not None:
        raise BackendError(f"runtime {backend!r} cannot run: {reasons[backend]}")
    if backend != "eager" and device.type != "cuda":
        raise BackendError(f"runtime {backend!r} needs a CUDA device, not {device.type}")
    return backend
