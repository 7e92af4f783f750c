"""How well the contrastive lip code finds the lips that belong to a sound.

Of 9 moments of one clip, the synchronised one and 8 others at least 0.4 s away, how often do its own
lips fit the sound best, and its own sound the lips? Chance is 11 %. For single frames and for stretches
of one second. ``lag``: share of clips on which sound and lips, slid against each other by up to half a
second, fit best within one frame of the clip's own offset. Real people as tracked, by group of clips;
below them voices that no one filmed, with the lips their phone labels imply, by language: those say how
far the sound half carries over to other voices and languages, not how real lips move.

    python -m benchmarks.quality.lip_code --data DIR --tracks TRACKS [--speech SPEECH] [--splits dev]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from benchmarks.records import append_line
from engine.encoders.contrastive import LipCodeModel, load_lip_code
from engine.encoders.mel_input import normalised_mel
from engine.encoders.phones import PHONES
from engine.samplers.visemes import spread_columns
from engine.train.contrastive import Spoken, pair_scores, retrieval
from engine.train.data import real_motion
from engine.train.lip_motion import LipMotionModel, describe_lips, load_lip_motion
from engine.train.lip_targets import coarticulate
from engine.train.motion_data import clip_items, speaker_of
from engine.train.provenance import commit
from engine.train.speech_data import Corpus as SpeechCorpus

__all__ = ["best_lag", "clips", "group_of", "main", "voices"]

RESULTS = Path(__file__).parents[1] / "results" / "lip_code.jsonl"
_LONGEST = 1000
_MOST = 60


def group_of(name: str, split: str) -> str:
    """Which row of the table a clip belongs to."""
    if name.startswith("grid_s1/"):
        return f"{split}: GRID, new sentences of a person trained on"
    if name.startswith("grid/"):
        return f"{split}: GRID, other people"
    if name.startswith("elospheres"):
        return f"{split}: sentence readers"
    return f"{split}: free talkers"


def clips(data: Path, tracks: Path, splits: tuple[str, ...]) -> dict[str, list[Spoken]]:
    """Tracked clips of ``splits`` by group; what was never tracked is left out."""
    groups: dict[str, list[Spoken]] = defaultdict(list)
    for item in clip_items(data):
        path = tracks / (item.name.replace("/", "__") + ".npz")
        if item.split not in splits or not path.is_file():
            continue
        motion = real_motion(path, item.offset_ms)
        with np.load(path) as file:
            audio = file["audio"].astype(np.float32) / 32768.0
        frames = min(len(motion), len(audio) // 640)
        padded = np.pad(audio[: 640 * frames], (0, 640))
        mel = normalised_mel(padded[None])[0].numpy().astype(np.float16)
        spoken = Spoken(speaker_of(item.name), mel, describe_lips(motion[:frames]))
        groups[group_of(item.name, item.split)].append(spoken)
    return dict(groups)


def voices(folder: Path) -> dict[str, list[Spoken]]:
    """Held-out labelled voices by language, at most 60 utterances each."""
    corpus = SpeechCorpus(folder)
    groups: dict[str, list[Spoken]] = defaultdict(list)
    for item in corpus.items:
        name = f"phone lips, {'synthetic' if item.corpus == 'synthetic' else 'human'} {item.language}"
        if item.split != "test" or item.frames < 200 or len(groups[name]) >= _MOST:
            continue
        labels = corpus.phones(item).astype(np.int64)[:_LONGEST]
        labels = labels[: len(labels) // 4 * 4]
        unknown = (labels < 0).reshape(-1, 4).any(axis=1)
        if unknown.mean() > 0.5:
            continue
        labels = np.maximum(labels, 0)
        posteriors = np.eye(len(PHONES), dtype=np.float32)[labels].reshape(-1, 2, len(PHONES)).mean(axis=1)
        motion = spread_columns(coarticulate(posteriors).astype(np.float64)).astype(np.float32)
        motion[unknown] = np.nan
        padded = np.pad(corpus.samples(item)[: 640 * len(motion)], (0, 640))
        mel = normalised_mel(padded[None])[0].numpy().astype(np.float16)
        groups[name].append(Spoken(item.speaker, mel, describe_lips(motion)))
    return {name: group for name, group in sorted(groups.items()) if group}


def best_lag(audio: LipCodeModel, lips: LipMotionModel, item: Spoken, most: int = 12) -> int:
    """Frames by which the lips are later than the sound where both fit best, −``most``..``most``."""
    scores, known = pair_scores(audio, lips, item)
    worth = np.where(known[None, :], scores, np.nan)
    fits = [float(np.nanmean(np.diagonal(worth, lag))) for lag in range(-most, most + 1)]
    return int(np.argmax(fits)) - most


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="what visavis track wrote")
    parser.add_argument("--speech", type=Path, help="what engine.train.speech_data wrote")
    parser.add_argument("--splits", nargs="+", default=["dev", "test", "test_seen_speaker"])
    parser.add_argument("--weights", default="contrastive", help="weights to measure")
    parser.add_argument("--no-record", action="store_true", help="print only")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    weights = args.weights if not args.weights.endswith(".safetensors") else Path(args.weights)
    audio, lips = load_lip_code(weights), load_lip_motion(weights)
    groups = clips(args.data, args.tracks, tuple(args.splits))
    groups |= voices(args.speech) if args.speech else {}
    scores = {}
    columns = [f"{way}_{length}" for length in ("frame", "1s") for way in ("audio_to_lips", "lips_to_audio")]
    print(f"{'per cent right of 9 (chance 11.1)':62s} takes   frame lips>a   1 s    lips>a  lag")
    for name, group in groups.items():
        near = float(np.mean([abs(best_lag(audio, lips, item)) <= 1 for item in group]))
        scores[name] = retrieval(audio, lips, group) | {"takes": float(len(group)), "lag": round(near, 4)}
        row = [100 * scores[name].get(column, float("nan")) for column in columns]
        print(f"{name:62s} {len(group):5d} " + " ".join(f"{value:7.1f}" for value in row), end=" ")
        print(f"{100 * near:7.1f}", flush=True)
    if not args.no_record:
        about = {"benchmark": "lip_code", "commit": commit(), "machine": platform.machine()}
        append_line(RESULTS, json.dumps(about | {"weights": str(args.weights), "scores": scores}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
