"""``OsmSampler``: OSM-Net over a stream. Lips by regression, the head by clips drawn from a motion space.

Every T frames, and at once where a live action changes, a clip is drawn: the voice so far and the
head's own delivered motion give the centre F^a = w^a B, and F comes from the ball ‖F − F^a‖ ≤ ε about
it (eq. 5), the noise a function of the seed and the clip's first frame. Eyes and brows are left to the
shared models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import AssetError, ConfigError
from engine.samplers.cues import Cues
from engine.samplers.noise import Floats, Seeds, normals
from engine.samplers.osm.audio import PAST_FRAMES, AudioConfig, AudioMotion
from engine.samplers.osm.expression import ExpressionConfig, ExpressionNet, ExpressionState
from engine.samplers.osm.space import POSES, MotionSpace, SpaceConfig
from engine.samplers.osm.steering import Actions, Steering
from engine.samplers.rows import Bools
from engine.samplers.voice import Moment, Sampled, VoiceSampler
from engine.types import Cond
from engine.weights import load_weights, weights_metadata

__all__ = ["HeadMotion", "OsmNetworks", "OsmSampler", "Temper", "head_motion", "load_osm"]

_STREAM = 900
_ALIVE = 0.2
"""Share of what is sampled that remains under a forced action: a head held still is dead."""
_LIMIT = np.array([0.26, 0.35, 0.24, 0.35, 0.25, 0.5])
"""Pose [6] that the head never passes: 15, 20 and 14 degrees, and translations to match."""


@dataclass(frozen=True)
class Temper:
    """How lively the head is, calibrated on tracked people (:mod:`engine.train.osm_calibrate`).

    ``ball`` scales the noise inside the ball, ``gain`` [6] the clips drawn, ``pull`` is the share of the
    pose given back per frame (a spring to the portrait), ``carry`` the share of a step's change that
    goes on into the next frame where two clips meet, ``quiet`` the liveliness left where nobody speaks.
    """

    ball: float = 1.0
    gain: tuple[float, ...] = (1.0,) * POSES
    pull: float = 0.03
    carry: float = 0.5
    quiet: float = 0.6

    def tensor(self) -> Tensor:
        return torch.tensor([self.ball, *self.gain, self.pull, self.carry, self.quiet])

    @staticmethod
    def of(values: Tensor) -> Temper:
        """From :meth:`tensor`."""
        ball, *gain, pull, carry, quiet = (float(v) for v in values)
        return Temper(ball, tuple(gain), pull, carry, quiet)


@dataclass
class HeadState:
    """``memory`` [B, H] of the voice; ``clip`` [B, T, 6] under way, absolute poses before the limit;
    ``position`` [B] of the next frame in it; ``past`` [B, 1 + PAST_FRAMES, 6] poses delivered, newest last;
    ``swing`` [B] direction of a forced nod; ``forced`` [B, 3] the actions of the frame before."""

    memory: Tensor
    clip: Floats
    position: Floats
    past: Floats
    swing: Floats
    forced: Floats


class HeadMotion:
    """Poses frame by frame from a :class:`MotionSpace` and the voice's :class:`AudioMotion`.

    Args:
        space, audio: the trained networks, frozen.
        spread: [K, C] directions of the ball about the centre in which people differ, each as long as
            the deviation along it; ε = 1 bounds every draw.
        steering: codes of the actions that can be forced.
        temper: the calibration.
        centre: draw nothing and follow the centre F^a, as the paper does where it compares pictures.
    """

    def __init__(self, space: MotionSpace, audio: AudioMotion, spread: Tensor, steering: Steering,
                 temper: Temper, centre: bool = False) -> None:  # fmt: skip
        self.space, self.audio, self.spread = space, audio, spread
        self.steering, self.temper, self.centre = steering, temper, centre
        self.length = space.config.clip

    def init_state(self, batch: int) -> HeadState:
        return HeadState(
            memory=torch.zeros(batch, self.audio.config.hidden),
            clip=np.zeros((batch, self.length, POSES)),
            position=np.full(batch, float(self.length)),
            past=np.zeros((batch, 1 + PAST_FRAMES, POSES)),
            swing=np.ones(batch),
            forced=np.zeros((batch, len(Actions))),
        )

    def step(self, x: Tensor, seed: Seeds, frame: int, cues: Cues, action: Floats,
             state: HeadState) -> Floats:  # fmt: skip
        """Pose [B, 6] of the frame whose features are ``x`` [B, F]; ``action`` [B, 3]."""
        with torch.inference_mode():
            state.memory.copy_(self.audio.advance(x, state.memory))
        urgent = np.abs(action - state.forced).max(axis=1) > 0.02
        state.forced[...] = action
        due = urgent | (state.position >= self.length)
        if due.any():
            # All rows are drawn for, so that a row's arithmetic never depends on the others' time.
            clip = self._draw(seed, frame, cues, action, state, due)
            state.clip[...] = np.where(due[:, None, None], clip, state.clip)
            state.position[due] = 0.0
        place = state.position.astype(int)
        pose = state.clip[np.arange(len(place)), place]
        state.position += 1.0
        state.past[:, :-1] = state.past[:, 1:].copy()
        state.past[:, -1] = pose
        return np.asarray(_LIMIT * np.tanh(pose / _LIMIT))

    def _draw(self, seed: Seeds, frame: int, cues: Cues, action: Floats, state: HeadState,
              due: Bools) -> Floats:  # fmt: skip
        """A clip [B, T, 6] that goes on from the last pose of each row."""
        pose, steps = state.past[:, -1], np.diff(state.past, axis=1)
        with torch.inference_mode():
            heard = self.audio.weights(state.memory, _tensor(pose), _tensor(steps))
            feature = self.space.mixed(heard.exp())
            if not self.centre:
                feature = feature + self._ball(seed, frame)
            clip = self.space.decode(feature).double().numpy()
        lively = self.temper.quiet + (1.0 - self.temper.quiet) * cues.presence
        clip = clip * np.array(self.temper.gain) * lively[:, None, None]
        share = action.max(axis=1)
        home = np.zeros_like(pose)
        if share.any():
            home[:, :3] = self.steering.home(action, pose)
            wanted = self.steering.wanted(action, pose, state.swing)
            forced = self.steering.clip(self.space, wanted)
            held = share[:, None, None]
            clip = (1.0 - (1.0 - _ALIVE) * held) * clip + held * forced
            state.swing[...] = np.where(due, -state.swing, state.swing)
        return self._joined(clip, pose, steps[:, -1], home)

    def _ball(self, seed: Seeds, frame: int) -> Tensor:
        """Noise [B, C] with the spread of real clips about their centre, kept inside the ball of ε = 1."""
        drawn = self.temper.ball * normals(seed, _STREAM, frame, len(self.spread)).T
        noise = _tensor(drawn) @ self.spread
        inside: Tensor = noise / noise.norm(dim=-1, keepdim=True).clamp(min=1.0)
        return inside

    def _joined(self, clip: Floats, pose: Floats, speed: Floats, home: Floats) -> Floats:
        """The clip [B, T, 6] set upon ``pose`` [B, 6]: the change of ``speed`` at the joint fades over a few
        frames instead of happening at once, and part of the way ``home`` [B, 6] is given back."""
        frames = np.arange(1, self.length + 1)[None, :, None]
        carry = self.temper.carry
        faded = carry * (1.0 - carry**frames) / (1.0 - carry)
        jolt = (speed - clip[:, 0])[:, None, :] * faded
        back = (home - pose)[:, None, :] * (1.0 - (1.0 - self.temper.pull) ** frames)
        return np.asarray(pose[:, None, :] + back + clip + jolt)


@dataclass
class NoLips:
    """The state of lips that somebody else moves."""


@dataclass
class OsmNetworks:
    """The states of lips and head."""

    lips: ExpressionState | NoLips
    head: HeadState


class OsmSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72], look-ahead 0 beyond the encoder's own.

    Args:
        features: names of the encoder's columns, those of the ``mel`` encoder it was trained on.
        space: the encoder's output space, for the pipeline's check.
        weights: name or file of the weights.
        centre: draw nothing, follow the centre of the ball.
        head_only: leave the lips to others; the head hears prosody alone, which every encoder has.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    acting = True

    def __init__(self, features: tuple[str, ...], space: str, weights: str | Path = "osm",
                 centre: bool = False, head_only: bool = False) -> None:  # fmt: skip
        super().__init__("osm_head" if head_only else "osm_sampler", features, space)
        self.expression: ExpressionNet | None = None
        if head_only:
            self.motion = load_head(weights, features)
        else:
            self.expression, self.motion = load_osm(weights, features)
        self.motion.centre = centre

    def fresh_networks(self, batch: int, cond: Cond) -> OsmNetworks:
        lips = self.expression.init_state(batch) if self.expression is not None else NoLips()
        return OsmNetworks(lips, self.motion.init_state(batch))

    def sample(self, window: Tensor, moment: Moment, networks: OsmNetworks) -> Sampled:
        x, lips = window[:, 0], None
        if self.expression is not None and isinstance(networks.lips, ExpressionState):
            with torch.inference_mode():
                lips = self.expression.step(x, networks.lips).double().numpy()
        pose = self.motion.step(
            x, moment.seed, moment.frame, moment.cues, moment.controls.action, networks.head
        )
        return Sampled(lips=lips, pose=pose)


def load_osm(name: str | Path, features: tuple[str, ...]) -> tuple[ExpressionNet, HeadMotion]:
    """The networks of weight ``name``, frozen, checked against the encoder's column names.

    Raises:
        AssetError: missing, damaged, or trained on other features than ``features``.
    """
    tensors = load_weights(name)
    trained_on = tuple(weights_metadata(name).get("features", "").split(","))
    if trained_on != features:
        raise AssetError(
            f"weights {name} were trained on {len(trained_on)} feature columns, the encoder gives "
            f"{len(features)} other ones; they go with the mel encoder"
        )
    own = _under(tensors, "expression")
    lips = ExpressionNet(
        ExpressionConfig(len(own["columns"]), len(own["mix.bias"]), own["window.conv.weight"].shape[2])
    )
    lips.load_state_dict(own)
    return lips.requires_grad_(False).eval(), head_motion(tensors)


def load_head(name: str | Path, features: tuple[str, ...]) -> HeadMotion:
    """The head's half alone, its columns found by name in another encoder's ``features``.

    Raises:
        AssetError: missing or damaged.
        ConfigError: the encoder lacks a column of prosody.
    """
    tensors = load_weights(name)
    trained_on = weights_metadata(name).get("features", "").split(",")
    columns = [trained_on[k] for k in tensors["audio.columns"].tolist()]
    missing = [column for column in columns if column not in features]
    if missing:
        raise ConfigError(f"the head of {name} hears {', '.join(missing)}, which the encoder does not give")
    tensors["audio.columns"] = torch.tensor([features.index(column) for column in columns])
    return head_motion(tensors)


def head_motion(tensors: dict[str, Tensor]) -> HeadMotion:
    """The head's half of the weights, frozen."""
    made, heard = _under(tensors, "space"), _under(tensors, "audio")
    bases = made["bases"]
    config = SpaceConfig(
        clip=len(made["decoder.2.bias"]) // POSES, bases=len(bases), width=bases.shape[1],
        hidden=len(made["encoder.0.bias"]), sharpness=float(tensors["sharpness"]),
    )  # fmt: skip
    space, audio = (
        MotionSpace(config),
        AudioMotion(AudioConfig(len(heard["columns"]), len(bases), len(heard["listen.bias"]))),
    )
    space.load_state_dict(made)
    audio.load_state_dict(heard)
    for net in (space, audio):
        net.requires_grad_(False).eval()
    steering = Steering(tensors["codes"], tensors["reach"])
    return HeadMotion(space, audio, tensors["spread"], steering, Temper.of(tensors["temper"]))


def _under(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    start = kind + "."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
