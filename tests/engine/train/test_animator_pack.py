"""Scenes in files, and the trainer on them: what comes back, what fits, and that training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.animators.gohd.network import GohdNet, Size
from engine.errors import AssetError, BackendError, ConfigError
from engine.train.animator import AnimatorTrainer, dev_scores
from engine.train.animator_data import HeadPairs, Scenes
from engine.train.animator_device import Ahead, check_sides, device_named, moved
from engine.train.animator_pack import main, pack
from engine.train.checkpoints import load_state, save_state

SIDE = 64
NAMES = ("talking__obama.mp4.0", "portraits__a.png.0", "people__000003")


def smooth(random: np.random.Generator, count: int) -> NDArray[np.uint8]:
    light = random.random((count, 1, 8, 8), np.float32)
    low = torch.from_numpy(
        0.2 + 0.5 * light + 0.2 * random.random((count, 3, 2, 2), np.float32).repeat(4, 2).repeat(4, 3)
    )
    full = torch.nn.functional.interpolate(low, (SIDE, SIDE), mode="bilinear")
    return np.asarray((255 * full).byte().permute(0, 2, 3, 1).numpy())


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Three scenes of four runs of four frames."""
    folder, random = tmp_path / "heads", np.random.default_rng(0)
    index = np.concatenate([np.arange(4) + 10 * k for k in range(4)]).astype(np.int32)
    for name in NAMES:
        scene = folder / name
        scene.mkdir(parents=True)
        count = len(index)
        axis = (np.arange(SIDE // 4) + 0.5) / (SIDE // 4) * 2 - 1
        grid = np.stack(np.meshgrid(axis, axis), -1)[None] + random.normal(0, 0.02, (count, 1, 1, 2))
        arrays: dict[str, NDArray[Any]] = {
            "guide": smooth(random, count),
            "target": smooth(random, count),
            "grid": grid.astype(np.float16),
            "window": random.normal(0, 0.3, (count, 3, 72)).astype(np.float32),
            "points": random.uniform(10, 54, (count, 478, 2)).astype(np.float16),
            "index": index,
        }
        for key, value in arrays.items():
            np.save(scene / f"{key}.npy", value)
        np.save(scene / "source.npy", smooth(random, 1)[0])
        (scene / "meta.json").write_text(json.dumps({"name": name, "frames": count}))
    return folder


def test_everything_comes_back_as_near_as_its_format(heads: Path, tmp_path: Path) -> None:
    whole, path = Scenes([heads]), tmp_path / "all.zip"
    assert pack(whole, [path], 4.0) == 3 * 16
    found = Scenes([path])
    assert {k: len(v) for k, v in found.groups.items()} == {k: len(v) for k, v in whole.groups.items()}
    for a, b in zip(whole.scenes, sorted(found.scenes, key=lambda s: s.name), strict=True):
        assert (a.name, a.group, a.side) == (b.name, b.group, b.side)
        for name in ("grid", "points", "index"):
            assert np.array_equal(a.arrays[name], b.arrays[name]), name
        assert np.abs(a.arrays["window"] - b.arrays["window"].astype(np.float32)).max() < 2e-3
        for name in ("guide", "target"):
            assert np.abs(a.arrays[name].astype(int) - b.arrays[name]).mean() < 2.0
        assert np.array_equal(a.starts, b.starts)


@pytest.mark.parametrize("files", [1, 2])
def test_no_more_is_written_than_asked_for(heads: Path, tmp_path: Path, files: int) -> None:
    most = 0.22
    paths = [tmp_path / f"{k}.zip" for k in range(files)]
    frames = pack(Scenes([heads]), paths, most)
    assert 0.4 * most < sum(path.stat().st_size for path in paths) / 2**20 <= most
    assert 0 < frames < 48
    assert frames % 4 == 0
    assert len(Scenes(paths).scenes) == 3


def test_too_little_room_and_broken_files_are_told(heads: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is room for"):
        pack(Scenes([heads]), [tmp_path / "small.zip"], 0.02)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    with pytest.raises(AssetError, match="packed scenes"):
        Scenes([broken])


def test_the_command_says_what_it_wrote(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--heads", str(heads), "--out", str(tmp_path / "a.zip"), "--mib", "2"]) == 0
    assert "3 scenes, 48 frames" in capsys.readouterr().out


# -- training on them --------------------------------------------------------------------------


def trainer(path: Path, device: str = "cpu") -> AnimatorTrainer:
    torch.manual_seed(0)
    net = GohdNet(Size(side=SIDE, channels=(4, 8, 8, 8), code=8, directions=4)).to(device)
    shares = {"obama": 0.5, "photos": 0.5, "people": 0.5}
    return AnimatorTrainer(net, HeadPairs(Scenes([path]), shares), 2, 1e-3, adversary_from=0, crop=48)


def test_training_goes_on_where_a_sharded_state_left_off(heads: Path, tmp_path: Path) -> None:
    path, kept = tmp_path / "all.zip", tmp_path / "state.pt"
    pack(Scenes([heads]), [path], 4.0)
    first = trainer(path)
    first.prefetch(workers=2, seed=0)
    losses = [first.advance() for _ in range(3)]
    assert first.ahead is not None
    first.ahead.close()
    assert all(np.isfinite(list(row.values())).all() for row in losses)
    save_state(first.state(), kept, 0.05)
    second = trainer(path)
    second.restore(load_state(kept))
    assert second.step == 3
    for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)
    second.advance()
    assert np.isfinite(list(dev_scores(second.mean, Scenes([path]), 2).values())).all()


@pytest.mark.gpu
def test_training_steps_on_a_gpu(heads: Path) -> None:
    one = trainer(heads, "cuda")
    one.prefetch(workers=2, seed=0)
    before = [p.clone() for p in one.net.parameters()]
    assert all(np.isfinite(list(one.advance().values())).all() for _ in range(3))
    assert any(not torch.equal(a, b) for a, b in zip(before, one.net.parameters(), strict=True))
    assert one.ahead is not None
    one.ahead.close()


def test_an_error_in_a_thread_reaches_the_trainer() -> None:
    def fails() -> object:
        raise ZeroDivisionError("a scene of no frames")

    ahead = Ahead([fails, fails], 4)  # type: ignore[list-item]
    with pytest.raises(ZeroDivisionError, match="no frames"):
        next(ahead)


def test_scenes_of_another_size_and_missing_devices_are_told(heads: Path) -> None:
    with pytest.raises(ConfigError, match="heads --side 512"):
        check_sides(Scenes([heads]), 512)
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA device"):
            device_named("cuda")
    batch = HeadPairs(Scenes([heads]), {}).draw(1)
    assert moved(batch, device_named("cpu")) is batch
