"""Trains GoHD's stage 1: lips from audio, frame-wise, taught by people and by an expert network.

The shared losses of lips, and GoHD's own (eq. 18): L1 to the expert's channels (the shipped phonetic
lips network takes the place of the lip-synchronisation expert the paper distils), L1 on the upper face
decoded from the eye feature, landmark fidelity around lips and jaw, and the "shut-up" loss on the
inner lips. The lip-reading loss needs rendered mouths; in its place Φ_a must also tell the expert's
phone posteriors, through a layer that is thrown away, so that it hears sounds and not speakers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.ppg import FEATURES as EXPERT_FEATURES
from engine.samplers.factors import UPPER
from engine.samplers.gohd.lips import EYE_FEATURES, LipStage, LipStageConfig, ahead, spectral_columns
from engine.samplers.lips import load_lip_net
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.corpus import Corpus, Entry, Features
from engine.train.gohd_data import feature_scale, people_of
from engine.train.gohd_features import lip_landmarks
from engine.train.gohd_single import OneStage
from engine.train.lip_features import Sequence, warped
from engine.train.lip_targets import opening_from, scale_opening
from engine.train.lip_training import Batch, LipData, LipTrainer, Recipe

__all__ = ["LipWeights", "StageOneTrainer", "new_lip_stage", "read_lip_data", "scale_of_corpus"]

Floats = NDArray[np.float32]

_PHONES = [k for k, name in enumerate(EXPERT_FEATURES) if name.startswith("phone")]
_SETS = 3  # of posteriors: both halves of the frame and the first of the next
_SHUT = 0.015
"""An opening below this (inter-ocular distances) is a closed mouth."""


@dataclass(frozen=True)
class LipWeights:
    """Weights of GoHD's own losses."""

    distil: float = 1.0
    landmarks: float = 1.0
    shut: float = 1.0
    upper: float = 1.0
    phones: float = 0.5
    eye_dropout: float = 0.5


def scale_of_corpus(corpus: Corpus) -> Floats:
    """Deviation of each eye feature over the tracked training takes [21]."""
    motions = [corpus.take(e).motion for e in corpus.select("train", "real")]
    return feature_scale([m for m in motions if np.isfinite(m).all(axis=1).mean() > 0.8])


def read_lip_data(corpus: Corpus, features: Features, expert: Features | None, scale: Floats) -> LipData:
    """Every take with what stage 1 is taught behind its features: [features | eyes 21 | upper 13 |
    expert's channels 15 | expert's posteriors 129], NaN where unknown. ``expert`` are the phonetic
    features; None for no distillation.

    Dev takes carry eyes at rest: what another part must first make up is not given.
    """
    delay = Recipe.delay_frames
    net = load_lip_net()

    def sequence(entry: Entry, late: float) -> Sequence:
        take = corpus.take(entry)
        heard = features(take)
        frames = min(len(heard), take.frames)
        width = EYE_FEATURES + len(UPPER) + len(LIP_CHANNELS) + len(_PHONES)
        more = np.full((frames, width), np.nan, np.float32)
        more[:, :EYE_FEATURES] = 0.0
        if entry.split == "train":
            for person in people_of(corpus, features, [entry], scale):
                more[:, :EYE_FEATURES] = warped(person.eyes, 1.0, frames, late)
                more[:, EYE_FEATURES : EYE_FEATURES + len(UPPER)] = warped(person.upper, 1.0, frames, late)
            if expert is not None:
                known = expert(take)[:frames]
                with torch.no_grad():
                    made, _ = net(torch.from_numpy(known[None]), net.init_hidden(1))
                at = EYE_FEATURES + len(UPPER)
                more[: len(known), at:] = np.concatenate([made[0].numpy(), known[:, _PHONES]], axis=1)
        targets = (warped(v, 1.0, frames, late) for v in (take.lips, take.opening, take.width))
        heard = ahead(torch.from_numpy(heard[:frames])).numpy()
        return Sequence(entry.speaker, np.concatenate([heard, more], axis=1), *targets)

    def read(split: str, late: float, *kinds: str) -> list[Sequence]:
        return [sequence(entry, late) for entry in corpus.select(split, *kinds)]

    return LipData(
        read("train", delay, "real", "copy"),
        read("train", delay, "labelled", "synthetic"),
        read("dev", 0.0, "real"),
    )


def new_lip_stage(names: tuple[str, ...], config: LipStageConfig | None = None) -> LipStage:
    """An untrained stage for features ``names`` whose windows carry eyes behind them."""
    columns = spectral_columns(names)
    sizes = config or LipStageConfig(len(columns))
    net = LipStage(replace(sizes, features=len(columns)))
    net.columns.copy_(torch.tensor(columns))
    net.eyes_at = len(names)
    return net


class StageOneTrainer(LipTrainer):
    """:class:`LipTrainer` whose windows are heard through changing voices and rooms.

    A mel spectrum tells one speaker from another, and few speakers were filmed: every window gets a
    random smooth equaliser and its bands moved up or down by up to two (a longer or shorter throat).
    """

    def __init__(
        self,
        net: LipStage | OneStage,
        data: LipData,
        names: tuple[str, ...],
        recipe: Recipe | None = None,
        weights: LipWeights | None = None,
    ) -> None:
        super().__init__(net, data, recipe, self._own_losses)
        self.weights = weights or LipWeights()
        self.stage = net
        if isinstance(net, LipStage) and self.weights.distil:
            net.add_module("phones", nn.Linear(net.audio.size, len(_PHONES)))
        self.count = len(names)
        self.halves = [
            [k for k, name in enumerate(names) if name.startswith(prefix)]
            for prefix in ("mel.00.", "mel.01.", "melNext.00.", "melNext.01.")
        ]
        self.landmarks = torch.from_numpy(lip_landmarks())

    def batch(self) -> Batch:
        made = super().batch()
        x = made.x
        bands = len(self.halves[0])
        for row in range(len(x)):
            knots = self.noise.normal(0.0, 0.2, 5)
            shape = np.interp(np.linspace(0, 4, bands), np.arange(5), knots - knots.mean())
            shift = int(self.noise.integers(-2, 3))
            source = np.clip(np.arange(bands) + shift, 0, bands - 1)
            for columns in self.halves:
                moved = x[row][:, [columns[k] for k in source]]
                x[row, :, columns] = moved + torch.from_numpy(shape.astype(np.float32))
        eyes = slice(self.count, self.count + EYE_FEATURES)
        hidden = torch.from_numpy(self.noise.random(len(x)) < self.weights.eye_dropout)
        x[hidden, :, eyes] = 0.0
        return replace(made, x=x)

    def _own_losses(self, channels: Tensor, batch: Batch) -> Tensor:
        own, at = self.weights, self.count + EYE_FEATURES
        sizes = [len(UPPER), len(LIP_CHANNELS), len(_PHONES)]
        upper, expert, phones = torch.split(batch.x[..., at : at + sum(sizes)], sizes, dim=-1)
        total = torch.zeros(())
        taught = torch.isfinite(expert).all(-1)
        if isinstance(self.stage, LipStage) and own.distil and taught.any():
            head = self.stage.get_submodule("phones")
            told = head(self.stage.audio(self.stage.normal(batch.x)))[taught].reshape(
                -1, _SETS, len(_PHONES) // _SETS
            )
            sure = phones[taught].reshape(-1, _SETS, len(_PHONES) // _SETS)
            total = total - own.phones * (sure * torch.log_softmax(told, -1)).sum(-1).mean()
        if own.distil and taught.any():
            apart = (channels[taught] - expert[taught]) * self.prior_weight
            total = total + own.distil * apart.abs().sum(-1).mean()
        known = torch.isfinite(upper).all(-1) & (batch.x[..., self.count : at].abs().sum(-1) > 0)
        if own.upper and known.any():
            _, made = self.stage.both(batch.x)
            total = total + own.upper * (made[known] - upper[known]).abs().sum(-1).mean()
        target = batch.prior.clone()
        scale_opening(target, batch.opening, self.opening_unit)
        points = ((channels - target) @ self.landmarks).abs().mean(-1) / 0.01
        total = total + 0.1 * own.landmarks * points.mean()
        opened = opening_from(channels, self.opening_unit)
        shut = batch.opening < _SHUT
        if own.shut and shut.any():
            total = total + own.shut * ((opened - _SHUT) / 0.05).clamp(min=0.0)[shut].mean()
        return total

    def best_of(self) -> dict[str, float]:
        """:meth:`run`, the stage left ready for windows without eyes."""
        scores = self.run()
        if hasattr(self.stage, "phones"):
            del self.stage.phones
        self.stage.eval()
        return copy.copy(scores)
