"""Multi-head attention over a band of frames, with its past as an explicit state.

Frame t sees frames t − past .. t + ahead and nothing else, so that a stream needs a bounded memory and
waits for a bounded future. Positions enter as a learned bias per head and distance (Shaw, Uszkoreit,
Vaswani, "Self-attention with relative position representations", 2018; here the bias of T5), never as
absolute frame numbers: a stream may begin at any frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["AttentionState", "BandAttention", "TransformerLayer"]

_BLOCK = 256
"""Frames attended at once offline: memory grows with the block, not with the stream."""


@dataclass
class AttentionState:
    """``keys`` and ``values`` float32 [B, past, D] of the latest frames, oldest first; ``filled`` int64
    [B] counts those that a stream has really seen."""

    keys: Tensor
    values: Tensor
    filled: Tensor


class BandAttention(nn.Module):
    """[B, T, D] -> [B, T, D]; softmax(Q Kᵀ / √d + bias[distance]) V within the band (Vaswani et al., 2017).

    Args:
        width: D, a multiple of ``heads``.
        heads: each has D / heads columns and its own bias.
        past: frames before the present one that are seen.
        ahead: frames after it.
    """

    def __init__(self, width: int, heads: int, past: int, ahead: int = 0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads, self.past, self.ahead = heads, past, ahead
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        # Heads start with different reaches (Press, Smith, Lewis, "Train short, test long", 2022).
        slope = 2.0 ** -torch.arange(1, heads + 1).float()
        distance = torch.arange(-past, ahead + 1).abs().float()
        self.bias = nn.Parameter(-slope[:, None] * distance[None])

    def init_state(self, batch: int) -> AttentionState:
        zeros = torch.zeros(batch, self.past, self.query.in_features)
        return AttentionState(zeros, zeros.clone(), torch.zeros(batch, dtype=torch.int64))

    def step(self, window: Tensor, state: AttentionState) -> Tensor:
        """One frame [B, D] of ``window`` [B, 1 + ahead, D]: the frame and those after it.

        The frame joins the past; its future is looked at and not kept.
        """
        keys, values = self.key_value(window).chunk(2, dim=-1)
        seen_keys = torch.cat([state.keys, keys], dim=1)
        seen_values = torch.cat([state.values, values], dim=1)
        age = torch.arange(self.past, 0, -1)
        known = torch.ones(window.shape[0], self.past + window.shape[1], dtype=torch.bool)
        known[:, : self.past] = age <= state.filled[:, None]
        mixed = self._mix(
            self.query(window[:, :1]), seen_keys, seen_values, self.bias[:, None], known[:, None]
        )
        state.keys.copy_(seen_keys[:, 1 : self.past + 1])
        state.values.copy_(seen_values[:, 1 : self.past + 1])
        state.filled.add_(1).clamp_(max=self.past)
        return mixed[:, 0]

    def reset(self, state: AttentionState, rows: Tensor) -> None:
        state.keys[rows] = 0.0
        state.values[rows] = 0.0
        state.filled[rows] = 0

    def forward(self, x: Tensor) -> Tensor:
        """The whole stream at once; frames beyond its ends are not attended."""
        frames = x.shape[1]
        queries = self.query(x)
        keys, values = self.key_value(x).chunk(2, dim=-1)
        parts = []
        for start in range(0, frames, _BLOCK):
            stop = min(frames, start + _BLOCK)
            first, last = max(0, start - self.past), min(frames, stop + self.ahead)
            distance = torch.arange(first, last)[None] - torch.arange(start, stop)[:, None]
            inside = (distance >= -self.past) & (distance <= self.ahead)
            bias = self.bias[:, (distance + self.past).clamp(0, self.past + self.ahead)]
            part = slice(first, last)
            parts.append(self._mix(queries[:, start:stop], keys[:, part], values[:, part], bias, inside))
        return torch.cat(parts, dim=1)

    def _mix(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, seen: Tensor) -> Tensor:
        """Queries [B, Q, D] over K keys; ``bias`` [H, Q, K], ``seen`` bool [Q, K] or [B, Q, K]."""
        batch, count, width = queries.shape
        size = width // self.heads

        def split(part: Tensor) -> Tensor:
            return part.reshape(batch, -1, self.heads, size).transpose(1, 2)

        scores = split(queries) @ split(keys).transpose(2, 3) / size**0.5 + bias
        scores = scores.masked_fill(~seen if seen.dim() == 2 else ~seen[:, None], -torch.inf)
        mixed = torch.softmax(scores, dim=-1) @ split(values)
        return torch.as_tensor(self.out(mixed.transpose(1, 2).reshape(batch, count, width)))


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each added to its normalised input (Xiong et al., 2020)."""

    def __init__(
        self, width: int, heads: int, past: int, ahead: int = 0, growth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = BandAttention(width, heads, past, ahead)
        self.before = nn.LayerNorm(width)
        self.between = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, growth * width), nn.GELU(), nn.Linear(growth * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def init_state(self, batch: int) -> AttentionState:
        return self.attention.init_state(batch)

    def step(self, window: Tensor, state: AttentionState) -> Tensor:
        """One frame [B, D] of ``window`` [B, 1 + ahead, D]."""
        x = window[:, 0] + self.attention.step(self.before(window), state)
        return torch.as_tensor(x + self.feed(self.between(x)))

    def reset(self, state: AttentionState, rows: Tensor) -> None:
        self.attention.reset(state, rows)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.before(x)))
        return torch.as_tensor(x + self.dropout(self.feed(self.between(x))))
