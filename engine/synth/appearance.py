"""One photograph, many people: another skin, light, hair, glasses or way of picture-making.

The photograph itself is changed, before any animator prepares it: whatever is then drawn from it shows the
same changed person in every frame. :func:`restyled` chooses by chance; each change is a function of its own
on ``rgb`` uint8 [H, W, 3] and a :class:`~engine.synth.appearance_masks.Sitter`, and gives a new picture of
the same shape. Hair is in :mod:`engine.synth.appearance_hair`, glasses in :mod:`engine.synth.wardrobe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ImageError, InputError
from engine.face.basis import load_basis
from engine.face.image import Picture
from engine.face.inpaint import push_pull
from engine.face.portrait import Portrait
from engine.synth.appearance_hair import HairDonor, hair
from engine.synth.appearance_masks import OUTER_LIPS, Sitter, blur, polygon, sitter_of
from engine.synth.wardrobe import Worn, put_on, wears_glasses
from kernels.raster import raster_attributes

__all__ = ["STYLES", "Restyled", "relight", "restyle", "restyled", "skin_tone", "style_filter"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator

STYLES = ("painting", "cartoon", "sketch", "mono", "sepia", "film", "dim", "soft")
"""What :func:`style_filter` can do."""

CHANCES = {"skin_tone": 0.55, "hair": 0.45, "glasses": 0.3, "relight": 0.55, "style_filter": 0.28}
"""How often :func:`restyled` makes each change; at least one is always made."""

# Lightness, chroma and hue (degrees) of bare skin from the lightest to the darkest, CIELAB under D65.
_SKIN = np.array(
    [[82, 13, 58], [75, 18, 60], [68, 22, 61], [60, 26, 61], [51, 27, 58], [41, 24, 54], [31, 17, 48]], float
)
_MOST_CHROMA = 34.0  # skin under warm light is no more colourful than this
_MOST_DARKER, _MOST_LIGHTER = 25.0, 18.0  # steps of L* beyond which pores and noise give the change away


@dataclass(frozen=True)
class Restyled:
    """A changed photo, and glasses that are not in it yet."""

    picture: Picture
    worn: Worn | None
    """draw them into the photo, or rigidly into every frame that is made from it"""


def restyle(picture: Picture, portrait: Portrait, random: Rng, people: Sequence[HairDonor] = ()) -> Restyled:
    """As :func:`restyled`, with the glasses left off.

    A mesh that carries the photo bends glasses with brows, lids and nose: whoever draws frames from it
    draws :attr:`Restyled.worn` into each.
    """
    if picture.rgb.shape != portrait.picture.rgb.shape:
        raise ImageError(
            f"the picture has shape {picture.rgb.shape}, the portrait's has {portrait.picture.rgb.shape}: "
            "give the picture that the portrait was made from"
        )
    sitter = sitter_of(portrait)
    wanted = [name for name, chance in CHANCES.items() if random.random() < chance]
    if "glasses" in wanted and wears_glasses(picture.rgb, sitter):
        wanted.remove("glasses")
    rgb = bare = picture.rgb
    worn: Worn | None = None
    for name in wanted or [str(random.choice(["skin_tone", "hair", "relight"]))]:
        if name == "skin_tone":
            rgb = bare = skin_tone(rgb, sitter, random)  # a darker skin is no darker light
        elif name == "hair":
            rgb = hair(rgb, sitter, random, people)
        elif name == "glasses":
            worn = put_on(sitter, random)
        elif name == "relight":
            rgb = relight(rgb, sitter, random)
        else:
            rgb = style_filter(rgb, str(random.choice(STYLES)), random, sitter.scale)
    if worn is not None:
        worn = worn.in_light(bare, rgb, sitter)
    return Restyled(replace(picture, rgb=rgb, sha256=""), worn)


def restyled(picture: Picture, portrait: Portrait, random: Rng, people: Sequence[HairDonor] = ()) -> Picture:
    """``picture`` with the person in ``portrait`` looking otherwise: one or more changes by chance.

    Args:
        picture: the one that ``portrait`` was made from.
        portrait: says where the face is; its geometry stays true for the result.
        random: equal states give equal pictures.
        people: donors of hair (:func:`engine.synth.appearance_hair.donors_of`); without them hair is
            recoloured.

    Returns:
        a picture of the same size; file name and transparency are kept, the digest is not.

    Raises:
        ImageError: ``picture`` is not the portrait's.
        FaceError: the portrait's geometry is not finite.
    """
    changed = restyle(picture, portrait, random, people)
    if changed.worn is None:
        return changed.picture
    fit, back = portrait.fit, cv2.invertAffineTransform(portrait.crop_from_image).astype(float)
    mesh = fit.project(fit.vertices())
    mesh[:, :2] = mesh[:, :2] @ back[:, :2].T + back[:, 2]
    rgb = changed.worn.draw(changed.picture.rgb, fit, np.ascontiguousarray(mesh, np.float32), back)
    return replace(changed.picture, rgb=rgb)


# -- skin ----------------------------------------------------------------------------------------


def skin_tone(rgb: Bytes, sitter: Sitter, random: Rng, tone: float | None = None) -> Bytes:
    """Lighter or darker skin, ``tone`` 0 (lightest) to 1 (darkest), by chance if None.

    In CIELAB: lightness by a power that keeps black and white, so that highlights stay and shadows hold;
    chroma and hue move as they do between real skins of the two lightnesses, multiplied and turned, so that
    the light's own colour stays and grey pictures stay grey. Lips follow half way; eyes, hair and the inside
    of the mouth are spared.
    """
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    sure = sitter.skin > 0.8
    if int(sure.sum()) < 50:
        return rgb.copy()
    own = float(np.clip(np.median(lab[sure, 0]), 12.0, 92.0))
    here = float(np.interp(own, _SKIN[::-1, 0], np.linspace(1, 0, len(_SKIN))))
    there = float(random.random()) if tone is None else float(np.clip(tone, 0.0, 1.0))
    low, high = own - _MOST_DARKER * min(1.0, own / 60.0), own + _MOST_LIGHTER
    goal = float(np.clip(_tone(there)[0], low, min(high, 88.0)))
    there = float(np.interp(goal, _SKIN[::-1, 0], np.linspace(1, 0, len(_SKIN))))
    chroma, hue = _tone(there)[1] / _tone(here)[1], np.radians(_tone(there)[2] - _tone(here)[2])
    chroma, hue = chroma * np.exp(random.normal(0.0, 0.08)), hue + random.normal(0.0, np.radians(4.0))
    colour = float(np.median(np.hypot(lab[sure, 1], lab[sure, 2])))
    chroma = min(chroma, max(0.8, _MOST_CHROMA / max(colour, 1.0)))
    power = np.log(goal / 100.0) / np.log(own / 100.0)
    moved = np.empty_like(lab)
    moved[..., 0] = 100.0 * np.power(np.clip(lab[..., 0], 0.0, 100.0) / 100.0, power)
    moved[..., 1] = chroma * (np.cos(hue) * lab[..., 1] - np.sin(hue) * lab[..., 2])
    moved[..., 2] = chroma * (np.sin(hue) * lab[..., 1] + np.cos(hue) * lab[..., 2])
    lips = polygon(rgb.shape[:2], sitter.points[list(OUTER_LIPS)], 2.0 * sitter.scale)
    weight = (sitter.skin * (1.0 - 0.5 * lips))[..., None]
    return _laid(
        rgb, cv2.cvtColor((lab + weight * (moved - lab)).astype(np.float32), cv2.COLOR_LAB2RGB), weight
    )


def _tone(tone: float) -> NDArray[np.float64]:
    """Lightness, chroma and hue of the skin ``tone``."""
    at = np.linspace(0.0, 1.0, len(_SKIN))
    return np.array([np.interp(tone, at, _SKIN[:, k]) for k in range(3)])


def _laid(rgb: Bytes, new: NDArray[np.floating], weight: Float) -> Bytes:
    """``new`` (0..1) where ``weight`` [H, W, 1] is not 0, the very bytes of ``rgb`` elsewhere."""
    out = np.rint(np.clip(new, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.asarray(np.where(weight > 1e-3, out, rgb), np.uint8)


# -- light ---------------------------------------------------------------------------------------


def relight(rgb: Bytes, sitter: Sitter, random: Rng) -> Bytes:
    """The same person under another light: direction, softness and colour.

    A first-order spherical-harmonics shading of the photo is fitted to the skin's luminance over the normals
    of the fitted head; the picture is multiplied by the new shading over most of the old one. Beyond the
    head the ratio goes on smoothly over the person; the background takes only a share of it.
    """
    step = max(1.0, 2.0 * sitter.scale)
    size = (max(8, round(rgb.shape[1] / step)), max(8, round(rgb.shape[0] / step)))
    normals, known = _normals(sitter, size, (size[0] / rgb.shape[1], size[1] / rgb.shape[0]))
    linear = np.power(rgb.astype(np.float32) / 255.0, 2.2)
    small = np.asarray(cv2.resize(linear, size, interpolation=cv2.INTER_AREA), np.float32)
    skin = np.asarray(cv2.resize(sitter.skin, size, interpolation=cv2.INTER_AREA), np.float32) * known
    old = _fitted_shading(small @ np.array([0.2126, 0.7152, 0.0722], np.float32), normals, skin)
    new, ambient = _new_light(normals, skin, random)
    ratio = np.asarray(np.clip(new / np.power(old, 0.75)[..., None], 0.16, 2.4), np.float32)
    ratio = push_pull(ratio, known)
    ratio = blur(ratio, 0.012 * sitter.frame.width / step)
    person = np.asarray(cv2.resize(sitter.person, size, interpolation=cv2.INTER_AREA), np.float32)
    behind = ambient * np.power(blur(ratio, 0.5 * sitter.frame.width / step) / ambient, 0.35)
    mixed = behind + blur(person, 1.0)[..., None] * (ratio - behind)
    full = cv2.resize(mixed, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    lit = linear * full
    lit = np.where(lit > 0.7, 0.7 + 0.3 * np.tanh((lit - 0.7) / 0.3), lit)  # highlights roll off
    return np.asarray(np.rint(np.power(np.clip(lit, 0.0, 1.0), 1 / 2.2) * 255.0), np.uint8)


def _normals(sitter: Sitter, size: tuple[int, int], share: tuple[float, float]) -> tuple[Float, Float]:
    """Unit normals [h, w, 3] of the head drawn at ``size`` and where it covers (float32 [h, w], 0 or 1)."""
    basis = load_basis()
    triangles = np.ascontiguousarray(basis.triangles_of("face", "ear", "neck", "scalp"))
    at = sitter.mesh.copy()
    at[:, :2] = (at[:, :2] + 0.5) * np.array(share, np.float32) - 0.5
    drawn = np.zeros((size[1], size[0], 3), np.float32)
    depth = np.full((size[1], size[0]), np.inf, np.float32)
    raster_attributes(drawn, depth, at, triangles, np.ascontiguousarray(sitter.normals), cull=True)
    known = np.isfinite(depth).astype(np.float32)
    soft = blur(drawn * known[..., None], 1.5)
    length = np.linalg.norm(soft, axis=-1, keepdims=True)
    return np.asarray(soft / np.maximum(length, 1e-6), np.float32), known


def _fitted_shading(luminance: Float, normals: Float, skin: Float) -> Float:
    """[h, w] about 1: how the photo's own light falls on ``normals``, from the px weighted by ``skin``."""
    sure = skin > 0.7
    if int(sure.sum()) < 60:
        return np.ones_like(luminance)
    rows = np.concatenate([np.ones((int(sure.sum()), 1), np.float32), normals[sure]], 1)
    value = luminance[sure] / max(float(luminance[sure].mean()), 1e-4)
    keep = np.abs(value - np.median(value)) < 0.9
    left = rows[keep].T @ rows[keep] + np.diag([1e-3, 0.05, 0.05, 0.05]) * int(keep.sum())
    c = np.linalg.solve(left, rows[keep].T @ value[keep] + np.array([1e-3, 0, 0, 0]) * int(keep.sum()))
    return np.asarray(np.clip(c[0] + normals @ c[1:].astype(np.float32), 0.45, 1.9), np.float32)


def _new_light(normals: Float, skin: Float, random: Rng) -> tuple[Float, Float]:
    """Shading [h, w, 3], on average the new exposure on the skin, and the share [3] of light all around."""
    turn, rise = np.radians(random.uniform(-80.0, 80.0)), np.radians(random.uniform(-12.0, 55.0))
    key = np.array([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)], np.float32)
    wrap, around = random.uniform(0.1, 0.6), random.uniform(0.18, 0.6)
    fall = np.clip((normals @ key + wrap) / (1.0 + wrap), 0.0, 1.0)[..., None]
    fill = np.clip(0.7 + 0.3 * normals[..., 1:2] - 0.15 * normals[..., :1] * np.sign(key[0]), 0.0, None)
    warm, cool = _temperature(random.normal(0.0, 0.6)), _temperature(random.normal(0.0, 0.4))
    if random.random() < 0.12:  # a coloured lamp
        warm = np.asarray(1.0 + 0.55 * random.uniform(-1.0, 0.6, 3), np.float32)
    shade = around * cool * fill + (1.0 - around) * warm * fall * 1.6
    sure = skin > 0.5
    mean = float(shade[sure].mean()) if sure.any() else float(shade.mean())
    exposure = float(random.uniform(0.75, 1.12))
    return (
        np.asarray(np.maximum(shade, 0.02) * exposure / max(mean, 1e-3), np.float32),
        np.asarray(cool * exposure * random.uniform(0.75, 1.0), np.float32),
    )


def _temperature(warmth: float) -> Float:
    """Gains [3] of a light: ``warmth`` > 0 towards candles, < 0 towards the sky; luminance about kept."""
    gains = np.exp(np.clip(warmth, -1.5, 1.5) * np.array([0.16, 0.01, -0.24]))
    return np.asarray(gains / (gains @ [0.2126, 0.7152, 0.0722]), np.float32)


# -- whole pictures ------------------------------------------------------------------------------


def style_filter(rgb: Bytes, style: str, random: Rng, scale: float = 1.0) -> Bytes:
    """The whole picture in one of :data:`STYLES`.

    ``scale`` px of the picture per px of a 512 px crop around the face: strokes and grain are as large as
    they would be in that crop.

    Raises:
        InputError: an unknown style.
    """
    if style not in STYLES:
        raise InputError(f"unknown style {style!r}: choose one of {', '.join(STYLES)}")
    height, width = rgb.shape[:2]
    small = rgb
    if scale > 1.2:
        size = (max(16, round(width / scale)), max(16, round(height / scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    changed = _FILTERS[style](small, random)
    out = np.asarray(np.rint(np.clip(changed, 0.0, 255.0)), np.uint8)
    if out.shape == rgb.shape:
        return out
    return np.asarray(cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _painting(rgb: Bytes, random: Rng) -> Float:
    """Smooth areas, kept edges, richer colour and the weave of a canvas."""
    soft = cv2.edgePreservingFilter(rgb, flags=1, sigma_s=float(random.uniform(8, 24)),
                                    sigma_r=float(random.uniform(0.2, 0.4)))  # fmt: skip
    out = _saturated(soft.astype(np.float32), float(random.uniform(1.0, 1.35)))
    weave = blur(random.standard_normal(rgb.shape[:2]).astype(np.float32), 1.0)
    return out * (1.0 + float(random.uniform(0.02, 0.09)) * weave[..., None])


def _cartoon(rgb: Bytes, random: Rng) -> Float:
    """Few tones with soft steps, and dark outlines where lightness changes."""
    soft = rgb
    for _ in range(3):
        soft = np.asarray(cv2.bilateralFilter(soft, 7, 40, 5), np.uint8)
    lab = cv2.cvtColor(soft.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    tone = lab[..., 0] / float(random.uniform(9.0, 14.0))
    low = np.floor(tone)
    stepped = low + np.clip((tone - low - 0.5) * 4.0 + 0.5, 0.0, 1.0)
    lab[..., 0] = np.clip(stepped * (lab[..., 0].mean() / max(float(stepped.mean()), 1e-3)), 0, 100)
    flat = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255.0, np.float32)
    grey = cv2.cvtColor(soft, cv2.COLOR_RGB2GRAY).astype(np.float32)
    lines = np.clip((blur(grey, 2.0) - blur(grey, 0.8) - 2.5) / 12.0, 0.0, 1.0)
    out = _saturated(flat, float(random.uniform(1.0, 1.4))) * (1.0 - 0.7 * lines[..., None])
    return np.asarray(out, np.float32)


def _sketch(rgb: Bytes, random: Rng) -> Float:
    """Pencil on paper: shading by dividing out the blurred picture, some of the tones left."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    line = np.clip(grey / np.maximum(blur(grey, float(random.uniform(3.0, 8.0))), 1.0), 0.0, 1.05)
    tone = np.asarray(random.uniform(0.35, 0.6) * grey / 255.0, np.float32)
    noise = np.asarray(random.standard_normal(rgb.shape[:2]), np.float32)
    strokes = 1.0 + 0.05 * blur(noise, 0.7)
    value = np.power(line, 2.2) * (0.5 + 0.9 * tone) * strokes * 235.0
    paper = np.array([1.0, 0.985, 0.95], np.float32) if random.random() < 0.5 else np.ones(3, np.float32)
    return np.asarray(value[..., None] * paper, np.float32)


def _mono(rgb: Bytes, random: Rng) -> Float:
    """Black and white through a coloured filter, with more or less contrast."""
    mix = random.dirichlet([2.0, 4.0, 1.2]).astype(np.float32)
    grey = rgb.astype(np.float32) @ mix
    grey = 128.0 + (grey - 128.0) * float(random.uniform(0.85, 1.3))
    return np.repeat(grey[..., None], 3, 2) + _grain(rgb.shape[:2], random, 5.0)


def _sepia(rgb: Bytes, random: Rng) -> Float:
    """An old brown print."""
    grey = rgb.astype(np.float32) @ np.array([0.3, 0.59, 0.11], np.float32) / 255.0
    brown = np.array([1.0, 0.9, 0.72], np.float32) * np.power(
        grey[..., None], np.array([0.85, 1.0, 1.2], np.float32)
    )
    mixed = float(random.uniform(0.7, 1.0))
    return _vignette(rgb + mixed * (brown * 255.0 - rgb), random) + _grain(rgb.shape[:2], random, 7.0)


def _film(rgb: Bytes, random: Rng) -> Float:
    """Colour film: a tinted curve for shadows and lights, grain, darker corners."""
    x = rgb.astype(np.float32) / 255.0
    lift = random.uniform(0.0, 0.09, 3).astype(np.float32)
    top = random.uniform(0.88, 1.0, 3).astype(np.float32)
    bend = np.exp(random.normal(0.0, 0.1, 3)).astype(np.float32)
    out = lift + (top - lift) * np.power(x, bend)
    out = _saturated(out * 255.0, float(random.uniform(0.65, 1.2)))
    return _vignette(out, random) + _grain(rgb.shape[:2], random, float(random.uniform(3.0, 9.0)))


def _dim(rgb: Bytes, random: Rng) -> Float:
    """Little light: dark, less colour, the noise of a camera at its limit."""
    gain = float(random.uniform(0.25, 0.55))
    linear = np.power(rgb.astype(np.float32) / 255.0, 2.2) * gain
    linear += np.sqrt(linear + 0.002) * 0.035 * random.standard_normal(rgb.shape).astype(np.float32)
    out = np.asarray(np.power(np.clip(linear, 0.0, 1.0), 1 / 2.2) * 255.0, np.float32)
    return _saturated(blur(out, 0.7), 0.8) * _temperature(random.normal(0.0, 0.5))


def _soft(rgb: Bytes, random: Rng) -> Float:
    """A poor copy: less sharp, compressed hard."""
    soft = np.clip(blur(rgb.astype(np.float32), float(random.uniform(0.5, 1.2))), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(18, 45))]
    _, data = cv2.imencode(".jpg", soft, quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)


def _saturated(rgb: Float, gain: float) -> Float:
    grey = (rgb @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
    return np.asarray(grey + gain * (rgb - grey), np.float32)


def _grain(shape: tuple[int, int], random: Rng, strength: float) -> Float:
    noise = blur(random.standard_normal(shape).astype(np.float32), 0.7) * 2.0
    return np.asarray(strength * noise[..., None], np.float32)


def _vignette(rgb: Float, random: Rng) -> Float:
    y, x = np.mgrid[-1 : 1 : rgb.shape[0] * 1j, -1 : 1 : rgb.shape[1] * 1j]
    dark = float(random.uniform(0.1, 0.4)) * np.clip((x * x + y * y) / 2.0, 0.0, 1.0) ** 1.2
    return np.asarray(rgb * (1.0 - dark[..., None]), np.float32)


_FILTERS = {
    "painting": _painting, "cartoon": _cartoon, "sketch": _sketch, "mono": _mono,
    "sepia": _sepia, "film": _film, "dim": _dim, "soft": _soft,
}  # fmt: skip
