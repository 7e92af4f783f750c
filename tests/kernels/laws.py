"""The laws every kernel keeps, as functions over a :class:`Case` and one of its bodies.

``tests/kernels/test_laws.py`` runs each law on each body of each registered kernel; a new kernel
joins by adding its case there. Inputs are made on the CPU; the ``triton`` body gets them on the GPU
where there is one, and else runs in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

__all__ = ["LAWS", "Case", "Inputs", "integers", "normal", "uniform"]

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One kernel and how to feed it.

    ``make(noise, size, dtype)`` builds inputs for the output size (rows, columns) and the type of its
    fractional inputs; ``run(inputs, impl)`` gives the results. Results of a body may differ from the
    reference's by ``tolerance`` (``loose`` for a share of at most ``share`` of the values), and are the
    same, bit for bit, whatever the memory layout of the inputs.
    """

    name: str
    make: Callable[[torch.Generator, tuple[int, int], torch.dtype], Inputs]
    run: Callable[[Inputs, str], Tensor]
    bodies: tuple[str, ...] = ("cpu", "triton")
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16)
    sizes: tuple[tuple[int, int], ...] = ((1, 1), (1, 7), (9, 1), (7, 13), (4, 17), (13, 11))
    even: bool = False
    tolerance: float = 0.0
    loose: float = 0.0
    share: float = 0.0
    batched: bool = True
    shared: tuple[str, ...] = field(default=())


def normal(noise: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=noise)


def uniform(noise: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=noise)


def integers(
    noise: torch.Generator, *shape: int, below: int = 256, dtype: torch.dtype = torch.uint8
) -> Tensor:
    return torch.randint(0, below, shape, generator=noise, dtype=dtype)


def sizes_of(case: Case) -> list[tuple[int, int]]:
    """The case's sizes, doubled where they must be even."""
    return [(2 * h, 2 * w) if case.even else (h, w) for h, w in case.sizes]


def evaluate(case: Case, inputs: Inputs, body: str) -> Tensor:
    """The result of ``body``, on the CPU; skips where the body cannot run."""
    if body == "triton":
        if find_spec("triton") is None:
            pytest.skip("Triton is not installed (pip install 'visavis[gpu]')")
        if torch.cuda.is_available():
            # Strides are kept, or the law on them would test nothing.
            inputs = {name: _like(x.cuda(), x) for name, x in inputs.items()}
    return case.run(inputs, body).cpu()


def _like(moved: Tensor, original: Tensor) -> Tensor:
    out = torch.empty_strided(original.shape, original.stride(), dtype=moved.dtype, device=moved.device)
    return out.copy_(moved)


def assert_near(case: Case, got: Tensor, wanted: Tensor) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if not got.numel():
        return
    apart = (got.double() - wanted.double()).abs()
    # Both infinite or both not a number is no difference.
    apart = torch.where((got == wanted) | (got.isnan() & wanted.isnan()), 0.0, apart)
    limit = max(case.tolerance, case.loose)
    assert float(apart.max()) <= limit, f"{case.name}: off by {float(apart.max()):g}, allowed {limit:g}"
    beyond = float((apart > case.tolerance).double().mean())
    assert beyond <= max(case.share, 2.0 / apart.numel()), f"{case.name}: {beyond:.2%} beyond the tolerance"


def gapped(x: Tensor) -> Tensor:
    """The same values with gaps in every dimension: a view of every second item, from the second on."""
    if x.ndim == 0:
        return x
    wide = torch.full([2 * n + 1 for n in x.shape], 77, dtype=x.dtype)
    view = wide[tuple(slice(1, 2 * n, 2) for n in x.shape)]
    return view.copy_(x)


def turned(x: Tensor) -> Tensor:
    """The same values with the dimensions' order in memory reversed."""
    order = list(range(x.ndim))[::-1]
    return x.permute(order).contiguous().permute(order)


def law_equals_the_reference(case: Case, body: str) -> None:
    """Over odd sizes and every dtype."""
    for k, size in enumerate(sizes_of(case)):
        for dtype in case.dtypes:
            inputs = case.make(torch.Generator().manual_seed(k), size, dtype)
            assert_near(case, evaluate(case, inputs, body), case.run(inputs, "ref"))


def law_strides_change_nothing(case: Case, body: str) -> None:
    """Gaps and another order of dimensions, in all inputs at once, give the same bits."""
    for k, size in enumerate(sizes_of(case)[2:4]):
        inputs = case.make(torch.Generator().manual_seed(k), size, case.dtypes[0])
        wanted = evaluate(case, inputs, body)
        for change in (gapped, turned):
            other = evaluate(case, {name: change(x) for name, x in inputs.items()}, body)
            assert torch.equal(other, wanted), f"{case.name}: {change.__name__} inputs change the result"


def law_the_same_twice(case: Case, body: str) -> None:
    """A second call gives the same bits and leaves its inputs as they were."""
    inputs = case.make(torch.Generator().manual_seed(3), sizes_of(case)[3], case.dtypes[-1])
    before = {name: x.clone() for name, x in inputs.items()}
    first = evaluate(case, inputs, body)
    assert torch.equal(evaluate(case, inputs, body), first)
    for name, x in inputs.items():
        torch.testing.assert_close(x, before[name], rtol=0, atol=0, equal_nan=True)


def law_rows_do_not_mix(case: Case, body: str) -> None:
    """A row of a batch gives the bits it gives alone."""
    if not case.batched:
        return
    inputs = case.make(torch.Generator().manual_seed(4), sizes_of(case)[3], case.dtypes[0])
    whole = evaluate(case, inputs, body)
    assert whole.shape[0] > 1
    for row in range(whole.shape[0]):
        alone: dict[str, Any] = {
            name: x if name in case.shared else x[row : row + 1] for name, x in inputs.items()
        }
        assert torch.equal(evaluate(case, alone, body)[0], whole[row])


LAWS = (law_equals_the_reference, law_strides_change_nothing, law_the_same_twice, law_rows_do_not_mix)
