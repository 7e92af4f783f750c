"""The HTTP side: the page, WHEP and WHIP, the page's duplex offer, PCM over WebSocket, numbers.

::

    GET    /                     the page                  POST /offer           duplex call of the page
    POST   /whep  /whip          SDP -> 201 + Location     PATCH, DELETE on that location
    GET    /ws                   raw PCM in                GET  /metrics /healthz
    GET    /api/portraits        list; POST uploads        GET  /api/portraits/{name}/thumbnail|image
    GET    /api/voices           sample voices             GET  /api/stats?session=NAME
    POST   /api/controls         live controls             POST /api/clear       barge-in
    ...    /api/engine /api/style /api/driver /ws/driver   (streaming/performance.py)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web

from engine.errors import ConfigError, InputError
from engine.types import CONTROLS
from streaming.access import access_middleware, errors_middleware, is_loopback
from streaming.hub import LIVE, VOICES, FullError, Hub
from streaming.metrics import prometheus
from streaming.peers import Peer
from streaming.performance import add_performance
from streaming.session import Session
from streaming.sockets import pcm_socket

__all__ = ["HUB", "PEERS", "ServerOptions", "create_app"]

MAX_UPLOAD = 20 * 1024 * 1024
MAX_SDP = 64 * 1024
MAX_JSON = 256 * 1024
VIEWERS = 8
"""Connections per allowed session: each one costs an encoder."""
HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)
PEERS: web.AppKey[dict[str, Peer]] = web.AppKey("peers", dict)
_PAGES = Path(__file__).parent / "web"


@dataclass(frozen=True)
class ServerOptions:
    """Where to listen and whom to trust.

    Raises:
        ConfigError: an address beyond this machine without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    ice_servers: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    """Pages of other servers that may call this one, as "https://player.example"."""

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"listening on {self.host} lets others in: add --token SECRET, or use --host 127.0.0.1"
            )


_OPTIONS: web.AppKey[ServerOptions] = web.AppKey("options", ServerOptions)


def create_app(hub: Hub, options: ServerOptions) -> web.Application:
    """The application; ``hub`` must have been started. Closing the application ends all connections."""
    app = web.Application(
        client_max_size=MAX_UPLOAD + 64 * 1024,
        middlewares=[errors_middleware, access_middleware(options.token, options.allow_origins)],
    )
    app[HUB], app[PEERS], app[_OPTIONS] = hub, {}, options
    app.on_shutdown.append(_close_peers)
    route = app.router
    for path in ("/whep", "/whip"):
        route.add_post(path, _whep if path == "/whep" else _whip)
        route.add_options(path, _accept_sdp)
        route.add_delete(path + "/{peer}", _hang_up)
        route.add_patch(path + "/{peer}", _trickle)
    route.add_post("/offer", _offer)
    route.add_get("/ws", _ws)
    route.add_get("/metrics", _metrics)
    route.add_get("/healthz", _healthz)
    route.add_get("/api/portraits", _portraits)
    route.add_post("/api/portraits", _upload)
    route.add_get("/api/portraits/{name}/{what:thumbnail|image}", _picture)
    route.add_get("/api/voices", _voices)
    route.add_get("/api/stats", _stats)
    route.add_post("/api/controls", _controls)
    route.add_post("/api/clear", _clear)
    add_performance(app, hub, _session)
    for file in sorted(_PAGES.rglob("*")):
        if file.is_file() and file.suffix != ".py":
            # Only these files, by name: no path of the request ever reaches the file system.
            route.add_get(f"/{file.relative_to(_PAGES).as_posix()}", _page(file))
    route.add_get("/", _page(_PAGES / "index.html"))
    return app


# -- calls -------------------------------------------------------------------------------------


async def _offer(request: web.Request) -> web.Response:
    """JSON {sdp, type, portrait, source: "mic" | "sample:NAME", seed, codec} -> {sdp, type, session}."""
    body = await _json(request)
    sdp, source = body.get("sdp"), body.get("source", "mic")
    if body.get("type") != "offer" or not isinstance(sdp, str) or len(sdp) > MAX_SDP:
        raise InputError('send {"type": "offer", "sdp": ...} with an SDP of at most 64 kB')
    seed = body.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**62):
        raise InputError(f"the seed must be a whole number, got {seed!r}")
    hub = request.app[HUB]
    speak = source == "mic"
    if not speak and not str(source).startswith("sample:"):
        raise InputError(f'source must be "mic" or "sample:NAME", got {source!r}')
    voice = None if speak else hub.voice(str(source).removeprefix("sample:"))
    session = await hub.create(portrait=body.get("portrait"), seed=seed)
    if voice is not None:
        await session.set_source(voice)
    answer, _ = await _connect(request, session, sdp, watch=True, speak=speak, codec=body.get("codec"))
    return web.json_response({"sdp": answer, "type": "answer", "session": session.name})


async def _whep(request: web.Request) -> web.Response:
    """A viewer of a session (``?session=``, ``?portrait=``, ``?codec=vp8|h264``)."""
    return await _sdp_exchange(request, watch=True, speak=False)


async def _whip(request: web.Request) -> web.Response:
    """A voice for a session (``?session=``, ``?portrait=``)."""
    return await _sdp_exchange(request, watch=False, speak=True)


async def _sdp_exchange(request: web.Request, *, watch: bool, speak: bool) -> web.Response:
    if request.content_type != "application/sdp":
        raise web.HTTPUnsupportedMediaType(text="send the offer as application/sdp")
    sdp = await _text(request, MAX_SDP)
    query = request.query
    session = await request.app[HUB].find_or_create(query.get("session", LIVE), query.get("portrait"))
    answer, peer = await _connect(request, session, sdp, watch=watch, speak=speak, codec=query.get("codec"))
    headers = {"Location": f"{request.path}/{peer.id}"}
    return web.Response(text=answer, status=201, content_type="application/sdp", headers=headers)


async def _connect(
    request: web.Request, session: Session, sdp: str, *, watch: bool, speak: bool, codec: str | None
) -> tuple[str, Peer]:
    hub, peers = request.app[HUB], request.app[PEERS]
    # A page's call ends with the page; a named session waits a moment for its next user.
    linger = 0.0 if (watch and speak) or request.path == "/offer" else None

    def gone(peer: Peer) -> None:
        peers.pop(peer.id, None)
        hub.release(session, linger)

    most = VIEWERS * hub.options.max_sessions
    hub.hold(session)
    if len(peers) >= most:
        hub.release(session, linger)
        raise FullError(f"all {most} connections are taken; try again later or raise --max-sessions")
    peer = Peer(session, request.app[_OPTIONS].ice_servers, gone)
    peers[peer.id] = peer
    try:
        return await peer.answer(sdp, watch=watch, speak=speak, codec=codec), peer
    except BaseException:
        await peer.close()
        raise


async def _accept_sdp(request: web.Request) -> web.Response:
    return web.Response(status=204, headers={"Accept-Post": "application/sdp", "Allow": "POST, OPTIONS"})


def _peer(request: web.Request) -> Peer:
    peer = request.app[PEERS].get(request.match_info["peer"])
    if peer is None:
        raise web.HTTPNotFound(text="no such connection; it may have ended")
    return peer


async def _hang_up(request: web.Request) -> web.Response:
    await _peer(request).close()
    return web.Response(status=200)


async def _trickle(request: web.Request) -> web.Response:
    peer = _peer(request)
    if request.content_type != "application/trickle-ice-sdpfrag":
        raise web.HTTPUnsupportedMediaType(text="send candidates as application/trickle-ice-sdpfrag")
    fragment = await _text(request, MAX_SDP)
    if "a=ice-ufrag:" in fragment and "a=candidate:" not in fragment:
        raise web.HTTPMethodNotAllowed(
            "PATCH", ["DELETE"], text="ICE restarts are not supported; connect anew"
        )
    await peer.add_candidates(fragment)
    return web.Response(status=204)


async def _close_peers(app: web.Application) -> None:
    for peer in list(app[PEERS].values()):
        await peer.close()


async def _ws(request: web.Request) -> web.WebSocketResponse:
    query, hub = request.query, request.app[HUB]
    session = await hub.find_or_create(query.get("session", LIVE), query.get("portrait"))
    hub.hold(session)
    try:
        return await pcm_socket(request, session)
    finally:
        hub.release(session)


# -- data --------------------------------------------------------------------------------------


async def _portraits(request: web.Request) -> web.Response:
    return web.json_response(request.app[HUB].portraits.listing())


async def _upload(request: web.Request) -> web.Response:
    """A photo as form field ``file``; answers its entry, or {error} saying what to do."""
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPUnsupportedMediaType(text="send the photo as multipart form data, field file")
    try:
        form = await request.post()
    except web.HTTPRequestEntityTooLarge:
        raise InputError(f"the photo is larger than {MAX_UPLOAD >> 20} MB; send a smaller one") from None
    part = form.get("file")
    if not isinstance(part, web.FileField):
        raise InputError("the form has no file; send the photo as field file")
    data = part.file.read(MAX_UPLOAD + 1)
    if len(data) > MAX_UPLOAD:
        raise InputError(f"the photo is larger than {MAX_UPLOAD >> 20} MB; send a smaller one")
    store = request.app[HUB].portraits
    entry = await store.upload(part.filename, data)
    return web.json_response(next(e for e in store.listing() if e["name"] == entry.name), status=201)


async def _picture(request: web.Request) -> web.Response:
    entry = request.app[HUB].portraits.get(request.match_info["name"])
    data = entry.thumbnail if request.match_info["what"] == "thumbnail" else entry.still
    return web.Response(body=data, content_type="image/jpeg")


async def _voices(request: web.Request) -> web.Response:
    return web.json_response([{"name": name, "title": title} for name, title in VOICES.items()])


async def _stats(request: web.Request) -> web.Response:
    return web.json_response(_session(request, request.query.get("session")).stats())


async def _controls(request: web.Request) -> web.Response:
    """JSON {session, controls: {name: value}} -> all controls; GET-like with no controls."""
    body = await _json(request)
    values = body.get("controls", {})
    if not isinstance(values, dict):
        raise InputError(f"controls must be an object of {', '.join(CONTROLS.sliders)}")
    session = _session(request, body.get("session"))
    return web.json_response({"session": session.name, "controls": session.set_controls(values)})


async def _clear(request: web.Request) -> web.Response:
    """Barge-in: JSON {session} -> {cut_ms}."""
    session = _session(request, (await _json(request)).get("session"))
    return web.json_response({"session": session.name, "cut_ms": round(session.clear(), 1)})


async def _metrics(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    process = psutil.Process()
    gauges = {
        "sessions": float(len(hub.sessions)),
        "peers": float(len(request.app[PEERS])),
        "process_resident_bytes": float(process.memory_info().rss),
        "process_cpu_seconds": float(sum(process.cpu_times()[:2])),
        "budget_milliseconds": hub.budget.total_ms,
        "budget_smallest_milliseconds": float(hub.budget.smallest_ms),
    }
    text = prometheus({name: s.metrics for name, s in hub.sessions.items()}, gauges)
    return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})


async def _healthz(request: web.Request) -> web.Response:
    sessions = len(request.app[HUB].sessions)
    return web.json_response({"status": "ok", "sessions": sessions, "time": round(time.time(), 3)})


# -- helpers -----------------------------------------------------------------------------------


def _session(request: web.Request, name: object) -> Session:
    session = request.app[HUB].sessions.get(LIVE if name is None else str(name))
    if session is None:
        raise web.HTTPNotFound(text=f"no session {name or LIVE!r}; it may have ended")
    return session


async def _text(request: web.Request, limit: int) -> str:
    data = await request.content.read(limit + 1)
    while len(data) <= limit and not request.content.at_eof():
        data += await request.content.read(limit + 1 - len(data))
    if len(data) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(data), text=f"the body exceeds {limit >> 10} kB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError("the body is not UTF-8 text") from None


async def _json(request: web.Request) -> dict[str, Any]:
    body = json.loads(await _text(request, MAX_JSON))
    if not isinstance(body, dict):
        raise InputError("the body must be a JSON object")
    return body


def _page(file: Path) -> Any:
    async def serve(request: web.Request) -> web.FileResponse:
        return web.FileResponse(file, headers={"Cache-Control": "no-cache"})

    return serve
