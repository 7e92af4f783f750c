from __future__ import annotations

import asyncio
import ctypes.util
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.config import asset_path
from engine.errors import AssetError, AudioError
from streaming.clock import OUT_RATE
from streaming.sources.base import BufferedSource, Silence
from streaming.sources.file import FileSource, read_audio
from streaming.sources.live import LiveSource
from streaming.sources.microphone import load_sounddevice
from streaming.sources.pcm import PcmReader
from tests.streaming.helpers import tone

PER_MS = OUT_RATE // 1000


async def test_a_buffer_plays_at_its_own_pace_with_silence_around() -> None:
    source = BufferedSource("voice")
    await source.write(np.ones(1000, np.float32))
    assert source.read(0, 480).all()
    out = source.read(480, 1480)
    assert out[:520].all()
    assert not out[520:].any()
    assert (source.played, source.buffered) == (1000, 0)


async def test_a_full_buffer_holds_the_writer_back() -> None:
    source = BufferedSource("voice", seconds=1.0)
    writer = asyncio.create_task(source.write(np.ones(3 * OUT_RATE, np.float32)))
    await asyncio.sleep(0)
    assert not writer.done()
    assert source.buffered <= 2 * OUT_RATE
    position = 0
    while not writer.done():
        source.read(position, position + 4800)
        position += 4800
        await asyncio.sleep(0)
    assert source.played + source.buffered == 3 * OUT_RATE
    assert source.clear() > 0
    assert source.buffered == 0


def test_silence_is_as_long_as_asked() -> None:
    assert Silence().read(100, 580).shape == (480,)


class Line:
    """A live source on a simulated network: packets of 20 ms with delays, read every 10 ms."""

    def __init__(self, patience_ms: float = 60.0, sender_ppm: float = 0.0) -> None:
        self.now = 0.0  # samples at 48 kHz on our clock
        self.slipped = 0
        self.source = LiveSource("mic", lambda: int(self.now), patience_ms, on_slip=self._slip)
        self.rate = 1.0 + sender_ppm * 1e-6
        self.out: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        self.position = 0

    def _slip(self, count: int) -> None:
        self.slipped += count

    def run(
        self, voice: np.ndarray[tuple[int], np.dtype[np.float32]], delays_ms: Sequence[float | None]
    ) -> None:
        """Packet i is complete at 20 ms · (i + 1) on the sender's clock, plus its delay; None is lost."""
        events = [
            ((i + 1) * 960 / self.rate + delay * PER_MS, i)
            for i, delay in enumerate(delays_ms)
            if delay is not None
        ]
        ticks = [(480.0 * t, -1) for t in range(1, 2 * len(delays_ms) + 20)]
        for at, i in sorted(events + ticks):
            self.now = at
            if i >= 0:
                self.source.push(voice[960 * i : 960 * (i + 1)], 960 * i)
            got = self.source.read(self.position, int(self.now))
            self.position += got.size
            self.out.append(got)

    @property
    def audio(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.concatenate(self.out)


def test_a_clean_line_passes_every_sample() -> None:
    line, voice = Line(), tone(100 * 960)
    line.run(voice, [5.0] * 100)
    out = line.audio
    start = int(np.argmax(out != 0)) - 1  # the tone's first sample is zero itself
    np.testing.assert_array_equal(out[start : start + voice.size], voice)
    assert line.slipped == 0


def test_jitter_within_the_guard_loses_nothing() -> None:
    random = np.random.default_rng(1)
    line, voice = Line(), tone(300 * 960)
    line.run(voice, [float(d) for d in random.uniform(0, 15, 300)])
    out = line.audio
    gaps = np.flatnonzero(np.abs(out[4800:-48_000]) > 0)
    # No run of zeros longer than the crossing of a sine: nothing was concealed.
    assert np.diff(gaps).max() <= 2
    assert line.slipped < 0.005 * voice.size


def test_loss_becomes_silence_of_the_same_length() -> None:
    line, voice = Line(), np.ones(50 * 960, np.float32)
    line.run(voice, [None if i in (20, 21) else 5.0 for i in range(50)])
    out = line.audio
    start = int(np.argmax(out))
    assert not out[start + 20 * 960 : start + 22 * 960].any()
    assert out[start + 22 * 960 : start + 50 * 960].all()


@pytest.mark.parametrize("ppm", [-500.0, 500.0])
def test_a_drifting_sender_never_makes_delay_grow(ppm: float) -> None:
    line = Line(sender_ppm=ppm)
    packets = 6000  # two minutes: 60 ms of drift
    line.run(np.ones(packets * 960, np.float32), [5.0] * packets)
    assert -26 < line.source.lateness_ms < 22  # a third of the patience
    assert 0 < line.slipped < 0.002 * packets * 960
    body = line.audio[960 * 10 : -960 * 30]
    assert (body > 0).mean() > 0.999


def test_a_sender_that_pauses_comes_back_at_once() -> None:
    line = Line()
    line.run(np.ones(200 * 960, np.float32), [5.0] * 100 + [500.0] * 100)
    out = line.audio
    last = int(np.flatnonzero(out)[-1])
    # The last packet was complete at 4.0 s + 0.5 s; its sound is placed there, not half a second later.
    assert abs(last - 4.5 * OUT_RATE) < 80 * PER_MS


def test_a_burst_of_old_audio_is_not_queued() -> None:
    line = Line()
    line.now = 4800.0
    for i in range(200):
        line.source.push(np.ones(960, np.float32), 960 * i)
    got = line.source.read(0, 4800)
    assert got.size <= 4800 + OUT_RATE // 4


def test_read_never_waits_longer_than_its_patience() -> None:
    source = LiveSource("mic", lambda: 0, patience_ms=30.0)
    assert source.read(0, 10 * PER_MS).size == 0
    assert source.read(0, 100 * PER_MS).size == 70 * PER_MS


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
@pytest.mark.parametrize("sample_format", ["s16", "f32"])
@pytest.mark.parametrize("cut", [3, 1000, 4096])
def test_pcm_in_any_cut_gives_the_same_tone(rate: int, sample_format: str, cut: int) -> None:
    x = tone(rate // 2, rate=rate)
    data = (x * 32768).astype("<i2").tobytes() if sample_format == "s16" else x.astype("<f4").tobytes()
    reader = PcmReader(rate, sample_format)
    parts = [reader(data[i : i + cut]) for i in range(0, len(data), cut)]
    out = np.concatenate([*parts, reader.flush()])
    want = tone(24_000)
    assert abs(out.size - want.size) <= 2
    n = min(out.size, want.size)
    assert np.abs(out[200 : n - 200] - want[200 : n - 200]).max() < 0.01


def test_pcm_that_is_not_a_number_is_silence() -> None:
    data = np.array([np.nan, np.inf, 5.0, -0.5], "<f4").tobytes()
    np.testing.assert_array_equal(PcmReader(48_000, "f32")(data), np.array([0, 0, 1, -0.5], np.float32))


@pytest.mark.parametrize(("rate", "sample_format"), [(44_100, "s16"), (16_000, "mp3")])
def test_unknown_pcm_is_refused_with_what_is_known(rate: int, sample_format: str) -> None:
    with pytest.raises(AudioError, match="send"):
        PcmReader(rate, sample_format)


def test_files_of_any_rate_are_read(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22_050)
        mono = (tone(22_050, rate=22_050) * 32767).astype("<i2")
        file.writeframes(np.stack([mono, mono], axis=1).tobytes())
    samples = read_audio(path)
    assert abs(samples.size - 48_000) <= 2
    assert np.abs(samples[300:-300] - tone(48_000)[300 : samples.size - 300]).max() < 0.01


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no sound in here " * 100)
    with pytest.raises(AudioError, match=r"notes\.wav"):
        read_audio(text)
    with pytest.raises(AudioError, match="no audio file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioError):
        read_audio(asset_path("demo/astronaut.png"))


async def test_a_file_loops_with_a_pause() -> None:
    voice = read_audio(asset_path("demo/voice_b.wav"))
    source = FileSource(asset_path("demo/voice_b.wav"), loop=True, pause_s=0.5)
    source.start()
    parts, position = [], 0
    while position < voice.size * 1.5:
        await asyncio.sleep(0.001)
        count = min(4800, source.buffered)
        parts.append(source.read(position, position + count))
        position += count
    out = np.concatenate(parts)
    np.testing.assert_array_equal(out[: voice.size], voice)
    gap = out[voice.size : voice.size + OUT_RATE // 2]
    assert not gap.any()
    again = out[voice.size + OUT_RATE // 2 :]
    np.testing.assert_array_equal(again, voice[: again.size])
    await source.close()


@pytest.mark.skipif(ctypes.util.find_library("portaudio") is not None, reason="PortAudio is installed here")
def test_without_portaudio_the_message_says_how_to_install_it() -> None:
    with pytest.raises(AssetError, match="libportaudio2"):
        load_sounddevice()
