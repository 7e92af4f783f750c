"""Marks are found in speech and after Opus, to the sample where nothing blurs them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.latency.marks import GUARD, MarkListener, find_marks, mark_waveform, match_marks, place_marks


def speech_like(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Pink-ish noise with a syllable rhythm, peak about 0.3."""
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.standard_normal(count + 63), np.hanning(64) / 8, "valid")
    rhythm = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(count) / 16_000)
    return (0.1 * noise * rhythm).astype(np.float32)


def marked(seconds: float, times: list[float], rate: int = 16_000) -> NDArray[np.float32]:
    signal = speech_like(round(seconds * rate))
    wave = mark_waveform(rate)
    for t in times:
        end = round(t * rate)
        signal[end - wave.size + 1 : end + 1] += 0.4 * wave
    return signal


def test_found_to_the_sample_in_speech() -> None:
    times = place_marks(0.2, 5.0, seed=3)
    assert find_marks(marked(5.2, times), 16_000) == pytest.approx([round(t * 16_000) for t in times], abs=1)


@pytest.mark.parametrize("frame", [640, 533, 320, 1000])
def test_listener_agrees_with_the_whole_signal_for_any_frame_size(frame: int) -> None:
    signal = marked(6.0, place_marks(0.2, 5.5, seed=4))
    listener, heard = MarkListener(), []
    for start in range(0, signal.size - frame + 1, frame):
        offset = listener.hear(signal[start : start + frame])
        if offset is not None:
            assert 0 <= offset < frame
            heard.append(start + offset - GUARD)
    assert heard == find_marks(signal, 16_000)


def test_nothing_is_heard_in_speech_or_silence_alone() -> None:
    assert find_marks(speech_like(80_000), 16_000) == []
    assert find_marks(np.zeros(80_000, np.float32), 16_000) == []


def test_survives_opus_at_a_low_bitrate() -> None:
    import av

    times = place_marks(0.2, 4.0, seed=5)
    signal = marked(4.4, times, 48_000)
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = 32_000
    encoder.options = {"application": "voip"}
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    as_s16 = av.AudioResampler("s16", "mono", 48_000)
    pcm = (np.clip(signal, -1, 1) * 32767).astype(np.int16)
    parts: list[NDArray[np.int16]] = []
    for n in range(pcm.size // 960):
        frame = av.AudioFrame.from_ndarray(pcm[None, 960 * n : 960 * (n + 1)], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 960 * n, Fraction(1, 48_000)
        for packet in encoder.encode(frame):
            parts.extend(
                np.asarray(as_s16.resample(f)[0].to_ndarray(), np.int16) for f in decoder.decode(packet)
            )
    out = np.concatenate(parts, axis=1)[0]
    heard = find_marks((out / np.float32(32768)).astype(np.float32), 48_000)
    pairs = match_marks(np.array(times), np.array(heard) / 48_000)
    assert len(pairs) >= 0.9 * len(times)
    delays = [heard[j] / 48_000 - times[i] for i, j in pairs]
    assert np.ptp(delays) < 0.001


def test_match_finds_the_one_delay_with_losses_and_false_marks() -> None:
    sent = np.array(place_marks(0.0, 30.0, seed=6))
    heard = np.sort(np.concatenate([np.delete(sent, [0, 7, 20]) + 12.345, [15.0, 33.3]]))
    pairs = match_marks(sent, heard)
    assert len(pairs) >= sent.size - 3
    assert sum(abs(heard[j] - sent[i] - 12.345) < 1e-9 for i, j in pairs) == sent.size - 3


def test_match_of_nothing_is_nothing() -> None:
    assert match_marks(np.array([]), np.array([1.0])) == []


def test_match_follows_a_delay_that_wanders() -> None:
    sent = np.array(place_marks(0.0, 30.0, seed=7))
    heard = sent * 1.01 + 2.0  # 300 ms over the whole run, 5 ms from mark to mark
    assert match_marks(sent, heard) == [(i, i) for i in range(sent.size)]


def test_match_finds_both_sides_of_a_jump() -> None:
    sent = np.array(place_marks(0.0, 30.0, seed=8))
    heard = sent + np.where(sent < 12.0, 0.5, 0.75)
    assert match_marks(sent, heard) == [(i, i) for i in range(sent.size)]


def test_match_follows_ten_minutes_of_slips_and_jumps() -> None:
    """The delay creeps by half a second to and fro, jumps now and then, and one mark in ten is lost."""
    sent = np.array(place_marks(0.0, 600.0, seed=11))
    rng = np.random.default_rng(12)
    creep = 0.5 * np.sin(2 * np.pi * sent / 300.0)
    jumps = np.sum([step * (sent > at) for at, step in ((100, 0.06), (250, -0.15), (430, 0.2))], axis=0)
    heard = sent + 1.234 + creep + jumps
    kept = np.flatnonzero(rng.random(sent.size) > 0.1)
    pairs = match_marks(sent, heard[kept])
    assert len(pairs) >= 0.95 * kept.size
    wrong = sum(kept[j] != i for i, j in pairs)
    assert wrong <= 0.01 * kept.size


def test_marks_of_nobody_are_not_explained_by_far_delays() -> None:
    sent = np.array(place_marks(0.0, 30.0, seed=9))
    heard = np.sort(np.concatenate([sent[:30] + 0.3, 20.0 + np.array(place_marks(0.0, 10.0, seed=77))]))
    pairs = match_marks(sent, heard)
    assert pairs[:30] == [(i, i) for i in range(30)]
    assert all(abs(heard[j] - sent[i] - 0.3) < 0.6 for i, j in pairs)
