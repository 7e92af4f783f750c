"""The server's own session: this machine's microphone or a file as its voice, a recording as its sink."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from streaming.hub import LIVE, Hub
from streaming.session import Session
from streaming.sinks.mp4 import Mp4Sink
from streaming.sources.file import FileSource
from streaming.sources.microphone import Microphone

__all__ = ["LocalOptions", "local_session"]


@dataclass(frozen=True)
class LocalOptions:
    """``microphone``: a device's name or number, "" for the default one, None for none."""

    play: Path | None = None
    microphone: str | None = None
    record: Path | None = None

    @property
    def wanted(self) -> bool:
        return self.play is not None or self.microphone is not None or self.record is not None


@asynccontextmanager
async def local_session(hub: Hub, options: LocalOptions) -> AsyncIterator[Session | None]:
    """Run session ``live`` with what ``options`` name; None if they name nothing.

    Raises:
        AudioError: the file cannot be decoded, or the device cannot be opened.
        AssetError: PortAudio is missing.
        InputError: the recording cannot be written.
    """
    if not options.wanted:
        yield None
        return
    session = await hub.create(LIVE)
    hub.hold(session)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(session.close)
        if options.record is not None:
            session.add_sink(Mp4Sink(options.record, session.frame_rate, session.options.matrix))
        if options.play is not None:
            await session.set_source(FileSource(options.play, loop=True))
        session.start()
        if options.microphone is not None:
            live = session.live_source("microphone")
            await session.set_source(live)
            name = options.microphone
            device = int(name) if name.isdigit() else (name or None)
            stack.callback(Microphone(live, device).close)
        yield session
