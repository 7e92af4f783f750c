"""What ships is complete: every weight has a card, every demo input is in NOTICE, no path leaks."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from engine.config import asset_path
from engine.errors import VisavisError
from kernels import __version__
from tests.conftest import REPO


def test_every_weight_has_a_card_and_is_small() -> None:
    weights = sorted(asset_path(".").glob("*.safetensors"))
    assert weights
    for path in weights:
        assert path.with_suffix(".md").is_file(), f"{path.name} has no model card"
        assert path.stat().st_size <= 12_000_000, f"{path.name} is over 12 MB"


def test_every_shipped_file_is_in_notice() -> None:
    notice = (REPO / "NOTICE").read_text()
    for path in asset_path("demo").iterdir():
        assert f"demo/{path.name}" in notice
    for path in asset_path(".").glob("*.safetensors"):
        assert path.name in notice or path.with_suffix(".md").read_text().count("MIT"), path.name


def test_version_is_one() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_error_tree_is_sorted_and_rooted() -> None:
    import engine.errors as errors

    assert errors.__all__ == sorted(errors.__all__)
    assert all(issubclass(getattr(errors, name), VisavisError) for name in errors.__all__)


OPTIONAL = (
    "openvino av aiortc aiohttp webrtcvad sounddevice pocketsphinx matplotlib soundfile moderngl triton"
)
_IMPORTS = f"""
import importlib, pkgutil, sys
for name in {OPTIONAL.split()!r}:
    sys.modules[name] = None
import kernels
import engine.encoders, engine.layers, engine.pipeline, engine.recipes, engine.runtime, engine.samplers
for package in (engine.encoders, engine.layers, engine.runtime, engine.samplers, kernels):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # GPU bodies need Triton; their doorways import them when one is asked for.
        if not module.name.endswith('.gpu'):
            importlib.import_module(module.name)
engine.recipes.build("tiny")
"""


def test_the_engine_imports_without_the_heavy_optional_packages() -> None:
    """A GPU box may lack openvino, av, aiortc: encoders, samplers and kernels import all the same."""
    command = [sys.executable, "-c", _IMPORTS]
    run = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
