"""Head pose by conditional diffusion in short steps that never stop.

GoHD denoises Δp_{1:T} = p_{1:T} − p_0 from a whole clip's audio. A live voice has no clip: here the
window slides. It holds the poses already delivered and the next W frames, noisier the farther ahead
(:mod:`engine.layers.diffusion`); every second frame it comes down one of K levels, two clean
frames leave and two frames of pure noise enter. p_0 is the last delivered pose. Two networks are mixed
as in the paper, ε = γ ε(x, a ⊕ p_0) + (1 − γ) ε(x, a): one knows where the portrait's rest is, the
other does not. One network runs on even frames, the other on odd ones, so no frame pays for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.layers.conformer import Conformer
from engine.layers.diffusion import Levels, guided
from engine.samplers.noise import Floats, Seeds, normals
from engine.samplers.rows import spring

__all__ = [
    "AHEAD",
    "BLOCK",
    "PAST",
    "STEPS",
    "PoseDenoiser",
    "PoseGenerator",
    "PoseState",
    "pose_audio",
    "pose_audio_size",
    "window_levels",
]

STEPS = 4
"""Denoising steps behind every delivered frame."""
BLOCK = 2
"""Frames that leave the window together."""
AHEAD = STEPS * BLOCK
PAST = 40
"""Delivered poses the window remembers (1.6 s)."""
GUIDANCE = 0.4
_STREAM = 3_000
_SPRING, _DT = 50.0, 0.04
_BANDS = 8


def window_levels() -> Tensor:
    """Noise level of each of the :data:`AHEAD` frames, int64: 1 1 2 2 3 3 4 4."""
    return torch.arange(AHEAD) // BLOCK + 1


def pose_audio_size() -> int:
    return 8 + _BANDS


def pose_audio(x: Tensor, prosody: list[int], bands: list[int]) -> Tensor:
    """What of the features [..., F] moves a head: the prosody columns and the spectrum in 8 broad bands.

    ``bands`` are the columns of the frame's log-mel, halves times 40.
    """
    halves = x[..., bands].reshape(*x.shape[:-1], 2, _BANDS, len(bands) // (2 * _BANDS))
    return torch.cat([x[..., prosody], halves.mean(dim=(-3, -1))], dim=-1)


class PoseDenoiser(nn.Module):
    """(x_n, a, p_0, n) to the velocity of the window's future frames.

    Residual blocks as in DiffWave (Kong et al., 2021): the level is added, two conformers look over the
    window, audio comes in before a gate, one half goes on, the other to the output.

    Args:
        knows_rest: condition on p_0 (relative to the portrait's rest).
        attention: False for the ablation.
    """

    def __init__(
        self, knows_rest: bool, width: int = 48, blocks: int = 2, kernel: int = 5, attention: bool = True
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(6, width)
        self.place = nn.Parameter(0.02 * torch.randn(PAST + AHEAD, width))
        self.level = nn.Embedding(STEPS + 1, width)
        self.audio = nn.Sequential(nn.Linear(pose_audio_size() + 1, width), nn.GELU())
        self.rest = nn.Linear(6, width) if knows_rest else None
        self.blocks = nn.ModuleList(_Block(width, kernel, k, attention) for k in range(blocks))
        self.leave = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 6)
        )
        levels = torch.cat([torch.zeros(PAST, dtype=torch.long), window_levels()])
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, x: Tensor, audio: Tensor, rest: Tensor) -> Tensor:
        """``x`` [B, N, 6] past (clean) and future (noisy) relative to p_0, in deviations;
        ``audio`` [B, N, A + 1], the last column 1 where it is known; ``rest`` [B, 6] is p_0.
        Returns [B, AHEAD, 6]."""
        step = self.level(self.levels) + self.place
        if self.rest is not None:
            step = step + self.rest(rest)[:, None]
        h = self.enter(x)
        heard = self.audio(audio)
        total = torch.zeros_like(h)
        for block in self.blocks:
            h, skip = block(h + step, heard)
            total = total + skip
        return torch.as_tensor(self.leave(total[:, PAST:]))


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int, depth: int, attention: bool) -> None:
        super().__init__()
        self.first = Conformer(width, 4, kernel, 1 + depth, attention)
        self.second = Conformer(width, 4, kernel, 2 * (1 + depth), attention)
        self.heard = nn.Linear(width, 2 * width)
        self.split = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        h = self.second(self.first(x))
        left, right = (self.split(h) + self.heard(heard)).chunk(2, dim=-1)
        on, skip = self.out(torch.tanh(left) * torch.sigmoid(right)).chunk(2, dim=-1)
        return (x + on) * 0.70710678, skip


@dataclass
class PoseState:
    """One batch of heads; poses in deviations of the training data.

    ``past`` [B, PAST, 6] delivered poses relative to rest; ``future`` [B, AHEAD, 6] noisy ones relative
    to the last of ``past``; ``audio`` [B, PAST + 1, A]; ``due`` [B, 6] the clean frame that waits;
    ``guess`` [B, AHEAD, 6] of the network that knows rest, valid where ``guessed`` [B] is 1;
    ``begun`` [B] is 0 before the first frame; ``shown`` and ``speed`` [B, 6] follow in real units.
    """

    past: Tensor
    future: Tensor
    audio: Tensor
    due: Tensor
    guess: Tensor
    guessed: Tensor
    begun: Tensor
    shown: Floats
    speed: Floats


class PoseGenerator(nn.Module):
    """The two networks and the numbers that bring their poses back to real units.

    ``deviation`` [6] of training poses (rad, inter-ocular distances); ``gain`` [6] restores the spread of
    real heads and ``temperature`` the deviation of the noise that enters, which restores their speed (few
    steps narrow both); ``limit`` [6] bounds what leaves; ``pull`` is the share
    of the way to rest each block is drawn, against drift over minutes.
    """

    window: Tensor
    deviation: Tensor
    gain: Tensor
    temperature: Tensor
    limit: Tensor
    pull: Tensor
    audio_mean: Tensor
    audio_deviation: Tensor

    def __init__(self, width: int = 48, attention: bool = True) -> None:
        super().__init__()
        self.knowing = PoseDenoiser(True, width, attention=attention)
        self.free = PoseDenoiser(False, width, attention=attention)
        self.schedule = Levels(STEPS)
        self.register_buffer("window", window_levels(), persistent=False)
        self.register_buffer("deviation", torch.ones(6))
        self.register_buffer("gain", torch.ones(6))
        self.register_buffer("temperature", torch.ones(1))
        self.register_buffer("limit", torch.tensor([0.26, 0.26, 0.26, 0.3, 0.2, 0.3]))
        self.register_buffer("pull", torch.full((1,), 0.01))
        self.register_buffer("audio_mean", torch.zeros(pose_audio_size()))
        self.register_buffer("audio_deviation", torch.ones(pose_audio_size()))

    def init_state(self, batch: int) -> PoseState:
        def zero(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape)

        return PoseState(
            past=zero(PAST, 6),
            future=zero(AHEAD, 6),
            audio=zero(PAST + 1, pose_audio_size() + 1),
            due=zero(6),
            guess=zero(AHEAD, 6),
            guessed=zero(),
            begun=zero(),
            shown=np.zeros((batch, 6)),
            speed=np.zeros((batch, 6)),
        )

    def step(
        self, heard: Tensor, seed: Seeds, frame: int, state: PoseState, lively: Floats | float = 1.0
    ) -> Floats:
        """The pose of ``frame`` relative to rest, float64 [B, 6]; ``heard`` [B, A] is its
        :func:`pose_audio`, unnormalised. ``lively`` [B] scales the noise that enters: who listens moves
        less. ``state`` changes in place."""
        self._hear(heard, state)
        if frame % BLOCK == 0:
            pose = state.due
            self._append(state.past, pose[:, None])
            self._begin(seed, frame + 1, state)
            state.guess.copy_(self.knowing(*self._inputs(state, known=0)))
            state.guessed.fill_(1.0)
            return self._real(pose, state)
        self._begin(seed, frame, state)
        free = self.free(*self._inputs(state, known=1))
        velocity = guided(
            free=free, conditional=state.guess, strength=GUIDANCE * state.guessed[:, None, None]
        )
        return self._real(self._advance(velocity, seed, frame, state, lively), state)

    def _hear(self, heard: Tensor, state: PoseState) -> None:
        normal = ((heard - self.audio_mean) / self.audio_deviation).clamp(-4.0, 4.0)
        known = functional.pad(normal, (0, 1), value=1.0)
        self._append(state.audio, known[:, None])

    def _append(self, ring: Tensor, new: Tensor) -> None:
        ring.copy_(torch.cat([ring[:, new.shape[1] :], new], dim=1))

    def _begin(self, seed: Seeds, frame: int, state: PoseState) -> None:
        """Rows that have just started: a still past, and noise at each level ahead of ``frame``."""
        if bool(state.begun.all()):
            return
        noise = torch.stack([self._noise(seed, frame + k) for k in range(AHEAD)], dim=1)
        fresh = self.schedule.noised(torch.zeros_like(noise), noise, self.window)
        state.future.copy_(torch.where(state.begun[:, None, None] > 0, state.future, fresh))
        state.begun.fill_(1.0)

    def _noise(self, seed: Seeds, frame: int) -> Tensor:
        return self.temperature * torch.from_numpy(normals(seed, _STREAM, frame, 6).T.astype(np.float32))

    def _inputs(self, state: PoseState, known: int) -> tuple[Tensor, Tensor, Tensor]:
        """The window, ``known`` of whose future frames have been heard."""
        anchor = state.past[:, -1]
        x = torch.cat([state.past - anchor[:, None], state.future], dim=1)
        return x, functional.pad(state.audio[:, 1 - known :], (0, 0, 0, AHEAD - known)), anchor

    def _advance(
        self, velocity: Tensor, seed: Seeds, frame: int, state: PoseState, lively: Floats | float
    ) -> Tensor:
        """One level down; two frames leave (the first is returned, the second waits), two enter."""
        lower = self.schedule.down(state.future, velocity, self.window)
        anchor = state.past[:, -1:]
        clean = (anchor + lower[:, :BLOCK]) * (1.0 - self.pull)
        moved = clean[:, 1:] - anchor
        kept = lower[:, BLOCK:]
        alpha = self.schedule.alpha[self.window[: AHEAD - BLOCK]]
        noise = torch.stack([self._noise(seed, frame + AHEAD + k) for k in range(BLOCK)], dim=1)
        noise = noise * torch.as_tensor(lively, dtype=torch.float32).reshape(-1, 1, 1)
        new = self.schedule.noised(torch.zeros_like(noise), noise, self.window[AHEAD - BLOCK :])
        state.future.copy_(torch.cat([kept - alpha[None, :, None] * moved, new], dim=1))
        self._append(state.past, clean[:, :1])
        state.due.copy_(clean[:, 1])
        return clean[:, 0]

    def _real(self, pose: Tensor, state: PoseState) -> Floats:
        """In real units, bounded, and through a spring 40 ms late that takes off the grain of few steps."""
        real = pose * self.deviation * self.gain
        bounded = (self.limit * torch.tanh(real / self.limit)).double().numpy()
        spring(state.shown, state.speed, bounded, _SPRING, _DT)
        return state.shown.copy()
