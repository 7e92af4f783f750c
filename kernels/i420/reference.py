"""The obvious body in floating point, in torch on any device, and the matrices all bodies share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["coefficients", "i420_to_rgb", "rgb_to_yuv"]

_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def coefficients(matrix: str) -> NDArray[np.float32]:
    """Rows Y, U, V of the limited-range matrix [3, 3] for R, G, B in 0..255 (offsets 16, 128, 128)."""
    if matrix not in _LUMA:
        raise ValueError(f"matrix must be one of {sorted(_LUMA)}, got {matrix!r}")
    kr, kb = _LUMA[matrix]
    kg = 1.0 - kr - kb
    luma = np.array([kr, kg, kb])
    blue = (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - kb))
    red = (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - kr))
    return (np.stack([luma * 219.0, blue * 224.0, red * 224.0]) / 255.0).astype(np.float32)


def rgb_to_yuv(rgb: Tensor, m: NDArray[np.float32], out: Tensor, interleaved: bool) -> None:
    """Write I420, or NV12 where ``interleaved``, of ``rgb`` [B, H, W, 3] into ``out`` [B, H*3//2, W]."""
    batch, height, width = rgb.shape[:3]
    pixels, weights = rgb.float(), torch.from_numpy(m).to(rgb.device)
    block = pixels.reshape(batch, height // 2, 2, width // 2, 2, 3).mean((2, 4))
    out[:, :height] = ((pixels * weights[0]).sum(-1) + 16.5).floor()
    chroma = ((block[..., None, :] * weights[1:]).sum(-1) + 128.5).floor()
    planes = chroma if interleaved else chroma.permute(0, 3, 1, 2)
    out[:, height:] = planes.reshape(batch, height // 2, width)


def i420_to_rgb(i420: NDArray[np.uint8], matrix: str) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of I420 [H*3//2, W], chroma repeated."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    chroma = i420[height:].reshape(2, height // 2, width // 2).repeat(2, axis=1).repeat(2, axis=2)
    yuv = np.stack([i420[:height] - 16.0, chroma[0] - 128.0, chroma[1] - 128.0], axis=-1)
    rgb = yuv @ np.linalg.inv(coefficients(matrix).astype(np.float64)).T
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)
