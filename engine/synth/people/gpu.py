"""The OpenGL side: context, programmes, meshes, targets. moderngl on EGL; software rendering will do.

Nothing here knows people. Row 0 of every picture is its top row: the projection turns the picture over,
so no copy has to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendError
from engine.synth.people import materials, shaders

__all__ = ["Gpu", "GpuMesh", "Table", "Targets", "projection"]

Float = NDArray[np.float32]

_WIDTH = {"in_uv": 2, "in_paint": 4, "in_weight": 1, "in_corner": 2}
_NEAR, _FAR = 10.0, 400.0
_WIDE = 1024
_SHADOW = 288


def projection(focal: float, cx: float, cy: float, size: int) -> Float:
    """[4, 4] camera space (cm, looking down -z) to clip space of a ``size`` px picture, row 0 first."""
    k = 2.0 / size
    out = np.zeros((4, 4), np.float32)
    out[0] = [k * focal, 0.0, -(k * (cx + 0.5) - 1.0), 0.0]
    out[1] = [0.0, -k * focal, -(k * (cy + 0.5) - 1.0), 0.0]
    a, b = (_FAR + _NEAR) / (_FAR - _NEAR), -2.0 * _FAR * _NEAR / (_FAR - _NEAR)
    out[2] = [0.0, 0.0, -a, b]
    out[3] = [0.0, 0.0, -1.0, 0.0]
    return out


def _open(moderngl: Any) -> Any:
    return moderngl.create_context(standalone=True, backend="egl")


class GpuMesh:
    """Vertex buffers by attribute name and one index buffer per group of triangles."""

    def __init__(
        self, gpu: Gpu, arrays: Mapping[str, Float], groups: Mapping[str, NDArray[np.int32]]
    ) -> None:
        self._gpu = gpu
        self._own: list[Any] = []
        self.buffers = {name: self._keep(gpu.context.buffer(_bytes(a))) for name, a in arrays.items()}
        self.index = {name: self._keep(gpu.context.buffer(_bytes(t, np.int32))) for name, t in groups.items()}
        self._arrays: dict[tuple[str, str], Any] = {}

    def _keep(self, thing: Any) -> Any:
        self._own.append(thing)
        return thing

    def write(self, name: str, values: Float, first: int = 0) -> None:
        """Replace attribute ``name`` from vertex ``first`` on."""
        self.buffers[name].write(_bytes(values), offset=first * 4 * _WIDTH.get(name, 3))

    def draw(self, programme: str, group: str) -> None:
        """Draw one group of triangles with one programme."""
        key = (programme, group)
        if key not in self._arrays:
            p = self._gpu.programmes[programme]
            self._arrays[key] = self._keep(
                self._gpu.context.vertex_array(p, self._content(programme), self.index[group])
            )
        self._arrays[key].render()

    def draw_rows(self, programme: str, first: int, count: int) -> None:
        """Draw ``count`` vertices from ``first`` on, in threes, with no index."""
        key = (programme, "")
        if key not in self._arrays:
            self._arrays[key] = self._keep(
                self._gpu.context.vertex_array(self._gpu.programmes[programme], self._content(programme))
            )
        self._arrays[key].render(vertices=count, first=first)

    def _content(self, programme: str) -> list[tuple[Any, str, str]]:
        p = self._gpu.programmes[programme]
        return [(b, f"{_WIDTH.get(n, 3)}f", n) for n, b in self.buffers.items() if n in p]

    def regroup(self, group: str, triangles: NDArray[np.int32]) -> None:
        """Replace the triangles of ``group``, or add it."""
        for key in [k for k in self._arrays if k[1] == group]:
            array = self._arrays.pop(key)
            self._own.remove(array)
            array.release()
        old = self.index.pop(group, None)
        if old is not None:
            self._own.remove(old)
            old.release()
        self.index[group] = self._keep(self._gpu.context.buffer(_bytes(triangles, np.int32)))

    def release(self) -> None:
        """Give the buffers back; the mesh is of no use afterwards."""
        for thing in reversed(self._own):
            thing.release()
        self._own.clear()


def _bytes(values: NDArray[Any], kind: type = np.float32) -> bytes:
    return np.ascontiguousarray(values, kind).tobytes()


class Table:
    """Rows of four numbers that shaders look up: row i is texel (i % 1024, i / 1024)."""

    def __init__(self, context: Any, dtype: str) -> None:
        self._context, self._dtype = context, dtype
        self._texture = self._make(1)

    def _make(self, high: int) -> Any:
        texture = self._context.texture((_WIDE, high), 4, dtype=self._dtype)
        texture.filter = (self._context.NEAREST, self._context.NEAREST)
        return texture

    def write(self, rows: NDArray[Any]) -> None:
        """Replace the first rows by ``rows`` [N, 4], N a multiple of 1024; room is made where it lacks."""
        high = len(rows) // _WIDE
        if high > self._texture.height:
            self._texture.release()
            self._texture = self._make(high)
        self._texture.write(rows, viewport=(0, 0, _WIDE, high))

    def use(self, unit: int) -> None:
        """Bind to a texture unit."""
        self._texture.use(unit)


class Targets:
    """What is drawn into: ``side`` x ``side`` samples, and a shadow map."""

    def __init__(self, context: Any, side: int) -> None:
        self.side = side
        self.colour = context.texture((side, side), 4)
        self.label = context.texture((side, side), 1, dtype="u1", alignment=1)
        self.ids = context.texture((side, side), 1, dtype="i4")
        for integers in (self.label, self.ids):
            integers.filter = (context.NEAREST, context.NEAREST)
        self.depth = context.depth_renderbuffer((side, side))
        self.seen = context.framebuffer([self.ids], self.depth)
        self.shaded = context.framebuffer([self.colour, self.label])
        self.forward = context.framebuffer([self.colour, self.label], self.depth)
        self.only_colour = context.framebuffer([self.colour], self.depth)
        self.shade = context.depth_texture((_SHADOW, _SHADOW))
        self.shade.compare_func = "<="
        self.shadow = context.framebuffer(depth_attachment=self.shade)


class Gpu:
    """A standalone context with the compiled programmes.

    Raises:
        BackendError: no EGL device can be opened.
    """

    def __init__(self, size: int, samples: float = 1.5) -> None:
        import moderngl

        self.moderngl = moderngl
        try:
            self.context: Any = _open(moderngl)
        except Exception as error:  # moderngl and glcontext raise bare Exceptions
            raise BackendError(
                f"no EGL context ({error}): install libegl1 and libgl1-mesa-dri, which can draw without a GPU"
            ) from error
        self.size, self.samples = size, samples
        self.programmes = {name: self._compile(*source) for name, source in _SOURCES.items()}
        self.targets = Targets(self.context, round(size * samples))

    def _compile(self, vertex: str, fragment: str) -> Any:
        return self.context.program(vertex_shader=vertex, fragment_shader=fragment)

    def texture(self, pixels: NDArray[np.uint8], mipmaps: bool = True, repeat: bool = False) -> Any:
        """A texture of uint8 [H, W, C]."""
        h, w, c = pixels.shape
        texture = self.context.texture((w, h), c, np.ascontiguousarray(pixels).tobytes(), alignment=1)
        texture.repeat_x, texture.repeat_y = repeat, False
        if mipmaps:
            texture.build_mipmaps()
            texture.filter = (self.moderngl.LINEAR_MIPMAP_LINEAR, self.moderngl.LINEAR)
        return texture

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


def _uniform(value: NDArray[Any]) -> bytes:
    array = np.asarray(value, np.float32)
    if array.shape == (4, 4):
        array = array.T  # GL counts columns first
    return np.ascontiguousarray(array).tobytes()


_GATHERED, _FORWARD = shaders.GATHERED + shaders.LIGHT, shaders.FORWARD + shaders.LIGHT
_SOURCES = {
    "shadow_solid": (shaders.VERTEX, shaders.SHADOW_SOLID),
    "shadow_card": (shaders.VERTEX, shaders.SHADOW_CARD),
    "seen_solid": (shaders.VERTEX, shaders.SEEN_SOLID),
    "seen_card": (shaders.VERTEX, shaders.SEEN_CARD),
    "seen_lash": (shaders.VERTEX, shaders.SEEN_LASH),
    "seen_cloth": (shaders.VERTEX, shaders.SEEN_CLOTH + materials.COLLAR),
    "skin": (shaders.RECTANGLE, _GATHERED + materials.SKIN),
    "eye": (shaders.RECTANGLE, _GATHERED + materials.EYE),
    "mouth": (shaders.RECTANGLE, _GATHERED + materials.MOUTH),
    "cloth": (shaders.RECTANGLE, _GATHERED + materials.CLOTH + materials.COLLAR),
    "hair": (shaders.RECTANGLE, _GATHERED + materials.HAIR),
    "lash": (shaders.VERTEX, _FORWARD + materials.LASH),
    "glasses": (shaders.VERTEX, _FORWARD + materials.GLASSES),
    "lens": (shaders.VERTEX, _FORWARD + materials.LENS),
}
