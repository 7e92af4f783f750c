"""The learned animator: its dictionary, its region, what it must show, and every law of a stage."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.animators.gohd.animator import GohdAnimator, load_network
from engine.animators.gohd.composite import Composite
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.network import LITE, GohdNet, compose
from engine.animators.gohd.region import Region, region_of, region_side, whole
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.sheet import moved
from engine.config import asset_path
from engine.errors import AssetError, ConfigError, StreamError
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.layers.modulated import OrthogonalDictionary
from engine.types import Cond, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420
from tests.laws import LAWS, Case, motion_case

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@lru_cache
def portrait() -> Portrait:
    try:
        return analyse_portrait(load_image(asset_path("demo/astronaut.png")))
    except AssetError as error:
        pytest.skip(str(error))


@lru_cache
def animator() -> GohdAnimator:
    """With the shipped weights, as it runs here: rows are drawn one by one, so batches agree bit by bit."""
    return GohdAnimator()


@lru_cache
def identity() -> GohdIdentity:
    return animator().prepare(portrait())


def draw(*changes: dict[str, float], strength: float = 1.0) -> list[Bytes]:
    """One frame per change, each as the first of its stream."""
    made = []
    animator().strength = strength
    for change in changes:
        motion = torch.from_numpy(moved(identity().rest, change))[None, None]
        made.append(animator().forward(MotionChunk(0, motion), Cond.for_identity(identity()))[0, 0].numpy())
    animator().strength = 1.0
    return made


def untrained(seed: int = 0) -> GohdNet:
    """A network whose heads are as loud as a trained one's."""
    torch.manual_seed(seed)
    net = GohdNet().eval().requires_grad_(False)
    torch.nn.init.normal_(net.decoder.flow.weight, std=0.02)
    torch.nn.init.normal_(net.decoder.paint.weight, std=0.02)
    return net


# -- the dictionary ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 24), st.integers(0, 8), st.integers(0, 99), st.floats(1e-3, 1e3))
def test_directions_are_orthonormal_whatever_the_parameters(
    count: int, spare: int, seed: int, size: float
) -> None:
    torch.manual_seed(seed)
    dictionary = OrthogonalDictionary(count, count + spare)
    dictionary.free.data.mul_(size)
    d = dictionary.directions()
    assert torch.allclose(d.T @ d, torch.eye(count), atol=2e-5)


def test_training_steps_keep_directions_orthonormal() -> None:
    dictionary = OrthogonalDictionary(6, 10)
    before = dictionary.directions().detach()
    optimiser = torch.optim.SGD(dictionary.parameters(), 0.5)
    for _ in range(5):
        optimiser.zero_grad()
        dictionary(torch.ones(1, 6))[0, 0].backward()
        optimiser.step()
    d = dictionary.directions().detach()
    assert not torch.allclose(d, before, atol=1e-2)
    assert torch.allclose(d.T @ d, torch.eye(6), atol=1e-5)


def test_shipped_directions_are_orthonormal_after_saving() -> None:
    d = load_network().navigation.dictionary.directions()
    assert torch.allclose(d.T @ d, torch.eye(d.shape[1]), atol=1e-5)


def test_more_directions_than_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        OrthogonalDictionary(9, 8)


# -- region and composite ----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.floats(-80, 400), st.floats(-80, 400), st.integers(80, 420))
def test_a_region_cut_and_laid_back_unchanged_changes_nothing(x: float, y: float, side: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (320, 384, 3), np.uint8)
    region = whole(Region(x, y, float(side)))
    laid = frame.copy()
    Composite(side)(laid, region, torch.zeros(2, 16, 16), torch.zeros(4, 64, 64))
    assert np.array_equal(laid, frame)


def test_a_composite_is_the_networks_own_picture_at_full_size() -> None:
    side = LITE.side
    random = np.random.default_rng(2)
    noise = random.integers(0, 256, (side, side, 3), np.uint8)
    picture = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)
    flow = 2.0 * torch.from_numpy(random.standard_normal((1, 2, side // 4, side // 4)).astype(np.float32))
    share = torch.rand(1, 1, side, side, generator=torch.manual_seed(3))
    paint = torch.cat([share * (torch.rand(1, 3, side, side) - 0.5), share], 1)
    made = compose(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, flow, paint)
    frame = picture.copy()
    Composite(side)(frame, Region(0.0, 0.0, float(side)), flow[0], paint[0])
    assert np.abs(frame - 255 * made[0].clamp(0, 1).permute(1, 2, 0).numpy()).max() < 1.0


def test_the_region_follows_the_head_and_keeps_its_size() -> None:
    marks = identity().mesh.landmarks[:468]
    side = region_side(marks)
    one, other = region_of(marks, side), region_of(marks + np.array([30, -12], np.float32), side)
    assert (other.left - one.left, other.top - one.top) == pytest.approx((30, -12), abs=1e-3)
    assert one.side == other.side
    inside = (marks - [one.left, one.top]) / one.side
    assert inside.min() > 0.02
    assert inside.max() < 0.98


def test_carried_places_of_the_portrait_at_rest_are_its_own() -> None:
    y, x = np.mgrid[0:512, 0:512].astype(np.float32)
    region = Region(120.0, 90.0, 300.0)
    grid = region.grid(np.stack([x, y], -1), region, 64)
    axis = (np.arange(64) + 0.5) / 32 - 1
    assert np.allclose(grid[..., 0], axis[None], atol=1e-4)
    assert np.allclose(grid[..., 1], axis[:, None], atol=1e-4)


# -- pictures ----------------------------------------------------------------------------------


def test_at_rest_the_portrait_shows_itself() -> None:
    (shown,) = draw({})
    away = np.abs(shown.astype(int) - identity().mesh.crop)
    assert away.mean() < 2.0
    assert np.percentile(away, 99) < 16


def test_frames_differ_from_the_mesh_only_inside_the_region() -> None:
    change = {"jawOpen": 0.6, "ry": 10.0}
    (made,) = draw(change)
    mesh = MeshAnimator()
    motion = torch.from_numpy(moved(identity().rest, change))[None, None]
    plain = mesh.forward(MotionChunk(0, motion), Cond.for_identity(identity().mesh))[0, 0].numpy()
    changed = np.argwhere((made != plain).any(2))
    assert len(changed) > 1000
    assert np.ptp(changed, axis=0).max() <= identity().region.side


def test_motion_strength_moves_smoothly_from_the_portrait_to_the_target() -> None:
    """GoHD's Fig. 8: along λ every step is a small one and none goes back."""
    target = {"jawOpen": 0.7, "mouthSmile": 0.5, "ry": 12.0}
    steps = [
        draw({name: share * value for name, value in target.items()}, strength=share)[0].astype(float)
        for share in np.linspace(0.0, 1.0, 6)
    ]
    away = [np.abs(step - steps[0]).mean() for step in steps]
    assert all(b > a for a, b in pairwise(away))
    strides = [np.abs(b - a).mean() for a, b in pairwise(steps)]
    assert max(strides) < 0.6 * away[-1]


def test_gaze_turns_the_eyes_and_leaves_the_mouth() -> None:
    """GoHD's Fig. 1: gaze is set by itself."""
    left, right = draw({"gazeYaw": -25.0}, {"gazeYaw": 25.0})
    change = np.abs(left.astype(int) - right).sum(2)
    marks = identity().mesh.landmarks
    eyes = [marks[k] for k in (468, 473)]
    mouth = marks[[13, 14]].mean(0)

    def around(point: Float, reach: int) -> float:
        x, y = np.rint(point).astype(int)
        return float(change[y - reach : y + reach, x - reach : x + reach].mean())

    assert min(around(eye, 8) for eye in eyes) > 8 * around(mouth, 20)


@pytest.mark.parametrize("tier", [1, 2])
def test_without_the_network_it_is_the_mesh_animator(tier: int) -> None:
    motion = torch.from_numpy(moved(identity().rest, {"jawOpen": 0.5}))[None, None]
    state = animator().init_state(1, Cond.for_identity(identity()))
    assert animator().tiers == 3  # the governor reaches them
    state.tier = tier
    made = animator().step(MotionChunk(0, motion), state).data[0, 0].numpy()
    mesh = MeshAnimator()
    plain = mesh.init_state(1, Cond.for_identity(identity().mesh))
    plain.tier = tier - 1
    assert np.array_equal(made, mesh.step(MotionChunk(0, motion), plain).data[0, 0].numpy())


def test_a_face_prepared_by_the_mesh_animator_is_adopted() -> None:
    again = animator().adopt(MeshIdentity.from_arrays(identity().to_arrays()))
    assert all(torch.equal(a, b) for a, b in zip(again.features, identity().features, strict=True))


# -- laws --------------------------------------------------------------------------------------


def case() -> Case:
    cond = Cond.for_identity(identity())
    two = Cond(cond.seed.repeat(2), cond.rest.repeat(2, 1), cond.identity * 2)
    return motion_case("gohd_animator", animator(), two)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law) -> None:  # type: ignore[no-untyped-def]
    law(case())


def test_i420_is_the_rgb_picture_converted() -> None:
    motion = torch.from_numpy(moved(identity().rest, {"jawOpen": 0.5}))[None, None]
    planes = GohdAnimator(PixelFormat.I420)
    made = planes.forward(MotionChunk(0, motion), Cond.for_identity(identity()))[0, 0].numpy()
    assert np.array_equal(made, rgb_to_i420(draw({"jawOpen": 0.5})[0]))


def test_the_compiled_network_draws_the_same_picture() -> None:
    pytest.importorskip("openvino")
    motion = torch.from_numpy(moved(identity().rest, {"jawOpen": 0.5, "mouthSmile": 0.4}))[None, None]
    cond = Cond.for_identity(identity())
    exact = GohdAnimator(backend="eager").forward(MotionChunk(0, motion), cond)[0, 0].numpy().astype(int)
    for precision, mean, most in (("f32", 0.02, 2), ("bf16", 0.3, 24)):
        other = GohdAnimator(backend="openvino", precision=precision)
        made = other.forward(MotionChunk(0, motion), cond)[0, 0].numpy()
        away = np.abs(made - exact)
        assert away.mean() < mean, precision
        assert away.max() <= most, precision


def test_wrong_input_is_refused() -> None:
    cond = Cond.for_identity(identity())
    with pytest.raises(ConfigError, match="prepared face"):
        animator().init_state(1, Cond.default(1))
    with pytest.raises(ConfigError, match="1 identities"):
        animator().init_state(2, cond)
    state = animator().init_state(1, cond)
    animator().step(MotionChunk(0, torch.zeros(1, 1, 72)), state)
    with pytest.raises(StreamError, match="expected 1"):
        animator().step(MotionChunk(5, torch.zeros(1, 1, 72)), state)


def test_the_untrained_network_already_reacts_to_motion() -> None:
    """The decoder hears the code: a network that ignored its motion could not be driven."""
    net = untrained()
    source = torch.rand(1, 3, LITE.side, LITE.side)
    grid = torch.zeros(1, LITE.side // 4, LITE.side // 4, 2)
    code, *maps = net.encoder(source)
    window = torch.zeros(1, LITE.window, 72)
    still, _ = net(source, grid, window, code, *maps, torch.ones(1, 1))
    window[:, -1, 24] = 1.0
    other, _ = net(source, grid, window, code, *maps, torch.ones(1, 1))
    assert (still - other).abs().max() > 1e-4
