"""Fused warp, blend and residual: what the doorway promises beyond the laws that all kernels keep."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from kernels import BodyUnavailable
from kernels.fuse import Impl, Sampling, bands, fuse, fuse_i420
from kernels.i420 import rgb_to_i420

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def picture(height: int, width: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype(np.uint8)


def full(shape: tuple[int, ...], value: Any) -> Floats:
    return np.broadcast_to(np.asarray(value, np.float32), shape).copy()


def either(
    impl: Impl,
    base: Bytes,
    image: Bytes | None,
    flow: Floats | None,
    mask: Floats | None,
    residual: Floats | None,
    sampling: Sampling = "bilinear",
) -> Bytes:
    out = np.zeros_like(base)
    fuse(base, image, flow, mask, residual, out, impl=impl, sampling=sampling)
    return out


@pytest.mark.parametrize("sampling", ["bilinear", "bicubic"])
@pytest.mark.parametrize("impl", ["cpu", "ref"])
def test_whole_pixel_flow_moves_the_picture_exactly(impl: Impl, sampling: Sampling) -> None:
    base, image = picture(20, 30), picture(20, 30, 1)
    moved = either(impl, base, image, full((1, 5, 6, 2), (3, -2)), full((1, 1, 1), 1), None, sampling)
    np.testing.assert_array_equal(moved[0, 2:, :-3], image[0, :-2, 3:])
    np.testing.assert_array_equal(moved[0, 0, :-3], image[0, 0, 3:])  # the border holds beyond


@pytest.mark.parametrize("impl", ["cpu", "ref"])
@pytest.mark.parametrize("shape", [(23, 31), (2, 17), (3, 3), (1, 1)])
def test_bicubic_samples_are_those_of_grid_sample(impl: Impl, shape: tuple[int, int]) -> None:
    """At places inside the picture, taps beyond its border included."""
    height, width = shape
    noise = torch.Generator().manual_seed(5)
    image = picture(height, width, 1)
    place = torch.rand(1, height, width, 2, generator=noise) * torch.tensor([width - 1.0, height - 1.0])
    own = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1)
    grid = (2 * place.double() + 1) / torch.tensor([width, height]) - 1
    planes = torch.from_numpy(image).permute(0, 3, 1, 2).double()
    sampled = F.grid_sample(planes, grid, mode="bicubic", padding_mode="border", align_corners=False)
    wanted = (sampled.permute(0, 2, 3, 1).clamp(0, 255) + 0.5).floor().numpy()
    got = either(impl, np.zeros_like(image), image, (place - own).numpy(), None, None, "bicubic")
    apart = np.abs(got.astype(int) - wanted)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.005


@pytest.mark.parametrize("impl", ["cpu", "ref"])
def test_bicubic_overshoots_are_kept_until_the_end(impl: Impl) -> None:
    """Beside an edge from 0 to 255 a sample lies below 0; half of it lowers the base by as much."""
    base = np.full((1, 1, 8, 3), 100, np.uint8)
    image = np.zeros_like(base)
    image[:, :, 4:] = 255
    flow = full((1, 1, 1, 2), (0.5, 0))
    got = either(impl, base, image, flow, full((1, 1, 1), 0.5), None, "bicubic")[0, 0, :, 0]
    # Weights of the taps half way: -3/32, 19/32, 19/32, -3/32.
    sampled = np.array([0, 0, -3, 16, 35, 32, 32, 32]) / 32 * 255
    np.testing.assert_array_equal(got, np.floor(50 + sampled / 2 + 0.5))


@pytest.mark.parametrize("impl", ["cpu", "ref"])
def test_mask_zero_shows_the_base_and_the_residual_is_added(impl: Impl) -> None:
    base, image = picture(9, 11), picture(9, 11, 1)
    flow, none = full((1, 3, 3, 2), 0.4), full((1, 3, 3), 0)
    np.testing.assert_array_equal(either(impl, base, image, flow, none, None), base)
    brighter = either(impl, base, image, flow, none, full((1, 2, 2, 3), (10, -20, 300)))
    wanted = np.clip(base.astype(int) + np.array([10, -20, 300]), 0, 255)
    np.testing.assert_array_equal(brighter, wanted)


@pytest.mark.parametrize("impl", ["cpu", "ref"])
def test_without_flow_the_mask_scales_the_residual(impl: Impl) -> None:
    base = picture(8, 8)
    got = either(impl, base, None, None, full((1, 4, 4), 0.5), full((1, 4, 4, 3), 40))
    np.testing.assert_array_equal(got, np.minimum(base.astype(int) + 20, 255))


def test_coarse_fields_follow_the_pixel_centre_convention() -> None:
    """A ramp over 4 cells on 16 pixels: cell centres at 1.5, 5.5, 9.5, 13.5, held beyond."""
    ramp = full((1, 1, 4, 3), 0) + np.arange(4, dtype=np.float32)[None, None, :, None] * 40
    got = either("cpu", np.zeros((1, 3, 16, 3), np.uint8), None, None, None, ramp)[0, 0, :, 0]
    wanted = np.interp(np.arange(16), [1.5, 5.5, 9.5, 13.5], [0, 40, 80, 120])
    np.testing.assert_array_equal(got, np.floor(wanted + 0.5))


@pytest.mark.parametrize("sampling", ["bilinear", "bicubic"])
def test_box_leaves_the_rest_and_bands_add_up(sampling: Sampling) -> None:
    base, image = picture(41, 53), picture(41, 53, 1)
    noise = np.random.default_rng(2)
    flow = noise.normal(0, 3, (1, 7, 9, 2)).astype(np.float32)
    mask = noise.random((1, 5, 4)).astype(np.float32)
    flow[:, :, :3] = 0  # nothing moves on the left
    whole = either("cpu", base, image, flow, mask, None, sampling)
    out = np.full_like(base, 7)
    box = (5, 3, 40, 38)
    for part in bands(box, 3):
        fuse(base, image, flow, mask, None, out, box=part, sampling=sampling)
    np.testing.assert_array_equal(out[:, 3:38, 5:40], whole[:, 3:38, 5:40])
    out[:, 3:38, 5:40] = 7
    assert (out == 7).all()


def test_bands_cover_a_box_once_with_even_cuts() -> None:
    for box in ((0, 0, 4, 2), (3, 7, 9, 40), (0, 0, 1, 1)):
        for count in (1, 2, 3, 8):
            rows = [y for x0, a, x1, b in bands(box, count) for y in range(a, b)]
            assert rows == list(range(box[1], box[3]))
            assert all((part[1] - box[1]) % 2 == 0 for part in bands(box, count))


def test_may_write_over_its_base() -> None:
    base, image = picture(12, 14), picture(12, 14, 1)
    flow, mask = full((1, 3, 3, 2), 1.3), full((1, 3, 3), 0.6)
    apart = either("cpu", base, image, flow, mask, None)
    fuse(base, image, flow, mask, None, base)
    np.testing.assert_array_equal(base, apart)


@pytest.mark.parametrize("impl", ["cpu", "ref", "triton"])
def test_a_view_with_gaps_is_written_in_place(impl: Impl) -> None:
    if impl == "triton" and (find_spec("triton") is None or torch.cuda.is_available()):
        pytest.skip("needs Triton's interpreter, on CPU arrays")
    base = picture(5, 7)
    wide = np.full((1, 10, 14, 4), 9, np.uint8)
    view = wide[:, ::2, 1::2, 1:]
    fuse(base, None, None, None, None, view, box=(1, 0, 6, 4), impl=impl)
    np.testing.assert_array_equal(view[:, :4, 1:6], base[:, :4, 1:6])
    view[:, :4, 1:6] = 9
    assert (wide == 9).all()


@pytest.mark.parametrize("sampling", ["bilinear", "bicubic"])
def test_wide_pictures_are_cut_without_a_seam(sampling: Sampling) -> None:
    base, image = picture(4, 2500), picture(4, 2500, 1)
    flow = np.random.default_rng(3).normal(0, 2, (1, 2, 301, 2)).astype(np.float32)
    fast = either("cpu", base, image, flow, full((1, 1, 3), [0.2, 0.9, 0.4]), None, sampling)
    slow = either("ref", base, image, flow, full((1, 1, 3), [0.2, 0.9, 0.4]), None, sampling)
    assert np.abs(fast.astype(int) - slow).max() <= 1


@pytest.mark.parametrize("sampling", ["bilinear", "bicubic"])
def test_flow_that_is_not_finite_stays_inside(sampling: Sampling) -> None:
    base, image = picture(6, 6), picture(6, 6, 1)
    known = {tuple(colour) for colour in image.reshape(-1, 3)}
    for value in (np.nan, np.inf, -np.inf, 1e30, -1e30):
        got = either("cpu", base, image, full((1, 2, 2, 2), value), None, None, sampling)
        assert {tuple(colour) for colour in got.reshape(-1, 3)} <= known


def test_i420_equals_converting_the_picture() -> None:
    base, image = picture(34, 62), picture(34, 62, 1)
    flow = np.random.default_rng(4).normal(0, 2, (1, 9, 5, 2)).astype(np.float32)
    packed = np.zeros((1, 51, 62), np.uint8)
    fuse_i420(base, image, flow, full((1, 2, 2), 0.7), None, packed)
    wanted = rgb_to_i420(either("cpu", base, image, flow, full((1, 2, 2), 0.7), None)[0])
    assert np.abs(packed[0].astype(int) - wanted).max() <= 1


def test_i420_box_leaves_the_rest() -> None:
    base = picture(16, 24)
    packed, whole = np.full((1, 24, 24), 7, np.uint8), np.zeros((1, 24, 24), np.uint8)
    fuse_i420(base, None, None, None, full((1, 1, 1, 3), 9), whole)
    fuse_i420(base, None, None, None, full((1, 1, 1, 3), 9), packed, box=(4, 2, 18, 12))
    keep = np.ones((24, 24), bool)
    keep[2:12, 4:18] = False
    planes, chosen = keep[16:].reshape(2, 8, 12), np.zeros((2, 8, 12), bool)
    chosen[:, 1:6, 2:9] = True
    planes[:] = ~chosen
    assert (packed[0][keep] == 7).all()
    np.testing.assert_array_equal(packed[0][~keep], whole[0][~keep])


def test_tensors_are_written_in_place() -> None:
    base = torch.from_numpy(picture(10, 10))
    out = torch.zeros_like(base)
    assert fuse(base, None, None, None, None, out) is out
    assert torch.equal(out, base)


def test_wrong_input_is_refused_with_the_remedy() -> None:
    base, out = picture(8, 8), np.zeros((1, 8, 8, 3), np.uint8)
    flow = full((1, 2, 2, 2), 0)
    with pytest.raises(ValueError, match="needs an image"):
        fuse(base, None, flow, None, None, out)
    with pytest.raises(ValueError, match=r"flow must be float16 or float32 \[1, any, any, 2\]"):
        fuse(base, base, flow.astype(np.float64), None, None, out)
    with pytest.raises(ValueError, match="residual must"):
        fuse(base, base, flow, None, full((1, 2, 2, 2), 0), out)
    with pytest.raises(ValueError, match="outside 8x8"):
        fuse(base, base, flow, None, None, out, box=(0, 0, 9, 8))
    with pytest.raises(ValueError, match="even corners"):
        fuse_i420(base, base, flow, None, None, np.zeros((1, 12, 8), np.uint8), box=(1, 0, 8, 8))
    with pytest.raises(ValueError, match="sampling must be 'bilinear' or 'bicubic', got 'cubic'"):
        fuse(base, base, flow, None, None, out, sampling="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampling must be"):
        fuse_i420(base, None, None, None, None, np.zeros((1, 12, 8), np.uint8), sampling="")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="impl must be"):
        fuse(base, base, flow, None, None, out, impl="metal")  # type: ignore[arg-type]


def test_a_body_that_cannot_run_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    base = picture(4, 4)
    monkeypatch.setattr("kernels.find_spec", lambda name: None)
    with pytest.raises(BodyUnavailable, match=r"pip install 'visavis\[gpu\]'"):
        fuse(base, None, None, None, None, base.copy(), impl="triton")
    monkeypatch.setattr("kernels.find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BodyUnavailable, match="needs a CUDA tensor"):
        fuse(base, None, None, None, None, base.copy(), impl="triton")
