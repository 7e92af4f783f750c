"""The expression factor: what of a driver's face is mood, not speech.

A driver's frames become 30-d codes that are averaged over a causal window (in-window decorrelation:
expression changes more slowly than speech, so what speech stirs averages out) and decoded to expression
columns. Training keeps the code uncorrelated with the lips (:mod:`engine.train.pdfgc_expression`).

Wang et al., "Progressive Disentangled Representation Learning for Fine-Grained Controllable Talking
Head Synthesis", CVPR 2023, section 3.3. There the window lies around the frame and the code comes from
pictures; here the window ends at the frame and the code comes from tracked motion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.samplers.factors import EYES
from engine.types import EXPRESSION_NAMES, MOTION

__all__ = ["ARTICULATION", "CODE_SIZE", "READ", "WINDOW", "ExpressionNet", "slide"]

CODE_SIZE = 30
WINDOW = 13
"""Frames of the window, 0.52 s (table 5: the best of 7, 13 and 25)."""

READ: list[int] = [k for k in range(len(EXPRESSION_NAMES)) if k not in EYES]
"""Columns the code is made from: mouth, cheeks, brows, lid tension; gaze and blinks are the eyes' factor."""
ARTICULATION: list[int] = [
    k for k, name in enumerate(EXPRESSION_NAMES) if name.startswith(("tongue", "lipsSealed", "lowerLipIn"))
]
"""Columns that only speech moves; no expression is decoded to them."""


class ExpressionNet(nn.Module):
    """Motion to codes and codes to expression; both map zero to zero (a face at rest).

    ``scale`` [len(READ)]: deviation of each column over the training people.
    """

    scale: Tensor
    spoken: Tensor

    def __init__(self, hidden: int = 96, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("scale", torch.ones(len(READ)))
        keep = torch.tensor([0.0 if k in ARTICULATION else 1.0 for k in READ])
        self.register_buffer("spoken", keep, persistent=False)
        self.encoder = nn.Sequential(nn.Linear(len(READ), hidden), nn.GELU(), nn.Linear(hidden, CODE_SIZE))
        self.decoder = nn.Sequential(nn.Linear(CODE_SIZE, hidden), nn.GELU(), nn.Linear(hidden, len(READ)))

    def encode(self, motion: Tensor) -> Tensor:
        """Columns ``READ`` of motion [..., len(READ)] to codes [..., 30], one per frame."""
        rest = torch.zeros(1, len(READ))
        return torch.as_tensor(self.encoder(motion / self.scale) - self.encoder(rest))

    def decode(self, code: Tensor) -> Tensor:
        """Codes [..., 30] to columns ``READ`` [..., len(READ)], relative to a face at rest."""
        rest = torch.zeros(1, CODE_SIZE)
        return torch.as_tensor((self.decoder(code) - self.decoder(rest)) * self.scale * self.spoken)

    def init_window(self, batch: int) -> Tensor:
        """A window of faces at rest [B, W, 30]."""
        return torch.zeros(batch, self.window, CODE_SIZE)

    def express(self, motion: Tensor, codes: Tensor) -> Tensor:
        """The next frame of a driver: motion [B, 72] to expression [B, 64], added to a face at rest.

        ``codes`` [B, W, 30] is the window, moved on in place. A row of zeros (no driver) is a face at
        rest exactly, whatever the rest of the batch does.
        """
        newest = self.encode(motion[:, READ])
        present = motion[:, READ].abs().amax(dim=1, keepdim=True) > 0
        slide(codes, torch.where(present, newest, 0.0))
        average = codes.mean(dim=1)
        decoded = torch.where(average.abs().amax(dim=1, keepdim=True) > 0, self.decode(average), 0.0)
        expression = motion.new_zeros(len(motion), MOTION.expression.stop)
        expression[:, READ] = decoded
        return expression


def slide(window: Tensor, newest: Tensor) -> None:
    """Drop the oldest of ``window`` [B, W, C], append ``newest`` [B, C], in place."""
    window.copy_(torch.cat([window[:, 1:], newest[:, None]], dim=1))
