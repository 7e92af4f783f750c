"""Known latencies, hidden in observations as a page would make them, are found again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.latency.analyse import SETTLE_S, ContextClock, Observation, analyse, summarise
from benchmarks.latency.marks import GUARD, MARK_SECONDS
from benchmarks.latency.microphone import RATE, Utterances, build_microphone

SAID = build_microphone(16.0)
SPOKEN_AT = 3.25  # context seconds
SESSION_LAG = 1.5  # session time = microphone time - 1.5 s
A, DRIFT = 812.0, 40e-6


def performance_ms(context_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(A + 1000 * (1 + DRIFT) * np.asarray(context_s), np.float64)


def observe(latency_ms: float, sound_early_ms: float, lost: set[int]) -> Observation:
    """A page that shows every frame ``latency_ms`` after its first sample, sound a little before."""
    rng = np.random.default_rng(0)
    session_marks = SAID.marks - SESSION_LAG + GUARD / 16_000
    rows = []
    for n in range(int((16.0 - SESSION_LAG) * 25)):
        if n in lost:
            continue
        inside = [m for m in session_marks if n / 25 <= m < (n + 1) / 25]
        mark = round((inside[0] - n / 25) * 16_000) if inside else -1
        shown = float(performance_ms(SPOKEN_AT + n / 25 + SESSION_LAG)) + latency_ms
        rows.append([shown - 5, shown - 2, shown, shown - 9, 1.0, n, mark])
    context = np.arange(0, 22, 0.015)
    clock = np.stack([performance_ms(context) + rng.uniform(0, 9, context.size), context], axis=1)
    delay = round((latency_ms - sound_early_ms) / 1000 * RATE)
    heard = np.concatenate([np.zeros(delay, np.float32), SAID.samples])
    return Observation(
        frames=np.array(rows),
        clock=clock,
        spoken_at=SPOKEN_AT,
        clicked_at=100.0,
        first_frame_at=400.0,
        heard=heard.astype(np.float32),
        heard_at=SPOKEN_AT,
        device_delay=7.0,
        playout=np.array([[1000.0, 5000.0, 4990.0]]),
        time_origin=0.0,
    )


def test_microphone_has_marks_in_speech_and_silence_that_is_silent() -> None:
    silence = SAID.samples[round(5.1 * RATE) : round(6.4 * RATE)]
    assert not silence.any()
    assert SAID.onsets.size == 3
    assert SAID.marks.size >= 15
    assert not np.any((SAID.marks > 5.1) & (SAID.marks < 6.5))
    for onset in SAID.onsets:
        before = SAID.samples[round((onset - MARK_SECONDS) * RATE) : round(onset * RATE)]
        assert np.abs(before).max(initial=0.0) <= 0.01 < abs(SAID.samples[round(onset * RATE)])


def test_wav_is_a_file_of_the_signal() -> None:
    import io
    import wave

    with wave.open(io.BytesIO(SAID.wav())) as source:
        assert (source.getframerate(), source.getnframes()) == (RATE, SAID.samples.size)


def test_context_clock_ignores_late_readings() -> None:
    clock = ContextClock(observe(200.0, 0.0, set()).clock)
    for context in (1.0, 20.0):
        assert float(clock(np.array(context))) == pytest.approx(float(performance_ms(context)), abs=0.7)


def test_context_clock_follows_a_starved_audio_thread() -> None:
    readings = observe(200.0, 0.0, set()).clock
    readings[readings[:, 1] > 10.0, 0] += 100.0
    clock = ContextClock(readings)
    for context, stalled in ((9.0, 0.0), (11.0, 100.0)):
        expected = float(performance_ms(context)) + stalled
        assert float(clock(np.array(context))) == pytest.approx(expected, abs=0.7)


@pytest.mark.parametrize("latency", [140.0, 263.0, 1700.0])
def test_latency_is_found_on_one_clock(latency: float) -> None:
    found = analyse(observe(latency, 12.0, set()), SAID)
    assert np.median(found.frame_latency) == pytest.approx(latency, abs=1.0)
    assert np.ptp(found.frame_latency) < 2.0
    assert np.median(found.mark_latency) == pytest.approx(latency, abs=1.0)
    assert np.median(found.av_offset) == pytest.approx(12.0 - 7.0, abs=1.0)
    assert found.playout_offset.tolist() == [10.0]
    assert found.first_frame_ms == 300.0
    assert found.fps == pytest.approx(25.0, abs=0.01)


def test_losses_are_counted_and_do_not_bend_the_rest() -> None:
    found = analyse(observe(200.0, 0.0, {40, 41, 200}), SAID)
    assert (found.missing, found.repeated, found.unreadable) == (3, 0, 0)
    assert np.median(found.frame_latency) == pytest.approx(200.0, abs=1.0)


def test_onset_is_shown_by_its_owning_frame() -> None:
    found = analyse(observe(200.0, 0.0, set()), SAID)
    # The onset lies somewhere in its frame: up to one frame less than the latency of the frame's start.
    assert found.onset_latency.size == 2
    assert np.all((found.onset_latency > 159.0) & (found.onset_latency < 201.0))


def test_steady_state_leaves_out_the_first_seconds() -> None:
    found = analyse(observe(200.0, 0.0, set()), SAID)
    assert found.frame_latency.size - found.steady()["end_to_end_ms"].size == round(SETTLE_S * 25)
    assert found.steady()["silence_to_speech_ms"].size == found.onset_latency.size


def test_without_marks_there_is_no_number() -> None:
    silent = Utterances(SAID.samples, np.array([]), np.array([]))
    with pytest.raises(ValueError, match="audio marks came back"):
        analyse(observe(200.0, 0.0, set()), silent)


def test_summary_of_nothing_is_zero() -> None:
    assert summarise(np.array([])).count == 0
    assert summarise(np.arange(101.0)).p95 == 95.0
