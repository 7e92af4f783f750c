"""A real server, a real Chromium, a file as microphone."""

from __future__ import annotations

import contextlib
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.latency.browser import open_browser
from benchmarks.latency.microphone import RATE, read_wav
from benchmarks.latency.process import Server
from engine.config import asset_path
from engine.errors import BudgetError
from tests.conftest import REPO

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OUT = REPO / "out" / "browser"
SPEECH_S, SILENCE_S = 4.0, 3.0

Serve = Callable[..., Server]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts ``visavis serve`` with some options; a budget this machine cannot meet now is widened."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Server:
            budget = 240
            for _ in range(3):
                log = tmp_path_factory.mktemp("serve") / "server.log"
                server = Server(
                    ["--budget-ms", str(budget), *options], log, module=("streaming.cli", "serve")
                )
                try:
                    return stack.enter_context(server)
                except BudgetError as error:
                    budget = 2 * error.smallest_ms
            pytest.fail(f"no budget up to {budget} ms could be met")

        yield start


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A microphone recording: speech, then silence; Chromium plays it again and again."""
    voice = 0.6 * read_wav(asset_path("demo/voice_a.wav"))
    signal = np.concatenate([voice[: round(SPEECH_S * RATE)], np.zeros(round(SILENCE_S * RATE), np.float32)])
    path = tmp_path_factory.mktemp("voice") / "spoken.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((signal * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def browser(chromium: str, spoken: Path) -> Iterator[Browser]:
    """Chromium whose microphone is the recording."""
    with open_browser([f"--use-file-for-fake-audio-capture={spoken}"]) as chromium_browser:
        yield chromium_browser


class OpenPage:
    """A page and everything that went wrong in it."""

    def __init__(self, page: Page, url: str, script: str = "") -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("console", lambda m: self.errors.append(f"{m.type}: {m.text}") if m.type == "error" else None)
        page.add_init_script(script)
        page.goto(url)
        page.wait_for_selector("input[name=portrait]:checked", state="attached")

    def choose(self, group: str, value: str) -> None:
        self.page.check(f'input[name="{group}"][value="{value}"]', force=True)

    def until(self, expression: str, seconds: float = 15.0) -> None:
        """Wait for a JavaScript expression; the page's policy forbids Playwright's own way (eval)."""
        for _ in range(round(seconds / 0.1)):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"within {seconds:g} s not true: {expression}")

    def start(self) -> None:
        self.page.click("#start")
        try:
            self.page.wait_for_selector("#status[data-state=live]", timeout=30_000)
        except Exception as error:
            shown = self.page.inner_text("body")
            error.add_note(f"the page shows: {shown!r}; it met: {self.errors}")
            raise

    def stop(self) -> None:
        self.page.click("#start")
        self.page.wait_for_selector("#status[data-state=idle]")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., OpenPage]]:
    """Opens pages in fresh contexts, ``script`` running first; keyword arguments go to the context."""
    with contextlib.ExitStack() as stack:

        def start(url: str, script: str = "", **options: object) -> OpenPage:
            options.setdefault("viewport", {"width": 1360, "height": 1000})
            context = browser.new_context(permissions=["microphone"], **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            return OpenPage(context.new_page(), url, script)

        yield start
