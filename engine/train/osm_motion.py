"""Trains OSM-Net's motion half: the space of head-motion clips, and the voice's way into it.

Tracked training people only. The space learns clips of every kind from everyone; free talkers come
most often, because readers of sentences sit still. Losses follow the paper: the encoded and the
re-mixed feature both give the clip back (eq. 12, on poses instead of pictures), L1 between them
(eq. 3), and KL from the clip's weights to the voice's (eq. 4).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import InputError
from engine.samplers.osm.audio import PAST_FRAMES, AudioConfig, AudioMotion
from engine.samplers.osm.space import MotionSpace, SpaceConfig
from engine.train.corpus import Corpus, Features, mirrored
from engine.types import MOTION

__all__ = ["Clips", "MotionRecipe", "MotionTrainer", "Moves", "clips_of", "read_moves"]

Floats = NDArray[np.float32]

SITTERS = ("grid",)
"""Speakers who read single sentences and sit still."""


@dataclass(frozen=True)
class Moves:
    """One stretch of one person: ``features`` [T, F] and ``pose`` [T, 6], all of it known; ``plain``
    unless mirrored or heard through another channel."""

    speaker: str
    plain: bool
    features: Floats
    pose: Floats

    @property
    def free(self) -> bool:
        return not self.speaker.startswith(SITTERS)


def read_moves(corpus: Corpus, features: Features, split: str, least: int = 60) -> list[Moves]:
    """Unbroken stretches of at least ``least`` frames of tracked people, the training ones mirrored too.

    Sitters' poses are scaled to the free talkers' (at most three times): they teach how a head moves,
    not how far.

    Raises:
        InputError: no free talker is tracked in ``split``.
    """
    kinds = ("real", "copy") if split == "train" else ("real",)
    moves = []
    for entry in corpus.select(split, *kinds):
        take = corpus.take(entry)
        heard = features(take)
        for flipped in (False, True) if split == "train" else (False,):
            plain = entry.kind == "real" and not flipped
            pose = (mirrored(take.motion) if flipped else take.motion)[: len(heard), MOTION.pose]
            known = np.asarray(np.isfinite(pose).all(axis=1))
            for start, stop in _runs(known, least):
                moves.append(Moves(entry.speaker, plain, heard[start:stop], pose[start:stop]))
    free = [m.pose for m in moves if m.free]
    if not free:
        raise InputError(f"no free talker's head is tracked in split {split} of {corpus.folder}")
    if split != "train":
        return moves
    speed = _speed(free)
    return [m if m.free else _livened(m, speed) for m in moves]


def _runs(known: NDArray[np.bool_], least: int) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= least:
            yield int(start), int(stop)


def _speed(poses: list[Floats]) -> Floats:
    """Deviation of five frames' change [6]: blind to the tracker's jitter, which one frame's is not."""
    return np.asarray(np.concatenate([p[5:] - p[:-5] for p in poses]).std(axis=0), np.float32)


def _livened(moves: Moves, speed: Floats) -> Moves:
    gain = np.clip(speed / np.maximum(_speed([moves.pose]), 1e-5), 1.0, 3.0)
    return Moves(moves.speaker, moves.plain, moves.features, (moves.pose * gain).astype(np.float32))


@dataclass(frozen=True)
class MotionRecipe:
    """Everything that decides a run. ``sitters`` is the share of windows from people who sit still."""

    window: int = 100
    batch: int = 24
    space_steps: int = 1200
    audio_steps: int = 600
    check_every: int = 100
    rate: float = 2e-3
    decay: float = 0.02
    sitters: float = 0.15
    forget: float = 0.2
    """share of clips whose recent steps are hidden, so that the voice is listened to"""
    blur: float = 0.3
    """noise on pose and steps (deviations), for what is delivered is never a tracked person's"""
    w_basis: float = 0.5
    w_mixed: float = 1.0
    w_voice: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Clips:
    """Clips cut from windows. ``memory`` [B, N, H] where each begins, ``pose`` [B, N, 6] before it,
    ``steps`` [B, N, PAST, 6] up to there, ``clip`` [B, N, T, 6] from there."""

    memory: Tensor
    pose: Tensor
    steps: Tensor
    clip: Tensor


def clips_of(audio: AudioMotion | None, x: Tensor, pose: Tensor, length: int, first: int) -> Clips:
    """All clips of ``length`` frames that begin at ``first``, ``first + length``, ... in whole windows.

    ``x`` [B, T, F], ``pose`` [B, T, 6]; ``first`` > PAST_FRAMES; no ``audio``, no memories.
    """
    starts = torch.arange(first, pose.shape[1] - length + 1, length)
    steps = pose.diff(dim=1)
    before = pose[:, starts - 1]
    past = torch.stack([steps[:, s - 1 - PAST_FRAMES : s - 1] for s in starts.tolist()], dim=1)
    after = torch.stack([pose[:, s : s + length] for s in starts.tolist()], dim=1)
    memory = audio.hear(x)[:, starts] if audio is not None else x[:, starts, :0]
    return Clips(memory, before, past, after - before[:, :, None])


class MotionTrainer:
    """Owns the data and the random state of one run."""

    def __init__(self, train: list[Moves], dev: list[Moves], columns: list[int], recipe: MotionRecipe,
                 space: SpaceConfig | None = None) -> None:  # fmt: skip
        self.recipe, self.dev = recipe, dev
        self.noise = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.free = [m for m in train if m.free]
        self.sitters = [m for m in train if not m.free]
        config = space or SpaceConfig()
        self.space = MotionSpace(config)
        self.audio = AudioMotion(AudioConfig(len(columns), config.bases))
        self._set_units(columns)

    def _set_units(self, columns: list[int]) -> None:
        length = self.space.config.clip
        heard = np.concatenate([m.features[:, columns] for m in self.free])
        poses = [m.pose for m in self.free]
        steps = np.concatenate([np.diff(p, axis=0) for p in poses])
        ends = np.concatenate([p[length:] - p[:-length] for p in poses])
        self.audio.columns.copy_(torch.tensor(columns))
        self.audio.mean.copy_(torch.from_numpy(heard.mean(axis=0)))
        self.audio.deviation.copy_(torch.from_numpy(heard.std(axis=0) + 0.05))
        self.audio.pose_unit.copy_(torch.from_numpy(np.concatenate(poses).std(axis=0)))
        self.audio.step_unit.copy_(torch.from_numpy(steps.std(axis=0)))
        self.space.unit.copy_(torch.from_numpy(ends.std(axis=0)))

    def window(self) -> tuple[Tensor, Tensor]:
        """Features [B, T, F] and pose [B, T, 6] of random stretches, long ones more often."""
        features, poses = [], []
        for _ in range(self.recipe.batch):
            sit = self.sitters and self.noise.random() < self.recipe.sitters
            members = self.sitters if sit else self.free
            sizes = np.array([len(m.pose) for m in members], float)
            item = members[self.noise.choice(len(members), p=sizes / sizes.sum())]
            length = self.recipe.window
            start = int(self.noise.integers(0, max(1, len(item.pose) - length + 1)))
            pad = max(0, length - len(item.pose))
            features.append(np.pad(item.features[start : start + length], ((pad, 0), (0, 0)), mode="edge"))
            poses.append(np.pad(item.pose[start : start + length], ((pad, 0), (0, 0)), mode="edge"))
        return torch.from_numpy(np.stack(features)), torch.from_numpy(np.stack(poses))

    def space_terms(self, clips: Clips) -> dict[str, Tensor]:
        """How well clips survive the space: encoded, re-mixed from the bases, and eq. 3."""
        space = self.space
        feature = space.encode(clips.clip)
        weights = space.attend(feature).exp()
        mixed = space.mixed(weights)
        return {
            "clip": self._error(feature, clips),
            "mixed": self._error(mixed, clips),
            "basis": (feature - mixed).abs().mean() / feature.detach().abs().mean(),
            "sharpest": weights.max(dim=-1).values.mean(),
        }

    def audio_terms(self, clips: Clips, forget: float = 0.0, blur: float = 0.0) -> dict[str, Tensor]:
        """Eq. 4, and the error of the clip at the centre that the voice predicts."""
        space = self.space
        goal = space.attend(space.encode(clips.clip)).detach()
        pose = clips.pose + blur * self.audio.pose_unit * torch.randn(clips.pose.shape)
        steps = clips.steps + blur * self.audio.step_unit * torch.randn(clips.steps.shape)
        steps = steps * (torch.rand(steps.shape[:2])[..., None, None] >= forget)
        heard = self.audio.weights(clips.memory, pose, steps)
        return {
            "kl": (goal.exp() * (goal - heard)).sum(-1).mean(),
            "voice": self._error(space.mixed(heard.exp()), clips),
        }

    def _error(self, feature: Tensor, clips: Clips) -> Tensor:
        return ((self.space.decode(feature) - clips.clip) / self.space.unit).abs().mean()

    def run(self) -> dict[str, float]:
        """Train the space, then the voice's way into it; each keeps the averaged weights best on dev."""
        recipe, least = self.recipe, PAST_FRAMES + 1

        def draw(audio: AudioMotion | None) -> Clips:
            first = int(self.noise.integers(least, least + self.space.config.clip))
            return clips_of(audio, *self.window(), self.space.config.clip, first)

        def space_loss() -> Tensor:
            parts = self.space_terms(draw(None))
            return parts["clip"] + recipe.w_mixed * parts["mixed"] + recipe.w_basis * parts["basis"]

        def audio_loss() -> Tensor:
            parts = self.audio_terms(draw(self.audio), recipe.forget, recipe.blur)
            return parts["kl"] + recipe.w_voice * parts["voice"]

        space = self._descend(self.space, space_loss, recipe.space_steps, self.space_terms, "mixed")
        self.space.requires_grad_(False)
        audio = self._descend(self.audio, audio_loss, recipe.audio_steps, self.audio_terms, "kl")
        return {**space, **audio}

    def _descend(self, net: nn.Module, loss: Callable[[], Tensor], steps: int,
                 terms: Callable[[Clips], dict[str, Tensor]], judge: str) -> dict[str, float]:  # fmt: skip
        """Minimise ``loss`` by ``net``, which is left with the averaged weights of least dev ``judge``."""
        recipe = self.recipe
        optimiser = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, steps, pct_start=0.1)
        average = copy.deepcopy(net.state_dict())
        best, scores = average, {judge: float("inf")}
        for step in range(1, steps + 1):
            value = loss()
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            for name, fast in net.state_dict().items():
                if fast.is_floating_point():
                    average[name].lerp_(fast, min(0.02, 5.0 / step) if step > 20 else 1.0)
            if step % recipe.check_every == 0:
                held = copy.deepcopy(net.state_dict())
                net.load_state_dict(average)
                now = self.evaluate(terms)
                print(f"step {step}: loss {value.item():.3f}, dev {now}", flush=True)
                if now[judge] < scores[judge]:
                    best, scores = copy.deepcopy(average), now
                net.load_state_dict(held)
        net.load_state_dict(best)
        return scores

    def evaluate(self, terms: Callable[[Clips], dict[str, Tensor]]) -> dict[str, float]:
        """``terms`` on the dev people, a mean over frames."""
        found: dict[str, float] = defaultdict(float)
        frames = sum(len(m.pose) for m in self.dev)
        with torch.no_grad():
            for item in self.dev:
                x, pose = torch.from_numpy(item.features)[None], torch.from_numpy(item.pose)[None]
                clips = clips_of(self.audio, x, pose, self.space.config.clip, PAST_FRAMES + 1)
                for name, value in terms(clips).items():
                    found[name] += float(value) * len(item.pose) / frames
        return {name: round(value, 4) for name, value in found.items()}
