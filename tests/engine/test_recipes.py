"""Names of recipes and mixtures of them."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from engine.recipes import DEFAULT, RECIPES, SYSTEMS, build, mixture


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
