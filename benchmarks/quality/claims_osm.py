"""OSM-Net's claims on our data: the landmark loss, clips against frames, diversity.

    python -m benchmarks.quality.claims_osm --data DIR --tracks CACHE --corpus DIR [--split test]

Every variant is trained here with the same seed and number of steps (few: the comparison is between
variants, the shipped weights had more), then measured on real clips nobody was trained on:

* **lmd_m**, **lmd_moving**: mouth landmark distance, aligned, % of the inter-ocular distance, and its
  moving part (:mod:`benchmarks.quality.mouth`). "Paper's losses" are coefficients alone with and without
  landmarks; "all losses" add this engine's own (correlation and deviation of real openings).
* **ssim_pose**: structural similarity of the six values of the head, the centre F^a followed, as the
  paper does; **jitter**: mean second difference of the rotation, degrees; **spectral_db**: distance of
  the rotation's spectrum from people's; both of sampled heads.
* **diversity**: deviation over time of the rotation (rad), people's beside it; **over_seeds**: distance
  between performances of one voice, degrees. The paper's is a deviation of a pose network's features.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.diversity import head_diversity, seed_spread
from benchmarks.quality.head import angles, jitter, spectral_distance_db, spectrum
from benchmarks.quality.mouth import lmd, lmd_moving
from benchmarks.quality.subjects import Subject, read_subjects
from benchmarks.quality.upper import ssim, variance
from benchmarks.records import append_line
from engine.encoders.mel import FEATURES, MelEncoder
from engine.samplers.osm.expression import ExpressionNet
from engine.samplers.osm.sampler import HeadMotion, head_motion
from engine.samplers.visemes import spread_columns
from engine.train.corpus import Corpus, Features
from engine.train.lip_training import LipData, Recipe
from engine.train.osm import heard_columns, train_motion
from engine.train.osm_calibrate import roll_out
from engine.train.osm_lips import train_lips
from engine.train.osm_motion import Moves
from engine.train.provenance import commit
from engine.types import MOTION, AudioChunk, Cond

__all__ = ["main"]

Floats = NDArray[np.float64]

_SEEDS = 4
PAPER_LANDMARK = {"with": 3.13, "without": 6.67}
PAPER_CLIP = {"clips": 0.831, "frames": 0.758}
PAPER_DIVERSITY = {"ours": 0.317, "people": 0.263}


@dataclass(frozen=True)
class Finding:
    """One line of the results: variants' values, ours and the paper's."""

    claim: str
    ours: dict[str, float]
    paper: dict[str, float]
    n: int
    note: str = ""


@dataclass(frozen=True)
class Heard:
    """A real person and the features float32 [T, F] of their voice."""

    subject: Subject
    features: NDArray[np.float32]

    @property
    def moves(self) -> Moves:
        """The voice alone; the pose is only as long as it."""
        return Moves(self.subject.name, True, self.features, np.zeros((len(self.features), 6), np.float32))


def listen(subjects: list[Subject], frames: int) -> list[Heard]:
    """The mel encoder's features of every clip, ``frames`` at most."""
    encoder, heard = MelEncoder(), []
    for subject in subjects:
        chunk = AudioChunk(0, torch.from_numpy(subject.clip.audio)[None, : frames * 640])
        with torch.no_grad():
            features = encoder.forward(chunk, Cond.default(1))[0].numpy()
        heard.append(Heard(subject, features))
    return heard


@torch.no_grad()
def mouth_scores(net: ExpressionNet, heard: list[Heard]) -> dict[str, float]:
    """Mean over clips."""
    found: dict[str, list[float]] = {"lmd_m": [], "lmd_moving": []}
    for item in heard:
        channels = net.eval().range(net.logits(torch.from_numpy(item.features)[None]))[0]
        motion = spread_columns(channels.double().numpy())
        found["lmd_m"].append(lmd(motion, item.subject.motion))
        found["lmd_moving"].append(lmd_moving(motion, item.subject.motion))
    return {name: round(float(np.nanmean(values)), 4) for name, values in found.items()}


def _motion(pose: Floats) -> Floats:
    motion = np.zeros((len(pose), MOTION.size))
    motion[:, MOTION.pose] = pose
    return motion


def head_scores(head: HeadMotion, heard: list[Heard]) -> dict[str, float]:
    """SSIM of the centre, the rest of sampled heads; means over clips and seeds."""
    similar, shaky, made, sampled = [], [], [], []
    for item in heard:
        head.centre = True
        similar.append(ssim(roll_out(head, [item.moves], FEATURES)[0], item.subject.motion[:, MOTION.pose]))
        head.centre = False
        several = [_motion(roll_out(head, [item.moves], FEATURES, seed)[0]) for seed in range(_SEEDS)]
        sampled.append(np.stack(several))
        made += several
        shaky += [jitter(angles(m)) for m in several]
    hertz, power = spectrum([angles(m) for m in made])
    _, real = spectrum([angles(item.subject.motion) for item in heard])
    return {
        "ssim_pose": round(float(np.nanmean(similar)), 4),
        "var_pose_e3": round(1e3 * float(np.mean([variance(m[:, MOTION.pose]) for m in made])), 4),
        "jitter": round(float(np.mean(shaky)), 4),
        "spectral_db": round(spectral_distance_db(hertz, power, real), 2),
        "diversity": round(head_diversity(made), 4),
        "over_seeds_deg": round(seed_spread(sampled)["head_deg"], 3),
    }


def people_scores(heard: list[Heard]) -> dict[str, float]:
    """The same of the real heads."""
    real = [item.subject.motion for item in heard]
    return {
        "var_pose_e3": round(1e3 * float(np.nanmean([variance(m[:, MOTION.pose]) for m in real])), 4),
        "jitter": round(float(np.nanmean([jitter(angles(m)) for m in real])), 4),
        "diversity": round(head_diversity(real), 4),
    }


def landmark_variants(corpus: Corpus, features: Features, steps: int, heard: list[Heard]) -> list[Finding]:
    """Table V: with and without the landmark loss, among the paper's losses and among all of ours."""
    recipe = Recipe(steps=steps, check_every=max(1, steps // 3))
    data = LipData.read(corpus, features, recipe.delay_frames)
    findings = []
    for losses in ("all losses", "the paper's losses"):
        scores = {}
        for name, landmarks in (("with", True), ("without", False)):
            net, dev = train_lips(data, heard_columns(), recipe, landmarks, losses != "all losses")
            scores[name] = mouth_scores(net, heard) | {"dev_r": dev["r"]}
        findings.append(
            Finding(
                f"landmark loss among {losses}: LMD (here lmd_m, %)",
                {name: row["lmd_m"] for name, row in scores.items()},
                PAPER_LANDMARK,
                len(heard),
                json.dumps(scores),
            )
        )
    return findings


def clip_variants(corpus: Corpus, features: Features, steps: int, heard: list[Heard]) -> list[Finding]:
    """Table V and the diversity of table II: clips of five frames, of one, and people.

    Free talkers only: who reads single sentences sits still.
    """
    free = [item for item in heard if item.subject.free_talk]
    scores = {"people": people_scores(free)}
    for name, clip in (("clips", 5), ("frames", 1)):
        trained = train_motion(corpus, features, steps, clip)
        scores[name] = head_scores(head_motion(trained.tensors), free)
    note = json.dumps(scores)

    def values(key: str) -> dict[str, float]:
        return {name: row[key] for name, row in scores.items() if key in row}

    own = {"ours": scores["clips"]["diversity"], "people": scores["people"]["diversity"]}
    return [
        Finding(
            "clips against frames: SSIM (here of the head's pose)",
            values("ssim_pose"),
            PAPER_CLIP,
            len(free),
            note,
        ),
        Finding("clips against frames: jitter of the head, deg", values("jitter"), {}, len(free)),
        Finding(
            "clips against frames: spectral distance from people, dB", values("spectral_db"), {}, len(free)
        ),
        Finding(
            "diversity (here deviation of the rotation, rad; paper on HDTF)", own, PAPER_DIVERSITY, len(free)
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 if there is no clip to measure."""
    parser = argparse.ArgumentParser(description="OSM-Net's claims on our data.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="cache of tracked clips")
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument("--split", default="test", help="talking clips to measure on (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=400, help="of each clip at most (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each variant (default: %(default)s)")
    parser.add_argument("--claims", nargs="+", default=["clip", "landmark"], choices=["clip", "landmark"])
    parser.add_argument("--results", type=Path, help="append the JSON lines to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    subjects, _ = read_subjects(args.data, args.tracks, (args.split,), training=False)
    if not subjects:
        print(f"no clip of {args.split} under {args.data}")
        return 1
    heard = listen(subjects, args.frames)
    corpus, features = Corpus(args.corpus), Features(args.corpus, MelEncoder())
    measures = {"clip": clip_variants, "landmark": landmark_variants}
    for key in args.claims:
        for finding in measures[key](corpus, features, args.steps, heard):
            line = json.dumps({"family": "osm", **asdict(finding), "steps": args.steps,
                               "commit": commit()})  # fmt: skip
            print(line, flush=True)
            if args.results is not None:
                append_line(args.results, line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
