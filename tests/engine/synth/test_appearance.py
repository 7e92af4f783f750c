"""Changes of appearance: each changes what it should and spares what it should."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import asset_path
from engine.errors import ImageError, InputError
from engine.face.image import Picture, load_image
from engine.face.landmarks import find_faces
from engine.face.portrait import Portrait, analyse_portrait
from engine.synth.appearance import STYLES, relight, restyled, skin_tone, style_filter
from engine.synth.appearance_hair import HairDonor, donors_of, hair_colour, hair_swap
from engine.synth.appearance_masks import OVAL, Sitter, polygon, sitter_of
from engine.synth.shards import ShardWriter
from engine.synth.wardrobe import glasses, put_on, wears_glasses

Bytes = NDArray[np.uint8]
Float = NDArray[np.float32]


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return analyse_portrait(load_image(asset_path("demo/astronaut.png")))


@pytest.fixture(scope="module")
def sitter(portrait: Portrait) -> Sitter:
    return sitter_of(portrait)


@pytest.fixture(scope="module")
def rgb(portrait: Portrait) -> Bytes:
    return portrait.picture.rgb


def lab(rgb: Bytes) -> Float:
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def moved(before: Bytes, after: Bytes) -> Float:
    """Largest change of each px over its channels."""
    return np.asarray(np.abs(after.astype(np.float32) - before).max(-1), np.float32)


def test_masks_find_face_hair_and_eyes(sitter: Sitter) -> None:
    face = polygon(sitter.skin.shape, sitter.points[list(OVAL)]) > 0.9
    p = sitter.points
    cheek, above = p[[50, 280]].astype(int), (p[10] + 0.28 * (p[10] - p[152])).astype(int)
    assert (sitter.skin[cheek[:, 1], cheek[:, 0]] > 0.9).all()
    assert sitter.hair[above[1], above[0]] > 0.8
    assert sitter.skin[above[1], above[0]] < 0.2
    assert sitter.hair[face].mean() < 0.2 < 0.75 < sitter.skin[face].mean()
    for iris in p[[468, 473]].astype(int):
        assert sitter.eyes[iris[1], iris[0]] == 1.0
        assert sitter.skin[iris[1], iris[0]] == 0.0
    assert sitter.skin[:40, :40].max() < 0.05
    assert sitter.hair[:40, :40].max() < 0.05


def test_skin_tone_moves_skin_and_spares_eyes_mouth_and_hair(rgb: Bytes, sitter: Sitter) -> None:
    for tone, sign in ((1.0, -1.0), (0.0, 1.0)):
        out = skin_tone(rgb, sitter, rng(1), tone)
        assert out.dtype == np.uint8
        assert out.shape == rgb.shape
        change = moved(rgb, out)
        assert (change[sitter.eyes == 1.0] == 0).all()
        assert (change[sitter.mouth == 1.0] == 0).all()
        assert change[sitter.hair > 0.95].mean() < 3.0
        step = (lab(out) - lab(rgb))[sitter.skin > 0.9][:, 0].mean() * sign
        assert step > (10.0 if tone else 0.5)
    grey = np.repeat(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, 2)
    dark = skin_tone(grey, sitter, rng(2), 1.0)
    assert np.ptp(dark.astype(int), axis=-1).max() <= 2  # a grey picture stays grey


def test_relight_lights_one_side_more(rgb: Bytes, sitter: Sitter) -> None:
    u, _ = sitter.frame.coordinates(*np.meshgrid(*(np.arange(n, dtype=np.float32) for n in rgb.shape[1::-1])))
    left, right = ((sitter.skin > 0.9) & (u * side > 0.15) for side in (-1, 1))
    balance = []
    for seed in range(6):
        out = relight(rgb, sitter, rng(seed))
        assert out.dtype == np.uint8
        assert out.shape == rgb.shape
        light = lab(out)[..., 0] - lab(rgb)[..., 0]
        balance.append(float(light[left].mean() - light[right].mean()))
        assert lab(out)[sitter.skin > 0.9][:, 0].mean() > 25.0
    assert max(balance) > 5.0
    assert min(balance) < -5.0


def test_glasses_lie_on_the_eyes_and_change_nothing_else(rgb: Bytes, sitter: Sitter) -> None:
    for seed in range(3):
        out = glasses(rgb, sitter, rng(seed))
        change = moved(rgb, out)
        x, y = (np.flatnonzero(change.max(axis)) for axis in (0, 1))
        p, width = sitter.points, sitter.frame.width
        assert change.max() > 60.0
        assert p[10, 1] < y.min() < p[159, 1] < p[145, 1] < y.max() < p[0, 1]
        assert x.min() < p[33, 0] - 0.05 * width
        assert x.max() > p[263, 0] + 0.05 * width
        assert p[234, 0] - 0.3 * width < x.min()
        assert x.max() < p[454, 0] + 0.3 * width
    assert not wears_glasses(rgb, sitter)


def test_worn_glasses_turn_with_the_head(rgb: Bytes, portrait: Portrait, sitter: Sitter) -> None:
    worn = put_on(sitter, rng(3))
    fit = portrait.fit
    turn = cv2.Rodrigues(np.array([0.0, 0.35, 0.0]))[0].astype(np.float32)
    turned = replace(fit, rotation=turn @ fit.rotation)
    places = []
    for pose in (fit, turned):
        mesh = np.ascontiguousarray(pose.project(pose.vertices()))
        change = moved(portrait.crop, worn.draw(portrait.crop, pose, mesh)) > 20
        assert change.sum() > 300
        places.append(np.argwhere(change)[:, 1].mean())
    assert places[1] > places[0] + 5.0  # to image right, as the nose


def test_glasses_follow_the_light_of_a_changed_photo(rgb: Bytes, sitter: Sitter) -> None:
    dark = (rgb * 0.4).astype(np.uint8)
    grey = np.repeat(dark.mean(-1, keepdims=True), 3, 2).astype(np.uint8)
    worn = put_on(sitter, rng(4)).in_light(rgb, grey, sitter)
    assert 0.3 < worn.gain < 0.5
    assert worn.saturation < 0.05


def test_hair_colour_moves_hair_only(rgb: Bytes, sitter: Sitter) -> None:
    out = hair_colour(rgb, sitter, rng(5), np.array([30.0, 25.0, 25.0], np.float32))
    sure = sitter.hair > 0.9
    assert lab(out)[sure][:, 1].mean() > lab(rgb)[sure][:, 1].mean() + 10.0
    change = moved(rgb, out)
    assert (change[sitter.hair < 1e-3] == 0).all()
    assert (change[sitter.eyes == 1.0] == 0).all()


def donor(sitter: Sitter, rgb: Bytes) -> HairDonor:
    """The sitter's own head, half as large, with blue hair."""
    small = tuple(n // 2 for n in rgb.shape[1::-1])
    mask = cv2.resize(sitter.hair, small, interpolation=cv2.INTER_AREA) > 0.5
    picture = np.full((*mask.shape, 3), 90, np.uint8)
    picture[mask] = (30, 40, 160)
    return HairDonor(picture, mask, np.asarray((sitter.points + 0.5) / 2 - 0.5, np.float32))


def test_hair_swap_lays_the_donors_hair_on_the_own(rgb: Bytes, sitter: Sitter) -> None:
    out = hair_swap(rgb, sitter, rng(6), [donor(sitter, rgb)])
    sure = sitter.hair > 0.95
    assert np.abs(np.median(out[sure], 0) - [30, 40, 160]).max() < 12
    assert (moved(rgb, out)[sitter.eyes == 1.0] == 0).all()
    cheeks = sitter.points[[50, 280]].astype(int)
    assert moved(rgb, out)[cheeks[:, 1], cheeks[:, 0]].max() < 4
    with pytest.raises(InputError, match="donors"):
        hair_swap(rgb, sitter, rng(6), [])


def test_donors_come_from_shards(tmp_path, rgb: Bytes, sitter: Sitter) -> None:  # type: ignore[no-untyped-def]
    one = donor(sitter, rgb)
    writer = ShardWriter(tmp_path, rows=2, meta={"labels": ["background", "hair"]})
    writer.add({
        "frames": np.stack([one.rgb, one.rgb]), "labels": np.stack([one.hair, one.hair]).astype(np.uint8),
        "landmarks": np.stack([one.points, one.points]), "frame": np.array([0, 1], np.int32),
    })  # fmt: skip
    writer.close()
    found = donors_of(tmp_path)
    assert len(found) == 1
    assert (found[0].hair == one.hair).all()
    with pytest.raises(InputError, match="hair"):
        donors_of(tmp_path, most=0)


@pytest.mark.parametrize("style", STYLES)
def test_style_changes_the_picture_and_keeps_its_shape(rgb: Bytes, style: str) -> None:
    out = style_filter(rgb, style, rng(7))
    assert out.dtype == np.uint8
    assert out.shape == rgb.shape
    assert moved(rgb, out).mean() > 1.5
    if style in ("mono", "sketch"):
        assert np.ptp(out.astype(int), axis=-1).mean() < 15
    large = style_filter(cv2.resize(rgb, None, fx=1.5, fy=1.4), style, rng(7), scale=1.45)  # type: ignore[arg-type]
    assert large.shape == (round(512 * 1.4), round(512 * 1.5), 3)


def test_unknown_style_and_foreign_picture_are_refused(portrait: Portrait) -> None:
    with pytest.raises(InputError, match="unknown style"):
        style_filter(portrait.picture.rgb, "cubist", rng(0))
    with pytest.raises(ImageError, match="portrait was made from"):
        restyled(Picture(np.zeros((64, 64, 3), np.uint8)), portrait, rng(0))


def test_restyled_is_determined_by_its_seed(portrait: Portrait) -> None:
    before = portrait.picture.rgb.copy()
    a, b, c = (restyled(portrait.picture, portrait, rng(s)) for s in (11, 11, 12))
    assert (a.rgb == b.rgb).all()
    assert (a.rgb != c.rgb).any()
    assert (portrait.picture.rgb == before).all()
    assert a.source == portrait.picture.source
    assert a.sha256 == ""


def test_the_detector_finds_the_same_face_in_most_variants(portrait: Portrait, sitter: Sitter) -> None:
    near = 0
    for seed in range(5):
        changed = restyled(portrait.picture, portrait, rng(20, seed))
        assert (changed.rgb != portrait.picture.rgb).any()
        faces = find_faces(changed.rgb)
        if faces:
            away = np.linalg.norm(faces[0].points - sitter.points, axis=1).mean()
            near += away < 0.03 * sitter.frame.width
    assert near >= 4
