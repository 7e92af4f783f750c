"""A conformer block: attention inside convolutions (Gulati et al., "Conformer", Interspeech 2020).

Half a feed-forward, self-attention, a gated dilated depthwise convolution, the other half; every part
adds to its input. Works on whole windows [B, N, C]; both attention and convolution look both ways, so
a caller that streams decides what the window holds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Conformer"]


class Conformer(nn.Module):
    """[B, N, C] to [B, N, C].

    Args:
        channels: C, a multiple of ``heads``.
        heads: of the attention.
        kernel: odd, of the depthwise convolution.
        dilation: of the same.
        attention: False leaves the attention out (the ablation of GoHD's Table 7).
    """

    def __init__(
        self, channels: int, heads: int = 4, kernel: int = 5, dilation: int = 1, attention: bool = True
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or channels % heads:
            raise ValueError(f"kernel {kernel} must be odd and {channels} channels a multiple of {heads}")
        self.heads = heads
        self.before = _FeedForward(channels)
        self.attend_norm = nn.LayerNorm(channels) if attention else None
        self.attend = nn.Linear(channels, 3 * channels) if attention else None
        self.attended = nn.Linear(channels, channels) if attention else None
        self.mix_norm = nn.LayerNorm(channels)
        self.gate = nn.Linear(channels, 2 * channels)
        self.dilation = dilation
        self.taps = nn.Parameter(torch.empty(kernel, channels).uniform_(-1, 1) / kernel**0.5)
        self.offset = nn.Parameter(torch.zeros(channels))
        self.mixed = nn.Linear(channels, channels)
        self.after = _FeedForward(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.before(x)
        if self.attend_norm is not None and self.attend is not None and self.attended is not None:
            x = x + self.attended(self._attention(self.attend(self.attend_norm(x))))
        gated = functional.glu(self.gate(self.mix_norm(x)), dim=-1)
        x = x + self.mixed(functional.silu(self._near(gated)))
        x = x + 0.5 * self.after(x)
        return torch.as_tensor(self.norm(x))

    def _near(self, x: Tensor) -> Tensor:
        """The depthwise convolution as shifted products: for windows this small a tenth of the cost of
        the general routine."""
        length, kernel = x.shape[1], len(self.taps)
        pad = self.dilation * (kernel - 1) // 2
        padded = functional.pad(x, (0, 0, pad, pad))
        total = self.offset + padded[:, :length] * self.taps[0]
        for k in range(1, kernel):
            start = k * self.dilation
            total = torch.addcmul(total, padded[:, start : start + length], self.taps[k])
        return total

    def _attention(self, joined: Tensor) -> Tensor:
        batch, length, width = joined.shape
        split = joined.view(batch, length, 3, self.heads, width // (3 * self.heads)).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(split[0], split[1], split[2])
        return heard.transpose(1, 2).reshape(batch, length, width // 3)


class _FeedForward(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.SiLU(),
            nn.Linear(2 * channels, channels),
        )
