"""Training of ExpFlow and PoseFlow: likelihood, consistency, context dropout, codes, temperature."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from engine.samplers.flowvq.networks import CLASSES, TAPS, ExpFlow, FlowNetConfig, Hearing, PoseFlow
from engine.train.flowvq_data import Face, Head, Windows, past_of

__all__ = ["FlowRecipe", "exp_terms", "pose_terms", "store_codes", "train_exp", "train_pose"]

FIRST = max(TAPS)


@dataclass(frozen=True)
class FlowRecipe:
    """Everything that decides a run. ``dropout``: chance that the whole past is hidden from a window;
    half of it again hides single frames. ``freedom`` infinite makes the prior a Gaussian mixture."""

    steps: int = 500
    batch: int = 16
    window: int = 40
    rate: float = 2e-3
    decay: float = 1e-3
    dropout: float = 0.4
    consistency: float = 0.05
    noise: float = 0.15
    freedom: float = 10.0
    check_every: int = 100
    seed: int = 0


N = TypeVar("N", bound=nn.Module)


def exp_terms(
    net: ExpFlow, batch: tuple[Tensor, Tensor, Tensor], seen: Callable[[int], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x [N, D], label weights [N, C], context tokens [N, S, W], shape hint [B, T]) of a batch.

    ``seen(B)`` gives which taps of the past each window may see, [B, taps].
    """
    features, values, weights = batch
    rows, frames = values.shape[0], values.shape[1] - FIRST
    audio = net.hearing(features)[:, FIRST:].flatten(0, 1)
    label = weights[:, None].expand(-1, frames, -1).flatten(0, 1)
    with torch.no_grad():
        whole = weights[:, None].expand(-1, values.shape[1], -1).flatten(0, 1)
        normal, _ = net.norm(values.flatten(0, 1), whole)
        past = past_of(normal.view(values.shape)).flatten(0, 1)
    mask = seen(rows)[:, None].expand(-1, frames, -1).flatten(0, 1)
    tokens = net.context(audio, label, past, mask)
    return values[:, FIRST:].flatten(0, 1), label, tokens, torch.zeros(rows, frames)


def pose_terms(
    net: PoseFlow, batch: tuple[Tensor, Tensor, Tensor], seen: Callable[[int], Tensor]
) -> tuple[Tensor, Tensor]:
    """(normalised velocity [N, 6], tokens [N, S, W]) of a batch of poses."""
    features, pose, _ = batch
    rows = len(pose)
    step = torch.cat([torch.zeros_like(pose[:, :1]), pose.diff(dim=1)], dim=1)
    both = torch.cat([pose, step], dim=-1) / net.scale
    frames = pose.shape[1] - FIRST
    audio = net.hearing(features)[:, FIRST:].flatten(0, 1)
    past = past_of(both).flatten(0, 1)
    mask = seen(rows)[:, None].expand(-1, frames, -1).flatten(0, 1)
    tokens = net.context(audio, torch.ones(len(audio), 1), past, mask)
    return both[:, FIRST:, 6:].flatten(0, 1), tokens


def _seen(dropout: float) -> Callable[[int], Tensor]:
    """Random masks of the past: all hidden with chance ``dropout``, else frames hidden singly."""

    def draw(rows: int) -> Tensor:
        whole = (torch.rand(rows, 1) >= dropout).float()
        return whole * (torch.rand(rows, len(TAPS)) >= 0.5 * dropout).float()

    return draw


def _all_seen(rows: int) -> Tensor:
    return torch.ones(rows, len(TAPS))


def _normalise(hearing: Hearing, columns: list[int], items: list[Face] | list[Head]) -> None:
    everything = np.concatenate([item.features[:, columns] for item in items])
    hearing.columns.copy_(torch.tensor(columns))
    hearing.mean.copy_(torch.from_numpy(everything.mean(axis=0)))
    hearing.deviation.copy_(torch.from_numpy(everything.std(axis=0) + 0.05))


def _fit(
    net: N, loss: Callable[[], Tensor], score: Callable[[N], float], recipe: FlowRecipe
) -> dict[str, float]:
    """AdamW, one cycle, averaged weights; ``net`` is left with those that scored lowest on dev."""
    optimiser = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.15)
    average = copy.deepcopy(net)
    best, lowest = copy.deepcopy(net.state_dict()), math.inf
    for step in range(1, recipe.steps + 1):
        value = loss()
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 1.0 if step == 1 else min(1.0, max(0.02, 2.0 / (step + 2))))
        if step % recipe.check_every == 0 or step == recipe.steps:
            with torch.no_grad():
                now = score(average)
            print(f"step {step}: loss {value.item():.3f}, dev {now:.3f}", flush=True)
            if now < lowest:
                best, lowest = copy.deepcopy(average.state_dict()), now
    net.load_state_dict(best)
    return {"dev_nll": round(lowest, 3)}


def train_exp(
    train: list[Face], dev: list[Face], columns: list[int], recipe: FlowRecipe, config: FlowNetConfig
) -> tuple[ExpFlow, dict[str, float]]:
    """ExpFlow on windows of ``train``; the epoch with the lowest negative log-likelihood on ``dev``
    (nats a frame, nothing hidden and the whole past hidden, half each)."""
    torch.manual_seed(recipe.seed)
    net = ExpFlow(config)
    _normalise(net.hearing, columns, train)
    windows = Windows(train, recipe.window, recipe.seed)
    values = torch.cat([torch.from_numpy(f.x) for f in train])
    labels = torch.cat([torch.from_numpy(f.weights).expand(len(f.x), -1) for f in train])
    net.norm.fit(values, labels)
    spread = torch.quantile(values[torch.randperm(len(values))[:20_000]], torch.tensor([0.001, 0.999]), dim=0)
    net.low.copy_(spread[0] - 0.25 * (spread[1] - spread[0]))
    net.high.copy_(spread[1] + 0.25 * (spread[1] - spread[0]))
    jitter = recipe.noise * net.norm.log_scale.detach()[0].exp()
    held = Windows(dev, recipe.window, 1)
    checks = [held.batch(16, 0.3) for _ in range(6)]
    draw = _seen(recipe.dropout)

    def loss() -> Tensor:
        features, x, weights = windows.batch(recipe.batch)
        # Noise of the measurement's size keeps the density finite where a column hardly moves.
        x = x + jitter * torch.randn(x.shape)
        batch = (features, x, weights)
        x, label, tokens, shape = exp_terms(net, batch, draw)
        _, log_density = net.encode(x, label, tokens)
        return -log_density.mean() + recipe.consistency * _consistency(net, x, label, tokens, shape)

    def score(now: ExpFlow) -> float:
        noise = torch.Generator().manual_seed(0)
        total = 0.0
        for features, x, weights in checks:
            batch = (features, x + jitter * torch.randn(x.shape, generator=noise), weights)
            for seen in (_all_seen, lambda rows: torch.zeros(rows, len(TAPS))):
                values, label, tokens, _ = exp_terms(now, batch, seen)
                total -= float(now.encode(values, label, tokens)[1].mean()) / (2 * len(checks))
        return total

    return net, _fit(net, loss, score, recipe)


def _consistency(net: ExpFlow, x: Tensor, label: Tensor, tokens: Tensor, shape: Tensor) -> Tensor:
    """|(x_t - x_{t-1}) - (x'_t - x'_{t-1})|_1 with x' sampled (eq. 11), on a quarter of the windows,
    in units of the neutral deviations."""
    rows, frames = shape.shape
    count = max(1, rows // 4) * frames
    x, label, tokens = x[:count], label[:count], tokens[:count]
    chi = torch.randn(count, 10).square().sum(1)
    z = net.prior.sample(torch.randn(x.shape), chi * net.prior.freedom / 10 if _finite(net) else None, label)
    made = net.flow.inverse(z, label, tokens)
    unit = net.norm.log_scale.detach()[0].exp()
    error = ((made - x) / unit).view(-1, frames, x.shape[1]).diff(dim=1).abs()
    return error.clamp(max=10.0).sum(-1).mean()


def _finite(net: ExpFlow) -> bool:
    return not math.isinf(net.prior.freedom)


def store_codes(net: ExpFlow, train: list[Face], seed: int = 0) -> None:
    """Latent codes of random training frames of each label, whole past seen, less their component."""
    noise = np.random.default_rng(seed)
    count = net.codes.shape[1]
    for label in range(CLASSES):
        members = [f for f in train if int(f.weights.argmax()) == label and len(f.x) > FIRST + 40]
        if not members:
            continue
        found = []
        for _ in range(count // 32 + 1):
            item = members[noise.integers(len(members))]
            start = int(noise.integers(0, len(item.x) - FIRST - 39))
            cut = slice(start, start + FIRST + 40)
            batch = (item.features[cut], item.x[cut], item.weights)
            tensors = tuple(torch.from_numpy(part)[None] for part in batch)
            with torch.no_grad():
                x, weights, tokens, _ = exp_terms(net, (tensors[0], tensors[1], tensors[2]), _all_seen)
                z, _ = net.encode(x, weights, tokens)
            found.append(z - weights @ net.prior.means)
        z = torch.cat(found)
        net.codes[label] = z[torch.from_numpy(noise.permutation(len(z))[:count].copy())]


def train_pose(
    train: list[Head], dev: list[Head], columns: list[int], recipe: FlowRecipe, config: FlowNetConfig
) -> tuple[PoseFlow, dict[str, float]]:
    """PoseFlow on free talkers; the epoch with the lowest negative log-likelihood on ``dev``."""
    torch.manual_seed(recipe.seed)
    net = PoseFlow(config)
    _normalise(net.hearing, columns, train)
    poses = torch.cat([torch.from_numpy(h.pose) for h in train])
    steps = torch.cat([torch.from_numpy(h.pose).diff(dim=0) for h in train])
    net.scale.copy_(torch.cat([poses.std(0), steps.std(0)]))
    windows, held = Windows(train, recipe.window, recipe.seed), Windows(dev, recipe.window, 1)
    checks = [held.batch(16) for _ in range(6)]
    draw = _seen(recipe.dropout)

    def loss() -> Tensor:
        step, tokens = pose_terms(net, windows.batch(recipe.batch), draw)
        return -net.encode(step + recipe.noise * torch.randn(step.shape), tokens)[1].mean()

    def score(now: PoseFlow) -> float:
        noise = torch.Generator().manual_seed(0)
        total = 0.0
        for batch in checks:
            step, tokens = pose_terms(now, batch, _all_seen)
            noisy = step + recipe.noise * torch.randn(step.shape, generator=noise)
            total -= float(now.encode(noisy, tokens)[1].mean()) / len(checks)
        return total

    return net, _fit(net, loss, score, recipe)
