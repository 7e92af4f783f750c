"""States are dataclasses of arrays and tensors, batch first; these helpers treat each as one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Bools", "reset_rows", "spring"]

Bools = NDArray[np.bool_]


def reset_rows(state: Any, fresh: Any, rows: Bools) -> None:
    """Copy ``fresh`` into ``state`` in place where ``rows`` [B] is true, through nested dataclasses.

    Arrays and tensors have the batch as their first axis; other fields belong to the whole batch.
    """
    for item in fields(state):
        target, source = getattr(state, item.name), getattr(fresh, item.name)
        if isinstance(target, np.ndarray):
            target[rows] = source[rows]
        elif isinstance(target, Tensor):
            mask = torch.from_numpy(rows)
            target[mask] = source[mask]
        elif is_dataclass(target):
            reset_rows(target, source, rows)


def spring(
    position: NDArray[np.float64],
    velocity: NDArray[np.float64],
    target: NDArray[np.float64] | float,
    rate: float | NDArray[np.float64],
    dt: float,
) -> None:
    """One exact step of a critically damped spring, in place.

    x'' = rate**2 (target - x) - 2 rate x'. The closed form is stable for every ``dt`` (s);
    ``rate`` in 1/s. A step of the target is followed to 90 % in 3.9 / rate seconds.
    """
    decay = np.exp(-rate * dt)
    offset = position - target
    slope = velocity + rate * offset
    position[...] = target + (offset + slope * dt) * decay
    velocity[...] = (velocity - rate * slope * dt) * decay
