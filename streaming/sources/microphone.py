"""The machine's own microphone, through PortAudio (package ``sounddevice``)."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from engine.errors import AssetError, AudioError
from streaming.clock import OUT_RATE
from streaming.sources.live import LiveSource

__all__ = ["PORTAUDIO_HELP", "Microphone", "load_sounddevice"]

PORTAUDIO_HELP = (
    "install it with `apt-get install libportaudio2` (Debian, Ubuntu) or `brew install portaudio` (macOS) "
    "and `pip install 'visavis[mic]'`"
)


def load_sounddevice() -> Any:
    """The sounddevice module.

    Raises:
        AssetError: it or PortAudio is missing; the message says how to install them.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise AssetError(f"the local microphone needs the package sounddevice; {PORTAUDIO_HELP}") from error
    except OSError as error:
        raise AssetError(f"the local microphone needs the PortAudio library; {PORTAUDIO_HELP}") from error
    return sounddevice


class Microphone:
    """Feeds a :class:`LiveSource` with 10 ms blocks from an input device.

    Args:
        live: where the samples go.
        device: PortAudio's number or name of the device; None for the default one.

    Raises:
        AssetError: PortAudio is missing.
        AudioError: the device cannot be opened.
    """

    def __init__(self, live: LiveSource, device: int | str | None = None) -> None:
        sounddevice = load_sounddevice()
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._index = 0
        try:
            self._stream = sounddevice.InputStream(
                samplerate=OUT_RATE,
                channels=1,
                dtype="float32",
                blocksize=OUT_RATE // 100,
                device=device,
                callback=self._on_block,
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise AudioError(
                f"the microphone cannot be opened: {error}; choose another input device"
            ) from error

    def close(self) -> None:
        self._stream.stop()
        self._stream.close()

    def _on_block(self, block: Any, count: int, time: Any, status: Any) -> None:
        # PortAudio's own thread: the index is counted here, so that a busy event loop loses nothing.
        samples = np.array(block[:, 0], np.float32)
        self._loop.call_soon_threadsafe(self._live.push, samples, self._index)
        self._index += count
