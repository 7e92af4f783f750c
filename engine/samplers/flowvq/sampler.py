"""``FlowvqSampler``: expression and head sampled frame by frame from conditional normalizing flows.

FlowVQTalker's motion half (Tan et al., 2024), streaming: each frame's latent code is drawn from the
emotion's Student t component (noise counted by frame, never "next"), projected to the manifold of
training codes, turned into a face by the inverse flow in the context of voice, emotion and the
frames before. Lips come from a lips network; ExpFlow adds to their opening and makes everything
else of the face; PoseFlow makes the head. Blinks and gaze are the shared models of human behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import AssetError
from engine.layers.flow import on_manifold
from engine.samplers.emotions import STYLES, manner
from engine.samplers.factors import UPPER
from engine.samplers.flowvq.networks import (
    CLASSES,
    TAPS,
    ExpFlow,
    FlowNetConfig,
    HearingState,
    PoseFlow,
    labels,
)
from engine.samplers.flowvq.vector import MOUTH, OPENING_UNIT, SIZE, to_expression
from engine.samplers.lips import LipNet, LipNetConfig
from engine.samplers.noise import Floats, normals
from engine.samplers.rows import spring
from engine.samplers.visemes import LIP_CHANNELS
from engine.samplers.voice import Float32s, Moment, Sampled, VoiceSampler
from engine.types import EXPRESSION_NAMES, MOTION, Cond
from engine.weights import load_weights, weights_metadata

__all__ = ["PULL", "SPRING", "FlowvqNetworks", "FlowvqSampler", "FlowvqWeights", "bounded", "load_flowvq"]


def _other(name: str) -> str:
    """The same unit on the other side of the face."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


_STREAM = 700
_POSE_STREAM = 760
_TEMPERATURE = 1.0
_NEIGHBOURS = 8
_SPAN = max(TAPS)
_LIMIT = np.concatenate([np.radians([11.0, 16.0, 9.0]), [0.25, 0.2, 0.25]])
"""Poses never go beyond this (rad, inter-ocular distances)."""
PULL = 0.015
"""Share of the pose that a frame gives back toward the portrait's: no stream drifts."""
_SETTLE = torch.full((SIZE,), 0.5)
_SETTLE[MOUTH] = 0.25
_SETTLE[-1] = 0.25
"""Share of the way to each new sample that a frame goes: faces have mass, samples jitter."""
_SLOW = 0.02
SPRING = 25.0
"""1/s, of the critically damped spring through which the head shows: steps drawn anew shake it."""
_LASTING = 0.8
"""Correlation of a frame's draw with the last one's: drawn anew each frame, brows and lids tremble."""
_MIRROR = [UPPER.index(MOTION.index(_other(MOTION.names[k]))) for k in UPPER]
_BLEND = 0.4
"""Share of each side of a neutral upper face that comes from the other side: brows and lids go together."""
_TAKEN = np.minimum(STYLES, 0.0)
_SEAL = LIP_CHANNELS.index("lipsSealed")
_UPPER_LIP = [EXPRESSION_NAMES.index(n) for n in ("mouthUpperUpLeft", "mouthUpperUpRight")]


@dataclass(frozen=True)
class FlowvqWeights:
    """The trained parts: lips map, ExpFlow, PoseFlow, and ``lip_share``, how much of the flow's
    opening is added to the lips map's."""

    lips: LipNet
    exp: ExpFlow
    pose: PoseFlow
    lip_share: float = 0.5


@dataclass
class FlowvqNetworks:
    """Memories, batch first: lips [B, H], audio of both flows, the last frames of the expression in
    normalised coordinates [B, span, SIZE], of the pose and its velocity [B, span, 12], the vector as shown
    and its slow distance from the label's mean [B, SIZE] each, frames so far [B, 1], the draw behind the last
    latent code [B, SIZE + freedom], the head as shown and its speed [B, 6] each."""

    lips: Tensor
    exp: HearingState
    pose: HearingState
    face: Tensor
    head: Tensor
    shown: Tensor
    slow: Tensor
    frames: Tensor
    draws: Tensor
    place: Floats
    speed: Floats


class FlowvqSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72], look-ahead 0.

    ``controls.emotion`` mixes classes (labels, component means, actnorms); ``controls.style`` and
    ``controls.code`` move the face toward a reference clip's latent code
    (:func:`engine.samplers.flowvq.transfer.style_code`).

    Args:
        features: names of the encoder's columns, those the networks were trained on.
        space: the encoder's output space, for the pipeline's check.
        weights: the networks; None loads the shipped ones.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    emotional = True
    styled = True

    def __init__(self, features: tuple[str, ...], space: str, weights: FlowvqWeights | None = None) -> None:
        super().__init__("flowvq_sampler", features, space)
        made = weights if weights is not None else load_flowvq(features=features)
        self._made = made
        self.lips, self.exp, self.pose_flow, self.lip_share = made.lips, made.exp, made.pose, made.lip_share
        self.exp.flow.freeze()
        self.pose_flow.flow.freeze()
        freedom = self.exp.prior.freedom
        self._freedom = 0 if np.isinf(freedom) else int(freedom)
        self._unit = self.lips.range.opening_unit.double().numpy()
        self._neutral = self.exp.norm.mean[0, MOUTH].detach().double().numpy()
        self._lags = torch.tensor([_SPAN - lag for lag in TAPS])

    def style_code(self, motion: Float32s, features: Float32s) -> Float32s:
        """:func:`engine.samplers.flowvq.transfer.style_code` with this sampler's networks, float32 [64].

        A clip in which no voice is heard counts as one without sound.
        """
        from engine.samplers.flowvq.transfer import style_code  # which needs this module's weights

        speaks = features[:, self.features.index("voice")].max(initial=0.0) > 0.5
        return style_code(motion, features if speaks else None, self._made)

    def fresh_networks(self, batch: int, cond: Cond) -> FlowvqNetworks:
        return FlowvqNetworks(
            self.lips.init_hidden(batch)[0],
            self.exp.hearing.init_state(batch),
            self.pose_flow.hearing.init_state(batch),
            torch.zeros(batch, _SPAN, SIZE),
            torch.zeros(batch, _SPAN, 12),
            torch.zeros(batch, SIZE),
            torch.zeros(batch, SIZE),
            torch.zeros(batch, 1),
            torch.zeros(batch, SIZE + self._freedom),
            np.zeros((batch, 6)),
            np.zeros((batch, 6)),
        )

    def sample(self, window: Tensor, moment: Moment, networks: FlowvqNetworks) -> Sampled:
        with torch.inference_mode():
            channels, hidden = self.lips(window[:, :1], networks.lips[None])
            networks.lips.copy_(hidden[0])
            x = self._expression(window, moment, networks).double().numpy()
            pose = self._pose(window, moment, networks)
            networks.frames.add_(1.0)
            weights = labels(torch.from_numpy(moment.controls.emotion).float()).double().numpy()
        emotion = moment.controls.emotion
        change = manner(emotion)
        # Trackers see a little mood in every neutral mouth; it is no part of an emotion.
        x[:, MOUTH] -= weights[:, :1] * self._neutral
        upper, mood = to_expression(x)
        upper = upper + _BLEND * weights[:, :1] * (upper[:, _MIRROR] - upper)
        feeling = np.clip(4.0 * np.maximum(emotion.sum(1), moment.controls.style), 0.0, 1.0)
        mood = mood * feeling[:, None] + emotion @ _TAKEN / np.maximum(emotion.sum(1, keepdims=True), 1.0)
        lips = self._open(channels[:, 0].double().numpy(), x[:, 0], change[:, 2])
        mood[:, _UPPER_LIP] *= 1.0 - np.clip(lips[:, [_SEAL]], 0.0, 1.0)
        return Sampled(lips=lips, upper=upper, pose=pose * change[:, 1:2], mood=mood)

    # -- the face ------------------------------------------------------------------------------

    def _expression(self, window: Tensor, moment: Moment, networks: FlowvqNetworks) -> Tensor:
        """The frame's vector [B, SIZE]; the past moves on.

        One pass of the inverse flow over three rows a stream: the sample, the reference clip's code
        and the neutral code, the last two without a past. A style adds their difference.
        """
        batch = len(window)
        weights = labels(torch.from_numpy(moment.controls.emotion).float())
        audio = self.exp.hearing.advance(window[:, :1], networks.exp)[:, 0]
        neutral = torch.zeros(batch, CLASSES)
        neutral[:, 0] = 1.0
        past = networks.face[:, self._lags]
        seen = (networks.frames >= torch.tensor(TAPS)[None]).float()
        none = torch.zeros_like(seen)
        label = torch.cat([weights, neutral, neutral])
        tokens = self.exp.context(
            audio.repeat(3, 1), label, past.repeat(3, 1, 1), torch.cat([seen, none, none])
        )
        code = torch.from_numpy(moment.controls.code[:, :SIZE]).float()
        centre = self.exp.prior.means[:1].expand(batch, -1)
        z = torch.cat([self._code(weights, moment, networks), centre + code, centre])
        x, styled, plain = self.exp.decode(z, label, tokens).chunk(3)
        normal, _ = self.exp.norm(x, weights)
        networks.face.copy_(torch.cat([networks.face[:, 1:], normal[:, None]], dim=1))
        strength = torch.from_numpy(moment.controls.style).float()[:, None]
        # A neutral face wanders with the whole gain, an expression, which people hold, with less. Only
        # what differs from the last two seconds is widened: the mean of a face stays.
        gain = (self.exp.gain - 1.0) * (0.4 + 0.6 * weights[:, :1])
        apart = x - weights @ self.exp.norm.mean
        networks.slow.add_(
            torch.where(networks.frames > 0, torch.tensor(_SLOW), torch.ones(())) * (apart - networks.slow)
        )
        shown = torch.maximum(torch.minimum(x + gain * (apart - networks.slow), self.exp.high), self.exp.low)
        goal = shown + strength * (styled - plain)
        rate = torch.where(networks.frames > 0, _SETTLE, torch.ones(SIZE))
        networks.shown.add_(rate * (goal - networks.shown))
        return networks.shown.clone()

    def _code(self, weights: Tensor, moment: Moment, networks: FlowvqNetworks) -> Tensor:
        """A latent code [B, SIZE] drawn from the emotion's component and projected to training codes."""
        fresh = torch.from_numpy(normals(moment.seed, _STREAM, moment.frame, SIZE + self._freedom).T).float()
        lasting = _LASTING * (networks.frames > 0)
        draws = networks.draws.copy_(lasting * networks.draws + (1.0 - lasting.square()).sqrt() * fresh)
        chi = draws[:, SIZE:].square().sum(1) if self._freedom else None
        mean = weights @ self.exp.prior.means
        z = self.exp.prior.sample(draws[:, :SIZE], chi, weights) - mean
        codes = self.exp.codes[weights.argmax(1)]
        return mean + _TEMPERATURE * on_manifold(z, codes, _NEIGHBOURS)

    def _open(self, channels: Floats, residual: Floats, factor: Floats) -> Floats:
        """Lips whose opening is the network's times ``factor`` plus the flow's share; shapes stay."""
        opening = channels @ self._unit
        goal = opening * factor + self.lip_share * OPENING_UNIT * residual * np.clip(opening / 0.03, 0.0, 1.0)
        scale = np.clip(goal / np.maximum(opening, 1e-4), 0.3, 2.0)
        parting = self._unit > 0.05
        return np.asarray(np.clip(np.where(parting, channels * scale[:, None], channels), 0.0, 1.0))

    # -- the head ------------------------------------------------------------------------------

    def _pose(self, window: Tensor, moment: Moment, networks: FlowvqNetworks) -> Floats:
        """The head's pose [B, 6]: the last one and a sampled step, bounded, slowly drawn back, as shown."""
        net = self.pose_flow
        audio = net.hearing.advance(window[:, :1], networks.pose)[:, 0]
        past = networks.head[:, self._lags] / net.scale
        seen = torch.ones(len(window), len(TAPS))
        tokens = net.context(audio, torch.ones(len(window), 1), past, seen)
        z = torch.from_numpy(normals(moment.seed, _POSE_STREAM, moment.frame, 6).T).float() * net.temperature
        step = net.decode(z, tokens) * net.scale[6:]
        before = networks.head[:, -1, :6]
        pose = bounded((1.0 - PULL) * before + step)
        networks.head.copy_(
            torch.cat([networks.head[:, 1:], torch.cat([pose, pose - before], 1)[:, None]], 1)
        )
        goal = bounded(net.gain * pose).double().numpy()
        spring(networks.place, networks.speed, goal, SPRING, self.dt)
        return networks.place.copy()


def bounded(pose: Tensor) -> Tensor:
    """``pose`` [B, 6] inside the limits: free up to seven tenths, softly held beyond."""
    limit = torch.from_numpy(_LIMIT).float()
    free, rest = 0.7 * limit, 0.3 * limit
    over = (pose.abs() - free).clamp(min=0.0)
    return pose.clamp(-free, free) + pose.sign() * rest * torch.tanh(over / rest)


def load_flowvq(name: str | Path = "flowvq", features: tuple[str, ...] = ()) -> FlowvqWeights:
    """The shipped networks, frozen, checked against the encoder's column names.

    Raises:
        AssetError: missing, damaged, or trained on other features than ``features``.
    """
    tensors, about = load_weights(name), weights_metadata(name)
    trained_on = tuple(about.get("features", "").split(","))
    if features and trained_on != features:
        raise AssetError(
            f"weights {name} were trained on {len(trained_on)} feature columns, the encoder gives "
            f"{len(features)} other ones; rebuild them with visavis train flowvq"
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def config(tensors: dict[str, Tensor], freedom: float) -> FlowNetConfig:
        steps = 1 + max(int(k.split(".")[2]) for k in tensors if k.startswith("flow.norms."))
        width, inputs = tensors["hearing.mix.weight"].shape
        return FlowNetConfig(inputs, width, steps, freedom)

    lips, exp, pose = part("lips."), part("exp."), part("pose.")
    net = LipNet(LipNetConfig(features=lips["mean"].shape[0], hidden=lips["mix.weight"].shape[0]))
    net.load_state_dict(lips)
    exp_flow = ExpFlow(config(exp, float(about["freedom"])), codes=exp["codes"].shape[1])
    exp_flow.load_state_dict(exp)
    pose_flow = PoseFlow(config(pose, float("inf")))
    pose_flow.load_state_dict(pose)
    for module in (net, exp_flow, pose_flow):
        module.requires_grad_(False).eval()
    return FlowvqWeights(net, exp_flow, pose_flow, float(about["lip_share"]))
