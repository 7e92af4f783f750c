"""Numba bodies: row by row, one thread, no GIL, every inner loop a vector loop.

A row of each coarse field is spread to full width once and kept, so a pixel row costs one lerp
between two kept rows. What a row needs lies in one flat scratch array, ``_LANE`` values a lane, and
pictures are flat too. Scratch and pictures never overlap; the loads and stores below say so to the
compiler, which otherwise would not vectorise loops that sample at computed addresses. Byte pictures
are sampled by one unaligned 32-bit load per tap: R, G, B and a byte that is ignored.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["fuse", "fuse_i420"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]

# Untyped, so that what they make is not checked as if Python called it.
_jit: Any = nb.njit(cache=True, nogil=True)
_device: Any = intrinsic

# Columns worked on at once; a wider box is cut.
_LANE = 1024
# First lanes of the scratch array. The places of 2 x 6 kept rows follow the fields' order.
_FLOW, _MASK, _RESIDUAL, _ROWS, _PART, _KEPT, _LANES = 0, 2, 3, 6, 12, 15, 27


def _scopes(module: Any) -> Any:
    """The alias scope "pictures": scratch accesses are declared not to touch it."""
    domain = module.add_metadata([ir.MetaDataString(module, "kernels.fuse")])
    return module.add_metadata([module.add_metadata([ir.MetaDataString(module, "pictures"), domain])])


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    proxy: Any = cgutils.create_struct_proxy
    return builder.gep(proxy(signature.args[0])(context, builder, args[0]).data, [args[1]])


@_device
def _get(typing_context: Any, scratch: Any, index: Any) -> Any:
    """``scratch[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature, args), align=4)
        value.set_metadata("noalias", _scopes(builder.module))
        return value

    return scratch.dtype(scratch, types.intp), codegen


@_device
def _put(typing_context: Any, scratch: Any, index: Any, value: Any) -> Any:
    """``scratch[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], _address(context, builder, signature, args), align=4)
        stored.set_metadata("noalias", _scopes(builder.module))
        return context.get_dummy_value()

    return types.void(scratch, types.intp, scratch.dtype), codegen


@_device
def _read(typing_context: Any, picture: Any, index: Any) -> Any:
    """``picture[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature, args), align=1)
        value.set_metadata("alias.scope", _scopes(builder.module))
        return value

    return picture.dtype(picture, types.intp), codegen


@_device
def _read_four(typing_context: Any, picture: Any, index: Any) -> Any:
    """The four bytes from ``picture[index]`` on, the first one lowest on little-endian machines."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature, args)
        value = builder.load(builder.bitcast(pointer, ir.IntType(32).as_pointer()), align=1)
        value.set_metadata("alias.scope", _scopes(builder.module))
        return value

    return types.int32(picture, types.intp), codegen


@_device
def _write(typing_context: Any, picture: Any, index: Any, value: Any) -> Any:
    """``picture[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], _address(context, builder, signature, args), align=1)
        stored.set_metadata("alias.scope", _scopes(builder.module))
        return context.get_dummy_value()

    return types.void(picture, types.intp, picture.dtype), codegen


@_jit
def _columns(first, count, cells, width, left, right, work, lane):  # type: ignore[no-untyped-def]
    """For each output column from ``first``: the two cells it lies between and the part of the second."""
    scale = np.float32(cells) / np.float32(width)
    for k in range(count):
        at = max((np.float32(first + k) + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0.0))
        cell = min(int(at), cells - 1)
        left[k] = cell
        right[k] = min(cell + 1, cells - 1)
        work[lane * _LANE + k] = min(at - np.float32(cell), np.float32(1.0))


@_jit
def _spread(source, count, left, right, work, part, target):  # type: ignore[no-untyped-def]
    """Coarse row ``source`` [w] at full width into scratch from ``target`` on."""
    for k in range(count):
        a, b = _read(source, left[k]), _read(source, right[k])
        _put(work, target + k, a + _get(work, part + k) * (b - a))


@_jit
def _lerp(work, count, top, bottom, f, target):  # type: ignore[no-untyped-def]
    for k in range(count):
        a = _get(work, top + k)
        _put(work, target + k, a + f * (_get(work, bottom + k) - a))


@_jit
def _field_row(field, y, height, count, left, right, work, lane, part, tags):  # type: ignore[no-untyped-def]
    """Row ``y`` of coarse ``field`` [C, h, w] at full width into the lanes from ``lane`` on.

    The two coarse rows last used are kept, spread, in the lanes from ``_KEPT`` on; ``tags`` [2] says
    which they are.
    """
    cells = field.shape[1]
    scale = np.float32(cells) / np.float32(height)
    at = max((np.float32(y) + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0.0))
    top = min(int(at), cells - 1)
    bottom = min(top + 1, cells - 1)
    f = min(np.float32(at - np.float32(top)), np.float32(1.0))
    for i in (top, bottom):
        if tags[i & 1] != i:
            tags[i & 1] = i
            for c in range(field.shape[0]):
                target = (_KEPT + 6 * (i & 1) + lane + c) * _LANE
                _spread(field[c, i], count, left, right, work, part * _LANE, target)
    for c in range(field.shape[0]):
        first = (_KEPT + 6 * (top & 1) + lane + c) * _LANE
        second = (_KEPT + 6 * (bottom & 1) + lane + c) * _LANE
        _lerp(work, count, first, second, f, (lane + c) * _LANE)


@_jit
def _place(value, last):  # type: ignore[no-untyped-def]
    """``value`` clamped to 0..last; what is not a number becomes 0 and so reaches no address."""
    zero = np.float32(0.0)
    value = value if value > zero else zero
    return value if value < last else last


@_jit
def _mix(a, b, c, d, fx, fy):  # type: ignore[no-untyped-def]
    top = a + fx * (b - a)
    return top + fy * (c + fx * (d - c) - top)


@_jit
def _byte(four, shift):  # type: ignore[no-untyped-def]
    return np.float32(np.int32(four >> shift) & np.int32(255))


@_jit
def _taps(x, v, rows, columns):  # type: ignore[no-untyped-def]
    """Pixel number of the upper left tap, steps to the right and lower ones, parts; in 32 bits."""
    j, i = np.int32(x), np.int32(v)
    right = np.int32(1) if j < np.int32(columns - 1) else np.int32(0)
    down = np.int32(columns) if i < np.int32(rows - 1) else np.int32(0)
    return np.int32(np.int32(i * np.int32(columns)) + j), right, down, x - np.float32(j), v - np.float32(i)


@_jit
def _four_at(image, pixel, last):  # type: ignore[no-untyped-def]
    """R, G, B of a pixel in the low three bytes."""
    # The last pixel has no fourth byte; its load starts one byte early and is shifted.
    offset = np.int32(pixel * np.int32(3))
    start = offset if offset < last else last
    return np.int32(_read_four(image, start) >> np.int32(np.int32(offset - start) * np.int32(8)))


@_jit
def _sample_bytes(image, rows, columns, x0, y, count, work, target):  # type: ignore[no-untyped-def]
    """Bilinear samples of a row of flat byte RGB ``image`` (at least two pixels), three lanes."""
    last = np.int32(image.shape[0] - 4)
    for k in range(count):
        x = _place(np.float32(x0 + k) + _get(work, _FLOW * _LANE + k), np.float32(columns - 1))
        v = _place(np.float32(y) + _get(work, (_FLOW + 1) * _LANE + k), np.float32(rows - 1))
        at, right, down, fx, fy = _taps(x, v, rows, columns)
        low = np.int32(at + down)
        a, b = _four_at(image, at, last), _four_at(image, np.int32(at + right), last)
        c, d = _four_at(image, low, last), _four_at(image, np.int32(low + right), last)
        red = _mix(_byte(a, 0), _byte(b, 0), _byte(c, 0), _byte(d, 0), fx, fy)
        green = _mix(_byte(a, 8), _byte(b, 8), _byte(c, 8), _byte(d, 8), fx, fy)
        blue = _mix(_byte(a, 16), _byte(b, 16), _byte(c, 16), _byte(d, 16), fx, fy)
        _put(work, target + k, red)
        _put(work, target + _LANE + k, green)
        _put(work, target + 2 * _LANE + k, blue)


@_jit
def _sample_floats(image, rows, columns, x0, y, count, work, target):  # type: ignore[no-untyped-def]
    """Bilinear samples of a row of flat float RGB ``image``, three lanes."""
    for k in range(count):
        x = _place(np.float32(x0 + k) + _get(work, _FLOW * _LANE + k), np.float32(columns - 1))
        v = _place(np.float32(y) + _get(work, (_FLOW + 1) * _LANE + k), np.float32(rows - 1))
        j, i = int(x), int(v)
        fx, fy = x - np.float32(j), v - np.float32(i)
        right, down = min(j + 1, columns - 1) - j, (min(i + 1, rows - 1) - i) * columns
        a = 3 * (i * columns + j)
        b, c, d = a + 3 * right, a + 3 * down, a + 3 * (right + down)
        for channel in range(3):
            value = _mix(
                _read(image, a + channel), _read(image, b + channel),
                _read(image, c + channel), _read(image, d + channel), fx, fy,
            )  # fmt: skip
            _put(work, target + channel * _LANE + k, value)


@_jit
def _blend(base, first, count, warped, work, row):  # type: ignore[no-untyped-def]
    """Lay the lanes at ``row`` over ``base`` from byte ``first`` on (or add to it), clamp."""
    zero, full = np.float32(0.0), np.float32(255.0)
    for channel in range(3):
        lane, residual = row + channel * _LANE, (_RESIDUAL + channel) * _LANE
        if warped:
            for k in range(count):
                below = np.float32(_read(base, first + 3 * k + channel))
                m = _get(work, _MASK * _LANE + k)
                value = below + m * (_get(work, lane + k) - below) + _get(work, residual + k)
                _put(work, lane + k, min(max(value, zero), full))
        else:
            for k in range(count):
                below = np.float32(_read(base, first + 3 * k + channel))
                value = below + _get(work, _MASK * _LANE + k) * _get(work, residual + k)
                _put(work, lane + k, min(max(value, zero), full))


@_jit
def _store_rgb(work, row, count, out, first):  # type: ignore[no-untyped-def]
    half = np.float32(0.5)
    for k in range(count):
        red, green = _get(work, row + k), _get(work, row + _LANE + k)
        blue = _get(work, row + 2 * _LANE + k)
        _write(out, first + 3 * k, np.uint8(np.int32(red + half)))
        _write(out, first + 3 * k + 1, np.uint8(np.int32(green + half)))
        _write(out, first + 3 * k + 2, np.uint8(np.int32(blue + half)))


@_jit
def _store_luma(work, row, count, m, out, first):  # type: ignore[no-untyped-def]
    red, green, blue = m[0, 0], m[0, 1], m[0, 2]
    for k in range(count):
        value = red * _get(work, row + k) + green * _get(work, row + _LANE + k)
        value += blue * _get(work, row + 2 * _LANE + k) + np.float32(16.5)
        _write(out, first + k, np.uint8(np.int32(value)))


@_jit
def _store_chroma(work, count, m, plane, out, first):  # type: ignore[no-untyped-def]
    """One chroma value for each 2 x 2 block of the two rows of lanes at ``_ROWS``."""
    quarter = np.float32(0.25)
    weights = (m[plane, 0] * quarter, m[plane, 1] * quarter, m[plane, 2] * quarter)
    for k in range(count):
        value = np.float32(128.5)
        for channel in range(3):
            upper, lower = (_ROWS + channel) * _LANE + 2 * k, (_ROWS + 3 + channel) * _LANE + 2 * k
            four = _get(work, upper) + _get(work, upper + 1) + _get(work, lower) + _get(work, lower + 1)
            value += weights[channel] * four
        _write(out, first + k, np.uint8(np.int32(value)))


@_jit
def _tile(base, pixels, values, size, flow, mask, residual, box, shape, out, planar, m):  # type: ignore[no-untyped-def]
    """At most ``_LANE`` columns of one picture of ``shape``, into flat ``out``: RGB or I420."""
    x0, y0, x1, y1 = box
    height, width = shape
    count, warped, half = x1 - x0, flow.shape[1] > 0, width // 2
    work, tags = np.empty(_LANES * _LANE, np.float32), np.full((3, 2), -1)
    at = np.empty((6, count), np.int32)
    for n, cells in enumerate((flow.shape[2], mask.shape[2], residual.shape[2])):
        _columns(x0, count, cells, width, at[2 * n], at[2 * n + 1], work, _PART + n)
    for y in range(y0, y1):
        row, first = (_ROWS + 3 * (y & 1)) * _LANE, y * width + x0
        _field_row(mask, y, height, count, at[2], at[3], work, _MASK, _PART + 1, tags[1])
        _field_row(residual, y, height, count, at[4], at[5], work, _RESIDUAL, _PART + 2, tags[2])
        if warped:
            _field_row(flow, y, height, count, at[0], at[1], work, _FLOW, _PART, tags[0])
            if pixels.shape[0]:
                _sample_bytes(pixels, size[0], size[1], x0, y, count, work, row)
            else:
                _sample_floats(values, size[0], size[1], x0, y, count, work, row)
        _blend(base, 3 * first, count, warped, work, row)
        if not planar:
            _store_rgb(work, row, count, out, 3 * first)
            continue
        _store_luma(work, row, count, m, out, first)
        if y & 1:
            for plane in range(2):
                chroma = height * width + (plane * (height // 2) + y // 2) * half + x0 // 2
                _store_chroma(work, count // 2, m, 1 + plane, out, chroma)


@_jit
def _run(base, pixels, values, size, flow, mask, residual, box, shape, out, planar, m):  # type: ignore[no-untyped-def]
    x0, y0, x1, y1 = box
    for x in range(x0, x1, _LANE):
        tile = (x, y0, min(x + _LANE, x1), y1)
        _tile(base, pixels, values, size, flow, mask, residual, tile, shape, out, planar, m)


_NO_PIXELS, _NO_VALUES = np.empty(0, np.uint8), np.empty(0, np.float32)
_NO_FLOW = np.empty((2, 0, 0), np.float32)
_ALL = np.ones((1, 1, 1), np.float32)
_NOTHING = np.zeros((3, 1, 1), np.float32)
_NO_MATRIX = np.zeros((3, 3), np.float32)


def _planes(field: NDArray[Any] | None, row: int, absent: Floats) -> Floats:
    """Row ``row`` of a coarse field [B, h, w, C] as contiguous float32 [C, h, w].

    No copy where it is float32 and was planar in memory, as a network's output is.
    """
    if field is None:
        return absent
    return np.ascontiguousarray(field[row].transpose(2, 0, 1), np.float32)


def _inputs(
    base: Bytes,
    image: NDArray[Any] | None,
    flow: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    residual: NDArray[Any] | None,
    row: int,
) -> tuple[Any, ...]:
    """What :func:`_run` takes of picture ``row``, up to the box."""
    pixels, values, size = _NO_PIXELS, _NO_VALUES, (1, 1)
    if flow is not None and image is not None:
        picture, size = image[row], (image.shape[1], image.shape[2])
        # A single pixel has fewer bytes than one load takes.
        if picture.dtype == np.uint8 and size != (1, 1):
            pixels = np.ascontiguousarray(picture).reshape(-1)
        else:
            values = np.ascontiguousarray(picture, np.float32).reshape(-1)
    cover = None if mask is None else mask[..., None]
    return (
        np.ascontiguousarray(base[row]).reshape(-1), pixels, values, size, _planes(flow, row, _NO_FLOW),
        _planes(cover, row, _ALL), _planes(residual, row, _NOTHING),
    )  # fmt: skip


def fuse(
    box: Box,
    base: Bytes,
    image: NDArray[Any] | None,
    flow: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    residual: NDArray[Any] | None,
    out: Bytes,
) -> None:
    """See :func:`kernels.fuse.fuse`."""
    x0, y0, x1, y1 = box
    for row in range(out.shape[0]):
        whole = out[row]
        target = whole if whole.flags.c_contiguous else np.empty(whole.shape, np.uint8)
        inputs = _inputs(base, image, flow, mask, residual, row)
        _run(*inputs, box, base.shape[1:3], target.reshape(-1), False, _NO_MATRIX)
        if target is not whole:
            whole[y0:y1, x0:x1] = target[y0:y1, x0:x1]


def fuse_i420(
    box: Box,
    matrix: Floats,
    base: Bytes,
    image: NDArray[Any] | None,
    flow: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    residual: NDArray[Any] | None,
    out: Bytes,
) -> None:
    """See :func:`kernels.fuse.fuse_i420`; ``out`` is contiguous."""
    for row in range(out.shape[0]):
        inputs = _inputs(base, image, flow, mask, residual, row)
        _run(*inputs, box, base.shape[1:3], out[row].reshape(-1), True, matrix)
