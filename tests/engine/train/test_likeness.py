"""The tracker as a loss: nothing between equal pictures, more the further they are apart, and a way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from engine.animators.gohd.region import region_of, region_side
from engine.config import asset_path
from engine.errors import ConfigError
from engine.face.landmarks import find_faces
from engine.train import animator
from engine.train.likeness import Likeness


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    return Likeness.shipped()


@pytest.fixture(scope="module")
def face() -> Tensor:
    """The bundled portrait's face region, [1, 3, 256, 256]."""
    loaded = cv2.imread(str(asset_path("demo/astronaut.png")), cv2.IMREAD_COLOR)
    assert loaded is not None
    rgb = np.ascontiguousarray(loaded[..., ::-1], np.uint8)
    points = find_faces(rgb)[0].points
    cut = region_of(points, region_side(points)).cut(rgb, 256)
    return torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255.0


def lower_lip_down(face: Tensor, px: int) -> Tensor:
    """The lower third of the face, mouth and chin, further down."""
    moved = face.clone()
    moved[..., 160 + px :, :] = face[..., 160 : 256 - px, :]
    return moved


def test_equal_pictures_are_alike_and_changed_ones_ever_less(likeness: Likeness, face: Tensor) -> None:
    same, little, much = (
        {k: float(v) for k, v in likeness(made, face).items()}
        for made in (face, lower_lip_down(face, 2), lower_lip_down(face, 6))
    )
    assert set(same) == {"features", "landmarks", "units"}
    for name in ("features", "landmarks"):
        assert same[name] == 0.0
        assert 0.0 < little[name] < much[name]
    assert much["landmarks"] > 0.005  # mean of all lips and lids, of which the lower lip has moved


def test_the_picture_learns_and_the_tracker_does_not(likeness: Likeness, face: Tensor) -> None:
    made = lower_lip_down(face, 4).requires_grad_()
    sum(likeness(made, face).values(), torch.zeros(())).backward()
    assert made.grad is not None
    assert torch.isfinite(made.grad).all()
    assert float(made.grad[..., 150:220, 80:180].abs().mean()) > 0
    assert all(p.grad is None and not p.requires_grad for p in likeness.parameters())


def test_a_tracker_needs_the_whole_face() -> None:
    parser = animator._parser()
    args = parser.parse_args(["--heads", "a", "--dev", "b", "--likeness", "--crop", "160"])
    with pytest.raises(ConfigError, match="--crop 256"):
        animator.likeness_of(args, 256)
