"""Two threads draw what one draws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pytest
import torch

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.sharing import in_bands, start
from engine.animators.mesh.sheet import moved
from engine.config import asset_path
from engine.errors import AssetError
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.types import Cond, MotionChunk


@lru_cache
def helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


@pytest.mark.parametrize("cut", [None, 0, 3, 10])
@pytest.mark.parametrize("alone", [True, False])
def test_bands_cover_every_row_once(cut: int | None, alone: bool) -> None:
    seen = np.zeros(10, int)

    def work(first: int, stop: int) -> None:
        seen[first:stop] += 1

    in_bands(None if alone else helper(), work, 10, cut)
    assert np.array_equal(seen, np.ones(10, int))


def test_an_error_on_the_helper_reaches_the_caller() -> None:
    def broken() -> None:
        raise ValueError("of the helper")

    with pytest.raises(ValueError, match="of the helper"):
        start(helper(), broken)()


@pytest.mark.parametrize("tier", [0, 1])
def test_pictures_do_not_depend_on_who_drew_them(tier: int) -> None:
    animator = MeshAnimator()
    try:
        face = animator.prepare(analyse_portrait(load_image(asset_path("demo/astronaut.png"))))
    except AssetError as error:
        pytest.skip(str(error))
    motion = np.stack(
        [moved(face.rest, {"jawOpen": 0.6, "eyeBlinkLeft": v, "mouthSmile": v}) for v in (0.1, 0.7)]
    )
    pictures = []
    for one in (None, helper()):
        state = animator.init_state(1, Cond.for_identity(face))
        state.tier, state.helper = tier, one
        pictures.append(animator.step(MotionChunk(0, torch.from_numpy(motion)[None]), state).data)
    assert torch.equal(*pictures)
