"""Drives the real page in a real Chromium: starts calls, stays in them, brings home what was seen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.latency.analyse import Observation
from benchmarks.latency.microphone import Utterances
from benchmarks.latency.process import ResourceLog, Watcher
from engine.errors import AssetError, StreamError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Response

__all__ = ["CHROMIUM_FLAGS", "LiveRun", "PageDriver", "chromium_path", "open_browser"]

CHROMIUM_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
]


def chromium_path() -> str:
    """The Chromium of this machine. AssetError where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise AssetError("no Chromium was found; install it (apt-get install chromium) or use --engine-only")


@contextmanager
def open_browser(extra: Sequence[str] = (), without: Sequence[str] = ()) -> Iterator[Browser]:
    """A headless Chromium through Playwright, with :data:`CHROMIUM_FLAGS` plus and minus some.

    Raises:
        AssetError: Playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise AssetError("Playwright is missing; pip install 'visavis[test]' or use --engine-only") from error
    with sync_playwright() as playwright:
        flags = [flag for flag in CHROMIUM_FLAGS if flag not in without]
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=[*flags, *extra])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class LiveRun:
    """One session on the page: what was seen, the server's own numbers at its end, resources."""

    seen: Observation
    said: Utterances
    stats: dict[str, Any]
    resources: ResourceLog


class PageDriver:
    """The page with the probe in it, ready to call."""

    def __init__(self, browser: Browser, url: str, said: Utterances, patience_s: float = 30.0) -> None:
        self._url = url
        self._said = said
        self._session = ""
        self._patience_ms = 1000 * patience_s
        # The page's content policy forbids the probe's audio worklet: the probe is not part of the page.
        context = browser.new_context(
            viewport={"width": 1100, "height": 900}, permissions=["microphone"], bypass_csp=True
        )
        self._page: Page = context.new_page()
        self.problems: list[str] = []
        self._page.on("pageerror", lambda error: self.problems.append(str(error)))
        self._page.on("response", self._answered)
        self._page.add_init_script(path=Path(__file__).with_name("probe.js"))
        self._page.route(
            "**/visavis-benchmark/microphone.wav",
            lambda route: route.fulfill(body=said.wav(), content_type="audio/wav"),
        )

    def _answered(self, response: Response) -> None:
        if response.url.endswith("/offer") and response.ok:
            self._session = str(response.json().get("session", ""))

    def open(self) -> None:
        """Load the page and choose the first portrait and the microphone."""
        self._page.goto(self._url)
        self._page.wait_for_selector("input[name=portrait]:checked", state="attached")
        self._page.check("input[name=voice][value=mic]", force=True)
        self._page.evaluate("visavisProbe.ready")

    def call(self, sound: bool) -> None:
        """Start a call; returns when the first frame is on the screen.

        Without ``sound`` (the page's default with a microphone) the picture is shown at once; with it,
        as with headphones, the picture waits for its sound.

        Raises:
            StreamError: no frame came; with the page's own words.
        """
        self._page.evaluate("visavisProbe.clear()")
        self._page.click("#start")
        try:
            self._page.wait_for_selector("#status[data-state=live]", timeout=self._patience_ms)
        except Exception as error:
            notice = self._page.inner_text("#notice")
            raise StreamError(f"the call did not come up: {notice or error}") from error
        if (self._page.get_attribute("#sound", "aria-pressed") == "true") is not sound:
            self._page.click("#sound")

    def hold(self, seconds: float, pid: int) -> LiveRun:
        """Stay in the call for ``seconds``, then end it."""
        watcher = Watcher(pid)
        watcher.start()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._page.wait_for_timeout(min(1000.0, 1000 * left))
        resources = watcher.stop()
        stats = self._page.evaluate(
            "id => fetch(`api/stats?session=${id}`).then(r => r.json())", self._session
        )
        raw = self._page.evaluate("visavisProbe.result()")
        self.end()
        return LiveRun(Observation.from_probe(raw), self._said, stats, resources)

    def end(self) -> None:
        """Hang up."""
        if self._page.get_attribute("#status", "data-state") in ("live", "busy"):
            self._page.click("#start")

    def first_frame_wall_s(self) -> float:
        """``time.time()`` of the first frame of this call on the screen."""
        return float(self._page.evaluate("(visavisProbe.timeOrigin + visavisProbe.firstFrameAt) / 1000"))

    def close(self) -> None:
        self._page.context.close()
