"""VAST's claims, measured again on our data.

    python -m benchmarks.quality.claims_vast --data DIR --tracks CACHE --corpus DIR [--driving CACHE]
        [--steps N] [--weights vast] [--results FILE]

Table 3 of the paper takes out, one at a time, the Householder flow, the whole variational enhancer, the
style and the autoregressive decoder. Each variant is trained here from the shipped lips for the same
``--steps``, on the ``train`` split; then

* **D_vt** (Table 2): mean distance per frame between expression sequences, ``all`` columns VAST makes or
  the speech-strong ones, over ``dev`` voices each spoken in the styles of all ``dev`` prompts;
* **spread**: the same between seeds of one voice without a prompt (upper face);
* **likeness**: correlation, over prompts, of what a prompt's face holds on average with what was
  generated from it for another voice, mean over columns: is the style carried over?
* **r**, **F1**: lips against the real mouth, each voice in its own clip's style.

Figure 6: do style codes gather by person (three-second stretches) and, where tracks of the emotional
``driving`` clips are given, by emotion? Paper's numbers stand beside ours; its units differ (233 columns of
another face model), so ratios to the full model are what compares.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import Events, agreement, closures, match_events
from benchmarks.quality.diversity import pairwise
from benchmarks.quality.emotion import label_of
from benchmarks.quality.lips import read_clips
from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.samplers.factors import LIPS
from engine.samplers.vast.decoder import WEAK
from engine.samplers.vast.networks import CHEEKS, MOOD, VastNets, load_vast
from engine.samplers.vast.prompt import SHORTEST, code_of
from engine.samplers.vast.sampler import VastSampler
from engine.train.corpus import Corpus, Features
from engine.train.motion_data import Clip
from engine.train.mouth_geometry import opening_of
from engine.train.vast import ABLATIONS, train_style
from engine.train.vast_style import Clips, StyleRecipe
from engine.train.vast_style import read_clips as read_tracks
from engine.types import CONTROLS, Cond, FeatureChunk

__all__ = ["gathering", "likeness", "main"]

Floats = NDArray[np.float64]
Codes = NDArray[np.float32]

PAPER_DIVERSITY = {"none": 26.72, "flow": 26.53, "enhancer": 25.80, "style": 21.06, "ar": 20.81}
PAPER_TABLE_2 = {"original": 22.35, "vast": 26.72, "deterministic": 20.81, "prompt": 29.33}
PAPER_TABLE_2_STRONG = {"original": 27.49, "vast": 36.32, "deterministic": 23.96, "prompt": 36.15}
_WITHOUT = {"none": "full", "flow": "w/o HF", "enhancer": "w/o E_v", "style": "w/o s", "ar": "w/o D_ar"}
_FRAMES = 100
STRONG = sorted({*LIPS, *CHEEKS})
ALL = sorted({*STRONG, *WEAK})


@dataclass(frozen=True)
class Voice:
    """A dev clip: its name, features [T, F], tracked motion [T, 72] (NaN where unseen), its mouth."""

    name: str
    features: NDArray[np.float32]
    motion: NDArray[np.float32]
    clip: Clip


def perform(
    nets: VastNets, features: NDArray[np.float32], codes: Codes, seeds: list[int], strength: float
) -> Floats:
    """Expressions [B, T, 64] of one voice in each of ``codes`` [B, 64] with each of ``seeds``."""
    sampler, batch = VastSampler(FEATURES, "features:ppg:225", nets), len(seeds)
    data = torch.from_numpy(features)[None].repeat(batch, 1, 1)
    controls = CONTROLS.default(batch)[:, None].repeat(1, len(features), 1)
    controls[..., CONTROLS.index("style")] = strength
    controls[..., CONTROLS.style] = torch.from_numpy(codes)[:, None]
    cond = Cond(torch.tensor(seeds), torch.zeros(batch, 72), (None,) * batch)
    with torch.inference_mode():
        motion = sampler.forward(FeatureChunk(0, data, controls), cond)
    return np.asarray(motion[..., :64].double().numpy())


def likeness(prompts: Floats, made: Floats) -> float:
    """Correlation over prompts [P, K] of their averages with those generated, mean over columns that
    differ between prompts."""
    varied = prompts.std(axis=0) > 0.02
    found = [
        np.corrcoef(prompts[:, k], made[:, k])[0, 1] if made[:, k].std() > 1e-6 else 0.0
        for k in np.flatnonzero(varied)
    ]
    return float(np.mean(found)) if found else float("nan")


def gathering(codes: Codes, labels: list[str], clips: list[str] | None = None) -> tuple[float, float]:
    """Share of codes whose nearest other one carries the same label, and the share chance would give.

    ``clips``, where given: codes of one clip do not count as neighbours.
    """
    names, origin = np.array(labels), np.arange(len(labels)) if clips is None else np.array(clips)
    distance = np.linalg.norm(codes[:, None] - codes[None], axis=-1)
    other = origin[:, None] != origin[None]
    distance[~other] = np.inf
    same = (names[:, None] == names[None]) & other
    counted = same.any(axis=1)
    nearest = names[distance.argmin(axis=1)] == names
    chance = same[counted].sum(axis=1) / other[counted].sum(axis=1)
    return float(nearest[counted].mean()), float(chance.mean())


def measure(nets: VastNets, voices: list[Voice]) -> dict[str, float]:
    """One variant's row of the table."""
    codes = np.stack([code_of(nets, v.motion, v.features) for v in voices])
    spoken = [v for v in voices if len(v.features) >= _FRAMES]
    sequences, held, spreads, rs = [], [], [], []
    events = Events(0, 0, 0)
    for voice in spoken:
        made = perform(nets, voice.features[:_FRAMES], codes, [1] * len(codes), 1.0)
        sequences.append(made)
        held.append(made[..., [*WEAK, *MOOD]].mean(axis=1))
        free = perform(nets, voice.features[:_FRAMES], 0.0 * codes[:1].repeat(4, 0), [1, 2, 3, 4], 0.0)
        spreads.append(pairwise(free[..., WEAK]))
    for voice, code in zip(voices, codes, strict=True):
        motion = np.zeros((len(voice.features), 72), np.float32)
        motion[:, :64] = perform(nets, voice.features, code[None], [1], 1.0)[0]
        real = np.where(voice.clip.good, voice.clip.opening, np.nan).astype(np.float64)
        length = min(len(real), len(motion))
        opening = opening_of(motion).astype(np.float64)[:length]
        rs.append(agreement(opening, real[:length]).r)
        events = events + match_events(closures(opening), closures(real[:length]))
    whole = np.concatenate(sequences)
    prompts = np.stack([np.nanmean(v.motion[:, [*WEAK, *MOOD]], axis=0) for v in voices]).astype(np.float64)
    return {
        "dvt_all": round(pairwise(whole[..., ALL]), 4),
        "dvt_strong": round(pairwise(whole[..., STRONG]), 4),
        "spread": round(float(np.mean(spreads)), 4),
        "likeness": round(likeness(prompts, np.mean(held, axis=0)), 3),
        "r": round(float(np.mean(rs)), 4),
        "f1": round(events.f1, 4),
    }


def real_diversity(voices: list[Voice]) -> dict[str, float]:
    """D_vt of what the dev people themselves did."""
    pieces = [v.motion[s : s + _FRAMES, :64] for v in voices for s in range(0, len(v.motion), _FRAMES)]
    whole = np.stack([p for p in pieces if len(p) == _FRAMES and np.isfinite(p).all()]).astype(np.float64)
    return {"all": round(pairwise(whole[..., ALL]), 4), "strong": round(pairwise(whole[..., STRONG]), 4)}


def person_codes(nets: VastNets, clips: Clips) -> tuple[Codes, list[str]]:
    """Codes of three-second stretches, at most eight a person, and whose they are."""
    codes, labels = [], []
    counts: dict[str, int] = {}
    for clip in clips:
        for start in range(0, len(clip.motion) - 74, 75):
            part = slice(start, start + 75)
            if clip.seen[part].mean() < 0.9 or counts.get(clip.speaker, 0) >= 8:
                continue
            counts[clip.speaker] = counts.get(clip.speaker, 0) + 1
            codes.append(code_of(nets, clip.motion[part], clip.features[part]))
            labels.append(clip.speaker)
    return np.stack(codes), labels


def emotion_codes(nets: VastNets, tracks: Path) -> tuple[Codes, list[str], list[str]]:
    """Codes of the halves of each clip whose name states an emotion (they have no sound), the emotions
    and the clips."""
    codes, labels, clips = [], [], []
    for path in sorted(tracks.glob("driving__*.npz")):
        label = label_of(path.stem)
        if label is None:
            continue
        with np.load(path) as file:
            motion = file["motion"].astype(np.float32)[file["valid"]]
        for half in (motion[: len(motion) // 2], motion[len(motion) // 2 :]):
            if len(half) >= SHORTEST:
                codes.append(code_of(nets, half, None))
                labels.append(label)
                clips.append(path.stem)
    return (np.stack(codes) if codes else np.zeros((0, 64), np.float32)), labels, clips


def read_voices(data: Path, tracks: Path, corpus: Corpus, features: Features) -> list[Voice]:
    clips = {c.item.name: c for c in read_clips(data, tracks, ("dev",))[0]}
    found = []
    for entry in corpus.select("dev", "real"):
        if entry.name in clips:
            take = corpus.take(entry)
            found.append(Voice(entry.name, features(take), take.motion, clips[entry.name]))
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="VAST's claims, measured again.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="what visavis track wrote")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--driving", type=Path, default=None, help="tracks of the driving clips")
    parser.add_argument("--weights", default="vast")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--results", type=Path, default=None, help="append the JSON lines to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    corpus = Corpus(args.corpus)
    features = Features(args.corpus, PpgEncoder(backend="eager"), "ppg")
    clips = read_tracks(corpus, features, "train", "real", "copy")
    voices = read_voices(args.data, args.tracks, corpus, features)
    people = [c for c in clips if "+" not in c.name] + read_tracks(corpus, features, "dev", "real")
    strong = load_vast(args.weights, FEATURES).strong
    lines: list[dict[str, object]] = []
    rows: dict[str, dict[str, float]] = {}
    for variant in ABLATIONS:
        nets, _ = train_style(strong, clips, StyleRecipe(steps=args.steps), variant)
        rows[variant] = measure(nets, voices)
        print(f"{_WITHOUT[variant]:<10}", rows[variant], flush=True)
        if variant in ("none", "enhancer"):
            lines.append(_figure_6(nets, people, args.driving, _WITHOUT[variant]))
            print(lines[-1], flush=True)
    lines.append(
        {
            "family": "vast",
            "claim": "Table 3: each part adds to the diversity of expressions",
            "ours": {_WITHOUT[k]: v for k, v in rows.items()},
            "paper": {_WITHOUT[k]: v for k, v in PAPER_DIVERSITY.items()},
            "steps": args.steps,
        }
    )
    shipped = measure(load_vast(args.weights, FEATURES), voices)
    lines.append(
        {
            "family": "vast",
            "claim": "Table 2: diversity near the prompts', above a deterministic model's",
            "ours": {
                "vast": {name: shipped[name] for name in ("dvt_all", "dvt_strong")},
                "deterministic": {name: rows["style"][name] for name in ("dvt_all", "dvt_strong")},
                "prompt": {f"dvt_{name}": value for name, value in real_diversity(voices).items()},
            },
            "paper": {
                name: {"dvt_all": value, "dvt_strong": PAPER_TABLE_2_STRONG[name]}
                for name, value in PAPER_TABLE_2.items()
            },
            "shipped": shipped,
        }
    )
    for line in lines:
        print(json.dumps(line))
    if args.results is not None:
        with args.results.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return 0


def _figure_6(nets: VastNets, people: Clips, driving: Path | None, name: str) -> dict[str, object]:
    ours: dict[str, object] = {}
    codes, labels = person_codes(nets, people)
    ours["person"], ours["person_chance"] = (round(v, 3) for v in gathering(codes, labels))
    if driving is not None:
        codes, labels, names = emotion_codes(nets, driving)
        if labels:
            found = gathering(codes, labels, names)
            ours["emotion"], ours["emotion_chance"] = (round(v, 3) for v in found)
            ours["emotion_codes"] = len(labels)
    return {
        "family": "vast",
        "claim": f"Figure 6, {name}: style codes gather by person and emotion (nearest code, same label)",
        "ours": ours,
        "paper": {"clusters": name == "full"},
    }


if __name__ == "__main__":
    raise SystemExit(main())
