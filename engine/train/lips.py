"""Trains the lips network: audio features to lip channels.

    python -m engine.train.tracks --data DIR --out TRACKS
    python -m engine.train.speech_data --data DIR/speech/corpora --out SPEECH
    python -m engine.train.lips --data DIR --tracks TRACKS --speech SPEECH

Real clips (``split=train,use=train``) teach opening and width: correlation, the ratio of deviations
(regression alone would shrink the motion), absolute error and velocity. The phonetic prior teaches
the shape: seals, lip-to-teeth, rounding, spreading, tongue. The epoch is chosen on the ``dev``
clips; ``test`` clips are never read. Writes ``engine/assets/speech_motion.safetensors``.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.ppg import FEATURES
from engine.errors import InputError
from engine.samplers.lips import LipNet, LipNetConfig
from engine.samplers.visemes import LIP_CHANNELS
from engine.train.articulation import Articulation, fit_articulation
from engine.train.lip_features import (
    FeatureCache,
    Person,
    Sequence,
    clip_sequences,
    labelled_sequences,
    people,
)
from engine.train.lip_targets import geometry, opening_from, scale_opening, width_from
from engine.train.motion_data import best_correlation, clip_items, load_clip
from engine.weights import save_weights

__all__ = ["Recipe", "Trainer", "main"]

Floats = NDArray[np.float32]

# Copies of each real clip besides the clean one: few minutes of a person need more of them.
COPIES = {"obama": 6, "reagan": 8, "grid_s1": 1}
LEAST_AGREEMENT = 0.25
"""A clip whose mouth follows the phonetic prior less than this is not trained on."""

FALSE_SEAL = 0.12
"""Mean seal allowed on frames of phone-labelled speech whose phones seal nothing."""

SHAPES = ("mouthPucker", "mouthSmile", "mouthStretch", "lowerLipIn", "tongueUp", "tongueBack")
"""Channels whose range the phonetic prior restores; those that part the lips follow real mouths."""

_NOTHING = np.zeros((1, len(LIP_CHANNELS)), np.float32)

# How much the prior's word counts, by channel; opening channels mostly learn from real mouths.
_PRIOR_WEIGHT = {
    "jawOpen": 0.4, "mouthLowerDown": 0.6, "mouthUpperUp": 0.6, "mouthClose": 0.3, "mouthFunnel": 1.0,
    "mouthPucker": 1.0, "mouthSmile": 0.8, "mouthStretch": 0.8, "mouthRollLower": 0.4, "mouthRollUpper": 0.4,
    "mouthPress": 0.5, "lipsSealed": 2.0, "lowerLipIn": 1.5, "tongueUp": 0.6, "tongueBack": 0.6,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    ``inputs`` are beginnings of feature names: on unseen speakers the posteriors alone do better than
    with spectrum and hidden code, which tell one training speaker from another.
    """

    inputs: tuple[str, ...] = ("phone", "level", "loudness", "snr", "tilt", "voic", "vad")
    hidden: int = 64
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
    trust: float = 0.7
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


class Trainer:
    """Owns the network, the data and the random state of one run."""

    def __init__(self, recipe: Recipe, real: list[Sequence], labelled: list[Sequence]) -> None:
        self.recipe = recipe
        self.noise = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        columns = [k for k, name in enumerate(FEATURES) if name.startswith(recipe.inputs)]
        self.net = LipNet(LipNetConfig(features=len(columns), hidden=recipe.hidden))
        self.net.columns.copy_(torch.tensor(columns))
        self.real = _by_speaker(real)
        self.labelled = _by_speaker(labelled)
        everything = np.concatenate([s.features[:, columns] for s in real + labelled])
        self.net.mean.copy_(torch.from_numpy(everything.mean(axis=0)))
        self.net.deviation.copy_(torch.from_numpy(everything.std(axis=0) + 0.05))
        self.opening_unit, self.width_unit = geometry()
        self.net.opening_unit.copy_(self.opening_unit)
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
        channels, _ = self.net(x, self.net.init_hidden(len(x)))
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
        return total

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

    def run(self, dev: list[Sequence]) -> tuple[LipNet, dict[str, float]]:
        """Train; keep an exponential average of the weights; return the best one on ``dev``."""
        recipe = self.recipe
        optimiser = torch.optim.AdamW(self.net.parameters(), recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
        average = copy.deepcopy(self.net)
        best, scores = copy.deepcopy(average), {"r": -1.0}
        for step in range(1, recipe.steps + 1):
            loss = self.loss(self.batch())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), self.net.parameters(), strict=True):
                    slow.lerp_(fast, min(0.02, step / (step + 50)))
            if step % recipe.check_every == 0:
                now = evaluate(average, dev)
                print(f"step {step}: loss {loss.item():.3f}, dev {now}", flush=True)
                if now["r"] > scores["r"]:
                    best, scores = copy.deepcopy(average), now
        return best, scores


def evaluate(net: LipNet, sequences: list[Sequence]) -> dict[str, float]:
    """Mean correlation of opening (best lag within ±80 ms), median amplitude ratio, seals."""
    unit, _ = geometry()
    found = []
    net.eval()
    with torch.no_grad():
        for item in sequences:
            channels, _ = net(torch.from_numpy(item.features)[None], net.init_hidden(1))
            made = opening_from(channels, unit)[0].numpy()
            r = best_correlation(made, item.opening)
            both = np.isfinite(item.opening)
            found.append((r, made[both].std() / max(float(item.opening[both].std()), 1e-6)))
    net.train()
    r, ratio = np.array(found).T
    return {"r": round(float(r.mean()), 4), "amplitude": round(float(np.median(ratio)), 3)}


def restore_shapes(net: LipNet, sequences: list[Sequence]) -> None:
    """Set ``net.gain`` and ``net.bias`` of the shape channels so that their mean and deviation are the
    prior's on ``sequences``; gains of more than 2 would mostly raise noise."""
    made, prior = _raw_channels(net, sequences)
    for name in SHAPES:
        k = LIP_CHANNELS.index(name)
        gain = float(np.clip(prior[:, k].std() / max(float(made[:, k].std()), 1e-6), 1.0, 2.0))
        net.gain[k] = gain
        net.bias[k] = float(prior[:, k].mean()) - gain * float(made[:, k].mean())


def sharpen_seal(net: LipNet, labelled: list[Sequence], dev: list[Sequence]) -> tuple[float, float]:
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
            net.gain[seal], net.bias[seal] = 1.0 / span, -low / span
            r = evaluate(net, dev)["r"]
            if r > best:
                best, chosen = r, (low, low + span)
    low, high = chosen
    net.gain[seal], net.bias[seal] = 1.0 / (high - low), -low / (high - low)
    return chosen


def _raw_channels(net: LipNet, sequences: list[Sequence]) -> tuple[Floats, Floats]:
    """The network's channels before any range is restored, and the prior's: [N, C] each."""
    with torch.no_grad():
        made = [
            torch.sigmoid(net.logits(torch.from_numpy(s.features)[None], net.init_hidden(1))[0])[0].numpy()
            for s in sequences
        ]
    return np.concatenate(made), np.concatenate([s.channels for s in sequences])


def stretch_opening(net: LipNet, sequences: list[Sequence]) -> tuple[float, float]:
    """Set ``net.stretch`` so that the opening's mean and deviation are those of real mouths.

    Real clips only, speakers alike: the deviation each shows on its own clips, then the mean.
    """
    unit, _ = geometry()
    found = []
    net.eval()
    with torch.no_grad():
        for members in _by_speaker(sequences).values():
            made, real = [], []
            for item in members:
                opening = opening_from(
                    net(torch.from_numpy(item.features)[None], net.init_hidden(1))[0], unit
                )
                seen = np.isfinite(item.opening)
                made.append(opening[0].numpy()[seen])
                real.append(item.opening[seen])
            a, b = np.concatenate(made), np.concatenate(real)
            found.append((b.std() / max(float(a.std()), 1e-6), a.mean(), b.mean()))
    ratio, made_mean, real_mean = (float(v) for v in np.mean(found, axis=0))
    shift = max(0.0, ratio * made_mean - real_mean)
    net.stretch.copy_(torch.tensor([ratio, shift]))
    return ratio, shift


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


def _read(args: argparse.Namespace, recipe: Recipe) -> tuple[list[Sequence], list[Sequence], list[Sequence]]:
    """(real training sequences, labelled ones, dev ones)."""
    cache, delay = FeatureCache(args.tracks), recipe.delay_frames
    items = [item for item in clip_items(args.data) if item.trains or item.split == "dev"]
    clips = [clip for clip in (load_clip(item, args.tracks) for item in items) if clip is not None]
    training = people([clip for clip in clips if clip.item.trains])
    held_out = people([clip for clip in clips if not clip.item.trains])
    if not training:
        raise InputError(f"no tracked clip in {args.tracks}; run python -m engine.train.tracks first")
    training = [person for person in training if _belongs(person, cache)]
    spoken = [person.spoken(clip, cache) for person in training for clip in person.clips]
    model = fit_articulation(spoken, seed=recipe.seed)
    real = list(clip_sequences(training, cache, model, COPIES, delay, recipe.trust))
    dev = list(clip_sequences(held_out, cache, model, {}))
    labelled = (
        list(labelled_sequences(args.speech, cache, model, args.utterances, delay)) if args.speech else []
    )
    followed = [
        best_correlation(model.opening(s.posteriors), s.opening)
        for s in (person.spoken(clip, cache) for person in held_out for clip in person.clips)
    ]
    print(f"articulation with the whole future: dev r {np.mean(followed):.4f}", flush=True)
    return real, labelled, dev


def _belongs(person: Person, cache: FeatureCache) -> bool:
    """Does the sound belong to that mouth at all? Dubbed or badly cut clips would only teach noise."""
    model = Articulation()
    spoken = [person.spoken(clip, cache) for clip in person.clips[:20]]
    r = float(np.mean([best_correlation(model.opening(s.posteriors), s.opening) for s in spoken]))
    if r < LEAST_AGREEMENT:
        print(f"left out: {person.clips[0].item.name}, mouth and sound agree by r = {r:.2f} only", flush=True)
    return r >= LEAST_AGREEMENT


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the lips network of the speech sampler.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument("--tracks", type=Path, required=True, help="what engine.train.tracks wrote")
    parser.add_argument("--speech", type=Path, default=None, help="what engine.train.speech_data wrote")
    parser.add_argument("--utterances", type=int, default=500, help="labelled utterances to use")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--out", default="speech_motion", help="weight name or .safetensors path")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(steps=args.steps)
    real, labelled, dev = _read(args, recipe)
    net, scores = Trainer(recipe, real, labelled).run(dev)
    # The dev speakers are unseen ones, as every user is: on them the network shrinks most.
    if labelled:
        restore_shapes(net, labelled)
    low, high = sharpen_seal(net, labelled, dev)
    ratio, shift = stretch_opening(net, dev)
    print(f"seal {low:.2f}..{high:.2f} becomes 0..1", flush=True)
    print(f"opening stretched by {ratio:.2f}, less {shift:.3f}", flush=True)
    scores = evaluate(net, dev)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    metadata: dict[str, object] = {
        "features": ",".join(FEATURES),
        "channels": ",".join(LIP_CHANNELS),
        "recipe": asdict(recipe),
        "sequences": {"real": len(real), "labelled": len(labelled), "dev": len(dev)},
        "dev": scores,
        "commit": commit.stdout.strip(),
        "licence": "MIT",
    }
    path = save_weights(args.out, net.state_dict(), metadata)
    print(f"{path}: dev {scores}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
