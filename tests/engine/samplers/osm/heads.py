"""Small random OSM networks as weights on disk, so that these tests need no trained ones."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.samplers.osm.audio import AudioConfig, AudioMotion
from engine.samplers.osm.expression import ExpressionConfig, ExpressionNet
from engine.samplers.osm.sampler import OsmSampler, Temper
from engine.samplers.osm.space import MotionSpace, SpaceConfig
from engine.samplers.osm.steering import DIRECTIONS
from engine.train.osm_calibrate import find_codes
from engine.weights import save_weights
from tests.engine.samplers.voices import COLUMNS

UNIT = torch.tensor([0.035, 0.044, 0.02, 0.023, 0.024, 0.08])


def small_space(clip: int = 5, seed: int = 0) -> MotionSpace:
    """An untrained space whose clips are as large as people's."""
    torch.manual_seed(seed)
    space = MotionSpace(SpaceConfig(clip=clip, bases=12, width=32, hidden=16))
    space.unit.copy_(UNIT)
    with torch.no_grad():
        space.bases.mul_(4.0)
    return space


def random_osm(folder: Path, clip: int = 5) -> Path:
    """A weights file that :class:`OsmSampler` loads for features :data:`COLUMNS`."""
    space = small_space(clip)
    audio = AudioMotion(AudioConfig(len(COLUMNS), 12, 8))
    lips = ExpressionNet(ExpressionConfig(len(COLUMNS), hidden=8))
    codes, reach, _ = find_codes(space, rounds=20)
    parts = {"space": space, "audio": audio, "expression": lips}
    tensors = {f"{kind}.{k}": v for kind, net in parts.items() for k, v in net.state_dict().items()}
    tensors |= {"codes": codes, "reach": reach.clamp(min=0.01), "temper": Temper().tensor()}
    tensors |= {"spread": 0.2 * torch.randn(6, 32), "sharpness": torch.tensor(space.config.sharpness)}
    assert len(codes) == len(DIRECTIONS)
    return save_weights(folder / "osm.safetensors", tensors, {"features": ",".join(COLUMNS)})


def random_sampler(folder: Path, clip: int = 5, centre: bool = False) -> OsmSampler:
    return OsmSampler(COLUMNS, f"features:test:{len(COLUMNS)}", random_osm(folder, clip), centre)
