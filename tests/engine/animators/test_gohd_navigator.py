"""The navigation in numpy is the trained one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from engine.animators.gohd.animator import load_network
from engine.animators.gohd.navigator import Navigator
from engine.animators.gohd.network import LITE, GohdNet


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_it_is_the_networks_own(strength: float, scale: float) -> None:
    net = load_network()
    random = np.random.default_rng(0)
    window = (scale * random.standard_normal((net.size.window, 72))).astype(np.float32)
    code = random.standard_normal(net.size.code).astype(np.float32)
    wanted = net.navigate(
        torch.from_numpy(window[None]), torch.from_numpy(code[None]), torch.tensor([[strength]])
    )
    np.testing.assert_allclose(
        Navigator(net)(window, code, strength), wanted[0].numpy(), rtol=1e-4, atol=1e-4
    )


def test_a_network_of_other_parts_is_refused() -> None:
    net = GohdNet(LITE)
    net.navigation.row[1] = nn.Tanh()
    with pytest.raises(TypeError, match="leaky ReLU, not Tanh"):
        Navigator(net)
