"""PD-FGC's expression factor: its losses, and that training separates mood from speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.samplers.pdfgc.expression import ARTICULATION, READ
from engine.train.corpus import Corpus, Entry, Take, write_index, write_take
from engine.train.pdfgc import main
from engine.train.pdfgc_expression import (
    ABLATIONS,
    Examples,
    author,
    correlation_loss,
    read_examples,
    train_expression,
)
from engine.types import EXPRESSION_NAMES, MOTION

JAW = READ.index(EXPRESSION_NAMES.index("jawOpen"))


def test_correlation_loss_is_one_for_copies_and_small_for_strangers() -> None:
    torch.manual_seed(0)
    a = torch.randn(512, 1)
    assert correlation_loss(a, 3 * a + 2).item() == pytest.approx(1.0, abs=0.01)
    strangers = correlation_loss(torch.randn(512, 30), torch.randn(512, 40)).item()
    assert strangers == pytest.approx(1 / 512, rel=0.3)


def test_authored_expressions_are_bounded_and_never_articulate() -> None:
    made = author(np.random.default_rng(0), 200, 13)
    assert made.shape == (200, 13, len(READ))
    assert made.min() >= 0.0
    assert made.max() < 2.6  # two at once, one side 1.3 times as strong
    assert not made[:, :, [READ.index(k) for k in ARTICULATION]].any()
    assert (np.abs(np.diff(made, axis=1)).max(axis=(1, 2)) > 0.01).mean() > 0.1  # some come or go


def talkers(frames: int = 2000) -> Examples:
    """One mouth whose jaw and lips do what three lip features say."""
    noise = np.random.default_rng(0)
    t = np.arange(frames) / 25
    lips = np.stack([np.sin(2 * np.pi * f * t + 3 * np.sin(0.3 * f * t)) for f in (2.3, 3.9, 5.1)], axis=1)
    mixing = noise.uniform(-0.1, 0.15, (3, len(READ))) * (noise.random(len(READ)) < 0.4)
    mixing[:, JAW] = 0.15
    face = np.maximum(lips, 0) @ mixing + 0.02 * noise.standard_normal((frames, len(READ)))
    return Examples(
        face.astype(np.float32),
        np.zeros((frames, 10), np.float32),
        lips.astype(np.float32),
        np.arange(frames),
        np.full(frames, 1 / frames),
    )


def test_training_keeps_speech_out_of_the_code_and_moods_in() -> None:
    examples = talkers()
    speech = torch.from_numpy(examples.face)
    moods = torch.from_numpy(author(np.random.default_rng(5), 200, 1)[:, 0])
    leaks, found = {}, {}
    for name in ("none", "full"):
        net = train_expression(examples, replace(ABLATIONS[name], steps=400, hidden=32))
        windows = net.encode(speech).unfold(0, net.window, 1).mean(-1)
        leaks[name] = float(net.decode(windows)[:, JAW].std()) / float(speech[:, JAW].std())
        pair = torch.stack([net.decode(net.encode(moods)).flatten(), moods.flatten()])
        found[name] = float(torch.corrcoef(pair)[0, 1])
    assert leaks["full"] < 0.4 * leaks["none"]
    assert found["full"] > 0.5


def test_an_ablation_never_replaces_the_shipped_weights(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--corpus", "nowhere", "--ablate", "none"])
    assert "--out" in capsys.readouterr().err


def _take(name: str, motion: np.ndarray) -> Take:
    frames = len(motion)
    nothing = np.zeros(frames, np.float32)
    entry = Entry(name, "real", "train", name[0], frames)
    return Take(
        entry,
        np.zeros(640 * frames, np.float32),
        np.zeros((frames, 15), np.float32),
        nothing,
        nothing,
        motion,
    )


def test_windows_never_reach_over_unseen_frames_or_into_another_take(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    takes = []
    for name in ("a", "b"):
        motion = noise.uniform(0, 0.3, (40, MOTION.size)).astype(np.float32)
        motion[20] = np.nan
        takes.append(_take(name, motion))
        write_take(tmp_path, takes[-1])
    write_index(tmp_path, [take.entry for take in takes])
    features = noise.normal(size=(40, 6)).astype(np.float32)
    examples = read_examples(Corpus(tmp_path), lambda take: features, [0, 3])  # type: ignore[arg-type]
    assert examples.face.shape == (160, len(READ))  # two takes and their mirror images
    assert examples.lips.shape == (160, 2 + 15)
    assert [examples.age[k] for k in (0, 19, 20, 21, 39, 40)] == [0, 19, -1, 0, 18, 0]
    assert not examples.weight[examples.age < 0].any()
    assert np.isfinite(examples.face).all()
