"""The networks of the learned animator (GoHD, section 3.3, on what the fitted mesh already knows).

Once per portrait an encoder gives an identity code z_s and feature maps. Every frame the driving window
gives magnitudes over an orthogonal dictionary of motions, z_t = z_s + λ Σ a_i d_i, and the decoder,
modulated by z_t, refines the mesh animator's picture of the face: it sees that picture and the source's
features carried along by the mesh's flow, and returns a small extra flow, a share of new colour and that
colour. All pictures are the face region (:mod:`engine.animators.gohd.region`), sRGB 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.layers.modulated import Modulated, ModulatedResidual, OrthogonalDictionary

__all__ = [
    "EXPRESSION",
    "GAZE",
    "LITE",
    "MOST",
    "POSE",
    "STEEPER",
    "Decoder",
    "Encoder",
    "GohdNet",
    "Refiner",
    "Size",
    "compose",
]

EXPRESSION, POSE, GAZE = slice(0, 64), slice(64, 70), slice(70, 72)
"""Columns of a motion row."""
STEEPER = 3.0
"""Radians and inter-ocular distances are small beside coefficients of 0..1: pose and gaze count so much."""
_LEAST_FLOW = 0.12
"""px of the region"""
_LEAST_SHARE = 0.004
"""One level of 255; without it the share's tail is denormal numbers, which are slow."""
MOST = 3.0
"""No real motion is further from rest, in any column; what is comes from a lost track."""


@dataclass(frozen=True)
class Size:
    """How large the network is.

    ``side`` px of the face region; ``channels`` at 1/2, 1/4, 1/8 and 1/16 of it; ``code`` the size Z of
    z; ``directions`` M of the dictionary; ``window`` motion rows a frame is driven by, the last one its
    own; ``guided`` whether the decoder sees the mesh animator's picture and flow, or the still source;
    ``reach`` px of the region by which it can move a pixel further; ``change`` (0..1) by which new colour
    can differ from the guide's: motions that training never saw must not paint teeth grey.
    """

    side: int = 256
    channels: tuple[int, int, int, int] = (20, 44, 88, 128)
    code: int = 128
    directions: int = 32
    window: int = 3
    guided: bool = True
    reach: float = 8.0
    change: float = 0.15


LITE = Size()


def _down(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, 2, 1)
    nn.init.kaiming_normal_(conv.weight, a=0.1)
    return nn.Sequential(conv, nn.LeakyReLU(0.1))


class Encoder(nn.Module):
    """Source picture [B, 3, S, S] to z_s [B, Z] and features at 1/4, 1/8 and 1/16 of the side."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        c1, c2, c3, c4 = size.channels
        self.first = nn.Sequential(nn.Conv2d(12, c1, 3, 1, 1), nn.LeakyReLU(0.1))
        self.levels = nn.ModuleList([_down(c1, c2), _down(c2, c3), _down(c3, c4)])
        self.last = _down(c4, c4)
        self.code = nn.Linear(c4, size.code)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z_s [B, Z]; features [B, C2, S/4, S/4], [B, C3, S/8, S/8], [B, C4, S/16, S/16]."""
        x = self.first(F.pixel_unshuffle(source - 0.5, 2))
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        code = self.code(self.last(x).mean((2, 3)))
        return code, features[0], features[1], features[2]


class Navigation(nn.Module):
    """From the driving window and z_s to z_t (GoHD equations 9 and 10)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        hidden = size.code
        self.row = nn.Sequential(nn.Linear(POSE.stop, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, hidden))
        self.gaze = nn.Linear(2, 16)
        self.magnitudes = nn.Sequential(
            nn.Linear(hidden + 16 + size.code, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, size.directions)
        )
        self.dictionary = OrthogonalDictionary(size.directions, size.code)

    def forward(self, window: Tensor, code: Tensor) -> Tensor:
        """``window`` [B, W, 72] (motion minus the portrait's rest) and ``code`` z_s [B, Z] to w [B, Z]."""
        window = window.clamp(-MOST, MOST)
        rows = torch.cat([window[..., EXPRESSION], STEEPER * window[..., POSE]], -1)
        driven = self.row(rows).amax(1)
        gaze = self.gaze(STEEPER * window[:, -1, GAZE])
        w: Tensor = self.dictionary(self.magnitudes(torch.cat([driven, gaze, code], -1)))
        return w


class Decoder(nn.Module):
    """The guide picture and the carried source features to flow, share and change of colour."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        c1, c2, c3, c4 = size.channels
        z = size.code
        self.reach, self.change = size.reach, size.change
        self.stem = Modulated(12, c1, z)
        self.down2, self.join2 = Modulated(c1, c2, z, 2), Modulated(2 * c2, c2, z)
        self.down3, self.join3 = Modulated(c2, c3, z, 2), Modulated(2 * c3, c3, z)
        self.down4, self.join4 = Modulated(c3, c4, z, 2), Modulated(2 * c4, c4, z)
        self.middle = nn.ModuleList([ModulatedResidual(c4, z) for _ in range(2)])
        self.up3, self.mix3 = nn.Conv2d(c4, 4 * (c3 // 2), 1), Modulated(c3 // 2 + c3, c3, z)
        self.up2, self.mix2 = nn.Conv2d(c3, 4 * (c2 // 2), 1), Modulated(c2 // 2 + c2, c2, z)
        self.refine2 = ModulatedResidual(c2, z)
        self.up1, self.mix1 = nn.Conv2d(c2, 4 * (c1 // 2), 1), Modulated(c1 // 2 + c1, c1, z)
        self.flow = nn.Conv2d(c2, 2, 3, 1, 1)
        self.paint = nn.Conv2d(c1, 16, 3, 1, 1)
        for head in (self.flow, self.paint):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(
        self, guide: Tensor, grid: Tensor, f2: Tensor, f3: Tensor, f4: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :class:`GohdNet`."""
        x1 = self.stem(F.pixel_unshuffle(guide - 0.5, 2), code)
        grid3 = F.avg_pool2d(grid.permute(0, 3, 1, 2), 2)
        grid4 = F.avg_pool2d(grid3, 2)
        x2 = self.join2(torch.cat([self.down2(x1, code), _carry(f2, grid)], 1), code)
        x3 = self.join3(torch.cat([self.down3(x2, code), _carry(f3, grid3.permute(0, 2, 3, 1))], 1), code)
        x = self.join4(torch.cat([self.down4(x3, code), _carry(f4, grid4.permute(0, 2, 3, 1))], 1), code)
        for block in self.middle:
            x = block(x, code)
        x = self.mix3(torch.cat([F.pixel_shuffle(self.up3(x), 2), x3], 1), code)
        x = self.mix2(torch.cat([F.pixel_shuffle(self.up2(x), 2), x2], 1), code)
        x = self.refine2(x, code)
        # A shift by a fraction of a pixel blurs: what is too small to matter is no shift at all.
        flow = _shrink(self.reach * torch.tanh(self.flow(x)), _LEAST_FLOW)
        x = self.mix1(torch.cat([F.pixel_shuffle(self.up1(x), 2), x1], 1), code)
        # At half the side, as the convolution leaves it: four channels to each of R, G, B and the share.
        painted = self.paint(x)
        share = _shrink(torch.sigmoid(8.0 * painted[:, 12:] - 2.0), _LEAST_SHARE)
        # New colour starts from the guide's, so that an untrained share changes nothing.
        change = self.change * torch.tanh(painted[:, :12] / self.change) * torch.cat([share, share, share], 1)
        return flow, F.pixel_shuffle(torch.cat([change, share], 1), 2)


def _shrink(x: Tensor, least: float) -> Tensor:
    """Soft shrinkage, in operations that every compiler knows."""
    return x - x.clamp(-least, least)


def _carry(features: Tensor, grid: Tensor) -> Tensor:
    """Features [B, C, h, w] sampled at ``grid`` [B, h, w, 2] (-1..1 from edge to edge)."""
    carried = F.grid_sample(features, grid.to(features.dtype), "bilinear", "border", align_corners=False)
    return carried


class GohdNet(nn.Module):
    """Encoder, navigation and decoder.

    The inputs of a frame: ``guide`` [B, 3, S, S] the mesh animator's picture of the region; ``grid``
    [B, S/4, S/4, 2] where each place lies in the source's region, -1..1 from edge to edge; ``window``
    [B, W, 72] motion minus the portrait's rest, oldest row first; the source's ``code``, ``f2``, ``f3``,
    ``f4``; ``strength`` [B, 1], λ of GoHD's Fig. 8.

    The outputs: ``flow`` [B, 2, S/4, S/4], px of the region by which the guide is sampled elsewhere;
    ``paint`` [B, 4, S, S], share x (new colour - guide) and share. :func:`compose` makes the picture.
    """

    fade: Tensor
    fade4: Tensor

    def __init__(self, size: Size = LITE) -> None:
        super().__init__()
        self.size = size
        self.encoder = Encoder(size)
        self.navigation = Navigation(size)
        self.decoder = Decoder(size)
        self.register_buffer("fade", _fade(size.side), persistent=False)
        self.register_buffer("fade4", F.avg_pool2d(_fade(size.side), 4), persistent=False)

    def forward(
        self,
        guide: Tensor,
        grid: Tensor,
        window: Tensor,
        code: Tensor,
        f2: Tensor,
        f3: Tensor,
        f4: Tensor,
        strength: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Flow and paint of one frame per row; shapes as in the class."""
        return self.refine(guide, grid, f2, f3, f4, self.navigate(window, code, strength).to(guide.dtype))

    def navigate(self, window: Tensor, code: Tensor, strength: Tensor) -> Tensor:
        """z_t [B, Z] = z_s + λ w."""
        z: Tensor = code + strength * self.navigation(window, code)
        return z

    def refine(
        self,
        guide: Tensor,
        grid: Tensor,
        f2: Tensor,
        f3: Tensor,
        f4: Tensor,
        z: Tensor,
        corner: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """Flow and paint at ``z`` [B, Z]; ``guide`` may be the part of the region at ``corner`` (y, x)."""
        flow, paint = self.decoder(guide, grid, f2, f3, f4, z.to(guide.dtype))
        (y, x), (height, width) = corner, guide.shape[-2:]
        fade = self.fade[..., y : y + height, x : x + width]
        fade4 = self.fade4[..., y // 4 : (y + height) // 4, x // 4 : (x + width) // 4]
        return flow * fade4, paint * fade


class Refiner(nn.Module):
    """The part that runs on every frame and is compiled: :meth:`GohdNet.refine`.

    Navigation stays outside: it is small, and one compiler made NaN of the two together in bf16.
    """

    def __init__(self, net: GohdNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, guide: Tensor, grid: Tensor, f2: Tensor, f3: Tensor, f4: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`GohdNet.refine`; ``guide`` may also be uint8 [B, S, S, 3], as pictures are kept."""
        if guide.dtype == torch.uint8:
            guide = guide.permute(0, 3, 1, 2).float() * (1.0 / 255.0)
        return self.net.refine(guide, grid, f2, f3, f4, z)


def _fade(side: int, width: int = 20) -> Tensor:
    """[1, 1, side, side]: 1 inside, falling smoothly to 0 over the outermost ``width`` px.

    The region ends inside the frame; what the network adds has to end before.
    """
    inset = torch.arange(side).float() + 0.5
    ramp = (torch.minimum(inset, side - inset) / width).clamp(max=1.0)
    ramp = ramp * ramp * (3.0 - 2.0 * ramp)
    return (ramp[:, None] * ramp)[None, None]


def compose(guide: Tensor, flow: Tensor, paint: Tensor) -> Tensor:
    """The picture [B, 3, S, S]: (1 - share) x guide sampled along the flow + share x new colour.

    The guide was resampled once already when it was drawn: a second bilinear sampling would soften it, so
    this one is bicubic, as :func:`kernels.fuse.fuse` has it.
    """
    batch, _, height, width = guide.shape
    full = F.interpolate(flow.float(), (height, width), mode="bilinear", align_corners=False)
    y = (torch.arange(height, device=guide.device, dtype=torch.float32) + 0.5) / height * 2.0 - 1.0
    x = (torch.arange(width, device=guide.device, dtype=torch.float32) + 0.5) / width * 2.0 - 1.0
    scale = full.new_tensor([2.0 / width, 2.0 / height])
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    grid = places[None].expand(batch, -1, -1, -1) + full.permute(0, 2, 3, 1) * scale
    moved = F.grid_sample(guide.float(), grid, "bicubic", "border", align_corners=False)
    share = paint[:, 3:].float()
    return moved * (1.0 - share) + guide.float() * share + paint[:, :3].float()
