"""The performance panel on the page: what is chosen reaches the running face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import OpenPage

_STATS = """async () => {
  const all = performance.getEntriesByType("resource").map(e => e.name);
  const names = all.filter(n => n.includes("api/stats"));
  const response = await fetch(names.at(-1));
  return response.json();
}"""


@pytest.fixture
def live(serve: Callable[..., Any], open_page: Callable[..., OpenPage]) -> OpenPage:
    opened = open_page(serve("--recipe", "osm").url)
    opened.choose("voice", "sample:voice_a")
    opened.start()
    opened.until("performance.getEntriesByType('resource').some(e => e.name.includes('api/stats'))")
    return opened


def test_emotion_take_and_action_reach_the_session(live: OpenPage) -> None:
    page = live.page
    live.choose("emotion", "happy")
    page.fill("#emotion-strength", "0.5")
    page.click("#take")
    assert page.is_visible("#actions-part")  # osm can nod
    assert not page.is_visible("#style-part")  # and has no styles
    page.click("#actions button >> nth=0")
    page.wait_for_timeout(500)
    controls = page.evaluate(_STATS)["controls"]
    assert controls["emotion.happy"] == pytest.approx(0.5)
    assert controls["action.nod"] == 1.0
    assert controls["seed"] >= 1.0
    assert page.inner_text("#recipe") == "osm"
    live.choose("emotion", "neutral")
    page.wait_for_timeout(500)
    assert page.evaluate(_STATS)["controls"]["emotion.happy"] == 0.0
    live.stop()
    assert live.errors == []
