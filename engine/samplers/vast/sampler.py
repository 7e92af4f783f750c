"""``VastSampler``: lips by a transformer, the upper face drawn by an LSTM, both in a style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.samplers.factors import UPPER
from engine.samplers.noise import Floats, normals
from engine.samplers.vast.decoder import WEAK, StrongState, WeakState
from engine.samplers.vast.networks import CHEEKS, MOOD, VastNets, load_vast
from engine.samplers.vast.prompt import code_of
from engine.samplers.voice import Float32s, Moment, Sampled, VoiceSampler
from engine.types import MOTION, Cond

__all__ = ["VastNetworks", "VastSampler"]

_STYLE_STREAM, _FACE_STREAM = 700, 740
_VARIETY = 0.3
"""How far a seed's own style lies from the middle of all styles, in deviations of the prior."""
_LIVELY = 0.8
"""Deviation of the noise the upper face is drawn with: 1 would also draw the tracker's jitter."""
_MOST_MOOD = 0.6


@dataclass
class VastNetworks:
    """``style`` [B, 2 S] of the frame before, the face's and the lips'; ``begun`` [B] 0 before the
    first; the decoders' memories."""

    style: Tensor
    begun: Tensor
    strong: StrongState
    weak: WeakState


class VastSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72].

    The style is the live control ``style.*`` (:func:`engine.samplers.vast.prompt.style_code`) at the
    strength of ``style``; what the strength leaves comes from a style near the middle of all, drawn
    by the seed: for the face alone, for the lips that follow the voice best are the neutral ones. The
    head is VAST's template in the paper and the shared model of heads here.

    Args:
        features: names of the encoder's columns, those the networks were trained on.
        space: the encoder's output space, for the pipeline's check.
        nets: the networks; None loads the shipped ones.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    styled = True

    def __init__(self, features: tuple[str, ...], space: str, nets: VastNets | None = None) -> None:
        nets = nets if nets is not None else load_vast(features=features)
        super().__init__("vast_sampler", features, space, nets.config.strong.ahead)
        self.nets = nets
        self._weak = [UPPER.index(column) for column in WEAK]
        self._cheeks = [UPPER.index(column) for column in CHEEKS]

    def style_code(self, motion: Float32s, features: Float32s) -> Float32s:
        """:func:`engine.samplers.vast.prompt.code_of` with this sampler's networks, float32 [64].

        A clip in which no voice is heard counts as one without sound.
        """
        speaks = features[:, self.features.index("voice")].max(initial=0.0) > 0.5
        return code_of(self.nets, motion, features if speaks else None)

    def fresh_networks(self, batch: int, cond: Cond) -> VastNetworks:
        return VastNetworks(
            style=torch.zeros(batch, 2 * self.nets.config.style.size),
            begun=torch.zeros(batch),
            strong=self.nets.strong.init_state(batch),
            weak=self.nets.weak.init_state(batch),
        )

    def sample(self, window: Tensor, moment: Moment, networks: VastNetworks) -> Sampled:
        size = self.nets.config.style.size
        own = _VARIETY * normals(moment.seed, _STYLE_STREAM, 0, size).T
        strength = moment.controls.style[:, None]
        asked = strength * moment.controls.code[:, :size]
        goal = np.concatenate([asked + (1.0 - strength) * own, asked], axis=1)
        noise = _LIVELY * normals(moment.seed, _FACE_STREAM, moment.frame, len(WEAK)).T
        with torch.inference_mode():
            style, prompted = _follow(torch.from_numpy(goal).float(), networks).chunk(2, dim=1)
            lips, cheeks = self.nets.step(window, prompted, networks.strong)
            heard = self.nets.strong.heard(window[:, 0])
            weak = self.nets.weak.step(heard, style, torch.from_numpy(noise).float(), networks.weak)
            mood = self.nets.mood(style)
        upper = np.zeros((len(own), len(UPPER)))
        upper[:, self._weak] = weak.double().numpy()
        upper[:, self._cheeks] = cheeks.double().numpy()
        return Sampled(lips=np.asarray(lips.double().numpy()), upper=upper, mood=_mood(mood))


def _follow(goal: Tensor, networks: VastNetworks) -> Tensor:
    """Half way to ``goal`` [B, 2 S] on its first frame, as all live controls go; there on the second."""
    begun = networks.begun[:, None] > 0
    before = torch.where(begun, networks.style, goal)
    networks.style.copy_(goal)
    networks.begun.fill_(1.0)
    return 0.5 * (before + goal)


def _mood(values: Tensor) -> Floats:
    """:data:`MOOD` columns as expression [B, 64]."""
    expression = np.zeros((len(values), MOTION.expression.stop))
    expression[:, MOOD] = np.clip(values.double().numpy(), -_MOST_MOOD, _MOST_MOOD)
    return expression
