"""The OpenGL side: context, programmes, textures. moderngl on EGL; software rendering will do.

Nothing here knows people. Tables of samples go in, tables of colours come out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendError
from engine.synth.people import materials, shaders

__all__ = ["LINE", "SHADOW", "Gpu"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LINE = 512
"""Samples in a line of a table."""
SHADOW = 288
"""Side of the shadow map."""
_UNITS = {"skin_map": 0, "relief_map": 1, "card": 2, "shade": 3, "rows": 4}


def _open(moderngl: Any) -> Any:
    return moderngl.create_context(standalone=True, backend="egl")


class Gpu:
    """A standalone context with the compiled programmes; tables of up to ``lines`` lines.

    Raises:
        BackendError: no EGL device can be opened.
    """

    def __init__(self, lines: int) -> None:
        os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe in the calling thread: one process a core
        try:
            import moderngl
        except ImportError as error:
            raise BackendError(
                "synthetic people need moderngl, which is not installed: pip install 'visavis[train]'"
            ) from error

        self.moderngl = moderngl
        try:
            self.context: Any = _open(moderngl)
        except Exception as error:  # moderngl and glcontext raise bare Exceptions
            raise BackendError(
                f"no EGL context ({error}): install libegl1 and libgl1-mesa-dri, which can draw without a GPU"
            ) from error
        ctx, self.lines = self.context, lines
        self.programmes = {name: self._compile(source) for name, source in _SOURCES.items()}
        self._rows = ctx.texture((4 * LINE, lines), 4, dtype="f4")
        self._rows.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._out = ctx.framebuffer([ctx.texture((LINE, lines), 4)])
        self._shade = ctx.depth_texture((SHADOW, SHADOW))
        self._shade.compare_func = "<="
        corners = ctx.buffer(np.array([-1, 0, 1, 0, -1, 1, 1, 1], np.float32).tobytes())
        self._rectangles = {
            name: ctx.vertex_array(p, [(corners, "2f", "in_corner")]) for name, p in self.programmes.items()
        }
        self.set(_UNITS)

    def _compile(self, source: str) -> Any:
        return self.context.program(vertex_shader=shaders.RECTANGLE, fragment_shader=source)

    def texture(self, pixels: Bytes, mipmaps: bool = True, repeat: bool = False) -> Any:
        """A texture of uint8 [H, W, C]."""
        h, w, c = pixels.shape
        texture = self.context.texture((w, h), c, np.ascontiguousarray(pixels).tobytes(), alignment=1)
        texture.repeat_x, texture.repeat_y = repeat, False
        if mipmaps:
            texture.build_mipmaps()
            texture.filter = (self.moderngl.LINEAR_MIPMAP_NEAREST, self.moderngl.LINEAR)
        return texture

    def use(self, textures: list[Any]) -> None:
        """Bind skin, relief and card."""
        for unit, texture in enumerate((*textures, self._shade, self._rows)):
            texture.use(unit)

    def set(self, values: Mapping[str, Any], programmes: tuple[str, ...] = ()) -> None:
        """Set uniforms in the named programmes (all where none is named) that have them."""
        for name in programmes or tuple(self.programmes):
            programme = self.programmes[name]
            for key, value in values.items():
                if key in programme:
                    if isinstance(value, (int, float)):
                        programme[key].value = value
                    else:
                        programme[key].write(_uniform(value))

    def begin(self, shade: Float, rows: Float) -> None:
        """Send the shadow map [SHADOW, SHADOW], 0 near the light .. 1, and samples [H, LINE, 16]."""
        self._shade.write(shade)
        self._rows.write(rows, viewport=(0, 0, 4 * LINE, len(rows)))
        self._out.use()

    def shade(self, programme: str, first: int, end: int) -> None:
        """Shade the lines ``first`` to ``end``."""
        if end > first:
            lines = 2.0 * np.array([first, end]) / self.lines - 1.0
            self.set({"lines": lines}, (programme,))
            self._rectangles[programme].render(self.moderngl.TRIANGLE_STRIP)

    def read(self, lines: int) -> Bytes:
        """The first lines of the result, uint8 [lines, LINE, 4]."""
        data = self._out.read(viewport=(0, 0, LINE, lines), components=4, alignment=1)
        return np.frombuffer(data, np.uint8).reshape(lines, LINE, 4)


def _uniform(value: NDArray[Any]) -> bytes:
    array = np.asarray(value, np.float32)
    if array.shape == (4, 4):
        array = array.T  # GL counts columns first
    return np.ascontiguousarray(array).tobytes()


_TOP = shaders.INPUTS + shaders.LIGHT
_SOURCES = {
    "skin": _TOP + materials.SKIN,
    "eye": _TOP + materials.EYE,
    "mouth": _TOP + materials.MOUTH,
    "cloth": _TOP + materials.CLOTH + materials.COLLAR,
    "hair": _TOP + materials.HAIR,
    "lash": _TOP + materials.LASH,
    "glasses": _TOP + materials.GLASSES,
    "lens": _TOP + materials.LENS,
}
