"""What the benchmark says into the page's microphone: speech, silence, and marks at known times."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.marks import mark_waveform, place_marks
from engine.config import asset_path
from engine.errors import AssetError

__all__ = ["RATE", "Utterances", "build_microphone", "read_wav"]

RATE = 48_000
_SPEECH_S, _SILENCE_S, _LEAD_S = 4.0, 1.5, 1.0
_AUDIBLE = 0.01  # -40 dBFS
_SPEECH_PEAK, _MARK_LEVEL = 0.5, 0.35


@dataclass(frozen=True)
class Utterances:
    """The signal and what is where in it; times in seconds from its first sample."""

    samples: NDArray[np.float32]
    """[N] at 48 kHz."""
    marks: NDArray[np.float64]
    """When the last sample of each mark is spoken."""
    onsets: NDArray[np.float64]
    """When the first audible sample after a silence is spoken."""

    def wav(self) -> bytes:
        """The signal as a 16-bit WAV file."""
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes())
        return file.getvalue()


def read_wav(path: Path, rate: int = RATE) -> NDArray[np.float32]:
    """A 16-bit mono WAV file at ``rate``, peak 1. AssetError if it is not there."""
    from scipy.signal import resample_poly

    if not path.is_file():
        raise AssetError(f"{path} is missing; install visavis completely (make setup)")
    with wave.open(str(path), "rb") as source:
        data = np.frombuffer(source.readframes(source.getnframes()), "<i2").astype(np.float32)
        own = source.getframerate()
    common = int(np.gcd(own, rate))
    speech = resample_poly(data, rate // common, own // common).astype(np.float32)
    return np.asarray(speech / np.abs(speech).max(), np.float32)


def build_microphone(seconds: float, seed: int = 1) -> Utterances:
    """Speech of the demo voice in turns of four seconds with digital silence between.

    Marks are laid over speech only, so that silence is silence.
    """
    voice = _SPEECH_PEAK * read_wav(asset_path("demo/voice_a.wav"))
    samples = np.zeros(round(seconds * RATE), np.float32)
    mark = _MARK_LEVEL * mark_waveform(RATE)
    marks: list[float] = []
    onsets: list[float] = []
    for turn, start in enumerate(np.arange(_LEAD_S, seconds - 1.0, _SPEECH_S + _SILENCE_S)):
        begin, count = round(start * RATE), round(min(_SPEECH_S, seconds - start) * RATE)
        speech = np.take(voice, np.arange(count) + turn * count, mode="wrap")
        samples[begin : begin + count] = speech[: samples.size - begin]
        onsets.append((begin + int(np.argmax(np.abs(speech) > _AUDIBLE))) / RATE)
        for at in place_marks(start + 0.25, start + count / RATE - 0.1, seed + turn):
            end = round(at * RATE)
            samples[end - mark.size + 1 : end + 1] += mark
            marks.append(end / RATE)
    return Utterances(np.clip(samples, -1, 1), np.array(marks), np.array(onsets))
