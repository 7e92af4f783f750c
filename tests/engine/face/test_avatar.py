"""Avatar packages: round trip, atomic writing, damage and versions."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AvatarError
from engine.face.avatar import FORMAT_VERSION, Avatar, AvatarInfo, load_avatar, save_avatar
from engine.face.basis import load_basis
from engine.face.fitter import FaceFit
from engine.face.image import Picture
from engine.face.landmarks import Landmarks
from engine.face.portrait import Portrait


def avatar(alpha: bool = True) -> Avatar:
    rng = np.random.default_rng(0)

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 255, shape, np.uint8)

    def real(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    fit = FaceFit(
        identity=real(80),
        expression=real(64),
        rotation=real(3, 3),
        translation=real(3),
        focal=1450.25,
        centre=real(2),
        gaze=real(2),
        correction=real(*load_basis().mean.shape),
        error_percent=0.7,
        spread_error_percent=0.1,
    )
    picture = Picture(pixels(90, 70, 3), pixels(90, 70) if alpha else None, "me.jpg", (700, 900), "ab" * 32)
    portrait = Portrait(
        crop=pixels(512, 512, 3),
        crop_alpha=pixels(512, 512) if alpha else None,
        crop_from_image=rng.normal(size=(2, 3)),
        landmarks=Landmarks(real(478, 2), real(478), 0.97),
        fit=fit,
        picture=picture,
    )
    layers = {
        "version": np.array([1], np.int32),
        "layer.mouth.texture": pixels(8, 8, 4),
        "strided": real(6, 4).T,
        "scalar": np.array(2.5),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }
    info = AvatarInfo.of(
        picture, visavis="0.1", created="2026-01-02T03:04:05Z", animator="mesh", consent="my own face"
    )
    return Avatar(portrait, layers, info)


@pytest.mark.parametrize("alpha", [True, False])
def test_round_trip_to_the_bit(tmp_path: Path, alpha: bool) -> None:
    before = avatar(alpha)
    save_avatar(tmp_path / "me.avatar", before)
    after = load_avatar(tmp_path / "me.avatar")
    assert after.info == before.info
    assert after.info.source_sha256 == "ab" * 32
    assert (after.info.source_width, after.info.source_height) == (700, 900)
    for field in fields(FaceFit):
        assert np.array_equal(
            getattr(after.portrait.fit, field.name), getattr(before.portrait.fit, field.name)
        )
    assert np.array_equal(after.portrait.crop, before.portrait.crop)
    assert np.array_equal(after.portrait.crop_from_image, before.portrait.crop_from_image)
    assert np.array_equal(after.portrait.landmarks.points, before.portrait.landmarks.points)
    assert after.portrait.landmarks.score == pytest.approx(0.97)
    assert np.array_equal(after.portrait.picture.rgb, before.portrait.picture.rgb)
    assert (after.portrait.picture.alpha is None) == (not alpha)
    assert (after.portrait.crop_alpha is None) == (not alpha)
    assert after.layers.keys() == before.layers.keys()
    for name, value in before.layers.items():
        assert np.array_equal(after.layers[name], value), name
        assert after.layers[name].dtype == value.dtype
        assert after.layers[name].shape == value.shape


def test_replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "me.avatar"
    save_avatar(path, avatar())
    changed = replace(avatar(), layers={"x": np.ones(3)})
    save_avatar(path, changed)
    assert load_avatar(path).layers["x"].tolist() == [1, 1, 1]
    assert os.listdir(tmp_path) == ["me.avatar"]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="cannot write.*choose a folder".replace(".*", "[^:]*: ")):
        save_avatar(tmp_path / "none" / "me.avatar", avatar())
    (tmp_path / "taken.avatar").mkdir()
    with pytest.raises(AvatarError, match="cannot write"):
        save_avatar(tmp_path / "taken.avatar", avatar())
    broken = replace(avatar(), layers={"text": np.array(["no", "text"], dtype=object)})
    with pytest.raises(AvatarError, match="cannot be stored"):
        save_avatar(tmp_path / "me.avatar", broken)
    assert os.listdir(tmp_path) == ["taken.avatar"]


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.999])
def test_a_flipped_byte_is_found(tmp_path: Path, place: float) -> None:
    path = tmp_path / "me.avatar"
    save_avatar(path, avatar())
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    data[header + int(place * (len(data) - header))] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(AvatarError, match=r"damaged .*'visavis prepare' on the photo again"):
        load_avatar(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000, 400_000])
def test_cut_short(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "me.avatar"
    save_avatar(path, avatar())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AvatarError, match="'visavis prepare'"):
        load_avatar(path)


@pytest.mark.parametrize(
    "data", [b"", b"not an avatar at all", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"]
)
def test_not_an_avatar(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.avatar").write_bytes(data)
    with pytest.raises(AvatarError, match="no avatar package"):
        load_avatar(tmp_path / "x.avatar")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="check the path"):
        load_avatar(tmp_path / "none.avatar")


def rewrite_header(path: Path, change: dict[str, object]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    top = json.loads(data[8 : 8 + length])
    header = json.loads(top["__metadata__"]["visavis"]) | change
    top["__metadata__"]["visavis"] = json.dumps(header)
    text = json.dumps(top).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_another_version(tmp_path: Path) -> None:
    path = tmp_path / "me.avatar"
    save_avatar(path, avatar())
    rewrite_header(path, {"format": FORMAT_VERSION + 1})
    with pytest.raises(AvatarError, match=rf"format {FORMAT_VERSION + 1} \(written by visavis 0.1\).*again"):
        load_avatar(path)


def test_header_without_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "me.avatar"
    save_avatar(path, avatar())
    rewrite_header(path, {"fit": {}})
    with pytest.raises(AvatarError, match="damaged"):
        load_avatar(path)
