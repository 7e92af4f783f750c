"""The lips map under ExpFlow: mel features to lip channels, taught by people and by the shipped map.

Few people were filmed and a mel spectrum tells one speaker from another, so the shipped map from
phonetic posteriors is the expert on every other voice: its channels are distilled on all takes, its
opening stands in where no real mouth was seen. Windows are heard through random smooth equalisers
and throats (bands moved up or down).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.ppg import FEATURES as PPG_FEATURES
from engine.encoders.ppg import PpgEncoder
from engine.samplers.lips import LipNet, LipNetConfig, load_lip_net
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.corpus import Corpus, Features, Take
from engine.train.lip_features import Sequence, warped
from engine.train.lip_targets import geometry, opening_from
from engine.train.lip_training import Batch, LipData, LipTrainer, Recipe, calibrate

__all__ = ["TaughtTrainer", "expert_of", "read_lips", "train_lips"]

Floats = NDArray[np.float32]
INPUTS = ("level", "loudness", "snr", "tilt", "voic", "vad", "mel")
"""Beginnings of the names of the columns the lips map reads."""
_C = len(LIP_CHANNELS)


def expert_of(corpus: Path) -> Features:
    """Phonetic features of a corpus, for the expert."""
    return Features(corpus, PpgEncoder(backend="eager"), "ppg")


def read_lips(
    corpora: list[tuple[Corpus, Features, Features]], delay: float = Recipe.delay_frames
) -> LipData:
    """Sequences whose features carry the expert's channels behind them: [features F | expert 15]."""
    net = load_lip_net(features=PPG_FEATURES)
    unit = geometry()[0]

    def sequence(take: Take, heard: Floats, phonetic: Floats, late: float) -> Sequence:
        frames = min(len(heard), take.frames, len(phonetic))
        with torch.no_grad():
            expert, _ = net(torch.from_numpy(phonetic[None, :frames]), net.init_hidden(1))
        columns = np.concatenate([heard[:frames], expert[0].numpy()], axis=1)
        opening = take.opening[:frames]
        if not np.isfinite(opening).any() or take.entry.kind == "styled":
            opening = opening_from(expert[0], unit).numpy()
        values = (take.lips[:frames], opening, take.width[:frames])
        return Sequence(take.entry.speaker, columns, *(warped(v, 1.0, frames, late) for v in values))

    def read(split: str, late: float, *kinds: str) -> list[Sequence]:
        return [
            sequence(take, features(take), expert(take), late)
            for corpus, features, expert in corpora
            for take in map(corpus.take, corpus.select(split, *kinds))
        ]

    return LipData(
        read("train", delay, "real", "copy"),
        read("train", delay, "labelled", "synthetic", "styled"),
        read("dev", 0.0, "real"),
    )


class TaughtTrainer(LipTrainer):
    """:class:`LipTrainer` with augmented windows and the expert's channels as a further target."""

    def __init__(
        self, net: LipNet, data: LipData, names: tuple[str, ...], recipe: Recipe, distil: float = 1.5
    ) -> None:
        super().__init__(net, data, recipe, self._expert_loss)
        self.distil = distil
        groups = sorted({name[:-2] for name in names if name.startswith("mel")})
        self.bands = [[k for k, name in enumerate(names) if name.startswith(g)] for g in groups]

    def batch(self) -> Batch:
        made = super().batch()
        x = made.x
        count = len(self.bands[0]) if self.bands else 0
        for row in range(len(x) if count else 0):
            knots = self.noise.normal(0.0, 0.2, 5)
            equaliser = np.interp(np.linspace(0, 4, count), np.arange(5), knots - knots.mean())
            source = np.clip(np.arange(count) + int(self.noise.integers(-2, 3)), 0, count - 1)
            for columns in self.bands:
                moved = x[row][:, [columns[k] for k in source]]
                x[row, :, columns] = moved + torch.from_numpy(equaliser.astype(np.float32))
        return replace(made, x=x)

    def _expert_loss(self, channels: Tensor, batch: Batch) -> Tensor:
        """L1 to the expert's channels, and agreement of both openings over the window."""
        expert = batch.x[..., -_C:]
        error = ((channels - expert) * self.prior_weight).abs().sum(-1).mean()
        ours, theirs = opening_from(channels, self.opening_unit), opening_from(expert, self.opening_unit)
        ours, theirs = ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True)
        r = nn.functional.cosine_similarity(ours, theirs, dim=1)
        return self.distil * (error + (1.0 - r).mean())


def train_lips(
    corpora: list[tuple[Corpus, Features, Features]], names: tuple[str, ...], recipe: Recipe, hidden: int = 80
) -> tuple[LipNet, dict[str, float]]:
    """The trained and calibrated lips map and its scores on dev."""
    data = read_lips(corpora, recipe.delay_frames)
    columns = [k for k, name in enumerate(names) if name.startswith(INPUTS)]
    torch.manual_seed(recipe.seed)
    net = LipNet(LipNetConfig(features=len(columns), hidden=hidden))
    net.columns.copy_(torch.tensor(columns))
    TaughtTrainer(net, data, names, recipe).run()
    return net, calibrate(net, data)
