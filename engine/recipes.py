"""Whole systems by name: the only file that knows which encoder, sampler and animator belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import AvatarError, ConfigError
from engine.pipeline import Pipeline
from engine.types import FACTORS, PixelFormat

if TYPE_CHECKING:
    from engine.samplers.voice import VoiceSampler
    from engine.stage import Animator, Stage

__all__ = [
    "ANIMATORS",
    "DEFAULT_ANIMATOR",
    "RECIPES",
    "SYSTEMS",
    "Recipe",
    "build",
    "mixture",
    "prepare_identity",
    "restore_identity",
    "split_animator",
]


class Recipe(Protocol):
    """Builds a pipeline; ``animator`` is a name in :data:`ANIMATORS`, "" for the default one."""

    def __call__(self, pixels: PixelFormat, animator: str = "") -> Pipeline: ...


@dataclass(frozen=True)
class _System:
    """The motion half of a published system: ``encoder`` names the features it takes, ``make`` builds its
    sampler from their names and space."""

    encoder: str
    make: Callable[[tuple[str, ...], str], VoiceSampler]
    about: str
    head: Callable[[tuple[str, ...], str], VoiceSampler] | None = None
    """Builds the head alone for any encoder with prosody, where the system's head needs no more."""


def _speech(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.speech import SpeechSampler

    return SpeechSampler(features, space)


def _gohd(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.gohd.sampler import GohdSampler

    return GohdSampler(features, space)


def _flowvq(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.flowvq.sampler import FlowvqSampler

    return FlowvqSampler(features, space)


def _osm(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.osm.sampler import OsmSampler

    return OsmSampler(features, space)


def _osm_head(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.osm.sampler import OsmSampler

    return OsmSampler(features, space, head_only=True)


def _vast(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.vast.sampler import VastSampler

    return VastSampler(features, space)


def _pdfgc(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.pdfgc.sampler import PdfgcSampler

    return PdfgcSampler(features, space)


def _idle(features: tuple[str, ...], space: str) -> VoiceSampler:
    from engine.samplers.idle import IdleSampler

    return IdleSampler(features, space)


def _mel() -> tuple[Stage[Any, Any, Any], tuple[str, ...]]:
    from engine.encoders.mel import FEATURES, MelEncoder

    return MelEncoder(), FEATURES


def _contrastive() -> tuple[Stage[Any, Any, Any], tuple[str, ...]]:
    from engine.encoders.contrastive import FEATURES, ContrastiveEncoder

    return ContrastiveEncoder(), FEATURES


def _ppg() -> tuple[Stage[Any, Any, Any], tuple[str, ...]]:
    from engine.encoders.ppg import FEATURES, PpgEncoder

    return PpgEncoder(), FEATURES


_ENCODERS: dict[str, Callable[[], tuple[Stage[Any, Any, Any], tuple[str, ...]]]] = {
    "ppg": _ppg,
    "mel": _mel,
    "contrastive": _contrastive,
}

SYSTEMS: dict[str, _System] = {
    "gohd": _System("mel", _gohd, "GoHD: two-stage expression, diffusion of the head"),
    "flowvq": _System("mel", _flowvq, "FlowVQTalker: emotional normalizing flows"),
    "osm": _System("mel", _osm, "OSM-Net: a space of head motions", _osm_head),
    "vast": _System("ppg", _vast, "VAST: the style of a video prompt"),
    "pdfgc": _System("contrastive", _pdfgc, "PD-FGC: every factor from its own source"),
    "idle": _System("ppg", _idle, "listening and thinking; never speaks"),
    "speech": _System("ppg", _speech, "a small recurrent network for the lips, models of human behaviour"),
}
"""Samplers by name; each is a recipe of its own and a part of mixed ones."""

DEFAULT = "speech,head=osm"
_FACTOR_NAMES = {"lips": "lips", "head": "pose", "pose": "pose", "eyes": "eyes", "brows": "expression",
                 "expression": "expression"}  # fmt: skip


def _mesh_animator(pixels: PixelFormat) -> Animator:
    from engine.animators.mesh.animator import MeshAnimator

    return MeshAnimator(pixels)


def _gohd_animator(pixels: PixelFormat) -> Animator:
    from engine.animators.gohd.animator import GohdAnimator

    return GohdAnimator(pixels)


ANIMATORS: dict[str, Callable[[PixelFormat], Animator]] = {"mesh": _mesh_animator, "gohd": _gohd_animator}
"""What draws: the warped photo, or the network that refines it."""

DEFAULT_ANIMATOR = "gohd"


def _tiny(pixels: PixelFormat, animator: str = "") -> Pipeline:
    """Random small stages and a drawn face: no weights, no portrait; for tests and transport checks."""
    from engine.animators.tiny import TinyAnimator
    from engine.encoders.tiny import TinyEncoder
    from engine.samplers.tiny import TinySampler

    if animator:
        raise ConfigError("recipe tiny draws a face of its own; choose another recipe for an animator")
    return Pipeline(TinyEncoder(), TinySampler(), TinyAnimator(pixels=pixels), name="tiny")


def _animated(name: str, encoder: Any, sampler: Any, pixels: PixelFormat, animator: str) -> Pipeline:
    """With the animator of that name, or the default one."""
    return Pipeline(encoder, sampler, ANIMATORS[animator or DEFAULT_ANIMATOR](pixels), name=name)


def _system(name: str) -> Recipe:
    def make(pixels: PixelFormat, animator: str = "") -> Pipeline:
        system = SYSTEMS[name]
        encoder, features = _ENCODERS[system.encoder]()
        return _animated(name, encoder, system.make(features, encoder.spec.output), pixels, animator)

    return make


def _default(pixels: PixelFormat, animator: str = "") -> Pipeline:
    """What measured best on real people (benchmarks/LOG.md)."""
    pipeline = _mixed(DEFAULT, pixels, animator) if "=" in DEFAULT else _system(DEFAULT)(pixels, animator)
    pipeline.name = "default"
    return pipeline


RECIPES: dict[str, Recipe] = {
    "default": _default,
    **{name: _system(name) for name in SYSTEMS},
    "tiny": _tiny,
}


def mixture(text: str) -> dict[str, str]:
    """Which system gives each factor: ``"vast,head=osm,eyes=gohd"`` to {"lips": "vast", "pose": "osm", ...}.

    The plain name gives whatever is not named (the default's sampler where there is none); factors are
    lips, head (or pose), eyes, brows (or expression).

    Raises:
        ConfigError: an unknown system or factor, or two plain names.
    """
    plain, chosen = "", {}
    for part in (p.strip() for p in text.split(",")):
        factor, equals, system = part.partition("=")
        if not equals:
            factor, system = "", part
        if system not in SYSTEMS:
            raise ConfigError(f"no system {system!r} to mix; there are {', '.join(sorted(SYSTEMS))}")
        if equals and factor not in _FACTOR_NAMES:
            raise ConfigError(f"no factor {factor!r} in {part!r}; there are {', '.join(_FACTOR_NAMES)}")
        if not equals and plain:
            raise ConfigError(f"two systems without a factor in {text!r}: write FACTOR={system}")
        if equals:
            chosen[_FACTOR_NAMES[factor]] = system
        else:
            plain = system
    rest = plain or (mixture(DEFAULT)["lips"] if "=" in DEFAULT else DEFAULT)
    return {factor: chosen.get(factor, rest) for factor in FACTORS}


def split_animator(text: str) -> tuple[str, str]:
    """A recipe's text without its ``animator=NAME``, and that name ("" where it names none).

    >>> split_animator("vast,head=osm,animator=gohd")
    ('vast,head=osm', 'gohd')

    Raises:
        ConfigError: an unknown animator, or two.
    """
    parts = [part.strip() for part in text.split(",")]
    named = [part.partition("=")[2] for part in parts if part.startswith("animator=")]
    rest = ",".join(part for part in parts if not part.startswith("animator="))
    if len(named) > 1:
        raise ConfigError(f"two animators in {text!r}: name one of {', '.join(ANIMATORS)}")
    if named and named[0] not in ANIMATORS:
        raise ConfigError(f"no animator {named[0]!r}; there are {', '.join(ANIMATORS)}")
    return rest or "default", named[0] if named else ""


def _mixed(text: str, pixels: PixelFormat, animator: str = "") -> Pipeline:
    """One encoder per kind of features, one sampler per system, joined factor by factor."""
    from engine.encoders.joined import JoinedEncoder
    from engine.samplers.mixed import MixedSampler

    parts = mixture(text)
    makers = {name: _part(name, parts) for name in dict.fromkeys(parts.values())}
    kinds = list(dict.fromkeys(kind for kind, _ in makers.values()))
    heard = {kind: _ENCODERS[kind]() for kind in kinds}
    systems = {
        name: make(heard[kind][1], heard[kind][0].spec.output) for name, (kind, make) in makers.items()
    }
    starts: dict[str, int] = {}
    names: tuple[str, ...] = ()
    for kind in kinds:
        starts[kind] = len(names)
        names = (*names, *heard[kind][1])
    encoder = heard[kinds[0]][0] if len(kinds) == 1 else JoinedEncoder([heard[kind][0] for kind in kinds])
    sampler = MixedSampler(
        {factor: systems[name] for factor, name in parts.items()},
        {factor: starts[makers[name][0]] for factor, name in parts.items()},
        names,
        encoder.spec.output,
    )
    return _animated(text, encoder, sampler, pixels, animator)


def _part(name: str, parts: Mapping[str, str]) -> tuple[str, Callable[[tuple[str, ...], str], VoiceSampler]]:
    """The encoder that system ``name`` listens to in a mixture, and how it is built: where it only moves
    the head, and can do so by prosody, it listens to the lips' encoder."""
    system = SYSTEMS[name]
    if system.head is not None and [f for f in parts if parts[f] == name] == ["pose"]:
        return SYSTEMS[parts["lips"]].encoder, system.head
    return system.encoder, system.make


def build(name: str = "default", pixels: PixelFormat = PixelFormat.RGB) -> Pipeline:
    """The pipeline of recipe ``name``, its weights loaded.

    ``name`` may also mix systems factor by factor (:func:`mixture`) and name an animator
    (``"default,animator=mesh"``).

    Raises:
        ConfigError: no such recipe.
        AssetError: weights or model files are missing.
    """
    name, animator = split_animator(name)
    if "=" in name or "," in name:
        return _mixed(name, pixels, animator)
    try:
        make = RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ConfigError(f"no recipe {name!r}; there are {known}, and mixtures such as {DEFAULT}") from None
    return make(pixels, animator)


def prepare_identity(pipeline: Pipeline, portrait: Any) -> Any:
    """What the recipe's animator makes of ``portrait``; None for animators without portraits."""
    prepare = getattr(pipeline.animator, "prepare", None)
    return prepare(portrait) if prepare is not None else None


def restore_identity(pipeline: Pipeline, animator: str, arrays: Mapping[str, Any]) -> Any:
    """The identity that ``animator`` saved as ``arrays`` (an avatar's layers).

    The mesh and the gohd animator prepare a face alike and read each other's avatars.

    Raises:
        AvatarError: it was made for another animator than the recipe's, or by another version.
    """
    from engine.animators.mesh.identity import MeshIdentity

    own = pipeline.animator.spec.name if pipeline.animator is not None else "none"
    if not {animator, own} <= {"mesh_animator", "gohd_animator"}:
        raise AvatarError(
            f"this avatar was made for {animator!r}, recipe {pipeline.name} needs {own!r}: "
            f"run 'visavis prepare' on the photo with --recipe {pipeline.name}"
        )
    mesh = MeshIdentity.from_arrays(arrays)
    adopt = getattr(pipeline.animator, "adopt", None)
    return mesh if adopt is None else adopt(mesh)
