"""Trains FlowVQTalker's motion half: a lips map from mel features, ExpFlow and PoseFlow.

    python -m engine.train.flowvq --corpus CORPUS --styled CORPUS_styled [--out flowvq] [--steps N]
    python -m engine.train.flowvq --corpus CORPUS --ablate gaussian   # or nodropout, full

Faces: tracked people (neutral) and styled takes (authored emotions over recorded emotional voices);
heads: tracked free talkers. The epoch of each part is chosen on the ``dev`` split; the head's
temperature and the share of the flow in the lips' opening are calibrated on ``train`` and ``dev``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import butter, sosfiltfilt

from engine.encoders.mel import FEATURES, MelEncoder
from engine.samplers.factors import UPPER
from engine.samplers.flowvq.networks import TAPS, FlowNetConfig, PoseFlow
from engine.samplers.flowvq.sampler import PULL, SPRING, FlowvqSampler, FlowvqWeights, bounded, load_flowvq
from engine.samplers.flowvq.vector import MOUTH
from engine.samplers.lips import LipNet
from engine.samplers.rows import spring
from engine.train.corpus import Corpus, Features
from engine.train.flowvq_data import READERS, Face, Head, faces, heads
from engine.train.flowvq_fit import FlowRecipe, store_codes, train_exp, train_pose
from engine.train.flowvq_lips import expert_of, train_lips
from engine.train.lip_training import Recipe
from engine.train.motion_data import best_correlation
from engine.train.mouth_geometry import opening_of
from engine.train.provenance import commit
from engine.types import CONTROLS, Cond, FeatureChunk
from engine.weights import save_weights

__all__ = ["ABLATIONS", "Material", "main", "read_material", "train_variant"]

_EXP_INPUTS = ("level", "loudness", "snr", "tilt", "voic", "vad", "pitch", "mel.")
_POSE_INPUTS = ("level", "loudness", "voice", "voicing", "pitch")

ABLATIONS: dict[str, dict[str, float]] = {
    "full": {},
    "gaussian": {"freedom": math.inf},
    "nodropout": {"dropout": 0.0},
}
"""Changes to :class:`FlowRecipe` by name."""


@dataclass(frozen=True)
class Material:
    """Everything the flows learn from, read once."""

    corpora: list[tuple[Corpus, Features]]
    train: list[Face]
    dev: list[Face]
    heads: list[Head]
    dev_heads: list[Head]


def read_material(folders: list[Path], lips: LipNet) -> Material:
    """Takes of all ``folders`` with mel features (computed where they are not cached)."""
    corpora = [(Corpus(f), Features(f, MelEncoder())) for f in folders]
    return Material(
        corpora,
        faces(corpora, "train", lips),
        faces(corpora, "dev", lips),
        heads(corpora, "train"),
        heads(corpora, "dev"),
    )


def train_variant(
    material: Material, recipe: FlowRecipe, lips: LipNet
) -> tuple[FlowvqWeights, dict[str, Any]]:
    """ExpFlow and PoseFlow of one recipe on top of ``lips``, and their dev scores."""
    columns = [k for k, name in enumerate(FEATURES) if name.startswith(_EXP_INPUTS)]
    config = FlowNetConfig(len(columns), freedom=recipe.freedom)
    exp, scores = train_exp(material.train, material.dev, columns, recipe, config)
    store_codes(exp, material.train)
    columns = [k for k, name in enumerate(FEATURES) if name in _POSE_INPUTS]
    config = FlowNetConfig(len(columns), width=32, steps=2, freedom=math.inf)
    head = replace(recipe, steps=max(50, recipe.steps // 2), dropout=0.1, noise=0.1, decay=0.05)
    pose, pose_scores = train_pose(material.heads, material.dev_heads, columns, head, config)
    for module in (lips, exp, pose):
        module.requires_grad_(False).eval()
    return FlowvqWeights(lips, exp, pose), {"exp": scores, "pose": pose_scores}


def calibrate_head(net: PoseFlow, people: list[Head]) -> dict[str, list[float]]:
    """Choose ``net.temperature`` and ``net.gain`` so that the head deviates as much and is as fast as
    those of ``people`` (rotations; gains 0.8 to 2); returns both, degrees (a frame)."""
    real = np.array([_head_numbers(h.pose) for h in people]).mean(axis=0)
    lowest, kept = math.inf, (1.0, np.ones(3), real)
    for temperature in (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3):
        net.temperature.fill_(temperature)
        made = np.array([_head_numbers(p) for p in _dream(net, people)]).mean(axis=0)
        gain = np.clip(real[:3] / made[:3], 0.8, 2.0)
        made = made * np.concatenate([gain, gain])
        error = float(np.abs(np.log(made / real)).sum())
        if error < lowest:
            lowest, kept = error, (temperature, gain, made)
    net.temperature.fill_(kept[0])
    net.gain[:3] = torch.from_numpy(kept[1]).float()
    gain_list, made_list = kept[1].round(3).tolist(), kept[2].round(3).tolist()
    return {"temperature": [kept[0]], "gain": gain_list, "real": real.round(3).tolist(), "made": made_list}


def _head_numbers(pose: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Deviation within windows of 7.5 s and mean speed of pitch, yaw, roll: [6] degrees (a frame).

    Below 5 Hz: what is faster in tracked heads is the tracker's noise.
    """
    degrees = np.degrees(pose[:, :3].astype(np.float64))
    if len(degrees) > 16:
        degrees = sosfiltfilt(butter(4, 5.0, fs=25.0, output="sos"), degrees, axis=0)
    pieces = [degrees[k : k + 188] for k in range(0, max(1, len(degrees) - 60), 188)]
    deviation = np.mean([p.std(axis=0) for p in pieces], axis=0)
    return np.concatenate([deviation, np.abs(np.diff(degrees, axis=0)).mean(axis=0)])


def _dream(net: PoseFlow, people: list[Head], frames: int = 375) -> list[np.ndarray[Any, Any]]:
    """Shown poses [T, 6] over the voices of ``people``, all at once, before the gain."""
    noise = torch.Generator().manual_seed(0)
    voices = [np.resize(h.features, (frames, h.features.shape[1])) for h in people]
    span = max(TAPS)
    lags = torch.tensor([span - lag for lag in TAPS])
    history = torch.zeros(len(people), span, 12)
    place, speed = np.zeros((len(people), 6)), np.zeros((len(people), 6))
    made = []
    with torch.inference_mode():
        audio = net.hearing(torch.from_numpy(np.stack(voices)))
        ones, seen = torch.ones(len(people), 1), torch.ones(len(people), len(TAPS))
        for t in range(frames):
            tokens = net.context(audio[:, t], ones, history[:, lags] / net.scale, seen)
            z = net.temperature * torch.randn(len(people), 6, generator=noise)
            step = net.decode(z, tokens) * net.scale[6:]
            pose = bounded((1.0 - PULL) * history[:, -1, :6] + step)
            history = torch.cat([history[:, 1:], torch.cat([pose, pose - history[:, -1, :6]], 1)[:, None]], 1)
            spring(place, speed, pose.double().numpy(), SPRING, 0.04)
            made.append(place.copy())
    return list(np.stack(made, axis=1))


def calibrate_face(weights: FlowvqWeights, train: list[Face], frames: int = 250) -> dict[str, list[float]]:
    """Set ``gain`` of the upper face's columns so that they deviate within a take as those of training
    talkers do (1 to 3); returns the mean deviation of both and of what the gain makes of it."""
    people = [f for f in train if f.weights[0] > 0.99 and not f.speaker.startswith(READERS)]
    columns = np.arange(1, MOUTH.start)
    real = np.mean([f.x[:frames, columns].std(axis=0) for f in people], axis=0)
    voices = np.stack([np.resize(f.features, (frames, f.features.shape[1])) for f in people[:8]])
    controls = CONTROLS.default(len(voices))[:, None].repeat(1, frames, 1)
    stage = FlowvqSampler(FEATURES, "mel", weights)
    motion = stage.forward(
        FeatureChunk(0, torch.from_numpy(voices), controls), Cond.default(len(voices))
    ).numpy()
    made = motion[:, 25:, UPPER].std(axis=1).mean(axis=0)
    gain = np.clip(real / np.maximum(made, 1e-3), 1.0, 3.0)
    weights.exp.gain[columns] = torch.from_numpy(gain).float()
    numbers = (real.mean(), made.mean(), (made * gain).mean())
    return {"real_made_shown": [round(float(v), 4) for v in numbers], "gain": gain.round(2).tolist()}


def calibrate_lips(weights: FlowvqWeights, corpus: Corpus, features: Features) -> FlowvqWeights:
    """The largest share of the flow's opening that costs at most 0.003 of correlation on dev: lips
    that vary between seeds are worth that much."""
    takes = [corpus.take(e) for e in corpus.select("dev", "real")]
    scores = {}
    for share in (0.0, 0.3, 0.6):
        stage = FlowvqSampler(FEATURES, "mel", replace(weights, lip_share=share))
        found = []
        for take in takes:
            heard = torch.from_numpy(features(take)[:250])[None]
            chunk = FeatureChunk(0, heard, CONTROLS.default(1)[:, None].repeat(1, heard.shape[1], 1))
            motion = stage.forward(chunk, Cond.default(1))[0].numpy()
            found.append(best_correlation(opening_of(motion), take.opening[: len(motion)]))
        scores[share] = float(np.mean(found))
        print(f"share {share}: dev r {scores[share]:.4f}", flush=True)
    share = max(s for s, r in scores.items() if r >= max(scores.values()) - 0.003)
    return replace(weights, lip_share=share)


def save(name: str, weights: FlowvqWeights, about: dict[str, object]) -> None:
    """Write the three parts as one file of weights."""
    tensors = {}
    for prefix, module in (("lips", weights.lips), ("exp", weights.exp), ("pose", weights.pose)):
        tensors.update({f"{prefix}.{k}": v for k, v in module.state_dict().items()})
    path = save_weights(name, tensors, about)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument(
        "--styled", type=Path, default=None, help="corpus of styled takes (default CORPUS_styled)"
    )
    parser.add_argument("--out", default="flowvq")
    parser.add_argument("--steps", type=int, default=500, help="of ExpFlow; the head takes half of them")
    parser.add_argument("--lip-steps", type=int, default=600)
    parser.add_argument(
        "--lips", type=Path, default=None, help="weights of a lips map to keep (.safetensors)"
    )
    parser.add_argument("--ablate", choices=sorted(ABLATIONS), default=None)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.time()
    folders = [args.corpus, args.styled or args.corpus.with_name(args.corpus.name + "_styled")]
    lip_scores: dict[str, float] = {}
    if args.lips is not None:
        lips = load_flowvq(args.lips).lips
    else:
        corpora = [(Corpus(f), Features(f, MelEncoder()), expert_of(f)) for f in folders]
        lips, lip_scores = train_lips(corpora, FEATURES, Recipe(steps=args.lip_steps, labelled_share=0.6))
    material = read_material(folders, lips)
    recipe = replace(FlowRecipe(steps=args.steps), **ABLATIONS[args.ablate or "full"])  # type: ignore[arg-type]
    weights, scores = train_variant(material, recipe, lips)
    head = calibrate_head(weights.pose, material.heads + material.dev_heads)
    face = calibrate_face(weights, material.train)
    print(f"head: {head}, face: {face}", flush=True)
    weights = calibrate_lips(weights, *material.corpora[0])
    about: dict[str, object] = {
        "features": ",".join(FEATURES),
        "freedom": str(recipe.freedom),
        "lip_share": str(weights.lip_share),
        "recipe": {k: str(v) for k, v in asdict(recipe).items()},
        "scores": {"lips": lip_scores, **scores, "head": head, "face": face},
        "seconds": round(time.time() - started),
        "commit": commit(),
    }
    save(args.out if args.ablate is None else f"{args.out}_{args.ablate}", weights, about)
    print(json.dumps(about["scores"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
