"""The HTTP side with real aiortc peers on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from PIL import Image

from engine.errors import ConfigError
from engine.types import CONTROLS
from streaming import hub as hub_module
from streaming import peers, server
from streaming.clock import OUT_RATE
from streaming.demo import Caller
from streaming.hub import Hub, HubOptions
from streaming.server import PEERS, ServerOptions, create_app
from streaming.sinks.base import PACKET
from streaming.sinks.webrtc import AudioTrack, WebRtcSink
from tests.streaming.helpers import tone

# A budget that a busy test machine can meet; the laws of pacing are tested on a virtual clock.
OPTIONS = HubOptions(recipe="tiny", budget_ms=600.0, max_sessions=2, linger_s=0.1)


@asynccontextmanager
async def served(
    options: HubOptions = OPTIONS, access: ServerOptions | None = None
) -> AsyncIterator[tuple[Hub, Any]]:
    hub = Hub(options)
    await hub.start()
    client: Any = TestClient(TestServer(create_app(hub, access or ServerOptions())))
    await client.start_server()
    try:
        yield hub, client
    finally:
        await client.close()
        await hub.close()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def exchange(client: Any, path: str, connection: RTCPeerConnection) -> str:
    """WHEP or WHIP: returns the Location."""
    await connection.setLocalDescription(await connection.createOffer())
    headers = {"Content-Type": "application/sdp"}
    response = await client.post(path, data=connection.localDescription.sdp, headers=headers)
    assert response.status == 201, await response.text()
    assert response.content_type == "application/sdp"
    await connection.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
    return str(response.headers["Location"])


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_call_brings_pictures_and_sound_and_its_end_frees_everything(codec: str) -> None:
    async with served() as (hub, client):
        caller = Caller()
        name = await caller.call(
            str(client.make_url("")).rstrip("/"), {"source": "sample:voice_a", "codec": codec}
        )
        session = hub.sessions[name]
        await until(lambda: bool(session.sinks))
        sink = session.sinks[0]
        assert isinstance(sink, WebRtcSink)
        caller.follow(sink)
        await until(lambda: len(caller.video_ns) > 25 and len(caller.audio_ns) > 50)
        # Frames and packets arrive once each, in order, on the session's own time line.
        frames = [n for n, _ in caller.video_ns]
        assert frames == sorted(set(frames))
        samples = [p for p, _ in caller.audio_ns]
        assert samples == sorted(set(samples))
        # Nothing arrives before its deadline: D after the first sample of the frame.
        early = [ns - session.time.frame_ns(n) for n, ns in caller.video_ns]
        assert min(early) >= 600e6
        stats = await (await client.get(f"/api/stats?session={name}")).json()
        assert stats["source"] == "voice_a.wav"
        assert stats["frames"]["total"] > 25
        await caller.close()
        await until(lambda: not hub.sessions and not client.app[PEERS])
        assert session.closed.is_set()


async def test_whip_voice_reaches_a_whep_viewer() -> None:
    """A tone spoken by one peer is heard, D later, by another one."""
    async with served() as (hub, client):
        viewer, speaker, voice = peer(), peer(), AudioTrack()
        viewer.addTransceiver("audio", "recvonly")
        viewer.addTransceiver("video", "recvonly")
        heard: list[Any] = []

        async def listen(track: Any) -> None:
            while True:
                heard.append(await track.recv())

        tasks: list[asyncio.Task[None]] = []
        viewer.on(
            "track", lambda t: tasks.append(asyncio.create_task(listen(t))) if t.kind == "audio" else None
        )
        where = await exchange(client, "/whep?session=talk", viewer)
        speaker.addTrack(voice)
        await exchange(client, "/whip?session=talk", speaker)
        session = hub.sessions["talk"]
        wave = tone(OUT_RATE, 1000.0)
        for k in range(300):
            voice.put(k, wave[PACKET * (k % 100) : PACKET * (k % 100 + 1)])
            await asyncio.sleep(0.01)
        assert session.source.name.startswith("webrtc")
        await until(lambda: len(heard) > 120)
        pcm = np.concatenate([f.to_ndarray().reshape(-1, 2)[:, 0] for f in heard[-200:]]).astype(float)
        spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
        peak = float(np.argmax(spectrum)) * OUT_RATE / pcm.size
        assert abs(peak - 1000.0) < 20
        response = await client.delete(where)
        assert response.status == 200
        assert (await client.delete(where)).status == 404
        await speaker.close()
        await viewer.close()
        await until(lambda: not hub.sessions)
        for task in tasks:
            task.cancel()


async def test_whep_answers_by_the_book() -> None:
    async with served() as (hub, client):
        options = await client.options("/whep")
        assert (options.status, options.headers["Accept-Post"]) == (204, "application/sdp")
        assert (await client.get("/whep")).status == 405
        assert (await client.post("/whep", data="v=0")).status == 415
        headers = {"Content-Type": "application/sdp"}
        for bad in ("", "hello", "v=0\r\n", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"):
            refused = await client.post("/whep", data=bad, headers=headers)
            assert refused.status == 400, bad
            assert "offer" in (await refused.json())["error"]
        assert (await client.post("/whep", data="v" * 70_000, headers=headers)).status == 413
        assert (await client.patch("/whep/none", data="")).status == 404
        await until(lambda: not hub.sessions and not client.app[PEERS])


async def test_trickled_candidates_are_taken_and_restarts_refused() -> None:
    async with served() as (_, client):
        viewer = peer()
        viewer.addTransceiver("video", "recvonly")
        where = await exchange(client, "/whep", viewer)
        headers = {"Content-Type": "application/trickle-ice-sdpfrag"}
        line = "a=candidate:1 1 udp 2113929471 127.0.0.1 9 typ host\r\n"
        assert (await client.patch(where, data=f"a=mid:0\r\n{line}", headers=headers)).status == 204
        bad = await client.patch(where, data="a=mid:0\r\na=candidate:rubbish\r\n", headers=headers)
        assert bad.status == 400
        restart = await client.patch(where, data="a=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\n", headers=headers)
        assert restart.status == 405
        assert (await client.patch(where, data="x")).status == 415
        await viewer.close()


async def test_pcm_over_a_socket_is_paced_reported_and_cut() -> None:
    async with served() as (hub, client):
        socket = await client.ws_connect("/ws?rate=16000&format=s16")
        ready = await socket.receive_json(timeout=5)
        assert (ready["type"], ready["session"], ready["budget_ms"]) == ("ready", "live", 600)
        pcm = (tone(16_000, rate=16_000) * 32767).astype("<i2").tobytes()
        await socket.send_bytes(pcm[:16_000])
        await socket.send_json({"type": "end"})
        finished = await socket.receive_json(timeout=10)
        assert finished == {"type": "finished", "position_s": 0.5, "interrupted": False}
        for _ in range(5):
            await socket.send_bytes(pcm)  # five seconds at once
        await socket.send_json({"type": "controls", "controls": {"smile": 0.5}})
        assert (await socket.receive_json(timeout=5))["controls"]["smile"] == 0.5
        await socket.send_json({"type": "clear"})
        interrupted = await socket.receive_json(timeout=5)
        assert interrupted["type"] == "finished"
        assert interrupted["interrupted"]
        assert interrupted["position_s"] < 4
        cleared = await socket.receive_json(timeout=5)
        assert cleared["cut_ms"] > 1000
        await socket.send_str("no json")
        assert (await socket.receive_json(timeout=5))["type"] == "error"
        await socket.send_json({"type": "dance"})
        assert "dance" in (await socket.receive_json(timeout=5))["error"]
        # A barge-in from elsewhere ends the segment just as well, and is reported once.
        await socket.send_bytes(pcm * 3)
        await until(lambda: getattr(hub.sessions["live"].source, "played", 0) > 10_000)
        assert (await (await client.post("/api/clear", json={"session": "live"})).json())["cut_ms"] > 500
        assert (await socket.receive_json(timeout=5))["interrupted"]
        await socket.close()
        await until(lambda: not hub.sessions)


async def test_a_socket_asking_for_the_unknown_is_refused() -> None:
    async with served() as (hub, client):
        for query in ("rate=44100", "rate=fast", "format=mp3", "pace=slow"):
            response = await client.get(
                f"/ws?{query}", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
            )
            assert response.status == 400, query
        await until(lambda: not hub.sessions)


async def test_controls_stats_and_health() -> None:
    async with served() as (hub, client):
        session = await hub.create("mine")
        answer = await client.post("/api/controls", json={"session": "mine", "controls": {"headLock": 1}})
        assert (await answer.json())["controls"]["headLock"] == 1
        assert session.controls[CONTROLS.index("headLock")] == 1
        for bad in ({"mood": 1}, {"smile": "x"}, 5):
            assert (
                await client.post("/api/controls", json={"session": "mine", "controls": bad})
            ).status == 400
        assert (await client.post("/api/controls", data="{")).status == 400
        assert (await client.post("/api/controls", data="[]")).status == 400
        assert (await client.post("/api/controls", data="x" * 300_000)).status == 413
        assert (await client.get("/api/stats?session=none")).status == 404
        health = await (await client.get("/healthz")).json()
        assert (health["status"], health["sessions"]) == ("ok", 1)
        metrics = await (await client.get("/metrics")).text()
        assert 'visavis_misses_total{session="mine"} 0' in metrics
        assert "visavis_sessions 1" in metrics


async def test_those_who_ask_for_one_name_at_once_share_one_session() -> None:
    async with served() as (hub, _):
        found = await asyncio.gather(*(hub.find_or_create("stage") for _ in range(5)))
        assert len({id(session) for session in found}) == 1
        with pytest.raises(ConfigError, match="stage"):
            await hub.create("stage")
        await found[0].close()
        assert await hub.find_or_create("stage") is not found[0]


async def test_no_more_sessions_than_allowed() -> None:
    async with served() as (hub, client):
        await hub.create("one")
        await hub.create("two")
        viewer = peer()
        viewer.addTransceiver("video", "recvonly")
        await viewer.setLocalDescription(await viewer.createOffer())
        body = {"type": "offer", "sdp": viewer.localDescription.sdp, "source": "sample:voice_a"}
        full = await client.post("/offer", json=body)
        assert full.status == 503
        assert "max-sessions" in (await full.json())["error"]
        await viewer.close()


async def test_no_more_connections_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "VIEWERS", 0)
    async with served() as (hub, client):
        headers = {"Content-Type": "application/sdp"}
        full = await client.post("/whep", data="v=0\r\n", headers=headers)
        assert full.status == 503
        await until(lambda: not hub.sessions)


async def test_a_session_nobody_comes_to_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_UNUSED_S", 0.1)
    async with served() as (hub, _):
        await hub.create("lonely")
        await until(lambda: not hub.sessions)


@pytest.mark.parametrize(
    "change",
    [{"type": "answer"}, {"sdp": 5}, {"sdp": "x" * 70_000}, {"source": "radio"}, {"source": "sample:none"},
     {"seed": "x"}, {"portrait": "nobody"}],
)  # fmt: skip
async def test_bad_offers_are_refused_and_leave_nothing(change: dict[str, object]) -> None:
    async with served() as (hub, client):
        body = {"type": "offer", "sdp": "v=0\r\n", "source": "mic", **change}
        response = await client.post("/offer", json=body)
        assert response.status == 400
        assert (await response.json())["error"]
        await until(lambda: not hub.sessions and not client.app[PEERS])


def png(size: int = 96) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), 120, np.uint8)).save(out, "PNG")
    return out.getvalue()


def form(name: str, data: bytes) -> FormData:
    made = FormData()
    made.add_field("file", data, filename=name)
    return made


async def test_portraits_are_listed_shown_uploaded_and_refused() -> None:
    async with served() as (_, client):
        names = [p["name"] for p in await (await client.get("/api/portraits")).json()]
        assert names == ["astronaut", "character"]
        uploaded = await client.post("/api/portraits", data=form("../../My Photo.PNG", png()))
        assert uploaded.status == 201
        entry = await uploaded.json()
        assert entry["name"] == "my-photo"
        for url in (entry["thumbnail"], entry["image"]):
            picture = await client.get("/" + url)
            assert picture.content_type == "image/jpeg"
            assert Image.open(io.BytesIO(await picture.read())).size[0] > 0
        for bad in (b"this is no image", b"", png()[:40]):
            refused = await client.post("/api/portraits", data=form("bad.png", bad))
            assert refused.status == 400
            assert (await refused.json())["error"]
        assert (await client.post("/api/portraits", data={"file": "text"})).status == 415
        nameless = FormData()
        nameless.add_field("photo", png(), filename="me.png")
        assert (await client.post("/api/portraits", data=nameless)).status == 400
        assert (await client.post("/api/portraits", data=b"raw")).status == 415
        big = await client.post("/api/portraits", data=form("big.png", b"0" * (21 << 20)))
        assert big.status in (400, 413)
        assert "20 MB" in (await big.json())["error"] or big.status == 413
        assert len(await (await client.get("/api/portraits")).json()) == 3
        assert (await client.get("/api/portraits/none/image")).status == 400
        voices = await (await client.get("/api/voices")).json()
        assert [v["name"] for v in voices] == ["voice_a", "voice_b"]


async def test_the_page_is_served_and_nothing_else_of_the_disk() -> None:
    async with served() as (_, client):
        page = await client.get("/")
        assert page.content_type == "text/html"
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert (await client.get("/app.js")).status == 200
        for path in ("/../server.py", "/%2e%2e/server.py", "/server.py", "/app.js/../../cli.py"):
            assert (await client.get(path)).status == 404


async def test_only_this_machine_and_its_own_page_may_ask_without_a_token() -> None:
    async with served() as (_, client):
        get: Callable[..., Awaitable[Any]] = client.get
        assert (await get("/api/voices", headers={"Host": "evil.example"})).status == 403
        assert (await get("/api/voices", headers={"Origin": "http://evil.example"})).status == 403
        own = f"http://{client.host}:{client.port}"
        assert (await get("/api/voices", headers={"Origin": own})).status == 200
        assert (await get("/healthz", headers={"Host": "evil.example"})).status == 200


async def test_pages_elsewhere_may_call_when_they_are_named() -> None:
    page = "https://player.example"
    async with served(access=ServerOptions(token="secret", allow_origins=(page,))) as (_, client):
        question = {"Origin": page, "Access-Control-Request-Method": "POST"}
        asked = await client.options("/whep", headers=question)
        assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, page)
        assert (await client.get("/api/voices", headers={"Origin": page})).status == 401
        allowed = await client.get("/api/voices", headers={"Origin": page, "Authorization": "Bearer secret"})
        assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (200, page)
        other = {"Origin": "https://evil.example", "Authorization": "Bearer secret"}
        assert (await client.get("/api/voices", headers=other)).status == 403


async def test_a_token_opens_by_header_query_or_cookie() -> None:
    async with served(access=ServerOptions(token="secret")) as (_, client):
        refused = await client.get("/api/voices")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.get("/api/voices", headers={"Authorization": "Bearer wrong"})).status == 401
        assert (await client.get("/api/voices", headers={"Authorization": "Bearer secret"})).status == 200
        outside = {"Authorization": "Bearer secret", "Host": "avatars.example"}
        assert (await client.get("/api/voices", headers=outside)).status == 200
        assert (await client.get("/?token=secret")).status == 200
        assert (
            client.session.cookie_jar.filter_cookies(client.make_url("/"))["visavis_token"].value == "secret"
        )
        assert (await client.get("/api/voices")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_listening_beyond_this_machine_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="--token"):
        ServerOptions(host=host)
    assert ServerOptions(host=host, token="x").host == host


async def test_a_vanished_socket_frees_its_session() -> None:
    async with served() as (hub, client):
        socket = await client.ws_connect("/ws?session=gone")
        await socket.receive_json(timeout=5)
        socket._response.close()  # the connection breaks without a goodbye
        await until(lambda: not hub.sessions)


async def test_a_killed_viewer_frees_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SILENT_S", 4.0)
    async with served() as (hub, client):
        url = str(client.make_url("")).rstrip("/")
        command = (sys.executable, "-m", "tests.streaming.vanishing_peer", url)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        session = hub.sessions[(await process.stdout.readline()).decode().strip()]
        await until(lambda: session.metrics.value("frames") > 50)
        assert not session.closed.is_set()
        process.kill()
        await process.wait()
        await until(lambda: not hub.sessions and not client.app[PEERS])


async def test_a_session_that_fails_hangs_up_on_its_peers() -> None:
    async with served() as (hub, client):
        caller = Caller()
        name = await caller.call(str(client.make_url("")).rstrip("/"), {"source": "sample:voice_b"})
        session = hub.sessions[name]
        await until(lambda: bool(session.sinks))
        await session.close(RuntimeError("the engine has died"))
        await until(lambda: not client.app[PEERS] and not hub.sessions)
        await caller.close()


async def test_errors_inside_say_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (hub, client):
        hub._budget = None
        response = await client.get("/metrics")
        assert response.status == 500
        assert "log" in json.loads(await response.text())["error"]
        assert "assert" not in await response.text()
        hub._budget = None
