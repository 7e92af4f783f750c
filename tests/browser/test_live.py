"""Page -> server -> page: the face arrives at full rate, speaks with the voice and rests in silence."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.latency.process import Server
from tests.browser.conftest import OUT, OpenPage, Serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

Pages = Callable[..., OpenPage]

_SPY = """
const Peer = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Peer { constructor(...a) { super(...a); window.testPeer = this; } };
"""

_DECODED = """async () => {
  const all = [...(await testPeer.getStats()).values()];
  return all.find(s => s.type === "inbound-rtp" && s.kind === "video").framesDecoded;
}"""

_GRAB = """async seconds => {
  const video = document.getElementById("face");
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight), pen = canvas.getContext("2d");
  const receiver = testPeer.getReceivers().find(r => r.track.kind === "audio");
  const out = [], end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    await new Promise(r => video.requestVideoFrameCallback(r));
    pen.drawImage(video, 0, 0);
    const level = receiver.getSynchronizationSources()[0]?.audioLevel ?? 0;
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    out.push([level, btoa(text)]);
    await new Promise(r => setTimeout(r, 50));
  }
  return out;
}"""


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve()


def call(open_page: Pages, url: str, **options: object) -> OpenPage:
    """A page in a call with the microphone."""
    opened = open_page(url, script=_SPY, **options)
    opened.choose("voice", "mic")
    opened.start()
    return opened


def decoded_fps(page: Page, seconds: float) -> float:
    began, first = page.evaluate("performance.now()"), page.evaluate(_DECODED)
    page.wait_for_timeout(1000 * seconds)
    ended, last = page.evaluate("performance.now()"), page.evaluate(_DECODED)
    return float(1000 * (last - first) / (ended - began))


def grab(page: Page, seconds: float) -> tuple[NDArray[np.float64], list[NDArray[np.uint8]]]:
    """Sound level [N] and pictures [N] of the same moments."""
    from PIL import Image

    rows = page.evaluate(_GRAB, seconds)
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for _, data in rows]
    return np.array([level for level, _ in rows]), pictures


def lip_gaps(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Gap between the inner lips over the height of the face, of every picture."""
    from engine.face.landmarks import FaceTracker

    tracker = FaceTracker()
    gaps = []
    for picture in pictures:
        found = tracker.track(picture)
        assert found is not None, "the live picture shows no face"
        upper, lower, brow, chin = (found.points[i] for i in (13, 14, 10, 152))
        gaps.append(float(np.linalg.norm(upper - lower) / np.linalg.norm(brow - chin)))
    return np.array(gaps)


def test_frames_arrive_at_full_rate(server: Server, open_page: Pages) -> None:
    opened = call(open_page, server.url)
    # A machine that is busy with something else for a moment is no fault of ours: the best of five spans.
    rates: list[float] = []
    while len(rates) < 5 and max(rates, default=0.0) < 24.0:
        rates.append(decoded_fps(opened.page, 3.0))
    assert max(rates) >= 24.0, rates
    assert max(rates) <= 26.5, rates
    opened.stop()
    assert opened.errors == []


def test_mouth_moves_with_speech_and_rests_in_silence(server: Server, open_page: Pages) -> None:
    opened = call(open_page, server.url)
    opened.page.wait_for_timeout(1500)
    level, pictures = grab(opened.page, 15.0)
    gaps = lip_gaps(pictures)
    # Levels are of single moments: speech is what is loud somewhere near, silence quiet all around.
    near = np.array([level[max(0, i - 4) : i + 5].max() for i in range(level.size)])
    speech, silence = near > 0.05, near < 0.005
    assert speech.sum() > 20
    assert silence.sum() > 10
    assert np.ptp(np.quantile(gaps[speech], [0.05, 0.95])) > 0.02
    # From shut lips back to the portrait's own smile is one long move: what counts is how much they move.
    moves = np.abs(np.diff(gaps, prepend=gaps[0]))
    assert moves[silence].mean() < 0.5 * moves[speech].mean()
    assert opened.errors == []


def test_vp8_and_h264_show_the_same_colours(server: Server, open_page: Pages) -> None:
    means = []
    for codec in ("vp8", "h264"):
        opened = call(open_page, f"{server.url}/?codec={codec}&seed=1")
        for name, value in (("headLock", "1"), ("strengthHead", "0"), ("strengthLips", "0")):
            opened.page.fill(f"#{name}", value)
        opened.page.wait_for_timeout(2500)  # until the head has come to rest
        _, pictures = grab(opened.page, 1.5)
        height, width = (side // 16 * 16 for side in pictures[-1].shape[:2])
        blocks = pictures[-1][:height, :width].reshape(16, height // 16, 16, width // 16, 3)
        means.append(blocks.mean(axis=(1, 3)))
        opened.stop()
    # A wrong matrix shows in strong colours: about 3 here, against 0.3 with the right one.
    colourful = np.ptp(means[0], axis=2)
    strong = colourful >= np.quantile(colourful, 0.7)
    assert np.median(np.abs(means[0] - means[1]).max(axis=2)[strong]) < 1.2


def test_sample_voice_speaks_with_sound_on(server: Server, open_page: Pages) -> None:
    opened = open_page(server.url)
    opened.choose("voice", "sample:voice_b")
    opened.start()
    assert opened.page.evaluate("document.getElementById('face').muted") is False
    assert opened.page.get_attribute("#sound", "aria-pressed") == "true"
    opened.until("parseFloat(document.getElementById('head-latency').textContent.slice(2)) > 0")
    opened.until("document.querySelectorAll('#stages tr').length >= 4")
    assert opened.page.inner_text("#budget-total").endswith("ms")
    opened.stop()
    assert opened.errors == []


def test_a_photo_without_a_face_is_refused_in_words(server: Server, open_page: Pages) -> None:
    from PIL import Image

    wall = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(90, 110, (300, 300, 3), np.uint8)).save(wall, "PNG")
    opened = open_page(server.url)
    opened.page.set_input_files(
        "#upload", {"name": "wall.png", "mimeType": "image/png", "buffer": wall.getvalue()}
    )
    opened.page.wait_for_selector("#upload-error:visible", timeout=30_000)
    assert "face" in opened.page.inner_text("#upload-error")
    OUT.mkdir(parents=True, exist_ok=True)
    opened.page.screenshot(path=OUT / "no_face.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("desktop", 1360, 1000), ("phone", 390, 844)])
def test_page_fits_its_window(
    server: Server, open_page: Pages, name: str, width: int, height: int, scheme: str
) -> None:
    opened = open_page(server.url, viewport={"width": width, "height": height}, color_scheme=scheme)
    page = opened.page
    opened.until("document.getElementById('still').complete")
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=OUT / f"{name}_{scheme}_idle.png", full_page=True)
    opened.choose("voice", "sample:voice_a")
    opened.start()
    page.wait_for_timeout(4000)
    page.screenshot(path=OUT / f"{name}_{scheme}_live.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    face = page.locator("#face").bounding_box()
    assert face is not None
    assert face["width"] >= 0.85 * min(width, 400)
    opened.stop()
    assert opened.errors == []
