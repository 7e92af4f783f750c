"""Trains GoHD's pose denoisers on tracked heads, and restores the spread that few steps take away."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.samplers.gohd.pose import (
    AHEAD,
    PAST,
    PoseDenoiser,
    PoseGenerator,
    pose_audio,
    pose_audio_size,
)
from engine.train.gohd_data import Person

__all__ = ["PROSODY", "PoseRecipe", "PoseSet", "pose_of", "restore_spread", "train_pose"]

Floats = NDArray[np.float32]

_TEMPERATURES = (1.0, 1.15, 1.3, 1.45)
PROSODY = ("level", "loudness", "snr", "tilt", "voicing", "pitch", "vad", "voice")


@dataclass(frozen=True)
class PoseRecipe:
    """``readers`` is the share of windows from people who sit still and read; ``blur`` the deviation of
    the noise added to the remembered poses, against drift on the network's own output."""

    steps: int = 1200
    batch: int = 32
    rate: float = 2e-3
    readers: float = 0.15
    fresh: float = 0.08
    blur: float = 0.03
    seed: int = 0


@dataclass(frozen=True)
class PoseSet:
    """Tracked people as the denoiser sees them: audio [T, A] and pose [T, 6], both normalised."""

    audio: list[Tensor]
    pose: list[Tensor]
    weight: NDArray[np.float64]

    @staticmethod
    def of(people: list[Person], names: tuple[str, ...], net: PoseGenerator, readers: float) -> PoseSet:
        kept = [p for p in people if p.seen.mean() > 0.9 and len(p.pose) > AHEAD + 8]
        prosody = [names.index(n) for n in PROSODY]
        bands = [k for k, n in enumerate(names) if n.startswith("mel.")]
        audio, pose = [], []
        for person in kept:
            heard = pose_audio(torch.from_numpy(person.features), prosody, bands)
            audio.append(((heard - net.audio_mean) / net.audio_deviation).clamp(-4, 4))
            pose.append(torch.from_numpy(person.pose) / net.deviation)
        frames = np.array([len(p.pose) for p in kept], np.float64)
        reads = np.array([p.reader for p in kept])
        weight = np.zeros(len(kept))
        for group, share in ((reads, readers), (~reads, 1.0 - readers)):
            if group.any():
                weight[group] = share * frames[group] / frames[group].sum()
        return PoseSet(audio, pose, weight / weight.sum())


def fit_scales(net: PoseGenerator, people: list[Person], names: tuple[str, ...]) -> None:
    """Deviation of free talkers' poses, mean and deviation of what is heard."""
    talkers = [p for p in people if not p.reader]
    poses = np.concatenate([p.pose - np.median(p.pose, axis=0) for p in talkers])
    net.deviation.copy_(torch.from_numpy(poses.std(axis=0)))
    prosody = [names.index(n) for n in PROSODY]
    bands = [k for k, n in enumerate(names) if n.startswith("mel.")]
    heard = torch.cat([pose_audio(torch.from_numpy(p.features), prosody, bands) for p in people])
    net.audio_mean.copy_(heard.mean(0))
    net.audio_deviation.copy_(heard.std(0) + 0.05)


class _Windows:
    """Random windows of a :class:`PoseSet`, with the noise the denoiser must take off."""

    def __init__(self, data: PoseSet, net: PoseGenerator, recipe: PoseRecipe) -> None:
        self.data, self.recipe, self.schedule = data, recipe, net.schedule
        self.window = net.window
        self.noise = np.random.default_rng(recipe.seed)
        self.torch = torch.Generator().manual_seed(recipe.seed)

    def draw(self, known: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x, audio, rest) as :class:`PoseDenoiser` takes them, and the velocity it should say."""
        rows = [self._one(known) for _ in range(count)]
        pose, audio = (torch.stack(part) for part in zip(*rows, strict=True))
        past = pose[:, :PAST] + self.recipe.blur * self._normal(pose[:, :PAST].shape)
        rest = past[:, -1].clone()
        clean = pose[:, PAST:] - rest[:, None]
        noise = self._normal(clean.shape)
        x = torch.cat([past - rest[:, None], self.schedule.noised(clean, noise, self.window)], dim=1)
        return x, audio, rest, self.schedule.velocity(clean, noise, self.window)

    def _normal(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.torch)

    def _one(self, known: int) -> tuple[Tensor, Tensor]:
        item = int(self.noise.choice(len(self.data.pose), p=self.data.weight))
        pose, audio = self.data.pose[item], self.data.audio[item]
        fresh = self.noise.random() < self.recipe.fresh
        at = int(self.noise.integers(8, len(pose) - AHEAD + 1))
        first = at - PAST
        window = pose[max(0, first) : at + AHEAD]
        window = torch.cat([window[:1].expand(PAST + AHEAD - len(window), -1), window])
        heard = torch.zeros(PAST + AHEAD, pose_audio_size() + 1)
        since = max(0, first)
        if fresh:  # a stream that has just begun: still at rest, nothing heard
            since = at
            start = window[PAST : PAST + 1]
            window = torch.cat([torch.zeros(PAST, 6), window[PAST:] - start])
        part = audio[since : at + known]
        heard[PAST + known - len(part) : PAST + known, :-1] = part
        heard[PAST + known - len(part) : PAST + known, -1] = 1.0
        return window, heard


def _train_one(
    net: PoseDenoiser, windows: _Windows, held_out: _Windows, known: int, recipe: PoseRecipe
) -> float:
    """One denoiser; averaged weights; returns its error on people held out."""
    optimiser = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
    average = copy.deepcopy(net)
    check = [held_out.draw(known, 64) for _ in range(6)] if held_out.data.pose else []
    best, least = copy.deepcopy(net.state_dict()), float("inf")
    for step in range(1, recipe.steps + 1):
        x, audio, rest, velocity = windows.draw(known, recipe.batch)
        loss = (net(x, audio, rest) - velocity).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, max(0.02, 1.0 / (step + 1)))
        if step % max(1, recipe.steps // 8) == 0:
            with torch.no_grad():
                errors = [float((average(*c[:3]) - c[3]).square().mean()) for c in check]
            error = float(np.mean(errors or [0.0]))
            print(f"pose step {step}: loss {loss.item():.4f}, dev {error:.4f}", flush=True)
            if error < least or not check:
                best, least = copy.deepcopy(average.state_dict()), error
    net.load_state_dict(best)
    return least


def train_pose(
    net: PoseGenerator,
    people: list[Person],
    dev: list[Person],
    names: tuple[str, ...],
    recipe: PoseRecipe | None = None,
) -> dict[str, float]:
    """Both denoisers of ``net`` in place; their errors on ``dev``."""
    recipe = recipe or PoseRecipe()
    torch.manual_seed(recipe.seed)
    fit_scales(net, people, names)
    train = PoseSet.of(people, names, net, recipe.readers)
    held = PoseSet.of(dev, names, net, 0.0)
    scores = {}
    for key, part, known in (("knowing", net.knowing, 0), ("free", net.free, 1)):
        windows, check = _Windows(train, net, recipe), _Windows(held, net, recipe)
        scores[key] = round(_train_one(part, windows, check, known, recipe), 4)
    net.eval()
    return scores


@torch.no_grad()
def pose_of(
    net: PoseGenerator, features: Tensor, names: tuple[str, ...], seed: int = 0, frames: int = 0
) -> NDArray[np.float64]:
    """What the generator makes of a voice [T, F]: [T, 6] in real units; ``frames`` > 0 repeats the voice."""
    prosody = [names.index(n) for n in PROSODY]
    bands = [k for k, n in enumerate(names) if n.startswith("mel.")]
    heard = pose_audio(features, prosody, bands)
    state, seeds = net.init_state(1), np.array([seed], np.uint64)
    count = frames or len(heard)
    return np.concatenate([net.step(heard[t % len(heard)][None], seeds, t, state) for t in range(count)])


def restore_spread(
    net: PoseGenerator, people: list[Person], names: tuple[str, ...], frames: int = 500
) -> dict[str, list[float]]:
    """Choose temperature and gain so that generated heads are as quick and go as far as real ones.

    Rotations of those of ``people`` who talk freely, at most ``frames`` of each: mean speed first, then
    the median deviation over eight seconds, each value of the pose on its own.
    """
    talkers = [p for p in people if not p.reader]
    real = _amounts([p.pose[:frames].astype(np.float64) for p in talkers])
    best, made = np.inf, real
    for temperature in _TEMPERATURES:
        net.temperature.fill_(temperature)
        voices = (torch.from_numpy(p.features[:frames]) for p in talkers)
        found = _amounts([pose_of(net, x, names, seed=k) for k, x in enumerate(voices)])
        off = float(np.abs(np.log(found / real))[:, :3].mean())
        if off < best:
            best, made, chosen = off, found, temperature
    net.temperature.fill_(chosen)
    gain = np.clip(real[0] / made[0], 0.7, 1.2)
    net.gain.copy_(torch.from_numpy(gain.astype(np.float32)))
    return {"temperature": [chosen], "gain": [round(float(g), 2) for g in gain]}


def _amounts(poses: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Median deviation in windows of eight seconds, and mean speed a frame: [2, 6]."""
    spread = [p[c : c + 200].std(axis=0) for p in poses for c in range(0, max(1, len(p) - 199), 200)]
    speed = np.mean([np.abs(np.diff(p, axis=0)).mean(axis=0) for p in poses], axis=0)
    return np.stack([np.median(spread, axis=0), speed])
