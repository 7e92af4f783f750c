"""Does one factor leave the others alone? PD-FGC's Table VI, on pictures that animators draw.

    python -m benchmarks.quality.disentangled --portraits DIR --driver TRACK.npz [...] [--animator mesh ...]
        [--count 6] [--results benchmarks/results/animator.jsonl]

One factor of a driver's motion moves a portrait, all others stay at the portrait's rest; our landmark
detector and fitter then measure every factor on the pictures. In each row of the matrix stands the variance
of one factor, as a share of the variance it has when it moves itself: 1 on the diagonal, wanted near 0
elsewhere. ``nothing`` is the noise of the measurement: the portrait drawn at rest, with a grain of
2 levels so that the detector does not see the same picture twice. ``gain`` is the measured deviation of a
factor over that of the driver's motion: 1 where the animator shows it whole.

==========  ====================================================================================
lips        40 lip landmarks of the fitted mouth on the neutral head, inter-ocular distances
pose        rotation of the head, rad
blink       how shut the lids are, 0..1
gaze        pitch and yaw relative to the head, rad
expression  fitted brows, cheeks, nose, squint and wide eyes, 0..1
==========  ====================================================================================
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import faces
from benchmarks.quality.claims_pdfgc import PAPER_TABLE_6
from benchmarks.quality.crossed import Driver, driven, open_portraits
from benchmarks.quality.mouth import lip_points
from benchmarks.quality.pictures import grainy
from benchmarks.quality.reenacted import choose_frames, draw, make_animators
from benchmarks.records import append_line
from engine.errors import VisavisError
from engine.face.landmarks import LandmarkModel
from engine.face.portrait import Portrait
from engine.samplers.factors import EXPRESSION, LIPS, POSE
from engine.stage import Animator
from engine.train.provenance import commit
from engine.types import MOTION, Cond

__all__ = ["FACTORS", "Matrix", "factor_motion", "main", "matrix", "normalised", "variances"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Matrix = dict[str, dict[str, float]]
"""measured factor -> moving factor -> variance"""

NOTHING = "nothing"
_BLINK = [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]
FACTORS: dict[str, list[int]] = {
    "lips": LIPS,
    "pose": POSE,
    "blink": _BLINK,
    "gaze": [*MOTION.columns("eyeLook"), *range(MOTION.gaze.start, MOTION.gaze.stop)],
    "expression": EXPRESSION,
}


def factor_motion(driver: Floats, rest: Floats, factor: str) -> Floats:
    """The portrait's ``rest`` [72] with the columns of ``factor`` taken from ``driver`` [T, 72]; all at rest
    for :data:`NOTHING`."""
    motion = np.repeat(np.asarray(rest, np.float32)[None], len(driver), 0)
    if factor != NOTHING:
        motion[:, FACTORS[factor]] = driver[:, FACTORS[factor]]
    return motion


def features(looks: faces.Looks) -> dict[str, Doubles]:
    """What the pictures show: [T, F] of every factor."""
    motion = looks.motion.astype(float)
    shut = faces.lids_shut(looks, faces.usual_openings(looks))
    return {
        "lips": lip_points(motion).reshape(len(motion), -1),
        "pose": motion[:, MOTION.rotation],
        "blink": shut[:, None],
        "gaze": motion[shut < faces.MOST_SHUT][:, MOTION.gaze],
        "expression": motion[:, EXPRESSION],
    }


def driven_features(motion: Floats) -> dict[str, Doubles]:
    """The same of the motion itself."""
    value = motion.astype(float)
    return {
        "lips": lip_points(value).reshape(len(value), -1),
        "pose": value[:, MOTION.rotation],
        "blink": value[:, _BLINK].mean(axis=1, keepdims=True),
        "gaze": value[value[:, _BLINK].mean(axis=1) < faces.MOST_SHUT][:, MOTION.gaze],
        "expression": value[:, EXPRESSION],
    }


def variances(shown: Mapping[str, Doubles]) -> dict[str, float]:
    """Variance over time of each factor, summed over its features; NaN of fewer than two frames."""
    return {k: float(v.var(axis=0).sum()) if len(v) > 1 else float("nan") for k, v in shown.items()}


def matrix(
    animator: Animator, portrait: Portrait, driver: Floats, model: LandmarkModel
) -> tuple[Matrix, dict[str, float]]:
    """Measured variances of one portrait, and of each factor the driver's own."""
    identity = animator.prepare(portrait)
    rest = np.asarray(Cond.for_identity(identity).rest[0].numpy(), np.float32)
    shown = choose_frames(np.ones(len(driver), np.bool_))
    near = np.repeat(portrait.landmarks.points[None], len(shown), 0)
    rng = np.random.default_rng(0)
    out: Matrix = {factor: {} for factor in FACTORS}
    own: dict[str, float] = {}
    for moving in (*FACTORS, NOTHING):
        motion = factor_motion(driver, rest, moving)
        frames = [grainy(f, rng) for f in draw(animator, identity, motion, shown)]
        found = variances(features(faces.look(frames, near, portrait.fit, model)))
        for factor, value in found.items():
            out[factor][moving] = value
        if moving != NOTHING:
            own[moving] = variances(driven_features(motion[shown]))[moving]
    return out, own


def normalised(found: Matrix) -> Matrix:
    """Each row as a share of the variance of its own factor."""
    return {
        factor: {moving: value / max(row[factor], 1e-12) for moving, value in row.items()}
        for factor, row in found.items()
    }


def _mean(parts: list[Matrix]) -> Matrix:
    return {
        factor: {moving: float(np.nanmean([p[factor][moving] for p in parts])) for moving in row}
        for factor, row in parts[0].items()
    }


def text(name: str, found: Matrix, gain: Mapping[str, float]) -> str:
    """The matrix as a table, the paper's share in brackets."""
    moving = [*FACTORS, NOTHING]
    corner = "variance of, moving"
    lines = [f"== {name} ==", f"{corner:<20}" + "".join(f"{m:>16}" for m in moving) + f"{'gain':>8}"]
    for factor, row in normalised(found).items():
        cells = []
        for m in moving:
            paper = PAPER_TABLE_6[factor].get(m)
            cells.append(f"{row[m]:.3f}" + (f" ({paper:.3f})" if paper is not None else ""))
        lines.append(f"{factor:<20}" + "".join(f"{c:>16}" for c in cells) + f"{gain[factor]:>8.2f}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--prefix", default="", help="only pictures whose name starts so, as photo_")
    parser.add_argument("--driver", nargs="+", required=True, help="tracks of driving clips")
    parser.add_argument("--animator", nargs="+", help="names, NAME=MODULE:MAKER; default: all")
    parser.add_argument("--count", type=int, default=6, help="portraits; drivers take turns")
    parser.add_argument("--results", type=Path, help="append one JSON line here")
    return parser


def measure(
    animator: Animator, portraits: list[tuple[str, Portrait]], drivers: list[Driver]
) -> tuple[Matrix, dict[str, float]]:
    """Means over the portraits: variances, and the gain of each factor."""
    model = LandmarkModel()
    pairs = [
        matrix(animator, portrait, drivers[k % len(drivers)].motion, model)
        for k, (_, portrait) in enumerate(portraits)
    ]
    gain = {
        factor: float(np.sqrt(np.mean([m[factor][factor] for m, _ in pairs]) / max(1e-12, spread)))
        for factor in FACTORS
        for spread in [float(np.mean([own[factor] for _, own in pairs]))]
    }
    return _mean([found for found, _ in pairs]), gain


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 where there is nothing to measure."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(1)
    found = {}
    try:
        animators = make_animators(args.animator)
        portraits, drivers = open_portraits(args.portraits, args.count, args.prefix), driven(args.driver)
        for name, animator in animators.items():
            found[name] = measure(animator, portraits, drivers)
            print(text(name, *found[name]), flush=True)
    except VisavisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = {
        "benchmark": "animator_disentanglement",
        "commit": commit(),
        "portraits": [name for name, _ in portraits],
        "drivers": [driver.name for driver in drivers],
        "rows": {
            name: {"variance": variance, "share": normalised(variance), "gain": gain}
            for name, (variance, gain) in found.items()
        },
        "paper": PAPER_TABLE_6,
    }
    line = json.dumps(_rounded(record), separators=(",", ":"))
    if args.results is not None:
        append_line(args.results, line)
    print(line)
    return 0


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


if __name__ == "__main__":
    raise SystemExit(main())
