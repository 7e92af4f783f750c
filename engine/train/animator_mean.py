"""The mean of several points of one training: ``visavis train animator --mean-of A B --dev DIR --out NAME``.

Points between which a training has gone on lie in one valley; their mean is calmer than either from frame
to frame and loses nothing else (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.animators.gohd.network import GohdNet, Size
from engine.errors import ConfigError
from engine.train.animator import dev_scores
from engine.train.animator_data import Scenes
from engine.train.provenance import commit
from engine.weights import load_weights, save_weights, weights_metadata

__all__ = ["mean_network", "write_mean"]


def mean_network(paths: Sequence[Path]) -> tuple[GohdNet, dict[str, object]]:
    """The network of the mean weights and what the last file says of itself.

    Raises:
        ConfigError: fewer than two files, or networks of different sizes.
    """
    if len(paths) < 2:
        raise ConfigError("--mean-of takes two weights or more")
    read = [{name: value.float() for name, value in load_weights(path).items()} for path in paths]
    abouts = [weights_metadata(path) for path in paths]
    about = dict[str, object](abouts[-1]) | {"steps": [int(one["steps"]) for one in abouts]}
    if len({one["size"] for one in abouts}) > 1:
        raise ConfigError(f"{', '.join(map(str, paths))} are networks of different sizes; they have no mean")
    size = json.loads(abouts[-1]["size"])
    net = GohdNet(Size(**{**size, "channels": tuple(size["channels"])}))
    net.load_state_dict({name: torch.stack([one[name] for one in read]).mean(0) for name in read[0]})
    return net.eval().requires_grad_(False), about


def write_mean(paths: Sequence[Path], dev: Scenes, out: str) -> dict[str, float]:
    """Write the mean as weights ``out``, scored on ``dev``; the scores."""
    net, about = mean_network(paths)
    scores = dev_scores(net, dev)
    half: dict[str, Tensor] = {name: value.half() for name, value in net.state_dict().items()}
    half["navigation.dictionary.free"] = net.navigation.dictionary.free.detach()
    about |= {"dev": scores, "commit": commit()}
    save_weights(out, half, about)
    return scores
