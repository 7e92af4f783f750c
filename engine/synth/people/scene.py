"""Light, camera, backdrop and what the camera does to the picture afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.crop import FACE_SHARE, crop_box
from engine.synth.people.look import Look, hsv

__all__ = ["Lens", "Light", "Scene", "backdrop", "draw_scene", "frame_lens", "spoil"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Light:
    """Camera axes; linear colours. ``harmonics`` [9, 3] in the order of the shaders' ``ambient``."""

    key: Float
    key_colour: Float
    rims: Float
    rim_colours: Float
    harmonics: Float
    softness: float
    exposure: float


@dataclass(frozen=True)
class Lens:
    """Pinhole: px = cx + focal x / d, py = cy - focal y / d; pixel centres have integer coordinates."""

    focal: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Scene:
    """Everything around the person that stays the same in all frames."""

    light: Light
    distance: float
    """cm from the camera to the head"""
    face_share: float
    offset: tuple[float, float]
    """shift of the crop, shares of its side"""
    backdrop: Bytes
    blur: float
    noise: float
    quality: int
    warmth: Float
    contrast: float
    saturation: float
    shrink: float
    """share of the resolution that survives, 1 for all"""


def _warm(rng: Rng, spread: float) -> Float:
    t = float(rng.normal(0.0, spread))
    t = float(np.clip(t, -0.6, 0.6))
    return np.array([1.0 + 0.4 * t, 1.0 + 0.05 * t, 1.0 - 0.4 * t], np.float32)


def _direction(azimuth: float, height: float) -> Float:
    c = np.cos(height)
    return np.array([np.sin(azimuth) * c, np.sin(height), np.cos(azimuth) * c], np.float32)


def _harmonics(lobes: list[tuple[Float, Float]]) -> Float:
    """Ambient light of soft lobes (direction, colour), diffuse convolution included."""
    out = np.zeros((9, 3), np.float64)
    for d, colour in lobes:
        x, y, z = (float(v) for v in d)
        terms = [
            0.25,
            0.5 * y,
            0.5 * z,
            0.5 * x,
            0.9375 * x * y,
            0.9375 * y * z,
            0.078125 * (3 * z * z - 1),
            0.9375 * x * z,
            0.234375 * (x * x - y * y),
        ]
        out += np.outer(terms, colour)
    return out.astype(np.float32)


def draw_light(rng: Rng, tone: float) -> Light:
    """Studio, window, office, outdoors or coloured light, by chance."""
    azimuth = float(rng.normal(0.0, 0.75))
    height = float(np.clip(rng.normal(0.6, 0.3), -0.15, 1.25))
    hard = float(rng.beta(1.3, 1.6))
    key = _direction(np.clip(azimuth, -1.75, 1.75), height)
    key_strength = 0.5 + 1.7 * hard
    warm, cool = _warm(rng, 0.2), _warm(rng, 0.25)
    if rng.random() < 0.08:
        cool = 1.6 * hsv(float(rng.random()), float(rng.uniform(0.4, 0.8)), 1.0)
    if rng.random() < 0.03:
        warm = 1.3 * hsv(float(rng.random()), float(rng.uniform(0.2, 0.6)), 1.0)
    fill = 1.5 * (1.1 - 0.8 * hard)
    # Few of many sources matter in one place: squares make most of them weak.
    gain = fill * (0.08 + 1.5 * rng.random(5) ** 2)
    lobes = [
        (_direction(float(rng.uniform(-0.6, 0.6)), 1.2), 0.8 * gain[0] * cool),
        (_direction(-np.sign(azimuth) * 1.2, 0.15), 0.55 * gain[1] * cool),
        (_direction(0.0, 0.1), 0.7 * gain[2] * warm),
        (_direction(azimuth, 0.4), 0.8 * gain[3] * warm),
        (_direction(0.0, -1.2), 0.2 * gain[4] * _warm(rng, 0.3)),
    ]
    rims = np.stack(
        [_direction(s * float(rng.uniform(1.9, 2.6)), float(rng.uniform(0.0, 0.7))) for s in (1.0, -1.0)]
    )
    strength = rng.uniform(0, 1.4, 2) * (rng.random(2) < 0.45)
    colours = np.stack(
        [
            s * (_warm(rng, 0.5) if rng.random() < 0.8 else hsv(float(rng.random()), 0.6, 1.2))
            for s in strength
        ]
    )
    harmonics = _harmonics(lobes)
    front = (harmonics[0] + 0.7 * harmonics[2] + 0.25 * harmonics[1]).mean() + key_strength * max(
        float(key[2]), 0.15
    ) * 0.75
    exposure = float((0.80 + 0.85 * tone) / max(front, 0.15) * np.exp(rng.normal(0.0, 0.13)))
    return Light(
        key,
        (key_strength * warm).astype(np.float32),
        rims.astype(np.float32),
        colours.astype(np.float32),
        harmonics,
        float(rng.uniform(0.003, 0.02)),
        exposure,
    )


# -- backdrops ----------------------------------------------------------------------------------


def _gradient(rng: Rng, size: int) -> Float:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    a, b = (
        hsv(float(rng.random()), float(rng.uniform(0, 0.5)), float(rng.uniform(0.1, 0.95))) for _ in range(2)
    )
    angle = float(rng.uniform(0, 2 * np.pi))
    t = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    if rng.random() < 0.5:
        t = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.1, 0.7)) * 1.2
    return np.asarray(a + np.clip(t, 0, 1)[..., None] * (b - a), np.float32)


def _room(rng: Rng, size: int) -> Float:
    wall = hsv(float(rng.uniform(0.0, 0.7)), float(rng.uniform(0, 0.3)), float(rng.uniform(0.3, 0.9)))
    image = np.tile(wall, (size, size, 1)).astype(np.float32)
    for _ in range(int(rng.integers(3, 14))):
        colour = hsv(float(rng.random()), float(rng.uniform(0, 0.6)), float(rng.uniform(0.05, 0.95)))
        x, y = (int(v) for v in rng.integers(-size // 5, size, 2))
        w, h = (int(v) for v in rng.integers(size // 16, size // 2, 2))
        cv2.rectangle(image, (x, y), (x + w, y + h), [float(v) for v in colour], -1)
        if rng.random() < 0.4:
            shelf = [float(v) for v in colour * 0.6]
            for k in range(x, x + w, max(4, w // 7)):
                cv2.line(image, (k, y), (k, y + h), shelf, max(1, size // 128))
    if rng.random() < 0.5:
        x, w = int(rng.integers(-size // 4, size)), int(rng.integers(size // 5, size // 2))
        cv2.rectangle(image, (x, -1), (x + w, int(rng.integers(size // 3, size))), (0.98, 0.98, 1.0), -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), size * float(rng.uniform(0.004, 0.05))), np.float32)


def _outdoors(rng: Rng, size: int) -> Float:
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    sky, ground = hsv(float(rng.uniform(0.52, 0.62)), 0.35, 0.9), hsv(float(rng.uniform(0.1, 0.35)), 0.4, 0.4)
    image = np.tile(sky + (ground - sky) * np.clip(y * 1.6 - 0.3, 0, 1), (1, size, 1)).astype(np.float32)
    for _ in range(int(rng.integers(30, 90))):
        colour = hsv(
            float(rng.uniform(0.08, 0.42)), float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.1, 0.8))
        )
        at = (int(rng.integers(size)), int(rng.integers(size // 6, size)))
        cv2.circle(image, at, int(rng.integers(size // 50, size // 8)), [float(v) for v in colour], -1)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), size * float(rng.uniform(0.012, 0.05))), np.float32)
    for _ in range(int(rng.integers(0, 25))):
        disc = np.zeros_like(image)
        at = (int(rng.integers(size)), int(rng.integers(size)))
        cv2.circle(disc, at, int(rng.integers(size // 40, size // 14)), (1.0, 0.95, 0.8), -1, cv2.LINE_AA)
        image += float(rng.uniform(0.05, 0.3)) * disc
    return image


def _texture(rng: Rng, size: int) -> Float:
    image = _gradient(rng, size)
    for cell in (64, 24, 9, 4):
        n = max(2, size // cell)
        small = rng.standard_normal((n, n, 1 if rng.random() < 0.6 else 3)).astype(np.float32)
        grown = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, -1)
        image = image * (1.0 + float(rng.uniform(0.02, 0.18)) * grown)
    return image


def backdrop(rng: Rng, size: int) -> Bytes:
    """uint8 [size, size, 3]: plain, gradient, room, outdoors or noise."""
    kind = rng.choice(5, p=[0.15, 0.26, 0.34, 0.17, 0.08])
    if kind == 0:
        image = np.tile(
            hsv(float(rng.random()), float(rng.uniform(0, 0.3)), float(rng.uniform(0.03, 1.0))),
            (size, size, 1),
        )
    else:
        image = (_gradient, _room, _outdoors, _texture)[kind - 1](rng, size)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_scene(rng: Rng, look: Look, size: int) -> Scene:
    """Light, camera and backdrop, by chance."""
    usual = rng.random() < 0.75
    return Scene(
        light=draw_light(rng, look.tone),
        distance=float(np.exp(rng.uniform(np.log(45.0), np.log(190.0)))),
        face_share=FACE_SHARE * float(np.exp(rng.normal(0.0, 0.03 if usual else 0.14))),
        offset=tuple(rng.normal(0.0, 0.008 if usual else 0.04, 2).tolist()),
        backdrop=backdrop(rng, size),
        blur=float(max(0.0, rng.normal(0.1, 0.35))) * size / 256,
        noise=float(abs(rng.normal(0.0, 2.2))),
        quality=int(rng.integers(45, 97)),
        warmth=np.exp(rng.normal(0.0, 0.025, 3)).astype(np.float32),
        contrast=float(rng.normal(1.05, 0.06)),
        saturation=float(rng.normal(1.0, 0.12)),
        shrink=1.0 if rng.random() < 0.8 else float(rng.uniform(0.55, 0.95)),
    )


def frame_lens(points: Float, scene: Scene, size: int) -> Lens:
    """The lens that crops this face as :func:`engine.face.crop.crop_box` would, then the scene's own shift.

    ``points`` [468, 2] are x / d and -y / d of the landmarks in the first frame.
    """
    wide = 1.0e5  # an imagined large picture: the crop never meets its border
    box = crop_box((points * wide + wide / 2).astype(np.float32), int(wide), int(wide))
    side = box.side * FACE_SHARE / scene.face_share
    x = box.left + box.side / 2 - wide / 2 + scene.offset[0] * side
    y = box.top + box.side / 2 - wide / 2 + scene.offset[1] * side
    scale = size / side
    return Lens(wide * scale, (size - 1) / 2 - x * scale, (size - 1) / 2 - y * scale)


@lru_cache(maxsize=1)
def _grain() -> Float:
    """Noise N(0, 1), long enough that no two frames of a person share a stretch of it often."""
    return np.random.default_rng(11).standard_normal(1 << 21, np.float32)


def spoil(rgb: Float, scene: Scene, rng: Rng) -> Bytes:
    """What lens, sensor and compression leave of ``rgb`` float32 [S, S, 3] 0..255."""
    gray = np.full((3, 3), (1.0 - scene.saturation) / 3.0)
    tone = scene.warmth[:, None] * (gray + scene.saturation * np.eye(3))
    bgr = cv2.transform(rgb, tone[::-1].astype(np.float32))
    size = rgb.shape[0]
    if scene.shrink < 1.0:
        small = cv2.resize(bgr, None, fx=scene.shrink, fy=scene.shrink, interpolation=cv2.INTER_AREA)
        bgr = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    if scene.blur > 0.25:
        bgr = cv2.GaussianBlur(bgr, (0, 0), scene.blur)
    grain, strength = np.zeros_like(bgr), 0.0
    if scene.noise > 0.3:
        first = int(rng.integers(_grain().size - bgr.size)) if bgr.size < _grain().size else 0
        grain, strength = np.resize(_grain()[first : first + bgr.size], bgr.shape), scene.noise
    image = cv2.addWeighted(bgr, 1.0, grain, strength, -0.5, dtype=cv2.CV_8U)
    if scene.quality < 93:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
