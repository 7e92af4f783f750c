"""Emotions, drivers, webcams and style clips over HTTP, with a real video of a real face."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from aiohttp import FormData, WSMsgType
from PIL import Image

from engine.config import asset_path
from engine.types import CONTROLS
from tests.streaming.test_server import served, until


def _turning(path: Path, frames: int = 40) -> Path:
    """A video of the bundled astronaut, whose picture sways and tilts."""
    still = np.asarray(Image.open(asset_path("demo/astronaut.png")).convert("RGB"))
    height, width = still.shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        stream.bit_rate = 2_000_000
        for n in range(frames):
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), 8.0 * np.sin(n / 6), 1.0)
            moved = np.asarray(
                cv2.warpAffine(still, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
            )
            moved = np.ascontiguousarray(moved[: stream.height, : stream.width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _turning(tmp_path_factory.mktemp("clips") / "turning.mp4").read_bytes()


def _form(session: str, data: bytes, **fields: str) -> FormData:
    form = FormData()
    form.add_field("session", session)
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", io.BytesIO(data), filename="me.mp4", content_type="video/mp4")
    return form


async def test_the_engine_says_what_it_can_do() -> None:
    async with served() as (_, client):
        answer = await (await client.get("/api/engine")).json()
        assert answer["recipe"] == "tiny"
        assert answer["style"] is False
        assert "happy" in answer["emotions"]
        assert {s["name"] for s in answer["sliders"]} == set(CONTROLS.sliders)


async def test_a_video_drives_the_factors_it_is_asked_to_and_lets_go(turning: bytes) -> None:
    async with served() as (hub, client):
        session = await hub.create("s")
        hub.hold(session)
        session.start()
        response = await client.post("/api/driver", data=_form("s", turning, factors="pose,eyes"))
        answer = await response.json()
        assert response.status == 200, answer
        assert "1.6 s" in answer["message"]
        assert set(session.drivers.names) == {"pose", "eyes"}
        stats = await (await client.get("/api/stats?session=s")).json()
        assert stats["controls"]["follow.pose"] == 1.0
        assert stats["controls"]["follow.lips"] == 0.0
        # The clip begins with whatever frame the session has come to: look at one whole turn of it.
        rows = [session.drivers.apply(session.controls, frame) for frame in range(1000, 1040)]
        assert np.ptp([row[CONTROLS.index("driver.rz")] for row in rows]) > 0.1
        assert (await client.delete("/api/driver?session=s")).status == 200
        assert session.controls[CONTROLS.index("follow.pose")] == 0.0
        assert not session.drivers


@pytest.mark.parametrize(
    ("factors", "data", "reason"),
    [("nose", b"x", "factors"), ("", b"x", "factors"), ("pose", b"not a video", "video")],
)
async def test_bad_drivers_are_refused_with_a_reason(factors: str, data: bytes, reason: str) -> None:
    async with served() as (hub, client):
        hub.hold(await hub.create("s"))
        response = await client.post("/api/driver", data=_form("s", data, factors=factors))
        assert response.status == 400
        assert reason in (await response.json())["error"]


async def test_a_recipe_without_styles_says_which_one_has_them(turning: bytes) -> None:
    async with served() as (hub, client):
        hub.hold(await hub.create("s"))
        response = await client.post("/api/style", data=_form("s", turning))
        assert response.status == 400
        assert "vast" in (await response.json())["error"]


async def test_a_webcam_drives_while_it_is_connected(turning: bytes, tmp_path: Path) -> None:
    async with served() as (hub, client):
        session = await hub.create("s")
        hub.hold(session)
        session.start()
        path = tmp_path / "turning.mp4"
        path.write_bytes(turning)
        with av.open(str(path)) as container:
            pictures = [f.to_ndarray(format="bgr24") for f in container.decode(video=0)]
        async with client.ws_connect("/ws/driver?session=s&factors=pose") as socket:
            assert "calm face" in (await socket.receive()).data
            told = asyncio.create_task(socket.receive())
            for n in range(1200):
                ok, data = cv2.imencode(".jpg", pictures[n % len(pictures)])
                assert ok
                await socket.send_bytes(data.tobytes())
                if told.done():
                    break
                await asyncio.sleep(0.05)
            message = await asyncio.wait_for(told, 5)
            assert message.type is WSMsgType.TEXT
            assert "pose" in message.data
            assert session.drivers.names == {"pose": "webcam"}
        await until(lambda: not session.drivers)
        assert session.controls[CONTROLS.index("follow.pose")] == 0.0


async def test_a_webcam_that_sends_no_pictures_is_told_so() -> None:
    async with served() as (hub, client):
        hub.hold(await hub.create("s"))
        async with client.ws_connect("/ws/driver?session=s&factors=pose") as socket:
            await socket.receive()
            await socket.send_bytes(b"not a jpeg")
            message = await socket.receive()
            assert message.type is WSMsgType.CLOSE
            assert "JPEG" in message.extra
