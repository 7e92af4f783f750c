"""Synthetic voices: phones cover the audio in order and say what was asked."""

from __future__ import annotations

import ctypes
import shutil

import numpy as np
import pytest

from engine.encoders.phones import PHONES, SILENCE
from engine.errors import AssetError
from engine.synth import voices


def _has_espeak() -> bool:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not _has_espeak(), reason="espeak-ng is not installed")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


def _check(utterance: voices.Utterance) -> None:
    assert utterance.samples.dtype == np.float32
    assert 0.02 < np.abs(utterance.samples).max() <= 1.0
    ends = [segment.end for segment in utterance.segments]
    starts = [segment.start for segment in utterance.segments]
    assert all(a <= b for a, b in zip(starts, ends, strict=True))
    assert all(a == pytest.approx(b) for a, b in zip(ends, starts[1:], strict=False))
    assert ends[-1] == pytest.approx(len(utterance.samples) / 16_000, abs=0.05)


@needs_espeak
@pytest.mark.parametrize("language", list(voices.ESPEAK_VOICES))
def test_espeak_speaks_every_language(language: str) -> None:
    sentence = next(voices.sentences(language, 1, seed=3))
    for voice in voices.ESPEAK_VOICES[language]:
        utterance = voices.espeak(sentence, voice)
        _check(utterance)
        known = [segment.phone for segment in utterance.segments if segment.phone > SILENCE]
        assert len(known) > len(sentence) / 4


@needs_espeak
def test_espeak_phones_and_times_match_the_sound() -> None:
    assert [PHONES[p] for p in voices.pronounce("Mama, papa", "gmw/de")] == [
        "M",
        "AA",
        "M",
        "AA",
        "P",
        "AA",
        "P",
        "AA",
    ]
    utterance = voices.espeak("a sash", "gmw/en-US", rate=120)
    loud = {PHONES[s.phone]: s for s in utterance.segments if s.phone > SILENCE}
    hiss = loud["S"]
    part = utterance.samples[int(hiss.start * 16_000) : int(hiss.end * 16_000)]
    crossings = np.mean(np.diff(np.sign(part)) != 0)
    assert crossings > 0.3  # noise at high frequencies crosses zero far more often than a vowel


@needs_espeak
def test_rate_and_voice_matter_and_unknown_voices_are_refused() -> None:
    slow, fast = (voices.espeak("one two three four", "gmw/en-US", rate=r) for r in (120, 240))
    assert len(slow.samples) > 1.3 * len(fast.samples)
    with pytest.raises(AssetError, match="espeak-ng --voices"):
        voices.espeak("x", "no/such-voice")


@needs_flite
@pytest.mark.parametrize("voice", voices.FLITE_VOICES)
def test_flite_speaks(voice: str) -> None:
    utterance = voices.flite("hello people", voice)
    _check(utterance)
    said = [PHONES[s.phone] for s in utterance.segments if s.phone > SILENCE]
    assert said[:2] == ["HH", "AH"]
    assert "P" in said


def test_sentences_repeat_from_their_seed() -> None:
    first, again, other = (list(voices.sentences("de", 5, seed)) for seed in (1, 1, 2))
    assert first == again != other
