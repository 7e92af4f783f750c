"""The reenactment benchmark on a clip whose motion is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality import animator as benchmark
from benchmarks.quality.reenacted import Clip, bridged, choose_frames, draw, list_clips, make_animators
from benchmarks.quality.report import METRICS, groups_of, mean_rows, report, wins, worst
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.sheet import moved
from engine.config import asset_path
from engine.errors import InputError
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.stage import StageSpec
from engine.train.tracks import track_clip
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat
from tests.engine.face.test_video import write

FRAMES = 40


def test_frames_are_runs_that_are_seen_and_evenly_spread() -> None:
    seen = np.ones(200, np.bool_)
    seen[60:70] = False
    chosen = choose_frames(seen)
    assert len(chosen) == 48
    assert chosen == sorted(set(chosen))
    assert seen[chosen].all()
    assert chosen[0] == 0
    assert chosen[-1] == 199
    assert choose_frames(np.ones(30, np.bool_)) == [*range(12), *range(12, 24)]
    assert choose_frames(np.zeros(30, np.bool_)) == []
    assert choose_frames(np.arange(40) % 11 > 0) == []


def test_unseen_motion_is_bridged() -> None:
    motion = np.zeros((5, MOTION.size), np.float32)
    motion[:, 3] = [np.nan, 1.0, np.nan, 3.0, np.nan]
    assert bridged(motion)[:, 3].tolist() == [1.0, 1.0, 2.0, 3.0, 3.0]
    with pytest.raises(InputError, match="no frame"):
        bridged(np.full((2, MOTION.size), np.nan, np.float32))


def test_only_tracked_clips_of_the_split_are_listed(tmp_path: Path) -> None:
    rows = [
        "path,split,use",
        "talking/a/x.mp4,test,eval",
        "talking/y.mp4,train,train",
        "driving/z.mov,dev,eval",
        "talking/untracked.mp4,test,eval",
        "talking/w.mp4,test_seen_speaker,eval",
    ]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(rows))
    for name in ("a__x.mp4", "y.mp4", "driving__z.mov", "w.mp4"):
        (tmp_path / f"{name}.npz").touch()
    assert list_clips(tmp_path, tmp_path, ["test"]) == [
        Clip("a/x.mp4", tmp_path / "talking/a/x.mp4", tmp_path / "a__x.mp4.npz")
    ]
    assert [c.name for c in list_clips(tmp_path, tmp_path, ["dev", "test"])] == ["a/x.mp4", "driving/z.mov"]
    with pytest.raises(InputError, match="MANIFEST"):
        list_clips(tmp_path / "none", tmp_path, ["test"])


# -- animators ---------------------------------------------------------------------------------


@dataclass
class _State:
    rows: list[Tensor]
    start: int
    given: int


class WindowAnimator:
    """Pixels show the mean of jawOpen over +-2 frames: an animator that looks ahead."""

    def __init__(self) -> None:
        self.spec = StageSpec("window", "motion", "frames", lookahead_frames=2, frame_rate=Fraction(25))

    def prepare(self, portrait: Any) -> Any:
        return None

    def init_state(self, batch: int, cond: Cond) -> _State:
        return _State([], -1, 0)

    def step(self, x: MotionChunk, state: _State) -> FrameChunk:
        state.start = x.t0 if state.start < 0 else state.start
        state.rows += list(x.data[0, :, MOTION.index("jawOpen")])
        return self._due(state, len(state.rows) - 2)

    def drain(self, state: _State) -> FrameChunk:
        return self._due(state, len(state.rows))

    def reset(self, state: _State, rows: Tensor) -> None:
        raise NotImplementedError

    def forward(self, x: MotionChunk, cond: Cond) -> Tensor:
        raise NotImplementedError

    def _due(self, state: _State, stop: int) -> FrameChunk:
        first, state.given = state.given, max(state.given, stop)
        means = [torch.stack(state.rows[max(0, n - 2) : n + 3]).mean() for n in range(first, state.given)]
        values = torch.stack(means) if means else torch.zeros(0)
        return FrameChunk(state.start + first, values.round().byte()[None, :, None, None, None])


def test_windows_around_the_frames_of_a_run_are_whole() -> None:
    motion = np.zeros((60, MOTION.size), np.float32)
    motion[:, MOTION.index("jawOpen")] = jaw = np.arange(60, dtype=np.float32) * 4
    shown = [*range(12, 24), *range(48, 60)]
    drawn = [int(frame.ravel()[0]) for frame in draw(WindowAnimator(), None, motion, shown)]
    wanted = [round(float(jaw[max(0, n - 2) : n + 3].mean())) for n in shown]
    assert drawn == wanted


def test_drawn_frames_are_those_of_the_whole_stream() -> None:
    animator = MeshAnimator()
    identity = animator.prepare(analyse_portrait(load_image(asset_path("demo/astronaut.png"))))
    motion = np.stack([moved(identity.rest, {"jawOpen": 0.02 * n, "ry": float(n)}) for n in range(9)])
    whole = animator.forward(MotionChunk(0, torch.from_numpy(motion)[None]), Cond.for_identity(identity))[0]
    frames = draw(animator, identity, motion, [0, 1, 6, 7])
    assert all(np.array_equal(a, whole[n].numpy()) for a, n in zip(frames, [0, 1, 6, 7], strict=True))


def test_animators_are_named_or_made_by_a_path() -> None:
    path = f"new={__name__}:make_window"
    found = make_animators(["mesh", path])
    assert list(found) == ["mesh", "new"]
    assert isinstance(found["new"], WindowAnimator)
    assert "mesh" in make_animators(None)
    for wrong in ("nobody", "new=no.such.module:x", f"new={__name__}:nothing", f"new={__name__}"):
        with pytest.raises(InputError):
            make_animators([wrong])


def make_window(pixels: PixelFormat) -> WindowAnimator:
    return WindowAnimator()


# -- tables ------------------------------------------------------------------------------------


def made_up() -> dict[str, dict[str, dict[str, float]]]:
    def row(lmd: float, ssim: float) -> dict[str, float]:
        return {m.key: float("nan") for m in METRICS} | {"lmd_m": lmd, "ssim": ssim}

    return {
        "grid/a.mp4": {"real": row(0.0, 1.0), "mesh": row(2.0, 0.8), "new": row(1.0, 0.7)},
        "talk.mp4": {"real": row(0.0, 1.0), "mesh": row(4.0, float("nan")), "new": row(3.0, 0.9)},
    }


def test_means_wins_and_the_worst() -> None:
    clips = made_up()
    groups = groups_of(clips)
    assert groups == {"all": ["grid/a.mp4", "talk.mp4"], "free_talk": ["talk.mp4"], "read": ["grid/a.mp4"]}
    rows = mean_rows(clips, groups["all"])
    assert rows["mesh"]["lmd_m"] == 3.0
    assert rows["mesh"]["ssim"] == 0.8
    assert np.isnan(rows["mesh"]["cpbd"])
    by_key = {m.key: m for m in METRICS}
    assert wins(clips, "new", by_key["lmd_m"]) == (2, 2)
    assert wins(clips, "new", by_key["ssim"]) == (0, 1)
    assert worst(clips, "mesh", by_key["lmd_m"], 1) == [("talk.mp4", 4.0)]
    assert worst(clips, "new", by_key["ssim"], 1) == [("grid/a.mp4", 0.7)]
    text = report(clips)
    assert "2/2" in text
    assert "VAST, GRID" in text


# -- everything --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one test clip: a photo that talks, turns and blinks, drawn by the mesh."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "talking").mkdir()
    (folder / "MANIFEST.csv").write_text("path,split,use\ntalking/nod.mp4,test,eval\n")
    animator = MeshAnimator()
    identity = animator.prepare(analyse_portrait(load_image(asset_path("demo/astronaut.png"))))
    motion = [
        moved(
            identity.rest,
            {
                "jawOpen": float(0.2 - 0.2 * np.cos(n / 3.0)),
                "ry": float(6.0 * np.sin(n / 9.0)),
                "eyeBlink": float(max(0.0, 1.0 - abs(n - 22) / 3.0)),
            },
        )
        for n in range(FRAMES)
    ]
    frames = draw(animator, identity, np.stack(motion).astype(np.float32), list(range(FRAMES)))
    clip = write(folder / "talking" / "nod.mp4", frames, [24 * n for n in range(FRAMES)])
    track_clip(clip, folder / "nod.mp4.npz")
    return folder


def test_the_mesh_is_nearer_to_the_clip_than_its_portrait(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheets" / "page.png"
    arguments = ["--data", str(people), "--tracks", str(people), "--animator", "mesh", "--sheet", str(sheet)]
    assert benchmark.main(arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    rows = result["rows"]["all"]
    still, mesh = rows["still"], rows["mesh"]
    for key in ("lmd", "lmd_m", "pose_deg", "blink", "jitter_error"):
        assert mesh[key] < still[key], key
    for key in ("ssim_face", "ssim_mouth", "psnr_face"):
        assert mesh[key] > still[key], key
    assert rows["floor"]["lmd_m"] < mesh["lmd_m"] < 1.5
    assert mesh["found"] == 1.0
    assert rows["real"]["frames"] == 36
    values = dict(zip(result["metrics"], result["clips"]["nod.mp4"]["mesh"], strict=True))
    assert values["lmd_m"] == mesh["lmd_m"]
    picture: NDArray[np.uint8] = load_image(sheet).rgb
    assert picture.shape[0] == 2 * 224


def test_what_cannot_be_measured_is_said(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--data", str(people), "--tracks", str(people)]
    assert benchmark.main([*there, "--split", "dev"]) == 1
    assert benchmark.main([*there, "--animator", "nobody"]) == 1
    said = capsys.readouterr().err
    assert "no tracked clip of dev" in said
    assert "no animator nobody" in said
