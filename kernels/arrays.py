"""Numpy arrays and torch tensors looked at alike, for the doorways that take both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Array", "as_numpy", "as_torch", "device_name", "dtype_name", "expect", "is_contiguous"]

Array = NDArray[Any] | Tensor


def dtype_name(x: Array) -> str:
    """For example ``float32``."""
    return str(x.dtype).removeprefix("torch.")


def device_name(x: Array) -> str:
    """For example ``cuda:0``; numpy arrays are on ``cpu``."""
    return str(x.device) if isinstance(x, Tensor) else "cpu"


def is_contiguous(x: Array) -> bool:
    """C order without gaps."""
    return bool(x.is_contiguous() if isinstance(x, Tensor) else x.flags.c_contiguous)


def as_numpy(x: Array | None) -> Any:
    """The same memory as a numpy array; None stays None."""
    return x.detach().numpy() if isinstance(x, Tensor) else x


def as_torch(x: Array | None) -> Any:
    """The same memory as a tensor (a copy where numpy strides run backwards); None stays None."""
    if not isinstance(x, np.ndarray):
        return x
    return torch.from_numpy(x if min(x.strides, default=0) >= 0 else np.ascontiguousarray(x))


def expect(name: str, x: Array | None, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> None:
    """Raise ValueError unless ``x`` is None or of ``shape`` (None: any positive size) and dtype."""
    if x is None:
        return
    fits = len(x.shape) == len(shape) and all(
        want == got if want is not None else got > 0 for want, got in zip(shape, x.shape, strict=True)
    )
    if not fits or dtype_name(x) not in dtypes:
        sizes = ", ".join("any" if n is None else str(n) for n in shape)
        got = f"{dtype_name(x)} {list(x.shape)}"
        raise ValueError(f"{name} must be {' or '.join(dtypes)} [{sizes}], got {got}")
