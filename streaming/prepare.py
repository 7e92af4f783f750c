"""``visavis prepare``: a photo analysed once, saved with all that a session needs of it."""

from __future__ import annotations

import datetime
import importlib.metadata
from pathlib import Path

from engine.errors import ConfigError
from engine.recipes import build, prepare_identity

__all__ = ["prepare_avatar"]


def prepare_avatar(photo: Path, out: Path, face: int | None, consent: str, recipe: str) -> str:
    """Write ``out`` from ``photo``; returns one line about it.

    Raises:
        InputError: no usable face in the photo, or ``out`` cannot be written.
        ConfigError: ``out`` is not named .avatar, or the recipe needs no portrait.
    """
    from engine.face.avatar import Avatar, AvatarInfo, save_avatar
    from engine.face.image import load_image
    from engine.face.portrait import analyse_portrait

    if out.suffix != ".avatar":
        raise ConfigError(f"the output must be named .avatar, got {out.name}")
    pipeline = build(recipe)
    if pipeline.animator is None or not getattr(pipeline.animator, "needs_portrait", True):
        raise ConfigError(f"recipe {recipe} draws a face of its own; prepare needs one that animates a photo")
    picture = load_image(photo)
    portrait = analyse_portrait(picture, face)
    identity = prepare_identity(pipeline, portrait)
    info = AvatarInfo.of(
        picture,
        visavis=importlib.metadata.version("visavis"),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        animator=pipeline.animator.spec.name,
        consent=consent,
    )
    save_avatar(out, Avatar(portrait, identity.to_arrays(), info))
    return f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB, fitted within {portrait.fit.error_percent:.2f} %"
