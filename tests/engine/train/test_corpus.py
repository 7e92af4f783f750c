"""The motion corpus on disk: what is written comes back, unknown stays unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.encoders.tiny import TinyEncoder
from engine.errors import InputError
from engine.train.corpus import Corpus, Entry, Features, Take, mirrored, write_index, write_take
from engine.train.data import real_motion
from engine.types import MOTION


def _take(name: str, split: str = "train", kind: str = "real") -> Take:
    noise = np.random.default_rng(len(name))
    frames = 12
    motion = noise.random((frames, MOTION.size)).astype(np.float32)
    motion[3] = np.nan
    audio = (0.1 * noise.standard_normal(640 * frames)).astype(np.float32)
    lips = noise.random((frames, 15)).astype(np.float32)
    opening = np.where(np.arange(frames) % 4, 0.1, np.nan).astype(np.float32)
    return Take(Entry(name, kind, split, "a", frames), audio, lips, opening, opening, motion)


def test_takes_come_back_as_they_were(tmp_path: Path) -> None:
    takes = [_take("folder/one.mp4"), _take("two", split="dev"), _take("labelled/x:3", kind="labelled")]
    for take in takes:
        write_take(tmp_path, take)
    write_index(tmp_path, [t.entry for t in takes], {"seed": 0})
    corpus = Corpus(tmp_path)
    assert corpus.about == {"seed": 0}
    assert [e.name for e in corpus.select("train")] == ["folder/one.mp4", "labelled/x:3"]
    assert [e.name for e in corpus.select("train", "labelled")] == ["labelled/x:3"]
    back = corpus.take(corpus.select("train", "real")[0])
    assert np.allclose(back.audio, takes[0].audio, atol=1e-4)
    assert np.array_equal(back.motion, takes[0].motion, equal_nan=True)
    assert np.array_equal(back.opening, takes[0].opening, equal_nan=True)
    assert np.abs(back.lips - takes[0].lips).max() < 1e-3


def test_a_folder_without_an_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="visavis train data"):
        Corpus(tmp_path)


def test_features_are_computed_once_and_kept(tmp_path: Path) -> None:
    take = _take("one")
    features = Features(tmp_path, TinyEncoder())
    first = features(take)
    (path,) = features.path.iterdir()
    np.save(path, np.zeros_like(first, np.float16))
    assert first.shape == (take.frames, TinyEncoder.SIZE)
    assert not np.any(features(take))  # the file is read, not computed again


def test_a_mirror_swaps_sides_and_turns_yaw_and_two_mirrors_change_nothing() -> None:
    motion = np.random.default_rng(0).normal(size=(5, MOTION.size)).astype(np.float32)
    other = mirrored(motion)
    left, right, ry = (MOTION.index(n) for n in ("mouthSmileLeft", "mouthSmileRight", "ry"))
    assert np.array_equal(other[:, left], motion[:, right])
    assert np.array_equal(other[:, ry], -motion[:, ry])
    assert np.array_equal(other[:, MOTION.index("rx")], motion[:, MOTION.index("rx")])
    assert np.array_equal(mirrored(other), motion)


def test_tracked_motion_moves_to_where_the_sound_is_and_counts_from_rest(tmp_path: Path) -> None:
    frames = 40
    motion = np.zeros((frames, MOTION.size), np.float32)
    motion[:, MOTION.index("jawOpen")] = np.arange(frames) / frames
    motion[:, MOTION.index("ry")] = 0.3
    valid = np.ones(frames, bool)
    valid[20] = False
    path = tmp_path / "clip.npz"
    np.savez(path, motion=motion, valid=valid)
    moved = real_motion(path, offset_ms=80.0)  # the mouth is two frames late
    assert np.allclose(moved[5, MOTION.index("jawOpen")], 7 / frames, atol=1e-6)
    assert np.abs(moved[:10, MOTION.index("ry")]).max() < 1e-6
    assert np.isnan(moved[18]).all()
    np.savez(path, valid=valid)
    with pytest.raises(InputError, match="visavis track"):
        real_motion(path, 0.0)
