"""What every family's lips are trained with: targets, losses, choice of the epoch, calibration.

Real clips teach opening and width: correlation, the ratio of deviations (regression alone would
shrink the motion), absolute error and velocity. The phonetic prior teaches the shape: seals,
lip-to-teeth, rounding, spreading, tongue. The epoch is chosen on the ``dev`` clips.

A lips network is a module with ``columns`` (LongTensor of the feature columns it reads), ``mean`` and
``deviation`` (float32, of these columns), ``range`` (:class:`~engine.samplers.lips.LipRange`) and
``logits(x [B, T, F]) -> [B, T, C]``.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.samplers.lips import LipRange
from engine.samplers.visemes import LIP_CHANNELS, LIP_COLUMNS
from engine.train.corpus import Corpus, Features, Take
from engine.train.lip_features import Sequence, warped
from engine.train.lip_targets import geometry, opening_from, scale_opening, width_from
from engine.train.motion_data import best_correlation

__all__ = [
    "Batch",
    "Extra",
    "LipData",
    "LipModule",
    "LipTrainer",
    "Recipe",
    "calibrate",
    "evaluate",
    "restore_shapes",
    "sharpen_seal",
    "stretch_opening",
]

Floats = NDArray[np.float32]

FALSE_SEAL = 0.12
"""Mean seal allowed on frames of phone-labelled speech whose phones seal nothing."""

TRACKED_SHAPES = ("mouthPucker", "mouthStretch")
"""Of :data:`SHAPES`, those a tracker sees: their range is the geometric mean of the prior's and of people's,
for the prior overdraws them by a factor of two and a tracker of landmarks flattens them."""

SHAPES = ("mouthPucker", "mouthSmile", "mouthStretch", "lowerLipIn", "tongueUp", "tongueBack")
"""Channels whose range the phonetic prior restores; those that part the lips follow real mouths."""

_NOTHING = np.zeros((1, len(LIP_CHANNELS)), np.float32)

# How much the prior's word counts, by channel; opening channels mostly learn from real mouths.
_PRIOR_WEIGHT = {
    "jawOpen": 0.4, "mouthLowerDown": 0.6, "mouthUpperUp": 0.6, "mouthClose": 0.3, "mouthFunnel": 1.0,
    "mouthPucker": 1.0, "mouthSmile": 0.8, "mouthStretch": 0.8, "mouthRollLower": 0.4, "mouthRollUpper": 0.4,
    "mouthPress": 0.5, "lipsSealed": 2.0, "lowerLipIn": 1.5, "tongueUp": 0.6, "tongueBack": 0.6,
}  # fmt: skip


class LipModule(Protocol):
    """What :class:`LipTrainer` needs of a network (an ``nn.Module``)."""

    columns: Tensor
    mean: Tensor
    deviation: Tensor
    range: LipRange

    def logits(self, x: Tensor) -> Tensor:
        """[B, T, F] to [B, T, C], whole windows."""
        ...


N = TypeVar("N", bound=LipModule)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    ``delay_frames``: targets are taken that much later than the sound, for the mouth anticipates
    more than the look-ahead shows.
    """

    window: int = 75
    burn_in: int = 10
    batch: int = 32
    labelled_share: float = 0.5
    steps: int = 600
    check_every: int = 100
    rate: float = 2e-3
    decay: float = 0.03
    dropout: float = 0.15
    noise: float = 0.1
    w_corr: float = 1.0
    w_ratio: float = 0.15
    w_error: float = 0.6
    w_velocity: float = 0.3
    w_width: float = 0.15
    w_prior: float = 1.5
    delay_frames: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """``x`` [B, T, F], ``prior`` [B, T, C], ``opening`` and ``width`` [B, T] (NaN unknown),
    ``fresh`` [B]: the window starts where its sequence does."""

    x: Tensor
    prior: Tensor
    opening: Tensor
    width: Tensor
    fresh: Tensor


@dataclass(frozen=True)
class LipData:
    """Sequences to train on: people (``real``), phone-labelled voices (``labelled``), and ``dev``."""

    real: list[Sequence]
    labelled: list[Sequence]
    dev: list[Sequence]
    people: dict[str, float] = field(default_factory=dict)
    """Deviation of each of :data:`TRACKED_SHAPES` in people's speech, mean over speakers of train and dev."""

    @staticmethod
    def read(corpus: Corpus, features: Features, delay_frames: float = Recipe.delay_frames) -> LipData:
        """From a corpus, with the features of one encoder (computed where they are not cached)."""

        def read(split: str, delay: float, *kinds: str) -> list[Sequence]:
            return [
                _sequence(take, features(take), delay)
                for take in (corpus.take(entry) for entry in corpus.select(split, *kinds))
            ]

        return LipData(
            read("train", delay_frames, "real", "copy"),
            read("train", delay_frames, "labelled", "synthetic"),
            read("dev", 0.0, "real"),
            _people(corpus),
        )


def _people(corpus: Corpus) -> dict[str, float]:
    """Deviation of the tracked shapes over the frames in which each person speaks."""
    spoken: dict[str, list[Floats]] = defaultdict(list)
    for split in ("train", "dev"):
        for entry in corpus.select(split, "real"):
            take = corpus.take(entry)
            shapes = [
                take.motion[:, list(LIP_COLUMNS[LIP_CHANNELS.index(n)])].mean(1) for n in TRACKED_SHAPES
            ]
            values = np.stack(shapes, axis=1)
            known = np.isfinite(values).all(axis=1) & np.isfinite(take.opening)
            spoken[entry.speaker].append(values[known])
    deviations = [np.concatenate(v).std(axis=0) for v in spoken.values() if sum(map(len, v)) > 50]
    if not deviations:
        return {}
    return dict(zip(TRACKED_SHAPES, (float(d) for d in np.mean(deviations, axis=0)), strict=True))


def _sequence(take: Take, features: Floats, delay: float) -> Sequence:
    frames = min(len(features), take.frames)
    targets = (warped(v, 1.0, frames, delay) for v in (take.lips, take.opening, take.width))
    lips, opening, width = targets
    return Sequence(take.entry.speaker, features[:frames], lips, opening, width)


Extra = Callable[[Tensor, "Batch"], Tensor]
"""A family's own loss: (channels [B, T, C], batch) to a scalar, added to the shared ones."""


class LipTrainer:
    """Owns the data and the random state of one run; ``net`` is trained in place."""

    def __init__(self, net: N, data: LipData, recipe: Recipe | None = None, extra: Extra | None = None):
        self.recipe = recipe = recipe or Recipe()
        self.noise = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.net, self.extra, self.data = net, extra, data
        self.real = _by_speaker(data.real)
        self.labelled = _by_speaker(data.labelled)
        columns = net.columns.numpy()
        everything = np.concatenate([s.features[:, columns] for s in data.real + data.labelled])
        net.mean.copy_(torch.from_numpy(everything.mean(axis=0)))
        net.deviation.copy_(torch.from_numpy(everything.std(axis=0) + 0.05))
        self.opening_unit, self.width_unit = geometry()
        net.range.opening_unit.copy_(self.opening_unit)
        self.prior_weight = torch.tensor([_PRIOR_WEIGHT[name] for name in LIP_CHANNELS])

    def batch(self) -> Batch:
        """Windows of random speakers: a speaker's chance is the square root of its frames."""
        recipe = self.recipe
        picked = []
        for _ in range(recipe.batch):
            labelled = self.labelled and self.noise.random() < recipe.labelled_share
            picked.append(self._window(self.labelled if labelled else self.real))
        columns = [torch.from_numpy(np.stack(part)) for part in zip(*picked, strict=True)]
        x, prior, opening, width, fresh = columns
        scale = torch.zeros(x.shape[-1])
        scale[self.net.columns] = recipe.noise * self.net.deviation
        x = x + scale * torch.randn(x.shape)
        return Batch(x, prior, opening, width, fresh)

    def _window(self, speakers: dict[str, list[Sequence]]) -> tuple[NDArray[np.generic], ...]:
        names = list(speakers)
        weights = np.sqrt([sum(len(s.features) for s in speakers[n]) for n in names])
        members = speakers[names[self.noise.choice(len(names), p=weights / weights.sum())]]
        item = members[self.noise.integers(len(members))]
        length = self.recipe.window
        start = int(self.noise.integers(0, max(1, len(item.features) - length + 1)))
        pad = max(0, length - len(item.features))

        def cut(values: Floats) -> Floats:
            part = values[start : start + length]
            return np.pad(part, [(0, pad)] + [(0, 0)] * (values.ndim - 1), mode="edge")

        columns = (item.features, item.channels, item.opening, item.width)
        return (*(cut(values) for values in columns), np.array(start == 0))

    def loss(self, batch: Batch) -> Tensor:
        recipe = self.recipe
        x = batch.x.clone()
        mean = self.net.mean
        kept = nn.functional.dropout(x[..., self.net.columns] - mean, recipe.dropout)
        x[..., self.net.columns] = kept + mean
        channels = self.net.range(self.net.logits(x))
        counts = torch.ones(batch.opening.shape, dtype=torch.bool)
        counts[:, : recipe.burn_in] &= batch.fresh[:, None]
        total = recipe.w_prior * self._prior_loss(channels, batch, counts)
        seen = torch.isfinite(batch.opening) & counts
        rows = seen.sum(1) > recipe.window // 2
        if rows.any():
            made = opening_from(channels, self.opening_unit)[rows]
            total = total + self._opening_loss(made, batch.opening[rows], seen[rows])
        rows = (torch.isfinite(batch.width) & counts).sum(1) > recipe.window // 2
        if rows.any():
            wide = width_from(channels, self.width_unit)[rows]
            total = total + recipe.w_width * (1 - _correlation(wide, batch.width[rows], seen[rows])).mean()
        return total if self.extra is None else total + self.extra(channels, batch)

    def _prior_loss(self, channels: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """Squared error on every channel; where a real opening is known the prior's opening
        channels are scaled to it first."""
        prior = batch.prior.clone()
        scale_opening(prior, batch.opening, self.opening_unit)
        weight = self.prior_weight.expand_as(channels).clone()
        # Posteriors blur a closure; where a real mouth is seen, its opening says when it is shut.
        real = torch.isfinite(batch.width).any(dim=1)
        weight[real, :, LIP_CHANNELS.index("lipsSealed")] = 0.0
        return ((channels - prior).square() * weight)[counts].sum(-1).mean()

    def _opening_loss(self, made: Tensor, real: Tensor, seen: Tensor) -> Tensor:
        recipe, unit = self.recipe, 0.05
        real = torch.where(seen, real, made.detach())
        ratio = torch.log(_deviation(made, seen) + 1e-3) - torch.log(_deviation(real, seen) + 1e-3)
        pair = seen[:, 1:] & seen[:, :-1]
        velocity = ((made.diff(dim=1) - real.diff(dim=1)) / unit).abs()[pair].mean()
        return (
            recipe.w_corr * (1 - _correlation(made, real, seen)).mean()
            + recipe.w_ratio * ratio.square().clamp(max=4.0).mean()
            + recipe.w_error * ((made - real) / unit).abs()[seen].mean()
            + recipe.w_velocity * velocity
        )

    def run(self) -> dict[str, float]:
        """Train; the network is left with the averaged weights that did best on ``dev``; its scores."""
        recipe, module = self.recipe, cast(nn.Module, self.net)
        optimiser = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
        average = copy.deepcopy(module)
        best, scores = copy.deepcopy(module.state_dict()), {"r": -1.0}
        module.train()
        for step in range(1, recipe.steps + 1):
            loss = self.loss(self.batch())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), module.parameters(), strict=True):
                    slow.lerp_(fast, min(0.02, step / (step + 50)))
            if step % recipe.check_every == 0:
                now = evaluate(cast(LipModule, average), self.data.dev)
                print(f"step {step}: loss {loss.item():.3f}, dev {now}", flush=True)
                if now["r"] > scores["r"]:
                    best, scores = copy.deepcopy(average.state_dict()), now
        module.load_state_dict(best)
        return scores


def calibrate(net: LipModule, data: LipData, shut: float | None = None) -> dict[str, float]:
    """Restore the ranges of a trained network on ``data`` (:class:`~engine.samplers.lips.LipRange`);
    ``shut`` as in :func:`stretch_opening`. Returns its scores on ``dev``, whose speakers are unseen, as
    every user is."""
    if data.labelled:
        restore_shapes(net, data.labelled, data.people)
    low, high = sharpen_seal(net, data.labelled, data.dev)
    ratio, shift = stretch_opening(net, data.dev, shut)
    print(f"seal {low:.2f}..{high:.2f} becomes 0..1", flush=True)
    print(f"opening stretched by {ratio:.2f}, less {shift:.3f}", flush=True)
    return evaluate(net, data.dev)


def channels_of(net: LipModule, features: Floats) -> Floats:
    """Channels [T, C] of one sequence's features [T, F]."""
    module = cast(nn.Module, net)
    training = module.training
    module.eval()
    with torch.no_grad():
        made = net.range(net.logits(torch.from_numpy(features)[None]))[0]
    module.train(training)
    return np.asarray(made.numpy(), np.float32)


def evaluate(net: LipModule, sequences: list[Sequence]) -> dict[str, float]:
    """Mean correlation of opening (best lag within ±80 ms), median amplitude ratio, seals."""
    unit, _ = geometry()
    found = []
    for item in sequences:
        made = opening_from(torch.from_numpy(channels_of(net, item.features)), unit).numpy()
        r = best_correlation(made, item.opening)
        both = np.isfinite(item.opening)
        found.append((r, made[both].std() / max(float(item.opening[both].std()), 1e-6)))
    r, ratio = np.array(found).T
    return {"r": round(float(r.mean()), 4), "amplitude": round(float(np.median(ratio)), 3)}


def restore_shapes(
    net: LipModule, sequences: list[Sequence], people: Mapping[str, float] | None = None
) -> None:
    """Set gain and bias of the shape channels so that their mean and deviation are the prior's on
    ``sequences``, drawn towards ``people``'s deviation where that is known; gains of more than 2 would
    mostly raise noise."""
    made, prior = _raw_channels(net, sequences)
    for name in SHAPES:
        k = LIP_CHANNELS.index(name)
        wanted = float(prior[:, k].std())
        share = (people[name] / max(wanted, 1e-6)) ** 0.5 if people and name in people else 1.0
        least = 1.0 if share == 1.0 else 0.4
        gain = float(np.clip(share * wanted / max(float(made[:, k].std()), 1e-6), least, 2.0))
        net.range.gain[k] = gain
        net.range.bias[k] = share * float(prior[:, k].mean()) - gain * float(made[:, k].mean())


def sharpen_seal(net: LipModule, labelled: list[Sequence], dev: list[Sequence]) -> tuple[float, float]:
    """Choose the range (low, high) of the raw seal that becomes 0..1.

    Squared error leaves a closure half believed; lips are shut or they are not. Of the ranges that
    leave lips alone where nothing is sealed (:data:`FALSE_SEAL`), the one that follows the dev mouths best.
    """
    seal = LIP_CHANNELS.index("lipsSealed")
    best, chosen = -1.0, (0.0, 1.0)
    made, prior = _raw_channels(net, labelled) if labelled else (_NOTHING, _NOTHING + 1.0)
    free = made[prior[:, seal] < 0.1, seal]
    for low in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
        for span in (0.2, 0.3, 0.45, 0.7, 1.0):
            if free.size and np.clip((free - low) / span, 0.0, 1.0).mean() > FALSE_SEAL:
                continue
            net.range.gain[seal], net.range.bias[seal] = 1.0 / span, -low / span
            r = evaluate(net, dev)["r"]
            if r > best:
                best, chosen = r, (low, low + span)
    low, high = chosen
    net.range.gain[seal], net.range.bias[seal] = 1.0 / (high - low), -low / (high - low)
    return chosen


def _raw_channels(net: LipModule, sequences: list[Sequence]) -> tuple[Floats, Floats]:
    """The network's channels before any range is restored, and the prior's: [N, C] each."""
    cast(nn.Module, net).eval()
    with torch.no_grad():
        made = [torch.sigmoid(net.logits(torch.from_numpy(s.features)[None]))[0].numpy() for s in sequences]
    return np.concatenate(made), np.concatenate([s.channels for s in sequences])


def stretch_opening(
    net: LipModule, sequences: list[Sequence], shut: float | None = None
) -> tuple[float, float]:
    """Set the stretch (ratio, shift) so that the opening's mean and deviation are those of real mouths.

    Openings under ``shut`` (inter-ocular distances) are taken for shut lips, whatever that does to the
    mean: what the network half believes closed becomes closed. None keeps the mean.

    Real clips only, speakers alike: the deviation each shows on its own clips, then the mean. What
    seals and shut lips take away is given back: the median clip moves as far as its person.
    """
    unit, _ = geometry()
    found = []
    for members in _by_speaker(sequences).values():
        made, real = [], []
        for item in members:
            opening = opening_from(torch.from_numpy(channels_of(net, item.features)), unit).numpy()
            seen = np.isfinite(item.opening)
            made.append(opening[seen])
            real.append(item.opening[seen])
        a, b = np.concatenate(made), np.concatenate(real)
        found.append((b.std() / max(float(a.std()), 1e-6), a.mean(), b.mean()))
    ratio, made_mean, real_mean = (float(v) for v in np.mean(found, axis=0))
    for _ in range(4):
        shift = max(0.0, ratio * made_mean - real_mean) if shut is None else ratio * shut
        net.range.stretch.copy_(torch.tensor([ratio, shift]))
        ratio *= float(np.clip(1.0 / max(evaluate(net, sequences)["amplitude"], 1e-6), 0.8, 1.25))
    return float(net.range.stretch[0]), float(net.range.stretch[1])


def _by_speaker(sequences: list[Sequence]) -> dict[str, list[Sequence]]:
    speakers: dict[str, list[Sequence]] = defaultdict(list)
    for item in sequences:
        speakers[item.speaker].append(item)
    return dict(speakers)


def _deviation(values: Tensor, seen: Tensor) -> Tensor:
    """Standard deviation of each row over the frames that are seen, [B]."""
    weight = seen.float() / seen.sum(1, keepdim=True)
    mean = (values.nan_to_num() * weight).sum(1, keepdim=True)
    spread: Tensor = ((values.nan_to_num() - mean).square() * weight).sum(1).clamp(min=1e-10).sqrt()
    return spread


def _correlation(a: Tensor, b: Tensor, seen: Tensor) -> Tensor:
    """Pearson correlation of each row over the frames that are seen, [B]."""
    weight = seen.float() / seen.sum(1, keepdim=True)
    a, b = a.nan_to_num(), b.nan_to_num()
    da = a - (a * weight).sum(1, keepdim=True)
    db = b - (b * weight).sum(1, keepdim=True)
    return (da * db * weight).sum(1) / (_deviation(a, seen) * _deviation(b, seen) + 1e-6)
