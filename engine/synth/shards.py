"""Frames and their truth on disk: folders of .npy arrays that training maps into memory.

A *set* is a folder of *shards*, ``shard_00000`` and so on. A shard holds one ``NAME.npy`` per field, all
with the same first axis N, and ``meta.json`` with the rows and what made them. A shard is written under a
temporary name and renamed when it is whole, so a set is never half a shard: a writer that was cut off goes on
where the last whole shard ends.

>>> writer = ShardWriter(Path("people"), rows=512, meta={"seed": 0})
>>> writer.add({"frames": frames, "motion": motion})            # arrays with equal first axes
>>> writer.close()
>>> for shard in open_shards(Path("people")):
...     shard["frames"][:8]                                       # read from disk when touched
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError

__all__ = ["Shard", "ShardWriter", "open_shards"]

Array = NDArray[Any]

_META = "meta.json"


@dataclass(frozen=True)
class Shard:
    """One shard; indexing gives a field's memory map."""

    path: Path
    rows: int
    meta: dict[str, Any]
    fields: tuple[str, ...]

    def __getitem__(self, field: str) -> Array:
        """The array of ``field``, first axis :attr:`rows`; KeyError for an unknown one."""
        if field not in self.fields:
            raise KeyError(f"no field {field!r} in {self.path}; there are {', '.join(self.fields)}")
        array: Array = np.load(self.path / f"{field}.npy", mmap_mode="r")
        return array


def _lasting(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key != "commit"}


class ShardWriter:
    """Collects rows and writes a shard for every ``rows`` of them.

    Args:
        folder: the set; made if it is missing, continued if shards lie there.
        rows: rows of a full shard; what is added at once stays in one shard.
        meta: written to every shard's ``meta.json``. Continuing a set with another ``meta`` is refused; only
            ``commit`` may differ.

    Raises:
        InputError: the set was written with another ``meta``, or a shard is damaged.
    """

    def __init__(self, folder: Path, rows: int, meta: Mapping[str, Any]) -> None:
        self.folder, self.rows = folder, rows
        self.meta = json.loads(json.dumps(dict(meta)))
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".shard_*"):
            shutil.rmtree(left)
        there = open_shards(folder) if any(folder.glob("shard_*")) else []
        for shard in there:
            if _lasting(shard.meta) != _lasting(self.meta):
                raise InputError(
                    f"{shard.path} was written with {shard.meta}, not {self.meta}: choose another folder"
                )
        self.shards = len(there)
        self.written = sum(shard.rows for shard in there)
        """rows on disk so far"""
        self._waiting: list[dict[str, Array]] = []
        self._count = 0

    def add(self, arrays: Mapping[str, Array]) -> None:
        """Append rows; every call names the same fields. ValueError if first axes differ."""
        lengths = {name: len(a) for name, a in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"fields of different lengths: {lengths}")
        if self._waiting and set(arrays) != set(self._waiting[0]):
            raise ValueError(f"fields {sorted(arrays)} after {sorted(self._waiting[0])}")
        self._waiting.append(dict(arrays))
        self._count += next(iter(lengths.values()))
        if self._count >= self.rows:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._write()

    def _write(self) -> None:
        name = f"shard_{self.shards:05d}"
        part = self.folder / f".{name}"
        part.mkdir()
        fields = sorted(self._waiting[0])
        for field in fields:
            np.save(part / f"{field}.npy", np.concatenate([rows[field] for rows in self._waiting]))
        record = {"rows": self._count, "fields": fields, "meta": self.meta}
        (part / _META).write_text(json.dumps(record, indent=1) + "\n")
        part.rename(self.folder / name)
        self.shards += 1
        self.written += self._count
        self._waiting, self._count = [], 0


def open_shards(folder: Path) -> list[Shard]:
    """Every shard of a set, in order.

    Raises:
        InputError: there are none, or one is damaged.
    """
    found = []
    for path in sorted(folder.glob("shard_*")):
        try:
            record = json.loads((path / _META).read_text())
            fields = tuple(record["fields"])
            missing = [name for name in fields if not (path / f"{name}.npy").is_file()]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}: delete it and write the set again")
            found.append(Shard(path, int(record["rows"]), dict(record["meta"]), fields))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no shard ({error}): delete it and write the set again") from error
    if not found:
        raise InputError(f"no shards in {folder}: write some with `visavis train synth --out {folder}`")
    return found
