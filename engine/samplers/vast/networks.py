"""VAST's networks as one set of weights: style encoder, both decoders, the style's resting face."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.errors import AssetError
from engine.samplers.factors import UPPER
from engine.samplers.vast.columns import split_columns
from engine.samplers.vast.decoder import (
    WEAK,
    StrongConfig,
    StrongDecoder,
    StrongState,
    WeakConfig,
    WeakDecoder,
)
from engine.samplers.vast.style import StyleConfig, StyleEncoder
from engine.types import MOTION
from engine.weights import load_weights, weights_metadata

__all__ = ["CHEEKS", "INPUTS", "MOOD", "VastConfig", "VastNets", "input_columns", "load_vast"]

INPUTS = ("phone", "level", "loudness", "snr", "tilt", "voic", "vad")
"""Beginnings of the names of the features that are heard: on unseen speakers posteriors and prosody do
better than with spectrum and hidden code, which tell one training speaker from another."""

CHEEKS: list[int] = [column for column in UPPER if column not in WEAK]
"""Cheeks and nose: they move the mouth's corners and are speech-strong by measurement."""

_LASTING = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthPress", "mouthShrug", "cheekSquint", "noseSneer")
MOOD: list[int] = [k for k in split_columns()[0] if MOTION.names[k].startswith(_LASTING)]
"""Speech-strong columns whose average over a clip is a matter of style: it also holds in pauses."""


def input_columns(features: tuple[str, ...]) -> list[int]:
    """Columns of ``features`` that VAST hears."""
    return [k for k, name in enumerate(features) if name.startswith(INPUTS)]


@dataclass(frozen=True)
class VastConfig:
    """The sizes of all parts."""

    strong: StrongConfig
    weak: WeakConfig
    style: StyleConfig

    @staticmethod
    def of(features: int, ahead: int = 1, style: int = 16, width: int = 64) -> VastConfig:
        """The shipped shape for ``features`` heard columns."""
        return VastConfig(
            StrongConfig(features, style, ahead=ahead, width=width),
            WeakConfig(features, style),
            StyleConfig(features, style),
        )

    @staticmethod
    def read(text: str) -> VastConfig:
        """From the JSON of :func:`dataclasses.asdict`."""
        raw = json.loads(text)
        return VastConfig(
            StrongConfig(**raw["strong"]), WeakConfig(**raw["weak"]), StyleConfig(**raw["style"])
        )


class VastNets(nn.Module):
    """The parts by name. ``mood`` turns a style [B, S] into what it adds to :data:`MOOD` at all times,
    ``cheeks`` what the strong decoder carries into :data:`CHEEKS`; both are 0 for the neutral style or
    the average face."""

    def __init__(self, config: VastConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = StyleEncoder(config.style)
        self.strong = StrongDecoder(config.strong)
        self.weak = WeakDecoder(config.weak)
        self.mood = nn.Linear(config.style.size, len(MOOD), bias=False)
        self.cheeks = nn.Linear(2 * config.strong.width, len(CHEEKS))
        nn.init.zeros_(self.mood.weight)
        nn.init.zeros_(self.cheeks.weight)
        nn.init.zeros_(self.cheeks.bias)

    def metadata(self) -> dict[str, object]:
        """What :func:`load_vast` needs besides the tensors."""
        return {"config": asdict(self.config)}

    def step(self, window: Tensor, style: Tensor, state: StrongState) -> tuple[Tensor, Tensor]:
        """Lip channels [B, 15] and :data:`CHEEKS` [B, 4] of one frame."""
        carried = self.strong.carry(window, style, state)
        return self.strong.channels(carried), torch.as_tensor(self.cheeks(carried))


@lru_cache(maxsize=2)
def load_vast(name: str | Path = "vast", features: tuple[str, ...] = ()) -> VastNets:
    """The shipped networks, frozen, checked against the encoder's column names.

    Raises:
        AssetError: missing, damaged, or trained on other features than ``features``.
    """
    tensors, about = load_weights(name), weights_metadata(name)
    if features and tuple(about.get("features", "").split(",")) != features:
        raise AssetError(
            f"weights {name} were trained on other feature columns than the encoder gives; "
            "rebuild them with visavis train vast"
        )
    nets = VastNets(VastConfig.read(about["config"]))
    nets.load_state_dict(tensors)
    return nets.requires_grad_(False).eval()
