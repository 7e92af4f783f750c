"""What :mod:`benchmarks.kernel_speed` times: every kernel at the sizes the engine uses it at.

``bytes`` is the traffic that cannot be avoided (each input read once, each output written once) and
``flops`` the arithmetic of the definition, whatever a body really moves and computes; so a figure
compares bodies, and a body that does more work shows it as a lower share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.fuse import bands, fuse, fuse_i420
from kernels.i420 import rgb_to_i420, rgb_to_nv12
from kernels.logmel import MelSpec, log_mel, mel_filters
from kernels.raster import raster_attributes
from kernels.raster_flow import raster_flow
from kernels.warp import compose, dense_map, invert_grid

__all__ = ["Timed", "cases"]

# Counted per pixel from the definitions; one multiplication or addition each.
_SPREAD, _SAMPLE, _BLEND, _YUV, _COVER = 9, 9, 4, 12, 30
# Four rows of four taps and one column of four, in each channel; the weights count once a pixel.
_CUBIC, _WEIGHTS = 35, 2 * 24


@dataclass(frozen=True)
class Timed:
    """One call to time; ``body`` is the ``impl`` it was made with."""

    kernel: str
    size: str
    body: str
    call: Callable[[], object]
    bytes: int
    flops: int


def cases(device: str) -> Iterator[Timed]:
    """All cases that run on ``device`` ("cpu" or "cuda")."""
    batches = (1,) if device == "cpu" else (1, 16)
    for batch in batches:
        yield from _fuse_cases(device, batch, 256, None)
        yield from _fuse_cases(device, batch, 512, None)
        yield from _fuse_cases(device, batch, 512, (96, 64, 416, 448))
        yield from _colour_cases(device, batch)
        yield from _flow_cases(device, batch, 24)
        yield from _flow_cases(device, batch, 132)
    for rows, hops in ((1, 4), (16, 4), (1, 500)):
        yield from _mel_cases(device, rows, hops)
    if device == "cpu":
        yield from _host_cases()


def _bodies(device: str) -> tuple[str, ...]:
    return ("ref", "cpu") if device == "cpu" else ("ref", "triton")


def _size(batch: int, *sides: int) -> str:
    return f"{batch} x " + "x".join(map(str, sides))


def _noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _pictures(batch: int, side: int, device: str) -> tuple[Tensor, Tensor]:
    shape = (2, batch, side, side, 3)
    base, image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=_noise()).to(device)
    return base, image


def _smooth(batch: int, channels: int, side: int, scale: float, device: str) -> Tensor:
    """A channels-first field [B, C, side, side] that varies as a network's output does, seen as
    [B, side, side, C]."""
    coarse = scale * torch.randn(batch, channels, 8, 8, generator=_noise())
    field = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return field.to(device).permute(0, 2, 3, 1)


def _fuse_cases(device: str, batch: int, side: int, box: tuple[int, int, int, int] | None) -> Iterator[Timed]:
    base, image = _pictures(batch, side, device)
    coarse = side // 4
    flow, residual = (_smooth(batch, c, coarse, s, device) for c, s in ((2, 6.0), (3, 20.0)))
    mask = _smooth(batch, 1, coarse, 2.0, device)[..., 0].sigmoid()
    out, packed = base.clone(), base.new_zeros(batch, side * 3 // 2, side)
    x0, y0, x1, y1 = box or (0, 0, side, side)
    pixels = batch * (x1 - x0) * (y1 - y0)
    fields = pixels // 16 * 4
    place = f"{_size(batch, side, side)}" + (f" box {x1 - x0}x{y1 - y0}" if box else "")
    warped = pixels * (6 * _SPREAD + 3 * _SAMPLE + 3 * _BLEND)
    sharp = warped + pixels * (3 * (_CUBIC - _SAMPLE) + _WEIGHTS)
    added = pixels * (4 * _SPREAD + 3 * 2)
    for body in _bodies(device):
        options: dict[str, Any] = {"box": box, "impl": body}
        yield Timed(
            "fuse", place, body, partial(fuse, base, image, flow, mask, residual, out, **options),
            9 * pixels + 6 * fields, warped,
        )  # fmt: skip
        yield Timed(
            "fuse, bicubic", place, body,
            partial(fuse, base, image, flow, mask, residual, out, sampling="bicubic", **options),
            9 * pixels + 6 * fields, sharp,
        )  # fmt: skip
        yield Timed(
            "fuse, no flow", place, body, partial(fuse, base, None, None, mask, residual, out, **options),
            6 * pixels + 4 * fields, added,
        )  # fmt: skip
        yield Timed(
            "fuse to I420", place, body,
            partial(fuse_i420, base, image, flow, mask, residual, packed, **options),
            6 * pixels + pixels * 3 // 2 + 6 * fields, warped + _YUV * pixels,
        )  # fmt: skip
    if device == "cpu":
        pool, parts = ThreadPoolExecutor(1), bands((x0, y0, x1, y1), 2)

        def both() -> None:
            other = pool.submit(fuse, base, image, flow, mask, residual, out, box=parts[1])
            fuse(base, image, flow, mask, residual, out, box=parts[0])
            other.result()

        yield Timed("fuse", place, "cpu, 2 threads", both, 9 * pixels + 6 * fields, warped)


def _colour_cases(device: str, batch: int) -> Iterator[Timed]:
    rgb, _ = _pictures(batch, 512, device)
    packed, pixels = rgb.new_zeros(batch, 768, 512), batch * 512 * 512
    converters: dict[str, Any] = {"RGB to I420": rgb_to_i420, "RGB to NV12": rgb_to_nv12}
    for name, convert in converters.items():
        for body in _bodies(device):
            options: dict[str, Any] = {"out": packed, "impl": body}
            yield Timed(
                name, _size(batch, 512, 512), body, partial(convert, rgb, **options),
                pixels * 9 // 2, _YUV * pixels,
            )  # fmt: skip


def _sheet(batch: int, side: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A curved sheet of side x side vertices over a frame of 512 x 512, its triangles and sources."""
    y, x = torch.meshgrid(*[torch.linspace(-10.0, 520.0, side)] * 2, indexing="ij")
    z = 1000.0 + 0.002 * ((x - 256).square() + (y - 256).square())
    moved = x + 6 * torch.sin(y / 50), y + 6 * torch.cos(x / 60), z
    q = torch.arange(side * side, dtype=torch.int32).reshape(side, side)
    a, b, c, d = (p.flatten() for p in (q[:-1, :-1], q[:-1, 1:], q[1:, 1:], q[1:, :-1]))
    triangles = torch.cat([torch.stack([a, c, b], 1), torch.stack([a, d, c], 1)]).contiguous()
    xyz = torch.stack(moved, -1).reshape(1, -1, 3).repeat(batch, 1, 1)
    source = torch.stack([x, y], -1).reshape(1, -1, 2).repeat(batch, 1, 1)
    return xyz.to(device), triangles.to(device), source.to(device)


def _flow_cases(device: str, batch: int, side: int) -> Iterator[Timed]:
    xyz, triangles, source = _sheet(batch, side, device)
    flow, mask = xyz.new_zeros(batch, 128, 128, 2), xyz.new_zeros(batch, 128, 128)
    moved = batch * (20 * xyz.shape[1] + 12 * 128 * 128) + 12 * len(triangles)
    flops = batch * (_COVER * 128 * 128 + 40 * len(triangles))
    place = f"{_size(batch, 128, 128)} of {len(triangles)} triangles"
    for body in _bodies(device):
        # The reference draws triangle by triangle: seconds for a whole face.
        if body == "ref" and len(triangles) > 2000:
            continue
        options: dict[str, Any] = {"frame": (512, 512), "impl": body}
        yield Timed(
            "mesh to flow", place, body,
            partial(raster_flow, xyz, triangles, source, flow, mask, **options), moved, flops,
        )  # fmt: skip


def _mel_cases(device: str, rows: int, hops: int) -> Iterator[Timed]:
    spec = MelSpec()
    samples = torch.randn(rows, spec.context + hops * spec.hop, generator=_noise()).to(device)
    kept = int((mel_filters(spec) != 0).sum())
    transform = 2.5 * spec.fft * np.log2(spec.fft)
    flops = int(rows * hops * (spec.window + transform + 3 * (spec.fft // 2 + 1) + 2 * kept))
    moved = 4 * (samples.numel() + rows * hops * spec.bands)
    for body in _bodies(device):
        options: dict[str, Any] = {"impl": body}
        yield Timed(
            "log-mel", f"{rows} x {hops} hops", body, partial(log_mel, samples, spec, **options),
            moved, flops,
        )  # fmt: skip


def _host_cases() -> Iterator[Timed]:
    """The kernels of the mesh animator, which have no GPU body."""
    noise = np.random.default_rng(0)
    grid = np.sin(np.arange(65 * 65 * 2, dtype=np.float32) / 300).reshape(65, 65, 2)
    inverse, positions = np.empty_like(grid), np.empty((512, 512, 2), np.float32)
    above, below = (noise.integers(0, 256, (512, 512, n)).astype(np.uint8) for n in (4, 3))
    mixed, pixels = np.empty_like(below), 512 * 512
    xyz, triangles, source = (x.numpy() for x in _sheet(1, 132, "cpu"))
    out, depth = np.empty((512, 512, 2), np.float32), np.empty((512, 512), np.float32)

    def attributes() -> None:
        depth.fill(np.inf)
        raster_attributes(out, depth, xyz[0], triangles, source[0])

    drawn = 12 * pixels + 20 * xyz.shape[1] + 12 * len(triangles)
    yield Timed(
        "raster attributes", f"512x512 of {len(triangles)} triangles", "cpu", attributes,
        drawn, _COVER * pixels + 40 * len(triangles),
    )  # fmt: skip
    for body in ("reference", "cpu"):
        yield Timed(
            "grid inversion", "65x65", body, partial(invert_grid, grid, inverse, 8.0, impl=body),
            2 * grid.nbytes, 6 * 50 * 65 * 65,
        )  # fmt: skip
        yield Timed(
            "dense map", "512x512", body, partial(dense_map, grid, positions, 8, impl=body),
            positions.nbytes + grid.nbytes, 6 * pixels,
        )  # fmt: skip
        yield Timed(
            "compose", "512x512", body, partial(compose, above, below, mixed, impl=body),
            10 * pixels, 9 * pixels,
        )  # fmt: skip
