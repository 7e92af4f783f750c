"""Audio to phonetic posteriors and prosody, 25 frames a second with one frame of look-ahead.

Frame n is made when frame n + 1 has arrived: samples < 640 (n + 2), which is 60 ms beyond frame
n's centre. All adaptation (level, noise floor, mean pitch) is causal and lives in the state, so
the level of the recording, its length and its chunks do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.encoders.acoustic import HIDDEN, MEL, AcousticState, AcousticStep, load_acoustic
from engine.encoders.phones import PHONES, SILENCE
from engine.encoders.prosody import PITCH_WINDOW, VAD_WINDOW, speech_share, yin
from engine.errors import StreamError
from engine.layers.level import LevelState, LevelTracker
from engine.runtime import Runner, compile
from engine.stage import StageSpec
from engine.types import CONTROLS, AudioChunk, Cond, FeatureChunk
from kernels.logmel import log_mel

__all__ = ["BANDS", "FEATURES", "PpgEncoder", "PpgState", "pool_bands"]

BANDS = 20
_OWN = ("level", "loudness", "snr", "tilt")

FEATURES: tuple[str, ...] = (
    # Of frame n, from its own 40 ms:
    "level",     # energy, bels (10 dB) relative to full scale, about -8..0
    "loudness",  # energy relative to the slowly tracked level of the voice, bels, about -5..0.5
    "snr",       # energy over the tracked noise floor, bels, 0..6
    "tilt",      # log energy above 2 kHz minus below 1 kHz, bels
    # Of frame n, with one frame of look-ahead:
    "voicing",   # 0 noise or silence .. 1 periodic
    "pitch",     # octaves relative to the voice's own slow mean, times voicing; 0 where unvoiced
    "vad",       # share of the last 80 ms that WebRTC's detector calls speech
    "voice",     # probability of speech, model and detector together
    *(f"phoneA.{p}" for p in PHONES),     # posteriors of the first 20 ms of frame n
    *(f"phoneB.{p}" for p in PHONES),     # of its second 20 ms
    *(f"phoneNext.{p}" for p in PHONES),  # of frame n + 1, guessed without its future
    *(f"hidden.{k:02d}" for k in range(HIDDEN)),   # learned code, -1..1
    *(f"mel.{k:02d}" for k in range(BANDS)),       # frame n's spectrum, units of 20 dB re the voice's level
    *(f"melNext.{k:02d}" for k in range(BANDS)),   # frame n + 1's
)  # fmt: skip
"""Names of the columns of the :class:`~engine.types.FeatureChunk`, in order."""

_HOP = 640
_HISTORY = VAD_WINDOW + _HOP
_PITCH_START = _HISTORY - 2 * _HOP + (_HOP - PITCH_WINDOW) // 2
_VAD_START = _HISTORY - VAD_WINDOW - _HOP // 2
# Stationary sound (hum, a held chord) never rises over the tracked floor, in bels; speech does.
# Once it has, it is believed for two to three seconds, so that talk in loud noise passes too.
_LIVELY_LEAST, _LIVELY_SURE, _LIVELY_MOST, _LIVELY_FALL = 0.55, 0.7, 1.2, 0.01
_VAD_GOAL_DB, _VAD_MOST_DB = -20.0, 45.0


@dataclass
class PpgState:
    """One stream of B rows.

    ``history`` [B, 3840] samples up to the last whole frame, ``pending`` [B, 640] the frame that
    is arriving (``fill`` samples of it), ``pitch`` [B, 2] running mean of log2 f0 and 1 once
    voiced, ``reference`` [B] last reference level (dB), ``lively`` [B] slowly falling peak of the
    ``snr`` column, ``own`` [B, 4 + 20] columns of the frame held back. Controls: in force, of the
    arriving frame, of the held frame, [B, K] each. ``frame`` is the arriving frame (−1 before the
    first chunk), ``end`` the next sample due.
    """

    history: Tensor
    pending: Tensor
    level: LevelState
    acoustic: AcousticState
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


def pool_bands(mel: Tensor) -> Tensor:
    """Normalised mel frames [..., 4, M] of one video frame -> [..., 20]."""
    mean = mel.mean(-2)
    return torch.nn.functional.adaptive_avg_pool1d(mean.reshape(-1, 1, mean.shape[-1]), BANDS).reshape(
        *mean.shape[:-1], BANDS
    )


class PpgEncoder:
    """The audio stage: :class:`AudioChunk` at 16 kHz to :class:`FeatureChunk` in :data:`FEATURES`.

    The network is so small that eager torch on one thread is as fast as any compiled runtime and
    starts at once, so that is the default ``backend``.

    Raises:
        AssetError: the weights are missing or damaged.
        BackendError: ``backend`` is named and cannot run here.
    """

    def __init__(self, backend: str = "eager", weights: str = "ppg") -> None:
        self.spec = StageSpec("ppg", "audio", f"features:ppg:{len(FEATURES)}", lookahead_frames=1)
        self.model = load_acoustic(weights)
        self._backend = backend
        self._tracker = LevelTracker()
        self._runners: dict[int, Runner] = {}

    def runner(self, batch: int) -> Runner:
        """The compiled network for ``batch`` rows; compiled on the first request."""
        if batch not in self._runners:
            example = (torch.zeros(batch, 4, MEL.bands), *self.model.init_state(batch).tensors())
            self._runners[batch] = compile(AcousticStep(self.model), example, self._backend)
        return self._runners[batch]

    def init_state(self, batch: int, cond: Cond) -> PpgState:
        self.runner(batch)
        return PpgState(
            history=torch.zeros(batch, _HISTORY),
            pending=torch.zeros(batch, _HOP),
            level=self._tracker.init_state(batch),
            acoustic=self.model.init_state(batch),
            pitch=torch.zeros(batch, 2),
            reference=torch.zeros(batch),
            lively=torch.zeros(batch),
            own=torch.zeros(batch, len(_OWN) + BANDS),
            in_force=CONTROLS.default(batch),
            arriving=CONTROLS.default(batch),
            held=CONTROLS.default(batch),
        )

    def step(self, x: AudioChunk, state: PpgState) -> FeatureChunk:
        self._check(x, state)
        if x.controls is not None:
            state.in_force.copy_(x.controls)
        batch, count = x.samples.shape
        done = (state.fill + count) // _HOP
        due = max(0, done if state.holding else done - 1)
        first = state.frame - state.holding
        data = torch.empty(batch, due, len(FEATURES))
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

    def drain(self, state: PpgState) -> FeatureChunk:
        """The held frame, silence taken as its future; afterwards the state is fresh."""
        batch, due = state.history.shape[0], int(state.holding)
        first = max(0, state.frame - due)
        data = torch.empty(batch, due, len(FEATURES))
        controls = torch.empty(batch, due, CONTROLS.size)
        if due:
            state.pending.zero_()
            self._finish(state, data, controls, 0)
        self.reset(state, torch.ones(batch, dtype=torch.bool))
        state.frame, state.end, state.fill, state.holding = -1, -1, 0, False
        return FeatureChunk(first, data, controls)

    def reset(self, state: PpgState, rows: Tensor) -> None:
        for value in (state.history, state.pending, state.pitch, state.reference, state.lively, state.own):
            value[rows] = 0.0
        for value in state.acoustic.tensors():
            value[rows] = 0.0
        self._tracker.reset(state.level, rows)
        for value in (state.in_force, state.arriving, state.held):
            value[rows] = CONTROLS.default(1)

    def forward(self, x: AudioChunk, cond: Cond) -> Tensor:
        """Features [B, T, F] of all whole frames, the network run over the whole stream at once."""
        batch, frames = x.samples.shape[0], x.samples.shape[1] // _HOP
        state = self.init_state(batch, cond)
        padded = torch.nn.functional.pad(x.samples[:, : frames * _HOP], (0, _HOP))
        heard = [self._listen(padded[:, k * _HOP : (k + 1) * _HOP], state) for k in range(frames + 1)]
        with torch.no_grad():
            log_posteriors, code = self.model(torch.cat([mel for mel, _, _ in heard], dim=1))
        own, late = (torch.stack([item[k] for item in heard], dim=1) for k in (1, 2))
        return _columns(own[:, :-1], own[:, 1:], late[:, 1:], log_posteriors[:, 1:], code[:, 1:])

    def _check(self, x: AudioChunk, state: PpgState) -> None:
        stage = self.spec.name
        if (
            x.samples.dtype != torch.float32
            or x.samples.ndim != 2
            or x.samples.shape[0] != state.history.shape[0]
        ):
            got = f"{x.samples.dtype} {list(x.samples.shape)}"
            raise StreamError(
                f"samples must be float32 [{state.history.shape[0]}, N], got {got}", stage=stage
            )
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

    def _finish(self, state: PpgState, data: Tensor, controls: Tensor, index: int) -> int:
        """Use the whole pending frame; write the frame before it into column ``index`` if it is held."""
        mel, own, late = self._listen(state.pending, state)
        outputs = self.runner(mel.shape[0])(mel, *state.acoustic.tensors())
        for value, new in zip(state.acoustic.tensors(), outputs[2:], strict=True):
            value.copy_(new)
        made = int(state.holding)
        if made:
            data[:, index] = _columns(state.own, own, late, outputs[0], outputs[1])
            controls[:, index] = state.held
        state.own.copy_(own)
        state.held.copy_(state.arriving)
        state.frame, state.fill, state.holding = state.frame + 1, 0, True
        return made

    def _listen(self, samples: Tensor, state: PpgState) -> tuple[Tensor, Tensor, Tensor]:
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
        return normal, torch.cat([scalars, pool_bands(normal)], dim=1), late

    def _prosody(self, state: PpgState) -> Tensor:
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


def _columns(own: Tensor, following: Tensor, late: Tensor, log_posteriors: Tensor, code: Tensor) -> Tensor:
    """Put one frame's (or a whole stream's) columns in the order of :data:`FEATURES`."""
    gate = late[..., 3:4].unsqueeze(-1)
    posteriors = gate * log_posteriors.exp()
    posteriors[..., SILENCE] += 1.0 - gate[..., 0]
    speech = 1.0 - posteriors[..., :2, SILENCE].mean(-1, keepdim=True)
    voice = speech * (0.6 + 0.4 * late[..., 2:3])
    scalars = len(_OWN)
    return torch.cat(
        [
            own[..., :scalars],
            late[..., :3],
            voice,
            posteriors.flatten(-2),
            code,
            own[..., scalars:],
            following[..., scalars:],
        ],
        dim=-1,
    )
