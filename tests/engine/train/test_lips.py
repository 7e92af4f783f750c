"""Targets and training of the lips network, on phones whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.encoders.phones import PHONES
from engine.encoders.ppg import FEATURES
from engine.samplers.lips import expand
from engine.samplers.visemes import LIP_CHANNELS, spread_columns, viseme_table
from engine.train.articulation import Articulation, Spoken, fit_articulation
from engine.train.lip_features import Sequence, posteriors_of
from engine.train.lip_targets import coarticulate, geometry, normal_opening, opening_from, scale_opening
from engine.train.lip_training import LipData, LipTrainer, Recipe, evaluate, stretch_opening
from engine.train.lips import new_net
from engine.train.mouth_geometry import opening_of, shape_of
from engine.types import MOTION

Floats = NDArray[np.float32]


def _spoken(*phones: tuple[str, int]) -> Floats:
    """One-hot posteriors: (phone, how many 20 ms columns)..."""
    rows = [np.tile(np.eye(len(PHONES), dtype=np.float32)[PHONES.index(p)], (n, 1)) for p, n in phones]
    return np.concatenate(rows)


def _channel(channels: Floats, name: str) -> Floats:
    return channels[:, LIP_CHANNELS.index(name)]


def test_every_phone_has_a_target_and_a_dominance() -> None:
    targets, dominance = viseme_table(PHONES)
    assert targets.shape == dominance.shape == (len(PHONES), len(LIP_CHANNELS))
    assert (dominance > 0).all()
    assert not targets[PHONES.index("SIL")].any()


def test_bilabials_seal_even_between_open_vowels() -> None:
    channels = coarticulate(_spoken(("AA", 8), ("B", 4), ("AA", 8)))
    seal = _channel(channels, "lipsSealed")
    assert seal[4:6].min() > 0.8
    assert seal[:3].max() < 0.15
    opening = opening_from(torch.from_numpy(channels), geometry()[0]).numpy()
    assert opening[4:6].max() < 0.25 * opening[1]


def test_rounding_reaches_into_the_neighbours_and_beats_spreading() -> None:
    channels = coarticulate(_spoken(("T", 6), ("UW", 6), ("IY", 8)))
    pucker = _channel(channels, "mouthPucker")
    assert pucker[2] > 0.3  # the consonant before is already rounded
    assert pucker[4] > 0.6
    assert pucker[9] < 0.2
    assert _channel(channels, "mouthStretch")[9] > 0.3


def test_labiodentals_bring_the_lower_lip_in_and_silence_brings_nothing() -> None:
    channels = coarticulate(_spoken(("SIL", 20), ("F", 6), ("SIL", 20)))
    assert _channel(channels, "lowerLipIn")[10:12].min() > 0.7
    assert channels[:6].max() < 0.02


def test_scaling_gives_the_opening_asked_for() -> None:
    channels = torch.from_numpy(coarticulate(_spoken(("AE", 12))))
    wanted = torch.full((6,), 0.08)
    scale_opening(channels, wanted, geometry()[0])
    assert torch.allclose(opening_from(channels, geometry()[0]), wanted, atol=0.005)


def test_linear_geometry_agrees_with_the_face_basis() -> None:
    channels = coarticulate(_spoken(("AA", 8), ("IY", 8), ("UW", 8)))
    linear = opening_from(torch.from_numpy(channels), geometry()[0]).numpy()
    motion = spread_columns(channels.astype(np.float64)).astype(np.float32)
    rest = opening_of(np.zeros((1, MOTION.size), np.float32))
    assert np.abs(linear - (opening_of(motion) - rest)).max() < 0.02
    assert shape_of(motion)[6, 0] > shape_of(motion)[10, 0]  # IY is wider than UW


def test_a_persons_range_becomes_the_common_one() -> None:
    scaled = normal_opening(np.array([0.02, 0.12, 0.9], np.float32), 0.02, 0.12)
    assert scaled.tolist() == pytest.approx([0.0, 0.13, 0.26])


def test_articulation_finds_the_opening_of_a_phone_and_its_anticipation() -> None:
    noise = np.random.default_rng(0)
    truth = Articulation()
    with torch.no_grad():
        truth.value[PHONES.index("IY")] = 0.2
        truth.log_reach.copy_(torch.tensor([0.09, 0.03]).log())
    clips = []
    for _ in range(12):
        spoken = [(str(p), int(noise.integers(4, 10))) for p in noise.choice(["IY", "AA", "B", "S"], 20)]
        posteriors = _spoken(*spoken)
        clips.append(Spoken("a", posteriors, truth.opening(posteriors)))
    model = fit_articulation(clips, steps=80)
    iy, aa = (float(model.value[PHONES.index(p)]) for p in ("IY", "AA"))
    assert iy > 1.1 * aa
    assert model.log_reach[0] > model.log_reach[1]


def test_expanding_keeps_the_shape_and_closes_what_is_nearly_closed() -> None:
    unit = geometry()[0]
    channels = torch.from_numpy(coarticulate(_spoken(("AE", 8))))
    wider = expand(channels, unit, torch.tensor([1.5, 0.0]))
    assert torch.allclose(opening_from(wider, unit), 1.5 * opening_from(channels, unit), rtol=0.1)
    assert torch.equal(
        wider[:, LIP_CHANNELS.index("mouthStretch")], channels[:, LIP_CHANNELS.index("mouthStretch")]
    )
    shut = expand(0.1 * channels, unit, torch.tensor([1.5, 0.05]))
    assert opening_from(shut, unit).max() < 0.005


def _sequence(seed: int) -> Sequence:
    """Random words whose features are their own posteriors and whose mouth is the table's."""
    noise = np.random.default_rng(seed)
    spoken = [
        (str(p), 2 * int(noise.integers(2, 5))) for p in noise.choice(["IY", "AA", "B", "UW", "SIL"], 30)
    ]
    posteriors = _spoken(*spoken)
    frames = len(posteriors) // 2
    features = np.zeros((frames, len(FEATURES)), np.float32)
    for half, name in enumerate(("phoneA", "phoneB")):
        first = FEATURES.index(f"{name}.{PHONES[0]}")
        features[:, first : first + len(PHONES)] = posteriors[half::2][:frames]
    assert np.array_equal(posteriors_of(features), posteriors[: 2 * frames])
    channels = coarticulate(posteriors)
    opening = opening_from(torch.from_numpy(channels), geometry()[0]).numpy()
    return Sequence(f"s{seed % 2}", features, channels, opening, np.full(frames, np.nan, np.float32))


def test_a_short_training_follows_the_mouth_and_its_amplitude() -> None:
    torch.set_num_threads(1)
    recipe = Recipe(steps=60, check_every=30, window=50, batch=8, labelled_share=0.0, rate=5e-3)
    data = [_sequence(k) for k in range(6)]
    torch.manual_seed(0)
    net = new_net()
    scores = LipTrainer(net, LipData(data[:4], [], data[4:]), recipe).run()
    assert scores["r"] > 0.7
    stretch_opening(net, data[4:])
    assert 0.6 < evaluate(net, data[4:])["amplitude"] < 1.5
