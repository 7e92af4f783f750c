"""`visavis track` and `visavis train` from the command line: one-line errors, status, help."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.cli import main


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["track", "missing.mp4", "--out", "tracks"], "missing.mp4"),
        (["track", "--out", "tracks"], "--data"),
        (["track", ".", "--out", "tracks", "--jobs", "0"], "--jobs"),
        (["train", "nothing"], "speech_motion"),
    ],
)
def test_errors_are_one_line(
    argv: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("visavis: ")
    assert text in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_trainers_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 0
    assert "speech_motion" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["track", "train"])
def test_they_are_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert f"\n    {command}" in capsys.readouterr().out


def test_tracking_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["track", "--help"])
    assert end.value.code == 0
    assert "visavis track" in capsys.readouterr().out
