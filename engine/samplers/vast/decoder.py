"""VAST's hybrid decoder: lips by a transformer, the upper face by an autoregressive LSTM.

Chen et al., "VAST: Vivify your talking avatar via zero-shot expressive facial style transfer", 2023,
§3.3. The paper's decoder hears the whole utterance; here the transformer sees a bounded past and at
most one frame of future, and the LSTM draws from a distribution, for one voice has many faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.layers.attention import AttentionState, TransformerLayer
from engine.samplers.factors import UPPER
from engine.samplers.lips import LipRange
from engine.samplers.vast.columns import split_columns
from engine.samplers.visemes import LIP_CHANNELS

__all__ = ["WEAK", "StrongConfig", "StrongDecoder", "StrongState", "WeakConfig", "WeakDecoder", "WeakState"]


@dataclass(frozen=True)
class StrongConfig:
    """Sizes of a :class:`StrongDecoder`; ``features`` counts the columns it takes, ``past`` and
    ``ahead`` the frames it sees besides the present one."""

    features: int
    style: int = 16
    width: int = 64
    heads: int = 4
    layers: int = 2
    past: int = 24
    ahead: int = 1
    dropout: float = 0.1


@dataclass
class StrongState:
    """The attention caches of both layers, first layer first."""

    first: AttentionState
    second: AttentionState


class StrongDecoder(nn.Module):
    """Features [B, T, F] ⊕ style [B, S] to lip channels [B, T, 15] (eq. 4), not autoregressive.

    1. take the columns it was trained on, normalise them, limit them to ±5;
    2. mix by a linear layer with GELU, add the style's direction (zero for the neutral style);
    3. two transformer layers; only the first one looks ahead;
    4. project what they carried and the mixed input to channels, through
       :class:`~engine.samplers.lips.LipRange`.
    """

    columns: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: StrongConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("columns", torch.arange(config.features))
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))
        self.range = LipRange()
        self.mix = nn.Linear(config.features, config.width)
        self.style = nn.Linear(config.style, config.width, bias=False)
        nn.init.zeros_(self.style.weight)
        sizes = (config.width, config.heads, config.past)
        self.first = TransformerLayer(*sizes, ahead=config.ahead, dropout=config.dropout)
        self.second = TransformerLayer(*sizes, dropout=config.dropout)
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(2 * config.width, len(LIP_CHANNELS))

    def init_state(self, batch: int) -> StrongState:
        return StrongState(self.first.init_state(batch), self.second.init_state(batch))

    def logits(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """Channels before their range [B, T, C] of whole windows; ``style`` [B, S], None is neutral."""
        return torch.as_tensor(self.out(self.carried(x, style)))

    def carried(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """What the layers make of whole windows, beside the mixed input [B, T, 2 D]."""
        mixed = self._mixed(x, style)
        return self._join(self.second(self.first(mixed)), mixed)

    def carry(self, window: Tensor, style: Tensor, state: StrongState) -> Tensor:
        """The same [B, 2 D] of one frame; ``window`` [B, 1 + ahead, F]: it and the frames after it."""
        mixed = self._mixed(window, style)
        carried = self.second.step(self.first.step(mixed, state.first)[:, None], state.second)
        return self._join(carried, mixed[:, 0])

    def channels(self, carried: Tensor) -> Tensor:
        """Lip channels [..., C] in 0..1."""
        return torch.as_tensor(self.range(self.out(carried)))

    def heard(self, x: Tensor) -> Tensor:
        """The columns it takes, normalised [..., F]."""
        return ((x[..., self.columns] - self.mean) / self.deviation).clamp(-5.0, 5.0)

    def _mixed(self, x: Tensor, style: Tensor | None) -> Tensor:
        mixed = nn.functional.gelu(self.mix(self.heard(x)))
        return mixed if style is None else mixed + self.style(style)[:, None]

    def _join(self, carried: Tensor, mixed: Tensor) -> Tensor:
        return torch.cat([self.norm(carried), mixed], dim=-1)


WEAK: list[int] = [column for column in UPPER if column in split_columns()[1]]
"""Columns of the weak decoder: brows, squint and wide lids. (Blinks and gaze, weak as well, stay with the
models of human behaviour that every sampler shares: their statistics are people's.)"""


@dataclass(frozen=True)
class WeakConfig:
    """Sizes of a :class:`WeakDecoder`; ``features`` counts the columns it hears."""

    features: int
    style: int = 16
    heard: int = 16
    hidden: int = 64
    past_dropout: float = 0.2
    heard_dropout: float = 0.5


@dataclass
class WeakState:
    """``hidden`` and ``cell`` [B, H] of the LSTM, ``last`` [B, 9]: what was drawn the frame before, in
    deviations from the training people's mean."""

    hidden: Tensor
    cell: Tensor
    last: Tensor


class WeakDecoder(nn.Module):
    """The upper face from its own past (eq. 3): x_t ~ N(a ⊙ x_(t−1) + W h_t, σ(h_t)²).

    The paper's LSTM gives one face a voice; drawing from what it believes keeps the variance of
    people, whose brows no voice decides. ``a`` in (0, 1) keeps long streams from drifting away.
    ``mean`` is what the average talker holds above a face at rest.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: WeakConfig) -> None:
        super().__init__()
        self.config = config
        size = len(WEAK)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.hear = nn.Linear(config.features, config.heard)
        self.memory = nn.LSTM(size + config.heard + config.style, config.hidden, batch_first=True)
        self.keep = nn.Parameter(torch.full((size,), 1.5))
        self.offset = nn.Linear(config.hidden + config.style, size)
        self.spread = nn.Linear(config.hidden + config.style, size)
        nn.init.constant_(self.spread.bias, -1.5)

    def init_state(self, batch: int) -> WeakState:
        def zeros(size: int) -> Tensor:
            return torch.zeros(batch, size)

        return WeakState(zeros(self.config.hidden), zeros(self.config.hidden), zeros(len(WEAK)))

    def believe(self, past: Tensor, heard: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation [B, T, 9] of each frame, given all frames before it.

        ``past`` [B, T, 9]: the frame before each; ``heard`` [B, T, F] normalised features, masked by
        dropout in training, as is the past: neither is to be followed slavishly.
        """
        config, along = self.config, style[:, None].expand(-1, past.shape[1], -1)
        seen = nn.functional.dropout(past, config.past_dropout, self.training)
        ears = nn.functional.dropout(heard, config.heard_dropout, self.training)
        ears = nn.functional.gelu(self.hear(ears))
        hidden, _ = self.memory(torch.cat([seen, ears, along], dim=-1))
        return self._heads(past, torch.cat([hidden, along], dim=-1))

    def step(self, heard: Tensor, style: Tensor, noise: Tensor, state: WeakState) -> Tensor:
        """One frame [B, 9] in units of the motion space; ``heard`` [B, F], ``noise`` [B, 9] ~ N(0, I)."""
        ears = nn.functional.gelu(self.hear(heard))
        x = torch.cat([state.last, ears, style], dim=-1)
        hidden, cell = self._advance(x, state.hidden, state.cell)
        mean, spread = self._heads(state.last, torch.cat([hidden, style], dim=-1))
        state.hidden.copy_(hidden)
        state.cell.copy_(cell)
        state.last.copy_((mean + spread.exp() * noise).clamp(-4.0, 4.0))
        return self.mean + state.last * self.deviation

    def level(self, mean: Tensor, past: Tensor) -> Tensor:
        """Where the face is drawn to [B, T, 9], from what :meth:`believe` said of ``past``."""
        keep = torch.sigmoid(self.keep)
        return (mean - keep * past) / (1.0 - keep)

    def _advance(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        w_x, w_h, b_x, b_h = self.memory.all_weights[0]
        gates = nn.functional.linear(x, w_x, b_x) + nn.functional.linear(hidden, w_h, b_h)
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(cell), cell

    def _heads(self, past: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        keep = torch.sigmoid(self.keep)
        mean = keep * past + (1.0 - keep) * self.offset(carried)
        return mean, self.spread(carried).clamp(-5.0, 0.5)
