"""A microphone that is refused, absent or forbidden by the page's address: said, with a way out."""

from __future__ import annotations

import socket

import pytest

from benchmarks.latency.browser import open_browser
from benchmarks.latency.process import Server
from tests.browser.conftest import OUT, OpenPage, Serve

FAKE_DEVICE, FAKE_UI = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("--recipe", "tiny")


@pytest.mark.parametrize(
    ("missing", "title"),
    [(FAKE_UI, "The microphone was refused"), (FAKE_DEVICE, "No microphone was found")],
    ids=["refused", "absent"],
)
def test_page_says_what_is_wrong_and_offers_a_sample(
    server: Server, chromium: str, missing: str, title: str
) -> None:
    with open_browser(without=[missing]) as browser:
        opened = OpenPage(browser.new_page(viewport={"width": 1360, "height": 1000}), server.url)
        opened.choose("voice", "mic")
        opened.page.click("#start")
        opened.page.wait_for_selector("#notice:visible", timeout=15_000)
        text = opened.page.inner_text("#notice")
        assert title in text
        assert "sample voice" in text
        assert opened.page.get_attribute("#status", "data-state") == "error"
        OUT.mkdir(parents=True, exist_ok=True)
        opened.page.screenshot(path=OUT / f"microphone_{title.split()[-1]}.png")
        opened.choose("voice", "sample:voice_a")
        opened.page.click("#notice-close")
        opened.start()
        opened.stop()
        assert opened.errors == []


def _outer_address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def test_an_insecure_origin_is_explained_and_samples_still_work(serve: Serve, chromium: str) -> None:
    address = _outer_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    shared = serve("--recipe", "tiny", "--host", "0.0.0.0", "--token", "open-sesame")
    with open_browser() as browser:
        opened = OpenPage(browser.new_page(), f"http://{address}:{shared.port}/?token=open-sesame")
        assert opened.page.evaluate("window.isSecureContext") is False
        assert opened.page.locator("input[name=voice][value=mic]").is_disabled()
        assert "https" in opened.page.inner_text("#mic-hint")
        opened.start()
        opened.stop()
        assert opened.errors == []
