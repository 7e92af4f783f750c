"""Does the face show the emotion it was asked for? A small classifier says; its own worth comes first.

The classifier (:mod:`engine.train.emotion`) reads an expression sequence [T, 64]. It is shown the
real emotional clips under ``driving/`` first, whose names or notes say what is shown; then every
recipe speaks the measured clips with each emotion's control at 1, from a neutral face.

The classifier learned from the authored styles, so recipes that use those (all whose sampler is not
``emotional`` itself) are recognised by construction: their score says that the control works, not
that people would see the emotion. What real faces are worth to it is the first table.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.driving import perform
from benchmarks.quality.subjects import Subject
from engine.pipeline import Pipeline
from engine.train.emotion import LABELS, classify
from engine.types import MOTION

__all__ = ["Accuracy", "generated_accuracy", "label_of", "real_accuracy"]

Floats = NDArray[np.float64]

_WORDS = {"furious": "angry", "sadfather": "sad", "smile": "happy"} | {name: name for name in LABELS}
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
        names = [name[:8] for name in LABELS]
        lines = [f"emotion classifier on {int(self.confusion.sum())} real clips: {self.accuracy:.2f} right"]
        lines.append(f"{'asked for':<12}" + "".join(f"{n:>10}" for n in names))
        for name, row in zip(LABELS, self.confusion, strict=True):
            if row.sum():
                lines.append(f"{name:<12}" + "".join(f"{int(v):>10}" for v in row))
        return "\n".join([*lines, ""])


def label_of(name: str, notes: str = "") -> str | None:
    """The one emotion that a clip's file name or the manifest's notes state; None without or with several.

    ``mead_M030_front_happy_level3_001.mp4`` is happy.
    """
    words = re.split(r"[^a-z0-9]+", f"{name.rsplit('/', 1)[-1]} {notes}".lower())
    found = {_WORDS[word] for word in words if word in _WORDS}
    return found.pop() if len(found) == 1 else None


def _seen(expression: Floats) -> int:
    known = expression[np.isfinite(expression).all(axis=1)]
    return int(np.argmax(classify(known.astype(np.float32))))


def real_accuracy(data: Path, tracks: Path) -> Accuracy | None:
    """On the tracked ``driving`` clips that are labelled with an emotion; None where none is tracked."""
    confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
    with (data / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("driving/")]
    for name, notes in ((row["path"], row["notes"]) for row in rows):
        label = label_of(name, notes)
        path = tracks / (name.replace("/", "__") + ".npz")
        if label is None or not path.is_file():
            continue
        with np.load(path) as track:
            # Counted from the neutral face, not from the clip's median: that would take the emotion out.
            whole = track["motion"][track["valid"]] + track["rest"]
            expression = whole[:, MOTION.expression].astype(np.float64)
        confusion[LABELS.index(label), _seen(expression)] += 1
    return Accuracy(confusion) if confusion.sum() else None


def generated_accuracy(pipeline: Pipeline, subjects: list[Subject]) -> Accuracy:
    """``pipeline`` asked for every emotion, and for none, on the first few voices."""
    confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
    voices = [s.clip.audio for s in subjects if len(s.motion) >= 75][:_MOST_CLIPS]
    controls = [{} if name == "neutral" else {f"emotion.{name}": 1.0} for name in LABELS]
    rests = np.zeros((len(LABELS), MOTION.size))
    for voice in voices:
        made = perform(pipeline, voice[: 640 * 125], [0] * len(LABELS), rests, controls)
        for index, motion in enumerate(made):
            confusion[index, _seen(motion[:, MOTION.expression])] += 1
    return Accuracy(confusion)
