"""Synthetic voices with exact phone times: espeak-ng (many languages) and flite (English).

Training material only. espeak-ng is called through its C library, whose synthesis callback
reports every phoneme with its position in the audio; flite prints the end of every phone.
Both are free software found in any distribution (``apt-get install espeak-ng flite``).
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.encoders.phones import SILENCE, UNKNOWN, arpabet_to_phone, ipa_to_phone
from engine.errors import AssetError, BackendError
from engine.types import SAMPLE_RATE

__all__ = [
    "ESPEAK_VOICES",
    "FLITE_VOICES",
    "Segment",
    "Utterance",
    "espeak",
    "flite",
    "pronounce",
    "sentences",
]

FLITE_VOICES: tuple[str, ...] = ("slt", "rms", "awb", "kal16")
ESPEAK_VOICES: dict[str, tuple[str, ...]] = {
    "en": ("gmw/en-US", "gmw/en", "gmw/en-GB-scotland", "gmw/en-GB-x-rp", "gmw/en-029"),
    "de": ("gmw/de",), "es": ("roa/es", "roa/es-419"), "fr": ("roa/fr",), "it": ("roa/it",),
    "pt": ("roa/pt-BR",), "nl": ("gmw/nl",), "pl": ("zlw/pl",), "tr": ("trk/tr",), "ja": ("jpx/ja",),
    "cmn": ("sit/cmn-Latn-pinyin",),
}  # fmt: skip
"""espeak-ng voice files by language; variants such as ``+f3`` may be appended."""


@dataclass(frozen=True)
class Segment:
    """One phone (class index) over [start, end) seconds."""

    start: float
    end: float
    phone: int


@dataclass(frozen=True)
class Utterance:
    """float32 [N] at 16 kHz in -1..1 with its phones in order, back to back."""

    samples: NDArray[np.float32]
    segments: tuple[Segment, ...]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_LIST_TERMINATED, _PHONEME = 0, 7
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _CHARS_UTF8 = 2, 1, 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Espeak:
    """The library with its callback; espeak-ng keeps one global synthesizer per process."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise BackendError("espeak-ng is not installed; try `apt-get install espeak-ng`") from error
        self.blocks: list[NDArray[np.int16]] = []
        self.events: list[tuple[float, str]] = []
        self.callback = _Callback(self._receive)
        self.rate = int(self.library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _PHONEME_IPA))
        if self.rate <= 0:
            raise BackendError("espeak-ng found no voice data; try `apt-get install espeak-ng-data`")
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(
        self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]
    ) -> int:
        if count > 0:
            self.blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _LIST_TERMINATED:
            if events[index].type == _PHONEME:
                name = events[index].id.string.decode("utf-8", "replace")
                self.events.append((events[index].audio_position / 1000, name))
            index += 1
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> None:
        """Fill ``blocks`` and ``events`` with ``text`` spoken by ``voice``."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise AssetError(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.blocks.clear()
        self.events.clear()
        data = text.encode()
        self.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _CHARS_UTF8, None, None)


@cache
def _espeak() -> _Espeak:
    return _Espeak()


def _resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    from scipy.signal import resample_poly

    if rate == SAMPLE_RATE:
        return samples
    divisor = int(np.gcd(rate, SAMPLE_RATE))
    # Resampling overshoots at clipped peaks.
    resampled = resample_poly(samples, SAMPLE_RATE // divisor, rate // divisor)
    return np.asarray(np.clip(resampled, -1.0, 1.0), dtype=np.float32)


def espeak(text: str, voice: str, rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> Utterance:
    """``text`` spoken by espeak-ng with its phones.

    ``rate`` words per minute (80..450), ``pitch`` and ``pitch_range`` 0..100. Raises BackendError
    where the library is missing and AssetError for an unknown voice.
    """
    engine = _espeak()
    engine.speak(text, voice, rate, pitch, pitch_range)
    if not engine.blocks:
        return Utterance(np.zeros(0, np.float32), ())
    audio = np.concatenate(engine.blocks).astype(np.float32) / np.float32(32768)
    end = len(audio) / engine.rate
    # A name in brackets announces a change of voice inside the text and has no sound of its own.
    events = [(t, name) for t, name in engine.events if not name.startswith("(")]
    times = [t for t, _ in events] + [end]
    segments = [Segment(0.0, times[0], SILENCE)] if times[0] > 0 else []
    for (start, name), stop in zip(events, times[1:], strict=True):
        if stop > start:
            segments.append(Segment(start, stop, _espeak_phone(name, stop - start)))
    return Utterance(_resample(audio, engine.rate), tuple(segments))


def _espeak_phone(name: str, seconds: float) -> int:
    # Unnamed events are pauses when long, and transitions inside a word when short.
    return UNKNOWN if not name and seconds < 0.06 else ipa_to_phone(name)


def pronounce(text: str, voice: str) -> list[int]:
    """Phone classes of ``text`` as espeak-ng would say it, silences and unknown sounds left out."""
    segments = espeak(text, voice).segments
    return [s.phone for s in segments if s.phone > SILENCE]


def flite(text: str, voice: str = "slt", stretch: float = 1.0, pitch_hz: float | None = None) -> Utterance:
    """``text`` spoken by flite with its phones; ``stretch`` > 1 is slower.

    Raises BackendError where flite is missing or fails.
    """
    program = shutil.which("flite")
    if program is None:
        raise BackendError("flite is not installed; try `apt-get install flite`")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-voice", voice, "-psdur", "--setf", f"duration_stretch={stretch:.3f}"]
        if pitch_hz is not None:
            command += ["--setf", f"int_f0_target_mean={pitch_hz:.1f}"]
        done = subprocess.run(
            [*command, "-t", text, "-o", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not path.exists():
            raise BackendError(f"flite failed: {done.stderr.strip() or done.stdout.strip()}")
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    segments, start = [], 0.0
    for item in done.stdout.split():
        name, _, stop = item.rpartition(":")
        # Some voices trim the last pause from the audio but not from the list.
        end = min(float(stop), len(data) / rate)
        segments.append(Segment(start, end, arpabet_to_phone(name)))
        start = end
    return Utterance(_resample(data.astype(np.float32) / np.float32(32768), rate), tuple(segments))


# Everyday words; enough to give every language's phones in varied order.
_WORDS: dict[str, str] = {
    "en": "the boy bought a blue book from my mother before she would measure this very thin "
    "leather rope young people enjoy watching fresh fish jump over huge warm waves while bob "
    "may pop five more bubbles",
    "de": "der junge möchte heute abend schöne grüne bücher lesen und später über die brücke zum "
    "bahnhof gehen wir müssen öfter pünktlich frühstücken ich höre zwölf vögel pfeifen mama "
    "papa bitte viele warme äpfel",
    "es": "el perro grande come pan blanco y bebe mucha agua fría mañana vamos a jugar en la playa "
    "bonita mi abuela quiere comprar huevos jamón queso y fruta para toda la familia gracias "
    "por favor",
    "fr": "bonjour les enfants veulent manger une pomme rouge avec du beurre et boire un peu de jus "
    "ce matin ma voisine a vu deux beaux oiseaux bleus sur le vieux mur près du feu où est la "
    "plage",
    "it": "buongiorno la mamma compra pane fresco e bella frutta al mercato oggi pomeriggio "
    "vogliamo giocare con gli amici sulla spiaggia perché il gatto bianco dorme sempre sotto "
    "il tavolo grande",
    "pt": "bom dia a minha avó faz bolo de laranja e o menino bebe leite quente amanhã vamos "
    "passear na praia com muitos amigos e um cão preto que não gosta de chuva",
    "nl": "goedemorgen de jongen wil graag een mooi boek kopen en daarna buiten in de zon lopen met "
    "zijn vriend vader maakt lekkere pannenkoeken met suiker en wij drinken samen warme melk",
    "pl": "dzień dobry mama kupuje świeży chleb i masło a tata pije czarną kawę jutro pojedziemy "
    "nad piękne morze żeby zobaczyć wielkie białe ptaki i małe łodzie",
    "tr": "günaydın küçük çocuk bahçede büyük bir köpek gördü annem bugün pazardan ekmek peynir ve "
    "üzüm aldı yarın arkadaşlarla deniz kıyısında yürüyüş yapacağız",
    "ja": "おはよう ございます わたし は まいにち みず を のみます ともだち と うみ へ いきたい "
    "です ねこ が ふね の うえ で ねて います きょう は とても いい てんき ぶどう ぱん "
    "べんとう",
    "cmn": "ni3 hao3 wo3 men5 ming2 tian1 qu4 bei3 jing1 ma1 ma5 zuo4 fan4 peng2 you5 he1 cha2 lü4 "
    "se4 de5 shu4 piao4 liang5 fei1 ji1 xue2 xiao4 zhong1 wen2 chi1 ping2 guo3 bu4 yao4",
}  # fmt: skip


def sentences(language: str, count: int, seed: int) -> Iterator[str]:
    """``count`` random word strings of ``language``, the same ones for the same seed."""
    words = _WORDS[language].split()
    generator = np.random.default_rng([seed, *language.encode()])
    for _ in range(count):
        chosen = generator.choice(words, size=int(generator.integers(4, 11)))
        middle = len(chosen) // 2 if generator.random() < 0.4 else 0
        text = " ".join([*chosen[:middle], ",", *chosen[middle:]] if middle else chosen)
        yield text + "."
