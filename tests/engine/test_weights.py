"""Weights files: round trip, provenance, and clear errors when missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.config import asset_path
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


def test_every_shipped_file_has_a_card_of_the_same_plan() -> None:
    files = sorted(asset_path("ppg.safetensors").parent.glob("*.safetensors"))
    assert len(files) >= 12
    for file in files:
        card = file.with_suffix(".md").read_text(encoding="utf-8")
        headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
        assert headings == ["Licence", "Data", "Method", "Measured", "Known limits", "Rebuild"], file.name
        command = card.partition("## Rebuild")[2]
        assert "visavis train " in command or "python -m engine.train." in command, file.name
        assert file.stat().st_size <= 12 * 2**20, file.name
