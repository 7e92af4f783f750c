"""The disentanglement matrix and the cross-reenactment sheets, on the bundled portrait."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality import crossed, disentangled
from benchmarks.quality.disentangled import FACTORS, NOTHING, factor_motion, normalised, variances
from benchmarks.quality.storyboard import grid, telling_rows, write_pages
from engine.config import asset_path
from engine.errors import InputError
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.types import MOTION
from tests.engine.face.test_video import write

Floats = NDArray[np.float32]


def lively_driver(frames: int = 24) -> Floats:
    t = np.arange(frames)
    motion = np.zeros((frames, MOTION.size), np.float32)
    motion[:, MOTION.index("jawOpen")] = 0.25 - 0.25 * np.cos(t / 2.5)
    motion[:, MOTION.index("ry")] = 0.2 * np.sin(t / 8.0)
    motion[:, MOTION.index("gazeYaw")] = 0.2 * np.sin(t / 5.0)
    for side in ("Left", "Right"):
        motion[:, MOTION.index("browOuterUp" + side)] = 0.5 + 0.5 * np.sin(t / 4.0)
        motion[:, MOTION.index("eyeBlink" + side)] = np.clip(1.0 - np.abs(t % 12 - 6) / 3.0, 0.0, 1.0)
    return motion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait, a picture without a face, and a driver's track."""
    path = tmp_path_factory.mktemp("portraits")
    shutil.copy(asset_path("demo/astronaut.png"), path / "astronaut.png")
    (path / "broken.jpg").write_bytes(b"no picture")
    np.savez(path / "driver.mp4.npz", motion=lively_driver(), valid=np.ones(24, np.bool_))
    return path


def test_factors_own_their_columns_once() -> None:
    owned = [column for columns in FACTORS.values() for column in columns]
    assert len(owned) == len(set(owned))
    left_out = {MOTION.names[k] for k in set(range(MOTION.size)) - set(owned)}
    assert left_out == {"pupilDilateLeft", "pupilDilateRight"}


def test_only_the_factor_moves() -> None:
    rest = np.full(MOTION.size, 0.1, np.float32)
    for factor, columns in FACTORS.items():
        moved = factor_motion(lively_driver(), rest, factor)
        others = [k for k in range(MOTION.size) if k not in columns]
        assert np.array_equal(moved[:, columns], lively_driver()[:, columns])
        assert (moved[:, others] == rest[others]).all()
    assert (factor_motion(lively_driver(), rest, NOTHING) == rest).all()


def test_rows_are_shares_of_the_factors_own_variance() -> None:
    found = {"lips": {"lips": 4.0, "pose": 1.0}, "pose": {"lips": 0.5, "pose": 2.0}}
    assert normalised(found) == {"lips": {"lips": 1.0, "pose": 0.25}, "pose": {"lips": 0.25, "pose": 1.0}}
    shown = {"lips": np.array([[0.0, 0.0], [2.0, 4.0]]), "gaze": np.zeros((1, 2))}
    assert variances(shown)["lips"] == pytest.approx(5.0)
    assert np.isnan(variances(shown)["gaze"])


def test_the_mesh_moves_each_factor_most_by_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder / "results.jsonl"
    arguments = ["--portraits", str(folder), "--driver", str(folder / "driver.mp4.npz"), "--animator", "mesh"]
    assert disentangled.main([*arguments, "--count", "1", "--results", str(results)]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert results.read_text().strip() == line
    said = json.loads(line)
    assert said["portraits"] == ["astronaut"]
    share, gain = said["rows"]["mesh"]["share"], said["rows"]["mesh"]["gain"]
    for factor, row in share.items():
        assert row[factor] == 1.0
        assert row[NOTHING] < 0.2, factor
    assert max(share["pose"][m] for m in ("lips", "blink", "gaze", "expression")) < 0.2
    assert share["lips"]["gaze"] < 0.1
    assert 0.4 < gain["pose"] < 1.2
    assert 0.5 < gain["lips"] < 1.5


def test_sheets_show_portrait_and_driven_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "out" / "sheet.png"
    arguments = ["--portraits", str(folder), "--driver", str(folder / "driver.mp4.npz"), "--animator", "mesh"]
    assert crossed.main([*arguments, "--sheet", str(target), "--frames", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(target)
    assert "broken.jpg is left out" in said.err
    picture = load_image(target).rgb
    assert picture.shape[:2] == (224, 4 * 224)
    tiles = [picture[:190, 224 * k : 224 * (k + 1)].astype(float) for k in range(4)]
    assert all(np.abs(tile - tiles[0]).mean() > 1.0 for tile in tiles[1:])


def test_the_drivers_frames_stand_above(folder: Path, tmp_path: Path) -> None:
    photo = load_image(asset_path("demo/astronaut.png")).rgb
    points = analyse_portrait(load_image(asset_path("demo/astronaut.png")))
    matrix = points.crop_from_image
    marks = (points.landmarks.points - matrix[:, 2]) / matrix[0, 0]
    video = write(tmp_path / "driver.mp4", [photo] * 24, [24 * n for n in range(24)])
    track = tmp_path / "driver.npz"
    np.savez(
        track,
        motion=lively_driver(),
        valid=np.ones(24, np.bool_),
        points=np.repeat(marks[None].astype(np.float32), 24, 0),
        size=np.array(photo.shape[:2], np.int32),
    )
    drivers = crossed.driven([f"{track}={video}"])
    (frame,) = drivers[0].frames([7])
    assert np.abs(frame.astype(float) - points.crop).mean() < 4.0
    portraits = crossed.open_portraits(folder, 1)
    strip = crossed.rows_of(portraits[0], drivers[0], {}, 2)
    assert strip.shape[:2] == (224, 3 * 224)


def test_what_is_missing_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--portraits", str(folder), "--driver", str(folder / "none.npz")]
    assert disentangled.main(there) == 1
    assert "no driving clip" in capsys.readouterr().err
    with pytest.raises(InputError, match="no picture"):
        crossed.open_portraits(tmp_path, 3)


def test_telling_rows_find_the_extremes() -> None:
    motion = np.zeros((50, MOTION.size), np.float32)
    motion[10, MOTION.index("jawOpen")] = 1.0
    motion[30, MOTION.index("ry")] = 0.5
    motion[40, MOTION.index("eyeBlinkLeft")] = 1.0
    assert telling_rows(motion, 3) == [10, 30, 40]
    assert telling_rows(motion[:2], 4) == [0, 1]


def test_pages_hold_all_strips(tmp_path: Path) -> None:
    tile = np.full((8, 8, 3), 200, np.uint8)
    strips = [grid([[tile] * wide]) for wide in (1, 3, 2)]
    pages = write_pages(tmp_path / "p.png", strips, per_page=2)
    assert [page.name for page in pages] == ["p_1.png", "p_2.png"]
    assert load_image(pages[0]).rgb.shape == (16, 24, 3)
