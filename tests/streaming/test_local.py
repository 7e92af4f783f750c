from __future__ import annotations

import asyncio
import ctypes.util
import dataclasses
from pathlib import Path

import av
import pytest

from engine.config import asset_path
from engine.errors import AssetError, AudioError
from streaming.hub import Hub, HubOptions
from streaming.local import LocalOptions, local_session

OPTIONS = HubOptions(recipe="tiny", budget_ms=600.0)
VOICE = asset_path("demo/voice_b.wav")


async def test_a_file_is_spoken_and_recorded(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    hub = Hub(OPTIONS)
    await hub.start()
    async with local_session(hub, LocalOptions(play=VOICE, record=out)) as session:
        assert session is not None
        assert session.source.name == VOICE.name
        await asyncio.sleep(1.5)
    assert not hub.sessions
    await hub.close()
    with av.open(str(out)) as file:
        assert file.streams.video[0].frames > 10


async def test_what_cannot_be_opened_leaves_no_session() -> None:
    hub = Hub(OPTIONS)
    await hub.start()
    with pytest.raises(AudioError):
        async with local_session(hub, LocalOptions(play=Path("missing.wav"))):
            pass
    await asyncio.sleep(0)
    assert not hub.sessions
    await hub.close()


@pytest.mark.skipif(ctypes.util.find_library("portaudio") is not None, reason="PortAudio is installed here")
async def test_a_microphone_without_portaudio_says_how_to_get_it() -> None:
    hub = Hub(OPTIONS)
    await hub.start()
    with pytest.raises(AssetError, match="libportaudio2"):
        async with local_session(hub, LocalOptions(microphone="")):
            pass
    await hub.close()


async def test_nothing_wanted_is_no_session() -> None:
    hub = Hub(dataclasses.replace(OPTIONS, max_sessions=1))
    await hub.start()
    async with local_session(hub, LocalOptions()) as session:
        assert session is None
    await hub.close()
