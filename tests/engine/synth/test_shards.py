"""Shards: what was added comes back, cut-off sets go on, foreign and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.synth.shards import ShardWriter, open_shards


def _rows(start: int, count: int) -> dict[str, np.ndarray]:
    index = np.arange(start, start + count, dtype=np.int32)
    return {"index": index, "frames": np.repeat(index[:, None], 6, 1).reshape(count, 2, 3).astype(np.uint8)}


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, rows=8, meta={"seed": 3})
    for start in range(0, 20, 4):
        writer.add(_rows(start, 4))
    writer.close()
    shards = open_shards(tmp_path)
    assert [s.rows for s in shards] == [8, 8, 4]
    assert np.array_equal(np.concatenate([s["index"] for s in shards]), np.arange(20))
    assert isinstance(shards[0]["frames"], np.memmap)
    assert shards[0]["frames"].dtype == np.uint8
    assert shards[0].meta == {"seed": 3}
    with pytest.raises(KeyError, match="frames"):
        shards[0]["flow"]


def test_a_cut_off_set_is_continued(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, rows=4, meta={"seed": 3})
    writer.add(_rows(0, 4))
    writer.add(_rows(4, 2))  # waits, and is lost with the process
    (tmp_path / ".shard_00001").mkdir()  # half a shard
    again = ShardWriter(tmp_path, rows=4, meta={"seed": 3})
    assert again.written == 4
    again.add(_rows(4, 4))
    again.close()
    assert np.array_equal(np.concatenate([s["index"] for s in open_shards(tmp_path)]), np.arange(8))
    assert not (tmp_path / ".shard_00001").exists()


def test_another_meta_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, rows=2, meta={"seed": 3})
    writer.add(_rows(0, 2))
    with pytest.raises(InputError, match="another folder"):
        ShardWriter(tmp_path, rows=2, meta={"seed": 4})


def test_unequal_and_changed_fields_are_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, rows=8, meta={})
    with pytest.raises(ValueError, match="different lengths"):
        writer.add({"a": np.zeros(2), "b": np.zeros(3)})
    writer.add({"a": np.zeros(2)})
    with pytest.raises(ValueError, match="after"):
        writer.add({"b": np.zeros(2)})


def test_damage_and_emptiness_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shards"):
        open_shards(tmp_path)
    writer = ShardWriter(tmp_path, rows=2, meta={})
    writer.add(_rows(0, 2))
    (tmp_path / "shard_00000" / "frames.npy").unlink()
    with pytest.raises(InputError, match="lacks frames"):
        open_shards(tmp_path)
