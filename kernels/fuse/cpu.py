"""The doorway's CPU body: lays the arrays out as the compiled loops of :mod:`kernels.fuse.rows` take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.fuse.rows import run

__all__ = ["fuse", "fuse_i420"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]

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
) -> tuple[Bytes, Bytes, Floats, tuple[int, int], Floats, Floats, Floats]:
    """What :func:`run` takes of picture ``row``, up to the box."""
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
    cubic: bool,
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
        run(*inputs, cubic, box, base.shape[1:3], target.reshape(-1), False, _NO_MATRIX)
        if target is not whole:
            whole[y0:y1, x0:x1] = target[y0:y1, x0:x1]


def fuse_i420(
    box: Box,
    cubic: bool,
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
        run(*inputs, cubic, box, base.shape[1:3], out[row].reshape(-1), True, matrix)
