"""Trains VAST: lips first, then style encoder, enhancer and the autoregressive decoder.

    visavis train vast --corpus CORPUS

The corpus's ``train`` split alone teaches; the epoch of the lips and their range are chosen on ``dev``.
Writes ``engine/assets/vast.safetensors``. ``--ablate`` leaves a part out, as the paper's Table 3 does;
such weights are for measuring and go to the file that ``--out`` names.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.samplers.vast.decoder import StrongDecoder
from engine.samplers.vast.networks import VastConfig, VastNets, load_vast
from engine.train.corpus import Corpus, Features
from engine.train.lip_training import LipData
from engine.train.provenance import commit
from engine.train.vast_ablation import ParallelWeak
from engine.train.vast_lips import RECIPE, train_lips
from engine.train.vast_style import Clips, StyleRecipe, StyleTrainer, read_clips
from engine.weights import save_weights

__all__ = ["ABLATIONS", "assemble", "main", "train_style"]

ABLATIONS = ("none", "flow", "enhancer", "style", "ar")
"""Parts that can be left out, in the order of the paper's table: Householder flow, the whole
variational enhancer, the style, the autoregressive decoder."""


def assemble(strong: StrongDecoder, ablate: str = "none") -> VastNets:
    """Fresh networks around trained lips, without the part that ``ablate`` names."""
    config = replace(VastConfig.of(strong.config.features), strong=strong.config)
    if ablate in ("flow", "enhancer"):
        config = replace(config, style=replace(config.style, flows=0))
    nets = VastNets(config)
    nets.strong.load_state_dict(strong.state_dict())
    if ablate == "ar":
        nets.weak = ParallelWeak(config.weak)  # type: ignore[assignment]
    return nets


def train_style(
    strong: StrongDecoder, clips: Clips, recipe: StyleRecipe, ablate: str = "none"
) -> tuple[VastNets, dict[str, float]]:
    """Whole networks around trained lips, and the last losses."""
    torch.manual_seed(recipe.seed)
    nets = assemble(strong, ablate)
    recipe = replace(recipe, enhanced=ablate != "enhancer", styled=ablate != "style")
    losses = StyleTrainer(nets, clips, recipe).run()
    return nets.requires_grad_(False).eval(), losses


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = _arguments(argv)
    torch.set_num_threads(1)
    corpus = Corpus(args.corpus)
    features = Features(args.corpus, PpgEncoder(backend="eager"), "ppg")
    if args.lips is None:
        recipe = replace(RECIPE, steps=args.steps, check_every=max(1, args.steps // 4))
        data = LipData.read(corpus, features, recipe.delay_frames)
        strong, scores = train_lips(FEATURES, data, recipe, args.ahead)
        about: dict[str, object] = {"lips": asdict(recipe), "dev": scores}
    else:
        strong, about = load_vast(args.lips, FEATURES).strong, {"lips": "kept from earlier weights"}
    style = StyleRecipe(steps=args.style_steps)
    clips = read_clips(corpus, features, "train", "real", "copy")
    nets, losses = train_style(strong, clips, style, args.ablate)
    metadata: dict[str, object] = {
        "features": ",".join(FEATURES),
        **nets.metadata(),
        **about,
        "style": asdict(style),
        "ablate": args.ablate,
        "losses": losses,
        "commit": commit(),
        "licence": "MIT",
    }
    print(save_weights(args.out, nets.state_dict(), metadata), about.get("dev", ""), losses)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="visavis train vast", description="Train VAST.")
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument("--out", default="vast", help="weight name or .safetensors path")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="of the lips")
    parser.add_argument("--style-steps", type=int, default=StyleRecipe.steps)
    parser.add_argument("--ahead", type=int, default=1, choices=(0, 1), help="frames of own look-ahead")
    parser.add_argument("--ablate", default="none", choices=ABLATIONS)
    parser.add_argument("--lips", default=None, help="weights whose lips are kept: only the style is trained")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
