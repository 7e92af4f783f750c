"""``IdleSampler``: listening, thinking and waiting; alone, or around a speaker's sampler.

Alone, the voice it hears is the other person's: the head sways slowly, nods at the ends of the other's
phrases, the eyes stay on them and wander while one thinks about what was said. Around another sampler,
the voice is the avatar's own: speech comes from that sampler, what is between from here, and each fades
into the other.

How far and how fast things move in silence was measured on tracked people's pauses
(:mod:`engine.train.idle`); nods and gaze also follow what is published about listeners: nods are small,
come in groups of one to three at 2–3 a second (Hadar, Steiner, Rose, 1985) and answer pauses of the
voice (Ward, Tsukahara, 2000); listeners look at the speaker most of the time (Argyle, Cook, 1976) and
look away, mostly up or aside, while they think (Glenberg, Schroeder, Robertson, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from engine.errors import ConfigError
from engine.samplers.blinks import BlinkState
from engine.samplers.brows import BrowState
from engine.samplers.controls import Controls
from engine.samplers.cues import Cues
from engine.samplers.factors import UPPER
from engine.samplers.gaze import Gaze, GazeState
from engine.samplers.head import HeadState
from engine.samplers.noise import Floats, Seeds, normals, smooths, uniforms
from engine.samplers.rows import Bools, spring
from engine.samplers.voice import Float32s, Moment, Sampled, VoiceSampler, VoiceState
from engine.types import EXPRESSION_NAMES, MOTION, Cond
from engine.weights import load_weights

__all__ = ["IdleModel", "IdleNetworks", "IdleSampler", "load_idle"]

_STREAM = 1200
_DEG = np.pi / 180.0
_LIMIT = np.array([7.0, 9.0, 6.0, 6.0, 6.0, 6.0]) * _DEG * np.array([1, 1, 1, 1.5, 1.0, 2.0])
_BROWS = UPPER[:5]
_NEVER = 1e9
# A listener's answers: chance of a nod at a phrase's end, seconds between nods, cycles a second.
_NOD_CHANCE, _NOD_APART_S, _NOD_HZ = 0.45, 2.5, 2.2
_NOD_DEG = 2.2
# Thinking: chance at a phrase's end, chance per second in a long silence, seconds it lasts.
_THINK_CHANCE, _THINK_HAZARD, _THINK_S = 0.35, 0.05, (1.2, 3.2)
_ASIDE = np.array([7.0, 11.0]) * _DEG
_REST_PITCH = -1.0 * _DEG
# Small mouth events in silence: chance per second, seconds, columns at their height.
_EVENTS: tuple[tuple[float, float, dict[str, float]], ...] = (
    (0.07, 1.1, {"mouthPressLeft": 0.22, "mouthPressRight": 0.22, "mouthRollLower": 0.1,
                 "mouthRollUpper": 0.08}),
    (0.025, 0.9, {"mouthShrugLower": 0.2, "mouthPressLeft": 0.1, "mouthPressRight": 0.1, "jawForward": 0.06}),
    (0.04, 2.6, {"mouthSmileLeft": 0.14, "mouthSmileRight": 0.12, "cheekSquintLeft": 0.06,
                 "cheekSquintRight": 0.06}),
)  # fmt: skip


@dataclass(frozen=True)
class IdleModel:
    """What was fitted on people's pauses (float64).

    ``inertia`` [6]: how much of a step of the head goes on into the next frame; ``kick`` [6, 6]: the
    Cholesky factor of what is added a frame (rad, inter-ocular distances); ``pull`` [6]: share of
    the pose given back a frame; ``saccades_hz`` and ``gaze_spread`` [2] (rad); ``brow_spread`` [5] and
    ``mouth_spread`` [64]: slow deviation of the columns; ``blinks_hz`` as measured, for comparison.
    """

    inertia: Floats
    kick: Floats
    pull: Floats
    saccades_hz: float
    gaze_spread: Floats
    brow_spread: Floats
    mouth_spread: Floats
    blinks_hz: float


def load_idle(name: str | Path = "idle") -> IdleModel:
    """The fitted model of weight ``name``.

    Raises:
        AssetError: missing or damaged.
    """
    tensors = {key: value.double().numpy() for key, value in load_weights(name).items()}
    rates = {key: float(tensors.pop(key)) for key in ("saccades_hz", "blinks_hz")}
    return IdleModel(saccades_hz=rates["saccades_hz"], blinks_hz=rates["blinks_hz"], **tensors)


@dataclass
class IdleHeadState:
    """``place``, ``speed``, ``drive`` [B, 6] of the swaying head; nods: ``age_s``, ``size``, ``cycles``,
    ``due_s`` [B]."""

    place: Floats
    speed: Floats
    drive: Floats
    age_s: Floats
    size: Floats
    cycles: Floats
    due_s: Floats


@dataclass
class ThoughtState:
    """``left_s`` [B] of thinking; ``depth`` and ``depth_speed`` [B] how far one is in thought (a spring);
    ``silent_s`` [B] since a voice; ``aside`` [B, 2] where the eyes go."""

    left_s: Floats
    depth: Floats
    depth_speed: Floats
    silent_s: Floats
    aside: Floats


@dataclass
class MouthLifeState:
    """``age_s`` and ``size`` [B, E] of the last event of each kind."""

    age_s: Floats
    size: Floats


@dataclass
class SharedState:
    """The shared models, for what the speaker's sampler leaves to them, and the ``share`` [B] of speech."""

    head: HeadState
    gaze: GazeState
    brows: BrowState
    share: Floats
    share_speed: Floats


@dataclass
class IdleNetworks:
    """All that idling remembers; ``speaker`` is the other sampler's own state (None where alone)."""

    head: IdleHeadState
    thought: ThoughtState
    gaze: GazeState
    blinks: BlinkState
    mouth: MouthLifeState
    shared: SharedState
    speaker: Any = None


class IdleSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72]; look-ahead that of ``speaker``, or 0.

    Args:
        features: names of the encoder's columns.
        space: the encoder's output space, for the pipeline's check.
        speaker: the sampler that speaks where there is a voice; None listens to it.
        model: what was fitted; None loads the shipped one.

    Raises:
        AssetError: the weights are missing or damaged.
        ConfigError: a needed column is missing, or ``speaker`` reads other columns.
    """

    def __init__(self, features: tuple[str, ...], space: str, speaker: VoiceSampler | None = None,
                 model: IdleModel | None = None) -> None:  # fmt: skip
        ahead = speaker.spec.lookahead_frames if speaker is not None else 0
        super().__init__("idle_sampler", features, space, ahead)
        if speaker is not None and speaker.features != features:
            raise ConfigError(f"{speaker.spec.name} reads other features than the idle sampler around it")
        self.speaker = speaker
        if speaker is not None:
            self.emotional, self.styled, self.acting = speaker.emotional, speaker.styled, speaker.acting
            self.takes_up = speaker.takes_up
        self.model = model if model is not None else load_idle()
        self.idle_gaze = IdleGaze(self.model, self.dt)

    def fresh_networks(self, batch: int, cond: Cond) -> IdleNetworks:
        def zero(*shape: int) -> Floats:
            return np.zeros((batch, *shape))

        late = np.full(batch, 10.0)
        shared = SharedState(
            self.head.init_state(batch), self.gaze.init_state(batch), self.brows.init_state(batch),
            zero(), zero(),
        )  # fmt: skip
        return IdleNetworks(
            head=IdleHeadState(
                zero(6), zero(6), zero(6), late.copy(), zero(), zero(), np.full(batch, _NEVER)
            ),
            thought=ThoughtState(zero(), zero(), zero(), zero(), zero(2)),
            gaze=self.idle_gaze.init_state(batch),
            blinks=self.blinks.init_state(batch),
            mouth=MouthLifeState(np.full((batch, len(_EVENTS)), 10.0), zero(len(_EVENTS))),
            shared=shared,
            speaker=None if self.speaker is None else self.speaker.fresh_networks(batch, cond),
        )

    def sample(self, window: Tensor, moment: Moment, networks: IdleNetworks) -> Sampled:
        idle = self._idle(moment, networks)
        if self.speaker is None:
            return idle
        said = self.speaker.sample(window, moment, networks.speaker)
        return self._between(said, idle, moment, networks.shared)

    def style_code(self, motion: Float32s, features: Float32s) -> Float32s:
        """The speaker's; idling has no style of its own."""
        if self.speaker is None:
            return super().style_code(motion, features)
        return self.speaker.style_code(motion, features)

    def _speak(self, said: Sampled, cues: Cues, control: Controls, state: VoiceState) -> Floats:
        # A listener's mouth is its own, whoever speaks.
        return state.rest.copy() if self.speaker is None else super()._speak(said, cues, control, state)

    # -- idling --------------------------------------------------------------------------------

    def _idle(self, now: Moment, networks: IdleNetworks) -> Sampled:
        listens = self.speaker is None
        draw = uniforms(now.seed, _STREAM, now.frame, 8)
        _think(draw, now.cues, listens, self.dt, networks.thought)
        depth = networks.thought.depth
        pose = self._sway(now, depth, networks.head)
        if listens:
            pose = pose + self._nod(draw, now.cues, networks.head)
        pose = np.asarray(_LIMIT * np.tanh(pose / _LIMIT))
        world, saccade = self.idle_gaze.look(now.seed, now.frame, networks.thought, networks.gaze)
        gaze = Gaze.against_head(world, pose[:, :3])
        calm = _calm(now.cues)
        blink = self.blinks.step(now.seed, now.frame, calm, saccade, networks.blinks)
        upper = self._upper(now, depth, networks.head)
        return Sampled(
            upper=upper, blink=blink, gaze=gaze, pose=pose, mood=self._mouth_life(now, networks.mouth)
        )

    def _sway(self, now: Moment, depth: Floats, state: IdleHeadState) -> Floats:
        """A spring-held random walk with the fitted steps: x'' from noise, twice smoothed."""
        model = self.model
        kick = normals(now.seed, _STREAM + 20, now.frame, 6).T @ model.kick.T
        # Who listens to a voice holds still a little; who thinks, more.
        lively = (1.0 - 0.25 * now.cues.presence - 0.2 * depth)[:, None]
        state.drive[...] = model.inertia * state.drive + kick * lively
        state.speed[...] += (1.0 - model.inertia) * (state.drive - state.speed)
        state.place[...] += state.speed - model.pull * state.place
        breath = np.sin(2.0 * np.pi * 0.25 * now.frame * self.dt + 1.2 * smooths(
            now.seed, _STREAM + 40, np.array([0.08 * now.frame * self.dt]))[0])  # fmt: skip
        pose = state.place.copy()
        pose[:, 0] += -0.25 * _DEG * breath - 1.5 * _DEG * depth
        pose[:, 2] += 1.5 * _DEG * depth * np.sign(now.seed.astype(np.int64) % 2 - 0.5)
        pose[:, 4] += 0.006 * breath
        return pose

    def _nod(self, draw: Floats, cues: Cues, state: IdleHeadState) -> Floats:
        """Damped cycles that begin with the head going down, [B, 6]."""
        state.age_s += self.dt
        state.due_s -= self.dt
        answers = cues.phrase_end & (draw[0] < _NOD_CHANCE) & (state.age_s > _NOD_APART_S)
        state.due_s[...] = np.where(answers, 0.1 + 0.3 * draw[1], state.due_s)
        begins = state.due_s <= 0.0
        state.due_s[begins] = _NEVER
        state.age_s[begins] = 0.0
        state.size[...] = np.where(begins, _NOD_DEG * _DEG * (0.6 + 0.8 * draw[2]), state.size)
        state.cycles[...] = np.where(begins, 1.0 + np.floor(2.6 * draw[3]), state.cycles)
        return self._nodding(state)

    def _nodding(self, state: IdleHeadState) -> Floats:
        turns = state.age_s * _NOD_HZ
        going = turns < state.cycles
        course = 0.5 * (1.0 - np.cos(2.0 * np.pi * turns)) * np.where(going, 0.75 ** np.floor(turns), 0.0)
        pose = np.zeros((len(turns), 6))
        pose[:, 0] = state.size * course
        pose[:, 4] = -0.15 * pose[:, 0]
        return pose

    def _upper(self, now: Moment, depth: Floats, head: IdleHeadState) -> Floats:
        """Slow life of the brows with the fitted deviation; drawn together a little in thought."""
        seconds = now.frame * self.dt
        slow = smooths(now.seed, _STREAM + 50, seconds * np.array([0.31, 0.27, 0.23, 0.29, 0.25])).T
        upper = np.zeros((len(depth), len(UPPER)))
        # smooths has a deviation of 0.4; brows cannot go below rest, so the mean is raised to meet it.
        upper[:, :5] = self.model.brow_spread * np.maximum(slow / 0.4 + 0.5, 0.0)
        upper[:, :2] += 0.10 * depth[:, None]
        upper[:, 2] += 0.08 * now.cues.presence
        return upper

    def _mouth_life(self, now: Moment, state: MouthLifeState) -> Floats:
        """Mood [B, 64]: lip presses, swallows, the beginning of a smile; gone while a voice is heard
        where that voice is the avatar's own."""
        draw = uniforms(now.seed, _STREAM + 60, now.frame, 2 * len(_EVENTS)).reshape(2, len(_EVENTS), -1)
        mood = np.zeros((draw.shape[2], len(EXPRESSION_NAMES)))
        state.age_s += self.dt
        for k, (hazard, length_s, columns) in enumerate(_EVENTS):
            begins = (draw[0, k] < hazard * self.dt) & (state.age_s[:, k] > 2.0 * length_s)
            state.age_s[begins, k] = 0.0
            state.size[:, k] = np.where(begins, 0.5 + 0.7 * draw[1, k], state.size[:, k])
            phase = np.clip(state.age_s[:, k] / length_s, 0.0, 1.0)
            course = state.size[:, k] * np.sin(np.pi * phase) ** 2
            for name, height in columns.items():
                mood[:, MOTION.index(name)] += height * course
        slow = smooths(now.seed, _STREAM + 80, np.array([0.11, 0.17]) * now.frame * self.dt).T / 0.4
        side = np.where(np.arange(mood.shape[1]) % 2 == 0, slow[:, :1], slow[:, 1:])
        mood += self.model.mouth_spread * np.maximum(side, 0.0)
        return np.asarray(mood * now.controls.lips[:, None])

    # -- around a speaker ----------------------------------------------------------------------

    def _between(self, said: Sampled, idle: Sampled, now: Moment, state: SharedState) -> Sampled:
        """Speech and idling mixed by a share that follows the voice within half a second."""
        pose = (
            said.pose if said.pose is not None else self.head.step(now.seed, now.frame, now.cues, state.head)
        )
        gaze = said.gaze if said.gaze is not None else self._shared_gaze(now, pose, state)
        upper = said.upper
        if upper is None:
            upper = np.zeros((len(pose), len(UPPER)))
            upper[:, :5] = self.brows.step(now.seed, now.frame, now.cues, state.brows)
        voiced = (now.cues.presence > 0.3).astype(np.float64)
        spring(state.share, state.share_speed, voiced, 7.0, self.dt)
        share = np.clip(state.share, 0.0, 1.0)

        # Eyes do not slide: they change hands in a few frames around the middle.
        quick = np.clip((share - 0.4) / 0.2, 0.0, 1.0)

        def mix(spoken: Floats | None, idling: Floats | None, share: Floats = share) -> Floats | None:
            if spoken is None or idling is None:
                return idling if spoken is None else spoken
            weight = share.reshape(-1, *[1] * (spoken.ndim - 1))
            return np.asarray(weight * spoken + (1.0 - weight) * idling)

        return Sampled(
            lips=said.lips,
            upper=mix(upper, idle.upper),
            blink=mix(said.blink, idle.blink),
            gaze=mix(gaze, idle.gaze, quick),
            pose=mix(pose, idle.pose),
            mood=mix(
                np.zeros((len(pose), len(EXPRESSION_NAMES))) if said.mood is None else said.mood, idle.mood
            ),
        )

    def _shared_gaze(self, now: Moment, pose: Floats, state: SharedState) -> Floats:
        world, _ = self.gaze.step(now.seed, now.frame, now.cues, state.gaze)
        return Gaze.against_head(world, pose[:, :3])


class IdleGaze(Gaze):
    """Fixations as fitted in pauses; in thought the eyes go aside and stay there."""

    def __init__(self, model: IdleModel, dt: float) -> None:
        super().__init__(dt)
        self.model = model

    def look(self, seed: Seeds, frame: int, thought: ThoughtState, state: GazeState) -> tuple[Floats, Floats]:
        """World gaze [B, 2] and the size [B] of a saccade that starts now."""
        state.elapsed_s += self.dt
        state.fixation_s += self.dt
        thinking = thought.left_s > 0.0
        draw = uniforms(seed, _STREAM + 90, frame, 3)
        ready = np.clip((state.fixation_s - 0.25) / 0.5, 0.0, 1.0)
        turned = (thinking != state.away) & (ready > 0.0)
        hazard = self.model.saccades_hz * np.where(thinking, 0.5, 1.0)
        change = turned | (draw[0] < hazard * ready * self.dt)
        scatter = np.clip(normals(seed, _STREAM + 95, frame, 2).T, -2.0, 2.0)
        goal = scatter * self.model.gaze_spread * np.where(thinking, 0.5, 1.0)[:, None]
        goal[:, 0] += _REST_PITCH
        goal = goal + np.where(thinking[:, None], thought.aside, 0.0)
        return self._moved(change, goal, thinking, draw[2], state)

    def _moved(self, change: Bools, goal: Floats, thinking: Bools, late: Floats,
               state: GazeState) -> tuple[Floats, Floats]:  # fmt: skip
        size = np.where(change, np.linalg.norm(goal - state.goal, axis=1), 0.0)
        moving = change[:, None]
        state.start[...] = np.where(moving, state.goal, state.start)
        state.goal[...] = np.where(moving, goal, state.goal)
        state.elapsed_s[...] = np.where(change, self.dt * late, state.elapsed_s)
        state.duration_s[...] = np.where(change, 0.021 + 0.0022 * size / _DEG, state.duration_s)
        state.fixation_s[...] = np.where(change, 0.0, state.fixation_s)
        state.away[...] = np.where(change, thinking, state.away)
        progress = np.clip(state.elapsed_s / state.duration_s, 0.0, 1.0)[:, None]
        course = progress**3 * (10.0 - 15.0 * progress + 6.0 * progress**2)
        return state.start + (state.goal - state.start) * course, size


def _think(draw: Floats, cues: Cues, listens: bool, dt: float, state: ThoughtState) -> None:
    """One begins to think where the other has finished a phrase, or now and then in a long silence;
    the first word of a voice ends it."""
    state.silent_s[...] = np.where(cues.gate > 0.35, 0.0, state.silent_s + dt)
    state.left_s[...] = np.maximum(state.left_s - dt, 0.0)
    after = cues.phrase_end & (draw[4] < _THINK_CHANCE) & np.full(len(draw[4]), listens)
    alone = (state.silent_s > 2.5) & (draw[5] < _THINK_HAZARD * dt)
    begins = (after | alone) & (state.left_s <= 0.0)
    length = _THINK_S[0] + (_THINK_S[1] - _THINK_S[0]) * draw[6]
    state.left_s[...] = np.where(begins, length, state.left_s)
    state.left_s[cues.phrase_start] = 0.0
    side = np.where(draw[7] < 0.5, -1.0, 1.0)
    up = np.where(draw[7] * 2 % 1 < 0.75, 1.0, -0.7)
    goal = np.stack([up * _ASIDE[0] * (0.5 + draw[6]), side * _ASIDE[1] * (0.5 + 0.7 * draw[6])], axis=1)
    state.aside[...] = np.where(begins[:, None], goal, state.aside)
    spring(state.depth, state.depth_speed, (state.left_s > 0.0).astype(np.float64), 4.0, dt)


def _calm(cues: Cues) -> Cues:
    """The same cues with the voice as somebody else's: no blink of one's own speech."""
    zero = np.zeros_like(cues.presence)
    return Cues(zero, zero, zero, zero, zero, np.zeros_like(cues.phrase_start), cues.phrase_end)
