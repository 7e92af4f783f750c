"""RGB -> I420: both bodies agree, the inverse returns the picture, bad input is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.i420 import Impl, Matrix, i420_to_rgb, rgb_to_i420, rgb_to_nv12


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 10), (64, 64), (34, 130), (512, 512)])
def test_cpu_equals_reference(matrix: Matrix, height: int, width: int) -> None:
    rgb = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    fast = rgb_to_i420(rgb, matrix, impl="cpu")
    slow = rgb_to_i420(rgb, matrix, impl="ref")
    assert np.abs(fast.astype(int) - slow).max() <= 1
    assert (fast != slow).mean() < 0.02


def test_strided_input_and_out_argument() -> None:
    big = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    view = big[4:36:1, 10:50, ::-1]
    out = np.zeros((48, 40), np.uint8)
    result = rgb_to_i420(view, out=out)
    assert result is out
    np.testing.assert_array_equal(out, rgb_to_i420(np.ascontiguousarray(view)))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_round_trip_of_flat_colours(matrix: Matrix) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (16, 3)).astype(np.uint8)
    for colour in colours:
        rgb = np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8)
        back = i420_to_rgb(rgb_to_i420(rgb, matrix), matrix)
        assert np.abs(back.astype(int) - rgb).max() <= 3


def test_known_values_bt709() -> None:
    """White, black and full red, from the equations of ITU-R BT.709-6."""
    for colour, yuv in (
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((255, 0, 0), (63, 102, 240)),
    ):
        planes = rgb_to_i420(np.full((2, 2, 3), colour, np.uint8))
        assert (int(planes[0, 0]), int(planes[2, 0]), int(planes[2, 1])) == yuv


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        rgb_to_i420(np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        rgb_to_i420(np.zeros((4, 4, 3), np.float32))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="matrix"):
        rgb_to_i420(np.zeros((4, 4, 3), np.uint8), "bt2020")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out must"):
        rgb_to_i420(np.zeros((4, 4, 3), np.uint8), out=np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("impl", ["cpu", "ref"])
def test_nv12_is_i420_with_chroma_interleaved(impl: Impl) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (2, 10, 14, 3)).astype(np.uint8)
    planar, packed = rgb_to_i420(rgb, impl=impl), rgb_to_nv12(rgb, impl=impl)
    np.testing.assert_array_equal(packed[:, :10], planar[:, :10])
    chroma = planar[:, 10:].reshape(2, 2, 5, 7)
    np.testing.assert_array_equal(packed[:, 10:, 0::2], chroma[:, 0])
    np.testing.assert_array_equal(packed[:, 10:, 1::2], chroma[:, 1])


def test_tensors_give_tensors_and_batches_give_batches() -> None:
    rgb = torch.randint(0, 256, (3, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    packed = rgb_to_i420(rgb)
    assert isinstance(packed, torch.Tensor)
    for one, picture in zip(packed, rgb, strict=True):
        np.testing.assert_array_equal(one.numpy(), rgb_to_i420(picture.numpy()))
    out = torch.zeros(9, 8, dtype=torch.uint8)
    assert rgb_to_nv12(rgb[0], out=out) is out
    with pytest.raises(ValueError, match="of the kind of rgb"):
        rgb_to_nv12(rgb[0], out=out.numpy())  # type: ignore[type-var]
