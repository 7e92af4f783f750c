"""The acoustic model: normalised log-mel frames to phone posteriors and a small hidden code.

A causal network that runs once per video frame (40 ms). Two strided causal convolutions bring the
100 Hz mel frames to 50 Hz, pairs of them are stacked to 25 Hz, and two gated recurrent layers with
a residual path carry the context. The frame it names lies one step back: step s has heard the mel
frames of video frame s, and its outputs describe frame s − 1 (two halves of 20 ms) and, already
without any future, frame s itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.encoders.phones import PHONES
from engine.layers.causal_conv import CausalConv1d
from engine.layers.recurrent import GRU
from engine.weights import load_weights
from kernels.logmel import MelSpec

__all__ = ["HALVES", "HIDDEN", "MEL", "AcousticModel", "AcousticState", "AcousticStep", "load_acoustic"]

MEL = MelSpec()
"""The spectrum the model hears: 64 bands, 25 ms windows every 10 ms."""

HIDDEN = 48
HALVES = 3
"""Posterior sets per step: first and second half of frame s − 1, and frame s as a whole."""


@dataclass
class AcousticState:
    """``past_a`` [B, bands, 4], ``past_b`` [B, 96, 1], ``hidden_a`` and ``hidden_b`` [B, width]."""

    past_a: Tensor
    past_b: Tensor
    hidden_a: Tensor
    hidden_b: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.past_a, self.past_b, self.hidden_a, self.hidden_b


class AcousticModel(nn.Module):
    """``bands`` mel bands in, ``HALVES`` × phones log-posteriors and ``HIDDEN`` code out."""

    def __init__(self, bands: int = 64, width: int = 320) -> None:
        super().__init__()
        self.bands, self.width = bands, width
        self.conv_a = CausalConv1d(bands, 96, kernel=5)
        self.conv_b = CausalConv1d(96, 128, kernel=3, stride=2)
        self.merge = nn.Linear(2 * 128, width)
        self.gru_a = GRU(width, width)
        self.gru_b = GRU(width, width)
        self.drop = nn.Dropout(0.1)
        self.norm = nn.LayerNorm(width)
        self.phones = nn.Linear(width, HALVES * len(PHONES))
        self.code = nn.Linear(width, HIDDEN)

    def init_state(self, batch: int) -> AcousticState:
        return AcousticState(
            self.conv_a.init_state(batch).past,
            self.conv_b.init_state(batch).past,
            self.gru_a.init_state(batch).hidden,
            self.gru_b.init_state(batch).hidden,
        )

    def _stack(self, mel: Tensor) -> Tensor:
        """conv_b's output [B, 128, 2T] -> [B, T, width]."""
        batch, channels, halves = mel.shape
        pairs = mel.transpose(1, 2).reshape(batch, halves // 2, 2 * channels)
        stacked: Tensor = nn.functional.gelu(self.merge(pairs))
        return stacked

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        logits = self.phones(x).unflatten(-1, (HALVES, len(PHONES)))
        return torch.log_softmax(logits, dim=-1), torch.tanh(self.code(x))

    def advance(
        self, mel: Tensor, past_a: Tensor, past_b: Tensor, hidden_a: Tensor, hidden_b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One step with its state as plain tensors, for a compiled runtime.

        mel [B, 4, bands] -> (log-posteriors [B, 3, P], code [B, 48], and the four new states).
        """
        x, past_a = self.conv_a.advance(mel.transpose(1, 2), past_a)
        x, past_b = self.conv_b.advance(nn.functional.gelu(x), past_b)
        stacked = self._stack(nn.functional.gelu(x))[:, 0]
        hidden_a = self.gru_a.advance(stacked, hidden_a)
        hidden_b = self.gru_b.advance(hidden_a + stacked, hidden_b)
        phones, code = self._heads(hidden_a + hidden_b)
        return phones, code, past_a, past_b, hidden_a, hidden_b

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The whole stream: mel [B, 4T, bands] -> log-posteriors [B, T, 3, P], code [B, T, 48]."""
        x = nn.functional.gelu(self.conv_a(mel.transpose(1, 2)))
        stacked = self.drop(self._stack(nn.functional.gelu(self.conv_b(x))))
        first = self.drop(self.gru_a(stacked))
        second = self.drop(self.gru_b(first + stacked))
        return self._heads(first + second)


class AcousticStep(nn.Module):
    """:meth:`AcousticModel.advance` as a module, for :func:`engine.runtime.compile`."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, mel: Tensor, past_a: Tensor, past_b: Tensor, hidden_a: Tensor, hidden_b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.model.advance(mel, past_a, past_b, hidden_a, hidden_b)


def load_acoustic(weights: str | Path = "ppg") -> AcousticModel:
    """The trained model, frozen, its sizes read from the weights.

    Raises:
        AssetError: the weights are missing or damaged.
    """
    tensors = {name: value.float() for name, value in load_weights(weights).items()}
    bands, width = tensors["conv_a.conv.weight"].shape[1], tensors["merge.bias"].shape[0]
    model = AcousticModel(bands, width)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)
