"""Names of recipes and mixtures of them."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from engine.recipes import (
    ANIMATORS,
    DEFAULT,
    DEFAULT_ANIMATOR,
    RECIPES,
    SYSTEMS,
    build,
    mixture,
    split_animator,
)


def test_every_system_is_a_recipe() -> None:
    assert set(SYSTEMS) < set(RECIPES)
    assert set(mixture(DEFAULT).values()) <= set(SYSTEMS)


def test_a_mixture_names_one_system_for_each_factor() -> None:
    assert mixture("speech,head=speech") == dict.fromkeys(("lips", "pose", "eyes", "expression"), "speech")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("nobody,head=speech", "no system"), ("nose=speech", "no factor"), ("speech,speech", "two systems")],
)
def test_a_wrong_mixture_says_what_there_is(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        mixture(text)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="speech"):
        build("nobody")


def test_a_head_that_needs_only_prosody_listens_to_the_lips_encoder() -> None:
    pipeline = build("speech,head=osm")
    assert pipeline.encoder.spec.name == "ppg"
    assert pipeline.sampler.spec.name == "speech_sampler+osm_head"
    assert build("vast,head=gohd").encoder.spec.name == "ppg+mel"


def test_every_recipe_looks_at_most_80_ms_ahead() -> None:
    for name in (*SYSTEMS, "default", "vast,head=osm,eyes=gohd"):
        assert build(name).lookahead_ms <= 80, name


@pytest.mark.parametrize(
    ("text", "rest", "animator"),
    [
        ("default", "default", ""),
        ("default,animator=gohd", "default", "gohd"),
        ("animator=mesh", "default", "mesh"),
        ("vast,head=osm,animator=gohd", "vast,head=osm", "gohd"),
    ],
)
def test_a_recipe_may_name_its_animator(text: str, rest: str, animator: str) -> None:
    assert split_animator(text) == (rest, animator)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("default,animator=clay", "no animator"), ("animator=mesh,animator=gohd", "two animators")],
)
def test_a_wrong_animator_says_what_there_is(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build(text)


def test_the_animator_that_is_named_draws() -> None:
    def draws(recipe: str) -> str:
        animator = build(recipe).animator
        assert animator is not None
        return animator.spec.name

    names = {name: draws(f"speech,animator={name}") for name in ANIMATORS}
    assert names == {"mesh": "mesh_animator", "gohd": "gohd_animator"}
    assert draws("speech") == names[DEFAULT_ANIMATOR]
    with pytest.raises(ConfigError, match="face of its own"):
        build("tiny,animator=mesh")
