"""Who a synthetic person is: everything that stays the same in all of their frames, drawn by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.synth.people.model import manly

__all__ = ["BEARDS", "HAIR_STYLES", "Glasses", "Look", "draw_look", "hsv"]

Float = NDArray[np.float32]
Rng = np.random.Generator

HAIR_STYLES: tuple[str, ...] = (
    "bald", "buzz", "short", "side_part", "swept_back", "messy", "fringe", "bob", "long", "long_side",
    "wavy", "curly", "afro", "bun", "ponytail",
)  # fmt: skip
BEARDS: tuple[str, ...] = ("none", "shadow", "stubble", "moustache", "goatee", "short", "full")

# Skin from the lightest to the darkest, sRGB 0..1: the middle of a cheek in even light.
_TONES = np.array([
    (240, 206, 188), (234, 195, 172), (227, 183, 154), (220, 172, 140), (204, 152, 116), (184, 132, 97),
    (160, 108, 76), (130, 84, 58), (100, 64, 46), (76, 49, 38), (56, 38, 32),
]) / 255.0  # fmt: skip
_HAIR = {
    "black": (0.055, 0.045, 0.042), "dark": (0.13, 0.085, 0.06), "brown": (0.24, 0.15, 0.095),
    "chestnut": (0.33, 0.18, 0.1), "light": (0.42, 0.29, 0.18), "blond": (0.66, 0.51, 0.32),
    "platinum": (0.83, 0.75, 0.6), "red": (0.5, 0.22, 0.09), "gray": (0.5, 0.49, 0.48),
    "white": (0.82, 0.81, 0.79),
}  # fmt: skip
_IRIS = {
    "dark": (0.16, 0.09, 0.05), "brown": (0.33, 0.19, 0.09), "hazel": (0.42, 0.31, 0.14),
    "green": (0.36, 0.42, 0.24), "blue": (0.34, 0.48, 0.62), "gray": (0.46, 0.52, 0.55),
}  # fmt: skip


@dataclass(frozen=True)
class Glasses:
    """``shape`` round, square, aviator or cat; sizes in cm; colours sRGB 0..1."""

    shape: str
    width: float
    height: float
    thick: float
    colour: Float
    gloss: float
    tint: Float
    shine: float


@dataclass(frozen=True)
class Look:
    """Colours are sRGB 0..1 unless said otherwise; strengths 0..1."""

    identity: Float
    """[80] coefficients of the face basis"""
    male: float
    """1 male .. 0 female: biases hair, beard and make-up, nothing else"""
    age: float
    """0 about 18 .. 1 about 80"""
    tone: float
    """0 lightest .. 1 darkest skin"""
    skin: Float
    ruddy: float
    freckles: float
    moles: int
    blemish: float
    makeup: float
    lipstick: Float
    eyeshadow: Float
    lip_depth: float
    gloss: float
    hair: str
    hair_colour: Float
    hair_tip: Float
    gray: float
    recede: float
    temple: float
    brow: float
    brow_thick: float
    beard: str
    beard_length: float
    lashes: float
    iris: Float
    iris_inner: Float
    iris_size: float
    pupil: float
    white: Float
    tooth: Float
    glasses: Glasses | None
    seed: int


def hsv(h: float, s: float, v: float) -> Float:
    """RGB float32 [3] of hue, saturation and value, each 0..1."""
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * h) % 6.0
    rgb = v - v * s * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return np.asarray(rgb, np.float32)


def _pick(rng: Rng, table: dict[str, float]) -> str:
    weight = np.array(list(table.values()), float)
    return str(rng.choice(list(table), p=weight / weight.sum()))


def _skin(rng: Rng, tone: float) -> Float:
    at = tone * (len(_TONES) - 1)
    low = int(min(at, len(_TONES) - 2))
    colour = _TONES[low] + (at - low) * (_TONES[low + 1] - _TONES[low])
    colour = colour * np.exp(rng.normal(0.0, [0.02, 0.025, 0.04]))
    return np.asarray(np.clip(colour, 0.05, 0.97), np.float32)


def _hair_colour(rng: Rng, tone: float, age: float) -> Float:
    light = {
        "black": 1,
        "dark": 3,
        "brown": 4,
        "chestnut": 2,
        "light": 3,
        "blond": 3,
        "platinum": 0.7,
        "red": 1.2,
    }
    dark = {"black": 6, "dark": 3, "brown": 0.7, "chestnut": 0.2}
    mid = {"black": 4, "dark": 4, "brown": 2.5, "chestnut": 1, "light": 0.5, "blond": 0.4}
    name = _pick(rng, light if tone < 0.35 else mid if tone < 0.6 else dark)
    if rng.random() < max(0.0, age - 0.55) * 1.6:
        name = "gray" if rng.random() < 0.6 else "white"
    colour = np.array(_HAIR[name]) * np.exp(rng.normal(0.0, 0.12, 3) * 0.5 + rng.normal(0.0, 0.15))
    if rng.random() < 0.03:
        colour = hsv(float(rng.random()), 0.6, float(rng.uniform(0.3, 0.7)))
    return np.asarray(np.clip(colour, 0.02, 0.95), np.float32)


def _hair_style(rng: Rng, male: float, age: float, tone: float) -> str:
    men = {
        "bald": 1.0 + 2.0 * age, "buzz": 1.6, "short": 3, "side_part": 3, "swept_back": 2, "messy": 2.5,
        "fringe": 1, "curly": 1, "long": 0.4, "wavy": 0.4, "bun": 0.15,
    }  # fmt: skip
    women = {
        "long": 3.5, "long_side": 3, "wavy": 3, "bob": 2.5, "bun": 2, "ponytail": 2, "curly": 1.5,
        "fringe": 1.2, "short": 0.6, "messy": 0.6, "side_part": 0.5, "buzz": 0.15,
    }  # fmt: skip
    table = men if male > 0.5 else women
    if tone > 0.6:
        table = {**table, "afro": 2.5, "curly": 3.0, "buzz": table.get("buzz", 1.0) + 1.5}
    return _pick(rng, table)


def _glasses(rng: Rng) -> Glasses:
    shape = _pick(rng, {"round": 2, "square": 3, "aviator": 1, "cat": 1})
    thick = float(rng.choice([0.09, 0.14, 0.22, 0.32], p=[0.35, 0.25, 0.25, 0.15]))
    metal = thick < 0.12
    if metal:
        colour = np.array(rng.choice([[0.75, 0.62, 0.35], [0.7, 0.7, 0.72], [0.1, 0.1, 0.1]]), np.float32)
    else:
        dark = rng.random() < 0.65
        colour = hsv(
            float(rng.random()), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.03, 0.15 if dark else 0.6))
        )
    sun = rng.random() < 0.05
    tint = np.array([0.02, 0.02, 0.02, rng.uniform(0.55, 0.8) if sun else rng.uniform(0.0, 0.06)], np.float32)
    width = float(rng.uniform(4.7, 5.7))
    high = {"round": 0.92, "square": 0.68, "aviator": 0.85, "cat": 0.7}[shape]
    return Glasses(
        shape, width, width * high * float(rng.uniform(0.92, 1.08)), thick, colour,
        float(rng.uniform(0.5, 1.2) if metal else rng.uniform(0.2, 0.6)), tint, float(rng.random() ** 2),
    )  # fmt: skip


def _beard(rng: Rng, male: float, age: float) -> str:
    if male < 0.5:
        return "none"
    table = {
        "none": 3,
        "shadow": 2.2,
        "stubble": 2.2,
        "moustache": 0.7,
        "goatee": 0.9,
        "short": 1.5,
        "full": 1.1,
    }
    return _pick(rng, table)


def _identity(rng: Rng, male: float) -> Float:
    """Coefficients about N(0, 0.85), shifted along what differs between the sexes on average."""
    shift = float(rng.normal(0.9, 0.35)) * (1.0 if male > 0.5 else -1.0)
    return np.asarray(rng.normal(0.0, 0.85, 80) + shift * manly(), np.float32)


def draw_look(rng: Rng) -> Look:
    """A person by chance; equal generators give equal people."""
    male = float(rng.random() < 0.52)
    age = float(np.clip(rng.beta(1.4, 2.0), 0.0, 1.0))
    tone = float(rng.beta(1.05, 1.5))
    hair_colour = _hair_colour(rng, tone, age)
    dyed = rng.random() < 0.2 and male < 0.5
    tip = hair_colour * (rng.uniform(1.2, 2.2) if dyed else rng.uniform(1.0, 1.3))
    eye = _pick(rng, {"dark": 1 + 4 * tone, "brown": 3, "hazel": 1.5, "green": 1.2 * (tone < 0.4),
                      "blue": 3.0 * (tone < 0.35), "gray": 1.2 * (tone < 0.35)})  # fmt: skip
    iris = np.array(_IRIS[eye]) * np.exp(rng.normal(0, 0.12, 3))
    makeup = float(rng.beta(1.2, 1.4)) if male < 0.5 and rng.random() < 0.75 else 0.0
    lipstick = hsv(
        float(rng.normal(0.98, 0.025) % 1.0), float(rng.uniform(0.4, 0.75)), float(rng.uniform(0.68, 0.92))
    )
    return Look(
        identity=_identity(rng, male),
        male=male,
        age=age,
        tone=tone,
        skin=_skin(rng, tone),
        ruddy=float(rng.uniform(0.3, 1.0)),
        freckles=float(max(0.0, rng.normal(-0.3, 0.7))) * (tone < 0.45),
        moles=int(rng.poisson(2.0)),
        blemish=float(rng.random() ** 2),
        makeup=makeup,
        lipstick=lipstick,
        eyeshadow=hsv(float(rng.random()), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.15, 0.6))),
        lip_depth=float(rng.uniform(0.5, 1.0)),
        gloss=float(rng.uniform(0.35, 1.15)),
        hair=_hair_style(rng, male, age, tone),
        hair_colour=hair_colour,
        hair_tip=np.clip(tip, 0, 0.95).astype(np.float32),
        gray=float(np.clip(rng.normal(age - 0.45, 0.25), 0.0, 1.0)),
        recede=float(max(0.0, rng.normal(-0.2 + 0.9 * age, 0.7))) * male,
        temple=float(abs(rng.normal(0.0, 0.6 + age))) * (0.3 + 0.7 * male),
        brow=float(rng.uniform(0.45, 1.0)),
        brow_thick=float(rng.uniform(0.7, 1.25) * (1.15 if male > 0.5 else 0.8)),
        beard=_beard(rng, male, age),
        beard_length=float(rng.uniform(0.5, 1.0)),
        lashes=float(rng.uniform(0.25, 0.5) if male > 0.5 else rng.uniform(0.4, 0.9)),
        iris=np.clip(iris, 0.02, 0.9).astype(np.float32),
        iris_inner=np.clip(iris * rng.uniform(0.6, 1.5) * [1.15, 0.95, 0.7], 0.02, 0.9).astype(np.float32),
        iris_size=float(rng.uniform(0.94, 1.04)),
        pupil=float(rng.uniform(0.28, 0.5)),
        white=np.array([0.88, 0.85, 0.83], np.float32) * float(rng.uniform(0.8, 0.97) - 0.08 * tone),
        tooth=np.array([0.93, 0.9, 0.83], np.float32) ** float(rng.uniform(0.8, 2.2)),
        glasses=_glasses(rng) if rng.random() < 0.2 else None,
        seed=int(rng.integers(2**31)),
    )
