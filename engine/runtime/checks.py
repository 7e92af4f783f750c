"""What every runner checks before a call."""

from __future__ import annotations

from torch import Tensor

__all__ = ["InputCheck"]


class InputCheck:
    """Remembers the shapes and dtypes a network was compiled for."""

    def __init__(self, examples: tuple[Tensor, ...]) -> None:
        self._expected = tuple((value.shape, value.dtype) for value in examples)

    def __call__(self, inputs: tuple[Tensor, ...]) -> None:
        """Raises ValueError, with the remedy, where a call does not fit what was compiled."""
        if len(inputs) != len(self._expected):
            raise ValueError(f"compiled for {len(self._expected)} inputs, got {len(inputs)}")
        for index, (value, (shape, dtype)) in enumerate(zip(inputs, self._expected, strict=True)):
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(
                    f"input {index} is {value.dtype} {list(value.shape)}, compiled for {dtype} "
                    f"{list(shape)}; compile again for another shape"
                )
