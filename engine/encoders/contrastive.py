"""Audio to a 500-d lip code and prosody, 25 frames a second, one frame of look-ahead.

PD-FGC's audio encoder (§3.2, eq. 2 and 3): what a voice says about lips is what it shares with their
motion, so the code is learned by telling the synchronised motion from other moments of the same clip
(:mod:`engine.train.contrastive`). The published one is a ResNetSE34 over 0.2 s; this one is causal
and streams.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.encoders.acoustic import MEL
from engine.encoders.listener import OWN, PROSODY, Heard, Listener, ListenerState, voice_of
from engine.layers.causal_conv import CausalConv1d
from engine.layers.recurrent import GRU
from engine.runtime import Runner, compile
from engine.types import Cond
from engine.weights import load_weights

__all__ = ["CODE", "FEATURES", "ContrastiveEncoder", "LipCodeModel", "load_lip_code"]

CODE = 500
"""Width of the lip code, as published (§4.1)."""

FEATURES: tuple[str, ...] = (
    *PROSODY,
    *(f"code.{k:03d}" for k in range(CODE)),  # on a sphere of radius √500: each column about −2..2
)
"""Names of the columns of the :class:`~engine.types.FeatureChunk`, in order."""


class LipCodeModel(nn.Module):
    """Normalised mel to a lip code of length √:data:`CODE`; step s describes video frame s − 1."""

    def __init__(self, bands: int = MEL.bands, width: int = 320) -> None:
        super().__init__()
        self.conv_a = CausalConv1d(bands, 96, kernel=5)
        self.conv_b = CausalConv1d(96, 128, kernel=3, stride=2)
        self.merge = nn.Linear(2 * 128, width)
        self.gru = GRU(width, width)
        self.drop = nn.Dropout(0.1)
        self.norm = nn.LayerNorm(width)
        self.code = nn.Linear(width, CODE)

    def init_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Past of both convolutions and the hidden state, all zero."""
        pasts = (self.conv_a.init_state(batch).past, self.conv_b.init_state(batch).past)
        return *pasts, self.gru.init_state(batch).hidden

    def _stack(self, halves: Tensor) -> Tensor:
        """conv_b's output [B, 128, 2T] -> [B, T, width]."""
        pairs = nn.functional.gelu(halves).transpose(1, 2)
        pairs = pairs.reshape(halves.shape[0], halves.shape[2] // 2, 2 * halves.shape[1])
        stacked: Tensor = nn.functional.gelu(self.merge(pairs))
        return stacked

    def _head(self, x: Tensor) -> Tensor:
        code: Tensor = CODE**0.5 * nn.functional.normalize(self.code(self.norm(x)), dim=-1)
        return code

    def advance(
        self, mel: Tensor, past_a: Tensor, past_b: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step with its state as plain tensors: mel [B, 4, bands] -> code [B, 500], new states."""
        x, past_a = self.conv_a.advance(mel.transpose(1, 2), past_a)
        x, past_b = self.conv_b.advance(nn.functional.gelu(x), past_b)
        stacked = self._stack(x)[:, 0]
        hidden = self.gru.advance(stacked, hidden)
        return self._head(hidden + stacked), past_a, past_b, hidden

    def forward(self, mel: Tensor) -> Tensor:
        """The whole stream: mel [B, 4T, bands] -> code [B, T, 500]."""
        x = nn.functional.gelu(self.conv_a(mel.transpose(1, 2)))
        stacked = self.drop(self._stack(self.conv_b(x)))
        return self._head(self.drop(self.gru(stacked)) + stacked)


class _Step(nn.Module):
    """:meth:`LipCodeModel.advance` as a module, for :func:`engine.runtime.compile`."""

    def __init__(self, model: LipCodeModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, mel: Tensor, past_a: Tensor, past_b: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.model.advance(mel, past_a, past_b, hidden)


def load_lip_code(weights: str | Path = "contrastive") -> LipCodeModel:
    """The trained model, frozen.

    Raises:
        AssetError: the weights are missing or damaged.
    """
    prefix = "audio."
    tensors = {
        name.removeprefix(prefix): value.float()
        for name, value in load_weights(weights).items()
        if name.startswith(prefix)
    }
    model = LipCodeModel(tensors["conv_a.conv.weight"].shape[1], tensors["merge.bias"].shape[0])
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


class ContrastiveEncoder(Listener):
    """The audio stage: :class:`AudioChunk` at 16 kHz to :class:`FeatureChunk` in :data:`FEATURES`.

    Raises:
        AssetError: the weights are missing or damaged.
        BackendError: ``backend`` is named and cannot run here.
    """

    def __init__(self, backend: str = "eager", weights: str | Path = "contrastive") -> None:
        super().__init__("contrastive", FEATURES, 0)
        self.model = load_lip_code(weights)
        self._backend = backend
        self._runners: dict[int, Runner] = {}

    def runner(self, batch: int) -> Runner:
        """The compiled network for ``batch`` rows; compiled on the first request."""
        if batch not in self._runners:
            example = (torch.zeros(batch, 4, MEL.bands), *self.fresh_network(batch))
            self._runners[batch] = compile(_Step(self.model), example, self._backend)
        return self._runners[batch]

    def init_state(self, batch: int, cond: Cond) -> ListenerState:
        self.runner(batch)
        return super().init_state(batch, cond)

    def fresh_network(self, batch: int) -> tuple[Tensor, ...]:
        return self.model.init_state(batch)

    def advance(self, mel: Tensor, network: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        code, *new = self.runner(mel.shape[0])(mel, *network)
        for value, after in zip(network, new, strict=True):
            value.copy_(after)
        return (code,)

    def whole(self, mel: Tensor) -> tuple[Tensor, ...]:
        return (self.model(mel),)

    def summary(self, mel: Tensor) -> Tensor:
        return mel.new_zeros(mel.shape[0], 0)

    def arrange(self, heard: Heard, outputs: tuple[Tensor, ...]) -> Tensor:
        parts = [heard.own[..., : len(OWN)], heard.late[..., :3], voice_of(heard), outputs[0]]
        return torch.cat(parts, dim=-1)
