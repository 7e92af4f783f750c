"""Trains GoHD's stage 2: eyes and brows over time, adversarially, and the chance of a blink.

Losses as in the paper (eq. 25): L1 and SSIM over the sequences of the eye feature, and least-squares
adversarial ones from three critics: convolutions over patches of the eye feature and of the decoded
upper face, and a transformer that also hears the voice. With minutes, not hours, of people the critics
soon win; spread and speed of the sequences are therefore also matched outright (``spread``). Blinks
are learned apart, by likelihood of their onsets in tracked people: averaged over what might happen, a
lid would only ever half close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.samplers.factors import UPPER
from engine.samplers.gohd.eyes import NOISES, Z_RATES_HZ, EyeStage
from engine.samplers.gohd.lips import EYE_FEATURES, LipStage, ahead
from engine.samplers.gohd.networks import PROFILE_RATE, REFRACTORY_S
from engine.train.gohd_data import Person, blink_onsets

__all__ = [
    "EyeRecipe",
    "blink_profile",
    "heard_by",
    "restore_upper",
    "sequence_ssim",
    "train_blinks",
    "train_eyes",
    "wandering",
]

Floats = NDArray[np.float32]
_DT = 0.04


@dataclass(frozen=True)
class EyeRecipe:
    """Weights of the losses and sizes of a run; a weight of 0 is that ablation."""

    steps: int = 300
    batch: int = 16
    length: int = 150
    rate: float = 2e-3
    critic_rate: float = 4e-4
    l1: float = 0.5
    ssim: float = 0.5
    coefficients: float = 0.25
    adversarial: float = 0.25
    spread: float = 2.0
    seed: int = 0


class _PatchCritic(nn.Sequential):
    """[B, T, C] to a score of every patch of about a second."""

    def __init__(self, inputs: int) -> None:
        super().__init__(
            nn.Conv1d(2 * inputs, 48, 4, stride=2), nn.LeakyReLU(0.2),
            nn.Conv1d(48, 64, 4, stride=2), nn.LeakyReLU(0.2),
            nn.Conv1d(64, 64, 4, stride=2), nn.LeakyReLU(0.2),
            nn.Conv1d(64, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        change = torch.cat([torch.zeros_like(x[:, :1]), x.diff(dim=1)], dim=1)
        joined = torch.cat([x, 3.0 * change], dim=-1).transpose(1, 2)
        return torch.as_tensor(nn.Sequential.forward(self, joined))  # type: ignore[no-untyped-call]


class _EyeCritic(nn.Module):
    """Eye feature and voice together, by self-attention."""

    def __init__(self, heard: int, width: int = 48) -> None:
        super().__init__()
        self.enter = nn.Conv1d(EYE_FEATURES + heard, width, 5, stride=3)
        self.attend = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.leave = nn.Linear(width, 1)

    def forward(self, eyes: Tensor, heard: Tensor) -> Tensor:
        joined = self.enter(torch.cat([eyes, heard], dim=-1).transpose(1, 2)).transpose(1, 2)
        return torch.as_tensor(self.leave(self.attend(joined)))


def wandering(noise: np.random.Generator, batch: int, frames: int) -> Tensor:
    """z as a session has it: [B, T, 8], uniform cubic B-splines over a random lattice."""
    at = noise.uniform(0, 1, (batch, 1, NOISES)) + np.arange(frames)[None, :, None] * _DT * np.array(
        Z_RATES_HZ
    )
    cell = np.floor(at).astype(np.int64)
    u = at - cell
    lattice = noise.uniform(-1, 1, (batch, int(cell.max()) + 4, NOISES))
    weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    rows, columns = np.arange(batch)[:, None, None], np.arange(NOISES)[None, None]
    total = sum(w * lattice[rows, cell + k, columns] for k, w in enumerate(weights))
    return torch.from_numpy((2.4 / 6.0 * np.asarray(total)).astype(np.float32))


@torch.no_grad()
def heard_by(stage: LipStage, people: list[Person]) -> list[Tensor]:
    """Φ_a of every person's voice [T, A], the stage frozen."""
    stage.eval()
    return [stage.audio(stage.normal(ahead(torch.from_numpy(p.features))[None]))[0] for p in people]


def sequence_ssim(made: Tensor, real: Tensor, c1: float = 0.05, c2: float = 0.05) -> Tensor:
    """Structural similarity of sequences [B, T, C] over their time axis, mean over rows and columns."""
    a, b = made.mean(1), real.mean(1)
    va, vb = made.var(1, unbiased=False), real.var(1, unbiased=False)
    cov = ((made - a[:, None]) * (real - b[:, None])).mean(1)
    return torch.as_tensor(
        ((2 * a * b + c1) * (2 * cov + c2) / ((a.square() + b.square() + c1) * (va + vb + c2))).mean()
    )


class _Draw:
    """Random stretches of people, free talkers as often as readers."""

    def __init__(self, people: list[Person], heard: list[Tensor], length: int, seed: int) -> None:
        self.noise = np.random.default_rng(seed)
        self.people, self.heard = people, heard
        self.length = length
        frames = np.array([len(p.eyes) for p in people], np.float64)
        reads = np.array([p.reader for p in people])
        self.weight = np.zeros(len(people))
        for group in (reads, ~reads):
            if group.any():
                self.weight[group] = frames[group] / frames[group].sum()
        self.weight /= self.weight.sum()

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """heard [B, T, A], eyes [B, T, 21], upper [B, T, 13], rest [B, 21]."""
        picked = []
        for _ in range(count):
            k = int(self.noise.choice(len(self.people), p=self.weight))
            person, length = self.people[k], self.length
            start = int(self.noise.integers(0, max(1, len(person.eyes) - length + 1)))
            pad = max(0, length - len(person.eyes))

            def cut(values: Tensor, start: int = start, pad: int = pad) -> Tensor:
                part = values[start : start + self.length]
                return (
                    torch.cat([part, part.flip(0)[: pad or 0]])
                    if pad <= len(part)
                    else part.repeat(-(-self.length // len(part)), 1)[: self.length]
                )

            parts = (self.heard[k], torch.from_numpy(person.eyes), torch.from_numpy(person.upper))
            picked.append((*(cut(v) for v in parts), torch.from_numpy(person.rest)))
        heard, eyes, upper, rest = (torch.stack(part) for part in zip(*picked, strict=True))
        return heard, eyes, upper, rest


class _Critics(nn.Module):
    def __init__(self, heard: int) -> None:
        super().__init__()
        self.feature, self.face = _PatchCritic(EYE_FEATURES), _PatchCritic(len(UPPER))
        self.eyes = _EyeCritic(heard)

    def forward(self, eyes: Tensor, upper: Tensor, heard: Tensor) -> list[Tensor]:
        return [self.feature(eyes), self.face(8.0 * upper), self.eyes(eyes, heard)]


def _apart(made: Tensor, real: Tensor) -> Tensor:
    """How far two batches of sequences [B, T, C] are from one another in spread and in speed: squared
    log ratio of each column's deviation over time and of its mean change from frame to frame."""

    def spread_and_speed(x: Tensor) -> Tensor:
        return torch.stack([x.var(1).mean(0).sqrt(), x.diff(dim=1).abs().mean((0, 1))])

    ratio = torch.log(spread_and_speed(made) + 0.02) - torch.log(spread_and_speed(real) + 0.02)
    return ratio.square().mean()


def _squares(scores: list[Tensor], goal: float) -> Tensor:
    return torch.stack([(s - goal).square().mean() for s in scores]).sum()


def train_eyes(
    stage: LipStage, net: EyeStage, people: list[Person], dev: list[Person], recipe: EyeRecipe | None = None
) -> dict[str, float]:
    """``net`` in place, ``stage`` frozen; structural similarity on ``dev``."""
    recipe = recipe or EyeRecipe()
    torch.manual_seed(recipe.seed)
    stage.requires_grad_(False).eval()
    draw = _Draw(people, heard_by(stage, people), recipe.length, recipe.seed)
    critics = _Critics(stage.audio.size)
    make = torch.optim.Adam([p for n, p in net.named_parameters() if "hazard" not in n], recipe.rate)
    judge = torch.optim.Adam(critics.parameters(), recipe.critic_rate, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(make, recipe.rate, recipe.steps, pct_start=0.1)
    for step in range(1, recipe.steps + 1):
        heard, real, upper, rest = draw.batch(recipe.batch)
        made, _ = net(heard, wandering(draw.noise, len(heard), recipe.length), rest)
        face = stage.heads(heard, made)[1]
        judged = torch.zeros(())
        if recipe.adversarial:
            judged = _squares(critics(real, upper, heard), 1.0)
            judged = judged + _squares(critics(made.detach(), face.detach(), heard), 0.0)
            judge.zero_grad()
            judged.backward()  # type: ignore[no-untyped-call]
            judge.step()
        loss = (
            recipe.l1 * (made - real).abs().mean()
            + recipe.ssim * (1.0 - sequence_ssim(made, real))
            + recipe.coefficients * (face - upper).abs().sum(-1).mean()
            + recipe.spread * (_apart(made, real) + _apart(8.0 * face, 8.0 * upper))
        )
        if recipe.adversarial:
            loss = loss + recipe.adversarial * _squares(critics(made, face, heard), 1.0)
        make.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        make.step()
        schedule.step()
        if step % max(1, recipe.steps // 5) == 0:
            print(f"eyes step {step}: loss {loss.item():.3f}, critics {judged.item():.3f}", flush=True)
    net.eval()
    return {"eye_ssim": round(_dev_ssim(stage, net, dev), 4)}


@torch.no_grad()
def _dev_ssim(stage: LipStage, net: EyeStage, dev: list[Person]) -> float:
    noise = np.random.default_rng(1)
    values = []
    for person, heard in zip(dev, heard_by(stage, dev), strict=True):
        z = wandering(noise, 1, len(heard))
        made, _ = net(heard[None], z, torch.from_numpy(person.rest)[None])
        values.append(float(sequence_ssim(made, torch.from_numpy(person.eyes)[None])))
    return float(np.mean(values))


def _ages(onsets: NDArray[np.int64], frames: int, first_s: float) -> Floats:
    """Seconds since the last onset before each frame; ``first_s`` at frame 0."""
    age, now = np.empty(frames, np.float32), first_s
    begins = set(onsets.tolist())
    for t in range(frames):
        now += _DT
        age[t] = now
        if t in begins:
            now = 0.0
    return age


def train_blinks(
    stage: LipStage, net: EyeStage, people: list[Person], dev: list[Person], steps: int = 300, seed: int = 0
) -> dict[str, float]:
    """The hazard head by likelihood of tracked onsets, its bias by what it makes of ``dev`` voices: to
    unseen ones it blinks more often. Returns tracked blinks a minute, and those made."""
    noise = np.random.default_rng(seed)
    memories, ages, begins = [], [], []
    with torch.no_grad():
        for person, heard in zip(people, heard_by(stage, people), strict=True):
            z = wandering(noise, 1, len(heard))
            memories.append(net(heard[None], z, torch.from_numpy(person.rest)[None])[1][0])
            onsets = blink_onsets(person.blink)
            ages.append(torch.from_numpy(_ages(onsets, len(heard), float(noise.uniform(0.3, 4.0)))))
            flags = torch.zeros(len(heard))
            flags[torch.from_numpy(onsets)] = 1.0
            begins.append(flags)
    memory, age, begun = torch.cat(memories), torch.cat(ages), torch.cat(begins)
    optimiser = torch.optim.AdamW(net.hazard.parameters(), 3e-3, weight_decay=0.1)
    net.hazard.requires_grad_(True)
    with torch.no_grad():
        last = net.hazard[-1]
        assert isinstance(last, nn.Linear)
        last.bias.fill_(float(torch.logit(begun.mean())))
    for _ in range(steps):
        pick = torch.from_numpy(noise.integers(0, len(begun), 4096))
        logit = net.blink_logit(memory[pick], age[pick])
        loss = nn.functional.binary_cross_entropy_with_logits(logit, begun[pick])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    tracked = float(begun.mean())
    memory = _memory_of(stage, net, dev, noise)
    with torch.no_grad():
        for _ in range(4):  # free running, a blink too many delays the next ones: the bias takes it up
            made = _blink_rate(net, memory, noise)
            last.bias.add_(float(np.log(tracked / max(made, 1e-4))))
        made = _blink_rate(net, memory, noise)
    return {"blinks_tracked": round(tracked * 1500, 1), "blinks_made": round(made * 1500, 1)}


@torch.no_grad()
def _memory_of(stage: LipStage, net: EyeStage, people: list[Person], noise: np.random.Generator) -> Tensor:
    """What stage 2 remembers of every frame of ``people`` [N, H]."""
    pairs = zip(people, heard_by(stage, people), strict=True)
    made = [net(h[None], wandering(noise, 1, len(h)), torch.from_numpy(p.rest)[None])[1][0] for p, h in pairs]
    return torch.cat(made)


def _blink_rate(net: EyeStage, memory: Tensor, noise: np.random.Generator, streams: int = 64) -> float:
    """Blinks a frame of ``streams`` free runs through ``memory`` [N, H]."""
    start = torch.from_numpy(noise.integers(0, max(1, len(memory) - 500), streams))
    age: Tensor = torch.full((streams,), 1.5)
    count = 0
    for t in range(min(500, len(memory))):
        age = age + _DT
        chance = torch.sigmoid(net.blink_logit(memory[start + t], age))
        begins = (torch.from_numpy(noise.random(streams)) < chance) & (age > REFRACTORY_S)
        count += int(begins.sum())
        age = torch.where(begins, torch.zeros_like(age), age)
    return count / (streams * min(500, len(memory)))


def blink_profile(people: list[Person], samples: int = 40) -> Floats:
    """The lids' closure over a blink, 0..1, :data:`PROFILE_RATE` samples a second: the median of tracked
    blinks, each moved so that it is half closed at the same time, its peak 1 (trackers blunt the peak)."""
    at = np.arange(samples) / PROFILE_RATE
    shapes = []
    for person in people:
        blink = np.nan_to_num(person.blink)
        for onset in blink_onsets(blink):
            part = blink[max(0, onset - 2) : onset + 12]
            if len(part) < 14 or part[:8].max() < 0.35:
                continue
            part = part - min(float(part[0]), float(part[-1]))
            peak = int(np.argmax(part[:8]))
            half = 0.5 * part[peak]
            rise = next((t for t in range(1, peak + 1) if part[t] >= half > part[t - 1]), None)
            if rise is None:
                continue
            cross = rise - 1 + (half - part[rise - 1]) / (part[rise] - part[rise - 1])
            shapes.append(np.interp(at + cross * _DT - 0.05, np.arange(14) * _DT, part / part[peak]))
    if not shapes:
        raise ValueError("no tracked blink to learn a blink's shape from")
    shape = np.median(shapes, axis=0)
    shape = shape / shape.max()
    fade = np.clip((at[-1] - at) / 0.08, 0.0, 1.0) * np.clip(at / 0.02, 0.0, 1.0)
    return np.asarray(np.clip((shape - 0.06) / 0.94, 0.0, 1.0) * fade, np.float32)


@torch.no_grad()
def restore_upper(stage: LipStage, net: EyeStage, people: list[Person]) -> Floats:
    """Gain of each upper-face column so that it spreads as tracked ones do over eight seconds [13]."""
    noise = np.random.default_rng(2)
    made: list[NDArray[np.floating]] = []
    real: list[NDArray[np.floating]] = []
    talkers = [p for p in people if not p.reader]
    for person, heard in zip(talkers, heard_by(stage, talkers), strict=True):
        eyes, _ = net(heard[None], wandering(noise, 1, len(heard)), torch.from_numpy(person.rest)[None])
        face = stage.heads(heard[None], eyes)[1][0].numpy()
        for values, into in ((face, made), (person.upper, real)):
            cuts = range(0, max(1, len(values) - 199), 200)
            into.extend(values[c : c + 200].std(axis=0) for c in cuts)
    ratio = np.mean(real, axis=0) / np.maximum(np.mean(made, axis=0), 1e-4)
    return np.asarray(np.clip(ratio, 0.5, 2.5), np.float32)
