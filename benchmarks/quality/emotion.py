"""Does the face show the emotion it was asked for? A small classifier says; its own worth comes first.

The classifier (:mod:`engine.train.emotion`) reads an expression sequence [T, 64]. It is shown the
real emotional clips under ``driving/`` first, whose names carry what the actor was asked to show; then
every recipe speaks the measured clips with each emotion's control at 1, from a neutral face.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.driving import perform
from benchmarks.quality.subjects import Subject
from engine.pipeline import Pipeline
from engine.train.emotion import classify
from engine.types import EMOTIONS, MOTION

__all__ = ["CLASSES", "Accuracy", "generated_accuracy", "label_of", "real_accuracy"]

Floats = NDArray[np.float64]

CLASSES: tuple[str, ...] = ("neutral", *EMOTIONS)
_WORDS = {"furious": "angry", "sadfather": "sad"} | {name: name for name in CLASSES}
_MOST_CLIPS = 6


@dataclass(frozen=True)
class Accuracy:
    """``confusion`` [8, 8]: asked for (row), seen (column), counts of clips."""

    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        total = int(self.confusion.sum())
        return float(np.trace(self.confusion)) / total if total else float("nan")

    def report(self) -> str:
        """The share of right answers, and the table without empty rows."""
        names = [name[:8] for name in CLASSES]
        lines = [f"emotion classifier on {int(self.confusion.sum())} real clips: {self.accuracy:.2f} right"]
        lines.append(f"{'asked for':<12}" + "".join(f"{n:>10}" for n in names))
        for name, row in zip(CLASSES, self.confusion, strict=True):
            if row.sum():
                lines.append(f"{name:<12}" + "".join(f"{int(v):>10}" for v in row))
        return "\n".join([*lines, ""])


def label_of(name: str) -> str | None:
    """The emotion that a clip's file name states, if any: ``mead_M030_front_happy_level3_001.mp4``, happy."""
    words = name.lower().rsplit("/", 1)[-1].replace(".", "_").split("_")
    found = [_WORDS[word] for word in words if word in _WORDS]
    return found[0] if len(found) == 1 else None


def _seen(expression: Floats) -> int:
    known = expression[np.isfinite(expression).all(axis=1)]
    return int(np.argmax(classify(known.astype(np.float32))))


def real_accuracy(data: Path, tracks: Path) -> Accuracy | None:
    """On the tracked ``driving`` clips whose names state an emotion; None where none is tracked."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    with (data / "MANIFEST.csv").open(newline="") as file:
        names = [row["path"] for row in csv.DictReader(file) if row["path"].startswith("driving/")]
    for name in names:
        label = label_of(name)
        path = tracks / (name.replace("/", "__") + ".npz")
        if label is None or not path.is_file():
            continue
        with np.load(path) as track:
            expression = track["motion"][track["valid"]][:, MOTION.expression].astype(np.float64)
        confusion[CLASSES.index(label), _seen(expression)] += 1
    return Accuracy(confusion) if confusion.sum() else None


def generated_accuracy(pipeline: Pipeline, subjects: list[Subject]) -> Accuracy:
    """``pipeline`` asked for every emotion, and for none, on the first few voices."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    voices = [s.clip.audio for s in subjects if len(s.motion) >= 75][:_MOST_CLIPS]
    for index, name in enumerate(CLASSES):
        controls = {} if name == "neutral" else {f"emotion.{name}": 1.0}
        for audio in voices:
            motion = perform(pipeline, audio[: 640 * 125], [0], np.zeros((1, MOTION.size)), controls)[0]
            confusion[index, _seen(motion[:, MOTION.expression])] += 1
    return Accuracy(confusion)
