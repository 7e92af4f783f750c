"""Trains the contrastive lip code of PD-FGC on a motion corpus.

    visavis train contrastive --corpus CORPUS

An audio network and a lip-motion network meet in one 500-d space: the code of a moment of sound must
be nearer to the lips of that moment than to those of 8 unsynchronised moments of the same take, and
the other way round (PD-FGC §3.2, eq. 2 and 3; negatives as in its supplement: the same clip only,
so that nothing but lips can tell). Tracked people teach real motion, phone-labelled voices the
variety of speakers.

Ablations (``--ablate``): ``scratch`` starts the audio network from random weights instead of the
phonetic encoder's first layers, ``other-clips`` takes negatives from other takes, ``labelled`` and
``real`` train without labelled voices or without tracked people.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.acoustic import load_acoustic
from engine.encoders.contrastive import CODE, LipCodeModel
from engine.encoders.mel_input import normalised_mel
from engine.samplers.visemes import spread_columns
from engine.train.corpus import Corpus, Take
from engine.train.lip_motion import LipMotionModel, describe_lips
from engine.train.provenance import commit
from engine.weights import save_weights

__all__ = [
    "ABLATIONS",
    "Recipe",
    "Spoken",
    "Trainer",
    "info_nce",
    "main",
    "pair_scores",
    "retrieval",
    "spoken_of",
]

Floats = NDArray[np.float32]

ABLATIONS = ("scratch", "other-clips", "labelled", "real")
NEGATIVES = 8
"""As published."""
_HOPS = 4
_EDGE = 2


@dataclass(frozen=True)
class Spoken:
    """One take: ``mel`` float16 [4 (T + 1), 64] normalised, a silent frame added as the last one's
    future; ``lips`` float32 [T, D] (NaN unknown)."""

    speaker: str
    mel: NDArray[np.float16]
    lips: Floats

    @property
    def frames(self) -> int:
        return len(self.lips)


@dataclass(frozen=True)
class Recipe:
    """What decides a run.

    ``apart``: frames that a moment must be away to count as unsynchronised; ``temperature`` divides
    the cosines (the paper uses them bare, which bounds the loss from below and learns slowly).
    """

    window: int = 70
    burn_in: int = 10
    batch: int = 20
    labelled_share: float = 0.4
    steps: int = 500
    check_every: int = 50
    rate: float = 1e-3
    warm_rate: float = 3e-4
    temperature: float = 0.1
    apart: int = 4
    noise: float = 0.05
    average: float = 0.98
    seed: int = 0


def spoken_of(take: Take) -> Spoken:
    """A take with what its lips did: tracked motion where a person was filmed, else the phones' lips."""
    padded = np.pad(take.audio[: 640 * take.frames], (0, 640))
    mel = normalised_mel(padded[None])[0].numpy().astype(np.float16)
    filmed = take.entry.kind in ("real", "copy")
    motion = take.motion if filmed else spread_columns(take.lips.astype(np.float64)).astype(np.float32)
    return Spoken(take.entry.speaker, mel, describe_lips(motion))


def info_nce(scores: Tensor, allowed: Tensor, anchors: Tensor, noise: torch.Generator) -> Tensor:
    """Cross-entropy of each anchor's own moment against 8 drawn from its row (PD-FGC eq. 2 or 3).

    ``scores`` [N, M]: cosine over temperature, the positive on the diagonal; ``allowed`` bool [N, M]
    which columns may be negatives; ``anchors`` bool [N] rows that count (those with any negative).
    """
    chance = torch.rand(scores.shape, generator=noise) * allowed
    drawn = chance.topk(NEGATIVES, dim=1).indices
    usable = anchors & (allowed.sum(1) >= NEGATIVES)
    chosen = torch.cat([scores.diagonal().unsqueeze(1), scores.gather(1, drawn)], dim=1)
    loss = torch.logsumexp(chosen, dim=1) - chosen[:, 0]
    return loss[usable].mean()


class Trainer:
    """Owns both networks and the random state of one run."""

    def __init__(self, train: list[Spoken], dev: list[Spoken], recipe: Recipe, ablate: str = "") -> None:
        self.recipe, self.ablate, self.dev = recipe, ablate, dev
        torch.manual_seed(recipe.seed)
        self.noise = np.random.default_rng(recipe.seed)
        self.draws = torch.Generator().manual_seed(recipe.seed)
        self.audio, self.lips = LipCodeModel(), LipMotionModel()
        if ablate != "scratch":
            warm_start(self.audio)
        everything = np.concatenate([item.lips for item in train[::3]])
        self.lips.deviation.copy_(torch.from_numpy(np.nanstd(everything, axis=0) + 0.01))
        self.filmed = _by_speaker([s for s in train if ":" not in s.speaker])
        self.labelled = _by_speaker([s for s in train if ":" in s.speaker])

    def batch(self) -> tuple[Tensor, Tensor]:
        """mel [B, 4 (W + 1), 64] and lips [B, W, D]; a speaker's chance is the root of its frames."""
        recipe, picked = self.recipe, []
        share = {"labelled": 0.0, "real": 1.0}.get(self.ablate, recipe.labelled_share)
        for _ in range(recipe.batch):
            speakers = self.labelled if self.noise.random() < share else self.filmed
            names = list(speakers)
            weights = np.sqrt([sum(s.frames for s in speakers[n]) for n in names])
            members = speakers[names[self.noise.choice(len(names), p=weights / weights.sum())]]
            picked.append(self._window(members[self.noise.integers(len(members))]))
        mel = torch.from_numpy(np.stack([m for m, _ in picked])).float()
        mel += recipe.noise * torch.randn(mel.shape) + 0.1 * torch.randn(len(mel), 1, mel.shape[-1])
        return mel, torch.from_numpy(np.stack([lips for _, lips in picked]))

    def _window(self, item: Spoken) -> tuple[NDArray[np.float16], Floats]:
        length = self.recipe.window
        start = int(self.noise.integers(0, max(1, item.frames - length + 1)))
        mel = item.mel[_HOPS * start : _HOPS * (start + length + 1)]
        lips = item.lips[start : start + length]
        short = length - len(lips)
        mel = np.pad(mel, ((0, _HOPS * (length + 1) - len(mel)), (0, 0)), mode="edge")
        return mel, np.pad(lips, ((0, short), (0, 0)), constant_values=np.nan)

    def loss(self, mel: Tensor, lips: Tensor) -> Tensor:
        """Both directions, over all moments of the batch after the burn-in."""
        recipe = self.recipe
        heard = self.audio(mel)[:, 1:][:, recipe.burn_in :]
        seen = self.lips(lips)[:, recipe.burn_in :]
        known = _trusted(lips)[:, recipe.burn_in :]
        rows, width = known.shape
        flat_a, flat_v, good = heard.flatten(0, 1), seen.flatten(0, 1), known.flatten()
        scores = flat_a @ flat_v.T / (CODE * recipe.temperature)
        take = torch.arange(rows).repeat_interleave(width)
        at = torch.arange(width).repeat(rows)
        same = take.unsqueeze(0) == take.unsqueeze(1)
        apart = (at.unsqueeze(0) - at.unsqueeze(1)).abs() >= recipe.apart
        allowed = ~same if self.ablate == "other-clips" else same & apart
        allowed = allowed & good.unsqueeze(0)
        both = (scores, scores.T)
        return torch.stack([info_nce(s, allowed, good, self.draws) for s in both]).mean()

    def run(self) -> dict[str, float]:
        """Train; both networks end as the average of weights that did best on ``dev``."""
        recipe = self.recipe
        warm = [p for n, p in self.audio.named_parameters() if not n.startswith(("code", "norm"))]
        fresh = [p for n, p in self.audio.named_parameters() if n.startswith(("code", "norm"))]
        fresh += list(self.lips.parameters())
        slow = recipe.rate if self.ablate == "scratch" else recipe.warm_rate
        groups = [{"params": warm, "lr": slow}, {"params": fresh, "lr": recipe.rate}]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [slow, recipe.rate], total_steps=recipe.steps, pct_start=0.1
        )
        mean = copy.deepcopy((self.audio, self.lips))
        best, found, kept = -1.0, {}, mean
        for step in range(1, recipe.steps + 1):
            self.audio.train(), self.lips.train()
            loss = self.loss(*self.batch())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_([*warm, *fresh], 1.0)
            optimiser.step()
            schedule.step()
            _average(mean, (self.audio, self.lips), min(recipe.average, step / (step + 10)))
            if step % recipe.check_every == 0 or step == recipe.steps:
                score = retrieval(*mean, self.dev)
                print(f"step {step}: loss {float(loss.detach()):.3f}  {_text(score)}", flush=True)
                overall = float(np.mean(list(score.values())))
                if overall > best:
                    best, found, kept = overall, score, copy.deepcopy(mean)
        self.audio, self.lips = kept
        return found


def warm_start(model: LipCodeModel) -> None:
    """Take the first layers of the shipped phonetic encoder: it has heard hundreds of people."""
    known = load_acoustic().state_dict()
    own = model.state_dict()
    for name in own:
        other = name.replace("gru.gru.", "gru_a.gru.")
        if not name.startswith("code") and other in known and known[other].shape == own[name].shape:
            own[name].copy_(known[other])


def _trusted(lips: Tensor) -> Tensor:
    """Frames [B, T] whose five-frame window was wholly seen."""
    unknown = lips.isnan().any(-1).float().unsqueeze(1)
    return nn.functional.max_pool1d(unknown, 2 * _EDGE + 1, stride=1, padding=_EDGE)[:, 0] == 0


def _average(mean: tuple[nn.Module, nn.Module], now: tuple[nn.Module, nn.Module], keep: float) -> None:
    for old, new in zip(mean, now, strict=True):
        for a, b in zip(old.state_dict().values(), new.state_dict().values(), strict=True):
            a.lerp_(b, 1.0 - keep) if a.is_floating_point() else a.copy_(b)


def _by_speaker(items: list[Spoken]) -> dict[str, list[Spoken]]:
    groups: dict[str, list[Spoken]] = defaultdict(list)
    for item in items:
        groups[item.speaker].append(item)
    return dict(groups)


def _text(score: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in score.items())


def pair_scores(audio: LipCodeModel, lips: LipMotionModel, item: Spoken) -> tuple[Floats, NDArray[np.bool_]]:
    """Cosine of every moment's sound with every moment's lips [T, T], and which lips were seen."""
    with torch.no_grad():
        heard = audio.eval()(torch.from_numpy(item.mel.astype(np.float32))[None])[0, 1:]
        shown = torch.from_numpy(item.lips)[None]
        seen, known = lips.eval()(shown)[0], _trusted(shown)[0]
    return (heard @ seen.T / CODE).numpy(), known.numpy()


def _over_time(scores: Floats, frames: int) -> Floats:
    """Mean along diagonals over ``frames``: two stretches of that length compared in step."""
    count = len(scores) - frames + 1
    total = np.zeros((count, count), np.float64)
    for k in range(frames):
        total += scores[k : k + count, k : k + count]
    return (total / frames).astype(np.float32)


def _hits(scores: Floats, known: NDArray[np.bool_], apart: int, noise: np.random.Generator) -> list[bool]:
    """Is the synchronised moment the best of 9? One draw of 8 negatives for every usable row."""
    found, at = [], np.arange(len(scores))
    for row in np.flatnonzero(known):
        others = np.flatnonzero(known & (np.abs(at - row) >= apart))
        if len(others) >= NEGATIVES:
            drawn = noise.choice(others, NEGATIVES, replace=False)
            found.append(bool(scores[row, row] > scores[row, drawn].max()))
    return found


def retrieval(audio: LipCodeModel, lips: LipMotionModel, items: list[Spoken]) -> dict[str, float]:
    """Share of moments whose own lips (or sound) score best among 9 of the same take; chance is 1/9.

    For single frames (five of lips) and for stretches of one second; negatives are at least ten frames
    away. Mean of the takes, so that a long one does not outvote the others.
    """
    noise = np.random.default_rng(0)
    shares: dict[str, list[float]] = defaultdict(list)
    for item in items:
        plain, known = pair_scores(audio, lips, item)
        for name, frames in (("frame", 1), ("1s", 25)):
            if item.frames < frames + 20:
                continue
            scores = _over_time(plain, frames)
            whole = np.array([known[k : k + frames].all() for k in range(len(scores))])
            for direction, matrix in (("audio_to_lips", scores), ("lips_to_audio", scores.T)):
                hits = _hits(matrix, whole, 10, noise)
                if hits:
                    shares[f"{direction}_{name}"].append(float(np.mean(hits)))
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(shares.items())}


def read(corpus: Corpus, split: str, *kinds: str) -> list[Spoken]:
    """Takes of a split as this trainer needs them."""
    return [spoken_of(corpus.take(entry)) for entry in corpus.select(split, *kinds)]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="visavis train contrastive", description="Train the lip code.")
    parser.add_argument("--corpus", type=Path, required=True, help="what visavis train data wrote")
    parser.add_argument(
        "--out", default="contrastive", help="weights to write: a name or a .safetensors file"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--ablate", choices=ABLATIONS, default="")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    began = time.monotonic()
    corpus = Corpus(args.corpus)
    train, dev = read(corpus, "train"), read(corpus, "dev", "real")
    print(f"{len(train)} takes read in {time.monotonic() - began:.0f} s", flush=True)
    trainer = Trainer(train, dev, replace(Recipe(), steps=args.steps, seed=args.seed), args.ablate)
    score = trainer.run()
    seconds = round(time.monotonic() - began)
    print(f"best on dev: {_text(score)}; {seconds} s")
    save(args.out, trainer, score, seconds)
    return 0


def save(name: str, trainer: Trainer, score: dict[str, float], seconds: int) -> None:
    """Both networks as float16 under ``audio.`` and ``lips.``, with where they come from."""
    tensors = {f"audio.{k}": v.half() for k, v in trainer.audio.state_dict().items()}
    tensors |= {f"lips.{k}": v.half() for k, v in trainer.lips.state_dict().items()}
    about = {"seed": trainer.recipe.seed, "commit": commit(), "dev": score, "ablate": trainer.ablate}
    path = save_weights(name, tensors, about | {"steps": trainer.recipe.steps, "seconds": seconds})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
