"""Weights files: round trip, provenance, and clear errors when missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import AssetError
from engine.weights import load_weights, save_weights, weights_metadata


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    tensors = {"w": torch.randn(3, 4), "n": torch.arange(5)}
    save_weights(path, tensors, {"seed": 3, "commit": "abc"})
    back = load_weights(path)
    assert sorted(back) == ["n", "w"]
    assert torch.equal(back["w"], tensors["w"])
    assert weights_metadata(path) == {"seed": "3", "commit": "abc"}
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"missing.*rebuild"):
        load_weights(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all")
    with pytest.raises(AssetError, match="damaged"):
        load_weights(broken)
    with pytest.raises(AssetError, match="damaged"):
        weights_metadata(broken)
