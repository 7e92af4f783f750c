"""A gated recurrent unit whose hidden state is an argument (Cho et al. 2014, reset after product)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["GRU", "GRUState"]


@dataclass
class GRUState:
    """``hidden`` float32 [B, H]."""

    hidden: Tensor


class GRU(nn.Module):
    """One layer, [B, T, C] -> [B, T, H]; offline by torch's fused loop, streamed step by step."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.hidden = hidden

    def init_state(self, batch: int) -> GRUState:
        return GRUState(torch.zeros(batch, self.hidden))

    def advance(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Pure step for one time step: x [B, C], hidden [B, H] -> next hidden.

        r = σ(W_r x + U_r h),  z = σ(W_z x + U_z h),  n = tanh(W_n x + r ⊙ (U_n h)),
        h' = n + z ⊙ (h − n); written out so that any runtime can compile it.
        """
        input_weight, hidden_weight, input_bias, hidden_bias = self.gru.all_weights[0]
        gates_x = nn.functional.linear(x, input_weight, input_bias)
        gates_h = nn.functional.linear(hidden, hidden_weight, hidden_bias)
        reset_x, update_x, new_x = gates_x.chunk(3, dim=1)
        reset_h, update_h, new_h = gates_h.chunk(3, dim=1)
        reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + reset * new_h)
        return new + update * (hidden - new)

    def step(self, x: Tensor, state: GRUState) -> Tensor:
        """Continue a stream by T steps [B, T, C] -> [B, T, H]; ``state`` is updated in place."""
        outputs = []
        for t in range(x.shape[1]):
            state.hidden.copy_(self.advance(x[:, t], state.hidden))
            outputs.append(state.hidden.clone())
        return torch.stack(outputs, dim=1) if outputs else x.new_zeros(x.shape[0], 0, self.hidden)

    def reset(self, state: GRUState, rows: Tensor) -> None:
        state.hidden[rows] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return torch.as_tensor(y)
