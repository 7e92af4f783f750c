"""HTTP routes for the performance: what the recipe can do, style clips, driving clips and webcams.

::

    GET    /api/engine                  {recipe, style, actions, sliders, emotions}
    POST   /api/style                   form: session, file (a video) -> its style code is in force
    POST   /api/driver                  form: session, factors ("pose,eyes"), file (a video)
    DELETE /api/driver?session=NAME     nobody drives any factor
    GET    /ws/driver?session=&factors= webcam: one JPEG per binary message
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from aiohttp import WSMsgType, web
from numpy.typing import NDArray

from engine.errors import InputError
from engine.types import CONTROLS, EMOTIONS, FACTORS
from streaming.drivers import ClipDriver, WebcamDriver
from streaming.hub import Hub
from streaming.references import LONGEST_S, acts, style_controls, style_of, takes_style
from streaming.session import Session

__all__ = ["add_performance"]

MAX_PICTURE = 1 << 20
_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".m4v"}


class _Routes:
    """The handlers; ``find`` gives the session of a name."""

    def __init__(self, hub: Hub, find: Callable[[web.Request, object], Session]) -> None:
        self._hub = hub
        self._find = find
        # One clip at a time, in a process of its own: tracking takes a core, and a thread would take the
        # interpreter from the engine.
        self._tracker: ProcessPoolExecutor | None = None

    async def close(self, app: web.Application) -> None:
        if self._tracker is not None:
            self._tracker.shutdown(wait=False, cancel_futures=True)

    async def _track(self, path: Path) -> int:
        """Follow the face in a clip and remember its motion; returns the number of frames looked at."""
        if self._tracker is None:
            spawn = multiprocessing.get_context("spawn")
            self._tracker = ProcessPoolExecutor(1, mp_context=spawn, initializer=_behave)
        frames = LONGEST_S * int(self._hub.pipeline.frame_rate)
        await asyncio.get_running_loop().run_in_executor(self._tracker, _remember, path, frames)
        return frames

    async def engine(self, request: web.Request) -> web.Response:
        pipeline = self._hub.pipeline
        ranges = zip(CONTROLS.names, CONTROLS.neutral, CONTROLS.low, CONTROLS.high, strict=True)
        sliders = [
            {"name": name, "neutral": neutral, "low": low, "high": high}
            for name, neutral, low, high in ranges
            if name in CONTROLS.sliders
        ]
        return web.json_response(
            {
                "recipe": pipeline.name,
                "style": takes_style(pipeline),
                "actions": acts(pipeline),
                "emotions": list(EMOTIONS),
                "sliders": sliders,
            }
        )

    async def style(self, request: web.Request) -> web.Response:
        form = await _form(request)
        session = self._find(request, form.get("session"))
        clip = _clip_of(form)
        with tempfile.TemporaryDirectory() as folder:
            path = _save(clip, Path(folder))
            if takes_style(self._hub.pipeline):
                await self._track(path)
            code = await asyncio.to_thread(style_of, self._hub.pipeline, path)
        session.set_controls(style_controls(code))
        return web.json_response({"session": session.name, "message": f"Style of {clip.filename}"})

    async def drive(self, request: web.Request) -> web.Response:
        form = await _form(request)
        session = self._find(request, form.get("session"))
        factors = _factors(form.get("factors"))
        clip = _clip_of(form)
        with tempfile.TemporaryDirectory() as folder:
            path = _save(clip, Path(folder))
            driver = await asyncio.to_thread(ClipDriver.open, path, await self._track(path))
        for factor in factors:
            session.set_driver(factor, driver)
        seconds = len(driver) / float(self._hub.pipeline.frame_rate)
        message = f"{clip.filename}, {seconds:.1f} s, drives {' and '.join(factors)}"
        return web.json_response({"session": session.name, "message": message})

    async def release(self, request: web.Request) -> web.Response:
        session = self._find(request, request.query.get("session"))
        for factor in FACTORS:
            session.set_driver(factor, None)
        return web.json_response({"session": session.name})

    async def webcam(self, request: web.Request) -> web.WebSocketResponse:
        session = self._find(request, request.query.get("session"))
        factors = _factors(request.query.get("factors"))
        driver = WebcamDriver(tracker=request.query.get("tracker", "fitter"))
        socket = web.WebSocketResponse(max_msg_size=MAX_PICTURE)
        await socket.prepare(request)
        for factor in factors:
            session.set_driver(factor, driver)
        await socket.send_str("Look straight ahead with a calm face for a second")
        try:
            await self._watch(socket, driver, " and ".join(factors))
        finally:
            for factor in factors:
                if session.drivers.source(factor) is driver:
                    session.set_driver(factor, None)
            driver.close()
        return socket

    async def _watch(self, socket: web.WebSocketResponse, driver: WebcamDriver, what: str) -> None:
        told = False
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            picture = await asyncio.to_thread(_decode, message.data)
            if picture is None:
                await socket.close(code=1003, message=b"send JPEG pictures")
                return
            if driver.error is not None:
                await socket.close(code=1011, message=str(driver.error).encode()[:120])
                return
            driver.put(picture)
            if driver.ready and not told:
                told = True
                await socket.send_str(f"Your face drives {what}")


def _behave() -> None:
    """The tracking process gives way to the engine."""
    os.nice(10)
    torch.set_num_threads(1)


def _remember(path: Path, frames: int) -> None:
    ClipDriver.open(path, frames)


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else np.ascontiguousarray(picture[..., ::-1])


async def _form(request: web.Request) -> dict[str, object]:
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPUnsupportedMediaType(text="send the video as multipart form data, field file")
    try:
        return dict(await request.post())
    except web.HTTPRequestEntityTooLarge:
        raise InputError("the video is too large; send a shorter or smaller one (20 MB at most)") from None


def _clip_of(form: dict[str, object]) -> web.FileField:
    part = form.get("file")
    if not isinstance(part, web.FileField):
        raise InputError("the form has no file; send the video as field file")
    return part


def _save(part: web.FileField, folder: Path) -> Path:
    """Under a name of our own: what the client calls the file never reaches the file system."""
    suffix = Path(part.filename).suffix.lower()
    path = folder / f"clip{suffix if suffix in _SUFFIXES else '.mp4'}"
    path.write_bytes(part.file.read())
    return path


def _factors(text: object) -> list[str]:
    factors = [f for f in str(text or "").split(",") if f]
    wrong = [f for f in factors if f not in FACTORS]
    if wrong or not factors:
        raise InputError(f"choose what the video drives: factors is a list of {', '.join(FACTORS)}")
    return factors


def add_performance(app: web.Application, hub: Hub, find: Callable[[web.Request, object], Session]) -> None:
    """Add the routes to ``app``; ``find`` gives the session of a name or raises HTTPNotFound."""
    routes = _Routes(hub, find)
    app.on_cleanup.append(routes.close)
    app.router.add_get("/api/engine", routes.engine)
    app.router.add_post("/api/style", routes.style)
    app.router.add_post("/api/driver", routes.drive)
    app.router.add_delete("/api/driver", routes.release)
    app.router.add_get("/ws/driver", routes.webcam)
