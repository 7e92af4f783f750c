"""What a trained tracker network sees in a made picture and in the truth, as losses.

GoHD (section 3.3) takes a pretrained perceptual network and landmark detector for this. Here it is
:class:`engine.face.tracker.TrackerNet`, trained by us and frozen: its features stand for the first, its
landmarks, expression, gaze and lids for the second. It is compared with itself on the truth, so what it gets
wrong about both pictures alike costs nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.face.attention import LIPS_MESH
from engine.face.tracker import SIDE, Look, TrackerNet
from engine.weights import load_weights

__all__ = ["Likeness"]

_EYES = (33, 133, 159, 145, 158, 153, 160, 144, 263, 362, 386, 374, 385, 380, 387, 373, 468, 473)


class Likeness(nn.Module):
    """Losses between pictures [B, 3, S, S] of whole face regions, S = 128 k; ``net`` is frozen."""

    def __init__(self, net: TrackerNet) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.marks: Tensor
        self.register_buffer("marks", torch.tensor([*LIPS_MESH, *_EYES]), persistent=False)

    @classmethod
    def shipped(cls) -> Likeness:
        """With the shipped tracker. Raises AssetError where its weights are missing."""
        net = TrackerNet()
        net.load_state_dict({name: value.float() for name, value in load_weights("tracker").items()})
        return cls(net.to(memory_format=torch.channels_last))  # type: ignore[call-overload]

    def forward(self, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """``features``: mean L1 between feature maps, each by the truth's own size; ``landmarks`` of lips and
        eyes, inter-ocular distances; ``units``: expression, gaze (rad) and lids."""
        with torch.no_grad():
            maps, look = self._seen(truth)
        seen, found = self._seen(made)
        away = [
            F.l1_loss(a.float(), b.float()) / b.float().abs().mean() for a, b in zip(seen, maps, strict=True)
        ]
        # As seen from the front: a turned head shows its eyes closer together, but its nose not shorter.
        eyes = (look.points[:, 263] - look.points[:, 33]).norm(dim=1)
        nose = (look.points[:, 168] - look.points[:, 2]).norm(dim=1)
        unit = torch.maximum(eyes, 1.3 * nose)[:, None]
        apart = (found.points[:, self.marks] - look.points[:, self.marks]).norm(dim=2) / unit
        units = (
            (found.expression - look.expression).abs().mean()
            + (found.gaze - look.gaze).abs().mean()
            + (found.blink - look.blink).abs().mean()
        )
        return {"features": torch.stack(away).mean(), "landmarks": apart.mean(), "units": units}

    def _seen(self, pictures: Tensor) -> tuple[list[Tensor], Look]:
        small = F.avg_pool2d(pictures, pictures.shape[-1] // SIDE)
        small = small.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pictures.device.type, torch.bfloat16):
            maps = self.net.features(small)
            return maps, self.net.look(maps)
