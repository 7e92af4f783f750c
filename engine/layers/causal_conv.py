"""One-dimensional convolution that looks only back, with its past as an explicit state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["CausalConv1d", "ConvState"]


@dataclass
class ConvState:
    """``past`` float32 [B, C_in, kernel − stride]: inputs that later outputs still need."""

    past: Tensor


class CausalConv1d(nn.Module):
    """``y[t] = Σ_k w[k] x[t·stride + stride − kernel + k]``, missing past taken as zero.

    Output t depends on inputs up to (t + 1)·stride − 1 and nothing later. Takes [B, C_in, T·stride],
    returns [B, C_out, T]; ``kernel >= stride``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        if kernel < stride:
            raise ValueError(f"kernel {kernel} must be at least the stride {stride}, or input is skipped")
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride=stride)
        self.inputs = inputs
        self.context = kernel - stride

    def init_state(self, batch: int) -> ConvState:
        return ConvState(torch.zeros(batch, self.inputs, self.context))

    def advance(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Pure step: (x, past) -> (y, the past to pass next time)."""
        joined = torch.cat([past, x], dim=2)
        return self.conv(joined), joined[:, :, joined.shape[2] - self.context :]

    def step(self, x: Tensor, state: ConvState) -> Tensor:
        """Continue a stream by T·stride inputs; ``state`` is updated in place."""
        y, past = self.advance(x, state.past)
        state.past.copy_(past)
        return y

    def reset(self, state: ConvState, rows: Tensor) -> None:
        state.past[rows] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """The whole stream at once."""
        y: Tensor = self.conv(nn.functional.pad(x, (self.context, 0)))
        return y
