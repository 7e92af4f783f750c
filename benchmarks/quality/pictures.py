"""Distances between generated and real pictures, on pixels alone; what faces are is not known here.

Pictures are uint8 [H, W, 3], masks bool [H, W], luminance 0..255 by BT.601.

* **SSIM** (Wang et al., 2004): Gaussian window of 11 x 11, sigma 1.5, on luminance.
* **PSNR** in dB over all three channels.
* **CPBD** (Narvekar and Karam, 2011): the share of edges whose blur cannot be seen. 0 blurred .. 1 sharp.
* **Colour**: Hellinger distance of smoothed CIELAB histograms. 0 same .. 1 no colour in common.
* **Flicker**: the second difference in time of pixels at which the real video stands still.
"""

from __future__ import annotations

import cv2
import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["colour_distance", "cpbd", "flicker", "grainy", "luminance", "mean_in", "psnr", "ssim_map"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
BLOCK = 64
EDGE_SHARE = 0.002
"""A block with more than this share of edge pixels counts (Narvekar and Karam, section II)."""
BETA = 3.6
JUST_BLURRED = 0.63
"""Probability of detection at the just noticeable blur, 1 - 1/e."""
_BINS = (12, 12, 12)  # L, a, b
QUIET = 2.0
"""Levels of 255: where the real video's second difference stays below, it stands still."""


def luminance(rgb: Bytes) -> Floats:
    """float32 [H, W], 0..255."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def grainy(rgb: Bytes, rng: np.random.Generator, levels: float = 2.0) -> Bytes:
    """The picture under white noise of deviation ``levels``: the same to people, another to a detector."""
    noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(levels)
    return np.asarray(np.clip(np.round(rgb + noise), 0, 255), np.uint8)


def ssim_map(a: Bytes, b: Bytes) -> Floats:
    """Structural similarity [H, W] of two pictures; its mean is SSIM."""
    x, y = luminance(a), luminance(b)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    both = _window(x * y) - mean_x * mean_y
    top = (2.0 * mean_x * mean_y + _C1) * (2.0 * both + _C2)
    return np.asarray(top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)), np.float32)


def _window(x: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101), np.float32)


def mean_in(values: Floats, mask: Mask) -> float:
    """Mean of ``values`` [H, W] where ``mask``; NaN for an empty mask."""
    return float(values[mask].mean()) if mask.any() else float("nan")


def psnr(a: Bytes, b: Bytes, mask: Mask | None = None) -> float:
    """Peak signal to noise ratio, dB, at most 100 (equal pictures); NaN for an empty mask."""
    square = (a.astype(np.float32) - b.astype(np.float32)) ** 2
    inside = square if mask is None else square[mask]
    if not inside.size:
        return float("nan")
    return float(10.0 * np.log10(255.0**2 / max(float(inside.mean()), 255.0**2 * 1e-10)))


# -- sharpness ---------------------------------------------------------------------------------


def cpbd(rgb: Bytes) -> float:
    """Cumulative probability of blur detection, 0..1; NaN for a picture without edges.

    In every block of 64 x 64 px with enough edges, each vertical edge has a width w in px (the way from
    the darkest to the brightest point along its row). Its blur is seen with probability
    1 - exp(-(w / w_JNB)^3.6), where w_JNB is 5 px in blocks of a contrast up to 50 levels, else 3.
    CPBD is the share of edges for which that is at most 63 %.
    """
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    edges = _canny(grey)
    widths = _edge_widths(grey)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    clear = total = 0
    for y in range(rows):
        for x in range(columns):
            block = np.s_[BLOCK * y : BLOCK * (y + 1), BLOCK * x : BLOCK * (x + 1)]
            if edges[block].mean() <= EDGE_SHARE:
                continue
            level = grey[block]
            just = 5.0 if int(level.max()) - int(level.min()) <= 50 else 3.0
            found = widths[block]
            found = found[found > 0]
            blur = 1.0 - np.exp(-((found / just) ** BETA))
            clear, total = clear + int((blur <= JUST_BLURRED).sum()), total + found.size
    return clear / total if total else float("nan")


def _canny(grey: Bytes) -> Mask:
    """Canny's edges, his thresholds set by the picture: 70 % of its pixels are no edges (at least 1/64 of the
    steepest gradient), the lower one 0.4 of that."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 2.0**0.5)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, ksize=3) * 4.0 for dx in (1, 0)]
    size = np.hypot(slopes[0], slopes[1])
    high = max(float(np.percentile(size, 70.0)), float(size.max()) / 64.0, 1.0)
    x, y = (np.round(slope).astype(np.int16) for slope in slopes)
    return np.asarray(cv2.Canny(x, y, 0.4 * high, high, L2gradient=True) > 0)


def _edge_widths(grey: Bytes) -> Floats:
    """float32 [H, W]: at each vertical edge its width along the row in px, 0 elsewhere.

    Edges are local maxima along the row of the Sobel gradient above twice its root mean square
    (thinned as in Marziliano et al., 2002).
    """
    slope = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    power = slope**2
    before, after = np.roll(power, 1, axis=1), np.roll(power, -1, axis=1)
    edge = (power > 4.0 * power.mean()) & (power >= before) & (power > after)
    edge[:, [0, -1]] = False
    out = np.zeros(grey.shape, np.float32)
    _walk(grey, edge, slope > 0, out)
    return out


@nb.njit(cache=True)
def _walk(grey: Bytes, edge: Mask, rising: Mask, out: Floats) -> None:
    """At every ``edge`` pixel the length of the monotonic stretch of its row around it."""
    for y in range(grey.shape[0]):
        for x in range(grey.shape[1]):
            if not edge[y, x]:
                continue
            sign = 1 if rising[y, x] else -1
            right = left = x
            while right + 1 < grey.shape[1] and sign * (int(grey[y, right + 1]) - int(grey[y, right])) > 0:
                right += 1
            while left > 0 and sign * (int(grey[y, left]) - int(grey[y, left - 1])) > 0:
                left -= 1
            out[y, x] = right - left


# -- colour and time ---------------------------------------------------------------------------


def colour_distance(a: Bytes, in_a: Mask, b: Bytes, in_b: Mask) -> float:
    """Hellinger distance 0..1 of the colours of two regions; NaN where one is empty."""
    if not (in_a.any() and in_b.any()):
        return float("nan")
    p, q = _colours(a, in_a), _colours(b, in_b)
    return float(np.sqrt(max(0.0, 1.0 - float(np.sqrt(p * q).sum()))))


def _colours(rgb: Bytes, inside: Mask) -> Floats:
    """CIELAB histogram of the region, each bin blurred over its neighbours, sum 1."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[inside].astype(np.int32)
    # Skin covers little of a and b: their bins span 96..192 of OpenCV's 0..255.
    light = lab[:, 0] * _BINS[0] // 256
    tint = [np.clip((lab[:, k] - 96) * _BINS[k] // 96, 0, _BINS[k] - 1) for k in (1, 2)]
    places = np.ravel_multi_index((light, tint[0], tint[1]), _BINS)
    counts = np.bincount(places, minlength=int(np.prod(_BINS))).astype(np.float64).reshape(_BINS)
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
        parts = [np.take(padded, np.arange(n, n + _BINS[axis]), axis=axis) for n in range(3)]
        counts = 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    return np.asarray(counts / counts.sum(), np.float32)


def flicker(made: list[Bytes], real: list[Bytes], masks: list[Mask]) -> tuple[float, float]:
    """(generated, real) mean absolute second difference in time, levels of 255, where the real one stands
    still: pixels inside the face at which it stays below :data:`QUIET` in all of three frames' luminance,
    lightly blurred. NaN where there is no such pixel. No flow is needed: still pixels need no warp.

    Lists of T consecutive frames and face masks.
    """
    mine, theirs, count = 0.0, 0.0, 0
    soft_made, soft_real = ([cv2.GaussianBlur(luminance(f), (0, 0), 1.0) for f in v] for v in (made, real))
    for t in range(1, len(real) - 1):
        still = np.abs(soft_real[t + 1] - 2.0 * soft_real[t] + soft_real[t - 1])
        drift = np.abs(soft_real[t + 1] - soft_real[t - 1])
        quiet = masks[t] & (still < QUIET) & (drift < 2.0 * QUIET)
        mine += float(np.abs(soft_made[t + 1] - 2.0 * soft_made[t] + soft_made[t - 1])[quiet].sum())
        theirs += float(still[quiet].sum())
        count += int(quiet.sum())
    return (mine / count, theirs / count) if count else (float("nan"), float("nan"))
