"""FlowVQ's training: labels, windows, the past, likelihood that falls, codes, calibration of the head."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.samplers.flowvq.networks import CLASSES, TAPS, FlowNetConfig
from engine.samplers.flowvq.vector import SIZE
from engine.train.corpus import Entry
from engine.train.flowvq import ABLATIONS, calibrate_head
from engine.train.flowvq_data import Face, Head, Windows, past_of, weights_of
from engine.train.flowvq_fit import FIRST, FlowRecipe, exp_terms, store_codes, train_exp, train_pose

COLUMNS = 4


def _face(label: int, frames: int = 120, seed: int = 0) -> Face:
    """A wandering face round a mean of its own label, with a voice that moves its first column."""
    noise = np.random.default_rng(seed)
    heard = noise.standard_normal((frames, COLUMNS)).astype(np.float32)
    x = np.zeros((frames, SIZE))
    for t in range(1, frames):
        x[t] = 0.8 * x[t - 1] + 0.05 * noise.standard_normal(SIZE)
    x[:, 0] += 0.3 * heard[:, 0]
    x[:, 1 + label] += 0.6 * (label > 0)
    weights = np.zeros(CLASSES, np.float32)
    weights[label] = 1.0
    return Face(f"speaker{seed % 3}", heard, x.astype(np.float32), weights)


FACES = [_face(k % 3, seed=k) for k in range(9)]
SHORT = FlowRecipe(steps=24, batch=4, window=24, check_every=12)
CONFIG = FlowNetConfig(COLUMNS, width=16, steps=2)


def _all_seen(rows: int) -> torch.Tensor:
    return torch.ones(rows, len(TAPS))


def test_labels_carry_the_strength() -> None:
    styled = Entry("styled/a/sad_0@0.40", "styled", "train", "styled:a", 100, "sad")
    made = weights_of(styled)
    assert made.sum() == pytest.approx(1.0)
    assert made[0] == pytest.approx(0.6)
    assert weights_of(Entry("clip", "real", "train", "b", 100))[0] == 1.0


def test_the_past_is_what_came_before() -> None:
    values = torch.arange(FIRST + 5.0)[None, :, None]
    past = past_of(values)
    assert past.shape == (1, 5, len(TAPS), 1)
    for t in range(5):
        assert past[0, t, :, 0].tolist() == [FIRST + t - lag for lag in TAPS]


def test_windows_show_every_label() -> None:
    windows = Windows(FACES, 20, 0)
    features, values, weights = windows.batch(60)
    assert features.shape == (60, 20 + FIRST, COLUMNS)
    assert values.shape == (60, 20 + FIRST, SIZE)
    assert (weights.sum(0)[:3] > 8).all()


def test_likelihood_rises_and_tells_labels_apart() -> None:
    net, scores = train_exp(FACES, FACES[:3], list(range(COLUMNS)), SHORT, CONFIG)
    untrained, start = train_exp(FACES, FACES[:3], list(range(COLUMNS)), FlowRecipe(steps=1, batch=4), CONFIG)
    assert scores["dev_nll"] < start["dev_nll"] - 1.0
    own: list[float] = []
    other: list[float] = []
    for face in FACES[1:3]:
        for label, found in ((face.weights, own), (FACES[0].weights, other)):
            parts = (torch.from_numpy(p)[None] for p in (face.features, face.x, label))
            x, w, tokens, _ = exp_terms(net, tuple(parts), _all_seen)  # type: ignore[arg-type]
            found.append(float(net.encode(x, w, tokens)[1].mean().detach()))
    assert np.mean(own) > np.mean(other) + 1.0
    assert float(untrained.norm.mean[1, 2].detach()) == pytest.approx(0.6, abs=0.15)


def test_codes_are_latents_of_training_frames() -> None:
    net, _ = train_exp(
        FACES, FACES[:3], list(range(COLUMNS)), FlowRecipe(steps=2, batch=4, window=24), CONFIG
    )
    store_codes(net, FACES)
    assert net.codes[:3].std() > 0.3
    assert net.codes[4:].abs().max() == 0.0  # no training face has these labels
    assert torch.isfinite(net.codes).all()


def test_a_gaussian_variant_trains_as_well() -> None:
    recipe = FlowRecipe(steps=2, batch=4, window=24, freedom=ABLATIONS["gaussian"]["freedom"])
    net, scores = train_exp(
        FACES, FACES[:3], list(range(COLUMNS)), recipe, FlowNetConfig(COLUMNS, 16, 2, math.inf)
    )
    assert math.isfinite(scores["dev_nll"])
    assert math.isinf(net.prior.freedom)


def test_the_head_is_learned_and_its_speed_calibrated() -> None:
    noise = np.random.default_rng(1)
    people = []
    for k in range(4):
        smooth = np.cumsum(noise.standard_normal((300, 6)), axis=0)
        pose = 0.05 * np.sin(smooth / 6.0)
        people.append(
            Head(f"p{k}", noise.standard_normal((300, COLUMNS)).astype(np.float32), pose.astype(np.float32))
        )
    net, scores = train_pose(
        people, people[:1], list(range(COLUMNS)), SHORT, FlowNetConfig(COLUMNS, 16, 2, math.inf)
    )
    assert math.isfinite(scores["dev_nll"])
    found = calibrate_head(net, people)
    assert 0.5 <= float(net.temperature) <= 1.3
    real, made = np.array(found["real"]), np.array(found["made"])
    assert (np.abs(np.log(made[3:] / real[3:])) < 1.0).all()
