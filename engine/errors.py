"""Every error that visavis raises on purpose.

::

    VisavisError
    ├── InputError            what the caller gave cannot be used (message says what to do)
    │   ├── ImageError        not an image, truncated, too large to decode
    │   ├── FaceError         no face, several faces, too small, turned too far
    │   ├── AudioError        not decodable, no audio track, unsupported rate
    │   └── AvatarError       an .avatar package that is damaged or of another version
    ├── ConfigError           options that contradict each other or the recipe
    │   └── BudgetError       a latency budget that cannot be met (carries the smallest that can)
    ├── AssetError            weights or model files missing, damaged or of another version
    ├── BackendError          a named runtime or kernel body that cannot run here
    └── StreamError           a broken stream: gap in the time line, closed channel, dead peer

An error has an address where that helps: the stage and the frame at which it happened.
``assert`` is for our own bugs, these are for the world.
"""

from __future__ import annotations

__all__ = [
    "AssetError",
    "AudioError",
    "AvatarError",
    "BackendError",
    "BudgetError",
    "ConfigError",
    "FaceError",
    "ImageError",
    "InputError",
    "StreamError",
    "VisavisError",
]


class VisavisError(Exception):
    """Base of all errors; ``stage`` and ``frame`` say where a running stream broke."""

    def __init__(self, message: str, *, stage: str | None = None, frame: int | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.frame = frame

    def __str__(self) -> str:
        text = super().__str__()
        address = [f"stage {self.stage}"] if self.stage is not None else []
        if self.frame is not None:
            address.append(f"frame {self.frame}")
        return f"{text} ({', '.join(address)})" if address else text


class InputError(VisavisError):
    """What the caller gave cannot be used."""


class ImageError(InputError):
    """The file is not an image that can be decoded safely."""


class FaceError(InputError):
    """The image has no face that can be animated, or more than one and none was chosen."""


class AudioError(InputError):
    """The audio cannot be decoded or has no usable track."""


class AvatarError(InputError):
    """The avatar package is damaged or was written by another version."""


class ConfigError(VisavisError):
    """Options that contradict each other or the recipe."""


class BudgetError(ConfigError):
    """The latency budget cannot be met; ``smallest_ms`` is the smallest one that can."""

    def __init__(self, message: str, smallest_ms: int) -> None:
        super().__init__(message)
        self.smallest_ms = smallest_ms


class AssetError(VisavisError):
    """Weights or model files are missing, damaged or of another version."""


class BackendError(VisavisError):
    """A named runtime or kernel body cannot run on this machine; the message says why."""


class StreamError(VisavisError):
    """A stream broke: a gap in the time line, a closed channel, a dead peer."""
