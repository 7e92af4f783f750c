"""Fits the idle sampler's model to people's pauses.

    python -m engine.train.idle --corpus CORPUS [--out idle]

A pause is a stretch of a tracked training take in which nobody speaks for a third of a second and more.
What is fitted is small because the pauses are short: how a head's step goes on and what is added to it,
how often and how far eyes jump, how far brows and mouth wander. Each speaker counts the same.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.encoders.mel import FEATURES, MelEncoder
from engine.errors import InputError
from engine.samplers.factors import UPPER
from engine.train.corpus import Corpus, Features
from engine.train.provenance import commit
from engine.types import MOTION
from engine.weights import save_weights

__all__ = ["Pauses", "fit", "main", "read_pauses"]

Floats = NDArray[np.float64]

_APART = 9  # frames without a voice around a frame of silence
_LEAST = 8
_LONG = 400
"""Frames of a take that shows where a head returns to; in shorter ones every mean is a return."""
_FRAME_S = 0.04
_SACCADE = np.radians(1.5)
_MOUTH = ("mouthSmile", "mouthPress", "mouthFrown", "mouthShrugLower", "mouthRollLower", "mouthRollUpper")


@dataclass
class Pauses:
    """One speaker: ``silent`` stretches [T, 72] and ``all`` takes [T, 72] of known motion."""

    silent: list[Floats]
    all: list[Floats]


def read_pauses(corpus: Corpus, features: Features, split: str = "train") -> dict[str, Pauses]:
    """Pauses of the tracked people of ``split``, by speaker.

    Raises:
        InputError: nobody is ever silent there.
    """
    speakers: dict[str, Pauses] = defaultdict(lambda: Pauses([], []))
    voice = FEATURES.index("voice")
    for entry in corpus.select(split, "real"):
        take = corpus.take(entry)
        speaks = features(take)[: take.frames, voice] > 0.5
        near = np.convolve(speaks, np.ones(_APART), mode="same") > 0
        motion = take.motion[: len(speaks)].astype(np.float64)
        known = np.asarray(np.isfinite(motion).all(axis=1))
        speakers[entry.speaker].all += _stretches(motion, known)
        speakers[entry.speaker].silent += _stretches(motion, known & ~near)
    found = {name: p for name, p in speakers.items() if p.silent}
    if not found:
        raise InputError(f"no tracked person is silent for {_LEAST} frames in split {split}")
    return found


def _stretches(motion: Floats, kept: NDArray[np.bool_]) -> list[Floats]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(int))).reshape(-1, 2)
    return [motion[a:b] for a, b in edges if b - a >= _LEAST]


def fit(speakers: dict[str, Pauses]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors of :class:`~engine.samplers.idle.IdleModel`, and what was measured on the way."""
    each = [_speaker(p) for p in speakers.values()]
    takes = [take for p in speakers.values() for take in p.all]
    mean = {key: np.mean([one[key] for one in each], axis=0) for key in each[0]}
    # The tracker's smoothing lends jitter to the next frame, which lowers the ratio: not below 0.7.
    inertia = np.clip(mean["inertia"], 0.7, 0.9)
    gain = _twice_smoothed(inertia)
    together = mean["together"] + 1e-6 * np.eye(6)
    kick = (mean["speed"] / gain)[:, None] * np.linalg.cholesky(together)
    pull = _pull([take for take in takes if len(take) >= _LONG])
    tensors = {
        "inertia": inertia, "kick": kick, "pull": np.clip(pull, 0.01, 0.06),
        "saccades_hz": mean["saccades_hz"], "gaze_spread": mean["gaze_spread"],
        "brow_spread": np.clip(mean["brow_spread"], 0.0, 0.12),
        "mouth_spread": np.clip(mean["mouth_spread"], 0.0, 0.06), "blinks_hz": mean["blinks_hz"],
    }  # fmt: skip
    about: dict[str, object] = {
        "speakers": {name: {"silent_s": round(sum(map(len, p.silent)) * _FRAME_S, 1), **_readable(one)}
                     for (name, p), one in zip(speakers.items(), each, strict=True)},
        "pull": np.round(pull, 4).tolist(),
    }  # fmt: skip
    return {key: torch.from_numpy(np.asarray(value, np.float32)) for key, value in tensors.items()}, about


def _twice_smoothed(inertia: Floats) -> Floats:
    """Deviation of white noise of deviation 1 after d' = a d + n and s' = s + (1 - a)(d' - s)."""
    n = np.arange(400)[:, None]
    response = (1.0 - inertia) * (n + 1) * inertia**n
    return np.asarray(np.sqrt(np.square(response).sum(axis=0)))


def _speaker(pauses: Pauses) -> dict[str, Floats]:
    pose = [m[:, MOTION.pose] for m in pauses.silent]
    steps = [np.diff(p, axis=0) for p in pose]
    joined = np.concatenate(steps)
    # The tracker's jitter is white: products one frame apart are free of it.
    next_to = [np.concatenate([s[k:] * s[:-k] for s in steps if len(s) > k]).mean(axis=0) for k in (1, 2)]
    inertia = _inertia_of(next_to[1] / np.maximum(next_to[0], 1e-12))
    slow = np.concatenate([p[4:] - p[:-4] for p in pose]) / 4.0
    jumps = sum(_jumps(m[:, MOTION.gaze]) for m in pauses.silent)
    shut = [m[:, MOTION.columns("eyeBlink")].mean(axis=1) > 0.5 for m in pauses.silent]
    blinks = sum(int((np.diff(s.astype(int)) > 0).sum()) for s in shut)
    silent = np.concatenate(pauses.silent)
    seconds = len(silent) * _FRAME_S
    mouth = np.zeros(MOTION.expression.stop)
    columns = [c for name in _MOUTH for c in MOTION.columns(name)]
    mouth[columns] = silent[:, columns].std(axis=0)
    return {
        "inertia": inertia,
        "speed": slow.std(axis=0),
        "together": np.corrcoef(joined.T),
        "saccades_hz": np.array(jumps / seconds),
        "gaze_spread": silent[:, MOTION.gaze].std(axis=0),
        "brow_spread": silent[:, UPPER[:5]].std(axis=0),
        "mouth_spread": mouth,
        "blinks_hz": np.array(blinks / seconds),
    }


def _jumps(gaze: Floats) -> int:
    """How often gaze [T, 2] leaps: over two frames, for a tracker's median spreads a leap over as many."""
    far = np.linalg.norm(gaze[2:] - gaze[:-2], axis=1) > _SACCADE
    return int((far[1:] & ~far[:-1]).sum() + far[:1].sum())


def _inertia_of(ratio: Floats) -> Floats:
    """The a of a twice smoothed process whose products two frames apart are ``ratio`` times those of one.

    Its correlations are rho_1 = 2 a / (1 + a^2), rho_2 = 2 a rho_1 - a^2: rho_2 / rho_1 = a (3 - a^2) / 2.
    """
    grid = np.linspace(0.0, 0.99, 100)
    return np.asarray(np.interp(ratio, grid * (3.0 - grid**2) / 2.0, grid))


def _pull(takes: list[Floats], apart: int = 10) -> Floats:
    """Share of the pose given back a frame: regression of the change over ``apart`` frames on the pose."""
    pose = [t[:, MOTION.pose] for t in takes if len(t) > apart]
    here = np.concatenate([p[:-apart] for p in pose])
    change = np.concatenate([p[apart:] - p[:-apart] for p in pose])
    slope = (here * change).mean(axis=0) / np.maximum((here * here).mean(axis=0), 1e-12)
    return np.asarray(1.0 - (1.0 + np.clip(slope, -0.9, 0.0)) ** (1.0 / apart))


def _readable(one: dict[str, Floats]) -> dict[str, object]:
    degrees = {"speed", "gaze_spread"}
    kept = {
        k: np.degrees(v) if k in degrees else v
        for k, v in one.items()
        if k not in ("together", "mouth_spread")
    }
    return {k: np.round(v, 3).tolist() for k, v in kept.items()}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that visavis train data wrote")
    parser.add_argument("--out", default="idle", help="name of the weights, or a .safetensors file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tensors, about = fit(read_pauses(Corpus(args.corpus), Features(args.corpus, MelEncoder())))
    path = save_weights(args.out, tensors, {**about, "commit": commit()})
    print(f"wrote {path}")
    for name, row in about["speakers"].items() if isinstance(about["speakers"], dict) else ():
        print(name, row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
