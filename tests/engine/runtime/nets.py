"""A small network with all that is hard for a compiler: warps, pixel shuffle, group norm, skips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WarpNet", "example", "warp_net"]

SIZE = 32


class WarpNet(nn.Module):
    """Warps a picture [B, 3, 32, 32] by a flow seen in two pictures, and refines it.

    Features are warped too and convolved afterwards, so that the warp is not at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(6, 16, 3, 2, 1)
        self.norm = nn.GroupNorm(4, 16)
        self.mid = nn.Conv2d(16, 32, 3, 2, 1)
        self.flow = nn.Conv2d(32, 2, 3, 1, 1)
        self.gain = nn.Linear(4, 32)
        self.fuse = nn.Conv2d(19, 16, 3, 1, 1)
        self.up = nn.Conv2d(32, 3 * 16, 3, 1, 1)
        axis = torch.linspace(-1, 1, SIZE)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.grid: Tensor
        self.register_buffer("grid", torch.stack([x, y], -1)[None])

    def forward(self, source: Tensor, drive: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        fine = F.silu(self.norm(self.stem(torch.cat([source, drive], 1))))
        coarse = F.silu(self.mid(fine)) * (1 + self.gain(style))[:, :, None, None]
        flow = F.interpolate(torch.tanh(self.flow(coarse)) * 0.2, size=(SIZE, SIZE), mode="bilinear")
        grid = self.grid + flow.permute(0, 2, 3, 1)
        warped = F.grid_sample(source, grid, align_corners=True, padding_mode="border")
        lifted = F.interpolate(fine, scale_factor=2.0, mode="nearest")
        moved = F.grid_sample(lifted, grid, align_corners=True, padding_mode="border")
        fused = self.fuse(torch.cat([warped, moved], 1)).mean((2, 3), keepdim=True)
        residual = F.pixel_shuffle(self.up(coarse), 4)
        return (warped + 0.1 * torch.tanh(residual + fused.mean(1, keepdim=True))).clamp(0, 1), fused


def warp_net() -> WarpNet:
    """The network, always with the same weights."""
    torch.manual_seed(0)
    return WarpNet().eval()


def example(seed: int = 0, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth pictures, as a network of faces sees them, and a style vector."""
    noise = torch.Generator().manual_seed(seed)

    def picture() -> Tensor:
        coarse = torch.rand(batch, 3, 8, 8, generator=noise)
        return F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)

    return picture(), picture(), torch.randn(batch, 4, generator=noise)
