from __future__ import annotations

import numpy as np
import pytest

from engine.errors import AudioError
from streaming.clock import SampleClock
from streaming.resample import DECIMATOR_DELAY, Decimator, ToMono48, stretch
from streaming.timeline import AudioTimeline
from tests.streaming.helpers import tone


@pytest.mark.parametrize("chunk", [1, 7, 441, 960, 5000])
def test_decimation_is_the_same_to_the_bit_in_any_chunking(chunk: int) -> None:
    x = np.random.default_rng(0).standard_normal(6000).astype(np.float32)
    whole = Decimator()(x)
    decimate = Decimator()
    parts = [decimate(x[i : i + chunk]) for i in range(0, x.size, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.size == 2000


def test_decimation_needs_no_future_and_is_centred() -> None:
    click = np.zeros(3000, np.float32)
    click[900] = 1.0
    out = Decimator()(click)
    assert np.argmax(out) == (900 + DECIMATOR_DELAY) // 3
    # The very sample 3 s completes output s.
    assert Decimator()(np.ones(1, np.float32)).size == 1


def test_decimation_keeps_speech_and_stops_what_would_alias() -> None:
    def gain(hz: float) -> float:
        out = Decimator()(tone(48_000, hz))[1000:]
        return float(np.sqrt(np.mean(out**2)) / (0.5 / np.sqrt(2)))

    assert abs(gain(300.0) - 1) < 0.005
    assert abs(gain(6000.0) - 1) < 0.02
    assert gain(9000.0) < 0.003


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_any_rate_reaches_48_khz_without_shift(rate: int) -> None:
    x = np.zeros(rate, np.float32)
    x[rate // 2] = 0.9
    convert = ToMono48(rate)
    parts = [convert(x[i : i + 320]) for i in range(0, rate, 320)]
    out = np.concatenate([*parts, convert.flush()])
    assert abs(out.size - 48_000) <= 2
    assert abs(int(np.argmax(out)) - 24_000) <= 2


def test_an_absurd_rate_is_refused() -> None:
    with pytest.raises(AudioError, match="16000"):
        ToMono48(100)


@pytest.mark.parametrize("extra", [-3, 0, 2])
def test_stretch_gives_the_length_and_keeps_the_ends(extra: int) -> None:
    x = tone(960)
    y = stretch(x, extra)
    assert y.size == 960 + extra
    assert y[0] == x[0]
    assert abs(y[-1] - x[-1]) < 1e-6


def test_engine_and_sent_audio_agree_to_the_sample() -> None:
    timeline = AudioTimeline(SampleClock(0))
    x = np.zeros(9600, np.float32)
    x[4000] = 1.0
    for i in range(0, x.size, 441):
        timeline.append(x[i : i + 441])
    frames = []
    while (block := timeline.take_frame()) is not None:
        frames.append(block[2])
    heard = np.concatenate(frames)
    sent = timeline.read(0, 9600)
    assert int(np.argmax(sent)) == 4000 + DECIMATOR_DELAY
    assert abs(3 * int(np.argmax(heard)) - int(np.argmax(sent))) <= 1


def test_the_time_line_forgets_the_distant_past_and_knows_what_is_missing() -> None:
    timeline = AudioTimeline(SampleClock(0), seconds=0.1)
    timeline.append(np.ones(48_000, np.float32))
    assert not timeline.read(0, 960).any()
    assert timeline.read(47_000, 960).all()
    assert timeline.missing(48_000) == 0
    assert timeline.missing(50_000) == 50_000 - 48_000 - DECIMATOR_DELAY


def test_a_barge_in_fades_within_five_milliseconds() -> None:
    timeline = AudioTimeline(SampleClock(0))
    timeline.append(np.ones(4800, np.float32))
    timeline.mute_from(2000)
    out = timeline.read(1900, 1000)
    assert (out[:100] == 1).all()
    assert (np.diff(out[100:340]) <= 0).all()
    assert not out[341:].any()
