"""What the page says when something is missing, and that what the user does reaches the server."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.latency.process import Server
from tests.browser.conftest import OUT, OpenPage, Serve

Pages = Callable[..., OpenPage]


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("--recipe", "tiny", "--max-sessions", "1")


def notice(opened: OpenPage) -> str:
    opened.page.wait_for_selector("#notice:visible", timeout=30_000)
    return opened.page.inner_text("#notice")


def stats(server: Server, session: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/api/stats?session={session}", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def start_session(opened: OpenPage) -> str:
    opened.choose("voice", "sample:voice_a")
    with opened.page.expect_response("**/offer") as answer:
        opened.start()
    return str(answer.value.json()["session"])


def test_sliders_and_gaze_reach_the_server(server: Server, open_page: Pages) -> None:
    opened = open_page(server.url)
    opened.page.fill("#strengthLips", "1.5")  # moved before the call: sent when it starts
    session = start_session(opened)
    with opened.page.expect_response(lambda r: r.url.endswith("/api/controls") and r.ok):
        opened.page.focus("#smile")
        opened.page.keyboard.press("End")
    opened.page.locator("#pad").click(position={"x": 90, "y": 48})
    opened.until("document.getElementById('gazeYaw').valueAsNumber > 0.5")
    opened.page.wait_for_timeout(300)
    controls = stats(server, session)["controls"]
    assert controls["strengthLips"] == pytest.approx(1.5)
    assert controls["smile"] == pytest.approx(1.0)
    assert controls["gazeYaw"] > 0.5
    assert controls["headLock"] == 0.0
    opened.page.click("#reset")
    opened.page.wait_for_timeout(300)
    assert stats(server, session)["controls"]["smile"] == 0.0
    opened.stop()
    assert opened.errors == []


def test_a_full_server_says_so_and_takes_the_next_later(server: Server, open_page: Pages) -> None:
    first, second = open_page(server.url), open_page(server.url)
    start_session(first)
    second.choose("voice", "sample:voice_a")
    second.page.click("#start")
    text = notice(second)
    assert "The server is full" in text
    assert "1 sessions" in text
    first.stop()
    second.page.wait_for_timeout(1500)
    second.page.click("#notice-action")
    second.page.wait_for_selector("#status[data-state=live]", timeout=30_000)
    assert second.page.locator("#notice").is_hidden()
    second.stop()


def test_files_without_a_usable_face_are_refused_in_words(server: Server, open_page: Pages) -> None:
    from PIL import Image

    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(noise, "PNG")
    opened = open_page(server.url)
    before = opened.page.locator("#portraits label").count()
    for name, data in (("letter.jpg", b"Dear Sir or Madam"), ("cut.png", noise.getvalue()[:200])):
        opened.page.set_input_files("#upload", {"name": name, "mimeType": "image/png", "buffer": data})
        opened.page.wait_for_selector("#upload-error:visible", timeout=30_000)
        assert len(opened.page.inner_text("#upload-error")) > 15
        opened.page.evaluate("document.getElementById('upload-error').hidden = true")
    OUT.mkdir(parents=True, exist_ok=True)
    assert opened.page.locator("#portraits label").count() == before


_DROP = """async url => {
  const data = await (await fetch(url)).blob();
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], "Someone New.jpg", { type: "image/jpeg" }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent(kind, options));
  }
}"""


def test_a_dropped_photo_becomes_the_chosen_portrait(server: Server, open_page: Pages) -> None:
    opened = open_page(server.url)
    opened.page.evaluate(_DROP, "api/portraits/character/image")
    opened.until("document.querySelector('input[name=portrait]:checked').value === 'someone-new'")
    assert opened.page.locator("#drop").is_hidden()
    assert opened.page.locator("#upload-error").is_hidden()
    assert "Someone New" in opened.page.inner_text("#portraits")
    start_session(opened)
    opened.stop()
    assert opened.errors == []


def test_a_lost_server_is_noticed_and_the_page_offers_to_reconnect(serve: Serve, open_page: Pages) -> None:
    own = serve("--recipe", "tiny")
    opened = open_page(own.url)
    start_session(opened)
    own.__exit__(None, None, None)
    text = notice(opened)
    assert "connection was lost" in text
    assert "Reconnect" in text
    OUT.mkdir(parents=True, exist_ok=True)
    opened.page.screenshot(path=OUT / "lost.png")
    opened.page.click("#notice-action")
    assert "cannot be reached" in notice(opened)


def test_starting_again_and_again_leaves_nothing_behind(server: Server, open_page: Pages) -> None:
    opened = open_page(server.url)
    for _ in range(3):
        start_session(opened)
        opened.page.wait_for_timeout(2500)
        # Callbacks left over from the former call would count each frame twice.
        assert 0.0 < float(opened.page.inner_text("#head-fps").split()[0]) < 30.0
        opened.stop()
        opened.page.wait_for_timeout(1200)  # the server takes one session only
    assert opened.errors == []
