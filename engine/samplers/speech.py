"""``SpeechSampler``: a voice's features to the motion of a living face.

Lips come from a trained network, everything else from small models of human behaviour: head, gaze,
blinks and brows follow the voice's accents and pauses, seeded per session (one voice, many
performances), counter-based per frame. No future is needed beyond the encoder's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.errors import ConfigError, StreamError
from engine.samplers.blinks import Blinks, BlinkState
from engine.samplers.brows import Brows, BrowState
from engine.samplers.controls import ControlState, add_eyes, add_smile, smooth_controls
from engine.samplers.cues import CueState, VoiceCues, VoiceFrame
from engine.samplers.gaze import Gaze, GazeState
from engine.samplers.head import Head, HeadState
from engine.samplers.lips import LipNet, load_lip_net
from engine.samplers.mouth import Mouth, MouthState
from engine.samplers.noise import Floats, Seeds
from engine.samplers.rows import reset_rows
from engine.stage import StageSpec
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk, MotionChunk

__all__ = ["BodyState", "SpeechSampler", "SpeechState"]

_BROWS = [
    MOTION.index(name)
    for name in ("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
]


@dataclass
class BodyState:
    """What the parts remember; every array has the batch as its first axis."""

    cues: CueState
    mouth: MouthState
    head: HeadState
    gaze: GazeState
    blinks: BlinkState
    brows: BrowState
    controls: ControlState


@dataclass
class SpeechState:
    """One batch of streams. ``frame`` is the next frame due, None before the first."""

    body: BodyState
    hidden: Tensor
    seed: Seeds
    rest: Floats
    rest_open: Floats
    frame: int | None = field(default=None)


class SpeechSampler:
    """Features [B, T, F] to motion [B, T, 72], look-ahead 0.

    Args:
        features: names of the encoder's columns; must hold ``voice``, ``level`` (bels),
            ``pitch`` (octaves re the voice's mean) and ``voicing``, and be the columns the lips
            network was trained on.
        space: the encoder's output space, for the pipeline's check.
        lips: the network; None loads the shipped one.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    def __init__(self, features: tuple[str, ...], space: str, lips: LipNet | None = None) -> None:
        self.spec = StageSpec("speech_sampler", space, "motion")
        self.lips = lips if lips is not None else load_lip_net(features=features)
        dt = float(1 / self.spec.frame_rate)
        try:
            self._prosody = [features.index(name) for name in ("voice", "level", "pitch", "voicing")]
        except ValueError as error:
            raise ConfigError(f"the encoder lacks a column the sampler needs: {error}") from None
        self.cues = VoiceCues(dt)
        self.mouth = Mouth()
        self.head = Head(dt)
        self.gaze = Gaze(dt)
        self.blinks = Blinks(dt)
        self.brows = Brows(dt)

    def init_state(self, batch: int, cond: Cond) -> SpeechState:
        rest = cond.rest.detach().cpu().double().numpy().copy()
        return SpeechState(
            body=self._fresh_body(batch),
            hidden=self.lips.init_hidden(batch),
            seed=cond.seed.detach().cpu().numpy().astype(np.uint64),
            rest=rest,
            rest_open=_rest_open(rest),
        )

    def step(self, x: FeatureChunk, state: SpeechState) -> MotionChunk:
        batch, frames = x.data.shape[:2]
        if state.frame is not None and x.t0 != state.frame and frames:
            raise StreamError(f"expected frame {state.frame}, got {x.t0}", stage=self.spec.name)
        motion = torch.zeros(batch, frames, MOTION.size)
        data = torch.nan_to_num(x.data.detach().to("cpu", torch.float32), 0.0, 0.0, 0.0)
        controls = x.controls.detach().cpu().double().numpy()
        for k in range(frames):
            frame = self._frame(data[:, k], controls[:, k], x.t0 + k, state)
            motion[:, k] = torch.from_numpy(frame.astype(np.float32))
        if frames or state.frame is None:
            state.frame = x.t1
        return MotionChunk(x.t0, motion)

    def drain(self, state: SpeechState) -> MotionChunk:
        """Nothing is ever held back."""
        return MotionChunk(state.frame or 0, torch.zeros(state.rest.shape[0], 0, MOTION.size))

    def reset(self, state: SpeechState, rows: Tensor) -> None:
        mask = rows.cpu().numpy().astype(bool)
        reset_rows(state.body, self._fresh_body(mask.size), mask)
        state.hidden[:, rows] = 0.0

    def forward(self, x: FeatureChunk, cond: Cond) -> Tensor:
        return self.step(x, self.init_state(x.data.shape[0], cond)).data

    def _fresh_body(self, batch: int) -> BodyState:
        return BodyState(
            cues=self.cues.init_state(batch),
            mouth=self.mouth.init_state(batch),
            head=self.head.init_state(batch),
            gaze=self.gaze.init_state(batch),
            blinks=self.blinks.init_state(batch),
            brows=self.brows.init_state(batch),
            controls=ControlState(np.zeros((batch, CONTROLS.size)), np.zeros(batch)),
        )

    def _frame(self, x: Tensor, controls: Floats, frame: int, state: SpeechState) -> Floats:
        body, seed = state.body, state.seed
        control = smooth_controls(controls, body.controls)
        cues = self.cues.step(self._voice(x), body.cues)
        channels = self._lips(x, state)
        motion = self.mouth.step(channels, cues.gate, control.lips, state.rest, state.rest_open, body.mouth)
        pose = self.head.step(seed, frame, cues, body.head) * control.head[:, None]
        motion[:, MOTION.pose] += pose
        eyes, saccade = self.gaze.step(seed, frame, cues, body.gaze)
        blink = self.blinks.step(seed, frame, cues, saccade, body.blinks)
        add_eyes(motion, eyes, pose[:, :3], blink, control)
        motion[:, _BROWS] += self.brows.step(seed, frame, cues, body.brows) * control.brows[:, None]
        add_smile(motion, control.smile)
        np.clip(motion[:, MOTION.expression], 0.0, 1.0, out=motion[:, MOTION.expression])
        return motion

    def _voice(self, x: Tensor) -> VoiceFrame:
        voice, level, pitch, voicing = x[:, self._prosody].double().numpy().T
        return VoiceFrame(voice, 10.0 * level, 12.0 * pitch, voicing)

    def _lips(self, x: Tensor, state: SpeechState) -> Floats:
        with torch.inference_mode():
            channels, hidden = self.lips(x[:, None], state.hidden)
        state.hidden.copy_(hidden)
        return np.asarray(channels[:, 0].double().numpy())


def _rest_open(rest: Floats) -> Floats:
    """How far a portrait's own mouth is open, 0 closed .. 1 clearly open [B]."""
    columns = {n: MOTION.index(n) for n in ("jawOpen", "mouthClose")}
    lower = rest[:, MOTION.columns("mouthLowerDown")].mean(axis=1)
    upper = rest[:, MOTION.columns("mouthUpperUp")].mean(axis=1)
    jaw = rest[:, columns["jawOpen"]] - rest[:, columns["mouthClose"]]
    return np.asarray(np.clip((jaw + 0.4 * lower + 0.4 * upper - 0.05) / 0.12, 0.0, 1.0))
