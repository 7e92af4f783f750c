"""The tracker network: shapes, gradients, batch independence, its compiled twin; following a face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.config import asset_path
from engine.face.image import load_image
from engine.face.landmarks import find_faces
from engine.face.tracker import SIDE, NeuralTracker, Seen, TrackerNet, along_sight, face_square
from engine.runtime import compile
from engine.types import MOTION
from engine.weights import load_weights, weights_path


def _net() -> TrackerNet:
    """Random weights, but a shape model with every landmark inside the picture."""
    torch.manual_seed(0)
    net = TrackerNet()
    net.mean.copy_(0.8 * torch.rand(956) - 0.4)
    net.modes.normal_(0.0, 0.01)
    for part in (net.eye, net.mouth):
        torch.nn.init.normal_(part.offsets.weight, std=0.05)
    return net.eval()


def _trained() -> TrackerNet:
    if not weights_path("tracker").is_file():
        pytest.skip("the tracker's weights are not here")
    net = TrackerNet()
    net.load_state_dict(load_weights("tracker"))
    return net.eval()


def test_outputs_and_features_have_the_shapes_they_say() -> None:
    net, x = _net(), torch.rand(2, 3, SIDE, SIDE)
    look = net(x)
    assert [list(part.shape) for part in look] == [[2, 478, 2], [2, 64], [2, 3], [2, 2], [2, 2]]
    shapes = [list(part.shape) for part in net.features(x)]
    assert shapes == [[2, 24, 64, 64], [2, 48, 32, 32], [2, 80, 16, 16], [2, 128, 8, 8]]
    assert [f.shape[-1] for f in net.features(torch.rand(1, 3, 192, 192))] == [96, 48, 24, 12]


@pytest.mark.parametrize("output", range(5))
def test_every_output_moves_with_the_picture(output: int) -> None:
    x = torch.rand(1, 3, SIDE, SIDE, requires_grad=True)
    _net()(x)[output].square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().sum()) > 0.0


def test_a_picture_looks_the_same_alone_and_in_a_batch() -> None:
    net, x = _net(), torch.rand(3, 3, SIDE, SIDE)
    with torch.no_grad():
        together, alone = net(x), net(x[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def test_the_size_stays_small() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = _net()
    assert sum(p.numel() for p in net.parameters()) < 2_000_000
    with FlopCounterMode(display=False) as count:
        net(torch.rand(1, 3, SIDE, SIDE))
    assert count.get_total_flops() < 0.35e9


def test_openvino_computes_the_same() -> None:
    pytest.importorskip("openvino")
    net, x = _net(), torch.rand(1, 3, SIDE, SIDE)
    runner = compile(net, (x,), backend="openvino")
    with torch.no_grad():
        expected = net(x)
    for a, b in zip(runner(x), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_square_follows_the_face() -> None:
    points = np.random.default_rng(0).normal(0.0, 40.0, (478, 2)).astype(np.float32) + 200.0
    square, moved = face_square(points), face_square(2.0 * points + np.float32(7.0))
    assert moved.size == pytest.approx(2.0 * square.size, rel=1e-4)
    assert (moved.x, moved.y) == pytest.approx((2.0 * square.x + 7.0, 2.0 * square.y + 7.0), rel=1e-4)


def test_a_head_off_the_middle_shows_its_side() -> None:
    still = Rotation.identity()
    assert along_sight(still, [0.0, 0.0], 500.0).magnitude() == pytest.approx(0.0, abs=1e-9)
    # A frontal head to the right of a camera is seen from its right: as if its nose pointed image right.
    seen = along_sight(still, [500.0, 0.0], 500.0).as_rotvec()
    assert seen == pytest.approx([0.0, np.pi / 4, 0.0], abs=1e-6)


def test_motion_counts_from_rest() -> None:
    random = np.random.default_rng(1)
    motion = random.uniform(0.0, 0.3, MOTION.size).astype(np.float32)
    rest = Seen(np.zeros((478, 2), np.float32), motion, np.array([0.1, 0.2], np.float32))
    same = rest.relative(rest)
    assert np.abs(same[MOTION.pose.start :]).max() < 1e-6
    assert same[MOTION.index("browInnerUp")] == 0.0
    assert same[MOTION.index("jawOpen")] == motion[MOTION.index("jawOpen")]
    assert same[MOTION.index("eyeBlinkRight")] == 0.0
    shut = Seen(rest.points, motion, np.array([0.1, 1.0], np.float32)).relative(rest)
    assert shut[MOTION.index("eyeBlinkRight")] == pytest.approx(1.0)
    turned = motion.copy()
    turned[MOTION.rotation] = (
        Rotation.from_rotvec([0.0, 0.2, 0.0]) * Rotation.from_rotvec(motion[MOTION.rotation])
    ).as_rotvec()
    away = Seen(rest.points, turned, rest.blink).relative(rest)
    assert away[MOTION.rotation] == pytest.approx([0.0, 0.2, 0.0], abs=1e-5)


def test_it_follows_a_face_and_says_when_there_is_none() -> None:
    net = _trained()
    picture = load_image(asset_path("demo/astronaut.png")).rgb
    tracker = NeuralTracker(net)
    truth = find_faces(picture)[0].points
    unit = float(np.linalg.norm(truth[263] - truth[33]))
    for shift in range(0, 24, 3):
        seen = tracker.track(np.ascontiguousarray(np.roll(picture, shift, axis=1)))
        assert seen is not None
        away = np.linalg.norm(seen.points - truth - [shift, 0], axis=1).mean() / unit
        assert away < 0.12
        assert np.isfinite(seen.motion).all()
    blank = np.full_like(picture, 127)
    found = [tracker.track(blank) for _ in range(2 * NeuralTracker.CHECK)]
    assert found[-1] is None
