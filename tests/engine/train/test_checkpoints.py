"""Training states in parts: whole again to the bit, never half, and small when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.errors import AssetError
from engine.train.checkpoints import compact, join_state, load_state, save_state, split_state


def state(seed: int = 0) -> dict[str, Any]:
    """After a step of Adam, as a trainer has it."""
    torch.manual_seed(seed)
    net, judge, mean = nn.Linear(64, 64), nn.Linear(8, 8), nn.Linear(64, 64)
    parts: dict[str, Any] = {"step": 7 + seed, "net": net.state_dict(), "mean": mean.state_dict()}
    for name, module in (("optimiser", net), ("judging", judge)):
        optimiser = torch.optim.Adam(module.parameters(), 1e-3, (0.5, 0.99))
        module(torch.randn(2, module.in_features)).square().sum().backward()
        optimiser.step()
        parts[name] = optimiser.state_dict()
    return parts


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(a.dtype == b.dtype and torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


@pytest.mark.parametrize("mib", [0.01, 0.05, 16.0])
def test_parts_are_small_and_join_to_the_same_bits(tmp_path: Path, mib: float) -> None:
    path, wanted = tmp_path / "net.state.pt", state()
    parts = split_state(wanted, path, mib)
    assert all(0 < part.stat().st_size <= mib * 2**20 for part in parts)
    assert (len(parts) == 1) == (mib == 16.0)
    assert same(join_state(path), wanted)


def test_a_new_state_replaces_the_old_parts(tmp_path: Path) -> None:
    path = tmp_path / "net.state.pt"
    split_state(state(0), path, 0.02)
    parts = split_state(state(1), path, 0.02)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, *(p.name for p in parts)])
    assert join_state(path)["step"] == 8


def test_missing_and_damaged_parts_are_told(tmp_path: Path) -> None:
    path = tmp_path / "net.state.pt"
    parts = split_state(state(), path, 0.02)
    data = bytearray(parts[1].read_bytes())
    data[40] ^= 1
    parts[1].write_bytes(data)
    with pytest.raises(AssetError, match="damaged"):
        join_state(path)
    parts[1].unlink()
    with pytest.raises(AssetError, match=r"lacks its part .*\.001"):
        join_state(path)


def test_either_form_is_loaded_and_restores_an_optimiser(tmp_path: Path) -> None:
    wanted = state()
    for mib in (None, 0.02):
        path = tmp_path / f"{mib}.pt"
        save_state(wanted, path, mib)
        found = load_state(path)
        net = nn.Linear(64, 64)
        optimiser = torch.optim.Adam(net.parameters(), 1e-3)
        optimiser.load_state_dict(found["optimiser"])
        moment = optimiser.state_dict()["state"][0]["exp_avg"]
        assert moment.dtype == torch.float32
        torch.testing.assert_close(moment, wanted["optimiser"]["state"][0]["exp_avg"], rtol=8e-3, atol=1e-9)
        assert same(found["net"], wanted["net"])


def test_a_compact_state_is_ten_bytes_a_parameter() -> None:
    small = compact(state())
    weight = small["net"]["weight"]
    moments = [v["exp_avg"] for v in small["optimiser"]["state"].values()]
    assert (
        weight.element_size() + small["mean"]["weight"].element_size() + 2 * moments[0].element_size() == 10
    )
    assert state()["optimiser"]["state"][0]["exp_avg"].dtype == torch.float32
