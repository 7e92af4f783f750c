"""Trains the lips network of the speech sampler: audio features to lip channels.

    visavis train data --data DIR --tracks TRACKS --speech SPEECH --out CORPUS
    visavis train speech_motion --corpus CORPUS

Writes ``engine/assets/speech_motion.safetensors``.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.samplers.lips import LipNet, LipNetConfig
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.corpus import Corpus, Features
from engine.train.lip_training import LipData, LipTrainer, Recipe, calibrate
from engine.train.provenance import commit
from engine.weights import save_weights

__all__ = ["HIDDEN", "INPUTS", "main", "new_net"]

INPUTS = ("phone", "level", "loudness", "snr", "tilt", "voic", "vad")
"""Beginnings of the names of the features used: on unseen speakers the posteriors alone do better than
with spectrum and hidden code, which tell one training speaker from another."""
HIDDEN = 64


def new_net() -> LipNet:
    """An untrained network on the columns of :data:`INPUTS`."""
    columns = [k for k, name in enumerate(FEATURES) if name.startswith(INPUTS)]
    net = LipNet(LipNetConfig(features=len(columns), hidden=HIDDEN))
    net.columns.copy_(torch.tensor(columns))
    return net


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="visavis train speech_motion", description="Train the lips network of the speech sampler."
    )
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--out", default="speech_motion", help="weight name or .safetensors path")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    recipe = Recipe(steps=args.steps)
    torch.manual_seed(recipe.seed)
    net = new_net()
    data = LipData.read(
        Corpus(args.corpus), Features(args.corpus, PpgEncoder(backend="eager"), "ppg"), recipe.delay_frames
    )
    LipTrainer(net, data, recipe).run()
    scores = calibrate(net, data)
    metadata: dict[str, object] = {
        "features": ",".join(FEATURES),
        "channels": ",".join(LIP_CHANNELS),
        "recipe": asdict(recipe),
        "sequences": {"real": len(data.real), "labelled": len(data.labelled), "dev": len(data.dev)},
        "dev": scores,
        "commit": commit(),
        "licence": "MIT",
    }
    path = save_weights(args.out, net.state_dict(), metadata)
    print(f"{path}: dev {scores}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
