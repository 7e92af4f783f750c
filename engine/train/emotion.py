"""Emotion of a face from its expression: a small classifier that scores samplers and real clips.

    python -m engine.train.emotion --corpus CORPUS --styled CORPUS_styled [--out emotion]

Windows of two seconds become statistics of expression columns (means, sides apart), a small network
gives probabilities of neutral and the seven emotions. It learns from styled takes (authored styles),
from neutral tracked people, and from such people with a style laid over them, as faint as a tracker
may find it; how well that carries over to real emotional faces is measured on labelled clips that it
never saw, and must be told with every score it gives.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.samplers.emotions import STYLES
from engine.train.corpus import Corpus, Entry, mirrored
from engine.train.styled import strength_of
from engine.types import EMOTIONS, EXPRESSION_NAMES, MOTION
from engine.weights import load_weights, save_weights, weights_metadata

__all__ = ["LABELS", "EmotionNet", "classify", "main", "statistics"]

Floats = NDArray[np.float32]

LABELS: tuple[str, ...] = ("neutral", *EMOTIONS)
WINDOW = 50
_HOP = 25

# Units the statistics look at; a unit with sides gives their mean and, for some, their difference.
# Those that speech moves most are left out: how somebody talks is no emotion.
_UNITS = (
    "browDown", "browInnerUp", "browOuterUp", "eyeSquint", "eyeWide", "eyeBlink", "cheekSquint",
    "noseSneer", "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress",
)  # fmt: skip
_SIDED = ("mouthSmile", "mouthDimple", "browOuterUp", "cheekSquint")


def _columns(unit: str) -> list[int]:
    if unit in EXPRESSION_NAMES:
        return [EXPRESSION_NAMES.index(unit)]
    return [EXPRESSION_NAMES.index(unit + side) for side in ("Left", "Right")]


def statistics(expression: Floats) -> Floats:
    """Windows of ``expression`` [T, 64] (difference from the neutral face) as float32 [N, S].

    Mean of each unit, the absolute difference of the sides of those that tell contempt.
    A clip shorter than two seconds is one window; frames that are not known are left out.
    """
    known = expression[np.isfinite(expression).all(axis=1)]
    if not len(known):
        return np.zeros((0, len(_UNITS) + len(_SIDED)), np.float32)
    starts = range(0, max(1, len(known) - WINDOW + 1), _HOP)
    rows = []
    for start in starts:
        part = known[start : start + WINDOW]
        units = np.stack([part[:, _columns(unit)].mean(axis=1) for unit in _UNITS], axis=1)
        apart = [abs(float(np.diff(part[:, _columns(unit)].mean(axis=0))[0])) for unit in _SIDED]
        # A blink is no mood: lids count by their median.
        middle = units.mean(axis=0)
        middle[_UNITS.index("eyeBlink")] = np.median(units[:, _UNITS.index("eyeBlink")])
        rows.append(np.concatenate([middle, apart]))
    return np.asarray(rows, np.float32)


class EmotionNet(nn.Module):
    """Statistics [N, S] to logits [N, 8] of :data:`LABELS`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, hidden: int = 48) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.layers = nn.Sequential(
            nn.Linear(size, hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, len(LABELS))
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(((x - self.mean) / self.deviation).clamp(-4.0, 4.0))
        return logits


@lru_cache(maxsize=1)
def _shipped() -> EmotionNet:
    tensors = load_weights("emotion")
    net = EmotionNet(len(tensors["mean"]), len(tensors["layers.0.bias"]))
    net.load_state_dict(tensors)
    return net.requires_grad_(False).eval()


def classify(expression: Floats, net: EmotionNet | None = None) -> Floats:
    """Probabilities float32 [8] of :data:`LABELS` for a clip, the mean over its windows.

    ``expression`` [T, 64] is the difference from the person's neutral face at 25 frames/s, rows NaN
    where unseen. A clip without a face gives even chances.

    Raises:
        AssetError: the shipped weights are missing (where ``net`` is None).
    """
    rows = statistics(np.asarray(expression, np.float32))
    if not len(rows):
        return np.full(len(LABELS), 1.0 / len(LABELS), np.float32)
    with torch.inference_mode():
        chances = torch.softmax((net or _shipped())(torch.from_numpy(rows)), dim=-1)
    return np.asarray(chances.mean(0).numpy(), np.float32)


def _label(entry: Entry) -> int | None:
    """Index into LABELS; None for takes too faint to have one."""
    if entry.emotion in EMOTIONS and entry.kind == "styled":
        return LABELS.index(entry.emotion) if strength_of(entry) >= 0.4 else None
    return 0


def _windows(corpora: list[Corpus], split: str) -> tuple[Floats, NDArray[np.int64]]:
    """Statistics [N, S] and labels [N] of a split's tracked and styled takes, both ways round."""
    rows, labels = [], []
    for corpus in corpora:
        for entry in corpus.select(split, "real", "styled"):
            label = _label(entry)
            if label is None:
                continue
            motion = corpus.take(entry).motion
            for side in (motion, mirrored(motion)):
                found = statistics(side[:, MOTION.expression])
                rows.append(found)
                labels += [label] * len(found)
    return np.concatenate(rows), np.array(labels)


def _style_rows() -> Tensor:
    """What each label adds to the means of the units, [8, units]; neutral adds nothing."""
    table = np.zeros((len(LABELS), len(_UNITS)), np.float32)
    for k, style in enumerate(STYLES):
        table[k + 1] = [style[_columns(unit)].mean() for unit in _UNITS]
    return torch.from_numpy(table)


def _on_people(neutral: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
    """Rows [N, S] of ``labels`` [N] on tracked people: a neutral person's row plus the style, faint to
    full. A tracker finds a part of an expression, and takes some of a person's features for one."""
    units = len(_UNITS)
    rows = neutral[torch.randint(len(neutral), (len(labels),), generator=noise)].clone()
    gain = torch.exp(torch.empty(len(labels), 1).uniform_(np.log(0.25), np.log(1.1), generator=noise))
    own = torch.exp(0.4 * torch.randn(len(labels), units, generator=noise))
    rows[:, :units] += gain * own * _style_rows()[labels]
    contempt = (labels == LABELS.index("contempt")).float()[:, None]
    apart = torch.tensor([0.5, 0.6, 0.4, 0.25]) * contempt  # as authored: one side of the mouth, one brow
    rows[:, units:] += gain * apart
    return rows


def _varied(rows: Tensor, noise: torch.Generator) -> Tensor:
    """Gains and offsets of each unit, as between people and trackers."""
    units = len(_UNITS)
    gain = torch.exp(0.25 * torch.randn(len(rows), units, generator=noise))
    offset = 0.07 * torch.randn(len(rows), units, generator=noise)
    made = rows.clone()
    made[:, :units] = (rows[:, :units] * gain + offset).clamp(min=0.0)
    return made


def train(corpora: list[Corpus], steps: int = 600, seed: int = 0) -> tuple[EmotionNet, dict[str, float]]:
    """The classifier that did best on ``dev`` speakers, and its scores."""
    noise = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    rows, labels = (torch.from_numpy(part) for part in _windows(corpora, "train"))
    dev_rows, dev_labels = (torch.from_numpy(part) for part in _windows(corpora, "dev"))
    net = EmotionNet(rows.shape[1])
    net.mean.copy_(rows.mean(0))
    net.deviation.copy_(rows.std(0) + 0.02)
    of_class = [torch.nonzero(labels == k).flatten() for k in range(len(LABELS))]
    neutral = rows[of_class[0]]
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    best, highest = dict(net.state_dict()), -1.0
    for step in range(1, steps + 1):
        net.train()
        picked = torch.cat([m[torch.randint(len(m), (6,), generator=noise)] for m in of_class])
        asked = torch.arange(len(LABELS)).repeat_interleave(24)
        batch = torch.cat([rows[picked], _on_people(neutral, asked, noise)])
        goal = torch.cat([labels[picked], asked])
        loss = nn.functional.cross_entropy(net(_varied(batch, noise)), goal, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 50 == 0:
            score = _accuracy(net, dev_rows, dev_labels)
            if score > highest:
                highest, best = score, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(best)
    net.eval()
    return net, {
        "dev_accuracy": round(highest, 4),
        "windows": float(len(rows)),
        "dev_windows": float(len(dev_rows)),
    }


def _accuracy(net: EmotionNet, rows: Tensor, labels: Tensor) -> float:
    """Mean over classes of the share told right."""
    net.eval()
    with torch.no_grad():
        right = (net(rows).argmax(1) == labels).float()
    return float(np.mean([float(right[labels == k].mean()) for k in sorted(set(labels.tolist()))]))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument(
        "--styled", type=Path, default=None, help="corpus of styled takes (default CORPUS_styled)"
    )
    parser.add_argument("--out", default="emotion")
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    styled = args.styled or args.corpus.with_name(args.corpus.name + "_styled")
    net, scores = train([Corpus(args.corpus), Corpus(styled)], args.steps)
    about = {"labels": ",".join(LABELS), "seed": 0, "steps": args.steps, **scores}
    path = save_weights(args.out, net.state_dict(), about)
    print(f"{path}: {scores}; {weights_metadata(args.out)['labels']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
