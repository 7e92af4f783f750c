"""Every law on every body of every kernel, and random sizes for the CPU bodies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.cases import CASES
from tests.kernels.laws import LAWS, Case, assert_near, evaluate

PAIRS = [pytest.param(case, body, id=f"{case.name}-{body}") for case in CASES for body in case.bodies]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize(("case", "body"), PAIRS)
def test_kernel(case: Case, body: str, law: Callable[[Case, str], None]) -> None:
    law(case, body)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.integers(1, 23), columns=st.integers(1, 41), seed=st.integers(0, 99))
def test_cpu_body_at_any_size(case: Case, rows: int, columns: int, seed: int) -> None:
    size = (2 * rows, 2 * columns) if case.even else (rows, columns)
    inputs = case.make(torch.Generator().manual_seed(seed), size, case.dtypes[seed % len(case.dtypes)])
    assert_near(case, evaluate(case, inputs, "cpu"), case.run(inputs, "ref"))
