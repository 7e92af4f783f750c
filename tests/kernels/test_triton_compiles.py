"""Every Triton body compiles to machine code of a real GPU, which the interpreter does not show."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_bodies_compile_without_a_gpu(tmp_path: Path) -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed (pip install 'visavis[gpu]')")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.compile_triton"]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = done.stdout.splitlines()
    assert {row.split()[0] for row in rows} == {
        "_fuse", "_fuse_i420", "_convert", "_log_mel", "_draw", "_resolve",
    }  # fmt: skip
    assert all(int(row.split()[-2]) > 1000 for row in rows)
