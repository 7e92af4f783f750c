"""What the animator's training minimises, and its discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Discriminator", "adversarial", "discriminate", "matching", "pyramid", "temporal", "weighted_l1"]


def weighted_l1(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean |made - truth| with ``weight`` [B, 1, H, W] per pixel."""
    return ((made - truth).abs() * weight).sum() / (weight.sum() * made.shape[1])


def pyramid(made: Tensor, truth: Tensor, weight: Tensor, levels: int = 4) -> Tensor:
    """L1 between Laplacian pyramids: edges count at every scale, a shift of brightness but once."""
    total = made.new_zeros(())
    for _ in range(levels):
        low_made, low_truth = F.avg_pool2d(made, 2), F.avg_pool2d(truth, 2)
        fine_made = made - F.interpolate(low_made, scale_factor=2.0, mode="bilinear")
        fine_truth = truth - F.interpolate(low_truth, scale_factor=2.0, mode="bilinear")
        total = total + weighted_l1(fine_made, fine_truth, weight)
        made, truth, weight = low_made, low_truth, F.avg_pool2d(weight, 2)
    return total


def temporal(made: Tensor, truth: Tensor, weight: Tensor, follows: Tensor) -> Tensor:
    """L1 between the steps from frame to frame; ``follows`` bool [B] as in a batch."""
    at = torch.nonzero(follows)[:, 0]
    if len(at) == 0:
        return made.new_zeros(())
    return weighted_l1(made[at] - made[at - 1], truth[at] - truth[at - 1], weight[at])


class Discriminator(nn.Module):
    """Judges patches of about 70 px: a picture beside the guide it was made from."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(24, w, 3, 1, 1),
                norm(nn.Conv2d(w, 2 * w, 4, 2, 1)),
                norm(nn.Conv2d(2 * w, 3 * w, 4, 2, 1)),
                norm(nn.Conv2d(3 * w, 4 * w, 3, 1, 1)),
            ]
        )
        self.judge = nn.Conv2d(4 * w, 1, 3, 1, 1)

    def forward(self, picture: Tensor, guide: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [B, 1, S/8, S/8] and the features of every layer."""
        x = F.pixel_unshuffle(torch.cat([picture, guide], 1) - 0.5, 2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.judge(x), features


def discriminate(real: Tensor, made: Tensor) -> Tensor:
    """Non-saturating logistic loss of the discriminator from its logits."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def adversarial(made: Tensor) -> Tensor:
    """Non-saturating logistic loss of the animator."""
    return F.softplus(-made).mean()


def matching(made: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Mean L1 between the discriminator's features."""
    total = sum(
        (F.l1_loss(a.float(), b.detach().float()) for a, b in zip(made, truth, strict=True)), torch.zeros(())
    )
    return total / len(made)
