"""Draws the demo character and speaks the demo voices, so that every bundled input can be rebuilt.

``python -m engine.synth.demo_inputs OUT`` writes ``character.png``, ``voice_a.wav`` (flite, voice slt)
and ``voice_b.wav`` (espeak-ng, en-us). The character is drawn from curves by this file alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from engine.errors import BackendError

__all__ = ["draw_character", "main", "speak"]

_SIZE = 768
_SCALE = 3  # drawn larger and reduced: anti-aliased edges

Point = tuple[float, float]
Colour = tuple[int, int, int]

VOICE_A = (
    "Hello! I am a picture that listens. Speak, and I will speak with you, "
    "my lips closing on every map, beam and pop. Then I wait, I blink, and I look around."
)
VOICE_B = (
    "Five photos and one voice walked into a bar. Which of them was late? "
    "None of them. Every frame left on time, and the voice came with it."
)


def _curve(points: Sequence[Point], closed: bool = True, steps: int = 16) -> list[Point]:
    """A Catmull-Rom spline through ``points``, in canvas pixels of the supersampled picture."""
    p = np.asarray(points, np.float64)
    n = len(p)
    index = np.arange(n if closed else n - 1)
    t = (np.arange(steps) / steps)[None, :, None]
    around = [index + k for k in (-1, 0, 1, 2)]
    a, b, c, d = (p[k % n if closed else np.clip(k, 0, n - 1)][:, None] for k in around)
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat = curve.reshape(-1, 2)
    if not closed:
        flat = np.vstack([flat, p[-1]])
    return [(float(x) * _SCALE, float(y) * _SCALE) for x, y in flat]


def _mirror(points: Sequence[Point]) -> list[Point]:
    return [(_SIZE - x, y) for x, y in points]


class _Canvas:
    """A supersampled RGB picture with filled, outlined and softly blended shapes."""

    def __init__(self, top: Colour, bottom: Colour) -> None:
        side = _SIZE * _SCALE
        ramp = np.linspace(0, 1, side)[:, None, None]
        sky = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
        self.image = Image.fromarray(np.broadcast_to(sky, (side, side, 3)).astype(np.uint8))

    def fill(self, points: Sequence[Point], colour: Colour, blur: float = 0.0, alpha: float = 1.0) -> None:
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(_curve(points), fill=int(255 * alpha))
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * _SCALE))
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=mask)

    def fill_inside(
        self, inside: Sequence[Point], points: Sequence[Point], colour: Colour, blur: float, alpha: float
    ) -> None:
        """``fill``, but only within the shape ``inside``: shadows that do not spill."""
        limit = Image.new("L", self.image.size)
        ImageDraw.Draw(limit).polygon(_curve(inside), fill=255)
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(_curve(points), fill=int(255 * alpha))
        mask = mask.filter(ImageFilter.GaussianBlur(blur * _SCALE))
        both = Image.fromarray((np.asarray(mask, np.uint16) * np.asarray(limit) // 255).astype(np.uint8))
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=both)

    def stroke(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        line = _curve(points, closed=False)
        draw = ImageDraw.Draw(self.image)
        draw.line(line, fill=colour, width=int(width * _SCALE), joint="curve")
        r = width * _SCALE / 2
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def disc(
        self, centre: Point, radius: Point, colour: Colour, blur: float = 0.0, alpha: float = 1.0
    ) -> None:
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = [(centre[0] + radius[0] * np.cos(a), centre[1] + radius[1] * np.sin(a)) for a in angles]
        self.fill([(float(x), float(y)) for x, y in ring], colour, blur, alpha)


SKIN, SHADE, BLUSH = (247, 214, 192), (214, 160, 140), (240, 140, 130)
HAIR, HAIR_DARK, HAIR_LIGHT = (58, 92, 128), (36, 58, 88), (108, 150, 188)
FACE: list[Point] = [
    (384, 160), (470, 176), (534, 240), (548, 330), (540, 420), (512, 490), (462, 546), (384, 578),
    (306, 546), (256, 490), (228, 420), (220, 330), (234, 240), (298, 176),
]  # fmt: skip


def draw_character() -> Image.Image:
    """The bundled character: RGB, 768 × 768."""
    canvas = _Canvas((214, 226, 236), (178, 196, 214))
    _draw_back(canvas)
    canvas.fill(FACE, SKIN)
    canvas.fill_inside(FACE, [(200, 470), (280, 500), (384, 552), (488, 500), (568, 470),
                              (560, 620), (208, 620)],
                       SHADE, 26, 0.55)  # fmt: skip
    canvas.fill_inside(FACE, [(190, 240), (250, 260), (238, 420), (262, 520), (180, 520)], SHADE, 20, 0.45)
    canvas.fill_inside(
        FACE, _mirror([(190, 240), (250, 260), (238, 420), (262, 520), (180, 520)]), SHADE, 20, 0.45
    )
    canvas.disc((288, 440), (40, 22), BLUSH, 14, 0.4)
    canvas.disc((480, 440), (40, 22), BLUSH, 14, 0.4)
    _draw_eye(canvas, mirror=False)
    _draw_eye(canvas, mirror=True)
    _draw_nose_and_mouth(canvas)
    _draw_fringe(canvas)
    return canvas.image.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)


def _draw_back(canvas: _Canvas) -> None:
    hair = [(384, 70), (506, 98), (598, 200), (614, 340), (600, 500), (620, 640), (148, 640), (168, 500),
            (154, 340), (170, 200), (262, 98)]  # fmt: skip
    canvas.fill(hair, HAIR_DARK)
    neck = [(318, 500), (450, 500), (452, 610), (500, 690), (384, 740), (268, 690), (316, 610)]
    canvas.fill(neck, (232, 190, 166))
    canvas.fill_inside(neck, [(306, 500), (462, 500), (456, 600), (384, 626), (312, 600)], SHADE, 12, 0.8)
    coat = [
        (384, 700),
        (452, 640),
        (560, 668),
        (650, 720),
        (690, 800),
        (78, 800),
        (118, 720),
        (208, 668),
        (316, 640),
    ]
    canvas.fill(coat, (74, 70, 104))
    canvas.fill(
        [(300, 640), (384, 720), (468, 640), (500, 660), (392, 768), (376, 768), (268, 660)], (238, 236, 240)
    )
    canvas.fill([(372, 716), (396, 716), (410, 780), (358, 780)], (196, 62, 84))


def _draw_eye(canvas: _Canvas, mirror: bool) -> None:
    flip = _mirror if mirror else (lambda points: list(points))
    x = 472.0 if mirror else 296.0
    white = flip(
        [(250, 352), (268, 326), (300, 318), (330, 330), (346, 358), (326, 374), (296, 380), (266, 372)]
    )
    canvas.fill(white, (250, 250, 252))
    canvas.fill_inside(
        white,
        [
            (x - 25, 324),
            (x, 316),
            (x + 25, 324),
            (x + 27, 352),
            (x + 19, 374),
            (x, 382),
            (x - 19, 374),
            (x - 27, 352),
        ],
        (54, 98, 120),
        1.0,
        1.0,
    )
    canvas.fill_inside(
        white, [(x - 20, 352), (x + 20, 352), (x + 14, 376), (x - 14, 376)], (104, 176, 190), 4, 0.9
    )
    canvas.disc((x, 350), (13, 15), (18, 28, 42))
    canvas.fill_inside(
        white, flip([(244, 310), (350, 310), (348, 342), (300, 332), (250, 346)]), (120, 120, 150), 5, 0.6
    )
    canvas.disc((x - 10, 338), (6, 7), (255, 255, 255))
    canvas.stroke(flip([(244, 356), (266, 326), (300, 316), (332, 328), (350, 360)]), (38, 30, 44), 6)
    canvas.stroke(flip([(268, 374), (296, 382), (328, 375)]), (120, 84, 84), 2.5)
    canvas.stroke(flip([(256, 318), (300, 300), (338, 314)]), (176, 126, 112), 2.5)
    canvas.stroke(flip([(242, 284), (268, 268), (304, 264), (340, 276)]), HAIR_DARK, 8)


def _draw_nose_and_mouth(canvas: _Canvas) -> None:
    canvas.fill([(376, 330), (392, 330), (404, 420), (384, 440), (364, 420)], (255, 232, 214), 7, 0.7)
    canvas.fill([(352, 430), (384, 446), (416, 430), (402, 448), (384, 454), (366, 448)], SHADE, 4, 0.9)
    canvas.stroke([(362, 440), (370, 446)], (150, 96, 88), 3)
    canvas.stroke([(398, 446), (406, 440)], (150, 96, 88), 3)
    upper = [(326, 500), (360, 490), (376, 486), (384, 490), (392, 486), (408, 490), (442, 500), (408, 504),
             (384, 506),
             (360, 504)]  # fmt: skip
    lower = [(326, 500), (360, 504), (384, 506), (408, 504), (442, 500), (416, 522), (384, 530), (352, 522)]
    canvas.fill(upper, (206, 104, 106))
    canvas.fill(lower, (222, 126, 124))
    canvas.fill([(362, 512), (406, 512), (398, 520), (370, 520)], (244, 178, 170), 3, 0.8)
    canvas.stroke([(326, 500), (358, 504), (384, 506), (410, 504), (442, 500)], (120, 46, 56), 3)
    canvas.fill([(354, 534), (414, 534), (384, 546)], SHADE, 6, 0.7)


def _draw_fringe(canvas: _Canvas) -> None:
    fringe = [(384, 84), (486, 104), (566, 196), (578, 330), (560, 452), (548, 330), (520, 250), (470, 226),
              (452, 190),
              (430, 236), (392, 244), (384, 196), (362, 246), (310, 250), (268, 262), (240, 320), (222, 440),
              (196, 330),
              (204, 190), (282, 104)]  # fmt: skip
    canvas.fill_inside(FACE, [(x, y + 10) for x, y in fringe], SHADE, 8, 0.45)
    canvas.fill(fringe, HAIR)
    canvas.fill_inside(
        fringe, [(250, 150), (384, 128), (518, 150), (530, 176), (384, 152), (238, 176)], HAIR_LIGHT, 8, 0.8
    )
    for x0, x1, y1 in ((300, 262, 252), (340, 330, 240), (384, 384, 226), (430, 442, 214), (474, 524, 240)):
        canvas.stroke([(x0, 110), ((x0 + x1) / 2 - 4, 170), (x1, y1)], HAIR_DARK, 2)


def speak(text: str, engine: str, path: Path) -> None:
    """Speak ``text`` with "flite" or "espeak-ng" into a WAV file.

    Raises:
        BackendError: the synthesizer is not installed.
    """
    program = shutil.which(engine)
    if program is None:
        raise BackendError(f"{engine} is not installed (Debian: apt-get install {engine})")
    if engine == "flite":
        command = [program, "-voice", "slt", "-t", text, "-o", str(path)]
    else:
        command = [program, "-v", "en-us", "-s", "160", "-w", str(path), text]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    draw_character().save(out / "character.png", optimize=True)
    speak(VOICE_A, "flite", out / "voice_a.wav")
    speak(VOICE_B, "espeak-ng", out / "voice_b.wav")


if __name__ == "__main__":
    main()
