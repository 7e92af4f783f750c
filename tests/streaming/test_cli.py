from __future__ import annotations

import re
from pathlib import Path

import av
import pytest

from engine.config import asset_path
from engine.recipes import ANIMATORS, RECIPES, SYSTEMS, mixture
from streaming.cli import main, parser

TINY = ["--recipe", "tiny"]
VOICE = str(asset_path("demo/voice_b.wav"))
PHOTO = str(asset_path("demo/astronaut.png"))


@pytest.mark.parametrize("command", ["serve", "demo", "render", "prepare", "sheet", "doctor"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args([command, "--help"])
    assert end.value.code == 0
    assert f"visavis {command}" in capsys.readouterr().out


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "visavis demo --seconds 20" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["serve", "demo", "render", "prepare"])
def test_help_names_every_recipe_and_how_to_mix(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    words = set(re.findall(r"[a-z]+", capsys.readouterr().out))
    assert words >= set(SYSTEMS) | {"default", "lips", "head", "eyes", "brows"}


def test_the_examples_of_the_help_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["serve"], ["render"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line.split("  ")[0].split()[1:] for line in lines if line.startswith("visavis ")]
    own = [words for words in examples if words[0] not in ("track", "train")]
    assert len(own) >= 15
    for words in own:
        args = parser().parse_args(words)
        if getattr(args, "recipe", "default") != "default":
            assert args.recipe in RECIPES or mixture(args.recipe)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["serve", "--host", "0.0.0.0"], "--token"),
        (["serve", "--max-sessions", "0"], "--max-sessions"),
        (["serve", "--recipe", "none"], "no recipe"),
        (["serve", *TINY, "--portrait", "missing.jpg"], "missing.jpg"),
        (["serve", *TINY, "--budget-ms", "50"], "--budget-ms"),
        (["demo", "--seconds", "0"], "--seconds"),
        (["render", "missing.jpg", VOICE, "-o", "out.mp4"], "missing.jpg"),
        (["render", PHOTO, "missing.wav", "-o", "out.mp4", *TINY], "missing.wav"),
        (["render", PHOTO, PHOTO, "-o", "out.mp4", *TINY], "astronaut.png"),
        (["render", PHOTO, VOICE, "-o", "out.gif", *TINY], ".mp4"),
        (["prepare", PHOTO, "-o", "out.zip"], ".avatar"),
        (["prepare", PHOTO, "-o", "out.avatar", *TINY], "animates a photo"),
    ],
)
def test_errors_are_one_line_naming_the_remedy(
    argv: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("visavis: ")]
    assert len(lines) == 1
    assert text in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_render_writes_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    assert main(["render", PHOTO, VOICE, "-o", str(out), *TINY]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    with av.open(str(out)) as file:
        assert file.streams.video[0].frames > 50
        assert len(file.streams.audio) == 1


def test_the_demo_records_what_a_peer_receives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "demo.mp4"
    assert main(["demo", "--seconds", "3", "--out", str(out), "--budget-ms", "600", *TINY]) == 0
    said = capsys.readouterr().out
    assert "latency budget 600 ms" in said
    assert "look-ahead" in said
    assert "on time" in said
    with av.open(str(out)) as file:
        assert file.streams.video[0].frames > 20
        assert file.streams.audio[0].duration


def test_doctor_names_what_it_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor"])
    said = capsys.readouterr().out
    for part in (
        "package torch",
        "codec libvpx",
        "face model",
        "weights face_basis",
        "local microphone",
        "Chromium",
    ):
        assert part in said
    assert status == int("MISSING" in said)


def test_every_animator_can_be_named() -> None:
    for name in ANIMATORS:
        assert parser().parse_args(["serve", "--animator", name]).animator == name
    with pytest.raises(SystemExit):
        parser().parse_args(["serve", "--animator", "clay"])
