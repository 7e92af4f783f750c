from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from engine.errors import ConfigError
from engine.train.catalogue import TRAINERS, main


def test_without_a_name_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name, trainer in TRAINERS.items():
        assert any(line.split()[:1] == [name] and trainer.about in line for line in shown.splitlines())


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_every_trainer_that_is_here_takes_arguments(name: str) -> None:
    spec = importlib.util.find_spec(TRAINERS[name].module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{TRAINERS[name].module} is not part of this version")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    assert [argument.arg for argument in mains[0].args.args] == ["argv"]


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="flowvq"):
        main(["flow"])


def test_arguments_and_status_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def run(argv: list[str]) -> int:
        given.append(argv)
        return 3

    module = ModuleType("engine.train.data")
    module.main = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "engine.train.data", module)
    module.__spec__ = importlib.util.spec_from_loader("engine.train.data", None)
    assert main(["data", "--steps", "5"]) == 3
    assert given == [["--steps", "5"]]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'soundfile'", name="soundfile")

    module = ModuleType("engine.train.data")
    module.main = run  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader("engine.train.data", None)
    monkeypatch.setitem(sys.modules, "engine.train.data", module)
    with pytest.raises(ConfigError, match=r"soundfile.*visavis\[train\]"):
        main(["data"])
