"""Random networks of full size for tests of the gohd sampler: no weights, no training."""

from __future__ import annotations

import numpy as np
import torch

from engine.encoders.mel import FEATURES
from engine.samplers.gohd import GohdNetworks, GohdSampler
from engine.samplers.gohd.lips import spectral_columns
from engine.samplers.gohd.networks import GohdConfig
from engine.types import CONTROLS, FeatureChunk


def random_networks(seed: int = 0) -> GohdNetworks:
    """Networks that move everything a good deal; a blink is likely every second."""
    torch.manual_seed(seed)
    columns = spectral_columns(FEATURES)
    networks = GohdNetworks(GohdConfig(features=len(columns)))
    networks.lips.columns.copy_(torch.tensor(columns))
    networks.feature_map[:, :8] = torch.randn(21, 8)
    networks.blink_profile.copy_(torch.sin(torch.linspace(0, torch.pi, 40)))
    networks.pose.deviation.fill_(0.05)
    return networks.requires_grad_(False).eval()


def random_sampler() -> GohdSampler:
    return GohdSampler(FEATURES, f"features:mel:{len(FEATURES)}", random_networks())


def random_features(frames: int, seed: int, rows: int = 2) -> FeatureChunk:
    """Noise in the ranges of the mel encoder."""
    noise = np.random.default_rng(seed)
    data = noise.normal(-0.5, 0.8, (rows, frames, len(FEATURES))).astype(np.float32)
    data[..., FEATURES.index("voice")] = noise.random((rows, frames)) > 0.3
    data[..., FEATURES.index("level")] = noise.uniform(-6, -1, (rows, frames))
    controls = CONTROLS.default(rows)[:, None].repeat(1, frames, 1)
    return FeatureChunk(0, torch.from_numpy(data), controls)
