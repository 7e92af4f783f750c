"""The contrastive trainer: its loss by hand, what retrieval counts, and that it learns a planted code."""

from __future__ import annotations

import math

import numpy as np
import torch

from engine.encoders.contrastive import CODE, LipCodeModel
from engine.train.contrastive import NEGATIVES, Recipe, Spoken, Trainer, info_nce, retrieval
from engine.train.lip_motion import DESCRIPTORS, LipMotionModel, describe_lips
from engine.types import MOTION


def test_info_nce_of_equal_scores_is_the_log_of_nine() -> None:
    scores = torch.zeros(20, 20)
    allowed = ~torch.eye(20, dtype=torch.bool)
    loss = info_nce(scores, allowed, torch.ones(20, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert abs(float(loss) - math.log(1 + NEGATIVES)) < 1e-6


def test_info_nce_draws_only_allowed_negatives_and_counts_only_anchors() -> None:
    scores = torch.full((30, 30), 50.0)
    scores.fill_diagonal_(10.0)
    allowed = torch.zeros(30, 30, dtype=torch.bool)
    allowed[:, :NEGATIVES] = True
    allowed.fill_diagonal_(False)
    scores[allowed] = 0.0
    anchors = torch.ones(30, dtype=torch.bool)
    noise = torch.Generator().manual_seed(0)
    # Rows 0..7 have one negative too few and must drop out; the others never see the fifties.
    assert float(info_nce(scores, allowed, anchors, noise)) < 1e-3
    scores[20:] = 0.0
    anchors[20:] = False
    assert float(info_nce(scores, allowed, anchors, noise)) < 1e-3


def test_described_lips_are_relative_to_rest_and_keep_gaps() -> None:
    motion = np.zeros((12, MOTION.size), np.float32)
    motion[:, MOTION.index("jawOpen")] = 0.3
    motion[5] = np.nan
    motion[7, MOTION.index("jawOpen")] = 0.6
    lips = describe_lips(motion)
    assert lips.shape == (12, DESCRIPTORS)
    assert np.isnan(lips[5]).all()
    assert np.abs(lips[0]).max() == 0.0
    assert lips[7, 0] > 0.01


def _planted(speaker: str, seed: int) -> Spoken:
    """A mouth whose opening is the loudness of the sound of the same frame."""
    noise = np.random.default_rng(seed)
    t = np.arange(120)
    opening = 0.5 + 0.5 * np.sin(t * (0.5 + 0.1 * noise.random()) + np.cumsum(noise.normal(0, 0.5, 120)))
    mel = np.repeat(np.append(opening, 0.0), 4)[:, None] - 1.0 + 0.05 * noise.standard_normal((484, 64))
    lips = 0.01 * noise.standard_normal((120, DESCRIPTORS)) + opening[:, None] * 0.2
    return Spoken(speaker, mel.astype(np.float16), lips.astype(np.float32))


def test_untrained_networks_retrieve_by_chance_and_trained_ones_find_the_planted_sound() -> None:
    dev = [_planted("dev", 100 + k) for k in range(4)]
    torch.manual_seed(3)
    before = retrieval(LipCodeModel(width=32), LipMotionModel(16), dev)
    assert before["audio_to_lips_frame"] < 0.3
    recipe = Recipe(window=50, batch=6, steps=40, check_every=20)
    train = [_planted(name, k) for k, name in enumerate(("a", "b", "labelled:c", "labelled:d"))]
    trainer = Trainer(train, dev, recipe)
    after = trainer.run()
    assert after["audio_to_lips_1s"] > 0.6
    assert after["audio_to_lips_1s"] > before["audio_to_lips_1s"] + 0.2
    assert trainer.audio.code.out_features == CODE
