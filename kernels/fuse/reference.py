"""The definition, in torch and double precision, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fuse", "fuse_i420"]

Box = tuple[int, int, int, int]


def _spread(field: Tensor, height: int, width: int) -> Tensor:
    """[B, h, w, C] -> float64 [B, H, W, C], bilinear, cell centres at ((i + 0.5) H / h - 0.5)."""
    planes = field.permute(0, 3, 1, 2).double()
    return F.interpolate(planes, (height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def _bilinear(part: Tensor) -> list[Tensor]:
    """Weights of the tap before a place and of the one after it, ``part`` of the way to the second."""
    return [1 - part, part]


def _bicubic(part: Tensor) -> list[Tensor]:
    """Weights of two taps before a place and two after it: cubic convolution (Keys 1981), a = -0.75."""
    a = -0.75

    def near(t: Tensor) -> Tensor:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return a * (((t - 5) * t + 8) * t - 4)

    return [far(1 + part), near(part), near(1 - part), far(2 - part)]


def _warp(image: Tensor, flow: Tensor, cubic: bool) -> Tensor:
    """Samples of ``image`` [B, Hi, Wi, 3] at pixel + ``flow`` [B, H, W, 2], place and taps border clamped."""
    batch, height, width = flow.shape[:3]
    rows, columns = image.shape[1:3]
    y = torch.arange(height, device=flow.device)[:, None] + flow[..., 1]
    x = torch.arange(width, device=flow.device) + flow[..., 0]
    y, x = y.clamp(0, rows - 1), x.clamp(0, columns - 1)
    i, j = y.floor().long(), x.floor().long()
    weights = _bicubic if cubic else _bilinear
    b = torch.arange(batch, device=flow.device)[:, None, None]
    values = image.double()
    total = flow.new_zeros(())
    start = -1 if cubic else 0
    for down, tall in enumerate(weights((y - i)[..., None]), start):
        line = (i + down).clamp(0, rows - 1)
        for right, wide in enumerate(weights((x - j)[..., None]), start):
            total = total + tall * wide * values[b, line, (j + right).clamp(0, columns - 1)]
    return total


def _blend(
    cubic: bool,
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """float64 [B, H, W, 3] in 0..255, clamped, not rounded."""
    height, width = base.shape[1:3]
    below = base.double()
    m = below.new_ones(()) if mask is None else _spread(mask[..., None], height, width)
    r = below.new_zeros(()) if residual is None else _spread(residual, height, width)
    if flow is None or image is None:
        return (below + m * r).clamp(0, 255)
    warped = _warp(image, _spread(flow, height, width), cubic)
    return (m * warped + (1 - m) * below + r).clamp(0, 255)


def fuse(
    box: Box,
    cubic: bool,
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
) -> None:
    """See :func:`kernels.fuse.fuse`."""
    x0, y0, x1, y1 = box
    whole = (_blend(cubic, base, image, flow, mask, residual) + 0.5).floor().to(torch.uint8)
    out[:, y0:y1, x0:x1] = whole[:, y0:y1, x0:x1]


def fuse_i420(
    box: Box,
    cubic: bool,
    matrix: Tensor,
    base: Tensor,
    image: Tensor | None,
    flow: Tensor | None,
    mask: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
) -> None:
    """See :func:`kernels.fuse.fuse_i420`; ``matrix`` [3, 3] as in :mod:`kernels.i420`."""
    x0, y0, x1, y1 = box
    rgb = _blend(cubic, base, image, flow, mask, residual)
    batch, height, width = rgb.shape[:3]
    m = matrix.to(rgb)
    luma = (rgb @ m[0] + 16.5).floor().to(torch.uint8)
    out[:, y0:y1, x0:x1] = luma[:, y0:y1, x0:x1]
    blocks = rgb.reshape(batch, height // 2, 2, width // 2, 2, 3).mean((2, 4))
    planes = out[:, height:].view(batch, 2, height // 2, width // 2)
    chroma = (blocks @ m[1:].T + 128.5).floor().to(torch.uint8).permute(0, 3, 1, 2)
    window = (slice(y0 // 2, y1 // 2), slice(x0 // 2, x1 // 2))
    planes[:, :, window[0], window[1]] = chroma[:, :, window[0], window[1]]
