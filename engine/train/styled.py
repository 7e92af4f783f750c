"""Emotional takes: recorded emotional voices with an authored expression style.

    python -m engine.train.styled --corpus CORPUS --speech-corpora DIR [--out CORPUS_styled]

No labelled emotional video may be trained on, so the voices are real (Emo-DB: Burkhardt et al.,
2005) and the faces are authored: the style of the label (:data:`~engine.samplers.emotions.STYLES`)
whose strength follows phrases and loudness with slow variation of its own, over the shipped lips
map, over upper faces of tracked people. Contempt and surprise have no recordings there: contempt
borrows the bored voices, surprise the happy and the neutral ones. Speakers 15 and 16 are left out;
speaker 14 is ``dev``. Writes a corpus of its own with entries of kind ``styled``.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.errors import InputError
from engine.samplers.emotions import DYNAMICS, STYLES
from engine.samplers.factors import UPPER
from engine.samplers.lips import LipNet, load_lip_net
from engine.samplers.visemes import LIP_CHANNELS, spread_columns
from engine.train.corpus import Corpus, Entry, Take, mirrored, write_index, write_take
from engine.train.lip_targets import geometry, opening_from
from engine.train.speech_data import load_audio, read_manifest
from engine.types import EMOTIONS, EXPRESSION_NAMES, MOTION, AudioChunk, Cond

__all__ = ["LICENCE", "Utterance", "main", "strength_of", "styled_expression", "styled_takes", "utterances"]

Floats = NDArray[np.float32]

LICENCE = "CC0-1.0 as published by audEERING (medium confidence)"
NEUTRAL = "neutral"
_TO_EMOTION = {
    "anger": ("angry",),
    "boredom": ("contempt",),
    "disgust": ("disgusted",),
    "fear": ("fearful",),
    "happiness": ("happy", "surprised"),
    "neutral": (NEUTRAL, "surprised"),
    "sadness": ("sad",),
}
_HELD_OUT, _DEV = ("emodb15", "emodb16"), ("emodb14",)
_TAKE_FRAMES = 190
_SEAL = EXPRESSION_NAMES.index("lipsSealed")
_JAW = LIP_CHANNELS.index("jawOpen")
_PARTING_CHANNELS = [LIP_CHANNELS.index(n) for n in ("jawOpen", "mouthLowerDown", "mouthUpperUp")]
_SIDED = [[k for k, n in enumerate(EXPRESSION_NAMES) if n.endswith(side)] for side in ("Left", "Right")]


@dataclass(frozen=True)
class Utterance:
    """One recording: ``label`` is Emo-DB's, ``audio`` float32 [N] at 16 kHz."""

    speaker: str
    label: str
    audio: Floats


def utterances(corpora: Path) -> list[Utterance]:
    """Emo-DB's recordings under ``corpora`` (its MANIFEST.tsv), held-out speakers left out.

    Raises:
        InputError: no manifest or no Emo-DB there.
    """
    if not (corpora / "MANIFEST.tsv").is_file():
        raise InputError(f"{corpora} has no MANIFEST.tsv; name the speech corpora with --speech-corpora")
    found = []
    for row in read_manifest(corpora):
        notes = dict(part.split("=", 1) for part in row["notes"].split(";") if "=" in part)
        if row["corpus"] == "emodb_de" and row["speaker"] not in _HELD_OUT and "emotion" in notes:
            found.append(Utterance(row["speaker"], notes["emotion"], load_audio(corpora / row["file"])))
    if not found:
        raise InputError(f"{corpora} has no Emo-DB recordings (corpus emodb_de)")
    return found


def strength_of(entry: Entry) -> float:
    """Strength 0..1 of a styled entry's emotion, as its name says; 0 for every other entry."""
    _, mark, strength = entry.name.partition("@")
    return float(strength) if mark and entry.kind == "styled" else 0.0


def _joined(members: list[Utterance], noise: np.random.Generator) -> Iterator[Floats]:
    """Recordings of one speaker and label, in random order, with pauses, in takes of about 7 s."""
    parts: list[Floats] = []
    for k in noise.permutation(len(members)):
        parts += [members[k].audio, np.zeros(int(16_000 * noise.uniform(0.25, 0.7)), np.float32)]
        if sum(map(len, parts)) > 640 * _TAKE_FRAMES:
            yield _whole_frames(parts)
            parts = []
    if sum(map(len, parts)) > 640 * 50:
        yield _whole_frames(parts)


def _whole_frames(parts: list[Floats]) -> Floats:
    audio = np.concatenate([np.zeros(3200, np.float32), *parts])
    return np.asarray(
        audio[: len(audio) // 640 * 640] / max(float(np.abs(audio).max()), 1e-3) * 0.6, np.float32
    )


def _slow(frames: int, rate_hz: float, count: int, noise: np.random.Generator) -> NDArray[np.float64]:
    """Band-limited noise [frames, count], mean 0, deviation 1."""
    white = noise.standard_normal((frames + 400, count))
    smooth = gaussian_filter1d(white, 25.0 / (2 * np.pi * rate_hz), axis=0)[200 : 200 + frames]
    return np.asarray(smooth * np.sqrt(2.0 * np.sqrt(np.pi) * 25.0 / (2 * np.pi * rate_hz)))


def styled_expression(
    emotion: str, strength: float, loudness: Floats, seal: Floats, noise: np.random.Generator
) -> tuple[Floats, Floats]:
    """Expression [T, 64] that the style adds, and the factor [T] on the mouth's opening.

    ``loudness`` [T] 0..1 raises the expression where the voice is strong; ``seal`` [T] 0..1 keeps
    sealed lips sealed. Every take has its own amount of each unit and its own asymmetry.
    """
    frames = len(loudness)
    if emotion == NEUTRAL:
        return np.zeros((frames, len(EXPRESSION_NAMES)), np.float32), np.ones(frames, np.float32)
    row = EMOTIONS.index(emotion)
    phrases = gaussian_filter1d(loudness.astype(np.float64), 6.0)
    wander = _slow(frames, 0.25, 1, noise)
    course = strength * np.clip(0.72 + 0.38 * phrases[:, None] + 0.12 * wander, 0.2, 1.3)
    # A unit's amount: fixed for the take, and moving slowly on its own.
    personal = np.exp(0.18 * noise.standard_normal(len(EXPRESSION_NAMES)))
    lean = 0.08 * noise.standard_normal()
    personal[_SIDED[0]] *= 1.0 + lean
    personal[_SIDED[1]] *= 1.0 - lean
    each = _slow(frames, 0.5, 16, noise) @ (noise.standard_normal((16, len(EXPRESSION_NAMES))) / 4.0)
    added = course * STYLES[row] * personal * (1.0 + 0.15 * each)
    parting = [k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("mouthUpperUp", "mouthLowerDown"))]
    for k in [*parting, EXPRESSION_NAMES.index("jawOpen")]:
        added[:, k] *= 1.0 - np.clip(seal, 0.0, 1.0)
    factor = 1.0 + course[:, 0] * (DYNAMICS[row, 2] - 1.0)
    return added.astype(np.float32), factor.astype(np.float32)


def _heard(audio: Floats, encoder: PpgEncoder, net: LipNet) -> tuple[Floats, Floats]:
    """Lip channels [T, C] of the shipped map and loudness [T] 0..1."""
    with torch.no_grad():
        features = encoder.forward(AudioChunk(0, torch.from_numpy(audio)[None]), Cond.default(1))
        channels, _ = net(features, net.init_hidden(1))
    voice = features[0, :, FEATURES.index("voice")].numpy()
    level = features[0, :, FEATURES.index("level")].numpy()
    loudest = float(np.percentile(level, 95))
    loud = np.clip(1.0 + (level - loudest) / 2.5, 0.0, 1.0) * (voice > 0.35)
    quiet = gaussian_filter1d((voice > 0.35).astype(np.float64), 1.0) < 0.3
    lips = channels[0].numpy()
    lips[quiet] = 0.0
    return np.asarray(lips, np.float32), np.asarray(loud, np.float32)


def _faces(corpus: Corpus) -> list[Floats]:
    """Upper faces [T, 13] of tracked training people, to lay under the styles."""
    found = []
    for entry in corpus.select("train", "real"):
        motion = corpus.take(entry).motion
        for side in (motion, mirrored(motion)):
            upper = side[:, UPPER]
            if np.isfinite(upper).all() and len(upper) >= 50:
                found.append(gaussian_filter1d(upper, 1.0, axis=0).astype(np.float32))
    if not found:
        raise InputError(f"{corpus.folder} has no tracked training people; build it with visavis train data")
    return found


def _upper(faces: list[Floats], frames: int, noise: np.random.Generator) -> Floats:
    """An upper face of ``frames`` frames: pieces of one person, there and back where it is short."""
    piece = faces[noise.integers(len(faces))]
    start = int(noise.integers(0, max(1, len(piece) - frames)))
    piece = piece[start : start + frames]
    while len(piece) < frames:
        piece = np.concatenate([piece, piece[::-1]])
    return piece[:frames]


def styled_takes(corpus: Corpus, recordings: list[Utterance], seed: int = 0) -> Iterator[Take]:
    """Every recording once for each emotion its label stands for."""
    encoder, net, faces = PpgEncoder(backend="eager"), load_lip_net(features=FEATURES), _faces(corpus)
    groups: dict[tuple[str, str], list[Utterance]] = defaultdict(list)
    for item in recordings:
        for emotion in _TO_EMOTION.get(item.label, ()):
            groups[item.speaker, emotion].append(item)
    for (speaker, emotion), members in sorted(groups.items()):
        noise = np.random.default_rng([seed, zlib.crc32(f"{speaker} {emotion}".encode())])
        for k, audio in enumerate(_joined(members, noise)):
            strength = 0.0 if emotion == NEUTRAL else float(np.round(noise.uniform(0.35, 1.0), 2))
            entry = Entry(
                name=f"styled/{speaker}/{emotion}_{k}@{strength:.2f}",
                kind="styled",
                split="dev" if speaker in _DEV else "train",
                speaker=f"styled:{speaker}",
                frames=len(audio) // 640,
                emotion=emotion,
                language="de",
                licence=LICENCE,
                origin="emodb_de voices; expression authored (engine/samplers/emotions.py)",
            )
            yield _take(entry, audio, _heard(audio, encoder, net), _upper(faces, entry.frames, noise), noise)


def _take(
    entry: Entry, audio: Floats, heard: tuple[Floats, Floats], upper: Floats, noise: np.random.Generator
) -> Take:
    lips, loudness = heard
    seal = lips[:, LIP_CHANNELS.index("lipsSealed")]
    style, factor = styled_expression(entry.emotion, strength_of(entry), loudness, seal, noise)
    lips = lips.copy()
    lips[:, _PARTING_CHANNELS] *= factor[:, None]
    motion = np.full((entry.frames, MOTION.size), np.nan, np.float32)  # no head, no gaze: unknown
    expression = spread_columns(lips.astype(np.float64))[:, MOTION.expression] + style
    # The person under the style holds still while the style is strong.
    expression[:, UPPER] += upper * (1.0 - 0.5 * strength_of(entry))
    motion[:, MOTION.expression] = np.clip(expression, 0.0, 1.0)
    opened = lips.copy()
    opened[:, _JAW] += style[:, EXPRESSION_NAMES.index("jawOpen")]
    opening = opening_from(torch.from_numpy(opened), geometry()[0]).numpy()
    return Take(entry, audio, lips, opening, np.full(entry.frames, np.nan, np.float32), motion)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="motion corpus with tracked people")
    parser.add_argument(
        "--speech-corpora", type=Path, required=True, help="folder with MANIFEST.tsv and Emo-DB"
    )
    parser.add_argument("--out", type=Path, default=None, help="new corpus folder (default CORPUS_styled)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    out = args.out or args.corpus.with_name(args.corpus.name + "_styled")
    entries = []
    for take in styled_takes(Corpus(args.corpus), utterances(args.speech_corpora)):
        write_take(out, take)
        entries.append(take.entry)
    write_index(out, entries, {"styles": "authored, engine/samplers/emotions.py", "voices": "emodb_de"})
    print(f"{len(entries)} styled takes, {sum(e.frames for e in entries) / 25 / 60:.1f} minutes, in {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
