"""Trains OSM-Net's sampler: motion space, voice to motion, expression extractor.

    python -m engine.train.osm --corpus CORPUS [--out osm] [--steps 1500] [--ablate landmark|clip]

Learns from the corpus' ``train`` split; epochs and liveliness are chosen on ``dev`` (and, for the
liveliness, on the free talkers of both); ``test`` is never read. Writes ``engine/assets/osm.safetensors``.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.encoders.mel import FEATURES, MelEncoder
from engine.samplers.osm.sampler import HeadMotion, Temper
from engine.samplers.osm.space import SpaceConfig
from engine.samplers.osm.steering import Steering
from engine.train.corpus import Corpus, Features
from engine.train.lip_training import LipData, Recipe
from engine.train.osm_calibrate import calibrate_temper, find_codes, fit_spread
from engine.train.osm_lips import train_lips
from engine.train.osm_motion import MotionRecipe, MotionTrainer, read_moves
from engine.train.provenance import commit
from engine.weights import save_weights

__all__ = ["ABLATIONS", "Trained", "main", "train_expression", "train_motion"]

ABLATIONS = ("landmark", "clip")
"""Without the landmark loss; frames instead of clips."""

_SHORT = 40


@dataclass(frozen=True)
class Trained:
    """Tensors of one half, and what is worth writing beside them."""

    tensors: dict[str, Tensor]
    about: dict[str, object]


def heard_columns(*leave: str) -> list[int]:
    """Feature columns whose names do not begin with any of ``leave``.

    ``voice`` is always left out: it decides elsewhere when the mouth is shut, and may be retuned.
    """
    return [k for k, name in enumerate(FEATURES) if not name.startswith(("voice", *leave))]


def train_motion(corpus: Corpus, features: Features, steps: int, clip: int = 5, seed: int = 0) -> Trained:
    """Space, audio encoder, ball, codes and temper; ``clip`` frames a clip (1: the ablation)."""
    train = read_moves(corpus, features, "train")
    dev = read_moves(corpus, features, "dev", _SHORT)
    recipe = MotionRecipe(space_steps=steps, audio_steps=steps // 2, seed=seed)
    trainer = MotionTrainer(train, dev, heard_columns("mel"), recipe, SpaceConfig(clip=clip))
    scores = trainer.run()
    space, audio = trainer.space.eval(), trainer.audio.eval()
    people = [m for m in train if m.free and m.plain]
    spread = fit_spread(space, audio, people + dev)
    codes, reach, bases = find_codes(space)
    head = HeadMotion(space, audio, spread, Steering(codes, reach), Temper())
    lively = calibrate_temper(head, people + dev, FEATURES)
    tensors = {f"space.{k}": v for k, v in space.state_dict().items()}
    tensors |= {f"audio.{k}": v for k, v in audio.state_dict().items()}
    tensors |= {"spread": spread, "codes": codes, "reach": reach, "temper": head.temper.tensor()}
    tensors["sharpness"] = torch.tensor(space.config.sharpness)
    about = {"motion": scores, "head": lively, "codes": bases, "recipe_motion": asdict(recipe)}
    return Trained(tensors, about)


def train_expression(corpus: Corpus, features: Features, steps: int, landmarks: bool = True,
                     seed: int = 0) -> Trained:  # fmt: skip
    """The expression extractor; ``landmarks`` off is the ablation."""
    recipe = Recipe(steps=steps, seed=seed)
    data = LipData.read(corpus, features, recipe.delay_frames)
    net, scores = train_lips(data, heard_columns(), recipe, landmarks)
    tensors = {f"expression.{k}": v for k, v in net.state_dict().items()}
    return Trained(tensors, {"lips": scores, "recipe_lips": asdict(recipe)})


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that visavis train data wrote")
    parser.add_argument("--out", default="osm", help="name of the weights, or a .safetensors file")
    parser.add_argument("--steps", type=int, default=1500, help="of the lips; the head takes about half")
    parser.add_argument("--ablate", choices=ABLATIONS, default=None, help="leave an idea out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    corpus = Corpus(args.corpus)
    features = Features(args.corpus, MelEncoder())
    clip = 1 if args.ablate == "clip" else SpaceConfig().clip
    motion = train_motion(corpus, features, args.steps * 8 // 15, clip, args.seed)
    lips = train_expression(corpus, features, args.steps, args.ablate != "landmark", args.seed)
    metadata = {"features": ",".join(FEATURES), "ablated": args.ablate or "", "seed": args.seed,
                "commit": commit(), **motion.about, **lips.about}  # fmt: skip
    path = save_weights(args.out, {**motion.tensors, **lips.tensors}, metadata)
    print(f"wrote {path}: {motion.about['motion']} {motion.about['head']} {lips.about['lips']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
