"""How far each phone opens real mouths, and how far ahead of the sound they move.

A few numbers per phone, fitted to tracked people through the encoder's posteriors: opening v_p,
dominance alpha_p and one reach each way,

    opening(t) = sum_p,s alpha_p q_p(s) v_p k(s - t) / sum_p,s alpha_p q_p(s) k(s - t),

k exponential, longer toward the future (anticipation). So few parameters cannot learn a speaker by
heart: on people never seen they follow the mouth better than a free network trained on the same
clips, and they give the many speakers of phone-labelled speech a mouth to teach with.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.train.lip_targets import phone_openings

__all__ = ["Articulation", "Spoken", "fit_articulation"]

Floats = NDArray[np.float32]

_HALF_S = 0.02
_REACH = 12
_CROP = 150


@dataclass(frozen=True)
class Spoken:
    """One clip: ``posteriors`` [2 T, P] every 20 ms and the real ``opening`` [T] (NaN unknown)."""

    speaker: str
    posteriors: Floats
    opening: Floats


class Articulation(nn.Module):
    """The fitted numbers; :meth:`forward` maps posteriors [N, P] to opening [N // 2]."""

    def __init__(self) -> None:
        super().__init__()
        value, dominance = (torch.from_numpy(part) for part in phone_openings())
        self.value = nn.Parameter(value)
        self.log_dominance = nn.Parameter(dominance.log())
        self.log_reach = nn.Parameter(torch.tensor([0.05, 0.05]).log())
        self.start = (value.clone(), dominance.log())

    def forward(self, posteriors: Tensor) -> Tensor:
        ahead, behind = self.log_reach.exp()
        offset = torch.arange(-_REACH, _REACH + 1) * _HALF_S
        kernel = torch.where(offset > 0, torch.exp(-offset / ahead), torch.exp(offset / behind))
        weight = posteriors * self.log_dominance.exp()
        both = torch.stack([weight @ self.value, weight.sum(1)])[:, None]
        padded = nn.functional.pad(both, (_REACH, _REACH), mode="replicate")
        pull, total = nn.functional.conv1d(padded, kernel[None, None])[:, 0]
        halves: Tensor = pull / total.clamp(min=1e-4)
        return halves[: len(halves) // 2 * 2].reshape(-1, 2).mean(1)

    def opening(self, posteriors: Floats) -> Floats:
        """The same on arrays."""
        with torch.no_grad():
            return np.asarray(self(torch.from_numpy(posteriors)).numpy(), np.float32)

    def distance(self) -> Tensor:
        """How far the numbers went from the phonetic table they started from."""
        value, log_dominance = self.start
        return (
            3.0 * (self.value - value).square().mean()
            + 0.02 * (self.log_dominance - log_dominance).square().mean()
        )


def fit_articulation(clips: list[Spoken], steps: int = 120, seed: int = 0) -> Articulation:
    """Maximise the correlation with every person's opening; speakers count as the root of their clips."""
    noise = np.random.default_rng(seed)
    speakers: dict[str, list[Spoken]] = defaultdict(list)
    for clip in clips:
        speakers[clip.speaker].append(clip)
    names = list(speakers)
    frames = np.array([sum(len(c.opening) for c in speakers[n]) for n in names], dtype=np.float64)
    chance = np.sqrt(frames) / np.sqrt(frames).sum()
    model = Articulation()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        losses = []
        for pick in noise.choice(len(names), size=12, p=chance):
            members = speakers[names[pick]]
            losses.append(1.0 - _follow(model, members[noise.integers(len(members))], noise))
        loss = torch.stack(losses).mean() + model.distance()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            model.value.clamp_(0.0, 0.4)
    return model.requires_grad_(False)


def _follow(model: Articulation, clip: Spoken, noise: np.random.Generator) -> Tensor:
    """Correlation on a random window of the clip."""
    start = int(noise.integers(0, max(1, len(clip.opening) - _CROP)))
    real = torch.from_numpy(clip.opening[start : start + _CROP])
    made = model(torch.from_numpy(clip.posteriors[2 * start : 2 * (start + _CROP)]))[: len(real)]
    real = real[: len(made)]
    seen = torch.isfinite(real)
    a, b = made[seen] - made[seen].mean(), real[seen] - real[seen].mean()
    together: Tensor = (a * b).sum() / (a.norm() * b.norm() + 1e-6)
    return together
