"""Trains OSM-Net's expression extractor: the shared training of lips, and the landmark loss.

The landmark loss (eq. 9) compares 3-D landmarks of the face basis, moved by predicted and by target
channels: L = 1/N Σ ω_n ‖p̃_n − p_n‖², ω = 20 on the inner mouth, 1 elsewhere on the lips and around. Basis
and mean head are linear, so a matrix carries channels to landmarks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from engine.encoders.mel import BANDS, FEATURES
from engine.face.basis import load_basis
from engine.face.landmarks import INNER_LIPS
from engine.samplers.osm.expression import ExpressionConfig, ExpressionNet
from engine.samplers.visemes import LIP_CHANNELS, spread_columns
from engine.train.lip_targets import scale_opening
from engine.train.lip_training import Batch, Extra, LipData, LipTrainer, Recipe, calibrate
from engine.types import MOTION

__all__ = ["LANDMARK_WEIGHT", "landmark_loss", "landmark_matrix", "other_throats", "train_lips"]

LANDMARK_WEIGHT = 0.3
THROAT, CHANNEL = 2.5, 0.12
"""Bands shifted at most; deviation of the channel's curve (units of 20 dB)."""
_SPECTRA = slice(FEATURES.index("mel.00.00"), len(FEATURES))
_INNER = 20.0
_MOVED = 0.02


def landmark_matrix() -> tuple[Tensor, Tensor]:
    """Landmarks per channel [15, 3 N] in inter-ocular distances, and weights [3 N], each landmark's
    three times; those of the landmarks sum to 1.

    The landmarks are those that some channel moves by more than 2 % of an inter-ocular distance.
    """
    basis = load_basis()
    columns = spread_columns(np.eye(len(LIP_CHANNELS)))[:, MOTION.expression]
    units = basis.at_landmarks(basis.expression)
    eyes = float(np.linalg.norm(basis.eye_centre[0] - basis.eye_centre[1]))
    moved = np.tensordot(columns, units, 1) / eyes
    kept = np.flatnonzero(np.linalg.norm(moved, axis=2).max(axis=0) > _MOVED)
    inner = {int(k) for pair in INNER_LIPS for k in pair}
    weight = np.array([_INNER if int(k) in inner else 1.0 for k in kept])
    weights = np.repeat(weight / weight.sum(), 3)
    matrix = moved[:, kept].reshape(len(LIP_CHANNELS), -1)
    return torch.from_numpy(matrix).float(), torch.from_numpy(weights).float()


def landmark_loss(opening_unit: Tensor, weight: float = LANDMARK_WEIGHT) -> Extra:
    """Eq. 9 as an extra loss: squared landmark error in units of 2 % of an inter-ocular distance.

    Targets are the prior's channels, their opening that of the real mouth where it is known.
    """
    matrix, share = landmark_matrix()

    def loss(channels: Tensor, batch: Batch) -> Tensor:
        goal = batch.prior.clone()
        scale_opening(goal, batch.opening, opening_unit)
        error = ((channels - goal) @ matrix / 0.02).square()
        return weight * (error * share).sum(-1).mean()

    return loss


class _ThroatTrainer(LipTrainer):
    """The shared training, every window heard from another throat through another channel.

    A spectrum tells speakers apart better than sounds; few of them are tracked. So each row's bands are
    shifted by up to :data:`THROAT` bands (vocal tract length perturbation, Jaitly and Hinton, 2013)
    and tilted by a smooth random curve of a few decibels.
    """

    def batch(self) -> Batch:
        batch = super().batch()
        x = batch.x.clone()
        x[..., _SPECTRA] = other_throats(x[..., _SPECTRA])
        return replace(batch, x=x)


def other_throats(spectra: Tensor) -> Tensor:
    """``spectra`` [B, T, P * 40], P of them beside one another, each row shifted and tilted alike."""
    rows, frames, size = spectra.shape
    bands = spectra.reshape(rows, frames, size // BANDS, BANDS)
    place = torch.arange(BANDS, dtype=torch.float32)
    shift = THROAT * (2.0 * torch.rand(rows, 1) - 1.0) * place / (place + 6.0)
    source = (place + shift).clamp(0.0, BANDS - 1.0)
    below = source.floor().clamp(max=BANDS - 2).long()
    part = (source - below)[:, None, None]
    index = below[:, None, None].expand_as(bands)
    moved = bands.gather(3, index) * (1.0 - part) + bands.gather(3, index + 1) * part
    curve = nn.functional.interpolate(torch.randn(rows, 1, 5), BANDS, mode="linear", align_corners=True)
    return (moved + CHANNEL * curve[:, :, None]).flatten(2)


def train_lips(
    data: LipData,
    columns: list[int],
    recipe: Recipe,
    landmarks: bool = True,
    paper_only: bool = False,
) -> tuple[ExpressionNet, dict[str, float]]:
    """The network trained and calibrated, and its scores on dev.

    ``landmarks`` off is the paper's ablation; ``paper_only`` leaves out what this engine adds to the
    paper's two losses (correlation, deviation, velocity and width of real mouths).
    """
    torch.manual_seed(recipe.seed)
    if paper_only:
        recipe = replace(recipe, w_corr=0.0, w_ratio=0.0, w_error=0.0, w_velocity=0.0, w_width=0.0)
    net = ExpressionNet(ExpressionConfig(len(columns)))
    net.columns.copy_(torch.tensor(columns))
    trainer = _ThroatTrainer(net, data, recipe)
    if landmarks:
        trainer.extra = landmark_loss(trainer.opening_unit)
    raw = trainer.run()
    scores = calibrate(net, data)
    return net, {"raw_r": raw["r"], **scores}
