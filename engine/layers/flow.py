"""Blocks of a conditional normalizing flow: invertible maps with their log-determinants, and priors.

After Glow (Kingma, Dhariwal, 2018): actnorm, an invertible linear map over channels, affine
coupling. Here the actnorm keeps a mean and a scale per class and the coupling's network is a
transformer block that attends from the untouched half to context tokens (FlowVQTalker, Tan et al.,
2024, section 3.2). Direction: ``forward`` takes data to the latent code, ``inverse`` back. Class
labels are weights [N, C] that sum to 1, so that a label may be between two classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = [
    "AffineCoupling",
    "Flow",
    "FlowConfig",
    "InvertibleLinear",
    "MixturePrior",
    "MultiActNorm",
    "on_manifold",
]

_LOG_SCALE_LIMIT = 1.2
"""A coupling scales by at most e^1.2 either way, so that no step can blow a stream up."""


class MultiActNorm(nn.Module):
    """h = (x - mu_e) / delta_e with a mean and a deviation per class; labels mix both (delta in logs)."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(classes, size))
        self.log_scale = nn.Parameter(torch.zeros(classes, size))

    def forward(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, D], weights [N, C] -> (h [N, D], log-determinant [N])."""
        log_scale = weights @ self.log_scale
        return (x - weights @ self.mean) * torch.exp(-log_scale), -log_scale.sum(-1)

    def inverse(self, h: Tensor, weights: Tensor) -> Tensor:
        return h * torch.exp(weights @ self.log_scale) + weights @ self.mean

    def fit(self, x: Tensor, weights: Tensor, floor: float = 0.02) -> None:
        """Start from the data: means by least squares over the labels, deviations of what is left.

        A deviation is at least ``floor`` (units of ``x``).
        """
        with torch.no_grad():
            ridge = 1e-3 * len(x) * torch.eye(weights.shape[1]) / weights.shape[1]
            mean = torch.linalg.solve(weights.T @ weights + ridge, weights.T @ x)
            left = (x - weights @ mean).square()
            share = weights.square()
            spread = (share.T @ left) / share.sum(0).clamp(min=1e-3)[:, None]
            self.mean.copy_(mean)
            self.log_scale.copy_(spread.sqrt().clamp(min=floor).log())


class InvertibleLinear(nn.Module):
    """h = W x with W = P L (U + diag(s)): a 1x1 convolution whose determinant is the product of s."""

    permutation: Tensor
    sign: Tensor
    backward_weight: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(size, size))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = torch.diagonal(upper)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.register_buffer("backward_weight", torch.zeros(0), persistent=False)
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(diagonal.abs().log())

    def weight(self) -> Tensor:
        """W [D, D]."""
        unit = torch.eye(len(self.log_scale))
        upper = self.upper.triu(1) + torch.diag(self.sign * torch.exp(self.log_scale))
        w: Tensor = self.permutation @ (self.lower.tril(-1) + unit) @ upper
        return w

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, D] -> (h [N, D], log-determinant, one number)."""
        turned: Tensor = x @ self.weight().T
        return turned, self.log_scale.sum()

    def inverse(self, h: Tensor) -> Tensor:
        frozen = self.backward_weight.numel() > 0
        x: Tensor = h @ (self.backward_weight if frozen else torch.linalg.inv(self.weight())).T
        return x

    def freeze(self) -> None:
        """Invert once; only for weights that change no more."""
        self.backward_weight = torch.linalg.inv(self.weight().detach())


class AffineCoupling(nn.Module):
    """h = [x1, (x2 + t) * s], (s, t) = F(x1, context), F one transformer block (eq. 5).

    The first half of the channels asks (one query), the context tokens answer (attention), a
    feed-forward layer makes scale and shift. The last layer starts at zero: the identity.
    """

    def __init__(self, size: int, width: int, heads: int) -> None:
        super().__init__()
        self.kept = size // 2
        self.heads = heads
        self.ask = nn.Linear(self.kept, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.query = nn.Linear(width, width)
        self.joined = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2 * (size - self.kept))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _scale_shift(self, kept: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """kept [N, D/2], tokens [N, S, W] -> (log s, t), each [N, D - D/2]."""
        rows, count, width = tokens.shape
        asked = self.ask(kept)
        query = self.query(asked).view(rows, self.heads, 1, width // self.heads)
        both = self.key_value(tokens).view(rows, count, 2, self.heads, width // self.heads)
        key, value = both[:, :, 0].transpose(1, 2), both[:, :, 1].transpose(1, 2)
        score = (query * key).sum(-1) / math.sqrt(width // self.heads)
        seen = (torch.softmax(score, dim=-1)[..., None] * value).sum(2).reshape(rows, width)
        hidden = self.norm(asked + self.joined(seen))
        hidden = self.norm_out(hidden + self.feed(hidden))
        raw, shift = self.out(hidden).chunk(2, dim=-1)
        return _LOG_SCALE_LIMIT * torch.tanh(raw / _LOG_SCALE_LIMIT), shift

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, D], tokens [N, S, W] -> (h [N, D], log-determinant [N])."""
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        log_scale, shift = self._scale_shift(kept, tokens)
        return torch.cat([kept, (moved + shift) * torch.exp(log_scale)], dim=-1), log_scale.sum(-1)

    def inverse(self, h: Tensor, tokens: Tensor) -> Tensor:
        kept, moved = h[:, : self.kept], h[:, self.kept :]
        log_scale, shift = self._scale_shift(kept, tokens)
        return torch.cat([kept, moved * torch.exp(-log_scale) - shift], dim=-1)


@dataclass(frozen=True)
class FlowConfig:
    """``size`` D of the data, ``classes`` C, ``steps`` K, ``width`` W of the context tokens."""

    size: int
    classes: int
    steps: int = 4
    width: int = 48
    heads: int = 4


class Flow(nn.Module):
    """K steps of multi-actnorm, invertible linear map and affine coupling."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        size, steps = config.size, range(config.steps)
        self.norms = nn.ModuleList(MultiActNorm(size, config.classes) for _ in steps)
        self.turns = nn.ModuleList(InvertibleLinear(size) for _ in steps)
        self.couplings = nn.ModuleList(AffineCoupling(size, config.width, config.heads) for _ in steps)

    def freeze(self) -> None:
        """Make :meth:`inverse` faster; only for weights that change no more."""
        for turn in self.turns:
            assert isinstance(turn, InvertibleLinear)
            turn.freeze()

    def forward(self, x: Tensor, weights: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, D], weights [N, C], tokens [N, S, W] -> (z [N, D], log |det dz/dx| [N])."""
        total = x.new_zeros(len(x))
        for norm, turn, coupling in zip(self.norms, self.turns, self.couplings, strict=True):
            x, change = norm(x, weights)
            total = total + change
            x, change = turn(x)
            total = total + change
            x, change = coupling(x, tokens)
            total = total + change
        return x, total

    def inverse(self, z: Tensor, weights: Tensor, tokens: Tensor) -> Tensor:
        """The x [N, D] whose code is ``z``."""
        for k in reversed(range(self.config.steps)):
            norm, turn, coupling = self.norms[k], self.turns[k], self.couplings[k]
            assert isinstance(norm, MultiActNorm)
            assert isinstance(turn, InvertibleLinear)
            assert isinstance(coupling, AffineCoupling)
            z = norm.inverse(turn.inverse(coupling.inverse(z, tokens)), weights)
        return z


class MixturePrior(nn.Module):
    """One component per class, means drawn once from N(0, I), covariance I (eqs. 7 to 9).

    A multivariate Student t with ``freedom`` degrees of freedom,

        log t = lgamma((v + D)/2) - lgamma(v/2) - D/2 log(v pi) - (v + D)/2 log(1 + |z - m|^2 / v),

    or a Gaussian where ``freedom`` is infinite. A label between classes has the mean between theirs.
    """

    means: Tensor

    def __init__(self, size: int, classes: int, freedom: float, spread: float = 1.0) -> None:
        super().__init__()
        self.freedom = freedom
        self.register_buffer("means", spread * torch.randn(classes, size))

    def log_density(self, z: Tensor, weights: Tensor) -> Tensor:
        """log p(z | e) [N] of z [N, D]."""
        size, v = z.shape[-1], self.freedom
        square = (z - weights @ self.means).square().sum(-1)
        if math.isinf(v):
            return -0.5 * square - 0.5 * size * math.log(2.0 * math.pi)
        constant = math.lgamma((v + size) / 2) - math.lgamma(v / 2) - 0.5 * size * math.log(v * math.pi)
        return constant - 0.5 * (v + size) * torch.log1p(square / v)

    def sample(self, normal: Tensor, chi_square: Tensor | None, weights: Tensor) -> Tensor:
        """z [N, D] from standard normals [N, D] and, for a t, a chi-square of ``freedom`` [N]."""
        if chi_square is not None and not math.isinf(self.freedom):
            normal = normal * torch.sqrt(self.freedom / chi_square.clamp(min=1e-3))[:, None]
        mean: Tensor = weights @ self.means
        return normal + mean


def on_manifold(z: Tensor, codes: Tensor, neighbours: int, ridge: float = 0.01) -> Tensor:
    """Replace each z [N, D] by the weighted mean of its nearest ``codes`` [N, M, D].

    The weights minimise |z - sum_k w_k z_k|^2 with sum_k w_k = 1 (manifold projection: FlowVQTalker,
    section 3.2; locally linear embedding's closed form); ``ridge`` keeps them from extrapolating.
    """
    distance = (codes - z[:, None]).square().sum(-1)
    near = distance.topk(neighbours, dim=1, largest=False).indices
    found = torch.gather(codes, 1, near[..., None].expand(-1, -1, codes.shape[-1]))
    offset = found - z[:, None]
    gram = offset @ offset.transpose(1, 2)
    trace = gram.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] / neighbours
    gram = gram + (ridge * trace + 1e-6) * torch.eye(neighbours)
    weights = torch.linalg.solve(gram, torch.ones(len(z), neighbours, 1))
    weights = weights / weights.sum(1, keepdim=True)
    projected: Tensor = (weights * found).sum(1)
    return projected
