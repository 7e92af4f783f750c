"""Result files grow by whole lines."""

from __future__ import annotations

from pathlib import Path

from benchmarks.records import append_line


def test_lines_are_added_and_the_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.jsonl"
    append_line(path, '{"a":1}')
    append_line(path, '{"a":"ü"}')
    assert path.read_text(encoding="utf-8") == '{"a":1}\n{"a":"ü"}\n'
