"""The whole benchmark on bundled voices and on people made up for it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import __main__ as benchmark
from benchmarks.quality import performers
from benchmarks.quality.driving import measure_cost, open_recipe, perform, recipe_names
from benchmarks.quality.rows import measure
from benchmarks.quality.subjects import Subject, rest_of
from benchmarks.quality.table import combined, people
from engine.config import asset_path
from engine.train.motion_data import Clip, Item
from engine.train.mouth_geometry import opening_of
from engine.train.speech_data import load_audio
from engine.types import MOTION

FRAMES = 110


def _person(name: str, start_s: float) -> Subject:
    """Someone who moves like the default recipe under a seed of their own, speaking a bundled voice."""
    audio = load_audio(asset_path("demo/voice_a.wav"))[int(16_000 * start_s) :][: 640 * FRAMES]
    motion = perform(open_recipe("default"), audio, [99], np.zeros((1, 72)))[0]
    opening = opening_of(motion.astype(np.float32))
    clip = Clip(
        Item(name, "test", "eval", 0.0),
        audio,
        opening,
        np.zeros((FRAMES, 5), np.float32),
        np.ones(FRAMES, bool),
    )
    return Subject(clip, motion, rest_of(motion, opening.astype(np.float64)))


@pytest.fixture(scope="module")
def persons() -> list[Subject]:
    return [_person("talker.mp4", 0.5), _person("other.mp4", 3.0), _person("grid/reader.mp4", 5.0)]


def test_all_recipes_but_the_toy_are_measured() -> None:
    names = recipe_names()
    assert names[0] == "default"
    assert "tiny" not in names


def test_rows_of_a_batch_are_the_performances_of_single_streams(persons: list[Subject]) -> None:
    pipeline, audio = open_recipe("default"), persons[0].clip.audio[: 640 * 40]
    rests = np.zeros((3, 72))
    rests[2] = persons[1].rest
    together = perform(pipeline, audio, [0, 5, 5], rests)
    alone = perform(pipeline, audio, [5], rests[2:])
    assert np.allclose(together[2], alone[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_the_person_agrees_with_itself_and_a_still_face_does_not(persons: list[Subject]) -> None:
    groups, rows = measure(persons, performers.real(persons))
    assert set(groups) == {"all", "free_talk", "read"}
    assert groups["all"]["r"] == pytest.approx(1.0, abs=1e-3)
    assert groups["all"]["lmd_m"] == 0.0
    assert groups["all"]["ssim_pose"] == pytest.approx(1.0)
    assert groups["all"]["spectral_distance_db"] == pytest.approx(0.0, abs=1e-6)
    assert [row.clip for row in rows] == [p.name for p in persons]
    still, _ = measure(persons, performers.still(persons))
    assert np.isnan(still["all"]["r"])
    assert still["all"]["lmd_m"] > 0.2
    assert still["all"]["deviation_yaw"] == 0.0
    assert still["all"]["blinks"] == 0.0


def test_the_same_mouth_under_other_seeds_is_found(persons: list[Subject]) -> None:
    performed = performers.recipe(open_recipe("default"), persons, seeds=2)
    groups, _ = measure(persons, performed)
    assert performed[0].motions.shape == (2, FRAMES, 72)
    assert groups["all"]["r"] > 0.95, "the default's lips do not depend on the seed"
    assert groups["all"]["seeds_lips"] < 0.05
    assert groups["all"]["seeds_head_deg"] > 0.1
    text = combined("all", {"real": measure(persons, performers.real(persons))[0]["all"], "x": groups["all"]})
    assert "LMD-m" in text
    assert "blinks" in text
    ratios = people("all", groups["all"], {}, {"x": groups["all"]})
    assert ratios.count(" 1.00 ") == 8


def test_baselines_learn_a_mouth_and_move_nothing_else(persons: list[Subject]) -> None:
    fitted = performers.fit_baselines(persons)
    for performed in (fitted.follow_sound(persons), fitted.follow_loudness(persons)):
        assert performed[0].motions.shape == (1, FRAMES, 72)
        assert not performed[0].motions[0, :, MOTION.pose].any()
        groups, _ = measure(persons, performed)
        assert groups["all"]["r"] > 0.3
        assert groups["all"]["lmd_m"] < measure(persons, performers.rest(persons))[0]["all"]["lmd_m"]


def test_cost_is_taken_frame_by_frame(persons: list[Subject]) -> None:
    cost = measure_cost(open_recipe("default"), persons[0].clip.audio[: 640 * 60], warm_frames=10)
    assert 0.0 < cost.cpu_p50_ms <= cost.cpu_p99_ms
    assert cost.lookahead_ms <= 80.0


def test_a_run_prints_every_row_and_writes_its_plots(
    persons: list[Subject], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "MANIFEST.csv").write_text("path,notes\n", encoding="utf-8")
    options = argparse.Namespace(data=tmp_path, tracks=tmp_path, seeds=2, out=tmp_path / "out", clips=True)
    rows = benchmark.run(persons[:2], [persons[2]], ["default"], options)
    printed = capsys.readouterr().out
    for name in ("real", "another person", "still (median)", "still (rest)", "loudness", "ridge", "default"):
        assert f"\n{name}" in printed
        assert name in rows
    assert "amplitude" not in rows["ridge"]["all"]
    assert rows["default"]["all"]["lookahead_ms"] == 40.0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "quality_head_default.png",
        "quality_mouth_default.png",
        "quality_spectrum.png",
    ]


def test_nothing_to_measure_says_so(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--data", str(data), "--tracks", str(tmp_path)]) == 1
    assert "no tracked clip" in capsys.readouterr().out
