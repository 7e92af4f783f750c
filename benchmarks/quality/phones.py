"""How well the PPG encoder names sounds: held-out speakers, synthetic voices, bad conditions.

Every 20 ms of labelled audio counts once. Reported per corpus: share of right phones, of right
viseme classes (14, what lips can tell apart), recall and precision of silence, F1 of bilabials
(the closures a viewer notices first). Then per language and per person over held-out human speakers
only; Emo-DB's labels were made by hand, all others by aligners (its ten sentences were heard in training
from eight other speakers). Languages without labelled human
speech get no row of their own: synthetic voices are listed as such. The same for the human test
recordings made quiet, noisy, reverberant, coded and whispered. The last line is one JSON object.

Usage::

    python -m engine.train.speech_data --data CORPORA --out FOLDER
    python -m benchmarks.quality.phones --data FOLDER [--aligned FOLDER_WITH_ALIGNED_JSON]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.encoders.acoustic import AcousticModel, load_acoustic
from engine.encoders.mel_input import normalised_mel
from engine.encoders.phones import PHONES, SILENCE, UNKNOWN, VISEME_OF_PHONE, VISEMES, arpabet_to_phone
from engine.synth.voices import Segment
from engine.train import augment
from engine.train.provenance import commit
from engine.train.speech_data import HOP, Corpus, load_audio, rasterise

__all__ = ["Score", "Spoken", "conditions", "score"]

SAME_PEOPLE = ("synthetic", "kerstin_de", "picovoice_wakewords_en")
"""Corpora whose test recordings are of voices that were also trained on, or of no person at all."""

_VISEME = np.array(VISEME_OF_PHONE)
_BILABIAL = VISEMES.index("bilabial")


@dataclass(frozen=True)
class Spoken:
    """float32 [160 K] samples with int8 [K] labels."""

    samples: augment.Floats
    labels: NDArray[np.int8]


@dataclass(frozen=True)
class Score:
    """Shares over labelled 20 ms pieces; ``seconds`` of audio they came from."""

    seconds: float
    phone: float
    viseme: float
    silence_recall: float
    silence_precision: float
    bilabial_f1: float

    def row(self, name: str) -> str:
        shares = (self.phone, self.viseme, self.silence_recall, self.silence_precision, self.bilabial_f1)
        return f"{name:32s} {self.seconds:7.0f} s  " + "  ".join(f"{100 * value:6.1f}" for value in shares)


def _named(model: AcousticModel, spoken: Spoken) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(said, true) phones of every labelled 20 ms; frame n heard up to 60 ms beyond its centre."""
    frames = len(spoken.labels) // 4
    samples = np.pad(spoken.samples[: frames * 4 * HOP], (0, 4 * HOP))
    with torch.no_grad():
        said = model(normalised_mel(samples[None]))[0][0, 1:, :2].argmax(-1).flatten().numpy()
    # The label at the middle of each 20 ms is the later one of its two.
    true = spoken.labels[: frames * 4][1::2].astype(np.int64)
    return said[true != UNKNOWN], true[true != UNKNOWN]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def score(model: AcousticModel, recordings: Iterable[Spoken]) -> Score:
    """All of ``recordings`` counted together."""
    pairs = [_named(model, spoken) for spoken in recordings]
    said, true = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    said_viseme, true_viseme = _VISEME[said], _VISEME[true]
    quiet, quiet_said = true == SILENCE, said == SILENCE
    lips, lips_said = true_viseme == _BILABIAL, said_viseme == _BILABIAL
    return Score(
        seconds=len(true) / 50,
        phone=_ratio(int((said == true).sum()), len(true)),
        viseme=_ratio(int((said_viseme == true_viseme).sum()), len(true)),
        silence_recall=_ratio(int((quiet & quiet_said).sum()), int(quiet.sum())),
        silence_precision=_ratio(int((quiet & quiet_said).sum()), int(quiet_said.sum())),
        bilabial_f1=_ratio(2 * int((lips & lips_said).sum()), int(lips.sum()) + int(lips_said.sum())),
    )


def _level(decibel: float) -> Callable[[augment.Floats, np.random.Generator], augment.Floats]:
    def change(samples: augment.Floats, noise: np.random.Generator) -> augment.Floats:
        scaled = np.clip(samples * 10 ** (decibel / 20), -1, 1)
        return np.asarray(np.round(scaled * 32767) / 32768, dtype=np.float32)

    return change


def _white_noise(samples: augment.Floats, noise: np.random.Generator) -> augment.Floats:
    loud = np.sqrt(np.mean(np.square(samples)))
    return np.asarray(samples + loud * 10 ** (-0.5) * noise.standard_normal(len(samples)), dtype=np.float32)


def conditions() -> dict[str, Callable[[augment.Floats, np.random.Generator], augment.Floats]]:
    """What is done to the human test recordings, by name."""
    return {
        "as recorded": lambda samples, noise: samples,
        "20 dB quieter": _level(-20),
        "40 dB quieter": _level(-40),
        "20 dB louder, clipped": _level(20),
        "white noise, 10 dB SNR": _white_noise,
        "random room and microphone": augment.channel,
        "mu-law": lambda samples, noise: augment.mu_law(samples),
        "whispered (synthesised)": augment.whisper,
    }


def _aligned(folder: Path) -> Iterator[Spoken]:
    """Recordings with word and phone times in 10 ms units beside them (``NAME.flac``, ``NAME.json``)."""
    for path in sorted(folder.glob("avct_*.json")):
        audio = path.with_suffix(".flac")
        if not audio.is_file():
            continue
        words = json.loads(path.read_text(encoding="utf-8"))
        segments = [
            Segment(phone["bg"] / 100, phone["ed"] / 100, arpabet_to_phone(phone["ph"]))
            for word in words
            for phone in word["phones"]
        ]
        samples = load_audio(audio)
        yield Spoken(samples, rasterise(segments, len(samples) // HOP))


def _by_corpus(corpus: Corpus) -> dict[str, list[Spoken]]:
    groups: dict[str, list[Spoken]] = {}
    for item in corpus.items:
        labels = corpus.phones(item)
        if item.split == "test" and np.any(labels != UNKNOWN):
            name = (
                f"{item.corpus} ({item.language})"
                if item.corpus != "synthetic"
                else f"synthetic {item.language}"
            )
            groups.setdefault(name, []).append(Spoken(corpus.samples(item), labels))
    return groups


def _by_person(corpus: Corpus) -> dict[str, list[Spoken]]:
    """Human test recordings of people never trained on, by language and, where one person spoke for a
    minute or more, by person."""
    languages: dict[str, list[Spoken]] = {}
    people: dict[tuple[str, str], list[Spoken]] = {}
    for item in corpus.items:
        labels = corpus.phones(item)
        if item.split != "test" or item.corpus in SAME_PEOPLE or not np.any(labels != UNKNOWN):
            continue
        spoken = Spoken(corpus.samples(item), labels)
        languages.setdefault(item.language, []).append(spoken)
        people.setdefault((item.language, item.speaker), []).append(spoken)
    rows = {}
    for language, group in sorted(languages.items()):
        count = sum(1 for other, _ in people if other == language)
        rows[f"{language}: {count} held-out people"] = group
        for (other, person), said in sorted(people.items()):
            if other == language and sum(len(spoken.labels) for spoken in said) >= 6000:
                rows[f"{language}: {person}"] = said
    return rows


def _human(groups: dict[str, list[Spoken]]) -> list[Spoken]:
    return [spoken for name, group in groups.items() if not name.startswith("synthetic") for spoken in group]


def measure(model: AcousticModel, corpus: Corpus, aligned: Path | None) -> dict[str, Score]:
    """Every row of the table."""
    groups = _by_corpus(corpus)
    scores = {name: score(model, group) for name, group in sorted(groups.items())}
    scores |= {name: score(model, group) for name, group in _by_person(corpus).items()}
    if aligned is not None:
        scores["other recordings, other aligner"] = score(model, _aligned(aligned))
    human = _human(groups)[::3]
    for name, change in conditions().items():
        noise = np.random.default_rng(0)
        disturbed = [Spoken(change(spoken.samples, noise), spoken.labels) for spoken in human]
        scores[f"human: {name}"] = score(model, disturbed)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by engine.train.speech_data")
    parser.add_argument("--aligned", type=Path, help="folder of NAME.flac with NAME.json phone times")
    parser.add_argument("--weights", default="ppg", help="weights to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scores = measure(load_acoustic(options.weights), Corpus(options.data), options.aligned)
    print(f"{'per cent of 20 ms pieces':32s} {'':9s}   phone  viseme  sil.re  sil.pr  bilab.")
    for name, found in scores.items():
        print(found.row(name))
    rounded = {name: {k: round(v, 4) for k, v in vars(found).items()} for name, found in scores.items()}
    about = {"benchmark": "phones", "commit": commit(), "machine": platform.machine()}
    print(json.dumps(about | {"classes": len(PHONES), "scores": rounded}))


if __name__ == "__main__":
    main()
