"""Raw PCM over a WebSocket: binary messages are audio, text messages are JSON commands.

Query: ``rate`` 16000 | 24000 | 48000, ``format`` s16 | f32, ``pace`` buffer | live.

* ``buffer`` (default): audio may come faster than real time (text-to-speech); it is played at its own
  pace, and once a minute of it waits the socket is read no faster than it plays (a "clear" behind more
  audio than that is seen late: POST /api/clear is not).
* ``live``: audio comes as it is spoken; jitter is settled and delay never grows.

In:  {"type": "clear"}  {"type": "end"}  {"type": "controls", "controls": {...}}
Out: {"type": "ready", "session", "budget_ms"}  {"type": "cleared", "cut_ms"}  {"type": "error", "error"}
     {"type": "finished", "position_s", "interrupted"}: exactly one per segment, a segment being the
     audio up to an "end", or up to a "clear".
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from aiohttp import WSMsgType, web

from engine.errors import InputError, StreamError, VisavisError
from streaming.clock import OUT_RATE
from streaming.session import Session
from streaming.sources.base import BufferedSource
from streaming.sources.live import LiveSource
from streaming.sources.pcm import PcmReader

__all__ = ["pcm_socket"]

MAX_MESSAGE = 1 << 20


class _Segments:
    """Keeps account of how far each segment has been played."""

    def __init__(self) -> None:
        self.written = 0
        self._start = 0
        self._ends: deque[tuple[int, int]] = deque()

    def end(self) -> None:
        if self.written > self._start:
            self._ends.append((self._start, self.written))
            self._start = self.written

    def finished(self, played: int) -> list[float]:
        """Lengths in s of the segments that have been played to their end since the last call."""
        lengths = []
        while self._ends and played >= self._ends[0][1]:
            start, end = self._ends.popleft()
            lengths.append((end - start) / OUT_RATE)
        return lengths

    def interrupt(self, played: int) -> list[float]:
        """Positions in s that the unfinished segments had reached; all are over now."""
        self.end()
        positions = [max(0, played - start) / OUT_RATE for start, _ in self._ends]
        self._ends.clear()
        # What was forgotten counts as passed, so that the next segment starts from here.
        self.written = self._start = played
        return positions


class _PcmSocket:
    def __init__(self, socket: web.WebSocketResponse, session: Session, query: Any) -> None:
        try:
            rate = int(query.get("rate", "16000"))
        except ValueError:
            raise InputError(f"rate must be a number, got {query.get('rate')!r}") from None
        pace = query.get("pace", "buffer")
        if pace not in ("buffer", "live"):
            raise InputError(f"pace must be buffer or live, got {pace!r}")
        self._socket = socket
        self._session = session
        self._reader = PcmReader(rate, query.get("format", "s16"))
        self.source: BufferedSource | LiveSource = (
            BufferedSource("pcm", seconds=60.0) if pace == "buffer" else session.live_source("pcm live")
        )
        self._segments = _Segments()
        self._clears = 0

    async def run(self) -> None:
        """Until the client leaves or the session ends."""
        session = self._session
        await session.set_source(self.source)
        session.start()
        await self._send(type="ready", session=session.name, budget_ms=session.options.budget.total_ms)
        reports = asyncio.create_task(self._report())
        try:
            async for message in self._socket:
                if message.type == WSMsgType.BINARY:
                    await self._audio(message.data)
                elif message.type == WSMsgType.TEXT:
                    await self._command(message.data)
        except StreamError:
            pass  # another source has taken over, or the session has ended and says why itself
        finally:
            reports.cancel()
            if session.source is self.source and not session.closed.is_set():
                await session.silence()

    async def _audio(self, data: bytes) -> None:
        samples = self._reader(data)
        if isinstance(self.source, BufferedSource):
            await self.source.write(samples)
            self._segments.written += samples.size
        else:
            self.source.push(samples)

    async def _command(self, text: str) -> None:
        try:
            command = json.loads(text)
            kind = command.get("type") if isinstance(command, dict) else None
            if kind == "clear":
                await self._clear()
            elif kind == "end":
                await self._end()
            elif kind == "controls":
                values = self._session.set_controls(command.get("controls", {}))
                await self._send(type="controls", controls=values)
            else:
                raise InputError(f"unknown command {kind!r}; send clear, end or controls")
        except (json.JSONDecodeError, VisavisError) as error:
            await self._send(type="error", error=str(error))

    async def _clear(self) -> None:
        cut = self._session.clear()
        await self._report_interrupted()
        await self._send(type="cleared", cut_ms=round(cut, 1))

    async def _end(self) -> None:
        await self._audio_tail()
        self._segments.end()

    async def _audio_tail(self) -> None:
        tail = self._reader.flush()
        if isinstance(self.source, BufferedSource):
            await self.source.write(tail)
            self._segments.written += tail.size

    async def _report(self) -> None:
        """Tell about finished segments once their last sample has left, D after it was taken."""
        delay = self._session.options.budget.total_ms / 1000
        while isinstance(self.source, BufferedSource):
            await self._report_interrupted()
            for length in self._segments.finished(self.source.played):
                await asyncio.sleep(delay)
                await self._send(type="finished", position_s=round(length, 3), interrupted=False)
            await asyncio.sleep(0.02)

    async def _report_interrupted(self) -> None:
        """Tell about segments that a barge-in ended, whoever asked for it."""
        if isinstance(self.source, BufferedSource) and self.source.clears != self._clears:
            self._clears = self.source.clears
            for position in self._segments.interrupt(self.source.played):
                await self._send(type="finished", position_s=round(position, 3), interrupted=True)

    async def _send(self, **message: object) -> None:
        if not self._socket.closed:
            await self._socket.send_json(message)


async def pcm_socket(request: web.Request, session: Session) -> web.WebSocketResponse:
    """Serve one WebSocket until it closes; it is the session's voice meanwhile."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=10.0)
    handler = _PcmSocket(socket, session, request.query)
    await socket.prepare(request)

    async def end_with_session() -> None:
        await session.closed.wait()
        await socket.close(message=b"the session has ended")

    watch = asyncio.create_task(end_with_session())
    try:
        await handler.run()
    finally:
        watch.cancel()
    return socket
