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
from engine.synth.people import shaders

__all__ = ["Gpu", "GpuMesh", "Targets", "projection"]

Float = NDArray[np.float32]

_WIDTH = {"in_uv": 2, "in_paint": 4, "in_weight": 1, "in_code": 1}
_NEAR, _FAR = 10.0, 400.0


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
            content = [(b, f"{_WIDTH.get(n, 3)}f", n) for n, b in self.buffers.items() if n in p]
            self._arrays[key] = self._keep(self._gpu.context.vertex_array(p, content, self.index[group]))
        self._arrays[key].render()

    def regroup(self, group: str, triangles: NDArray[np.int32]) -> None:
        """Replace the triangles of ``group``."""
        for key in [k for k in self._arrays if k[1] == group]:
            array = self._arrays.pop(key)
            self._own.remove(array)
            array.release()
        old = self.index.pop(group)
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


class Targets:
    """Colour, truth and depth of ``side`` x ``side`` samples."""

    def __init__(self, context: Any, side: int) -> None:
        self.side = side
        self.colour = context.texture((side, side), 4)
        self.truth = context.texture((side, side), 4, dtype="f4")
        self.depth = context.depth_renderbuffer((side, side))
        self.all = context.framebuffer([self.colour, self.truth], self.depth)
        self.only_colour = context.framebuffer([self.colour], self.depth)
        self.depths = context.framebuffer([], self.depth)
        self.shade = context.depth_texture((288, 288))
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
        self.programmes = {name: self._compile(source) for name, source in _SOURCES.items()}
        self.targets = Targets(self.context, round(size * samples))

    def _compile(self, source: str) -> Any:
        return self.context.program(vertex_shader=shaders.VERTEX, fragment_shader=source)

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


_COMMON = shaders.COMMON_FRAGMENT
_SOURCES = {
    "shadow": shaders.SHADOW,
    "solid": shaders.SOLID,
    "cloth_cut": shaders.CLOTH_CUT + shaders.COLLAR,
    "skin": _COMMON + shaders.SKIN,
    "cloth": _COMMON + shaders.CLOTH + shaders.COLLAR,
    "eye": _COMMON + shaders.EYE,
    "mouth": _COMMON + shaders.MOUTH,
    "hair": _COMMON + shaders.HAIR,
    "lash": _COMMON + shaders.LASH,
    "glasses": _COMMON + shaders.GLASSES,
    "lens": _COMMON + shaders.LENS,
}
