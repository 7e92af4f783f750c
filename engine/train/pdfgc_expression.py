"""Trains PD-FGC's expression factor: a code of mood that knows nothing of speech.

Each example is a window of frames of a tracked talker with an authored expression laid over it (people
who can be trained on here seldom show any), seen through a random offset of the resting face. The code
is the average over the window (in-window decorrelation), is kept uncorrelated with the lips (lip
decorrelation, memory banks) and must, together with lips, pose and eyes, rebuild the last frame's motion
(complementary self-reconstruction). Wang et al., CVPR 2023, section 3.3, equation 6.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.samplers.emotions import STYLES
from engine.samplers.factors import EYES, POSE
from engine.samplers.pdfgc.expression import CODE_SIZE, READ, WINDOW, ExpressionNet
from engine.train.corpus import Corpus, Features, mirrored
from engine.types import EXPRESSION_NAMES, MOTION

__all__ = ["ABLATIONS", "Examples", "ExpressionRecipe", "author", "read_examples", "train_expression"]

Floats = NDArray[np.float32]

# What people do with their faces besides the seven emotions: pairs, or one side, at full strength.
_UNITS: tuple[tuple[str, ...], ...] = (
    ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
    ("mouthSmileLeft", "mouthSmileRight"),
    ("mouthFrownLeft", "mouthFrownRight", "mouthShrugLower"),
    ("mouthFrownLeft", "mouthFrownRight"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    ("browDownLeft", "browDownRight"),
    ("browInnerUp",),
    ("browOuterUpLeft",),
    ("browOuterUpRight",),
    ("eyeSquintLeft", "eyeSquintRight"),
    ("eyeWideLeft", "eyeWideRight"),
    ("noseSneerLeft", "noseSneerRight"),
    ("mouthDimpleLeft", "mouthDimpleRight"),
    ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthPressLeft", "mouthPressRight"),
    ("cheekPuff",),
    ("mouthLeft",),
    ("mouthRight",),
)
_BIASED = [k for k, c in enumerate(READ) if EXPRESSION_NAMES[c].startswith(("mouth", "jawLeft", "jawRight"))]


@dataclass(frozen=True)
class ExpressionRecipe:
    """Everything that decides a run; ``window`` 1 is no in-window decorrelation."""

    window: int = WINDOW
    decorrelate: float = 10.0
    bank: int = 512
    batch: int = 64
    steps: int = 2500
    rate: float = 2e-3
    hidden: int = 96
    jitter: float = 0.03
    offset: float = 0.2
    seed: int = 0


def _ablations() -> dict[str, ExpressionRecipe]:
    full = ExpressionRecipe()
    return {
        "none": replace(full, window=1, decorrelate=0.0),
        "in-window": replace(full, decorrelate=0.0),
        "lips": replace(full, window=1),
        "window-7": replace(full, window=7),
        "window-25": replace(full, window=25),
        "full": full,
    }


ABLATIONS: dict[str, ExpressionRecipe] = _ablations()
"""Rows of the paper's tables 4 and 5."""


@dataclass(frozen=True)
class Examples:
    """Frames of all talkers in one row: ``face`` [N, len(READ)] less each talker's median mouth,
    ``others`` [N, 10] pose and eyes, ``lips`` [N, A] what the audio says of the lips (standardised),
    ``age`` [N] how many frames before it belong to the same unbroken take, ``weight`` [N] the chance
    of a frame."""

    face: Floats
    others: Floats
    lips: Floats
    age: NDArray[np.int64]
    weight: NDArray[np.float64]


def read_examples(corpus: Corpus, features: Features, columns: list[int], split: str = "train") -> Examples:
    """Tracked frames of ``split``, and the same in the mirror; ``columns`` of the features are the lips'."""
    parts: list[tuple[str, Floats, Floats, NDArray[np.int64]]] = []
    for entry in corpus.select(split, "real"):
        take = corpus.take(entry)
        audio = features(take)
        frames = min(len(audio), take.frames)
        lips = np.concatenate([audio[:frames, columns], take.lips[:frames]], axis=1)
        both = (take.motion[:frames], mirrored(take.motion[:frames]))
        parts += [(entry.speaker, motion, lips, _unbroken(motion)) for motion in both]
    return _joined(parts)


def _unbroken(motion: Floats) -> NDArray[np.int64]:
    """Frames seen in a row before each frame, -1 where it is not seen itself."""
    age = np.full(len(motion), -1, np.int64)
    for n in np.flatnonzero(np.isfinite(motion).all(axis=1)):
        age[n] = (age[n - 1] if n else -1) + 1
    return age


def _joined(parts: list[tuple[str, Floats, Floats, NDArray[np.int64]]]) -> Examples:
    speakers = [s for s, motion, _, _ in parts for _ in range(len(motion))]
    motion = np.nan_to_num(np.concatenate([p[1] for p in parts]))
    lips = np.concatenate([p[2] for p in parts])
    age = np.concatenate([p[3] for p in parts])
    names, index, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    face = motion[:, READ].copy()
    for k in range(len(names)):
        rows = (index == k) & (age >= 0)
        face[np.ix_(index == k, _BIASED)] -= np.median(face[np.ix_(rows, _BIASED)], axis=0)
    weight = np.where(age >= 0, 1.0 / np.sqrt(counts[index]), 0.0)
    lips = (lips - lips.mean(0)) / (lips.std(0) + 1e-3)
    others = motion[:, [*POSE, *range(MOTION.gaze.start, MOTION.gaze.stop), *EYES[:2]]]
    return Examples(face, others, lips.astype(np.float32), age, weight / weight.sum())


def author(noise: np.random.Generator, count: int, window: int) -> Floats:
    """Expressions laid over ``count`` windows: float32 [count, window, len(READ)].

    Up to two of the emotions' styles or of :data:`_UNITS` at random strength; held, or coming or going
    within the window.
    """
    table = np.concatenate([np.maximum(STYLES[:, READ], 0.0), _unit_table()]).astype(np.float32)
    strength = noise.uniform(0.0, 1.0, (count, 2)) * (noise.random((count, 2)) < [0.75, 0.35])
    goal = np.einsum("nk,nkc->nc", strength, table[noise.integers(len(table), size=(count, 2))])
    # One side more than the other, as faces are, and some units unseen, as trackers leave them.
    goal *= noise.uniform(0.7, 1.3, goal.shape) * (noise.random(goal.shape) > 0.15)
    start = noise.uniform(-window, window, (count, 1))
    length = noise.uniform(4.0, 15.0, (count, 1))
    ramp = np.clip((np.arange(window)[None] - start) / length, 0.0, 1.0)
    ramp = ramp * ramp * (3 - 2 * ramp)
    kind = noise.random((count, 1))
    share = np.where(kind < 0.5, 1.0, np.where(kind < 0.75, ramp, 1.0 - ramp))
    return np.asarray(goal[:, None] * share[:, :, None], np.float32)


def _unit_table() -> Floats:
    table = np.zeros((len(_UNITS), len(READ)), np.float32)
    for row, names in enumerate(_UNITS):
        for name in names:
            table[row, READ.index(EXPRESSION_NAMES.index(name))] = 0.8
    return table


class _Bank:
    """The latest ``size`` features, all but the newest batch without gradient."""

    def __init__(self, size: int, width: int) -> None:
        self.size = size
        self.kept = torch.zeros(0, width)

    def join(self, newest: Tensor) -> Tensor:
        """[<= size, width]: what was kept and ``newest``, which is kept from now on."""
        joined = torch.cat([self.kept, newest])[-self.size :]
        self.kept = joined.detach()
        return joined


def correlation_loss(codes: Tensor, lips: Tensor) -> Tensor:
    """Equation 6: squared correlations of every code dimension [N, D] with every lip feature [N, A],
    summed over the lips' and averaged over the code's dimensions, per lip feature."""
    a = codes - codes.mean(0)
    b = lips - lips.mean(0)
    a = a / (a.square().sum(0).sqrt() + 1e-4)
    b = b / (b.square().sum(0).sqrt() + 1e-4)
    return (a.T @ b).square().mean()


class _Trainer:
    def __init__(self, examples: Examples, recipe: ExpressionRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.data = recipe, examples
        self.noise = np.random.default_rng(recipe.seed)
        self.net = ExpressionNet(recipe.hidden, recipe.window)
        spread = np.sqrt((examples.weight[:, None] * examples.face**2).sum(0))
        self.net.scale.copy_(torch.from_numpy(spread.astype(np.float32) + 0.08))
        width = examples.lips.shape[1]
        # Lips, pose and eyes say their part of the motion; the code need only say the rest.
        known = width + examples.others.shape[1]
        self.complement = nn.Sequential(nn.Linear(known, 96), nn.GELU(), nn.Linear(96, len(READ)))
        self.codes, self.lips = _Bank(recipe.bank, CODE_SIZE), _Bank(recipe.bank, width)
        self.ends = np.flatnonzero((examples.age >= recipe.window - 1) & (examples.weight > 0))
        chance = examples.weight[self.ends]
        self.chance = chance / chance.sum()

    def loss(self) -> dict[str, Tensor]:
        recipe, data = self.recipe, self.data
        ends = self.noise.choice(self.ends, recipe.batch, p=self.chance)
        rows = ends[:, None] + np.arange(1 - recipe.window, 1)
        made = author(self.noise, recipe.batch, recipe.window)
        face = data.face[rows] + made
        seen = face + self._nuisance(face.shape)
        code = self.net.encode(torch.from_numpy(seen)).mean(dim=1)
        lips = torch.from_numpy(data.lips[ends])
        known = torch.cat([lips, torch.from_numpy(data.others[ends])], dim=1)
        noisy = code + 0.05 * torch.randn_like(code)
        rebuilt = self.complement(known) * self.net.scale + self.net.decode(noisy)
        target = torch.from_numpy(face[:, -1])
        error = ((rebuilt - target) / self.net.scale).abs().mean()
        parts = {"rebuild": error, "size": 0.001 * code.square().mean()}
        if recipe.decorrelate:
            found = correlation_loss(self.codes.join(code), self.lips.join(lips))
            parts["decorrelate"] = recipe.decorrelate * CODE_SIZE * found
        return parts

    def _nuisance(self, shape: tuple[int, ...]) -> Floats:
        """A tracker's noise frame by frame, and the mouth of another person at rest (one offset a window)."""
        noise = self.noise.normal(0.0, self.recipe.jitter, shape)
        offset = np.zeros((shape[0], 1, shape[2]))
        some = self.noise.random((shape[0], 1, len(_BIASED))) < 0.4
        offset[:, :, _BIASED] = some * self.noise.uniform(-0.05, self.recipe.offset, some.shape)
        return np.asarray(noise + offset, np.float32)

    def run(self) -> ExpressionNet:
        recipe = self.recipe
        parameters = [*self.net.parameters(), *self.complement.parameters()]
        optimiser = torch.optim.AdamW(parameters, recipe.rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
        average = copy.deepcopy(self.net)
        for step in range(1, recipe.steps + 1):
            parts = self.loss()
            optimiser.zero_grad()
            torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), self.net.parameters(), strict=True):
                    slow.lerp_(fast, min(0.02, step / (step + 50)))
            if step % 250 == 0:
                print(f"step {step}:", {k: round(v.item(), 4) for k, v in parts.items()}, flush=True)
        return average.requires_grad_(False).eval()


def train_expression(examples: Examples, recipe: ExpressionRecipe) -> ExpressionNet:
    """Train one expression factor; frozen, weights averaged over the last steps."""
    return _Trainer(examples, recipe).run()
