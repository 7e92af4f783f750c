"""The idle model's fit: pauses found, speeds and rates of a known process recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.encoders.mel import FEATURES
from engine.errors import InputError
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.corpus import Corpus, Entry, Take, write_index, write_take
from engine.train.idle import Pauses, fit, read_pauses
from engine.types import MOTION


def _pause(seed: int, frames: int = 2000) -> np.ndarray:
    """A head whose steps of a twentieth of a degree are noise, twice smoothed by 0.8; eyes that jump."""
    noise = np.random.default_rng(seed)
    motion = np.zeros((frames, MOTION.size))
    drive, speed, place = np.zeros(6), np.zeros(6), np.zeros(6)
    for n in range(frames):
        drive = 0.8 * drive + np.radians(0.05) * 0.36 * noise.normal(0, 1, 6)
        speed = speed + 0.2 * (drive - speed)
        place = 0.97 * place + speed
        motion[n, MOTION.pose] = place
    jumps = np.repeat(noise.normal(0, 0.08, (frames // 60 + 1, 2)), 60, axis=0)[:frames]
    motion[:, MOTION.gaze] = jumps
    motion[:, MOTION.index("browInnerUp")] = 0.05 * noise.random(frames)
    return motion


def test_a_known_process_is_recovered() -> None:
    motion = _pause(0)
    tensors, about = fit({"anna": Pauses([motion], [motion])})
    assert 0.7 <= float(tensors["inertia"].mean()) <= 0.9
    assert np.all((tensors["pull"].numpy() >= 0.01) & (tensors["pull"].numpy() <= 0.06))
    # One jump in 60 frames.
    assert 0.1 < float(tensors["saccades_hz"]) < 0.5
    kick = tensors["kick"].numpy()
    assert np.allclose(kick, np.tril(kick), atol=1e-6)
    assert "anna" in about["speakers"]  # type: ignore[operator]


def test_speakers_count_alike_however_long_they_are_silent() -> None:
    calm, lively = _pause(0), 4.0 * _pause(1)
    alone = [float(fit({"a": Pauses([m], [m])})[0]["kick"][0, 0]) for m in (calm, lively)]
    both = fit({"a": Pauses([calm] * 5, [calm]), "b": Pauses([lively], [lively])})
    assert alone[0] < float(both[0]["kick"][0, 0]) < alone[1]


class _Heard:
    """Features whose voice is the take's opening."""

    def __call__(self, take: Take) -> np.ndarray:
        features = np.zeros((take.frames, len(FEATURES)), np.float32)
        features[:, FEATURES.index("voice")] = take.opening
        return features


def _corpus(folder: Path, speaks: np.ndarray) -> Corpus:
    frames = len(speaks)
    entry = Entry("one", "real", "train", "anna", frames)
    motion = np.random.default_rng(0).normal(0, 0.01, (frames, MOTION.size)).astype(np.float32)
    lips = np.zeros((frames, len(LIP_CHANNELS)), np.float32)
    opening = speaks.astype(np.float32)
    write_take(folder, Take(entry, np.zeros(640 * frames, np.float32), lips, opening, opening, motion))
    write_index(folder, [entry])
    return Corpus(folder)


def test_pauses_keep_their_distance_from_the_voice(tmp_path: Path) -> None:
    speaks = np.zeros(200, bool)
    speaks[50:120] = True
    found = read_pauses(_corpus(tmp_path, speaks), _Heard())["anna"]  # type: ignore[arg-type]
    assert [len(s) for s in found.silent] == [46, 76]
    assert [len(s) for s in found.all] == [200]


def test_without_a_pause_there_is_nothing_to_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="silent"):
        read_pauses(_corpus(tmp_path, np.ones(100, bool)), _Heard())  # type: ignore[arg-type]
