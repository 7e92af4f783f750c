"""The lip benchmark's measures on curves whose answer is known, and the whole run on small data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import Events, agreement, closures, match_events, pearson
from benchmarks.quality import lips as benchmark
from benchmarks.quality.baselines import fit_ridge, loudness
from engine.train.motion_data import (
    Clip,
    Item,
    best_correlation,
    clip_items,
    log_mel,
    speaker_of,
    window_features,
)

T = np.arange(250) / 25


def _mouth(rate_hz: float = 3.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(0.05 + 0.05 * np.sin(2 * np.pi * rate_hz * T + np.sin(0.7 * T)))


def test_a_late_copy_has_full_correlation_its_lag_and_its_amplitude() -> None:
    real = _mouth()
    late = np.roll(0.5 * real, 2)
    found = agreement(late, real)
    assert found.r == pytest.approx(1.0, abs=0.01)
    assert found.lag_ms == 80.0
    assert found.amplitude == pytest.approx(0.5, abs=0.01)


def test_a_shift_beyond_80_ms_is_not_forgiven() -> None:
    real = _mouth()
    assert agreement(np.roll(real, 4), real).r < 0.6


def test_frames_without_a_face_are_left_out() -> None:
    real = _mouth()
    holed = real.copy()
    holed[40:80] = np.nan
    assert pearson(real, holed) == pytest.approx(1.0)
    assert agreement(real, holed).r == pytest.approx(1.0)
    assert best_correlation(real.astype(np.float32), holed.astype(np.float32)) == pytest.approx(1.0, abs=1e-5)


def test_a_constant_mouth_correlates_with_nothing() -> None:
    assert pearson(np.full(100, 0.3), _mouth()[:100]) == 0.0


def test_closures_are_brief_and_between_openings() -> None:
    curve = np.full(100, 0.1)
    curve[20:22] = 0.0  # a consonant
    curve[40:70] = 0.0  # a pause
    curve[80] = 0.06  # a dip that does not close
    assert closures(curve).tolist() == [20]


def test_matching_is_one_to_one_nearest_first() -> None:
    found = match_events(np.array([10, 11, 40]), np.array([12, 60]))
    assert found == Events(matched=1, generated=3, real=2)
    assert found.f1 == pytest.approx(0.4)
    assert Events(0, 0, 0).f1 == 1.0
    assert (found + found).real == 4


def _clip(name: str, seed: int) -> Clip:
    """A clip whose mouth opens with the loudness of its noise, 40 ms late."""
    noise = np.random.default_rng(seed)
    t = np.arange(150) / 25
    level = 0.5 + 0.5 * np.sin(2 * np.pi * 2.0 * t + seed)
    audio = np.repeat(level, 640) * noise.normal(0, 0.1, 150 * 640)
    opening = np.roll(0.1 * level, 1).astype(np.float32)
    item = Item(name, "test", "eval", 0.0)
    return Clip(item, audio.astype(np.float32), opening, np.zeros((150, 5), np.float32), np.ones(150, bool))


def test_baselines_follow_a_mouth_that_follows_loudness() -> None:
    train, held_out = [_clip(f"p{k}.mp4", k) for k in range(4)], _clip("q.mp4", 9)
    ridge = fit_ridge(train)
    assert agreement(ridge(held_out), held_out.opening.astype(np.float64)).r > 0.9
    assert agreement(loudness(held_out), held_out.opening.astype(np.float64)).r > 0.7


def test_log_mel_has_two_columns_a_frame_in_time_with_the_audio() -> None:
    audio = np.zeros(640 * 10, np.float32)
    audio[640 * 5 : 640 * 6] = np.sin(2 * np.pi * 1000 * np.arange(640) / 16_000)
    mel = log_mel(audio)
    assert mel.shape == (20, 40)
    assert set(np.argsort(mel.max(axis=1))[-2:]) == {10, 11}
    stacked = window_features(mel, 2, before=2, after=4)
    assert stacked.shape == (10, 6 * 40)
    assert np.array_equal(stacked[5, 2 * 40 : 3 * 40], mel[10])


def test_clips_of_one_person_share_a_speaker() -> None:
    assert speaker_of("lia_obama_47s.mov") == speaker_of("styletalk_Obama_clip1.mov") == "obama"
    assert speaker_of("grid/s2_bbaf2s.mp4") == "grid_s2"
    assert speaker_of("grid_s1/bbaf4p.mp4") == "grid_s1"
    assert speaker_of("pcavs_vox2_00002.mp4") != speaker_of("pcavs_vox2_00010.mp4")


def test_no_test_clip_may_train(data: Path) -> None:
    items = clip_items(data)
    assert len([i for i in items if i.trains]) > 100
    assert not [i for i in items if i.trains and (i.split != "train" or i.use != "train")]
    tested = {speaker_of(i.name) for i in items if i.split == "test"}
    assert not tested & {speaker_of(i.name) for i in items if i.trains}
    assert {i.offset_ms for i in items if i.name.startswith("grid_s1/")} == {50.0}


def test_score_and_summary_agree_with_the_curves() -> None:
    clip = _clip("q.mp4", 3)
    score = benchmark.score("ours", clip, clip.opening.astype(np.float64))
    assert score.agreement.r == pytest.approx(1.0)
    summary = benchmark.summarise([score, score])
    assert summary["r_mean"] == 1.0
    assert summary["amplitude_median"] == 1.0
    assert json.loads(json.dumps(summary)) == summary


def test_the_shipped_model_moves_with_a_real_voice_and_rests_in_silence(data: Path) -> None:
    from engine.train.mouth_geometry import opening_of
    from engine.train.speech_data import load_audio

    audio = load_audio(data / "talking" / "grid" / "s2_bbaf2s.mp4")[: 640 * 75]
    pipeline = benchmark.build_pipeline()
    opening = opening_of(benchmark.drive(pipeline, audio))
    assert opening.max() > 0.05
    silent = opening_of(benchmark.drive(pipeline, np.zeros(640 * 50, np.float32)))
    assert silent.max() - silent.min() < 1e-3
