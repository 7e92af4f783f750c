"""The encoder benchmarks: what they feed, what they count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.encoders import costs, sounds
from benchmarks.quality.lip_code import best_lag, group_of
from engine.encoders.contrastive import load_lip_code
from engine.encoders.mel import MelEncoder
from engine.encoders.mel_input import normalised_mel
from engine.train.contrastive import Spoken, pair_scores
from engine.train.lip_motion import DESCRIPTORS, LipMotionModel, load_lip_motion


def test_sounds_are_silent_or_at_one_level() -> None:
    made = sounds(2.0)
    assert np.abs(made["silence"]).max() == 0.0
    for name in set(made) - {"silence"}:
        assert np.isfinite(made[name]).all()
        if not name.startswith("speech"):
            assert 20 * np.log10(made[name].std()) == pytest.approx(-25.0, abs=0.1)


def test_costs_are_quantiles_in_order() -> None:
    found = costs({"mel": MelEncoder()}, sounds(2.0)["hiss"], frames=40)
    for kind in ("wall", "cpu"):
        row = found["mel"][kind]
        assert 0.0 < row["p50"] <= row["p95"] <= row["p99"]


@pytest.mark.parametrize(
    ("name", "group"),
    [("grid_s1/a.mp4", "new sentences"), ("grid/s2_b.mp4", "other people"), ("elospheres_T1.mp4", "readers"),
     ("anything.mp4", "free talkers")],
)  # fmt: skip
def test_clips_are_grouped_by_name(name: str, group: str) -> None:
    assert group in group_of(name, "test")


def test_a_shift_of_the_lips_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores with a ridge three frames off the diagonal: the lips are three frames late."""
    scores = np.eye(60, k=3, dtype=np.float32)
    known = np.ones(60, dtype=bool)
    monkeypatch.setattr("benchmarks.quality.lip_code.pair_scores", lambda *_: (scores, known))
    nothing = Spoken("x", np.zeros((4, 64), np.float16), np.zeros((60, DESCRIPTORS), np.float32))
    assert best_lag(load_lip_code(), LipMotionModel(), nothing) == 3


def test_shipped_halves_meet_in_one_space() -> None:
    noise = np.random.default_rng(0)
    samples = (0.1 * noise.standard_normal(640 * 31)).astype(np.float32)
    mel = normalised_mel(samples[None])[0].numpy().astype(np.float16)
    lips = (0.05 * noise.standard_normal((30, DESCRIPTORS))).astype(np.float32)
    lips[7] = np.nan
    scores, known = pair_scores(load_lip_code(), load_lip_motion(), Spoken("x", mel, lips))
    assert scores.shape == (30, 30)
    assert np.abs(scores).max() <= 1.0 + 1e-4
    assert np.flatnonzero(~known).tolist() == [5, 6, 7, 8, 9]
    assert torch.is_tensor(load_lip_motion().deviation)
