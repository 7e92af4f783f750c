"""Reading the attention face mesh into OpenVINO.

The network (Grishchenko et al. 2020, arXiv:2006.10962) finds the 468 landmarks, cuts the lips and
both eyes out of its own feature map along them, and looks at each again; its lips really close and its
lids really shut, which the plain mesh's do not. Its file uses three TFLite custom operations that
OpenVINO does not know. They are small geometry, written here with OpenVINO's own operations:

1. ``Landmarks2TransformMatrix``: landmarks [1, 468, 3] → affine matrix [1, 4, 4] from pixels of a
   16 × 16 crop to pixels of the feature map: the box around one region's landmarks, upright along
   two of them, with a margin of 1.5.
2. ``TransformTensorBilinear``: feature map [1, 48, 48, 32] × matrix → crop [1, 16, 16, 32].
3. ``TransformLandmarks``: points [1, N, 2] × matrix → points [1, N, 2].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import AssetError

__all__ = ["LEFT_EYE_MESH", "LIPS_MESH", "RIGHT_EYE_MESH", "read_attention_model"]

CROP = 16
MARGIN = 1.5

# Each region's landmarks in the order of the network's output, from the file's own options.
LIPS_MESH = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
    *(76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
    *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
)
RIGHT_EYE_MESH = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
    *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189),
    *(35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245),
    *(156, 70, 63, 105, 66, 107, 55, 193),
)
LEFT_EYE_MESH = (
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
    *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413),
    *(265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465),
    *(383, 300, 293, 334, 296, 336, 285, 417),
)
# Landmarks, and the two along which the crop lies, left to right; in the order of the file.
REGIONS = ((LIPS_MESH, 61, 291), (RIGHT_EYE_MESH, 33, 133), (LEFT_EYE_MESH, 362, 263))


def read_attention_model(path: Path) -> Any:
    """The network of ``path`` as an ``openvino.Model`` without custom operations.

    Input float32 [1, 192, 192, 3] in 0..1. Outputs, flat, in px of the input: mesh [468, 3], lips
    [80, 2], right and left eye [71, 2] (:data:`RIGHT_EYE_MESH`, ...), right and left iris [5, 2]; and the
    logit of there being a face. (The file says "left" for the eye on the picture's left.) Raises
    :class:`~engine.errors.AssetError` if the graph is not the expected one.
    """
    from openvino import Model, PartialShape
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tflite")
    model: Model = frontend.convert_partially(frontend.load(str(path)))
    names = [set(port.get_names()) for port in model.outputs]
    custom = [node for node in model.get_ordered_ops() if node.get_type_name() == "TFFrameworkNode"]
    # Unknown nodes keep their position in the file as their name: file order tells the regions.
    custom.sort(key=lambda node: int(node.get_friendly_name()))
    if [node.get_input_size() for node in custom] != [1] * 3 + [2] * 8:
        raise AssetError(
            f"{path} is not the attention face mesh that is expected; delete it and set up again"
        )
    for node in custom:
        sources = [node.input_value(i) for i in range(node.get_input_size())]
        known = _translate(sources, custom.index(node)).output(0)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(known)
    model.validate_nodes_and_infer_types()
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names(name)
    assert all(port.get_partial_shape() != PartialShape.dynamic() for port in model.outputs)
    return model


def _translate(sources: list[Any], position: int) -> Any:
    if len(sources) == 1:
        return _crop_matrix(sources[0], *REGIONS[position])
    if len(sources[0].get_partial_shape()) == 4:
        return _crop_features(*sources)
    return _move_points(*sources)


def _crop_matrix(landmarks: Any, mesh: tuple[int, ...], left: int, right: int) -> Any:
    """Operation 1 for one region; x' = c x + s y, y' = -s x + c y are the upright coordinates."""
    from openvino import opset13 as ov

    def pick(indices: Any, column: int) -> Any:
        rows = ov.gather(landmarks, np.array(indices, np.int32), np.int32(1))
        return ov.gather(rows, np.array([column], np.int32), np.int32(2))  # [1, K, 1]

    dx = ov.subtract(pick([right], 0), pick([left], 0))
    dy = ov.subtract(pick([right], 1), pick([left], 1))
    length = ov.sqrt(ov.add(ov.multiply(dx, dx), ov.multiply(dy, dy)))
    c, s = ov.divide(dx, length), ov.divide(dy, length)
    x, y = pick(mesh, 0), pick(mesh, 1)
    upright = (
        ov.add(ov.multiply(x, c), ov.multiply(y, s)),
        ov.subtract(ov.multiply(y, c), ov.multiply(x, s)),
    )
    axis = np.array([1], np.int64)
    low = [ov.reduce_min(u, axis, True) for u in upright]
    high = [ov.reduce_max(u, axis, True) for u in upright]
    u, v = (ov.multiply(ov.add(a, b), np.float32(0.5)) for a, b in zip(low, high, strict=True))
    centre_x = ov.subtract(ov.multiply(u, c), ov.multiply(v, s))
    centre_y = ov.add(ov.multiply(u, s), ov.multiply(v, c))
    # M = shift(centre) turn(c, s) scale shift(-CROP / 2)
    sx, sy = (
        ov.multiply(ov.subtract(b, a), np.float32(MARGIN / CROP)) for a, b in zip(low, high, strict=True)
    )
    m00, m01 = ov.multiply(c, sx), ov.negative(ov.multiply(s, sy))
    m10, m11 = ov.multiply(s, sx), ov.multiply(c, sy)
    half = np.float32(CROP / 2)
    m03 = ov.subtract(centre_x, ov.multiply(ov.add(m00, m01), half))
    m13 = ov.subtract(centre_y, ov.multiply(ov.add(m10, m11), half))
    zero = np.zeros((1, 1, 1), np.float32)
    rows = [ov.concat([m00, m01, zero, m03], 2), ov.concat([m10, m11, zero, m13], 2)]
    rest = np.array([[[0, 0, 1, 0], [0, 0, 0, 1]]], np.float32)
    return ov.concat([*rows, rest], 1)


def _apply(points: Any, matrix: Any) -> Any:
    """Points [1, N, 2] (node or array) through the affine part of ``matrix`` [1, 4, 4]."""
    from openvino import opset13 as ov

    def block(low: int, high: int) -> Any:
        begin, end = np.array([0, 0, low], np.int64), np.array([1, 2, high], np.int64)
        return ov.slice(matrix, begin, end, np.ones(3, np.int64), np.arange(3, dtype=np.int64))

    turned = ov.matmul(points, block(0, 2), False, True)
    return ov.add(turned, ov.transpose(block(3, 4), np.array([0, 2, 1], np.int64)))


def _crop_features(features: Any, matrix: Any) -> Any:
    """Operation 2: sample pixel centres, zero outside."""
    from openvino import opset13 as ov

    side = features.get_partial_shape()[1].get_length()
    centres = np.stack(np.meshgrid(np.arange(CROP), np.arange(CROP)), axis=-1).reshape(1, -1, 2) + 0.5
    place = _apply(centres.astype(np.float32), matrix)
    # GridSample counts from -1 at the map's left edge to 1 at its right edge.
    grid = ov.subtract(ov.multiply(place, np.float32(2 / side)), np.float32(1))
    grid = ov.reshape(grid, np.array([1, CROP, CROP, 2], np.int64), False)
    planes = ov.transpose(features, np.array([0, 3, 1, 2], np.int64))
    crop = ov.grid_sample(planes, grid, {"align_corners": False, "mode": "bilinear", "padding_mode": "zeros"})
    return ov.transpose(crop, np.array([0, 2, 3, 1], np.int64))


def _move_points(points: Any, matrix: Any) -> Any:
    """Operation 3."""
    return _apply(points, matrix)
