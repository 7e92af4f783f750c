"""Fused warp, mask blend and residual: what a learned animator does to every frame, in one pass.

``out = clamp(m · warp(image, flow) + (1 − m) · base + residual)``, rounded half up. Steps, for each
pixel (x, y) of a picture of H x W whose pixel centres lie at whole numbers:

1. The coarse fields, each [B, h, w, ...] of its own size (h and w need not divide H and W), are
   spread bilinearly: cell (i, j) has its centre at ((j + 0.5) W / w − 0.5, (i + 0.5) H / h − 0.5),
   and the border cells hold beyond theirs (``align_corners=False``).
2. ``image`` is sampled bilinearly at (x + flow_x, y + flow_y), in pixels of ``image``, the place
   clamped to its border; a flow that is not finite samples some pixel of it. With
   ``sampling="bicubic"`` it is sampled by cubic convolution instead.
3. Blend with ``mask`` (0 shows ``base``, 1 the warped image), add ``residual`` (units of 0..255),
   clamp to 0..255, round.

Without ``flow`` there is nothing to sample and ``out = clamp(base + m · residual)``; an absent
``mask`` is 1, an absent ``residual`` 0.

Sampling between pixels softens a picture, and a picture that was resampled before (cut out, scaled,
drawn from a mesh) loses the rest of its fine detail to a second bilinear pass. Bicubic sampling keeps
it, for somewhat more time. It is the separable cubic convolution of Keys (1981) with a = -0.75, as
torch's ``grid_sample(mode="bicubic", padding_mode="border")`` and OpenCV's ``INTER_CUBIC`` have it: 4 x 4
taps, those outside the picture taking its nearest border pixel. It may overshoot 0..255 beside an
edge; only the final sum is clamped. At whole pixels both ways give the pixel itself.

Numpy arrays and torch tensors are taken, all on one device, in any strides: a planar picture or a
network's output [B, C, h, w] is handed over as ``x.permute(0, 2, 3, 1)``, without a copy.

>>> fuse(base, image, flow, mask, residual, out, box=(96, 64, 416, 448))
>>> for part in bands((96, 64, 416, 448), 2):    # two threads, one box each
...     pool.submit(fuse, base, image, flow, mask, residual, out, box=part)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import torch

from kernels import select_body
from kernels.arrays import Array, as_numpy, as_torch, device_name, expect, is_contiguous
from kernels.fuse import cpu, reference
from kernels.i420 import Matrix, coefficients

__all__ = ["Box", "Sampling", "bands", "fuse", "fuse_i420"]

Box = tuple[int, int, int, int]
Impl = Literal["auto", "ref", "cpu", "triton"]
Sampling = Literal["bilinear", "bicubic"]

_NUMBERS = ("uint8", "float16", "float32")


def fuse(
    base: Array,
    image: Array | None,
    flow: Array | None,
    mask: Array | None,
    residual: Array | None,
    out: Array,
    *,
    box: Box | None = None,
    sampling: Sampling = "bilinear",
    impl: Impl = "auto",
) -> Array:
    """Write the blended picture into ``out`` and return it.

    1. ``base`` uint8 [B, H, W, 3]. ``out`` may be the same memory.
    2. ``image`` uint8, float16 or float32 [B, Hi, Wi, 3] in 0..255; not ``out``. On the CPU uint8 is
       the fastest and float16 is converted whole on every call.
    3. ``flow`` float16 or float32 [B, h, w, 2]: how far from its own place each output pixel is
       sampled, (x, y) in pixels; ``mask`` [B, h, w] in 0..1; ``residual`` [B, h, w, 3].
    4. ``out`` uint8 [B, H, W, 3]; ``box`` (x0, y0, x1, y1): only these columns and rows are
       written, the rest of ``out`` keeps what it held.
    5. ``sampling`` of the image: "bilinear" or "bicubic".

    Raises:
        ValueError: a wrong dtype or shape, a box outside the picture, a flow without an image, an
            unknown way of sampling.
        BodyUnavailable: the named body cannot run on these arrays or this machine.
    """
    shape = _check(base, image, flow, mask, residual)
    expect("out", out, shape, ("uint8",))
    cubic = _is_cubic(sampling)
    area = _checked_box(box, shape, 1)
    body, arrays = select_body(impl, base), (base, image, flow, mask, residual, out)
    if body == "cpu":
        cpu.fuse(area, cubic, *map(as_numpy, arrays))
    elif body == "ref":
        reference.fuse(area, cubic, *map(as_torch, arrays))
    else:
        from kernels.fuse import gpu

        gpu.fuse(area, cubic, *map(as_torch, arrays))
    return out


def fuse_i420(
    base: Array,
    image: Array | None,
    flow: Array | None,
    mask: Array | None,
    residual: Array | None,
    out: Array,
    *,
    box: Box | None = None,
    matrix: Matrix = "bt709",
    sampling: Sampling = "bilinear",
    impl: Impl = "auto",
) -> Array:
    """The same blend, written as I420 (see :mod:`kernels.i420`) with no RGB picture between.

    ``out`` uint8 [B, H*3//2, W], contiguous; H, W and the box's corners are even. The colours are
    converted before they are rounded, so a value may differ by one level from the conversion of
    :func:`fuse`'s picture.

    Raises:
        ValueError, BodyUnavailable: as :func:`fuse`.
    """
    batch, height, width, _ = shape = _check(base, image, flow, mask, residual)
    if height % 2 or width % 2:
        raise ValueError(f"I420 needs even sizes, got {height}x{width}; crop or pad by one pixel")
    expect("out", out, (batch, height * 3 // 2, width), ("uint8",))
    if not is_contiguous(out):
        raise ValueError("out must be contiguous")
    cubic = _is_cubic(sampling)
    area = _checked_box(box, shape, 2)
    body, arrays = select_body(impl, base), (base, image, flow, mask, residual, out)
    m = coefficients(matrix)
    if body == "cpu":
        cpu.fuse_i420(area, cubic, m, *map(as_numpy, arrays))
    elif body == "ref":
        reference.fuse_i420(area, cubic, torch.from_numpy(m), *map(as_torch, arrays))
    else:
        from kernels.fuse import gpu

        gpu.fuse_i420(area, cubic, m, *map(as_torch, arrays))
    return out


def bands(box: Box, count: int) -> list[Box]:
    """``box`` cut into at most ``count`` bands of whole, even rows, for as many threads."""
    x0, y0, x1, y1 = box
    cuts = [y0 + 2 * round((y1 - y0) * k / count / 2) for k in range(count)] + [y1]
    return [(x0, a, x1, b) for a, b in pairwise(cuts) if b > a]


def _check(
    base: Array, image: Array | None, flow: Array | None, mask: Array | None, residual: Array | None
) -> tuple[int, int, int, int]:
    """Raise for what does not fit; the shape [B, H, W, 3] of the picture otherwise."""
    expect("base", base, (None, None, None, 3), ("uint8",))
    batch = base.shape[0]
    if flow is not None and image is None:
        raise ValueError("a flow needs an image to sample")
    expect("image", image, (batch, None, None, 3), _NUMBERS)
    expect("flow", flow, (batch, None, None, 2), _NUMBERS[1:])
    expect("mask", mask, (batch, None, None), _NUMBERS[1:])
    expect("residual", residual, (batch, None, None, 3), _NUMBERS[1:])
    for name, x in (("image", image), ("flow", flow), ("mask", mask), ("residual", residual)):
        if x is not None and device_name(x) != device_name(base):
            raise ValueError(f"{name} is on {device_name(x)}, base on {device_name(base)}; move one of them")
    return batch, int(base.shape[1]), int(base.shape[2]), 3


def _is_cubic(sampling: str) -> bool:
    if sampling not in get_args(Sampling):
        choices = " or ".join(map(repr, get_args(Sampling)))
        raise ValueError(f"sampling must be {choices}, got {sampling!r}")
    return sampling == "bicubic"


def _checked_box(box: Box | None, shape: tuple[int, int, int, int], step: int) -> Box:
    _, height, width, _ = shape
    if box is None:
        return 0, 0, width, height
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"box {box} (x0, y0, x1, y1) is empty or outside {width}x{height}")
    if any(v % step for v in box):
        raise ValueError(f"box {box} must have even corners for I420")
    return int(x0), int(y0), int(x1), int(y1)
