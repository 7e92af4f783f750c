"""Audio to phonetic posteriors and prosody, 25 frames a second with one frame of look-ahead.

VAST reads speech as phonetic posteriorgrams, which hardly depend on who speaks or in which
language (VAST §3.1); the frames, levels and pitch are :mod:`engine.encoders.listener`'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.encoders.acoustic import HIDDEN, MEL, AcousticStep, load_acoustic
from engine.encoders.listener import OWN, PROSODY, Heard, Listener, ListenerState, pool_bands
from engine.encoders.phones import PHONES, SILENCE
from engine.runtime import Runner, compile
from engine.types import Cond

__all__ = ["BANDS", "FEATURES", "PpgEncoder"]

BANDS = 20

FEATURES: tuple[str, ...] = (
    *PROSODY,  # its ``voice`` is the model and the detector together
    *(f"phoneA.{p}" for p in PHONES),     # posteriors of the first 20 ms of frame n
    *(f"phoneB.{p}" for p in PHONES),     # of its second 20 ms
    *(f"phoneNext.{p}" for p in PHONES),  # of frame n + 1, guessed without its future
    *(f"hidden.{k:02d}" for k in range(HIDDEN)),   # learned code, -1..1
    *(f"mel.{k:02d}" for k in range(BANDS)),       # frame n's spectrum, units of 20 dB re the voice's level
    *(f"melNext.{k:02d}" for k in range(BANDS)),   # frame n + 1's
)  # fmt: skip
"""Names of the columns of the :class:`~engine.types.FeatureChunk`, in order."""


class PpgEncoder(Listener):
    """The audio stage: :class:`AudioChunk` at 16 kHz to :class:`FeatureChunk` in :data:`FEATURES`.

    The network is so small that eager torch on one thread is as fast as any compiled runtime and
    starts at once, so that is the default ``backend``.

    Raises:
        AssetError: the weights are missing or damaged.
        BackendError: ``backend`` is named and cannot run here.
    """

    def __init__(self, backend: str = "eager", weights: str = "ppg") -> None:
        super().__init__("ppg", FEATURES, BANDS)
        self.model = load_acoustic(weights)
        self._backend = backend
        self._runners: dict[int, Runner] = {}

    def runner(self, batch: int) -> Runner:
        """The compiled network for ``batch`` rows; compiled on the first request."""
        if batch not in self._runners:
            example = (torch.zeros(batch, 4, MEL.bands), *self.fresh_network(batch))
            self._runners[batch] = compile(AcousticStep(self.model), example, self._backend)
        return self._runners[batch]

    def init_state(self, batch: int, cond: Cond) -> ListenerState:
        self.runner(batch)
        return super().init_state(batch, cond)

    def fresh_network(self, batch: int) -> tuple[Tensor, ...]:
        return self.model.init_state(batch).tensors()

    def advance(self, mel: Tensor, network: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs = self.runner(mel.shape[0])(mel, *network)
        for value, new in zip(network, outputs[2:], strict=True):
            value.copy_(new)
        return outputs[0], outputs[1]

    def whole(self, mel: Tensor) -> tuple[Tensor, ...]:
        log_posteriors, code = self.model(mel)
        return log_posteriors, code

    def summary(self, mel: Tensor) -> Tensor:
        return pool_bands(mel.mean(-2), BANDS)

    def arrange(self, heard: Heard, outputs: tuple[Tensor, ...]) -> Tensor:
        log_posteriors, code = outputs
        gate = heard.late[..., 3:4].unsqueeze(-1)
        posteriors = gate * log_posteriors.exp()
        posteriors[..., SILENCE] += 1.0 - gate[..., 0]
        speech = 1.0 - posteriors[..., :2, SILENCE].mean(-1, keepdim=True)
        voice = speech * (0.6 + 0.4 * heard.late[..., 2:3])
        scalars = len(OWN)
        return torch.cat(
            [
                heard.own[..., :scalars],
                heard.late[..., :3],
                voice,
                posteriors.flatten(-2),
                code,
                heard.own[..., scalars:],
                heard.following[..., scalars:],
            ],
            dim=-1,
        )
