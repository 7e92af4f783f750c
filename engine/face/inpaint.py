"""The background behind the person, for the moment the head moves and uncovers it.

Only a ring around the silhouette is ever seen, so that is where the work goes: a push-pull pyramid
fills everything smoothly, then PatchMatch (Barnes et al., 2009) inside an EM loop (Wexler et al.,
"Space-Time Completion of Video", 2007) finds at 1/4 size which background patches continue the
surroundings, and the full-size pixels are copied from there, so that texture and grain are the
photo's own. A limited low-frequency correction keeps gradients (studio walls, skies) unbroken.

All randomness is a fixed integer hash: the same photo gives the same background.
"""

from __future__ import annotations

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["fill_background", "push_pull"]

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int32]

_STEP = 4  # full-size pixels per pixel of the finest matching level
_REACH = 22  # matching pixels inwards that are synthesised (88 px at full size)
_HALF = 3  # patches are 7 x 7
_LIMIT = 14.0  # largest low-frequency correction, in levels


def push_pull(image: Float, known: Float) -> Float:
    """Fill smoothly from the known pixels (Gortler et al., "The Lumigraph", 1996).

    ``image`` float32 [H, W, C], ``known`` float32 [H, W] weights 0..1; returns float32 [H, W, C].
    Nothing known at all gives zeros.
    """
    height, width = known.shape
    if height <= 2 or width <= 2:
        total = max(float(known.sum()), 1e-6)
        mean = (image * known[..., None]).sum((0, 1)) / total
        return np.asarray(image * known[..., None] + mean * (1 - known[..., None]), np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA), np.float32)
    colour = cv2.resize(image * known[..., None], half, interpolation=cv2.INTER_AREA)
    mean = np.asarray(colour.reshape(*weight.shape, -1) / np.maximum(weight, 1e-6)[..., None], np.float32)
    coarse = push_pull(mean, np.minimum(1.0, 4.0 * weight))
    up = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(image.shape)
    return np.asarray(up + (image - up) * known[..., None], np.float32)


def _grow(mask: Bytes, size: int) -> Bytes:
    return np.asarray(cv2.dilate(mask, np.ones((size, size), np.uint8)), np.uint8)


def _resize(mask: Bytes, size: tuple[int, int], how: int = cv2.INTER_NEAREST) -> Bytes:
    return np.asarray(cv2.resize(mask, size, interpolation=how), np.uint8)


def fill_background(rgb: Bytes, matte: Float) -> Bytes:
    """The picture without the person.

    ``rgb`` uint8 [H, W, 3], ``matte`` float32 [H, W] 0 background .. 1 person. Returns uint8
    [H, W, 3]: background pixels as they are, the hole continued from its surroundings.
    """
    hole = _grow(np.asarray(matte > 0.03, np.uint8), 7)
    if not hole.any():
        return rgb.copy()
    image = rgb.astype(np.float32)
    # Wisps and glow that the matte missed would bleed inwards: seed from a little further out.
    seeds = 1 - _grow(hole, 7)
    if not seeds.any():
        seeds = 1 - hole
    smooth = push_pull(image, seeds.astype(np.float32))
    filled = _textured(image, smooth, hole, seeds)
    soft = cv2.GaussianBlur(_grow(hole, 3).astype(np.float32), (0, 0), 1.5)
    soft = np.maximum(soft, hole)[..., None]
    return np.asarray(np.clip(image + soft * (filled - image) + 0.5, 0, 255), np.uint8)


def _textured(image: Float, smooth: Float, hole: Bytes, seeds: Bytes) -> Float:
    """Ring of the hole copied from matching background patches, ``smooth`` deeper inside."""
    height, width = hole.shape
    small = (width // _STEP, height // _STEP)
    source = cv2.resize(seeds.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.999
    # A patch may be copied only if all of it is background.
    window = np.ones((2 * _HALF + 1,) * 2, np.uint8)
    usable = np.asarray(cv2.erode(source.astype(np.uint8), window, borderValue=0), np.uint8)
    if int(usable.sum()) < 150:
        return _grain(smooth, image, seeds)
    base = np.where(seeds[..., None] > 0, image, smooth).astype(np.float32)
    guess = np.asarray(cv2.resize(base, small, interpolation=cv2.INTER_AREA), np.float32)
    depth = cv2.distanceTransform((~source).astype(np.uint8), cv2.DIST_L2, 3)
    target = ((depth > 0) & (depth < _REACH)).astype(np.uint8)
    offsets = _match(guess, usable, target, ~source)
    copied = _copy(image, offsets, target)
    low = cv2.GaussianBlur(smooth - copied, (0, 0), 14.0)
    copied = copied + np.clip(low, -_LIMIT, _LIMIT)
    inner = cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR)
    fade = np.clip((inner - 0.7 * _REACH) / (0.28 * _REACH), 0.0, 1.0)[..., None]
    return np.asarray(copied + fade * (_grain(smooth, image, seeds) - copied), np.float32)


def _grain(smooth: Float, image: Float, seeds: Bytes) -> Float:
    """``smooth`` with noise as strong as that of the known background."""
    fine = (image - cv2.GaussianBlur(image, (0, 0), 1.2)).mean(-1)
    known = np.abs(fine[seeds > 0])
    # Median: edges and texture are not noise.
    sigma = min(1.48 * float(np.median(known)), 3.0) if known.size else 0.0
    noise = np.random.Generator(np.random.Philox(7)).standard_normal(fine.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.7) * 2.0
    return np.asarray(smooth + sigma * noise[..., None], np.float32)


def _match(guess: Float, usable: Bytes, target: Bytes, unknown: npt.NDArray[np.bool_]) -> Offsets:
    """Source pixel (row, column) for every pixel of the small picture, int32 [h, w, 2].

    EM from coarse to fine: match patches (E), vote their colours into the guess (M).
    """
    offsets: Offsets | None = None
    for shrink in (4, 2, 1):
        size = (guess.shape[1] // shrink, guess.shape[0] // shrink)
        level = cv2.resize(guess, size, interpolation=cv2.INTER_AREA) if shrink > 1 else guess
        ok = _resize(usable, size)
        want = _resize(target, size)
        free = _resize(unknown.astype(np.uint8), size, cv2.INTER_AREA)
        level = np.ascontiguousarray(level, np.float32)
        if not ok.any():
            continue
        places = np.ascontiguousarray(np.argwhere(ok), np.int32)
        offsets = _start(ok, places) if offsets is None else _finer(offsets, size, ok, places)
        if shrink < 4:
            _vote(level, offsets, want)
        for k in range(4 if shrink > 1 else 2):
            _search(level, offsets, ok, want, places, free, k + 17 * shrink)
            _vote(level, offsets, want)
    assert offsets is not None  # the finest level always has usable patches
    return offsets


def _start(ok: Bytes, places: Offsets) -> Offsets:
    """Every pixel points at itself, or at the nearest usable patch."""
    _, labels = cv2.distanceTransformWithLabels(1 - ok, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros((int(labels.max()) + 1, 2), np.int32)
    nearest[labels[places[:, 0], places[:, 1]]] = places
    return np.ascontiguousarray(nearest[labels])


def _finer(offsets: Offsets, size: tuple[int, int], ok: Bytes, places: Offsets) -> Offsets:
    """Offsets of the next level: same displacement, doubled; repaired where it is not usable."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.int32)
    cy, cx = np.minimum(y // 2, offsets.shape[0] - 1), np.minimum(x // 2, offsets.shape[1] - 1)
    move = 2 * (offsets[cy, cx] - np.stack([cy, cx], -1))
    to = np.stack([y, x], -1) + move
    to = np.clip(to, 0, np.array([size[1] - 1, size[0] - 1]))
    bad = ok[to[..., 0], to[..., 1]] == 0
    nearest = _start(ok, places)
    to[bad] = nearest[to[bad][:, 0], to[bad][:, 1]]
    return np.ascontiguousarray(to, np.int32)


@nb.njit(cache=True, nogil=True)
def _cost(image: Float, free: Bytes, y: int, x: int, sy: int, sx: int, best: float) -> float:
    """Squared difference of two patches; known pixels of the target count four times."""
    height, width = image.shape[0], image.shape[1]
    total, weight = 0.0, 0.0
    for dy in range(-3, 4):
        ty = y + dy
        if ty < 0 or ty >= height or sy + dy < 0 or sy + dy >= height:
            continue
        for dx in range(-3, 4):
            tx = x + dx
            if tx < 0 or tx >= width or sx + dx < 0 or sx + dx >= width:
                continue
            w = 1.0 if free[ty, tx] else 4.0
            for c in range(3):
                d = image[ty, tx, c] - image[sy + dy, sx + dx, c]
                total += w * d * d
            weight += w
        if total > best * 196.0:
            return 1e30
    return total / max(weight, 1.0)


@nb.njit(cache=True, nogil=True)
def _search(
    image: Float, offsets: Offsets, ok: Bytes, want: Bytes, places: Offsets, free: Bytes, salt: int
) -> None:
    """One PatchMatch sweep in each direction: propagation and random search, in place."""
    height, width = want.shape
    for sweep in range(2):
        step = 1 if sweep == 0 else -1
        for row in range(height):
            y = row if sweep == 0 else height - 1 - row
            for column in range(width):
                x = column if sweep == 0 else width - 1 - column
                if want[y, x] == 0:
                    continue
                sy, sx = offsets[y, x, 0], offsets[y, x, 1]
                best = _cost(image, free, y, x, sy, sx, 1e30)
                for k in range(2):
                    py, px = (y - step, x) if k == 0 else (y, x - step)
                    if py < 0 or px < 0 or py >= height or px >= width:
                        continue
                    qy, qx = offsets[py, px, 0] + y - py, offsets[py, px, 1] + x - px
                    if qy < 0 or qx < 0 or qy >= height or qx >= width or ok[qy, qx] == 0:
                        continue
                    cost = _cost(image, free, y, x, qy, qx, best)
                    if cost < best:
                        best, sy, sx = cost, qy, qx
                state = np.uint32((y * 7919 + x) * 31 + salt * 104729 + sweep * 7 + 1)
                radius = max(height, width)
                for _ in range(6):
                    state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
                    a = int(state >> np.uint32(8))
                    state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
                    b = int(state >> np.uint32(8))
                    if radius >= height // 2:
                        p = a % places.shape[0]
                        qy, qx = places[p, 0], places[p, 1]
                    else:
                        qy = sy + a % (2 * radius + 1) - radius
                        qx = sx + b % (2 * radius + 1) - radius
                    radius = max(1, radius // 3)
                    if qy < 0 or qx < 0 or qy >= height or qx >= width or ok[qy, qx] == 0:
                        continue
                    cost = _cost(image, free, y, x, qy, qx, best)
                    if cost < best:
                        best, sy, sx = cost, qy, qx
                offsets[y, x, 0], offsets[y, x, 1] = sy, sx


@nb.njit(cache=True, nogil=True)
def _vote(image: Float, offsets: Offsets, want: Bytes) -> None:
    """Colour of every wanted pixel: the mean of what the patches over it say, in place."""
    height, width = want.shape
    out = image.copy()
    for y in range(height):
        for x in range(width):
            if want[y, x] == 0:
                continue
            r, g, b, n = 0.0, 0.0, 0.0, 0.0
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    ty, tx = y + dy, x + dx
                    if ty < 0 or tx < 0 or ty >= height or tx >= width or want[ty, tx] == 0:
                        continue
                    sy, sx = offsets[ty, tx, 0] - dy, offsets[ty, tx, 1] - dx
                    if sy < 0 or sx < 0 or sy >= height or sx >= width:
                        continue
                    w = 1.0 / (1.0 + dy * dy + dx * dx)
                    r += w * image[sy, sx, 0]
                    g += w * image[sy, sx, 1]
                    b += w * image[sy, sx, 2]
                    n += w
            if n > 0.0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = r / n, g / n, b / n
    image[:] = out


@nb.njit(cache=True, nogil=True)
def _copy(image: Float, offsets: Offsets, want: Bytes) -> Float:
    """Full-size pixels from the matched places: bilinear mix of the four nearest matches."""
    height, width = image.shape[0], image.shape[1]
    rows, columns = want.shape
    out = image.copy()
    for y in range(height):
        fy = (y + 0.5) / 4.0 - 0.5
        for x in range(width):
            if want[min(y // 4, rows - 1), min(x // 4, columns - 1)] == 0:
                continue
            fx = (x + 0.5) / 4.0 - 0.5
            iy, ix = int(np.floor(fy)), int(np.floor(fx))
            r, g, b, n = 0.0, 0.0, 0.0, 0.0
            for ky in range(2):
                for kx in range(2):
                    cy, cx = min(max(iy + ky, 0), rows - 1), min(max(ix + kx, 0), columns - 1)
                    if want[cy, cx] == 0:
                        continue
                    sy = y + 4 * (offsets[cy, cx, 0] - cy)
                    sx = x + 4 * (offsets[cy, cx, 1] - cx)
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                    w = (1.0 - abs(fy - iy - ky)) * (1.0 - abs(fx - ix - kx)) + 1e-3
                    r += w * image[sy, sx, 0]
                    g += w * image[sy, sx, 1]
                    b += w * image[sy, sx, 2]
                    n += w
            if n > 0.0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = r / n, g / n, b / n
    return out
