"""Every backend in every precision it has, against eager f32, on a network with warps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import BackendError
from engine.runtime import Precision, available_backends, compile
from tests.engine.runtime.nets import example, warp_net


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))


TOLERANCES: dict[tuple[str, Precision], tuple[float, float]] = {
    # Largest and mean difference of a picture in 0..1 from eager f32.
    ("eager", "f32"): (1e-6, 1e-7),
    ("eager", "bf16"): (0.03, 0.004),
    ("eager", "f16"): (0.005, 0.0005),
    ("openvino", "f32"): (2e-4, 2e-5),
    ("openvino", "bf16"): (0.03, 0.004),
    ("openvino", "f16"): (0.005, 0.0005),
    ("openvino", "int8"): (0.08, 0.01),
    ("cuda_graph", "f32"): (2e-4, 2e-5),
    ("cuda_graph", "bf16"): (0.03, 0.004),
    ("cuda_graph", "f16"): (0.005, 0.0005),
    ("tensorrt", "f32"): (2e-4, 2e-5),
    ("tensorrt", "f16"): (0.005, 0.0005),
}


@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        pytest.param(b, p, marks=pytest.mark.gpu if b in ("cuda_graph", "tensorrt") else ())
        for b, p in TOLERANCES
    ],
)
@torch.no_grad()
def test_pictures_stay_within_the_stated_tolerance(backend: str, precision: Precision) -> None:
    if (reason := available_backends()[backend]) is not None:
        pytest.skip(f"{backend}: {reason}")
    if precision == "int8":
        pytest.importorskip("nncf", reason="int8 quantisation needs nncf (visavis[int8])")
    net = warp_net()
    frames = [example(seed) for seed in range(10, 26)] if precision == "int8" else None
    try:
        runner = compile(net, example(), backend, precision, calibration=frames)
    except BackendError as error:
        if "arithmetic" in str(error) or "cannot compute in f16" in str(error):
            pytest.skip(str(error))
        raise
    assert runner.precision == precision
    largest, mean = TOLERANCES[backend, precision]
    for seed in range(4):
        (picture, _), (expected, _) = runner(*example(seed)), net(*example(seed))
        assert picture.dtype == torch.float32
        wrong = (picture - expected).abs()
        assert float(wrong.max()) <= largest
        assert float(wrong.mean()) <= mean
