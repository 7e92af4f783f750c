"""What all samplers that follow a voice share: the frame loop, the body, the live controls.

A family (GoHD, FlowVQTalker, OSM-Net, VAST, PD-FGC or our own) brings networks that say what lips,
brows, eyes and head do in a frame (:class:`Sampled`); whatever it leaves out comes from the models
of human behaviour in this package. Portrait's rest, silence, strengths, emotion, gaze target, driver
and seed are joined here, once, so that every control means the same in every recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError, StreamError
from engine.samplers.blinks import Blinks, BlinkState
from engine.samplers.brows import Brows, BrowState
from engine.samplers.controls import (
    Controls,
    ControlState,
    add_eyes,
    add_smile,
    follow_driver,
    fresh_controls,
    smooth_controls,
)
from engine.samplers.cues import Cues, CueState, VoiceCues, VoiceFrame
from engine.samplers.emotions import add_emotion, manner, sober
from engine.samplers.factors import UPPER
from engine.samplers.gaze import Gaze, GazeState
from engine.samplers.head import Head, HeadState
from engine.samplers.mouth import Mouth, MouthState
from engine.samplers.noise import Floats, Seeds, hash64
from engine.samplers.rows import reset_rows
from engine.samplers.seam import SeamState, fresh_seam, glide
from engine.samplers.visemes import LIP_CHANNELS
from engine.stage import StageSpec
from engine.types import CONTROLS, MOTION, Cond, FeatureChunk, MotionChunk

__all__ = ["BodyState", "Float32s", "Moment", "Sampled", "VoiceSampler", "VoiceState"]

Float32s = NDArray[np.float32]

_BROWS = UPPER[:5]


@dataclass(frozen=True)
class Moment:
    """What a family may know of the frame besides its features; arrays have the batch first.

    ``seed`` uint64 [B] is the one in force (session's and live control's together); ``cues`` are the
    accents and phrases of the voice; ``controls`` the live ones, smoothed.
    """

    frame: int
    seed: Seeds
    cues: Cues
    controls: Controls


@dataclass(frozen=True)
class Sampled:
    """What a family's networks say of one frame, before controls; None leaves it to the shared models.

    ``lips`` [B, 15] in :data:`~engine.samplers.visemes.LIP_CHANNELS`, 0..1; ``upper`` [B, 13] in
    :data:`~engine.samplers.factors.UPPER`, added to the portrait's own; ``blink`` [B] closure 0..1;
    ``gaze`` [B, 2] pitch, yaw relative to the head, rad; ``pose`` [B, 6] relative to the portrait;
    ``mood`` [B, 64] expression added over everything else (smiles, frowns of an emotion).
    """

    lips: Floats | None = None
    upper: Floats | None = None
    blink: Floats | None = None
    gaze: Floats | None = None
    pose: Floats | None = None
    mood: Floats | None = None


@dataclass
class BodyState:
    """What the shared parts remember; every array has the batch as its first axis."""

    cues: CueState
    mouth: MouthState
    head: HeadState
    gaze: GazeState
    blinks: BlinkState
    brows: BrowState
    controls: ControlState
    seam: SeamState


@dataclass
class VoiceState:
    """One batch of streams: ``networks`` is the family's own (a dataclass of arrays and tensors, batch
    first), ``held`` [B, k, F] features that wait for their future. ``frame`` is the next frame of
    features due, None before the first."""

    body: BodyState
    networks: Any
    seed: Seeds
    rest: Floats
    rest_open: Floats
    held: Tensor
    held_controls: Tensor
    void: Tensor
    """int [B]: so many of the held frames are from before a reset and leave no trace"""
    frame: int | None = None


class VoiceSampler(ABC):
    """Features [B, T, F] to motion [B, T, 72].

    Families override :meth:`fresh_networks` and :meth:`sample`.

    Args:
        name: of the stage.
        features: names of the encoder's columns; must hold ``voice``, ``level`` (bels), ``pitch``
            (octaves re the voice's mean) and ``voicing``.
        space: the encoder's output space, for the pipeline's check.
        lookahead_frames: how many frames of features beyond the frame itself :meth:`sample` gets.

    Raises:
        ConfigError: a needed column is missing.
    """

    emotional = False
    """True where the family's own networks act on ``controls.emotion``."""
    styled = False
    """True where the family takes a style code (``controls.style``, ``controls.code``) from a clip."""
    acting = False
    """True where the family acts on ``controls.action``."""
    takes_up: tuple[str, ...] = ()
    """Factors of the driver that the family's own networks take up."""

    def __init__(self, name: str, features: tuple[str, ...], space: str, lookahead_frames: int = 0) -> None:
        self.spec = StageSpec(name, space, "motion", lookahead_frames)
        self.features = features
        dt = float(1 / self.spec.frame_rate)
        self.dt = dt
        try:
            self._prosody = [features.index(column) for column in ("voice", "level", "pitch", "voicing")]
        except ValueError as error:
            raise ConfigError(f"the encoder lacks a column the sampler needs: {error}") from None
        self.cues = VoiceCues(dt)
        self.mouth = Mouth()
        self.head = Head(dt)
        self.gaze = Gaze(dt)
        self.blinks = Blinks(dt)
        self.brows = Brows(dt)

    # -- what a family brings ------------------------------------------------------------------

    @abstractmethod
    def fresh_networks(self, batch: int, cond: Cond) -> Any:
        """The family's own state: a dataclass of arrays and tensors, batch first."""

    @abstractmethod
    def sample(self, window: Tensor, moment: Moment, networks: Any) -> Sampled:
        """One frame. ``window`` [B, 1 + L, F]: its features and those of the L frames after it."""

    def style_code(self, motion: Float32s, features: Float32s) -> Float32s:
        """What the family makes of a reference clip, float32 [STYLE_SIZE] for the ``style.*`` controls.

        ``motion`` [T, 72] as tracked (NaN where unseen), ``features`` [T, F] of the clip's own sound.

        Raises:
            ConfigError: the family takes no style.
        """
        raise ConfigError(f"{self.spec.name} takes no style from a clip; choose recipe vast or flowvq")

    # -- the stage -----------------------------------------------------------------------------

    def init_state(self, batch: int, cond: Cond) -> VoiceState:
        rest = cond.rest.detach().cpu().double().numpy().copy()
        return VoiceState(
            body=self._fresh_body(batch),
            networks=self.fresh_networks(batch, cond),
            seed=cond.seed.detach().cpu().numpy().astype(np.uint64),
            rest=rest,
            rest_open=_rest_open(rest),
            held=torch.zeros(batch, 0, len(self.features)),
            held_controls=torch.zeros(batch, 0, CONTROLS.size),
            void=torch.zeros(batch, dtype=torch.long),
        )

    def step(self, x: FeatureChunk, state: VoiceState) -> MotionChunk:
        frames = x.data.shape[1]
        if state.frame is not None and x.t0 != state.frame and frames:
            raise StreamError(f"expected frame {state.frame}, got {x.t0}", stage=self.spec.name)
        data = torch.nan_to_num(x.data.detach().to("cpu", torch.float32), 0.0, 0.0, 0.0)
        first = x.t0 - state.held.shape[1]
        state.held = torch.cat([state.held, data], dim=1)
        state.held_controls = torch.cat([state.held_controls, x.controls.detach().cpu()], dim=1)
        if frames or state.frame is None:
            state.frame = x.t1
        return self._deliver(first, max(0, state.held.shape[1] - self.spec.lookahead_frames), state)

    def drain(self, state: VoiceState) -> MotionChunk:
        """The frames that waited for their future, the last frame's features taken for it."""
        due = state.held.shape[1]
        first = (state.frame or 0) - due
        if due:
            more = self.spec.lookahead_frames
            state.held = torch.cat([state.held, state.held[:, -1:].repeat(1, more, 1)], dim=1)
        chunk = self._deliver(first, due, state)
        state.held = state.held[:, :0].clone()
        return chunk

    def reset(self, state: VoiceState, rows: Tensor) -> None:
        self._restart(state, rows)
        state.held[rows] = 0.0
        state.held_controls[rows] = CONTROLS.default(1)
        state.void[rows] = state.held.shape[1]

    def _restart(self, state: VoiceState, rows: Tensor) -> None:
        mask = rows.cpu().numpy().astype(bool)
        reset_rows(state.body, self._fresh_body(mask.size), mask)
        seed, rest = torch.from_numpy(state.seed.astype(np.int64)), torch.from_numpy(state.rest).float()
        fresh = self.fresh_networks(mask.size, Cond(seed, rest, (None,) * mask.size))
        reset_rows(state.networks, fresh, mask)

    def forward(self, x: FeatureChunk, cond: Cond) -> Tensor:
        state = self.init_state(x.data.shape[0], cond)
        first = self.step(x, state).data
        return torch.cat([first, self.drain(state).data], dim=1)

    # -- one frame -----------------------------------------------------------------------------

    def _deliver(self, first: int, due: int, state: VoiceState) -> MotionChunk:
        span = 1 + self.spec.lookahead_frames
        motion = torch.zeros(state.held.shape[0], due, MOTION.size)
        controls = state.held_controls[:, :due].double().numpy()
        for k in range(due):
            frame = self._frame(state.held[:, k : k + span], controls[:, k], first + k, state)
            motion[:, k] = torch.from_numpy(frame.astype(np.float32))
            if state.void.any():
                self._restart(state, state.void > 0)
                state.void.sub_(1).clamp_(min=0)
        state.held = state.held[:, due:].clone()
        state.held_controls = state.held_controls[:, due:].clone()
        return MotionChunk(first, motion)

    def _fresh_body(self, batch: int) -> BodyState:
        return BodyState(
            cues=self.cues.init_state(batch),
            mouth=self.mouth.init_state(batch),
            head=self.head.init_state(batch),
            gaze=self.gaze.init_state(batch),
            blinks=self.blinks.init_state(batch),
            brows=self.brows.init_state(batch),
            controls=fresh_controls(batch),
            seam=fresh_seam(batch),
        )

    def _frame(self, window: Tensor, controls: Floats, frame: int, state: VoiceState) -> Floats:
        body = state.body
        control = self._tempered(smooth_controls(controls, body.controls))
        seed = _seed_in_force(state.seed, control.seed)
        cues = self.cues.step(self._voice(window[:, 0]), body.cues)
        said = self.sample(window, Moment(frame, seed, cues, control), state.networks)
        motion = self._speak(said, cues, control, state)
        pose = said.pose if said.pose is not None else self.head.step(seed, frame, cues, body.head)
        pose = pose * control.head[:, None]
        motion[:, MOTION.pose] += pose
        self._look(motion, said, pose, Moment(frame, seed, cues, control), body)
        if said.upper is not None:
            motion[:, UPPER] += said.upper * control.brows[:, None]
        else:
            motion[:, _BROWS] += self.brows.step(seed, frame, cues, body.brows) * control.brows[:, None]
        if said.mood is not None:
            motion[:, MOTION.expression] += said.mood
        if not self.emotional:
            add_emotion(motion, control.emotion)
        sober(motion, control.emotion, state.rest)
        add_smile(motion, control.smile)
        follow_driver(motion, control, state.rest, self.takes_up)
        glide(motion, control.changed, self.dt, body.seam)
        np.clip(motion[:, MOTION.expression], 0.0, 1.0, out=motion[:, MOTION.expression])
        return motion

    def _tempered(self, control: Controls) -> Controls:
        """Moods change how much head and mouth move, besides the expression itself."""
        if self.emotional or not control.emotion.any():
            return control
        size = manner(control.emotion)
        return replace(control, head=control.head * size[:, 1], lips=control.lips * size[:, 2])

    def _speak(self, said: Sampled, cues: Cues, control: Controls, state: VoiceState) -> Floats:
        lips = said.lips if said.lips is not None else np.zeros((len(state.rest), len(LIP_CHANNELS)))
        body = state.body
        return self.mouth.step(lips, cues.gate, control.lips, state.rest, state.rest_open, body.mouth)

    def _look(self, motion: Floats, said: Sampled, pose: Floats, now: Moment, body: BodyState) -> None:
        """Gaze and lids, from the family where it gives them."""
        still = np.zeros(len(motion))
        if said.gaze is None:
            world, saccade = self.gaze.step(now.seed, now.frame, now.cues, body.gaze)
            eyes = Gaze.against_head(world * now.controls.eyes[:, None], pose[:, :3])
        else:
            eyes, saccade = said.gaze * now.controls.eyes[:, None], still
        if said.blink is None:
            rate = manner(now.controls.emotion)[:, 0]
            blink = self.blinks.step(now.seed, now.frame, now.cues, saccade, body.blinks, rate)
        else:
            blink = said.blink
        add_eyes(motion, eyes, blink, now.controls)

    def _voice(self, x: Tensor) -> VoiceFrame:
        voice, level, pitch, voicing = x[:, self._prosody].double().numpy().T
        return VoiceFrame(voice, 10.0 * level, 12.0 * pitch, voicing)


def _seed_in_force(session: Seeds, control: Floats) -> Seeds:
    """The session's seed, mixed with the live one where that is not 0, uint64 [B]."""
    live = control.astype(np.int64)
    mixed = hash64(session, live, np.array([7], np.int64)) >> np.uint64(2)
    return np.where(live > 0, mixed, session)


def _rest_open(rest: Floats) -> Floats:
    """How far a portrait's own mouth is open, 0 closed .. 1 clearly open [B]."""
    columns = {n: MOTION.index(n) for n in ("jawOpen", "mouthClose")}
    lower = rest[:, MOTION.columns("mouthLowerDown")].mean(axis=1)
    upper = rest[:, MOTION.columns("mouthUpperUp")].mean(axis=1)
    jaw = rest[:, columns["jawOpen"]] - rest[:, columns["mouthClose"]]
    return np.asarray(np.clip((jaw + 0.4 * lower + 0.4 * upper - 0.05) / 0.12, 0.0, 1.0))
