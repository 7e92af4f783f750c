"""The mean of points of one training."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from engine.animators.gohd.network import LITE, GohdNet, Size
from engine.errors import ConfigError
from engine.train.animator_mean import mean_network
from engine.weights import save_weights


def written(path: Path, seed: int, size: Size = LITE) -> Path:
    torch.manual_seed(seed)
    return save_weights(path, GohdNet(size).state_dict(), {"size": asdict(size), "steps": seed})


def test_it_is_the_mean_and_its_dictionary_stays_orthogonal(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{k}.safetensors", k) for k in (1, 2)]
    net, about = mean_network(paths)
    torch.manual_seed(1)
    first = GohdNet(LITE).decoder.paint.weight
    torch.manual_seed(2)
    second = GohdNet(LITE).decoder.paint.weight
    assert torch.allclose(net.decoder.paint.weight, (first + second) / 2.0)
    assert about["steps"] == [1, 2]
    directions = net.navigation.dictionary.directions()
    assert torch.allclose(directions.T @ directions, torch.eye(LITE.directions), atol=1e-5)


def test_one_point_or_two_sizes_have_no_mean(tmp_path: Path) -> None:
    one = written(tmp_path / "1.safetensors", 1)
    with pytest.raises(ConfigError, match="two weights or more"):
        mean_network([one])
    other = written(tmp_path / "2.safetensors", 2, replace(LITE, directions=16))
    with pytest.raises(ConfigError, match="different sizes"):
        mean_network([one, other])
