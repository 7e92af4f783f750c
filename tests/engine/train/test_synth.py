"""The command that writes synthetic people: which tracks it may borrow, and what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import BackendError, InputError
from engine.synth.shards import open_shards
from engine.train import synth


def _tracks(folder: Path) -> tuple[Path, Path]:
    data, tracks = folder / "data", folder / "tracks"
    data.mkdir()
    tracks.mkdir()
    rows = [
        "path,split,use",
        "talking/a.mp4,train,train",
        "talking/b.mp4,test,eval",
        "talking/c.mp4,train,eval",
    ]
    (data / "MANIFEST.csv").write_text("\n".join(rows) + "\n")
    for k, name in enumerate("abc"):
        motion = np.full((30, 72), 0.1 * (k + 1), np.float32)
        motion[3] = np.nan
        np.savez(tracks / f"talking__{name}.mp4.npz", motion=motion)
    return tracks, data


def test_only_released_clips_are_borrowed(tmp_path: Path) -> None:
    tracks, data = _tracks(tmp_path)
    found = synth.read_tracks(tracks, data)
    assert len(found) == 1
    assert found[0].shape == (29, 72)
    assert np.allclose(found[0], 0.1)


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        synth.read_tracks(tmp_path, tmp_path)


def test_people_are_written_and_continued(tmp_path: Path) -> None:
    pytest.importorskip("moderngl")
    command = ["--out", str(tmp_path / "set"), "--frames", "2", "--size", "64", "--seed", "9"]
    try:
        assert synth.main([*command, "--people", "1"]) == 0
    except BackendError as error:
        pytest.skip(str(error))
    assert synth.main([*command, "--people", "2"]) == 0
    shards = open_shards(tmp_path / "set")
    assert [s.rows for s in shards] == [2, 2]
    assert np.concatenate([s["person"] for s in shards]).tolist() == [0, 0, 1, 1]
    assert shards[0]["frames"].shape == (2, 64, 64, 3)
    assert shards[0]["landmarks"].shape == (2, 478, 2)
    assert shards[0].meta["size"] == 64
    assert shards[0].meta["labels"][0] == "background"
