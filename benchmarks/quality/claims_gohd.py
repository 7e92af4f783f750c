"""GoHD's claims on our data: two stages, distillation, LSTM against transformer, attention in the denoiser.

    python -m benchmarks.quality.claims_gohd --data DIR --tracks CACHE --corpus DIR [--split test]

Every variant is trained here from the same windows, seed and number of steps (few: the comparison is
between variants, the shipped weights had more), then measured on real clips nobody was trained on:

* **lmd_m**: distance of mouth landmarks to the real ones, aligned, % of the inter-ocular distance
  (:func:`benchmarks.quality.mouth.lmd`), the voice's lag left in.
* **ssim_eyes**: structural similarity of the 21 sequences of eyes and brows, blinks left out
  of both (:func:`benchmarks.quality.upper.ssim`); **var_eyes_e3** their variance, the real one beside it.
* **ssim_pose**, **deviation**: of the head's six values, and its rotation's deviation in degrees.

The paper's numbers stand beside ours; its landmarks and SSIM constants are not ours, so only orders
compare. Each line of JSON is one claim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.mouth import lmd
from benchmarks.quality.subjects import Subject, read_subjects
from benchmarks.quality.upper import eye_features, ssim, variance
from benchmarks.records import append_line
from engine.encoders.mel import FEATURES, MelEncoder
from engine.samplers.factors import UPPER
from engine.samplers.gohd.eyes import EyeStage
from engine.samplers.gohd.lips import LipStage, ahead
from engine.samplers.gohd.pose import PoseGenerator
from engine.samplers.visemes import spread_columns
from engine.train.corpus import Corpus
from engine.train.gohd import Material, read_material
from engine.train.gohd_eyes import EyeRecipe, train_eyes, wandering
from engine.train.gohd_lips import LipWeights, StageOneTrainer, new_lip_stage
from engine.train.gohd_pose import PoseRecipe, pose_of, train_pose
from engine.train.gohd_single import OneStage, new_one_stage
from engine.train.lip_training import Recipe, calibrate
from engine.train.provenance import commit
from engine.types import MOTION, AudioChunk, Cond

__all__ = ["main"]

Floats = NDArray[np.float64]
Expression = Callable[[torch.Tensor], Floats]

_SEEDS = 4
PAPER_EXPRESSION = {
    "two stages, LSTM": {"mld": 1.792, "ssim_eyes": 0.915},
    "two stages, transformer": {"mld": 1.806, "ssim_eyes": 0.894},
    "without stage 1": {"mld": 1.931},
    "without distillation": {"mld": 2.012},
    "stage 1 alone": {"mld": 1.785, "ssim_eyes": 0.813},
}
PAPER_LOSSES = {"all losses": 1.65, "without landmarks": 1.79, "without shut-up": 1.72}
PAPER_POSE = {"with attention": 0.996, "without attention": 0.983}


@dataclass(frozen=True)
class Heard:
    """A real person and the features [1, T, F] of their voice."""

    subject: Subject
    features: torch.Tensor


def listen(subjects: list[Subject], frames: int) -> list[Heard]:
    """The mel encoder's features of every clip, ``frames`` at most."""
    encoder, heard = MelEncoder(), []
    for subject in subjects:
        chunk = AudioChunk(0, torch.from_numpy(subject.clip.audio)[None, : frames * 640])
        with torch.no_grad():
            heard.append(Heard(subject, encoder.forward(chunk, Cond.default(1))))
    return heard


def _motion(channels: torch.Tensor, upper: torch.Tensor) -> Floats:
    motion = spread_columns(channels.double().numpy())
    motion[:, UPPER] += np.clip(upper.double().numpy(), 0.0, 1.0)
    return motion


def two_stages(stage: LipStage, eyes: EyeStage | None, seed: int) -> Expression:
    """Lips and upper face of the two-stage predictor; ``eyes`` None leaves the eyes at rest."""

    def make(features: torch.Tensor) -> Floats:
        noise = np.random.default_rng(seed)
        heard = stage.audio(stage.normal(ahead(features)))
        moved = torch.zeros(1, heard.shape[1], 21)
        if eyes is not None:
            moved, _ = eyes(heard, wandering(noise, 1, heard.shape[1]), torch.zeros(1, 21))
        logits, upper = stage.heads(heard, moved)
        return _motion(stage.range(logits)[0], upper[0])

    return make


def one_stage(net: OneStage, seed: int) -> Expression:
    """Lips and upper face of the single network."""

    def make(features: torch.Tensor) -> Floats:
        torch.manual_seed(seed)
        logits, upper = net.both(ahead(features))
        return _motion(net.range(logits)[0], upper[0])

    return make


def _without_blinks(motion: Floats) -> Floats:
    still = motion.copy()
    still[:, MOTION.columns("eyeBlink")] *= 0.0
    return still


@torch.no_grad()
def expression_scores(make: Callable[[int], Expression], heard: list[Heard]) -> dict[str, float]:
    """Means over clips and seeds."""
    found: dict[str, list[float]] = {"lmd_m": [], "ssim_eyes": [], "var_eyes_e3": [], "var_eyes_real_e3": []}
    for item in heard:
        real = item.subject.motion
        eyes = eye_features(_without_blinks(real))
        eyes -= np.nanmedian(eyes, axis=0)
        for seed in range(_SEEDS):
            made = make(seed)(item.features)
            features = eye_features(made)
            features -= np.median(features, axis=0)
            found["lmd_m"].append(lmd(made, real))
            found["ssim_eyes"].append(ssim(features, eyes))
            found["var_eyes_e3"].append(1e3 * variance(features))
        found["var_eyes_real_e3"].append(1e3 * variance(eyes))
    return {name: round(float(np.nanmean(values)), 4) for name, values in found.items()}


@torch.no_grad()
def pose_scores(net: PoseGenerator, heard: list[Heard]) -> dict[str, float]:
    """SSIM with the real head, and deviation of the rotation (degrees), mean over clips and seeds."""
    similar, spread = [], []
    for item in heard:
        real = item.subject.motion[:, MOTION.pose]
        for seed in range(_SEEDS):
            made = pose_of(net, item.features[0], FEATURES, seed)
            similar.append(ssim(made, real))
            spread.append(float(np.degrees(made[:, :3].std(axis=0)).mean()))
    return {
        "ssim_pose": round(float(np.nanmean(similar)), 4),
        "deviation_deg": round(float(np.mean(spread)), 3),
    }


def expression_variants(material: Material, steps: int, heard: list[Heard]) -> dict[str, dict[str, float]]:
    """Tables 3 and 6: the two-stage predictor and what is left without its parts."""
    eye_recipe = EyeRecipe(steps=max(2, steps // 2))

    def lips(weights: LipWeights) -> LipStage:
        torch.manual_seed(0)
        net = new_lip_stage(FEATURES)
        StageOneTrainer(net, material.lips, FEATURES, _recipe(steps), weights).best_of()
        calibrate(net, material.lips)
        return net

    def eyes(stage: LipStage, transformer: bool = False) -> EyeStage:
        torch.manual_seed(0)
        net = EyeStage(stage.audio.size, transformer=transformer)
        train_eyes(stage, net, material.people, material.dev, eye_recipe)
        return net

    full, plain = lips(LipWeights()), lips(LipWeights(distil=0.0))
    lstm, attention, without = eyes(full), eyes(full, transformer=True), eyes(plain)
    torch.manual_seed(0)
    single = new_one_stage(FEATURES)
    StageOneTrainer(single, material.lips, FEATURES, _recipe(steps), LipWeights(eye_dropout=0.0)).best_of()
    calibrate(single, material.lips)
    made: dict[str, Callable[[int], Expression]] = {
        "two stages, LSTM": lambda seed: two_stages(full, lstm, seed),
        "two stages, transformer": lambda seed: two_stages(full, attention, seed),
        "without stage 1": lambda seed: one_stage(single, seed),
        "without distillation": lambda seed: two_stages(plain, without, seed),
        "stage 1 alone": lambda seed: two_stages(full, None, seed),
    }
    return {name: expression_scores(make, heard) for name, make in made.items()}


def loss_variants(material: Material, steps: int, heard: list[Heard]) -> dict[str, float]:
    """Table 5: stage 1 without each of its losses on the mouth (lmd_m)."""
    found = {}
    for name, weights in (
        ("all losses", LipWeights()),
        ("without landmarks", LipWeights(landmarks=0.0)),
        ("without shut-up", LipWeights(shut=0.0)),
    ):
        torch.manual_seed(0)
        net = new_lip_stage(FEATURES)
        StageOneTrainer(net, material.lips, FEATURES, _recipe(steps), weights).best_of()
        calibrate(net, material.lips)
        found[name] = expression_scores(lambda seed, net=net: two_stages(net, None, seed), heard)["lmd_m"]  # type: ignore[misc]
    return found


def pose_variants(material: Material, steps: int, heard: list[Heard]) -> dict[str, dict[str, float]]:
    """Table 7: the denoiser with and without its attention."""
    found = {}
    for name, attention in (("with attention", True), ("without attention", False)):
        torch.manual_seed(0)
        net = PoseGenerator(attention=attention)
        errors = train_pose(net, material.people, material.dev, FEATURES, PoseRecipe(steps=2 * steps))
        found[name] = pose_scores(net, heard) | {f"dev_error_{k}": v for k, v in errors.items()}
    return found


def _recipe(steps: int) -> Recipe:
    return Recipe(steps=steps, check_every=max(1, steps // 4))


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 if there is no clip to measure."""
    parser = argparse.ArgumentParser(description="GoHD's claims on our data.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="cache of tracked clips")
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument("--split", default="test", help="talking clips to measure on (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=400, help="of each clip at most (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of stage 1 (default: %(default)s)")
    parser.add_argument("--claims", nargs="+", default=["expression", "losses", "pose"])
    parser.add_argument("--results", type=Path, help="append the JSON lines to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    subjects, _ = read_subjects(args.data, args.tracks, (args.split,), training=False)
    if not subjects:
        print(f"no clip of {args.split} under {args.data}")
        return 1
    heard = listen(subjects, args.frames)
    material = read_material(Corpus(args.corpus))
    claims = {
        "expression": ("tables 3 and 6: stages, distillation, LSTM", expression_variants, PAPER_EXPRESSION),
        "losses": ("table 5: losses of stage 1 (MLD; here lmd_m)", loss_variants, PAPER_LOSSES),
        "pose": ("table 7: attention in the pose denoiser (SSIM)", pose_variants, PAPER_POSE),
    }
    for key in args.claims:
        title, measure, paper = claims[key]
        line = {
            "family": "gohd",
            "claim": title,
            "ours": measure(material, args.steps, heard),
            "paper": paper,
        }
        text = json.dumps({**line, "n": len(heard), "steps": args.steps, "commit": commit()})
        print(text, flush=True)
        if args.results is not None:
            append_line(args.results, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
