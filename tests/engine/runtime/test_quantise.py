"""int8 networks: close to f32, small, cached, and run without NNCF once they are saved."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import AssetError, BackendError
from engine.runtime import QuantisedNetwork, load, quantise
from tests.engine.runtime.nets import WarpNet, example, warp_net

pytest.importorskip("openvino")
pytest.importorskip("nncf", reason="int8 quantisation needs nncf (visavis[int8])")

FRAMES = [example(seed) for seed in range(20, 32)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(cache))


@pytest.fixture(scope="module")
def net() -> WarpNet:
    return warp_net()


@pytest.fixture(scope="module")
def network(net: WarpNet) -> QuantisedNetwork:
    return quantise(net, example(), FRAMES, cached=False)


@torch.no_grad()
def test_a_saved_network_runs_without_nncf(
    net: WarpNet, network: QuantisedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network.save(tmp_path / "net.int8.zip")
    monkeypatch.setitem(sys.modules, "nncf", None)
    runner = load(path, threads=2)
    assert runner.precision == "int8"
    for seed in range(4):
        for value, expected in zip(runner(*example(seed)), net(*example(seed)), strict=True):
            assert value.shape == expected.shape
            assert float((value - expected).abs().mean()) < 0.01
    with pytest.raises(ValueError, match="compile again"):
        runner(*example(batch=2))
    with pytest.raises(BackendError, match=r"visavis\[int8\]"):
        quantise(net, example(), FRAMES[:1])


@torch.no_grad()
def test_weights_are_stored_in_8_bits(net: WarpNet, network: QuantisedNetwork) -> None:
    from engine.runtime.ir import from_bytes

    kinds = [
        operation.get_element_type().get_type_name()
        for operation in from_bytes(network.data, "test").get_ordered_ops()
        if operation.get_type_name() == "Constant" and len(operation.get_output_shape(0)) == 4
    ]
    assert kinds.count("i8") >= 3  # stem, mid, fuse, up; not the layer that makes the flow


def test_warps_are_not_quantised(net: WarpNet, network: QuantisedNetwork) -> None:
    from engine.runtime.ir import from_bytes

    model = from_bytes(network.data, "test")
    warps = [op for op in model.get_ordered_ops() if op.get_type_name() == "GridSample"]
    assert len(warps) == 2
    for warp in warps:
        node = warp.input_value(1).get_node()
        seen = []
        while node.get_type_name() != "Convolution":
            seen.append(node.get_type_name())
            learned = [port.get_source_output().get_node() for port in node.inputs()]
            node = next(n for n in learned if n.get_type_name() != "Constant")
        assert "FakeQuantize" not in seen


def test_the_second_time_comes_from_the_cache(
    net: WarpNet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quantise(net, example(), FRAMES[:4])
    files = set((cache / "networks").iterdir())
    monkeypatch.setitem(sys.modules, "nncf", None)  # nothing is quantised again
    assert quantise(net, example(), FRAMES[:4]) == first
    assert set((cache / "networks").iterdir()) == files
    changed = warp_net()
    with torch.no_grad():
        changed.mid.weight.add_(1e-3)
    for module, frames in ((changed, FRAMES[:4]), (net, FRAMES[:3])):
        with pytest.raises(BackendError, match="nncf"):
            quantise(module, example(), frames)


def test_a_damaged_cache_entry_is_made_again(net: WarpNet, cache: Path) -> None:
    first = quantise(net, example(), FRAMES[:4])
    for path in (cache / "networks").iterdir():
        path.write_bytes(b"not a zip")
    again = quantise(net, example(), FRAMES[:4])
    assert len(again.data) == pytest.approx(len(first.data), rel=0.02)


def test_damaged_and_missing_files_are_asset_errors(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="cannot be read"):
        load(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(AssetError, match="not a network"):
        load(tmp_path / "bad.zip")


def test_without_calibration_nothing_is_quantised() -> None:
    with pytest.raises(ValueError, match="calibration"):
        quantise(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),), [])
