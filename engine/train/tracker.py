"""Trains the tracker network: ``visavis train tracker --heads DIR --dev DIR --people SET``.

The network (:mod:`engine.face.tracker`) learns all its outputs at once from frames of real clips, photographs
that the mesh animator moved, and synthetic people (:mod:`engine.train.tracker_data`). Every picture is moved,
turned, mirrored, recoloured, blurred, compressed and partly covered anew. Weights are an exponential mean;
those with the best score on the dev scenes are kept. The state is written with every score and found again by
``--resume``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.face.tracker import MODES, SIDE, Look, TrackerNet
from engine.train.corpus import mirrored
from engine.train.provenance import commit
from engine.train.tracker_data import Rows, load_scenes, mirror_order, people_rows
from engine.types import MOTION
from engine.weights import save_weights

__all__ = ["Labelled", "TrackerTrainer", "errors", "losses", "main", "plain", "set_shape_model"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SHARES = {
    "obama": 0.12, "reagan": 0.07, "latentsync": 0.06, "grid_s1": 0.09, "portraits": 0.38, "people": 0.28,
}  # fmt: skip
"""Of a batch. Four faces are all the real clips have; drawn ones bring other faces and wider motion."""
WEIGHTS = {
    "points": 12.0, "fine": 24.0, "expression": 6.0, "rotation": 4.0, "gaze": 4.0, "blink": 1.0,
}  # fmt: skip
FINE = np.array(
    [33, 133, 159, 145, 158, 153, 160, 144, 263, 362, 386, 374, 385, 380, 387, 373, 61, 291, 13, 14, 82, 87,
     312, 317, 78, 308, 0, 17, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477]
)  # fmt: skip
"""Lids, lips and irises, where a small error is a wrong expression."""
_DECAY = 0.996
_MIRROR = mirror_order()


@dataclass
class Labelled:
    """B pictures and what is true about them; as :class:`~engine.face.tracker.Look` has it."""

    pictures: Tensor
    """float32 [B, 3, 128, 128]"""
    points: Tensor
    expression: Tensor
    rotation: Tensor
    gaze: Tensor
    blink: Tensor


# -- pictures ----------------------------------------------------------------------------------


def _matrix(rows: Rows, random: np.random.Generator | None) -> NDArray[np.float64]:
    """[2, 3] from a row's picture to the network's; without ``random`` the plain square."""
    turn, scale, shift = 0.0, 1.0, np.zeros(2)
    if random is not None:
        turn = random.normal(0.0, math.radians(7.0))
        scale = math.exp(random.normal(0.0, 0.07))
        shift = random.normal(0.0, 0.04 * SIDE, 2)
    side = rows.frames.shape[1]
    scale *= SIDE / (rows.share * side)
    linear = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = np.full(2, (side - 1) / 2.0)
    return np.column_stack([linear, (SIDE - 1) / 2.0 + shift - linear @ middle])


def _recolour(picture: Float, random: np.random.Generator) -> Float:
    """``picture`` float32 [S, S, 3] 0..1 in another light, from another camera."""
    picture = np.asarray(np.maximum(picture, 1e-4) ** math.exp(random.normal(0.0, 0.28)), np.float32)
    gain = (random.uniform(0.65, 1.3) * random.uniform(0.82, 1.18, 3)).astype(np.float32)
    grey = picture.mean(2, keepdims=True)
    vivid = 0.0 if random.random() < 0.08 else float(random.uniform(0.3, 1.4))
    picture = (grey + (picture - grey) * vivid) * gain
    picture = (picture - 0.5) * random.uniform(0.7, 1.25) + 0.5 + random.normal(0.0, 0.04)
    if random.random() < 0.3:  # light from one side
        ramp = np.linspace(-1.0, 1.0, SIDE, dtype=np.float32)
        a, b = random.normal(0.0, 0.25, 2)
        picture = picture * np.clip(1.0 + a * ramp[:, None] + b * ramp[None], 0.3, 1.7)[..., None]
    return np.asarray(picture, np.float32)


def _degrade(picture: Float, random: np.random.Generator) -> Float:
    """Blurred, compressed, noisy or covered in parts."""
    if random.random() < 0.3:
        small = int(SIDE * random.uniform(0.35, 0.9))
        low = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.resize(low, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.float32)
    if random.random() < 0.15:
        picture = np.asarray(
            cv2.blur(picture, (int(random.integers(2, 5)), int(random.integers(1, 4)))), np.float32
        )
    if random.random() < 0.35:
        picture = picture + random.normal(0.0, random.uniform(0.005, 0.05), picture.shape).astype(np.float32)
    if random.random() < 0.2:
        for _ in range(int(random.integers(1, 3))):
            h, w = random.integers(8, 40, 2)
            y, x = random.integers(-8, SIDE - 8, 2)
            picture[max(y, 0) : y + h, max(x, 0) : x + w] = random.uniform(0.0, 1.0, 3)
    picture = np.clip(picture, 0.0, 1.0)
    if random.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 80))]
        _, coded = cv2.imencode(".jpg", (255.0 * picture).astype(np.uint8), quality)
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32) / 255.0
    return picture


def draw(rows: Rows, k: int, random: np.random.Generator | None) -> tuple[Float, ...]:
    """Row ``k`` as the network sees it: picture, points (-1..1), expression, rotation, gaze, blink.

    With ``random`` everything about the picture is changed and the labels follow.
    """
    matrix = _matrix(rows, random)
    picture = cv2.warpAffine(
        np.asarray(rows.frames[k]),
        matrix,
        (SIDE, SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    seen = np.asarray(picture, np.float32) / 255.0
    points = np.asarray(rows.points[k], np.float64) @ matrix[:, :2].T + matrix[:, 2]
    points = (points + 0.5) * (2.0 / SIDE) - 1.0
    motion = np.zeros((1, MOTION.size), np.float32)
    motion[0, MOTION.expression], motion[0, MOTION.gaze] = rows.expression[k], rows.gaze[k]
    # A turned picture shows a head that is turned about the line of sight (y up, so the other way round).
    roll = cv2.Rodrigues(np.array([0.0, 0.0, -math.atan2(matrix[1, 0], matrix[0, 0])]))[0]
    head = cv2.Rodrigues(np.asarray(rows.rotation[k], np.float64))[0]
    motion[0, MOTION.rotation] = cv2.Rodrigues(roll @ head)[0][:, 0]
    blink = np.asarray(rows.blink[k], np.float32)
    if random is not None:
        if random.random() < 0.5:
            seen, blink, motion = seen[:, ::-1], blink[::-1], mirrored(motion)
            points = points[_MIRROR] * [-1.0, 1.0]
        seen = _degrade(_recolour(seen, random), random)
    m = motion[0]
    return (
        np.ascontiguousarray(seen.transpose(2, 0, 1)), points.astype(np.float32), m[MOTION.expression],
        m[MOTION.rotation], m[MOTION.gaze], np.ascontiguousarray(blink),
    )  # fmt: skip


def _batch(drawn: list[tuple[Float, ...]]) -> Labelled:
    parts = [torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)]
    return Labelled(parts[0].contiguous(memory_format=torch.channels_last), *parts[1:])


def plain(rows: Rows, at: list[int]) -> Labelled:
    """Rows ``at`` unchanged."""
    return _batch([draw(rows, k, None) for k in at])


class Pictures:
    """Draws augmented batches from sources, groups with the shares of :data:`SHARES`."""

    def __init__(self, sources: Mapping[str, Rows], seed: int) -> None:
        if not sources:
            raise ConfigError("no training rows: write scenes with `visavis train heads`")
        self.random = np.random.default_rng(seed)
        self.sources = list(sources.values())
        weight = np.zeros(len(self.sources))
        groups = [next((g for g in SHARES if g in name.lower()), "people") for name in sources]
        for k, group in enumerate(groups):
            weight[k] = (
                SHARES[group]
                * len(self.sources[k])
                / sum(len(self.sources[j]) for j, other in enumerate(groups) if other == group)
            )
        self.weight = weight / weight.sum()

    def batch(self, count: int) -> Labelled:
        """``count`` pictures."""
        drawn = []
        for k in self.random.choice(len(self.sources), count, p=self.weight):
            rows = self.sources[k]
            drawn.append(draw(rows, int(self.random.integers(len(rows))), self.random))
        return _batch(drawn)


def set_shape_model(net: TrackerNet, pictures: Pictures, count: int = 1500) -> None:
    """Mean and principal components of the landmarks of ``count`` augmented pictures."""
    points = np.concatenate([pictures.batch(50).points.numpy().reshape(50, -1) for _ in range(count // 50)])
    mean = points.mean(0)
    _, size, axes = np.linalg.svd(points - mean, full_matrices=False)
    modes = axes[:MODES] * (size[:MODES, None] / math.sqrt(len(points)))
    net.mean.copy_(torch.from_numpy(mean))
    net.modes.copy_(torch.from_numpy(modes.astype(np.float32)))


# -- learning ----------------------------------------------------------------------------------


def _unit(points: Tensor) -> Tensor:
    """[B, 1, 1] inter-ocular distances, -1..1 units, as if seen from the front."""
    eyes = (points[:, 263] - points[:, 33]).norm(dim=1)
    nose = (points[:, 168] - points[:, 2]).norm(dim=1)
    return torch.maximum(eyes, 1.3 * nose)[:, None, None]


def losses(look: Look, truth: Labelled) -> dict[str, Tensor]:
    """Mean absolute errors: landmarks in inter-ocular distances, angles in rad."""
    away = (look.points - truth.points) / _unit(truth.points)
    # Expression columns are mostly 0: what is there counts more than what is not.
    share = 1.0 + 3.0 * truth.expression
    return {
        "points": away.abs().mean(),
        "fine": away[:, FINE].abs().mean(),
        "expression": (
            share * F.smooth_l1_loss(look.expression, truth.expression, reduction="none", beta=0.1)
        ).mean(),
        "rotation": (look.rotation - truth.rotation).abs().mean(),
        "gaze": (look.gaze - truth.gaze).abs().mean(),
        "blink": (look.blink - truth.blink).abs().mean(),
    }


def errors(look: Look, truth: Labelled) -> dict[str, Float]:
    """Per picture: landmarks % of the inter-ocular distance, expression mean absolute error, rotation deg
    (geodesic), gaze deg (angle between directions), blink mean absolute error."""
    away = (look.points - truth.points).norm(dim=2) / _unit(truth.points)[:, :, 0]
    return {
        "points_percent": (100.0 * away.mean(1)).numpy(),
        "fine_percent": (100.0 * away[:, FINE].mean(1)).numpy(),
        "expression": (look.expression.clamp(0.0, 1.0) - truth.expression).abs().mean(1).numpy(),
        "rotation_deg": _turns(look.rotation.numpy(), truth.rotation.numpy()),
        "gaze_deg": _between(look.gaze.numpy(), truth.gaze.numpy()),
        "blink": (look.blink.clamp(0.0, 1.0) - truth.blink).abs().mean(1).numpy(),
    }


def _turns(found: Float, truth: Float) -> Float:
    out = []
    for a, b in zip(found.astype(np.float64), truth.astype(np.float64), strict=True):
        out.append(np.degrees(np.linalg.norm(cv2.Rodrigues(cv2.Rodrigues(a)[0] @ cv2.Rodrigues(b)[0].T)[0])))
    return np.array(out, np.float32)


def _between(found: Float, truth: Float) -> Float:
    def direction(angles: Float) -> Float:
        pitch, yaw = angles.T
        return np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], 1)

    cosine = np.clip((direction(found) * direction(truth)).sum(1), -1.0, 1.0)
    return np.asarray(np.degrees(np.arccos(cosine)), np.float32)


@torch.no_grad()
def score(net: TrackerNet, sources: Mapping[str, Rows], per_source: int = 12) -> dict[str, float]:
    """Mean errors over sources, each with the same weight."""
    rows = []
    for source in sources.values():
        truth = plain(
            source, np.linspace(0, len(source) - 1, min(per_source, len(source))).astype(int).tolist()
        )
        with torch.autocast("cpu", torch.bfloat16):
            look = net(truth.pictures)
        rows.append({k: float(v.mean()) for k, v in errors(look, truth).items()})
    return {k: round(float(np.mean([row[k] for row in rows])), 4) for k in rows[0]}


class TrackerTrainer:
    """One run: ``net`` is trained in place, ``mean`` is what is kept."""

    def __init__(self, net: TrackerNet, pictures: Pictures, batch: int, rate: float) -> None:
        self.net, self.pictures, self.batch, self.rate = net, pictures, batch, rate
        self.mean = copy.deepcopy(net).eval()
        self.optimiser = torch.optim.AdamW(net.parameters(), rate, (0.9, 0.99), weight_decay=0.01)
        self.step = 0

    def state(self) -> dict[str, object]:
        parts = ("net", "mean", "optimiser")
        return {"step": self.step, **{name: getattr(self, name).state_dict() for name in parts}}

    def restore(self, state: dict[str, object]) -> None:
        self.step = int(state["step"])  # type: ignore[call-overload]
        for name in ("net", "mean", "optimiser"):
            getattr(self, name).load_state_dict(state[name])

    def advance(self, pace: float = 1.0) -> dict[str, float]:
        """One batch at ``pace`` times the rate; the losses.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        truth = self.pictures.batch(self.batch)
        with torch.autocast("cpu", torch.bfloat16):
            look = self.net(truth.pictures)
        found = losses(look, truth)
        total: Tensor = sum((WEIGHTS[name] * value for name, value in found.items()), torch.zeros(()))
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f"the loss is not finite at step {self.step}: {found}")
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * pace * min(1.0, (self.step + 1) / 100)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        decay = min(_DECAY, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.mean.parameters(), self.net.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        self.step += 1
        return {name: float(value.detach()) for name, value in found.items()}


def _total(scores: Mapping[str, float]) -> float:
    """One number to choose weights by."""
    return (
        scores["points_percent"] + scores["fine_percent"] + 40.0 * scores["expression"]
        + 0.5 * scores["rotation_deg"] + 0.5 * scores["gaze_deg"] + 10.0 * scores["blink"]
    )  # fmt: skip


def run(trainer: TrackerTrainer, dev: Mapping[str, Rows], args: argparse.Namespace, kept: Path) -> None:
    """Train for ``--minutes``, scoring and writing every ``--every`` steps."""
    started, best, recent = time.monotonic(), math.inf, list[dict[str, float]]()
    share = 0.0
    while share < 1.0 and trainer.step < args.steps:
        share = (time.monotonic() - started) / (60.0 * args.minutes)
        recent.append(trainer.advance(0.5 + 0.5 * math.cos(math.pi * min(1.0, share)) + 0.01))
        if trainer.step % args.every and share < 1.0 and trainer.step < args.steps:
            continue
        scores = score(trainer.mean, dev)
        means = {k: round(float(np.mean([row[k] for row in recent])), 5) for k in recent[0]}
        line = {"step": trainer.step, "s": round(time.monotonic() - started), **means, "dev": scores}
        print(json.dumps(line), flush=True)
        recent = []
        part = kept.with_suffix(".part")
        torch.save(trainer.state(), part)
        part.replace(kept)
        if _total(scores) < best:
            best = _total(scores)
            about = {
                "family": "tracker", "steps": trainer.step, "seed": args.seed, "dev": scores,
                "commit": commit(), "batch": trainer.batch, "shares": SHARES, "weights": WEIGHTS,
                "sources": len(trainer.pictures.sources),
            }  # fmt: skip
            save_weights(args.out, {k: v.half() for k, v in trainer.mean.state_dict().items()}, about)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="visavis train tracker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--heads", type=Path, nargs="+", required=True, help="folders of training scenes")
    parser.add_argument("--dev", type=Path, required=True, help="folder of dev scenes")
    parser.add_argument("--people", type=Path, help="set of synthetic people (`visavis train synth`)")
    parser.add_argument("--held-out", type=int, default=256, help="first people rows that do not train")
    parser.add_argument("--out", default="tracker", help="weights to write (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=15.0, help="on the clock")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=200, help="steps between scores")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.0e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="where the whole state is kept (default: OUT.state.pt)")
    parser.add_argument("--resume", action="store_true", help="go on from the state")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = _parser().parse_args(argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sources = load_scenes(args.heads)
    people = people_rows(args.people, args.held_out) if args.people else None
    if people is not None:
        sources["people"] = people
    pictures = Pictures(sources, args.seed)
    net = TrackerNet()
    set_shape_model(net, pictures)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = TrackerTrainer(net, pictures, args.batch, args.rate)
    kept = args.state or Path(f"{args.out}.state.pt")
    if args.resume and kept.exists():
        trainer.restore(torch.load(kept, weights_only=False))
    run(trainer, load_scenes([args.dev]), args, kept)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
