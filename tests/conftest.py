"""Where the tests find optional data, and small helpers all of them share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]


def shared_data() -> Path | None:
    """The folder of real clips, portraits and speech, or None where it is not there.

    ``$VISAVIS_DATA`` names it; otherwise ``shared/data`` beside the checkout.
    """
    named = os.environ.get("VISAVIS_DATA")
    path = Path(named) if named else REPO.parent / "shared" / "data"
    return path if (path / "MANIFEST.csv").is_file() else None


@pytest.fixture(scope="session")
def data() -> Path:
    """The optional data folder; skips the test where it is not there."""
    path = shared_data()
    if path is None:
        pytest.skip("the optional test data is not here (set VISAVIS_DATA to its folder)")
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to drive; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` skip with a reason where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    # Two torch threads collapse by an order of magnitude when another process spins.
    torch.set_num_threads(1)
