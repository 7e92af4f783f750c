"""Trains PD-FGC's factors on a motion corpus: the lips (voice to mouth) and the expression.

    visavis train pdfgc --corpus CORPUS [--only lips|expression] [--ablate WHICH]

Writes ``engine/assets/pdfgc_lips.safetensors`` (from the contrastive code, with the losses and the
calibration all families' lips share) and ``engine/assets/pdfgc_expression.safetensors``
(:mod:`engine.train.pdfgc_expression`). Pose and eyes are given by the tracker and need no training.

Ablations of the expression (``--ablate``, tables 4 and 5 of the paper): ``none`` (one frame, no
decorrelation), ``in-window``, ``lips`` (lip decorrelation on one frame), ``window-7``, ``window-25``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from engine.encoders.contrastive import FEATURES, ContrastiveEncoder
from engine.samplers.lips import LipNet, LipNetConfig
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.corpus import Corpus, Features
from engine.train.lip_training import LipData, LipTrainer, Recipe, calibrate
from engine.train.pdfgc_expression import ABLATIONS, read_examples, train_expression
from engine.train.provenance import commit
from engine.weights import save_weights

__all__ = ["INPUTS", "lip_columns", "main", "new_lips"]

INPUTS = ("code.", "level", "loudness", "snr", "tilt", "voicing", "vad")
"""Beginnings of the names of the columns the lips are made from."""
HIDDEN = 64
PARTS = ("lips", "expression")


def lip_columns(features: tuple[str, ...] = FEATURES) -> list[int]:
    """Indices of the columns of :data:`INPUTS`."""
    return [k for k, name in enumerate(features) if name.startswith(INPUTS)]


def new_lips(features: tuple[str, ...] = FEATURES) -> LipNet:
    """An untrained lips network on :func:`lip_columns`."""
    columns = lip_columns(features)
    net = LipNet(LipNetConfig(features=len(columns), hidden=HIDDEN))
    net.columns.copy_(torch.tensor(columns))
    return net


def train_lips(corpus: Corpus, features: Features, steps: int, out: str) -> None:
    """Train, calibrate and write the lips network."""
    began = time.perf_counter()
    recipe = Recipe(steps=steps)
    torch.manual_seed(recipe.seed)
    net = new_lips()
    data = LipData.read(corpus, features, recipe.delay_frames)
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
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(f"{save_weights(out, net.state_dict(), metadata)}: dev {scores}")


def train_expression_factor(corpus: Corpus, features: Features, which: str, steps: int, out: str) -> None:
    """Train and write the expression factor, or one of its ablations."""
    began = time.perf_counter()
    recipe = ABLATIONS[which]
    recipe = replace(recipe, steps=steps or recipe.steps)
    code = [k for k, name in enumerate(FEATURES) if name.startswith("code.")]
    examples = read_examples(corpus, features, code)
    net = train_expression(examples, recipe)
    metadata: dict[str, object] = {
        "recipe": asdict(recipe),
        "ablation": which,
        "frames": len(examples.face),
        "commit": commit(),
        "licence": "MIT",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(save_weights(out, net.state_dict(), metadata))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="visavis train pdfgc", description="Train PD-FGC's factors.")
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument(
        "--out", default="pdfgc", help="beginning of the weights' names (default: %(default)s)"
    )
    parser.add_argument("--only", choices=PARTS, help="one part (default: both)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="of the lips (default: %(default)s)")
    parser.add_argument("--expression-steps", type=int, default=0, help="default: the recipe's")
    parser.add_argument("--ablate", choices=sorted(ABLATIONS), default="full", help="of the expression")
    args = parser.parse_args(argv)
    if args.ablate != "full":
        if args.out == parser.get_default("out"):
            parser.error("an ablation would replace the shipped weights; name a place with --out")
        args.only = "expression"
    torch.set_num_threads(1)
    corpus = Corpus(args.corpus)
    features = Features(args.corpus, ContrastiveEncoder(), "contrastive")
    if args.only != "lips":
        train_expression_factor(
            corpus, features, args.ablate, args.expression_steps, f"{args.out}_expression"
        )
    if args.only != "expression":
        train_lips(corpus, features, args.steps, f"{args.out}_lips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
