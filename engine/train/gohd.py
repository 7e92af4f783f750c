"""Trains the ``gohd`` sampler: lips from audio, eyes and brows over time, head poses by diffusion.

    visavis train gohd --corpus DIR [--out gohd] [--steps N]

Writes ``engine/assets/NAME.safetensors``. Only takes of split ``train`` are learned from; ``dev`` chooses
epochs and ranges. ``--ablate`` builds one of the paper's variants instead (for measuring; see
``benchmarks/quality/claims_gohd.py``). Seeds are fixed; ``--steps`` scales every part.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.encoders.mel import FEATURES, MelEncoder
from engine.encoders.ppg import PpgEncoder
from engine.samplers.gohd.eyes import EyeStage
from engine.samplers.gohd.networks import GohdConfig, GohdNetworks
from engine.samplers.gohd.pose import PoseGenerator
from engine.train.corpus import Corpus, Features
from engine.train.gohd_data import Person, people_of
from engine.train.gohd_eyes import EyeRecipe, blink_profile, restore_upper, train_blinks, train_eyes
from engine.train.gohd_features import eye_map
from engine.train.gohd_lips import LipWeights, StageOneTrainer, new_lip_stage, read_lip_data, scale_of_corpus
from engine.train.gohd_pose import PoseRecipe, restore_spread, train_pose
from engine.train.lip_training import LipData, Recipe, calibrate
from engine.train.provenance import commit
from engine.types import MOTION
from engine.weights import save_weights

__all__ = ["ABLATIONS", "Material", "build", "main", "read_material"]

ABLATIONS = ("no-distillation", "transformer", "no-attention")
"""Variants with the interface of the whole; "without stage 1" is :mod:`engine.train.gohd_single`."""

_LIP_STEPS = 600


@dataclass(frozen=True)
class Material:
    """What one run learns from: ``people`` (train, also mirrored) and ``dev`` with eyes and heads,
    ``lips`` windows for stage 1, ``scale`` [21] of the eye feature."""

    people: list[Person]
    dev: list[Person]
    lips: LipData
    scale: NDArray[np.float32]


def read_material(corpus: Corpus, distil: bool = True) -> Material:
    """Everything from a corpus; features are computed where they are not cached."""
    mel = Features(corpus.folder, MelEncoder())
    expert = Features(corpus.folder, PpgEncoder(backend="eager"), "ppg") if distil else None
    scale = scale_of_corpus(corpus)
    return Material(
        people=people_of(corpus, mel, corpus.select("train", "real", "copy"), scale, mirror=True),
        dev=people_of(corpus, mel, corpus.select("dev", "real"), scale),
        lips=read_lip_data(corpus, mel, expert, scale),
        scale=scale,
    )


def build(material: Material, steps: int, ablate: str = "") -> tuple[GohdNetworks, dict[str, object]]:
    """Trained networks and their scores on dev; ``steps`` of stage 1, the other parts in proportion."""
    share = steps / _LIP_STEPS
    torch.manual_seed(0)
    net = GohdNetworks(GohdConfig(features=len(new_lip_stage(FEATURES).columns)))
    if ablate == "transformer":
        net.eyes = EyeStage(net.lips.audio.size, net.config.eyes, transformer=True)
    if ablate == "no-attention":
        net.pose = PoseGenerator(net.config.pose, attention=False)
    scores: dict[str, object] = {}
    net.lips = new_lip_stage(FEATURES)
    weights = LipWeights(distil=0.0) if ablate == "no-distillation" else LipWeights()
    trainer = StageOneTrainer(net.lips, material.lips, FEATURES, Recipe(steps=steps), weights)
    trainer.best_of()
    scores["lips"] = calibrate(net.lips, material.lips)
    net.feature_map[:, : MOTION.expression.stop] = torch.from_numpy(eye_map() / material.scale[:, None])
    scores["eyes"] = train_eyes(
        net.lips, net.eyes, material.people, material.dev, EyeRecipe(steps=max(2, int(300 * share)))
    )
    scores["blinks"] = train_blinks(net.lips, net.eyes, material.people, material.dev)
    net.blink_profile.copy_(torch.from_numpy(blink_profile(material.people)))
    net.eye_gain.copy_(torch.from_numpy(restore_upper(net.lips, net.eyes, material.people)))
    recipe = PoseRecipe(steps=max(8, int(1200 * share)))
    scores["pose"] = train_pose(net.pose, material.people, material.dev, FEATURES, recipe)
    sober = [p for p in material.people if "+" not in p.name]
    scores["head"] = restore_spread(net.pose, [*sober[::2], *material.dev], FEATURES)
    return net, scores


def save(net: GohdNetworks, name: str, about: dict[str, object]) -> Path:
    """Write the weights with what is needed to load them and to know where they come from."""
    metadata = {
        **net.metadata(),
        "features": ",".join(FEATURES),
        "seed": "0",
        "commit": commit(),
        **about,
    }
    return save_weights(name, net.state_dict(), metadata)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="visavis train gohd", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="motion corpus (visavis train data)")
    parser.add_argument("--out", default="gohd", help="name of the weights, or a path")
    parser.add_argument("--steps", type=int, default=_LIP_STEPS, help="steps of stage 1; the rest follows")
    parser.add_argument("--ablate", choices=ABLATIONS, default="", help="one of the paper's variants")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    begun = time.monotonic()
    material = read_material(Corpus(args.corpus), distil=args.ablate != "no-distillation")
    net, scores = build(material, args.steps, args.ablate)
    minutes = round((time.monotonic() - begun) / 60, 1)
    about = {"steps": args.steps, "ablate": args.ablate, "dev": scores, "minutes": minutes}
    path = save(net, args.out, about)
    print(f"{path}: {scores}, {minutes} minutes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
