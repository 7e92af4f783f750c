"""The tracker benchmark on one photograph: its contenders answer in the truth's units and frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.quality.tracker import COLUMNS, fitter_look, measure, network_look, still_look, timings
from engine.config import asset_path
from engine.face.fitter import fit_face
from engine.face.image import load_image
from engine.face.landmarks import LandmarkModel, find_faces
from engine.face.roi import sample_roi
from engine.face.tracker import Look, TrackerNet, face_square
from engine.train.tracker import plain
from engine.train.tracker_data import WIDE, Rows


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The bundled portrait twice, the second time with another truth about its gaze."""
    rgb = load_image(asset_path("demo/astronaut.png")).rgb
    points = find_faces(rgb)[0].points
    square = face_square(points)
    wide = replace(square, size=square.size / 0.75)
    to = wide.to_image(WIDE)
    places = ((points - to[:, 2]) / to[0, 0]).astype(np.float32)
    fit = fit_face(places, WIDE)
    two = np.zeros((2, 2), np.float32)
    return Rows(
        frames=np.stack([sample_roi(rgb, wide, WIDE)] * 2),
        points=np.stack([places] * 2),
        expression=np.stack([fit.expression] * 2),
        rotation=np.stack([np.zeros(3, np.float32)] * 2),
        gaze=np.stack([fit.gaze, fit.gaze + np.float32(0.1)]),
        blink=two,
    )


def test_the_fitter_agrees_with_a_truth_of_its_own(rows: Rows) -> None:
    found = measure(fitter_look(rows, LandmarkModel()), rows)
    assert set(found) == set(COLUMNS)
    assert found["points_percent"] < 3.0
    assert found["expression"] < 0.05
    # 0 and about 8 degrees, plus what a second look differs by.
    assert 2.0 < found["gaze_deg"] < 7.0


def test_the_right_answer_has_no_error_and_the_mean_has_half_the_spread(rows: Rows) -> None:
    truth = plain(rows, [0, 1])
    right = Look(truth.points, truth.expression, truth.rotation, truth.gaze, truth.blink)
    assert all(value < 1e-2 for value in measure(right, rows).values())
    assert measure(still_look(rows), rows)["gaze_deg"] == pytest.approx(4.0, abs=0.3)


def test_the_network_is_asked_row_by_row_and_timed(rows: Rows) -> None:
    torch.manual_seed(0)
    net = TrackerNet().eval()
    look = network_look(net, rows)
    assert look.points.shape == (2, 478, 2)
    torch.testing.assert_close(look.gaze[0], look.gaze[1])
    times = timings(net, rows, repeats=2)
    assert set(times) == {"network_ms", "landmarks_ms", "fitter_ms"}
    assert all(value > 0.0 for value in times.values())
