"""The animator on a device: the CPU's maps and pictures, every law of a stage, rows of several sessions."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from engine.animators.gohd import device
from engine.animators.gohd.animator import GohdAnimator
from engine.animators.gohd.device import DeviceState, GohdDeviceAnimator
from engine.animators.gohd.device_frame import face_rows
from engine.animators.gohd.device_mesh import MeshMap, Rows, region_corner
from engine.animators.gohd.guide import guide_of
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.network import GohdNet, Refiner, Size
from engine.animators.gohd.sizes import BASE, SIZES
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.render import FrameBuffers, FrameRenderer
from engine.animators.mesh.sheet import moved
from engine.errors import BackendError, ConfigError, StreamError
from engine.runtime.cuda_graph import Body, GraphRunner
from engine.types import Cond, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420
from tests.engine.animators.faces import face
from tests.engine.runtime.fakes import FakeCuda
from tests.laws import LAWS, motion_case

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SMALL = Size(side=128, channels=(8, 12, 16, 16), code=16, directions=8)
TURNED = {"rx": 8.0, "ry": -18.0, "rz": 6.0, "browInnerUp": 0.8}


@lru_cache
def network(size: Size = SMALL) -> GohdNet:
    """Untrained, its heads as loud as a trained one's."""
    torch.manual_seed(0)
    net = GohdNet(size).eval().requires_grad_(False)
    torch.nn.init.normal_(net.decoder.flow.weight, std=0.02)
    torch.nn.init.normal_(net.decoder.paint.weight, std=0.02)
    net.navigation.dictionary.freeze()
    return net


@lru_cache
def stage(pixels: PixelFormat = PixelFormat.RGB) -> GohdDeviceAnimator:
    return GohdDeviceAnimator(pixels, device="cpu", network=network(), faces=4)


@lru_cache
def identity(name: str = "astronaut.png") -> GohdIdentity:
    return stage().adopt(face(name).identity)


def two_faces() -> Cond:
    rows = [Cond.for_identity(identity(name)) for name in ("astronaut.png", "character.png")]
    return Cond(
        torch.cat([row.seed for row in rows]), torch.cat([row.rest for row in rows]),
        rows[0].identity + rows[1].identity,
    )  # fmt: skip


def motions(*changes: dict[str, float]) -> torch.Tensor:
    """[1, T, 72] of the astronaut."""
    return torch.from_numpy(np.stack([moved(identity().rest, c) for c in changes]))[None]


def draw(animator: GohdAnimator | GohdDeviceAnimator, *changes: dict[str, float]) -> Bytes:
    cond = Cond.for_identity(identity())
    return np.asarray(animator.forward(MotionChunk(0, motions(*changes)), cond)[0].numpy())


# -- sizes -------------------------------------------------------------------------------------


def test_base_costs_at_most_40_gflop_a_frame() -> None:
    side = BASE.side
    assert side == 512
    net = GohdNet(BASE).to("meta")
    with torch.no_grad():
        code, *maps = net.encoder(torch.zeros(1, 3, side, side, device="meta"))
        picture = torch.zeros(1, 3, side, side, device="meta")
        grid = torch.zeros(1, side // 4, side // 4, 2, device="meta")
        window = torch.zeros(1, BASE.window, 72, device="meta")
        with FlopCounterMode(display=False) as counted:
            z = net.navigate(window, code, torch.ones(1, 1, device="meta"))
            Refiner(net)(picture, grid, *maps, z)
    assert 20e9 < counted.get_total_flops() <= 40e9
    assert SIZES["base"] is BASE


# -- geometry against the CPU's ----------------------------------------------------------------


@lru_cache
def mapped() -> tuple[FrameRenderer, MeshMap, Rows]:
    renderer = MeshAnimator().renderer(identity().mesh)
    rows = {k: v[None] for k, v in face_rows(identity(), renderer).items()}
    return renderer, MeshMap(renderer.basis, renderer.units, renderer.lip_opening), rows


@pytest.mark.parametrize(
    "change",
    [
        {},
        TURNED,
        {"jawOpen": 0.6, "mouthSmile": 0.6},
        {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 0.6},
        {"ry": 60.0},
    ],
    ids=["rest", "turned", "open", "blink", "far"],
)
def test_the_sampling_map_is_the_mesh_animators(change: dict[str, float]) -> None:
    renderer, mesh, rows = mapped()
    motion = moved(renderer.identity.rest, change)
    buffers = FrameBuffers.for_basis(renderer.basis)
    renderer.sampling_map(renderer.geometry(motion, buffers), buffers)
    with torch.no_grad():
        positions, torn, centre = mesh(torch.from_numpy(motion)[None], rows)
    away = np.abs(positions[0].permute(1, 2, 0).numpy() - buffers.positions).max(2)
    # Opacity is mixed at vertices, and triangles seen from the side are drawn or not: single pixels.
    assert away.mean() < 0.01
    assert np.quantile(away, 0.99) < 0.2
    assert away.max() < 6.0
    steady = buffers.landmarks[[33, 263, 2, 2, 2, 2]].mean(0)
    assert np.allclose(centre[0].numpy(), steady, atol=2e-3)
    assert float(torn.mean()) < 0.01


def test_the_network_sees_what_it_was_trained_on() -> None:
    """Guides made for training without painted layers are those of the device."""
    renderer, mesh, rows = mapped()
    motion, side = moved(renderer.identity.rest, TURNED), SMALL.side
    buffers, drawn = FrameBuffers.for_basis(renderer.basis), np.empty((512, 512, 3), np.uint8)
    wanted = guide_of(renderer, motion, identity().region, buffers, drawn, side, painted=False)
    stage().init_state(1, Cond.for_identity(identity()))
    frame = stage()._frame
    assert frame is not None
    with torch.no_grad():
        positions, torn, centre = mesh(torch.from_numpy(motion)[None], rows)
        left, top = region_corner(centre, rows["region"][:, 2])
        picture, grid = frame._guide(
            frame._drawn(positions, torn, rows), positions, left, top, rows["region"]
        )
    assert (float(left[0]), float(top[0])) == (wanted.region.left, wanted.region.top)
    away = (255.0 * picture[0].permute(1, 2, 0) - torch.from_numpy(wanted.picture).float()).abs()
    assert away.mean() < 1.0
    assert np.quantile(np.abs(grid[0].numpy() - wanted.grid), 0.99) < 2e-3


# -- pictures ----------------------------------------------------------------------------------


def test_pictures_are_the_cpu_animators_where_no_layer_paints() -> None:
    changes: tuple[dict[str, float], ...] = ({}, TURNED)
    cpu = GohdAnimator(PixelFormat.RGB, backend="eager", network=network())
    ours, theirs = draw(stage(), *changes), draw(cpu, *changes)
    marks = identity().mesh.landmarks
    for k, most in enumerate((1.0, 2.0)):
        away = np.abs(ours[k].astype(int) - theirs[k]).max(2)
        if k == 0:
            for part in ([33, 133], [263, 362], [61, 291]):  # eyes and mouth: layers on the CPU
                x, y = np.rint(marks[part].mean(0)).astype(int)
                away[y - 30 : y + 40, x - 45 : x + 45] = 0
        assert away.mean() < most
        assert np.percentile(away, 98) <= 6


def test_the_network_draws_into_the_frame() -> None:
    """The stage is not just the warped photo: strength 0 and another network change the face alone."""
    plain = network(SMALL)
    other = GohdNet(SMALL).eval()
    other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        other.decoder.paint.weight.mul_(1.5)
    changed = GohdDeviceAnimator(PixelFormat.RGB, device="cpu", network=other, faces=1)
    a, b = draw(stage(), TURNED)[0].astype(int), draw(changed, TURNED)[0].astype(int)
    where = np.argwhere((a != b).any(2))
    assert len(where) > 1000
    assert np.ptp(where, axis=0).max() <= identity().region.side


def test_i420_is_the_rgb_picture_converted() -> None:
    rgb, planes = draw(stage(), TURNED)[0], draw(stage(PixelFormat.I420), TURNED)[0]
    assert np.abs(planes.astype(int) - rgb_to_i420(np.ascontiguousarray(rgb))).max() <= 1


# -- the stage ---------------------------------------------------------------------------------


class _Bars:
    """In place of the frame, which costs a CPU too much: pictures that tell every input apart."""

    backend, precision, reason = "test", "f32", "test"

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        motion, window, strength, place = inputs
        frame = told()._frame
        assert frame is not None
        # The face, not its place: where it lies may change from stream to stream.
        values = torch.cat([motion, window.flatten(1), strength, frame.table(place)["code"]], 1)
        out = torch.zeros(1, 768, 512, dtype=torch.uint8)
        out[:, : values.shape[1]] = (1000.0 * values[:, :, None]).round().int().remainder(251).to(torch.uint8)
        return (out,)


@lru_cache
def told() -> GohdDeviceAnimator:
    animator = GohdDeviceAnimator(PixelFormat.I420, device="cpu", network=network(), faces=2)
    animator.share(_Bars())  # type: ignore[arg-type]
    return animator


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law) -> None:  # type: ignore[no-untyped-def]
    law(motion_case("gohd_device", told(), two_faces()))


def test_streamed_equals_offline_and_copies_resume() -> None:
    cond, x = Cond.for_identity(identity()), motions({}, TURNED, {"jawOpen": 0.5})
    whole = stage().forward(MotionChunk(5, x), cond)
    state = stage().init_state(1, cond)
    first = stage().step(MotionChunk(5, x[:, :1]), state).data
    twin = copy.deepcopy(state)
    rest = stage().step(MotionChunk(6, x[:, 1:]), state).data
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(stage().step(MotionChunk(6, x[:, 1:2]), twin).data, rest[:, :1])


def test_rows_of_a_batch_are_what_each_is_alone() -> None:
    cond, x = two_faces(), motion_case("", None).make(1, 1)
    together = stage().forward(x, cond)
    for k, name in enumerate(("astronaut.png", "character.png")):
        alone = stage().forward(MotionChunk(0, x.data[k : k + 1]), Cond.for_identity(identity(name)))
        assert (together[k].int() - alone[0].int()).abs().max() <= 1


def test_faces_keep_their_places_and_give_them_back() -> None:
    animator = GohdDeviceAnimator(PixelFormat.I420, device="cpu", network=network(), faces=1)
    cond = Cond.for_identity(identity())
    first: DeviceState | None = animator.init_state(1, cond)
    assert first is not None
    again = animator.init_state(1, cond)
    assert torch.equal(again.places, first.places)
    with pytest.raises(ConfigError, match="in use"):
        animator.init_state(1, Cond.for_identity(identity("character.png")))
    first = None
    del again
    taken = animator.init_state(1, Cond.for_identity(identity("character.png")))
    assert taken.places.tolist() == [0]


def test_faces_of_another_network_are_refused() -> None:
    small = GohdNet(Size(side=128, channels=(8, 12, 16, 24), code=16, directions=8)).eval()
    other = GohdDeviceAnimator(device="cpu", network=small, faces=2).adopt(face("astronaut.png").identity)
    stage().init_state(1, Cond.for_identity(identity()))
    with pytest.raises(ValueError, match="prepare the face with this animator"):
        stage().init_state(1, Cond.for_identity(other))


def test_wrong_input_is_refused() -> None:
    cond = Cond.for_identity(identity())
    with pytest.raises(ConfigError, match="prepared face"):
        stage().init_state(1, Cond.default(1))
    with pytest.raises(ConfigError, match="1 identities"):
        stage().init_state(2, cond)
    state = stage().init_state(1, cond)
    stage().step(MotionChunk(0, torch.zeros(1, 1, 72)), state)
    with pytest.raises(StreamError, match="expected 1"):
        stage().step(MotionChunk(5, torch.zeros(1, 1, 72)), state)


def test_runtimes_that_cannot_run_are_named() -> None:
    with pytest.raises(BackendError, match="there are eager, cuda_graph, tensorrt"):
        GohdDeviceAnimator(device="cpu", backend="openvino", network=network())
    with pytest.raises(BackendError, match="not on mps"):
        GohdDeviceAnimator(device="mps", network=network())
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA device"):
            GohdDeviceAnimator(device="cuda", network=network())


def test_a_graph_is_fed_and_read_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA that is recorded and late: what is read too early, or from pageable memory, is wrong."""
    fake = FakeCuda()

    def graph(
        api: FakeCuda, body: Body, examples: Any, precision: str, reason: str, backend: str
    ) -> GraphRunner:
        out = fake.on_device(torch.zeros(1, 768, 512, dtype=torch.uint8))

        def work(inputs: tuple[torch.Tensor, ...]) -> None:
            out.copy_(body(inputs)[0])

        def queued(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            fake.queue(fake.current_stream(), lambda: work(inputs))
            return (out,)

        return GraphRunner(fake, queued, examples, precision, reason, backend)

    monkeypatch.setattr(device, "GraphRunner", graph)
    animator = GohdDeviceAnimator(PixelFormat.I420, device="cpu", network=network(), faces=1)
    animator._api, animator.backend = fake, "cuda_graph"
    made = draw(animator, {}, TURNED)
    fake.calls.clear()
    again = draw(animator, {}, TURNED)
    wanted = draw(stage(PixelFormat.I420), {}, TURNED)
    assert np.array_equal(made, wanted)
    assert np.array_equal(again, wanted)
    assert "copy" not in fake.calls, "a warm frame is one launch: its copies are in the graph"


# -- on a real device --------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["eager", "cuda_graph"])
def test_a_real_device_draws_what_the_cpu_draws(backend: str) -> None:
    animator = GohdDeviceAnimator(
        PixelFormat.RGB, "cuda", backend, precision="f32", network=network(), faces=2
    )
    away = np.abs(draw(animator, {}, TURNED).astype(int) - draw(stage(), {}, TURNED))
    assert away.mean() < 0.5
    assert np.percentile(away, 99.5) <= 4


@pytest.mark.gpu
def test_half_precision_stays_close() -> None:
    animator = GohdDeviceAnimator(PixelFormat.RGB, "cuda", "cuda_graph", "f16", network=network(), faces=2)
    assert np.abs(draw(animator, TURNED).astype(int) - draw(stage(), TURNED)).mean() < 1.0


@pytest.mark.gpu
def test_rows_in_one_captured_graph_are_what_each_is_alone() -> None:
    animator = GohdDeviceAnimator(PixelFormat.RGB, "cuda", "cuda_graph", "f32", network=network(), faces=2)
    cond, x = two_faces(), motion_case("", None).make(3, 1)
    together = animator.forward(x, cond)
    for k, name in enumerate(("astronaut.png", "character.png")):
        alone = animator.forward(MotionChunk(0, x.data[k : k + 1]), Cond.for_identity(identity(name)))
        assert (together[k].int() - alone[0].int()).abs().float().mean() < 0.05


@pytest.mark.gpu
def test_warm_frames_allocate_nothing_on_the_device() -> None:
    animator = GohdDeviceAnimator(PixelFormat.I420, "cuda", "cuda_graph", network=network(), faces=1)
    state = animator.init_state(1, Cond.for_identity(identity()))
    for n in range(3):
        animator.step(MotionChunk(n, motions(TURNED)), state)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for n in range(3, 9):
        animator.step(MotionChunk(n, motions({"ry": float(n)})), state)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.gpu
def test_a_tensorrt_network_draws_the_same_picture() -> None:
    pytest.importorskip("tensorrt")
    animator = GohdDeviceAnimator(PixelFormat.RGB, "cuda", "tensorrt", "f16", network=network(), faces=1)
    assert np.abs(draw(animator, TURNED).astype(int) - draw(stage(), TURNED)).mean() < 1.0
