"""Stage 2 of the expression: eyes and brows over time, and when to blink.

(h_t, Δω_t) = LSTM(h_{t−1}, Φ_a(a_t) ⊕ ω_0 ⊕ z_t), f̂_t = MLP(ω_0 + Δω_t) (GoHD, eqs. 6 and 7), ω_0 the
embedded eye feature of the portrait. The paper draws z once for twelve seconds; a session has no end,
so z wanders slowly instead. Blinks are events: the same memory and the time since the last blink give
the chance that one begins in this frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.samplers.gohd.lips import EYE_FEATURES

__all__ = ["NOISES", "Z_RATES_HZ", "EyeStage", "EyeState", "age_features"]

NOISES = 8
"""Size of z."""
Z_RATES_HZ = (0.2, 0.2, 0.5, 0.5, 1.0, 1.0, 1.8, 1.8)
"""How fast each of z's numbers wanders: moods, glances, twitches."""
_AGES = 5
_FOLLOW = 0.25


@dataclass
class EyeState:
    """LSTM memory ``hidden`` and ``cell`` [B, H]; ``slow`` [B, A] what was heard of late."""

    hidden: Tensor
    cell: Tensor
    slow: Tensor


class EyeStage(nn.Module):
    """Φ_a [B, T, A], z [B, T, 8] and the portrait's own eye feature [B, 21] to eye features relative to
    rest [B, T, 21], and the memory [B, T, H] that :meth:`blink_logit` reads.

    ``transformer`` replaces the LSTM by causal self-attention of the same width (the paper's "full
    transformer"); it has no stream.
    """

    def __init__(self, heard: int, hidden: int = 64, transformer: bool = False) -> None:
        super().__init__()
        self.heard, self.hidden = heard, hidden
        inputs = heard + 16 + NOISES
        self.embed = nn.Linear(EYE_FEATURES, 16)
        self.memory = None if transformer else nn.LSTM(inputs, hidden, batch_first=True)
        self.attention = _CausalAttention(inputs, hidden) if transformer else None
        self.change = nn.Linear(hidden, 16)
        self.decode = nn.Sequential(nn.Linear(16, 48), nn.GELU(), nn.Linear(48, EYE_FEATURES))
        self.hazard = nn.Sequential(nn.Linear(hidden + _AGES, 24), nn.GELU(), nn.Linear(24, 1))

    def init_state(self, batch: int) -> EyeState:
        zero = torch.zeros(batch, self.hidden)
        return EyeState(zero, zero.clone(), torch.zeros(batch, self.heard))

    def forward(self, heard: Tensor, noise: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        eyes, memory, _ = self.continued(heard, noise, rest, self.init_state(len(heard)))
        return eyes, memory

    def continued(
        self, heard: Tensor, noise: Tensor, rest: Tensor, state: EyeState
    ) -> tuple[Tensor, Tensor, EyeState]:
        """A stream's next frames: eye features, memory, and the state after them."""
        start = self.embed(rest)[:, None].expand(-1, heard.shape[1], -1)
        slow = _late(heard, state.slow)
        joined = torch.cat([slow, start, noise], dim=-1)
        if self.memory is not None:
            memory, (hidden, cell) = self.memory(joined, (state.hidden[None], state.cell[None]))
            state = EyeState(hidden[0], cell[0], slow[:, -1])
        elif self.attention is not None:
            memory = self.attention(joined)
        moved = self.decode(start + self.change(memory))
        # Rest is where nothing has changed: the decoder's own answer to it is taken off.
        return moved - self.decode(start[:, :1]), memory, state

    def blink_logit(self, memory: Tensor, age_s: Tensor) -> Tensor:
        """Log-odds that a blink begins in this frame [B, T]; ``age_s`` [B, T] since the last began."""
        return torch.as_tensor(self.hazard(torch.cat([memory, age_features(age_s)], dim=-1)).squeeze(-1))


def _late(heard: Tensor, before: Tensor) -> Tensor:
    """``heard`` [B, T, A] as a running mean over about 150 ms: sounds flicker, brows do not."""
    frames = []
    for frame in heard.unbind(1):
        before = before + _FOLLOW * (frame - before)
        frames.append(before)
    return torch.stack(frames, dim=1)


def age_features(age_s: Tensor) -> Tensor:
    """Time since the last blink began (s) on several scales, [..., 5]."""
    scales = torch.tensor([0.3, 0.8, 2.0, 4.0, 8.0], dtype=age_s.dtype)
    return 1.0 - torch.exp(-age_s.unsqueeze(-1) / scales)


class _CausalAttention(nn.Module):
    """One pre-norm transformer layer over the past 100 frames."""

    reach = 100

    def __init__(self, inputs: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(inputs, width)
        self.norm, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, length, width = x.shape
        age = torch.arange(length)[:, None] - torch.arange(length)[None]
        slope = 2.0 ** -torch.arange(1.0, self.heads + 1)[:, None, None]
        bias = (-0.2 * slope * age).masked_fill((age < 0) | (age >= self.reach), -torch.inf)
        split = self.attend(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        heard = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=bias)
        x = x + self.attended(heard.transpose(1, 2).reshape(batch, length, width))
        return torch.as_tensor(x + self.feed(self.norm_2(x)))
