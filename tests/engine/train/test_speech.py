"""Speech data, augmentation, alignment and a training run of two steps, on made voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders.phones import PHONES, SILENCE, UNKNOWN
from engine.synth.voices import Segment
from engine.train import acoustic, augment
from engine.train.align import viterbi
from engine.train.speech_data import Corpus, PhoneAligner, Writer, load_audio, rasterise, split_of
from tests.conftest import shared_data


def _tones(frames: int, seed: int) -> tuple[augment.Floats, np.ndarray[tuple[int], np.dtype[np.int8]]]:
    """A toy voice: each phone is a tone of its own, 120 ms long."""
    noise = np.random.default_rng(seed)
    labels = np.repeat(noise.integers(0, 6, frames // 12 + 1), 12)[:frames].astype(np.int8)
    pitch = np.where(labels == 0, 0, 300 + 350 * labels.astype(float)).repeat(160)
    return (0.1 * np.sin(np.cumsum(2 * np.pi * pitch / 16_000))).astype(np.float32), labels


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    writer = Writer(tmp_path)
    for index in range(6):
        samples, labels = _tones(250, index)
        split = "dev" if index == 5 else "train"
        writer.add(
            samples, labels, name=f"{index}", speaker="s", language="en", corpus="toy", split=split, text=""
        )
    writer.close()
    return Corpus(tmp_path)


def test_a_prepared_folder_reads_back(corpus: Corpus) -> None:
    samples, labels = _tones(250, 3)
    item = corpus.items[3]
    np.testing.assert_allclose(corpus.samples(item), samples, atol=1e-4)
    np.testing.assert_array_equal(corpus.phones(item), labels)


def test_batches_repeat_from_seed_and_step(corpus: Corpus) -> None:
    sampler = acoustic.Sampler(corpus, batch=3, seed=1)
    first, again, other = sampler(4), sampler(4), sampler(5)
    assert torch.equal(first.mel, again.mel)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.mel, other.mel)
    assert first.mel.shape == (3, 400, 64)
    assert first.labels.shape == (3, 100, 4)
    assert torch.isfinite(first.mel).all()


def test_training_learns_and_resumes(corpus: Corpus, tmp_path: Path) -> None:
    short = acoustic.Options(steps=3, batch=4, save_every=2)
    acoustic.train(corpus, tmp_path / "a.safetensors", short, tmp_path / "a.pt")
    longer = acoustic.Options(steps=40, batch=4, save_every=40)
    metrics = acoustic.train(corpus, tmp_path / "a.safetensors", longer, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 40
    assert metrics["phone_accuracy"] > 0.25  # six equally likely classes


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_stretch_keeps_labels_on_their_sound(factor: float) -> None:
    samples, labels = _tones(200, 0)
    faster, moved = augment.stretch(samples, labels, factor)
    assert len(faster) == pytest.approx(len(samples) / factor, abs=2)
    loud = np.square(faster[: len(moved) * 160]).reshape(-1, 160).mean(1) > 1e-4
    assert np.mean(loud == (moved != SILENCE)) > 0.95


def test_disturbances_are_finite_and_of_the_same_length() -> None:
    samples, _ = _tones(300, 1)
    noise = np.random.default_rng(0)
    for _ in range(12):
        for out in (
            augment.channel(samples, noise),
            augment.add_noise(samples, samples[::-1].copy(), noise),
            augment.mu_law(samples),
            augment.whisper(samples, noise),
            augment.gain(samples, noise),
        ):
            assert out.shape == samples.shape
            assert out.dtype == np.float32
            assert np.isfinite(out).all()
    assert np.abs(augment.gain(samples, noise)).max() <= 1.0
    np.testing.assert_allclose(augment.mu_law(samples), samples, atol=0.01)


def test_whisper_loses_the_pitch_and_keeps_the_loudness() -> None:
    t = np.arange(16_000) / 16_000
    buzz = np.sign(np.sin(2 * np.pi * 150 * t)).astype(np.float32) * 0.1
    whispered = augment.whisper(buzz, np.random.default_rng(0))

    def periodicity(x: augment.Floats) -> float:
        lag = 107  # 16000 / 150
        return float(np.dot(x[:-lag], x[lag:]) / np.dot(x, x))

    assert periodicity(buzz) > 0.8
    assert abs(periodicity(whispered)) < 0.3
    assert 0.05 < whispered.std() / buzz.std() < 5


def test_labels_follow_segments() -> None:
    labels = rasterise([Segment(0.0, 0.05, 3), Segment(0.05, 0.08, 0)], frames=10)
    assert labels.tolist() == [3] * 5 + [0] * 3 + [UNKNOWN] * 2


def test_held_out_speakers_stay_held_out() -> None:
    assert split_of("mfa_samples", "anyone", "a") == "outside"
    assert split_of("emodb_de", "emodb15", "a") == "test"
    splits = {split_of("librispeech", f"ls{n}", "x") for n in range(100, 300)}
    assert splits == {"train", "dev", "test"}
    assert len({split_of("librispeech", "ls7", name) for name in "abc"}) == 1


def test_viterbi_finds_the_order_and_skips_optional_pauses() -> None:
    scores = np.full((9, 4), -5.0, np.float32)
    for t, phone in enumerate([1, 1, 1, 2, 2, 3, 3, 3, 3]):
        scores[t, phone] = 0.0
    phones = np.array([0, 1, 0, 2, 0, 3, 0])
    optional = phones == 0
    path = viterbi(scores, phones, optional)
    assert phones[path].tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 3]
    assert (viterbi(scores[:2], phones, optional) == -1).all()


def test_pocketsphinx_aligns_a_recording() -> None:
    """A real recording with its words: the phones come in order and silence frames the speech."""
    pytest.importorskip("pocketsphinx")
    data = shared_data()
    if data is None:
        pytest.skip("the shared recordings are not on this machine")
    folder = data / "speech" / "corpora" / "librispeech" / "audio"
    samples = load_audio(folder / "1688-142285-0002.opus")
    labels = PhoneAligner()(samples, "you don't mean that you thought me so silly")
    assert labels is not None
    assert len(labels) == len(samples) // 160
    order = [PHONES[p] for p, q in zip(labels, np.append(labels[1:], -2), strict=True) if p != q and p > 0]
    assert order[0] == "Y"
    assert order[-4:] == ["S", "IH", "L", "IY"]
    assert labels[-1] == SILENCE
