"""Speech with phone labels every 10 ms, gathered into one folder that training maps into memory.

Human speech comes from a folder of corpora described by ``MANIFEST.tsv`` (columns corpus, file,
speaker, language, transcript, alignment-file, duration_s, notes). English transcripts are aligned
by pocketsphinx with its own English model, Emo-DB brings hand labels. A second pass, given a first
model of our own, adds other languages (:mod:`engine.train.align`) and English recordings without
transcripts, recognised by pocketsphinx and kept where our model agrees. Synthetic voices know
their phones.

Usage::

    python -m engine.train.speech_data --data CORPORA --out FIRST
    python -m engine.train.acoustic --data FIRST --out first.safetensors --steps 600
    python -m engine.train.speech_data --data CORPORA --out SECOND --aligner first.safetensors
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.encoders.phones import PHONES, SILENCE, UNKNOWN, arpabet_to_phone
from engine.errors import AudioError, VisavisError
from engine.synth import voices
from engine.train.align import ModelAligner
from engine.types import SAMPLE_RATE

__all__ = ["HOP", "Corpus", "Item", "PhoneAligner", "load_audio", "rasterise", "read_manifest", "split_of"]

HOP = 160
"""Samples per label (10 ms)."""

Floats = NDArray[np.float32]
_USED_CORPORA = (
    "librispeech", "kerstin_de", "emodb_de", "picovoice_wakewords_en", "speech_commands_en", "ljspeech_en",
    "vctk_en", "speechbrain_samples_en",
)  # fmt: skip

# Whole speakers whose recordings are kept for measuring only.
_OUTSIDE_CORPORA = (
    "mfa_samples",
    "praatio_samples_en",
    "pocketsphinx_samples_en",
    "whisper_jfk_en",
    "common_voice",
)
_OUTSIDE_SPEAKERS = ("ls61",)
_TEST_SPEAKERS = ("p228", "emodb15", "emodb16", "sb_spk1")


@dataclass(frozen=True)
class Item:
    """One utterance: ``labels`` start at ``start`` (in hops), ``frames`` of them."""

    name: str
    start: int
    frames: int
    speaker: str
    language: str
    corpus: str
    split: str
    text: str


class Corpus:
    """All utterances of a prepared folder: ``audio`` int16 [160 F], ``labels`` int8 [F]."""

    def __init__(self, folder: Path) -> None:
        self.audio: NDArray[np.int16] = np.memmap(folder / "audio.i16", np.int16, mode="r")
        self.labels: NDArray[np.int8] = np.memmap(folder / "labels.i8", np.int8, mode="r")
        with (folder / "items.json").open(encoding="utf-8") as file:
            self.items = [Item(**entry) for entry in json.load(file)]

    def samples(self, item: Item) -> Floats:
        part = self.audio[item.start * HOP : (item.start + item.frames) * HOP]
        return part.astype(np.float32) / np.float32(32768)

    def phones(self, item: Item) -> NDArray[np.int8]:
        return np.asarray(self.labels[item.start : item.start + item.frames])


class Writer:
    """Appends utterances to a prepared folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.audio = (folder / "audio.i16").open("wb")
        self.labels = (folder / "labels.i8").open("wb")
        self.items: list[Item] = []
        self.at = 0

    def add(self, samples: Floats, labels: NDArray[np.int8], **about: str) -> None:
        frames = min(len(samples) // HOP, len(labels))
        if frames < 20:
            return
        clipped = np.clip(np.round(samples[: frames * HOP] * 32767), -32768, 32767)
        self.audio.write(clipped.astype(np.int16).tobytes())
        self.labels.write(labels[:frames].astype(np.int8).tobytes())
        self.items.append(Item(start=self.at, frames=frames, **about))
        self.at += frames

    def close(self) -> None:
        self.audio.close()
        self.labels.close()
        with (self.folder / "items.json").open("w", encoding="utf-8") as file:
            json.dump([asdict(item) for item in self.items], file)


def load_audio(path: Path) -> Floats:
    """Any audio file as float32 [N], 16 kHz mono. Raises AudioError where it cannot be decoded."""
    import av

    blocks: list[NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as file:
            resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
            for frame in file.decode(audio=0):
                blocks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
            blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise AudioError(f"cannot decode {path}: {error}") from error
    return np.concatenate(blocks).astype(np.float32) / np.float32(32768)


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """The rows of ``MANIFEST.tsv`` (unquoted, tab separated)."""
    with (folder / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def split_of(corpus: str, speaker: str, name: str) -> str:
    """``train``, ``dev``, ``test`` (other speakers, except one-voice corpora) or ``outside``."""
    if corpus in _OUTSIDE_CORPORA or speaker in _OUTSIDE_SPEAKERS:
        return "outside"
    if speaker in _TEST_SPEAKERS:
        return "test"
    if corpus in ("librispeech", "speech_commands_en"):
        return {0: "test", 1: "dev"}.get(zlib.crc32(speaker.encode()) % 14, "train")
    if corpus in ("kerstin_de", "picovoice_wakewords_en"):
        return {0: "test", 1: "dev"}.get(zlib.crc32(name.encode()) % 40, "train")
    return "train"


def rasterise(segments: Iterable[voices.Segment], frames: int) -> NDArray[np.int8]:
    """Labels int8 [frames]: the phone that sounds at the middle of each 10 ms."""
    labels = np.full(frames, UNKNOWN, np.int8)
    for segment in segments:
        first = round(segment.start * 100)
        labels[first : max(round(segment.end * 100), first)] = segment.phone
    return labels


def _pcm(samples: Floats) -> bytes:
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16).tobytes()


class PhoneAligner:
    """Forced alignment of English text by pocketsphinx and its bundled model."""

    def __init__(self) -> None:
        import pocketsphinx

        self._recogniser = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", cmn="batch")

        # The phone-level pass needs the exact word segments: no best-path search over a lattice.
        self._decoder = pocketsphinx.Decoder(
            samprate=SAMPLE_RATE, loglevel="FATAL", cmn="batch", bestpath=False
        )

    def _words(self, text: str) -> str:
        words = re.findall(r"[a-z][a-z']*", text.lower().replace("’", "'"))
        for word in words:
            if self._decoder.lookup_word(word) is None:
                phones = [
                    PHONES[p]
                    for p in voices.pronounce(word, "gmw/en-US")
                    if PHONES[p] not in ("UE", "OE", "X")
                ]
                self._decoder.add_word(word, " ".join(phones or ["AH"]), True)
        return " ".join(words)

    def __call__(self, samples: Floats, text: str) -> NDArray[np.int8] | None:
        """Labels int8 [N // 160], or None where the text does not fit the audio."""
        words = self._words(text)
        data = _pcm(samples)
        try:
            self._decoder.set_align_text(words)
            self._run(data)
            self._decoder.set_alignment()
            self._run(data)
            alignment = self._decoder.get_alignment()
        except RuntimeError:
            return None
        segments = [
            voices.Segment(p.start / 100, (p.start + p.duration) / 100, arpabet_to_phone(p.name))
            for word in alignment
            for p in word
        ]
        labels = rasterise(segments, len(samples) // HOP)
        # A handful of frames past the last phone are silence.
        last = int(segments[-1].end * 100) if segments else 0
        labels[last:] = SILENCE
        return labels

    def recognise(self, samples: Floats) -> str:
        """The words pocketsphinx hears with its bundled language model."""
        self._recogniser.start_utt()
        self._recogniser.process_raw(_pcm(samples), full_utt=True)
        self._recogniser.end_utt()
        hypothesis = self._recogniser.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""

    def _run(self, data: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(data, full_utt=True)
        self._decoder.end_utt()


# Emo-DB's narrow SAMPA; a leading _ or ! marks closure and burst of a stop.
_EMODB = {
    "sil": "SIL", "I": "IH", "i": "IY", "a": "AA", "A": "AA", "E": "EH", "e": "EY", "@": "AH", "6": "AH",
    "U": "UH", "u": "UW", "o": "OW", "O": "AO", "9": "OE", "2": "OE", "8": "OE", "y": "UE", "Y": "UE",
    "aI": "AY", "aU": "AW", "ao": "AW", "aO": "AW", "AU": "AW", "OY": "OY", "i6": "IH", "I6": "IH",
    "a6": "AA", "@6": "AH", "E6": "EH", "e6": "EH", "p": "P", "pasp": "P", "b": "B", "basp": "B",
    "m": "M", "f": "F", "v": "V", "s": "S", "z": "Z", "S": "SH", "t": "T", "tasp": "T", "d": "D",
    "dasp": "D", "n": "N", "nn": "N", "N": "NG", "l": "L", "j": "Y", "C": "X", "x": "X", "X": "X",
    "R": "X", "k": "K", "kasp": "K", "g": "G", "gasp": "G", "G": "G", "h": "HH", "D": "DH", "B": "B",
    "ss": "S", "vv": "V", "L": "L", "mm": "M",
}  # fmt: skip


def _emodb_labels(path: Path, frames: int) -> NDArray[np.int8]:
    segments = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            name = row["label"].strip()
            name = name.lstrip("_!") if len(name) > 1 else name
            phone = PHONES.index(_EMODB[name]) if name in _EMODB else UNKNOWN
            segments.append(voices.Segment(float(row["start"]), float(row["end"]), phone))
    return rasterise(segments, frames)


class _Labeller:
    """Chooses how a recording gets its labels: by hand, by pocketsphinx, or by a first model."""

    def __init__(self, folder: Path, first_model: Path | None, transcripts: Path) -> None:
        self.folder = folder
        self.sphinx = PhoneAligner()
        self.german = ModelAligner(first_model, "gmw/de") if first_model else None
        self.english = ModelAligner(first_model, "gmw/en-US") if first_model else None
        self.transcripts = transcripts
        self.recognised: dict[str, str] = {}
        if transcripts.is_file():
            self.recognised = json.loads(transcripts.read_text(encoding="utf-8"))

    def __call__(self, row: dict[str, str], samples: Floats) -> tuple[NDArray[np.int8] | None, str]:
        """Labels (None: leave the recording out) and text."""
        text = row["transcript"]
        if row["corpus"] == "emodb_de":
            alignment = row["alignment-file"]
            return (_emodb_labels(self.folder / alignment, len(samples) // HOP) if alignment else None), text
        if row["language"] == "de":
            return (self.german(samples, text) if self.german else None), text
        if text:
            return self.sphinx(samples, text), text
        if self.english is None:
            return None, ""
        text = self._recognise(row["file"], samples)
        return (self.english(samples, text) if text else None), text

    def _recognise(self, name: str, samples: Floats) -> str:
        """What pocketsphinx hears; slow (a fifth of real time), so it is kept for the next run."""
        if name not in self.recognised:
            self.recognised[name] = self.sphinx.recognise(samples)
            self.transcripts.write_text(json.dumps(self.recognised), encoding="utf-8")
        return self.recognised[name]


def _human(folder: Path, labeller: _Labeller) -> Iterator[tuple[Floats, NDArray[np.int8], dict[str, str]]]:
    """Every recording that may train or test and that could be labelled."""
    for row in read_manifest(folder):
        corpus, name = row["corpus"], row["file"]
        split = split_of(corpus, row["speaker"], name)
        if split == "outside" or corpus not in _USED_CORPORA:
            continue
        samples = load_audio(folder / name)
        labels, text = labeller(row, samples)
        if labels is not None:
            about = {"name": name, "speaker": row["speaker"], "language": row["language"], "corpus": corpus}
            yield samples, labels, about | {"split": split, "text": text}


_VARIANTS = {"": 0.2, "+m3": 0.15, "+m7": 0.15, "+f1": 0.15, "+f2": 0.15, "+f4": 0.15, "+whisper": 0.05}


def _synthetic(
    texts: dict[str, list[str]], seconds: float, seed: int
) -> Iterator[tuple[Floats, NDArray[np.int8], dict[str, str]]]:
    """About ``seconds`` of synthetic speech: half espeak-ng in all languages, half flite."""
    noise = np.random.default_rng(seed)
    languages = list(voices.ESPEAK_VOICES)
    weights = np.array(
        [6.0 if name in ("en", "de") else 2.0 if name in ("fr", "es") else 1.0 for name in languages]
    )
    made = 0.0
    index = 0
    while made < seconds:
        index += 1
        if noise.random() < 0.45:
            voice, language = str(noise.choice(voices.FLITE_VOICES)), "en"
            text = str(noise.choice(texts["en"]))
            pitch = float(noise.uniform(80, 260)) if noise.random() < 0.7 else None
            speech = voices.flite(text, voice, float(noise.uniform(0.7, 1.4)), pitch)
        else:
            language = str(noise.choice(languages, p=weights / weights.sum()))
            variant = str(noise.choice(list(_VARIANTS), p=list(_VARIANTS.values())))
            voice = str(noise.choice(voices.ESPEAK_VOICES[language])) + variant
            text = str(noise.choice(texts[language]))
            rate, pitch_level, pitch_range = (
                int(noise.integers(*r)) for r in ((120, 260), (10, 95), (20, 90))
            )
            speech = voices.espeak(text, voice, rate, pitch_level, pitch_range)
        made += len(speech.samples) / SAMPLE_RATE
        split = "test" if voice.startswith("awb") or "+f4" in voice else "train"
        about = {
            "name": f"synthetic/{index}",
            "speaker": voice,
            "language": language,
            "corpus": "synthetic",
            "split": split,
            "text": text,
        }
        yield speech.samples, rasterise(speech.segments, len(speech.samples) // HOP), about


def _texts(rows: list[dict[str, str]], seed: int) -> dict[str, list[str]]:
    """Sentences to synthesise: the corpora's own transcripts and random word strings."""
    texts = {language: list(voices.sentences(language, 200, seed)) for language in voices.ESPEAK_VOICES}
    for row in rows:
        if row["language"] in ("en", "de") and 20 < len(row["transcript"]) < 120:
            texts[row["language"]].append(row["transcript"].lower())
    return texts


def prepare(
    data: Path, out: Path, synthetic_s: float, seed: int, first_model: Path | None = None
) -> dict[str, Any]:
    """Write the training folder; returns the number of utterances and seconds by corpus and split."""
    writer = Writer(out)
    rows = read_manifest(data)
    try:
        for samples, labels, about in _human(data, _Labeller(data, first_model, out / "transcripts.json")):
            writer.add(samples, labels, **about)
        for samples, labels, about in _synthetic(_texts(rows, seed), synthetic_s, seed):
            writer.add(samples, labels, **about)
    finally:
        writer.close()
    seconds: dict[str, float] = {}
    for item in writer.items:
        key = f"{item.corpus} {item.split}"
        seconds[key] = round(seconds.get(key, 0.0) + item.frames / 100, 2)
    return {"utterances": len(writer.items), "seconds": seconds}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--synthetic-seconds", type=float, default=5400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--aligner", type=Path, help="weights of a first model, for what has no aligner")
    options = parser.parse_args(argv)
    try:
        made = prepare(options.data, options.out, options.synthetic_seconds, options.seed, options.aligner)
        print(json.dumps(made, indent=1))
    except VisavisError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
