"""The style half of VAST's training: encoder, enhancer, weak decoder and what a style does to the lips.

Chen et al., 2023, eq. 2: asymmetric reconstruction of tracked people plus the KL divergence of the
style. The strong decoder's own weights stay as they are, so the neutral style keeps its lips; only
the style's way into it is learned. Two changes that our data ask for: prompt and target are different
stretches of a clip (a few people, minutes of each), and both are exaggerated or changed in expression
alike at random, so that the style space reaches beyond what these people happened to show.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from engine.samplers.factors import UPPER
from engine.samplers.vast.decoder import WEAK
from engine.samplers.vast.networks import CHEEKS, MOOD, VastNets
from engine.samplers.visemes import LIP_CHANNELS, LIP_COLUMNS
from engine.train.corpus import Corpus, Features, mirrored
from engine.types import MOTION

__all__ = ["Clips", "Stretch", "StyleBatch", "StyleRecipe", "StyleTrainer", "asymmetric", "read_clips"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

SPOKEN = ("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthStretch", "mouthRollLower",
          "mouthRollUpper", "mouthLowerDown", "mouthUpperUp")  # fmt: skip
"""Lip channels that a tracker sees well enough to tell one style of speaking from another."""

_PAIRS = ("browDown", "browOuterUp", "eyeSquint", "eyeWide", "mouthSmile", "mouthFrown", "mouthDimple",
          "mouthPress", "cheekSquint", "noseSneer", "browInnerUp", "mouthShrugLower")  # fmt: skip
_CHANGES: list[list[int]] = [MOTION.columns(name)[:2] for name in _PAIRS]


@dataclass(frozen=True)
class StyleRecipe:
    """Everything that decides the run. ``enhanced`` False drops the variational enhancer, ``styled``
    False the style altogether (the paper's ablations)."""

    steps: int = 300
    batch: int = 16
    window: int = 75
    prompt: int = 75
    rate: float = 2e-3
    decay: float = 0.01
    w_divergence: float = 0.02
    free_bits: float = 0.05
    w_weak: float = 0.3
    past_noise: float = 0.05
    under: float = 3.0
    smooth_frames: float = 0.8
    changed: float = 0.6
    silent: float = 0.3
    seed: int = 0
    enhanced: bool = True
    styled: bool = True


@dataclass(frozen=True)
class Stretch:
    """One tracked take: ``features`` [T, F], ``motion`` [T, 72] gaps bridged, ``seen`` [T]."""

    name: str
    speaker: str
    features: Floats
    motion: Floats
    seen: Bools


Clips = list[Stretch]


def read_clips(corpus: Corpus, features: Features, split: str, *kinds: str) -> Clips:
    """Takes whose face was seen for at least two seconds, most of the time."""
    found = []
    for entry in corpus.select(split, *kinds):
        take = corpus.take(entry)
        seen: Bools = np.asarray(np.isfinite(take.motion).all(axis=1))
        if seen.sum() < 50 or seen.mean() < 0.7:
            continue
        known = np.flatnonzero(seen)
        at = np.arange(len(seen))
        columns = [np.interp(at, known, take.motion[known, k]) for k in range(MOTION.size)]
        heard = features(take)
        frames = min(len(heard), len(seen))
        motion = np.stack(columns, axis=1).astype(np.float32)[:frames]
        found.append(Stretch(entry.name, entry.speaker, heard[:frames], motion, seen[:frames]))
    return found


@dataclass(frozen=True)
class StyleBatch:
    """``prompt`` [B, P, 72] with ``heard`` [B, P, F]; ``motion`` [B, T, 72], ``x`` [B, T, F], ``seen``."""

    prompt: Tensor
    heard: Tensor
    motion: Tensor
    x: Tensor
    seen: Tensor


def asymmetric(made: Tensor, real: Tensor, under: float) -> Tensor:
    """Squared error that counts ``under`` times where the made value falls short of the real one.

    Both are deviations from the mean: too small a movement costs more than too large a one (Tran,
    Hassner, Masi, Medioni, "Regressing robust and discriminative 3D morphable models", 2017, eq. 3).
    """
    sign = torch.where(real < 0, -1.0, 1.0)
    short = (sign * real - sign * made).clamp(min=0.0)
    over = (sign * made - sign * real).clamp(min=0.0)
    return over.square() + under * short.square()


class StyleTrainer:
    """Trains ``nets`` in place; the strong decoder must have its lips already."""

    def __init__(self, nets: VastNets, clips: Clips, recipe: StyleRecipe | None = None) -> None:
        self.recipe = recipe = recipe or StyleRecipe()
        self.nets, self.noise = nets, np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.speakers: dict[str, Clips] = defaultdict(list)
        for clip in clips:
            self.speakers[clip.speaker].append(clip)
        self._measure()
        self.channels = [LIP_CHANNELS.index(name) for name in SPOKEN]
        self.slope, self.ratio, self.offset = self._tracked()

    def _measure(self) -> None:
        """Means and deviations of the training people, each speaker alike; both sides alike."""
        parts, quiet = [], []
        for members in self.speakers.values():
            motion = np.concatenate([c.motion[c.seen] for c in members])
            both = np.concatenate([motion, mirrored(motion)])
            parts.append((both.mean(axis=0), both.var(axis=0)))
            quiet.append(np.percentile(both, 10, axis=0))
        mean = np.mean([m for m, _ in parts], axis=0)
        spread = np.sqrt(np.mean([v + (m - mean) ** 2 for m, v in parts], axis=0))
        self.mean = torch.from_numpy(mean).float()
        self.deviation = torch.from_numpy(np.maximum(spread, 0.06)).float()
        units = MOTION.expression
        self.nets.encoder.motion_mean.copy_(self.mean[units])
        self.nets.encoder.motion_deviation.copy_(self.deviation[units])
        # A portrait's own rest is added later: what counts is how far talkers are above theirs.
        self.held = (self.mean - torch.from_numpy(np.mean(quiet, axis=0)).float())[WEAK]
        self.nets.weak.mean.copy_(self.held)
        self.nets.weak.deviation.copy_(self.deviation[WEAK])

    def _tracked(self) -> tuple[Tensor, Tensor, Tensor]:
        """How the tracker's units answer to the neutral lips' channels, each [9], standardised.

        ``slope`` and ``offset`` by least squares, ``ratio`` of the deviations: with them the average
        style is the neutral one, and only what tells styles apart is left to learn.
        """
        made, real = [], []
        self.nets.eval()
        with torch.no_grad():
            for _ in range(8):
                batch = self.batch(changed=0.0)
                lips = self.nets.strong.channels(self.nets.strong.carried(batch.x))
                made.append(lips[..., self.channels][batch.seen])
                real.append(self._spoken(batch)[batch.seen])
        x, y = torch.cat(made), torch.cat(real)
        dx, dy = x - x.mean(0), y - y.mean(0)
        slope = ((dx * dy).mean(0) / dx.square().mean(0).clamp(min=1e-6)).clamp(min=0.5)
        ratio = dy.std(0) / dx.std(0).clamp(min=1e-3)
        self._neutral_level = ratio * x.mean(0) - y.mean(0)
        return slope, ratio, y.mean(0) - slope * x.mean(0)

    def _spoken(self, batch: StyleBatch) -> Tensor:
        """The tracked lips as the channels of :data:`SPOKEN` [B, T, 9], standardised, sides averaged."""
        normal = (batch.motion - self.mean) / self.deviation
        columns = [list(LIP_COLUMNS[k]) for k in self.channels]
        return torch.stack([normal[..., c].mean(-1) for c in columns], dim=-1)

    # -- data ----------------------------------------------------------------------------------

    def batch(self, changed: float | None = None) -> StyleBatch:
        """Random stretches; a speaker's chance is the square root of its frames. ``changed``: the share
        that is changed in expression, the recipe's by default."""
        changed = self.recipe.changed if changed is None else changed
        names = list(self.speakers)
        weights = np.sqrt([sum(len(c.motion) for c in self.speakers[n]) for n in names])
        rows = []
        for name in self.noise.choice(names, self.recipe.batch, p=weights / weights.sum()):
            members = self.speakers[str(name)]
            rows.append(self._row(members[self.noise.integers(len(members))], changed))
        return StyleBatch(*(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)))

    def _row(self, clip: Stretch, changed: float) -> tuple[NDArray[np.generic], ...]:
        motion = mirrored(clip.motion) if self.noise.random() < 0.5 else clip.motion
        if self.noise.random() < changed:
            motion = self._changed(motion)
        frames = len(motion)

        def cut(values: NDArray[np.generic], start: int, length: int) -> NDArray[np.generic]:
            part = values[start : start + length]
            more = [(0, length - len(part))] + [(0, 0)] * (part.ndim - 1)
            return np.pad(part, more, mode="edge")

        recipe = self.recipe
        a = int(self.noise.integers(0, max(1, frames - recipe.prompt + 1)))
        b = int(self.noise.integers(0, max(1, frames - recipe.window + 1)))
        return (
            cut(motion, a, recipe.prompt),
            cut(clip.features, a, recipe.prompt),
            cut(motion, b, recipe.window),
            cut(clip.features, b, recipe.window),
            cut(clip.seen, b, recipe.window),
        )

    def _changed(self, motion: Floats) -> Floats:
        """The same clip livelier or calmer, or with an expression held throughout."""
        out, middle = motion.copy(), motion.mean(axis=0)
        lips = [column for name in SPOKEN for column in LIP_COLUMNS[LIP_CHANNELS.index(name)]]
        for columns, low, high in ((lips, 0.6, 1.7), (UPPER, 0.5, 1.8)):
            factor = np.exp(self.noise.uniform(np.log(low), np.log(high)))
            out[:, columns] = middle[columns] + factor * (motion[:, columns] - middle[columns])
        for k in self.noise.choice(len(_CHANGES), int(self.noise.integers(0, 3)), replace=False):
            out[:, _CHANGES[k]] += self.noise.uniform(-0.1, 0.4)
        out[:, MOTION.expression] = np.clip(out[:, MOTION.expression], 0.0, 1.2)
        return out

    # -- losses --------------------------------------------------------------------------------

    def loss(self, batch: StyleBatch) -> tuple[Tensor, dict[str, float]]:
        nets, recipe = self.nets, self.recipe
        style, divergence = self.style(batch)
        heard = nets.strong.heard(batch.x)
        carried = nets.strong.carried(batch.x, style)
        strong = self._strong_loss(carried, nets.mood(style), batch)
        weak = self._weak_loss(heard, style, batch)
        total = strong + recipe.w_weak * weak + recipe.w_divergence * divergence
        parts = {"strong": strong.item(), "weak": weak.item(), "kl": divergence.item()}
        return total, {k: round(v, 3) for k, v in parts.items()}

    def style(self, batch: StyleBatch) -> tuple[Tensor, Tensor]:
        """A style [B, S] for each prompt and the divergence that it costs."""
        nets, recipe = self.nets, self.recipe
        if not recipe.styled:
            return torch.zeros(len(batch.x), nets.config.style.size), torch.zeros(())
        # Many video prompts have no sound, or not their own: motion alone must do at times.
        audible = torch.rand(len(batch.x), 1, 1) >= recipe.silent
        posterior = nets.encoder(batch.prompt, nets.strong.heard(batch.heard) * audible)
        if not recipe.enhanced:
            return posterior.mean, torch.zeros(())
        style = nets.encoder.style(posterior, torch.randn_like(posterior.mean))
        cost = posterior.divergence().mean(dim=0).clamp(min=recipe.free_bits).sum()
        return style, cost

    def _strong_loss(self, carried: Tensor, mood: Tensor, batch: StyleBatch) -> Tensor:
        under, seen = self.recipe.under, batch.seen
        normal = (batch.motion - self.mean) / self.deviation
        unit = self.deviation
        made = self.nets.strong.channels(carried)[..., self.channels]
        lips = self._lips_loss(made, self._spoken(batch), seen)
        lasting = mood / unit[MOOD]
        weight = seen.float()[..., None] / seen.sum(1).clamp(min=1)[:, None, None]
        held = (normal[..., MOOD] * weight).sum(1)
        moods = asymmetric(lasting, held, under).mean()
        under_cheeks = [MOOD.index(column) for column in CHEEKS]
        cheeks = self.nets.cheeks(carried) / unit[CHEEKS] + lasting[:, None, under_cheeks]
        return lips + moods + 0.5 * asymmetric(cheeks, normal[..., CHEEKS], under)[seen].mean()

    def _lips_loss(self, made: Tensor, real: Tensor, seen: Tensor) -> Tensor:
        """Frame by frame, and how far and about what level each channel moves in this style.

        Frames alone would have every style move less: a tracker's noise cannot be predicted.
        """
        frames = asymmetric(made * self.slope + self.offset, real, self.recipe.under)[seen].mean()
        weight = seen.float()[..., None] / seen.sum(1).clamp(min=1)[:, None, None]

        def moments(values: Tensor) -> tuple[Tensor, Tensor]:
            level = (values * weight).sum(1)
            spread = ((values - level[:, None]).square() * weight).sum(1).clamp(min=1e-6).sqrt()
            return level, torch.log(spread + 0.2)

        (level, spread), (real_level, real_spread) = moments(made * self.ratio), moments(real)
        level = level - self._neutral_level
        return (
            0.2 * frames
            + (spread - real_spread).square().mean()
            + 0.5 * (level - real_level).square().clamp(max=4.0).mean()
        )

    def _weak_loss(self, heard: Tensor, style: Tensor, batch: StyleBatch) -> Tensor:
        """Negative log-likelihood of each frame given the ones before (eq. 3)."""
        normal = ((batch.motion - self.mean) / self.deviation)[..., WEAK].numpy()
        real = torch.from_numpy(gaussian_filter1d(normal, self.recipe.smooth_frames, axis=1))
        past = real[:, :-1] + self.recipe.past_noise * torch.randn_like(real[:, :-1])
        mean, spread = self.nets.weak.believe(past, heard[:, 1:], style)
        pair = batch.seen[:, 1:] & batch.seen[:, :-1]
        nll = 0.5 * ((real[:, 1:] - mean) / spread.exp()).square() + spread
        # What is drawn feeds back: its level must agree with the style's, not only its next step.
        level = self.nets.weak.level(mean, past).mean(dim=1) - real.mean(dim=1)
        return nll[pair].mean() + 0.3 * level.square().mean()

    # -- the run -------------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Train; averages of the weights are kept. Returns the last losses."""
        recipe, nets = self.recipe, self.nets
        for part in nets.strong.parameters():
            part.requires_grad_(False)
        nets.strong.style.weight.requires_grad_(True)
        learned = [p for p in nets.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(learned, recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
        average = [p.detach().clone() for p in learned]
        shown: dict[str, float] = {}
        nets.train()
        nets.strong.eval()
        for step in range(1, recipe.steps + 1):
            loss, parts = self.loss(self.batch())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for slow, fast in zip(average, learned, strict=True):
                    slow.lerp_(fast, max(0.02, 1.0 / step))
            shown = {k: 0.9 * shown.get(k, v) + 0.1 * v for k, v in parts.items()}
            if step % 50 == 0:
                print(f"style step {step}: { ({k: round(v, 3) for k, v in shown.items()}) }", flush=True)
        with torch.no_grad():
            for slow, fast in zip(average, learned, strict=True):
                fast.copy_(slow)
        nets.eval()
        self._settle()
        return shown

    def _settle(self) -> None:
        """Set how far above rest the weak decoder's average is: units stop at 0, which lifts what is
        drawn; shown that way, its mean is to be the training people's."""
        weak, generator = self.nets.weak, torch.Generator().manual_seed(self.recipe.seed)
        drawn = []
        with torch.no_grad():
            batch = self.batch(changed=0.0)
            heard = self.nets.strong.heard(batch.x)
            state, style = weak.init_state(len(heard)), torch.zeros(len(heard), self.nets.config.style.size)
            for t in range(heard.shape[1]):
                noise = torch.randn(len(heard), len(WEAK), generator=generator)
                drawn.append(weak.step(heard[:, t], style, noise, state) - weak.mean)
            values, target = torch.cat(drawn), self.held
            low, high = target - 1.0, target.clone()
            for _ in range(30):
                middle = 0.5 * (low + high)
                above = (values + middle).clamp(min=0.0).mean(0) > target
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            weak.mean.copy_(0.5 * (low + high))
