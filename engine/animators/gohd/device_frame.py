"""One frame of several rows on a device, from motion to packed pixels, with nothing in between on the host.

Order, as on the CPU (:mod:`engine.animators.gohd.animator`): the mesh's sampling map, the person through it
over the background, the face region cut out as the network's guide, the network, its flow and colour laid
into the frame and converted in one pass. What the mesh animator's mouth and eye layers paint is not there:
behind parted lips the guide shows the portrait's own pixels, drawn apart, and the network alone decides what
is seen; closing lids take the skin around them, without paint and lashes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.animators.gohd.device_mesh import MeshMap, Rows, bilinear, mesh_rows, region_corner
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.network import Navigation, Size
from engine.animators.mesh.render import SIZE, FrameRenderer
from engine.runtime.cuda_graph import Body
from engine.types import PixelFormat
from kernels.fuse import fuse, fuse_i420

__all__ = ["DeviceFrame", "FaceTable", "face_rows"]

_SOFTENED = 0.4
"""Share of the neighbours' mean in a pixel beside a break of the mesh."""


def face_rows(identity: GohdIdentity, renderer: FrameRenderer) -> Rows:
    """Everything a frame needs of one face, each [...] of one row, on the CPU."""
    mesh, region = identity.mesh, identity.region
    code, f2, f3, f4 = (value[0].float() for value in identity.features)
    return mesh_rows(renderer) | {
        "person": torch.from_numpy(mesh.person).permute(2, 0, 1).contiguous(),
        "background": torch.from_numpy(mesh.background).permute(2, 0, 1).contiguous(),
        "region": torch.tensor([region.left, region.top, region.side]),
        "code": code,
        "f2": f2,
        "f3": f3,
        "f4": f4,
    }


class FaceTable(nn.Module):
    """The faces that can be drawn, in numbered places that never move: a captured graph knows addresses.

    Args:
        like: the arrays of one face.
        places: how many faces.
    """

    def __init__(self, like: Rows, places: int) -> None:
        super().__init__()
        self.names = tuple(like)
        for name, value in like.items():
            empty = value.new_zeros(places, *value.shape)
            self.register_buffer(f"table_{name}", empty, persistent=False)

    def write(self, place: int, rows: Rows) -> None:
        """Put a face in ``place``; the host waits until it is there.

        Raises:
            ValueError: a face prepared for another network or basis.
        """
        for name in self.names:
            target: Tensor = getattr(self, f"table_{name}")[place]
            if target.shape != rows[name].shape:
                raise ValueError(
                    f"{name} is {list(rows[name].shape)}, the table holds {list(target.shape)}: "
                    "prepare the face with this animator"
                )
            target.copy_(rows[name])
            if target.is_cuda:
                torch.cuda.current_stream(target.device).synchronize()

    def forward(self, places: Tensor) -> Rows:
        """The arrays of ``places`` int64 [B], each [B, ...]."""
        return {name: getattr(self, f"table_{name}").index_select(0, places) for name in self.names}


class DeviceFrame(nn.Module):
    """Motion rows to frames.

    Args:
        mesh: geometry and sampling map.
        table: the faces.
        navigation: from the driving window to z.
        network: :class:`~engine.animators.gohd.network.Refiner` as the work of a graph, on the same device.
        size: of the network.
        pixels: layout of the frames.
    """

    axis: Tensor
    axis4: Tensor

    def __init__(
        self,
        mesh: MeshMap,
        table: FaceTable,
        navigation: Navigation,
        network: Body,
        size: Size,
        pixels: PixelFormat,
    ) -> None:
        super().__init__()
        self.mesh, self.table, self.navigation = mesh, table, navigation
        self.network, self.side, self.pixels = network, size.side, pixels
        for name, count in (("axis", size.side), ("axis4", size.side // 4)):
            self.register_buffer(name, (torch.arange(count) + 0.5) / count, persistent=False)

    def forward(self, motion: Tensor, window: Tensor, strength: Tensor, place: Tensor) -> Tensor:
        """``motion`` [B, 72]; ``window`` [B, W, 72] motion minus the portrait's rest, oldest first;
        ``strength`` [B, 1]; ``place`` int64 [B] in the table.

        Returns uint8 [B, 768, 512] (I420) or [B, 512, 512, 3] (RGB) on the module's device.
        """
        rows = self.table(place)
        positions, torn, centre = self.mesh(motion, rows)
        frame = self._drawn(positions, torn, rows)
        left, top = region_corner(centre, rows["region"][:, 2])
        guide, grid = self._guide(frame, positions, left, top, rows["region"])
        z = rows["code"] + strength * self.navigation(window, rows["code"])
        features = (rows["f2"], rows["f3"], rows["f4"])
        flow, paint = self.network((guide, grid, *features, z))
        return self._composed(frame, flow.float(), paint.float(), left, top, rows["region"][:, 2])

    def _drawn(self, positions: Tensor, torn: Tensor, rows: Rows) -> Tensor:
        """The person over the background, uint8 [B, 3, 512, 512]."""
        person = bilinear(rows["person"].float(), positions[:, 0], positions[:, 1])
        behind = rows["background"].float() * (1.0 - person[:, 3:] / 255.0)
        frame = _softened((person[:, :3] + behind).clamp(max=255.0), torn)
        return (frame + 0.5).floor().to(torch.uint8)

    def _guide(
        self, frame: Tensor, positions: Tensor, left: Tensor, top: Tensor, source: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The region as the network sees it [B, 3, S, S], and where it lies in the source's region,
        [B, S/4, S/4, 2]."""
        side = source[:, 2:]
        guide = bilinear(frame.float() * (1.0 / 255.0), *_region_pixels(self.axis, left, top, side))
        at = bilinear(positions, *_region_pixels(self.axis4, left, top, side))
        corner = source[:, :2, None, None] - 0.5
        grid = (at - corner) * (2.0 / side[:, :, None, None]) - 1.0
        return guide.contiguous(), grid.permute(0, 2, 3, 1).contiguous()

    def _composed(
        self, frame: Tensor, flow: Tensor, paint: Tensor, left: Tensor, top: Tensor, side: Tensor
    ) -> Tensor:
        """The network's flow and colour in the frame, packed."""
        batch = frame.shape[0]
        pixel = self.mesh.pixels
        u = (pixel[0] - left[:, None, None] + 0.5) / side[:, None, None] * 2.0 - 1.0
        v = (pixel[1] - top[:, None, None] + 0.5) / side[:, None, None] * 2.0 - 1.0
        inside = ((u.abs() < 1.0) & (v.abs() < 1.0))[:, None].float()
        where = torch.stack([u, v], 3)
        scale = (side / self.side)[:, None, None, None]
        moved = inside * scale * F.grid_sample(flow, where, "bilinear", "border", align_corners=False)
        laid = inside * F.grid_sample(paint, where, "bilinear", "border", align_corners=False)
        image = frame.permute(0, 2, 3, 1)
        fields = (moved.permute(0, 2, 3, 1), 1.0 - laid[:, 3], 255.0 * laid[:, :3].permute(0, 2, 3, 1))
        if self.pixels is PixelFormat.I420:
            out = torch.empty(batch, SIZE * 3 // 2, SIZE, dtype=torch.uint8, device=frame.device)
            fuse_i420(image, image, *fields, out, sampling="bicubic")
        else:
            out = torch.empty(batch, SIZE, SIZE, 3, dtype=torch.uint8, device=frame.device)
            fuse(image, image, *fields, out, sampling="bicubic")
        return out


def _region_pixels(axis: Tensor, left: Tensor, top: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Frame pixels (x, y) [B, n, n] of region places ``axis`` [n] (0..1); ``side`` [B, 1]."""
    x = left[:, None] - 0.5 + axis * side
    y = top[:, None] - 0.5 + axis * side
    n = axis.shape[0]
    return x[:, None].expand(-1, n, -1), y[:, :, None].expand(-1, -1, n)


def _softened(frame: Tensor, torn: Tensor) -> Tensor:
    """Both pixels beside a break take part of their neighbours' mean; ``torn`` as from the map."""
    right, below = torn[:, 0], torn[:, 1]
    beside = torch.maximum(
        torch.maximum(right, F.pad(right[:, :, :-1], (1, 0))),
        torch.maximum(below, F.pad(below[:, :-1], (0, 0, 1, 0))),
    )[:, None]
    wide = F.pad(frame, (1, 1, 1, 1), mode="replicate")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    return frame + _SOFTENED * beside * (0.25 * around - frame)
