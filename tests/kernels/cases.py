"""One :class:`Case` for each kernel."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.fuse import Sampling, fuse, fuse_i420
from kernels.i420 import rgb_to_i420, rgb_to_nv12
from kernels.logmel import MelSpec, log_mel
from kernels.raster import Canvas, draw_coloured, draw_textured, raster_attributes
from kernels.raster_flow import raster_flow
from kernels.warp import compose, dense_map, invert_grid
from tests.kernels.laws import Case, Inputs, integers, normal, uniform

__all__ = ["CASES"]

Size = tuple[int, int]
SPEC = MelSpec(window=90, hop=40, fft=128, bands=21)


def _fuse_inputs(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    """Coarse sizes that divide nothing, flows that leave the picture, an image of another size."""
    h, w = size
    return {
        "base": integers(noise, 2, h, w, 3),
        "image": integers(noise, 2, h + 3, max(w - 4, 1), 3),
        "flow": normal(noise, 2, h // 3 + 1, w // 4 + 2, 2, scale=4.0).to(dtype),
        "mask": uniform(noise, 2, h // 2 + 1, w // 5 + 1).to(dtype),
        "residual": normal(noise, 2, h // 4 + 2, w // 2 + 1, 3, scale=30.0).to(dtype),
    }


def _float_image(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    inputs = _fuse_inputs(noise, size, dtype)
    return {**inputs, "image": (inputs["image"] + uniform(noise, *inputs["image"].shape)).to(dtype)}


def _no_flow(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    inputs = _fuse_inputs(noise, size, dtype)
    return {name: inputs[name] for name in ("base", "mask", "residual")}


def _partly_still(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    """Flows that are exactly zero on the left and in the last row, and in one whole picture."""
    inputs = _fuse_inputs(noise, size, dtype)
    columns = inputs["flow"].shape[2]
    inputs["flow"][:, :, : columns // 2] = 0
    inputs["flow"][:, -1] = 0
    inputs["flow"][1] = 0
    return inputs


def _fused(x: Inputs, impl: str, sampling: Sampling = "bilinear") -> Tensor:
    out = torch.zeros_like(x["base"], memory_format=torch.contiguous_format)
    fields = (x.get(name) for name in ("image", "flow", "mask", "residual"))
    fuse(x["base"], *fields, out, impl=impl, sampling=sampling)  # type: ignore[call-arg, arg-type]
    return out


def _fused_i420(x: Inputs, impl: str, sampling: Sampling = "bilinear") -> Tensor:
    batch, height, width = x["base"].shape[:3]
    out = torch.zeros(batch, height * 3 // 2, width, dtype=torch.uint8, device=x["base"].device)
    fields = (x.get(name) for name in ("image", "flow", "mask", "residual"))
    fuse_i420(x["base"], *fields, out, impl=impl, sampling=sampling)  # type: ignore[call-arg, arg-type]
    return out


def _picture(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    return {"rgb": integers(noise, 2, *size, 3)}


def _audio(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    return {"samples": normal(noise, size[0], SPEC.context + size[1] * SPEC.hop, scale=0.1)}


def _mesh(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    """Random triangles around the window, many partly outside, one vertex that is not finite."""
    h, w = size
    low, span = torch.tensor([-0.2 * w, -0.2 * h, 10.0]), torch.tensor([1.4 * w, 1.4 * h, 10.0])
    xyz = low + span * uniform(noise, 2, 24, 3)
    xyz[1, 3, 0] = torch.nan
    return {
        "xyz": xyz,
        "triangles": integers(noise, 14, 3, below=24, dtype=torch.int32),
        "source": uniform(noise, 2, 24, 2, high=60.0),
    }


def _flow(cull: bool) -> Any:
    def run(x: Inputs, impl: str) -> Tensor:
        h, w = 4, 7
        canvas = torch.full((x["xyz"].shape[0], h, w, 3), 5.0, device=x["xyz"].device)
        arrays = x["xyz"], x["triangles"], x["source"], canvas[..., :2], canvas[..., 2]
        raster_flow(*arrays, frame=(18, 30), cull=cull, impl=impl)  # type: ignore[arg-type]
        return canvas

    return run


def _flow_mesh(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    return _mesh(noise, (18, 30), dtype)


def _numpy_name(impl: str) -> str:
    return "reference" if impl == "ref" else impl


def _attributes(x: Inputs, impl: str) -> Tensor:
    out, depth = np.zeros((13, 17, 2), np.float32), np.full((13, 17), np.inf, np.float32)
    xyz, triangles, source = (x[name].numpy() for name in ("xyz", "triangles", "source"))
    raster_attributes(
        out, depth, xyz[0], triangles, source[0], sx=2, cull=False, impl=_numpy_name(impl)
    )  # fmt: skip
    return torch.from_numpy(np.concatenate([out, depth[..., None]], -1))


def _drawn(x: Inputs, impl: str) -> Tensor:
    canvas = Canvas.window(1, 0, 9, 7, sx=2, sy=3)
    xyz, triangles, source = (x[name].numpy() for name in ("xyz", "triangles", "source"))
    rgba, texture = x["rgba"].numpy(), x["texture"].numpy()
    draw_coloured(canvas, xyz[0], triangles, rgba, impl=_numpy_name(impl))
    draw_textured(canvas, xyz[0], triangles, texture, source[0], test=False, impl=_numpy_name(impl))
    return torch.from_numpy(canvas.pixels)


def _painted_mesh(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    rgba = uniform(noise, 24, 4) * torch.tensor([255.0, 255.0, 255.0, 1.0])
    return {**_mesh(noise, size, dtype), "rgba": rgba, "texture": integers(noise, 9, 14, 4)}


def _grid(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    return {"grid": uniform(noise, size[0] + 1, size[1] + 1, 2, low=-0.9, high=0.9)}


def _inverted(x: Inputs, impl: str) -> Tensor:
    out = np.empty(tuple(x["grid"].shape), np.float32)
    invert_grid(x["grid"].numpy(), out, 8.0, impl=_numpy_name(impl))
    return torch.from_numpy(out)


def _dense(x: Inputs, impl: str) -> Tensor:
    rows, columns = x["grid"].shape[:2]
    out = np.empty((5 * (rows - 1), 5 * (columns - 1), 2), np.float32)
    dense_map(x["grid"].numpy(), out, 5, impl=_numpy_name(impl))
    return torch.from_numpy(out)


def _layers(noise: torch.Generator, size: Size, dtype: torch.dtype) -> Inputs:
    return {"above": integers(noise, *size, 4), "below": integers(noise, *size, 3)}


def _composed(x: Inputs, impl: str) -> Tensor:
    out = np.empty(tuple(x["below"].shape), np.uint8)
    compose(x["above"].numpy(), x["below"].numpy(), out, impl=_numpy_name(impl))
    return torch.from_numpy(out)


_FLOATS = (torch.float32,)
_BYTES: dict[str, Any] = {"loose": 1.0, "share": 0.02}
_CPU: dict[str, Any] = {"bodies": ("cpu",), "dtypes": _FLOATS, "batched": False}
# Triton's interpreter takes a second for a bicubic picture.
_FEW = ((1, 1), (3, 1), (2, 5), (7, 9))
_MESH: dict[str, Any] = {"shared": ("triangles",), "dtypes": _FLOATS}

CASES = (
    Case("fuse", _fuse_inputs, _fused, **_BYTES),
    Case("fuse, float image", _float_image, _fused, **_BYTES),
    Case("fuse, no flow", _no_flow, _fused, **_BYTES),
    Case("fuse, partly still", _partly_still, _fused, **_BYTES),
    Case("fuse to I420", _fuse_inputs, _fused_i420, even=True, **_BYTES),
    Case("fuse, bicubic", _fuse_inputs, partial(_fused, sampling="bicubic"), **_BYTES),
    Case(
        "fuse, bicubic, float image", _float_image, partial(_fused, sampling="bicubic"),
        sizes=_FEW, **_BYTES,
    ),
    Case(
        "fuse, bicubic, partly still", _partly_still, partial(_fused, sampling="bicubic"),
        bodies=("cpu",), **_BYTES,
    ),
    Case(
        "fuse to I420, bicubic", _fuse_inputs, partial(_fused_i420, sampling="bicubic"),
        even=True, sizes=_FEW, dtypes=_FLOATS, **_BYTES,
    ),
    Case(
        "RGB to I420", _picture, lambda x, impl: rgb_to_i420(x["rgb"], impl=impl),  # type: ignore[arg-type]
        even=True, dtypes=_FLOATS, **_BYTES,
    ),
    Case(
        "RGB to NV12", _picture, lambda x, impl: rgb_to_nv12(x["rgb"], impl=impl),  # type: ignore[arg-type]
        even=True, dtypes=_FLOATS, **_BYTES,
    ),
    Case(
        "log-mel", _audio, lambda x, impl: log_mel(x["samples"], SPEC, impl=impl),  # type: ignore[arg-type]
        dtypes=_FLOATS, sizes=((1, 1), (3, 0), (2, 5), (2, 9), (1, 17)), tolerance=2e-4,
    ),
    Case("mesh to flow", _flow_mesh, _flow(True), sizes=((1, 1),) * 4, tolerance=1e-4, **_MESH),
    Case("mesh to flow, both sides", _flow_mesh, _flow(False), sizes=((1, 1),) * 4, tolerance=1e-4, **_MESH),
    Case("raster attributes", _mesh, _attributes, sizes=((13, 9),) * 5, tolerance=1e-4, **_CPU),
    Case("raster drawing", _painted_mesh, _drawn, sizes=((7, 10),) * 5, tolerance=0.02, **_CPU),
    Case("grid inversion", _grid, _inverted, tolerance=1e-4, **_CPU),
    Case("dense map", _grid, _dense, tolerance=1e-4, **_CPU),
    Case("compose", _layers, _composed, **_CPU),
)  # fmt: skip
