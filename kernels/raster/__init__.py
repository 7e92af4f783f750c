"""Software rasteriser for small triangle meshes: the doorway.

Conventions shared by every function here:

* **Frame coordinates** follow OpenCV: x right, y down, the centre of pixel (i, j) lies at (i, j).
  ``xyz`` [N, 3] float32 holds frame x, frame y and the *camera distance* (smaller is nearer, any
  unit); attributes are interpolated linearly on the screen (triangles are small).
* A :class:`Canvas` is a window of the frame, possibly supersampled: sample (r, c) of a window
  lies at ``x = x0 + (c + 0.5) / sx - 0.5``, ``y = y0 + (r + 0.5) / sy - 0.5``. Callers always
  pass frame coordinates; the window offset and supersampling are handled inside, so drawing into
  a 2x or 4x window and averaging afterwards gives anti-aliased edges for free.
* **Fill rule**: vertices are snapped to 1/256 sample and edges evaluated in exact integers with
  the top-left rule, so triangles that share an edge neither overlap nor leave a crack.
* **Depth**: with ``test`` a sample is drawn only where it is nearer than ``canvas.depth``; with
  ``write`` the depth is stored where the sample's alpha is at least 1/2. Ties keep the first.
  Without both, triangles are painted in order.
* **Culling**: ``cull=True`` drops triangles that face away, for meshes that wind
  counter-clockwise when seen from outside (y up), as the face basis does.

>>> canvas = Canvas.window(0, 0, 96, 64, sx=2, sy=4)
>>> draw_coloured(canvas, xyz, triangles, rgba)             # rgba [N, 4]: 0..255 and alpha 0..1
>>> draw_textured(canvas, xyz, triangles, texture, uv)      # texture uint8 [h, w, 4]
>>> rgb = canvas.resolve()                                  # float32 [64, 96, 3]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.raster import cpu, reference

__all__ = ["Canvas", "draw_coloured", "draw_textured", "raster_attributes"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

_BODIES = {"cpu": cpu, "reference": reference}


@dataclass
class Canvas:
    """A window of the frame that triangles are drawn into.

    ``pixels`` float32 [h * sy, w * sx, 3] in 0..255, ``depth`` float32 of the same size (``inf``
    where nothing is drawn), ``x0``/``y0`` the frame pixel of the window's first column and row,
    ``sx``/``sy`` samples per frame pixel.
    """

    pixels: Float
    depth: Float
    x0: int = 0
    y0: int = 0
    sx: int = 1
    sy: int = 1

    @staticmethod
    def window(x0: int, y0: int, width: int, height: int, *, sx: int = 1, sy: int = 1) -> Canvas:
        """A black, empty window of ``width`` x ``height`` frame pixels."""
        shape = (height * sy, width * sx)
        pixels = np.zeros((*shape, 3), np.float32)
        return Canvas(pixels, np.full(shape, np.inf, np.float32), x0, y0, sx, sy)

    @property
    def width(self) -> int:
        """Window width in frame pixels."""
        return int(self.pixels.shape[1]) // self.sx

    @property
    def height(self) -> int:
        """Window height in frame pixels."""
        return int(self.pixels.shape[0]) // self.sy

    def clear_depth(self) -> None:
        """Forget all depths, keep the colours."""
        self.depth.fill(np.inf)

    def resolve(self) -> Float:
        """The window averaged down to frame pixels, float32 [height, width, 3]."""
        h, w = self.height, self.width
        boxed = self.pixels[: h * self.sy, : w * self.sx].reshape(h, self.sy, w, self.sx, 3)
        return np.asarray(boxed.mean(axis=(1, 3)), np.float32)


def _check_mesh(xyz: Float, triangles: Int) -> None:
    if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype != np.float32:
        raise ValueError(f"xyz must be float32 [N, 3], got {xyz.dtype} {xyz.shape}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype != np.int32:
        raise ValueError(f"triangles must be int32 [F, 3], got {triangles.dtype} {triangles.shape}")


def _check_rows(name: str, values: NDArray[np.generic], rows: int, columns: int) -> None:
    if values.shape != (rows, columns) or values.dtype != np.float32:
        raise ValueError(f"{name} must be float32 [{rows}, {columns}], got {values.dtype} {values.shape}")


def draw_coloured(
    canvas: Canvas,
    xyz: Float,
    triangles: Int,
    rgba: Float,
    *,
    test: bool = True,
    write: bool = True,
    cull: bool = False,
    impl: str = "cpu",
) -> None:
    """Draw vertex-coloured triangles into ``canvas``, blended by their alpha.

    1. ``xyz`` float32 [N, 3]: frame x, frame y (px), camera distance.
    2. ``triangles`` int32 [F, 3].
    3. ``rgba`` float32 [N, 4]: colour 0..255 and alpha 0..1 per vertex, interpolated.

    ``test``/``write``/``cull``: see the module. ``impl`` is "cpu" or "reference".
    """
    _check_mesh(xyz, triangles)
    _check_rows("rgba", rgba, len(xyz), 4)
    _BODIES[impl].draw_coloured(
        canvas.pixels, canvas.depth, canvas.x0, canvas.y0, canvas.sx, canvas.sy,
        xyz, triangles, rgba, test, write, cull,
    )  # fmt: skip


def draw_textured(
    canvas: Canvas,
    xyz: Float,
    triangles: Int,
    texture: NDArray[np.uint8],
    uv: Float,
    alpha: Float | None = None,
    shade: Float | None = None,
    *,
    test: bool = True,
    write: bool = True,
    cull: bool = False,
    impl: str = "cpu",
) -> None:
    """Draw textured triangles into ``canvas``, blended by texture alpha x ``alpha``.

    1. ``xyz`` float32 [N, 3], ``triangles`` int32 [F, 3] as in :func:`draw_coloured`.
    2. ``texture`` uint8 [h, w, 4] RGBA, not premultiplied, sampled bilinearly, edges clamped.
    3. ``uv`` float32 [N, 2]: texture pixel coordinates (centre of texel (i, j) at (i, j)).
    4. ``alpha`` float32 [N] multiplies the texture's alpha (default 1), ``shade`` float32 [N, 3]
       multiplies its colour per channel (default 1).
    """
    _check_mesh(xyz, triangles)
    _check_rows("uv", uv, len(xyz), 2)
    if texture.ndim != 3 or texture.shape[2] != 4 or texture.dtype != np.uint8:
        raise ValueError(f"texture must be uint8 [h, w, 4], got {texture.dtype} {texture.shape}")
    vertex = np.ones((len(xyz), 6), np.float32)
    vertex[:, :2] = uv
    if alpha is not None:
        _check_rows("alpha", alpha[:, None], len(xyz), 1)
        vertex[:, 2] = alpha
    if shade is not None:
        _check_rows("shade", shade, len(xyz), 3)
        vertex[:, 3:] = shade
    _BODIES[impl].draw_textured(
        canvas.pixels, canvas.depth, canvas.x0, canvas.y0, canvas.sx, canvas.sy,
        xyz, triangles, texture, vertex, test, write, cull,
    )  # fmt: skip


def raster_attributes(
    out: Float,
    depth: Float,
    xyz: Float,
    triangles: Int,
    attributes: Float,
    *,
    x0: int = 0,
    y0: int = 0,
    sx: int = 1,
    sy: int = 1,
    cull: bool = True,
    impl: str = "cpu",
) -> None:
    """Interpolate vertex attributes over the nearest triangle of every sample of a window.

    1. ``out`` float32 [h, w, K] receives the attributes where a triangle is nearer than ``depth``.
    2. ``depth`` float32 [h, w] is tested and written; fill it with ``inf`` first.
    3. ``attributes`` float32 [N, K] per vertex.

    Samples that no triangle covers keep what they held.
    """
    _check_mesh(xyz, triangles)
    _check_rows("attributes", attributes, len(xyz), out.shape[2])
    if out.shape[:2] != depth.shape:
        raise ValueError(f"out {out.shape} and depth {depth.shape} are windows of different sizes")
    _BODIES[impl].raster_attributes(out, depth, x0, y0, sx, sy, xyz, triangles, attributes, cull)
