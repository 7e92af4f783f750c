"""Numba bodies: row by row, one thread, no GIL, every inner loop a vector loop.

A row of each coarse field is spread to full width once and kept, so a pixel row costs one lerp
between two kept rows. What a row needs lies in one flat scratch array, ``_LANE`` values a lane, and
pictures are flat too. Both are reached through :mod:`kernels.fuse.memory`, or loops that sample at
computed addresses would not be vectorised. Byte pictures are sampled bilinearly by one unaligned
32-bit load per tap: R, G, B and a byte that is ignored; any picture bicubically pixel by pixel, each
row of four taps one vector.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fuse.memory import CUBIC, cubic_sample, get, put, read, read_four, write

__all__ = ["run"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Pair = tuple[int, int]

# Untyped, so that what it makes is not checked as if Python called it.
_jit: Any = nb.njit(cache=True, nogil=True)
_inlined: Any = nb.njit(inline="always")

# Columns worked on at once; a wider box is cut.
_LANE = 1024
# First lanes of the scratch array. The places of 2 x 6 kept rows follow the fields' order; then come
# the four weights of bicubic rows, and R, G, B and an unused value of each pixel side by side.
_FLOW, _MASK, _RESIDUAL, _ROWS, _PART, _KEPT, _DOWN, _SPOTS, _LANES = 0, 2, 3, 6, 12, 15, 27, 31, 35


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
        a, b = read(source, left[k]), read(source, right[k])
        put(work, target + k, a + get(work, part + k) * (b - a))


@_jit
def _lerp(work, count, top, bottom, f, target):  # type: ignore[no-untyped-def]
    for k in range(count):
        a = get(work, top + k)
        put(work, target + k, a + f * (get(work, bottom + k) - a))


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
    return np.int32(read_four(image, start) >> np.int32(np.int32(offset - start) * np.int32(8)))


@_jit
def _sample_bytes(image, rows, columns, x0, y, first, stop, work, target):  # type: ignore[no-untyped-def]
    """Bilinear samples of a row of flat byte RGB ``image`` (at least two pixels), three lanes."""
    last = np.int32(image.shape[0] - 4)
    for k in range(first, stop):
        x = _place(np.float32(x0 + k) + get(work, _FLOW * _LANE + k), np.float32(columns - 1))
        v = _place(np.float32(y) + get(work, (_FLOW + 1) * _LANE + k), np.float32(rows - 1))
        at, right, down, fx, fy = _taps(x, v, rows, columns)
        low = np.int32(at + down)
        a, b = _four_at(image, at, last), _four_at(image, np.int32(at + right), last)
        c, d = _four_at(image, low, last), _four_at(image, np.int32(low + right), last)
        red = _mix(_byte(a, 0), _byte(b, 0), _byte(c, 0), _byte(d, 0), fx, fy)
        green = _mix(_byte(a, 8), _byte(b, 8), _byte(c, 8), _byte(d, 8), fx, fy)
        blue = _mix(_byte(a, 16), _byte(b, 16), _byte(c, 16), _byte(d, 16), fx, fy)
        put(work, target + k, red)
        put(work, target + _LANE + k, green)
        put(work, target + 2 * _LANE + k, blue)


@_jit
def _sample_floats(image, rows, columns, x0, y, first, stop, work, target):  # type: ignore[no-untyped-def]
    """Bilinear samples of a row of flat float RGB ``image``, three lanes."""
    for k in range(first, stop):
        x = _place(np.float32(x0 + k) + get(work, _FLOW * _LANE + k), np.float32(columns - 1))
        v = _place(np.float32(y) + get(work, (_FLOW + 1) * _LANE + k), np.float32(rows - 1))
        j, i = int(x), int(v)
        fx, fy = x - np.float32(j), v - np.float32(i)
        right, down = min(j + 1, columns - 1) - j, (min(i + 1, rows - 1) - i) * columns
        a = 3 * (i * columns + j)
        b, c, d = a + 3 * right, a + 3 * down, a + 3 * (right + down)
        for channel in range(3):
            value = _mix(
                read(image, a + channel), read(image, b + channel),
                read(image, c + channel), read(image, d + channel), fx, fy,
            )  # fmt: skip
            put(work, target + channel * _LANE + k, value)


@_jit
def _cubic_places(rows, columns, size, x0, y, first, stop, work, places):  # type: ignore[no-untyped-def]
    """Into ``places`` the pixel number of each sample's place; inverted where a tap is outside.

    The parts of columns replace the flow, the weights of rows go to the lanes at ``_DOWN``. ``size``
    is the number of values in the picture; a read beyond it counts as outside too.
    """
    right, low = np.int32(columns - 3), np.int32(rows - 3)
    last = np.int32((size - 16) // 3 - 2 * columns + 1)
    for k in range(first, stop):
        x = _place(np.float32(x0 + k) + get(work, _FLOW * _LANE + k), np.float32(columns - 1))
        v = _place(np.float32(y) + get(work, (_FLOW + 1) * _LANE + k), np.float32(rows - 1))
        j, i = np.int32(x), np.int32(v)
        at = np.int32(np.int32(i * np.int32(columns)) + j)
        inside = (j > 0) & (j <= right) & (i > 0) & (i <= low) & (at <= last)
        write(places, k, at if inside else np.int32(~at))
        put(work, _FLOW * _LANE + k, x - np.float32(j))
        f = v - np.float32(i)
        for tap in range(4):
            weight = np.float32(CUBIC[0][tap])
            for power in range(1, 4):
                weight = weight * f + np.float32(CUBIC[power][tap])
            put(work, (_DOWN + tap) * _LANE + k, weight)


@_jit
def _patch(image, rows, columns, at, patch):  # type: ignore[no-untyped-def]
    """The 4 x 4 taps around pixel number ``at``, the border repeated, into ``patch``."""
    i, j = at // columns, at % columns
    for n in range(16):
        p, q = min(max(i + n // 4 - 1, 0), rows - 1), min(max(j + n % 4 - 1, 0), columns - 1)
        for channel in range(3):
            write(patch, 3 * n + channel, read(image, 3 * (p * columns + q) + channel))


@_jit
def _sample_cubic(image, rows, columns, x0, y, first, stop, work, target, places):  # type: ignore[no-untyped-def]
    """Bicubic samples of a row of flat RGB ``image``, bytes or floats, three lanes."""
    _cubic_places(rows, columns, image.shape[0], x0, y, first, stop, work, places)
    patch, step = np.zeros(52, image.dtype), 3 * columns
    for k in range(first, stop):
        at, part, down, spot = int(places[k]), _FLOW * _LANE + k, _DOWN * _LANE + k, _SPOTS * _LANE + 4 * k
        if at >= 0:
            cubic_sample(image, 3 * (at - 1) - step, step, work, part, down, _LANE, spot)
        else:
            _patch(image, rows, columns, ~at, patch)
            cubic_sample(patch, 0, 12, work, part, down, _LANE, spot)
    for k in range(first, stop):
        for channel in range(3):
            put(work, target + channel * _LANE + k, get(work, _SPOTS * _LANE + 4 * k + channel))


@_jit
def _moving(count, work):  # type: ignore[no-untyped-def]
    """The first column whose flow is not exactly zero, and one past the last."""
    first, stop, zero, x, y = 0, count, np.float32(0.0), _FLOW * _LANE, (_FLOW + 1) * _LANE
    while first < stop and work[x + first] == zero and work[y + first] == zero:
        first += 1
    while stop > first and work[x + stop - 1] == zero and work[y + stop - 1] == zero:
        stop -= 1
    return first, stop


@_jit
def _copy(image, rows, columns, x0, y, ends, work, target):  # type: ignore[no-untyped-def]
    """What a flow of zero samples, either way: the pixels themselves, the last one of the row beyond it."""
    row = 3 * min(y, rows - 1) * columns
    for first, stop in ends:
        inside = min(max(columns - x0, first), stop)
        for channel in range(3):
            start, lane = row + 3 * x0 + channel, target + channel * _LANE
            for k in range(first, inside):
                put(work, lane + k, np.float32(read(image, start + 3 * k)))
            edge = np.float32(image[row + 3 * (columns - 1) + channel])
            for k in range(inside, stop):
                put(work, lane + k, edge)


@_inlined
def _sample(pixels, values, size, x0, y, count, work, target, places, cubic):  # type: ignore[no-untyped-def]
    """A row of samples of ``pixels``, or where there are none of ``values``, three lanes."""
    rows, columns = size
    first, stop = _moving(count, work)
    ends = ((0, first), (stop, count))
    if pixels.shape[0]:
        _copy(pixels, rows, columns, x0, y, ends, work, target)
        if cubic:
            _sample_cubic(pixels, rows, columns, x0, y, first, stop, work, target, places)
        else:
            _sample_bytes(pixels, rows, columns, x0, y, first, stop, work, target)
    else:
        _copy(values, rows, columns, x0, y, ends, work, target)
        if cubic:
            _sample_cubic(values, rows, columns, x0, y, first, stop, work, target, places)
        else:
            _sample_floats(values, rows, columns, x0, y, first, stop, work, target)


@_jit
def _blend(base, first, count, warped, work, row):  # type: ignore[no-untyped-def]
    """Lay the lanes at ``row`` over ``base`` from byte ``first`` on (or add to it), clamp."""
    zero, full = np.float32(0.0), np.float32(255.0)
    for channel in range(3):
        lane, residual = row + channel * _LANE, (_RESIDUAL + channel) * _LANE
        if warped:
            for k in range(count):
                below = np.float32(read(base, first + 3 * k + channel))
                m = get(work, _MASK * _LANE + k)
                value = below + m * (get(work, lane + k) - below) + get(work, residual + k)
                put(work, lane + k, min(max(value, zero), full))
        else:
            for k in range(count):
                below = np.float32(read(base, first + 3 * k + channel))
                value = below + get(work, _MASK * _LANE + k) * get(work, residual + k)
                put(work, lane + k, min(max(value, zero), full))


@_jit
def _store_rgb(work, row, count, out, first):  # type: ignore[no-untyped-def]
    half = np.float32(0.5)
    for k in range(count):
        red, green = get(work, row + k), get(work, row + _LANE + k)
        blue = get(work, row + 2 * _LANE + k)
        write(out, first + 3 * k, np.uint8(np.int32(red + half)))
        write(out, first + 3 * k + 1, np.uint8(np.int32(green + half)))
        write(out, first + 3 * k + 2, np.uint8(np.int32(blue + half)))


@_jit
def _store_luma(work, row, count, m, out, first):  # type: ignore[no-untyped-def]
    red, green, blue = m[0, 0], m[0, 1], m[0, 2]
    for k in range(count):
        value = red * get(work, row + k) + green * get(work, row + _LANE + k)
        value += blue * get(work, row + 2 * _LANE + k) + np.float32(16.5)
        write(out, first + k, np.uint8(np.int32(value)))


@_jit
def _store_chroma(work, count, m, plane, out, first):  # type: ignore[no-untyped-def]
    """One chroma value for each 2 x 2 block of the two rows of lanes at ``_ROWS``."""
    quarter = np.float32(0.25)
    weights = (m[plane, 0] * quarter, m[plane, 1] * quarter, m[plane, 2] * quarter)
    for k in range(count):
        value = np.float32(128.5)
        for channel in range(3):
            upper, lower = (_ROWS + channel) * _LANE + 2 * k, (_ROWS + 3 + channel) * _LANE + 2 * k
            four = get(work, upper) + get(work, upper + 1) + get(work, lower) + get(work, lower + 1)
            value += weights[channel] * four
        write(out, first + k, np.uint8(np.int32(value)))


@_jit
def _tile(base, pixels, values, size, flow, mask, residual, cubic, box, shape, out, planar, m):  # type: ignore[no-untyped-def]
    """At most ``_LANE`` columns of one picture of ``shape``, into flat ``out``: RGB or I420."""
    x0, y0, x1, y1 = box
    height, width = shape
    count, warped, half = x1 - x0, flow.shape[1] > 0, width // 2
    work, tags = np.empty(_LANES * _LANE, np.float32), np.full((3, 2), -1)
    at, places = np.empty((6, count), np.int32), np.empty(count, np.int32)
    for n, cells in enumerate((flow.shape[2], mask.shape[2], residual.shape[2])):
        _columns(x0, count, cells, width, at[2 * n], at[2 * n + 1], work, _PART + n)
    for y in range(y0, y1):
        row, first = (_ROWS + 3 * (y & 1)) * _LANE, y * width + x0
        _field_row(mask, y, height, count, at[2], at[3], work, _MASK, _PART + 1, tags[1])
        _field_row(residual, y, height, count, at[4], at[5], work, _RESIDUAL, _PART + 2, tags[2])
        if warped:
            _field_row(flow, y, height, count, at[0], at[1], work, _FLOW, _PART, tags[0])
            _sample(pixels, values, size, x0, y, count, work, row, places, cubic)
        _blend(base, 3 * first, count, warped, work, row)
        if not planar:
            _store_rgb(work, row, count, out, 3 * first)
            continue
        _store_luma(work, row, count, m, out, first)
        if y & 1:
            for plane in range(2):
                chroma = height * width + (plane * (height // 2) + y // 2) * half + x0 // 2
                _store_chroma(work, count // 2, m, 1 + plane, out, chroma)


def run(
    base: Bytes, pixels: Bytes, values: Floats, size: Pair, flow: Floats, mask: Floats, residual: Floats,
    cubic: bool, box: tuple[int, int, int, int], shape: Pair, out: Bytes, planar: bool, m: Floats,
) -> None:  # fmt: skip
    """One picture of ``shape``: into flat ``out``, RGB or where ``planar`` I420 by the matrix ``m``.

    ``base`` flat; the image of ``size`` flat in ``pixels``, or where that is empty in ``values``; coarse
    fields [C, h, w], an empty ``flow`` for none. All arrays are contiguous.
    """
    x0, y0, x1, y1 = box
    # Not compiled: as part of a compiled loop, _tile would be compiled twice.
    for x in range(x0, x1, _LANE):
        tile = (x, y0, min(x + _LANE, x1), y1)
        _tile(base, pixels, values, size, flow, mask, residual, cubic, tile, shape, out, planar, m)
