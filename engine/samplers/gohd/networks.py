"""The three parts together, and their shipped weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.errors import AssetError
from engine.samplers.gohd.eyes import EyeStage
from engine.samplers.gohd.lips import EYE_FEATURES, LipStage, LipStageConfig
from engine.samplers.gohd.pose import PoseGenerator
from engine.weights import load_weights, weights_metadata

__all__ = ["PROFILE_RATE", "REFRACTORY_S", "GohdConfig", "GohdNetworks", "load_gohd"]

REFRACTORY_S = 0.4
"""No blink begins sooner after the last one began."""
PROFILE_RATE = 100
"""Samples a second of :attr:`GohdNetworks.blink_profile`."""


@dataclass(frozen=True)
class GohdConfig:
    """Sizes of all parts; ``features`` counts the columns Φ_a reads."""

    features: int
    width: int = 96
    hidden: int = 96
    eyes: int = 64
    pose: int = 48


class GohdNetworks(nn.Module):
    """Stage 1, stage 2 and the pose generator.

    ``feature_map`` [21, 64] takes an expression to its eye feature relative to the neutral face, in
    deviations of the training data; ``blink_profile`` [N] is a lid's closure 0..1 over a blink,
    :data:`PROFILE_RATE` samples a second; ``eye_gain`` [13] restores the spread of the upper face.
    """

    feature_map: Tensor
    blink_profile: Tensor
    eye_gain: Tensor

    def __init__(self, config: GohdConfig) -> None:
        super().__init__()
        self.config = config
        self.lips = LipStage(LipStageConfig(config.features, config.width, config.hidden))
        self.eyes = EyeStage(self.lips.audio.size, config.eyes)
        self.pose = PoseGenerator(config.pose)
        self.register_buffer("feature_map", torch.zeros(EYE_FEATURES, 64))
        self.register_buffer("blink_profile", torch.zeros(40))
        self.register_buffer("eye_gain", torch.ones(self.lips.face.out_features))

    def metadata(self) -> dict[str, object]:
        """What :func:`load_gohd` needs besides the tensors."""
        return {"config": json.dumps(asdict(self.config))}


def load_gohd(name: str | Path = "gohd", features: tuple[str, ...] = ()) -> GohdNetworks:
    """The shipped networks, frozen, checked against the encoder's column names.

    Raises:
        AssetError: missing, damaged, or trained on other features than ``features``.
    """
    tensors, about = load_weights(name), weights_metadata(name)
    trained_on = tuple(about.get("features", "").split(","))
    if features and trained_on != features:
        raise AssetError(
            f"weights {name} were trained on {len(trained_on)} feature columns, the encoder gives "
            f"{len(features)} other ones; rebuild them with visavis train gohd"
        )
    networks = GohdNetworks(GohdConfig(**json.loads(about["config"])))
    networks.load_state_dict(tensors)
    return networks.requires_grad_(False).eval()
