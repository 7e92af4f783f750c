"""Builds the motion corpus from tracked people and phone-labelled voices.

    visavis track --data DIR --out TRACKS
    visavis train speech --data DIR/speech/corpora --out SPEECH
    visavis train data --data DIR --tracks TRACKS --speech SPEECH --emotional DIR/speech/corpora --out CORPUS

Real clips give everything that was tracked; the manifest's ``split`` and ``use`` are binding: takes
of split ``train`` come from items with ``split=train,use=train`` alone, ``dev`` clips choose epochs,
``test`` clips are left out altogether. Labelled human speech and synthetic voices give the mouth their
phones imply (:mod:`engine.train.lip_targets`), and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from engine.encoders.phones import PHONES
from engine.encoders.ppg import FEATURES
from engine.errors import InputError
from engine.train import styled
from engine.train.articulation import Articulation, fit_articulation
from engine.train.corpus import Entry, Take, write_index, write_take
from engine.train.lip_features import (
    FeatureCache,
    Person,
    augmented,
    near_voice,
    people,
    warped,
)
from engine.train.lip_targets import coarticulate
from engine.train.motion_data import Item, best_correlation, clip_items, load_clip
from engine.train.speech_data import Corpus as SpeechCorpus
from engine.types import MOTION

__all__ = ["main", "real_motion"]

Floats = NDArray[np.float32]

COPIES = {"obama": 4, "reagan": 5, "grid_s1": 1}
"""Augmented copies of each real clip: few minutes of a person need more of them."""
LEAST_AGREEMENT = 0.25
"""A clip whose mouth follows the phonetic prior less than this is not used."""
MOST_UNKNOWN = 0.03
UTTERANCES = {"labelled": 500, "synthetic": 150}
_TRUST = 0.7
"""Share of the real opening in a training target, the rest is the articulation model's: it takes the
edge off what only one person does. What is measured against is all real."""


def real_motion(path: Path, offset_ms: float) -> Floats:
    """The tracked motion [T, 72] of one clip, moved to where the audio says, relative to the clip's
    own rest: median pose and gaze, the quiet tenth of every upper-face unit. NaN where unseen."""
    with np.load(path) as file:
        if "motion" not in file:
            raise InputError(f"{path} has landmarks but no motion; run visavis track on the clip again")
        motion, valid = file["motion"].astype(np.float32), file["valid"]
    seen = valid & np.isfinite(motion).all(axis=1)
    if seen.sum() < 10:
        return np.full_like(motion, np.nan)
    for columns in (MOTION.pose, MOTION.gaze):
        motion[:, columns] -= np.median(motion[seen][:, columns], axis=0)
    at = np.arange(len(motion)) + offset_ms / 40.0
    known = np.flatnonzero(seen)
    moved = np.stack([np.interp(at, known, motion[known, k]) for k in range(MOTION.size)], axis=1)
    good = np.interp(at, np.arange(len(seen)), seen.astype(np.float64), left=0.0, right=0.0) > 0.99
    moved[~good] = np.nan
    return moved.astype(np.float32)


def _real_takes(
    persons: list[Person], tracks: Path, cache: FeatureCache, model: Articulation, copies: dict[str, int]
) -> Iterator[Take]:
    for person in tqdm(persons, desc="clips", unit="person"):
        for clip in person.clips:
            spoken = person.spoken(clip, cache)
            voiced = near_voice(cache(clip.item.name, clip.audio))
            opening = model.opening(spoken.posteriors) * voiced
            prior = coarticulate(spoken.posteriors, opening[: len(spoken.opening)])
            width = ((clip.shape[: len(prior), 0] / person.width - 1.0) * 0.55).astype(np.float32)
            width[np.isnan(spoken.opening)] = np.nan
            trust = _TRUST if clip.item.trains else 1.0
            blend = trust * spoken.opening + (1.0 - trust) * opening[: len(prior)]
            motion = real_motion(_track(clip.item, tracks), clip.item.offset_ms)[: len(prior)]
            arrays = (prior, blend.astype(np.float32), width, motion)
            yield _take(clip.item, clip.item.name, "real", spoken.speaker, clip.audio, arrays)
            for k in range(copies.get(spoken.speaker, 0)):
                name = f"{clip.item.name}+{k}"
                heard, factor = augmented(clip.audio, name)
                frames = len(heard) // 640
                moved = tuple(warped(values, factor, frames, 0.0) for values in arrays)
                yield _take(clip.item, name, "copy", spoken.speaker, heard[: 640 * frames], moved)


def _take(item: Item, name: str, kind: str, speaker: str, audio: Floats, arrays: tuple[Floats, ...]) -> Take:
    lips, opening, width, motion = arrays
    entry = Entry(
        name, kind, "train" if item.trains else "dev", speaker, len(lips), "", "", item.licence, item.origin
    )
    return Take(entry, audio[: 640 * len(lips)], lips, opening, width, motion)


def _track(item: Item, tracks: Path) -> Path:
    return tracks / (item.name.replace("/", "__") + ".npz")


def _labelled_takes(folder: Path, cache: FeatureCache, model: Articulation) -> Iterator[Take]:
    """Phone-labelled utterances, augmented, with the mouth their labels imply."""
    corpus = SpeechCorpus(folder)
    for kind, count in UTTERANCES.items():
        items = [
            i
            for i in corpus.items
            if i.split == "train" and i.frames > 150 and (i.corpus == "synthetic") == (kind == "synthetic")
        ]
        order = np.random.default_rng(0).permutation(len(items))
        known = [items[k] for k in order if (corpus.phones(items[k]) < 0).mean() < MOST_UNKNOWN][:count]
        for item in tqdm(known, desc=kind, unit="utterance"):
            labels = np.maximum(corpus.phones(item).astype(np.int64)[:1000], 0)
            labels = labels[: len(labels) // 4 * 4]
            name = f"{kind}/{item.name}"
            heard, factor = augmented(corpus.samples(item)[: len(labels) * 160], name)
            made = cache(name, heard)
            posteriors = (
                np.eye(len(PHONES), dtype=np.float32)[labels].reshape(-1, 2, len(PHONES)).mean(axis=1)
            )
            opening = model.opening(posteriors)
            # The louder half of a voice opens a little wider (Schulman, 1989).
            loud = warped(made[:, FEATURES.index("loudness")], 1.0 / factor, len(opening), 0.0)
            opening *= np.clip(1.0 + 0.25 * uniform_filter1d(loud, 3), 0.6, 1.3)
            frames = len(made)
            lips, opening = (
                warped(v, factor, frames, 0.0) for v in (coarticulate(posteriors, opening), opening)
            )
            nothing = np.full(frames, np.nan, np.float32)
            motion = np.full((frames, MOTION.size), np.nan, np.float32)
            entry = Entry(
                name, kind, "train", f"{kind}:{item.speaker}", frames, "", item.language, "", item.corpus
            )
            yield Take(entry, heard[: 640 * frames], lips, opening, nothing, motion)


def _belongs(person: Person, cache: FeatureCache) -> bool:
    """Does the sound belong to that mouth at all? Dubbed or badly cut clips would only teach noise."""
    model = Articulation()
    spoken = [person.spoken(clip, cache) for clip in person.clips[:20]]
    r = float(np.mean([best_correlation(model.opening(s.posteriors), s.opening) for s in spoken]))
    if r < LEAST_AGREEMENT:
        print(f"left out: {person.clips[0].item.name}, mouth and sound agree by r = {r:.2f} only", flush=True)
    return r >= LEAST_AGREEMENT


def build(data: Path, tracks: Path, speech: Path | None, out: Path) -> int:
    """Write the corpus; returns the number of takes."""
    cache = FeatureCache(out)
    items = [item for item in clip_items(data) if item.trains or item.split == "dev"]
    clips = [clip for clip in (load_clip(item, tracks) for item in items) if clip is not None]
    training = people([clip for clip in clips if clip.item.trains])
    held_out = people([clip for clip in clips if not clip.item.trains])
    if not training:
        raise InputError(f"no tracked clip in {tracks}; run visavis track first")
    training = [person for person in training if _belongs(person, cache)]
    model = fit_articulation([p.spoken(clip, cache) for p in training for clip in p.clips], seed=0)
    entries = []
    for persons, copies in ((training, COPIES), (held_out, {})):
        for take in _real_takes(persons, tracks, cache, model, copies):
            write_take(out, take)
            entries.append(take.entry)
    if speech is not None:
        for take in _labelled_takes(speech, cache, model):
            write_take(out, take)
            entries.append(take.entry)
    write_index(out, entries)
    return len(entries)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="visavis train data", description="Build the motion corpus.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="what visavis track wrote")
    parser.add_argument("--speech", type=Path, default=None, help="what engine.train.speech_data wrote")
    parser.add_argument(
        "--emotional",
        type=Path,
        default=None,
        metavar="CORPORA",
        help="folder of speech corpora with Emo-DB: emotional takes with authored styles go to OUT_styled",
    )
    parser.add_argument("--out", type=Path, required=True, help="the corpus folder")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    count = build(args.data, args.tracks, args.speech, args.out)
    print(f"{args.out}: {count} takes")
    if args.emotional is not None:
        styled.main(["--corpus", str(args.out), "--speech-corpora", str(args.emotional)])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
