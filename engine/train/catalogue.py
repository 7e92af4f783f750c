"""Every trainer by name: `visavis train NAME ...`.

Modules are imported when they are asked for: some need packages of the extra ``train``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from engine.errors import ConfigError

__all__ = ["TRAINERS", "Trainer", "main"]


class Trainer(NamedTuple):
    """A module with ``main``, and what it does in one line."""

    module: str
    about: str


TRAINERS: dict[str, Trainer] = {
    "data": Trainer("engine.train.data", "the motion corpus, from tracked clips and labelled speech"),
    "speech": Trainer("engine.train.speech_data", "the speech corpus with phone labels, for data and ppg"),
    "ppg": Trainer("engine.train.acoustic", "the phonetic encoder"),
    "contrastive": Trainer("engine.train.contrastive", "the contrastive lip encoder"),
    "speech_motion": Trainer("engine.train.lips", "the lips of the speech sampler"),
    "gohd": Trainer("engine.train.gohd", "the gohd sampler"),
    "flowvq": Trainer("engine.train.flowvq", "the flowvq sampler"),
    "osm": Trainer("engine.train.osm", "the osm sampler"),
    "vast": Trainer("engine.train.vast", "the vast sampler"),
    "pdfgc": Trainer("engine.train.pdfgc", "the pdfgc sampler"),
    "idle": Trainer("engine.train.idle", "listening and thinking motion"),
    "synth": Trainer("engine.train.synth", "synthetic people: frames with their whole truth, as shards"),
    "heads": Trainer("engine.train.heads", "pairs for the animator: what the mesh draws, what was seen"),
    "pack": Trainer("engine.train.animator_pack", "those pairs in a file that is small enough to send"),
    "animator": Trainer("engine.train.animator", "the learned animator, on a CPU or a GPU"),
    "tracker": Trainer("engine.train.tracker", "the tracker network: picture to landmarks, expression, gaze"),
    "emotion": Trainer("engine.train.emotion", "the emotion classifier that scores generated motion"),
}

_EXTRA = ("pocketsphinx", "moderngl", "soundfile")


def main(argv: list[str] | None = None) -> int:
    """Run a trainer with the rest of ``argv``; lists them all where none is named.

    Raises:
        ConfigError: no such trainer, or a package it needs is not installed.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(listing())
        return 0
    name, rest = argv[0], argv[1:]
    if name not in TRAINERS:
        raise ConfigError(f"no trainer {name!r}; there are {', '.join(TRAINERS)}")
    return _run(name, rest)


def listing() -> str:
    """Names and what they do, one line each."""
    width = max(map(len, TRAINERS))
    lines = ["usage: visavis train NAME [options]; `visavis train NAME --help` has its options", ""]
    lines += [f"  {name:<{width}}  {trainer.about}" for name, trainer in TRAINERS.items()]
    return "\n".join(lines)


def _run(name: str, argv: list[str]) -> int:
    module = TRAINERS[name].module
    if find_spec(module) is None:
        raise ConfigError(f"this version has no trainer {name!r} ({module} is not there)")
    try:
        return int(import_module(module).main(argv) or 0)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise ConfigError(
            f"training {name!r} needs the package {error.name}: pip install 'visavis[train]'"
        ) from error
