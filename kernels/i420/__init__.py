"""RGB to planar I420 or semi-planar NV12, the layouts that video encoders take.

Steps, for uint8 RGB [H, W, 3] or [B, H, W, 3] (H and W even), numpy array or torch tensor:

1. Y' per pixel, U and V from the mean RGB of each 2×2 block (chroma sited at the block's centre).
2. Limited range (Y 16..235, U and V 16..240), matrix BT.601 or BT.709 (ITU-R BT.709-6, item 3).
3. Packed as uint8 [H*3//2, W] a picture: H rows of Y, then for I420 the U plane's and the V plane's
   bytes, for NV12 H/2 rows of U, V, U, V...

A tensor gives a tensor on its own device, a numpy array a numpy array.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels import select_body
from kernels.arrays import as_numpy, as_torch, dtype_name, is_contiguous
from kernels.i420 import cpu, reference
from kernels.i420.reference import coefficients

__all__ = ["Matrix", "coefficients", "i420_to_rgb", "rgb_to_i420", "rgb_to_nv12"]

Matrix = Literal["bt601", "bt709"]
Impl = Literal["auto", "ref", "cpu", "triton"]
Bytes = NDArray[np.uint8]
Picture = TypeVar("Picture", NDArray[np.uint8], Tensor)


def rgb_to_i420(
    rgb: Picture, matrix: Matrix = "bt709", *, out: Picture | None = None, impl: Impl = "auto"
) -> Picture:
    """uint8 [..., H, W, 3] -> I420 uint8 [..., H*3//2, W]; any strides in, C-contiguous out.

    Raises:
        ValueError: wrong dtype or shape, odd sizes, ``out`` of another shape.
        BodyUnavailable: the named body cannot run on ``rgb`` or this machine.
    """
    return _convert(rgb, matrix, out, impl, interleaved=False)


def rgb_to_nv12(
    rgb: Picture, matrix: Matrix = "bt709", *, out: Picture | None = None, impl: Impl = "auto"
) -> Picture:
    """uint8 [..., H, W, 3] -> NV12 uint8 [..., H*3//2, W]; otherwise as :func:`rgb_to_i420`."""
    return _convert(rgb, matrix, out, impl, interleaved=True)


def _convert(rgb: Picture, matrix: Matrix, out: Picture | None, impl: Impl, *, interleaved: bool) -> Picture:
    if dtype_name(rgb) != "uint8" or rgb.ndim not in (3, 4) or rgb.shape[-1] != 3:
        raise ValueError(f"rgb must be uint8 [H, W, 3] or [B, H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    height, width = rgb.shape[-3:-1]
    if height % 2 or width % 2 or not height or not width:
        raise ValueError(f"I420 needs even, positive sizes, got {height}x{width}; crop or pad by one pixel")
    weights, body = coefficients(matrix), select_body(impl, rgb)
    result: Any = _target(rgb, out, (*rgb.shape[:-3], height * 3 // 2, width))
    source, target = rgb if rgb.ndim == 4 else rgb[None], result if rgb.ndim == 4 else result[None]
    if body == "cpu":
        for picture, packed in zip(as_numpy(source), as_numpy(target), strict=True):
            cpu.rgb_to_yuv(picture, weights, packed, interleaved)
    elif body == "ref":
        reference.rgb_to_yuv(as_torch(source), weights, as_torch(target), interleaved)
    else:
        from kernels.i420 import gpu

        gpu.rgb_to_yuv(as_torch(source), weights, as_torch(target), interleaved)
    return result  # type: ignore[no-any-return]


def _target(rgb: Any, out: Any, shape: tuple[int, ...]) -> Any:
    """``out`` where it fits, a new array beside ``rgb`` where there is none."""
    if out is None:
        if isinstance(rgb, Tensor):
            return torch.empty(shape, dtype=torch.uint8, device=rgb.device)
        return np.empty(shape, np.uint8)
    same = isinstance(out, Tensor) == isinstance(rgb, Tensor)
    if not same or tuple(out.shape) != shape or out.dtype != rgb.dtype or not is_contiguous(out):
        raise ValueError(f"out must be contiguous uint8 {list(shape)}, of the kind of rgb")
    if isinstance(out, Tensor) and out.device != rgb.device:
        raise ValueError(f"out is on {out.device}, rgb on {rgb.device}")
    return out


def i420_to_rgb(i420: Bytes, matrix: Matrix = "bt709") -> Bytes:
    """The inverse, chroma repeated: uint8 [H*3//2, W] -> uint8 [H, W, 3]. For tests and stills."""
    if i420.dtype != np.uint8 or i420.ndim != 2 or i420.shape[0] % 3:
        raise ValueError(f"i420 must be uint8 [H*3//2, W], got {i420.dtype} {list(i420.shape)}")
    return reference.i420_to_rgb(i420, matrix)
