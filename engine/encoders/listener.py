"""What every audio encoder shares: frames out of chunks, one frame held back, level, pitch, voice.

Frame n is made when frame n + 1 has arrived: samples < 640 (n + 2), which is 60 ms beyond frame
n's centre. All adaptation (level, noise floor, mean pitch) is causal and lives in the state, so
the level of the recording, its length and its chunks do not matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.encoders.acoustic import MEL
from engine.encoders.prosody import PITCH_WINDOW, VAD_WINDOW, speech_share, yin
from engine.errors import StreamError
from engine.layers.level import LevelState, LevelTracker
from engine.stage import StageSpec
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk
from kernels.logmel import log_mel

__all__ = ["OWN", "PROSODY", "Heard", "Listener", "ListenerState", "pool_bands", "voice_of"]

OWN = (
    # Of frame n, from its own 40 ms:
    "level",     # energy, bels (10 dB) relative to full scale, about -8..0
    "loudness",  # energy relative to the slowly tracked level of the voice, bels, about -5..0.5
    "snr",       # energy over the tracked noise floor, bels, 0..6
    "tilt",      # log energy above 2 kHz minus below 1 kHz, bels
)  # fmt: skip

PROSODY: tuple[str, ...] = (
    *OWN,
    # Of frame n, with one frame of look-ahead:
    "voicing",   # 0 noise or silence .. 1 periodic
    "pitch",     # octaves relative to the voice's own slow mean, times voicing; 0 where unvoiced
    "vad",       # share of the last 80 ms that WebRTC's detector calls speech
    "voice",     # probability of speech
)  # fmt: skip
"""The columns every encoder starts with; ``voice`` is each encoder's own judgement."""

_HOP = 640
_HISTORY = VAD_WINDOW + _HOP
_PITCH_START = _HISTORY - 2 * _HOP + (_HOP - PITCH_WINDOW) // 2
_VAD_START = _HISTORY - VAD_WINDOW - _HOP // 2
# Stationary sound (hum, a held chord) never rises over the tracked floor, in bels; speech does.
# Once it has, it is believed for two to three seconds, so that talk in loud noise passes too.
_LIVELY_LEAST, _LIVELY_SURE, _LIVELY_MOST, _LIVELY_FALL = 0.55, 0.7, 1.2, 0.01
_VAD_GOAL_DB, _VAD_MOST_DB = -20.0, 45.0
# Bels: below the first a frame is surely quiet for this voice, above the second it may be speech.
_LOUDNESS_LEAST, _LOUDNESS_SURE = -3.4, -2.4
# Logistic regression on the phonetic encoder's ``voice`` over human and synthetic training speech:
# weights of the energy over the noise floor (bels, at most 2), the detector, the voicing, and the bias.
_SNR_MOST, _SNR_WEIGHT, _VAD_WEIGHT, _VOICING_WEIGHT, _BIAS = 2.0, 0.63, 2.3, 3.1, -2.27


@dataclass
class ListenerState:
    """One stream of B rows.

    ``history`` [B, 3840] samples up to the last whole frame, ``pending`` [B, 640] the frame that
    is arriving (``fill`` samples of it), ``pitch`` [B, 2] running mean of log2 f0 and 1 once
    voiced, ``reference`` [B] last reference level (dB), ``lively`` [B] slowly falling peak of the
    ``snr`` column, ``network`` what the encoder's network carries, ``own`` [B, 4 + K] columns of
    the frame held back. Controls: in force, of the arriving frame, of the held frame, [B, K] each.
    ``frame`` is the arriving frame (−1 before the first chunk), ``end`` the next sample due.
    """

    history: Tensor
    pending: Tensor
    level: LevelState
    network: tuple[Tensor, ...]
    pitch: Tensor
    reference: Tensor
    lively: Tensor
    own: Tensor
    in_force: Tensor
    arriving: Tensor
    held: Tensor
    frame: int = -1
    end: int = -1
    fill: int = 0
    holding: bool = False


@dataclass(frozen=True)
class Heard:
    """What is known when a frame has arrived; leading dimensions [B] or [B, T].

    ``own`` [..., 4 + K]: :data:`OWN` and the encoder's summary of the frame to describe,
    ``following`` the same of the frame after it, ``late`` [..., 4]: voicing, pitch, vad and
    liveliness (0 for stationary sound) of the frame to describe.
    """

    own: Tensor
    following: Tensor
    late: Tensor


def pool_bands(mel: Tensor, bands: int) -> Tensor:
    """Neighbouring bands averaged: [..., M] -> [..., bands]."""
    pooled = torch.nn.functional.adaptive_avg_pool1d(mel.reshape(-1, 1, mel.shape[-1]), bands)
    return pooled.reshape(*mel.shape[:-1], bands)


def voice_of(heard: Heard) -> Tensor:
    """Probability of speech [..., 1] without an acoustic model.

    The frame (or the one after it, so that closures do not count as pauses) must be loud for this
    voice, the sound must not be stationary, and energy over the noise floor, periodicity and
    WebRTC's detector vote.
    """
    loudness = torch.maximum(heard.own[..., 1:2], heard.following[..., 1:2])
    snr = torch.maximum(heard.own[..., 2:3], heard.following[..., 2:3]).clamp(max=_SNR_MOST)
    voicing, detected, lively = (heard.late[..., k : k + 1] for k in (0, 2, 3))
    loud = ((loudness - _LOUDNESS_LEAST) / (_LOUDNESS_SURE - _LOUDNESS_LEAST)).clamp(0.0, 1.0)
    votes = _SNR_WEIGHT * snr + _VAD_WEIGHT * detected + _VOICING_WEIGHT * voicing + _BIAS
    return lively * loud * torch.sigmoid(votes)


class Listener(ABC):
    """Base of the audio stages: :class:`AudioChunk` at 16 kHz to :class:`FeatureChunk`.

    A family says what it keeps of a frame (:meth:`summary`), what its network makes of the stream
    (:meth:`advance` for one frame, :meth:`whole` for all) and how the columns lie (:meth:`arrange`).
    A network has one output set per frame heard; that of frame n + 1 describes frame n.
    """

    def __init__(self, name: str, features: tuple[str, ...], kept: int) -> None:
        """``kept``: width K of :meth:`summary`."""
        self.spec = StageSpec(name, "audio", f"features:{name}:{len(features)}", lookahead_frames=1)
        self.size = len(features)
        self._kept = len(OWN) + kept
        self._tracker = LevelTracker()

    @abstractmethod
    def summary(self, mel: Tensor) -> Tensor:
        """Normalised mel of one frame [B, 4, M] -> [B, K], the encoder's own columns of it."""

    @abstractmethod
    def arrange(self, heard: Heard, outputs: tuple[Tensor, ...]) -> Tensor:
        """The columns of a frame [B, F], or of a whole stream [B, T, F]."""

    def fresh_network(self, batch: int) -> tuple[Tensor, ...]:
        """The network's state before the first frame, all zero; empty where there is no network."""
        return ()

    def advance(self, mel: Tensor, network: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One frame of normalised mel [B, 4, M] -> outputs; ``network`` is changed in place."""
        return ()

    def whole(self, mel: Tensor) -> tuple[Tensor, ...]:
        """The same for a stream [B, 4T, M] from its start: outputs with T as second dimension."""
        return ()

    def init_state(self, batch: int, cond: Cond) -> ListenerState:
        return ListenerState(
            history=torch.zeros(batch, _HISTORY),
            pending=torch.zeros(batch, _HOP),
            level=self._tracker.init_state(batch),
            network=self.fresh_network(batch),
            pitch=torch.zeros(batch, 2),
            reference=torch.zeros(batch),
            lively=torch.zeros(batch),
            own=torch.zeros(batch, self._kept),
            in_force=CONTROLS.default(batch),
            arriving=CONTROLS.default(batch),
            held=CONTROLS.default(batch),
        )

    def step(self, x: AudioChunk, state: ListenerState) -> FeatureChunk:
        self._check(x, state)
        if x.controls is not None:
            state.in_force.copy_(x.controls)
        batch, count = x.samples.shape
        done = (state.fill + count) // _HOP
        due = max(0, done if state.holding else done - 1)
        first = state.frame - state.holding
        data = torch.empty(batch, due, self.size)
        controls = torch.empty(batch, due, CONTROLS.size)
        taken = made = 0
        while taken < count:
            if state.fill == 0:
                state.arriving.copy_(state.in_force)
            part = min(_HOP - state.fill, count - taken)
            state.pending[:, state.fill : state.fill + part] = x.samples[:, taken : taken + part]
            state.fill += part
            taken += part
            if state.fill == _HOP:
                made += self._finish(state, data, controls, made)
        state.end = x.t1
        return FeatureChunk(first, data, controls)

    def drain(self, state: ListenerState) -> FeatureChunk:
        """The held frame, silence taken as its future; afterwards the state is fresh."""
        batch, due = state.history.shape[0], int(state.holding)
        first = max(0, state.frame - due)
        data = torch.empty(batch, due, self.size)
        controls = torch.empty(batch, due, CONTROLS.size)
        if due:
            state.pending.zero_()
            self._finish(state, data, controls, 0)
        self.reset(state, torch.ones(batch, dtype=torch.bool))
        state.frame, state.end, state.fill, state.holding = -1, -1, 0, False
        return FeatureChunk(first, data, controls)

    def reset(self, state: ListenerState, rows: Tensor) -> None:
        for value in (state.history, state.pending, state.pitch, state.reference, state.lively, state.own):
            value[rows] = 0.0
        for value in state.network:
            value[rows] = 0.0
        self._tracker.reset(state.level, rows)
        for value in (state.in_force, state.arriving, state.held):
            value[rows] = CONTROLS.default(1)

    def forward(self, x: AudioChunk, cond: Cond) -> Tensor:
        """Features [B, T, F] of all whole frames, the network run over the whole stream at once."""
        batch, frames = x.samples.shape[0], x.samples.shape[1] // _HOP
        state = self.init_state(batch, cond)
        padded = torch.nn.functional.pad(x.samples[:, : frames * _HOP], (0, _HOP))
        parts = [self._listen(padded[:, k * _HOP : (k + 1) * _HOP], state) for k in range(frames + 1)]
        with torch.no_grad():
            outputs = self.whole(torch.cat([mel for mel, _, _ in parts], dim=1))
        own, late = (torch.stack([part[k] for part in parts], dim=1) for k in (1, 2))
        heard = Heard(own[:, :-1], own[:, 1:], late[:, 1:])
        return self.arrange(heard, tuple(value[:, 1:] for value in outputs))

    def _check(self, x: AudioChunk, state: ListenerState) -> None:
        stage, rows = self.spec.name, state.history.shape[0]
        if x.samples.dtype != torch.float32 or x.samples.ndim != 2 or x.samples.shape[0] != rows:
            got = f"{x.samples.dtype} {list(x.samples.shape)}"
            raise StreamError(f"samples must be float32 [{rows}, N], got {got}", stage=stage)
        if state.frame < 0:
            if x.t0 % _HOP:
                raise StreamError(
                    f"the first sample must start a frame (a multiple of {_HOP}), got {x.t0}", stage=stage
                )
            state.frame, state.end = x.t0 // _HOP, x.t0
        if x.t0 != state.end:
            raise StreamError(
                f"the stream goes on at sample {state.end}, got {x.t0}", stage=stage, frame=state.frame
            )

    def _finish(self, state: ListenerState, data: Tensor, controls: Tensor, index: int) -> int:
        """Use the whole pending frame; write the frame before it into column ``index`` if it is held."""
        mel, own, late = self._listen(state.pending, state)
        outputs = self.advance(mel, state.network)
        made = int(state.holding)
        if made:
            data[:, index] = self.arrange(Heard(state.own, own, late), outputs)
            controls[:, index] = state.held
        state.own.copy_(own)
        state.held.copy_(state.arriving)
        state.frame, state.fill, state.holding = state.frame + 1, 0, True
        return made

    def _listen(self, samples: Tensor, state: ListenerState) -> tuple[Tensor, Tensor, Tensor]:
        """Hear frame s [B, 640]: its mel [B, 4, M], its own columns, and the late ones of s − 1."""
        state.history[:, :-_HOP] = state.history[:, _HOP:].clone()
        state.history[:, -_HOP:] = torch.nan_to_num(samples).clamp(-4.0, 4.0)
        mel = log_mel(state.history[:, -_HOP - MEL.context :], MEL)
        energy, reference, floor = self._tracker.step(mel, state.level)
        normal = self._tracker.normalise(mel, reference)
        late = self._prosody(state)
        state.reference.copy_(reference[:, -1])
        tilt = (mel[..., 34:].mean((1, 2)) - mel[..., :22].mean((1, 2))) / np.log(10.0)
        power = energy.mean(1) / 10
        scalars = torch.stack(
            [power, power - reference.mean(1) / 10, power - floor.mean(1) / 10, tilt.float()], dim=1
        )
        risen = scalars[:, 2].clamp(max=_LIVELY_MOST)
        state.lively.copy_(torch.maximum(risen, state.lively - _LIVELY_FALL))
        gate = ((state.lively - _LIVELY_LEAST) / (_LIVELY_SURE - _LIVELY_LEAST)).clamp(0.0, 1.0)
        late = torch.cat([late, gate.unsqueeze(1)], dim=1)
        return normal, torch.cat([scalars, self.summary(normal)], dim=1), late

    def _prosody(self, state: ListenerState) -> Tensor:
        """Voicing, relative pitch and detected speech of the frame before the last, [B, 3]."""
        history, mean = state.history.numpy(), state.pitch.numpy()
        late = np.zeros((history.shape[0], 3), np.float32)
        gain_db = torch.clamp(_VAD_GOAL_DB - state.reference, -10.0, _VAD_MOST_DB).numpy()
        for row in range(history.shape[0]):
            f0, voicing = yin(history[row, _PITCH_START : _PITCH_START + PITCH_WINDOW])
            voicing = max(0.0, (voicing - 0.4) / 0.6)
            octave = float(np.log2(f0))
            if voicing > 0.5:
                if mean[row, 1] == 0.0:
                    mean[row] = (octave, 1.0)
                mean[row, 0] += 0.02 * voicing * (octave - mean[row, 0])
            relative = np.clip(octave - mean[row, 0], -1.5, 1.5) * mean[row, 1]
            window = history[row, _VAD_START : _VAD_START + VAD_WINDOW]
            share = speech_share(window, 10 ** (float(gain_db[row]) / 20))
            late[row] = (voicing, voicing * relative, share)
        return torch.from_numpy(late)
