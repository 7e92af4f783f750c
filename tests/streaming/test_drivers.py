"""Driving clips and webcams: seams, gaps, factors, a lost face; and on to sessions and rendering."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.animators.tiny import TinyAnimator
from engine.config import asset_path
from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.errors import InputError
from engine.pipeline import Pipeline
from engine.samplers.factors import EXPRESSION, EYES, LIPS, POSE
from engine.samplers.speech import SpeechSampler
from engine.types import CONTROLS, MOTION, Cond
from engine.weights import weights_path
from streaming.drivers import ClipDriver, Drivers, WebcamDriver, open_drivers, parse_drives
from streaming.render import render_pictures
from streaming.webcam import TRACKERS
from tests.streaming.helpers import stage

Floats = NDArray[np.float32]
DRIVER = CONTROLS.driver
LIDS = MOTION.columns("eyeBlink")


def wander(frames: int, seed: int = 0) -> Floats:
    """Smooth random motion [T, 72]; expressions within 0..1, pose as people turn their heads."""
    noise = np.random.default_rng(seed)
    t = np.arange(frames)[:, None] / 25
    phase = noise.uniform(0, 6.3, (1, MOTION.size))
    wave = np.sin(2 * np.pi * noise.uniform(0.2, 0.9, (1, MOTION.size)) * t + phase)
    motion = 0.3 + 0.2 * wave
    motion[:, MOTION.expression.stop :] = 0.1 * wave[:, MOTION.expression.stop :]
    motion[:, LIDS] = motion[:, LIDS[:1]]
    return motion.astype(np.float32)


def rows(driver: ClipDriver, frames: int) -> Floats:
    return np.stack([driver.row(n) for n in range(frames)])


def test_a_clip_plays_from_its_start_and_loops_without_a_jump() -> None:
    motion = wander(80)
    played = rows(ClipDriver(motion), 300)
    np.testing.assert_array_equal(played[:60], motion[:60])
    inside = np.abs(np.diff(motion, axis=0)).max()
    # The bridge adds, to the clip's own speed, the gap between its ends spread over half a second.
    gap = np.abs(motion[-12:] - motion[:12]).max()
    assert np.abs(np.diff(played, axis=0)).max() < inside + 1.6 * gap / 12


@pytest.mark.parametrize("frames", [1, 2, 3, 11, 25])
def test_short_clips_loop_too(frames: int) -> None:
    played = rows(ClipDriver(wander(frames)), 60)
    assert played.shape == (60, 72)
    assert np.isfinite(played).all()


def test_unseen_frames_are_bridged() -> None:
    motion = wander(50)
    motion[20:30] = np.nan
    motion[:3] = np.nan
    played = ClipDriver(motion).motion
    np.testing.assert_allclose(played[25], 0.5 * (motion[19] + motion[30]), atol=0.03)
    np.testing.assert_array_equal(played[0], motion[3])


def test_a_blink_seen_by_half_is_a_blink_and_a_wink_a_wink() -> None:
    motion = np.zeros((3, MOTION.size), np.float32)
    motion[:, LIDS] = [[0.9, 0.32], [0.9, 0.05], [0.0, 0.0]]
    played = ClipDriver(motion).motion[:, LIDS]
    np.testing.assert_allclose(played, [[0.9, 0.9], [0.9, 0.05], [0.0, 0.0]], atol=1e-6)


def test_a_clip_without_a_face_is_refused() -> None:
    with pytest.raises(InputError, match="no frame with a face"):
        ClipDriver(np.full((10, 72), np.nan, np.float32))
    with pytest.raises(InputError, match=r"\[T, 72\]"):
        ClipDriver(np.zeros((10, 6), np.float32))


def test_a_tracked_file_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    motion = wander(30)
    np.savez(tmp_path / "a.npz", motion=motion)
    np.testing.assert_array_equal(ClipDriver.open(tmp_path / "a.npz").motion, motion)
    np.savez(tmp_path / "b.npz", other=motion)
    with pytest.raises(InputError, match="no tracked motion"):
        ClipDriver.open(tmp_path / "b.npz")
    with pytest.raises(InputError, match="no driving clip"):
        ClipDriver.open(tmp_path / "c.mp4")


def test_a_video_is_tracked_once(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.drivers.cache_dir", lambda: tmp_path)
    clip = data / "driving" / "liveportrait_d0.mp4"
    first = ClipDriver.open(clip, max_frames=12)
    assert len(first) == 12
    assert len(list((tmp_path / "motion").glob("*.npz"))) == 1
    monkeypatch.setattr("streaming.drivers.track_motion", lambda *_: pytest.fail("tracked again"))
    np.testing.assert_array_equal(ClipDriver.open(clip, max_frames=12).motion, first.motion)


class Counting:
    """A source that counts how often it is asked, all columns at ``value``."""

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value
        self.asked = 0
        self.closed = False

    def row(self, frame: int) -> Floats:
        self.asked += 1
        return np.full(MOTION.size, self.value, np.float32)

    def close(self) -> None:
        self.closed = True


def test_each_factor_comes_from_its_own_source() -> None:
    head, face = Counting("head", 0.2), Counting("face", 0.4)
    drivers = Drivers({"pose": head, "eyes": head, "expression": face})
    row = np.array(drivers.apply(CONTROLS.neutral, 0))
    motion = row[DRIVER]
    np.testing.assert_allclose(motion[POSE + EYES], 0.2, atol=1e-6)
    np.testing.assert_allclose(motion[EXPRESSION + LIPS], 0.4, atol=1e-6)
    assert (head.asked, face.asked) == (1, 1)
    others = [k for k in range(CONTROLS.size) if not DRIVER.start <= k < DRIVER.stop]
    np.testing.assert_array_equal(row[others], np.array(CONTROLS.neutral)[others])
    assert drivers.names == {"pose": "head", "eyes": "head", "expression": "face"}


def test_a_clip_that_joins_late_starts_at_its_beginning() -> None:
    clip = ClipDriver(wander(60))
    drivers = Drivers({"pose": clip})
    motion = [np.array(drivers.apply(CONTROLS.neutral, n))[DRIVER] for n in (5000, 5001)]
    np.testing.assert_allclose(np.array(motion)[:, POSE], clip.motion[:2, POSE], atol=1e-6)


def test_lips_have_the_word_about_lips() -> None:
    drivers = Drivers({"expression": Counting("a", 0.4), "lips": Counting("b", 0.6)})
    motion = np.array(drivers.apply(CONTROLS.neutral, 0))[DRIVER]
    np.testing.assert_allclose(motion[LIPS], 0.6, atol=1e-6)
    np.testing.assert_allclose(motion[EXPRESSION], 0.4, atol=1e-6)


def test_values_stay_in_range_and_a_source_that_is_not_needed_is_given_back() -> None:
    wild = Counting("wild", 9.0)
    drivers = Drivers({"pose": wild, "eyes": wild})
    motion = np.array(drivers.apply(CONTROLS.neutral, 0))[DRIVER]
    assert motion[POSE].max() == 2.0
    wild.value = float("nan")
    assert np.isfinite(drivers.apply(CONTROLS.neutral, 1)).all()
    assert drivers.set("pose", None) is None
    assert drivers.set("eyes", None) is wild
    assert drivers.apply(CONTROLS.neutral, 2) is CONTROLS.neutral
    with pytest.raises(InputError, match="no factor 'hair'"):
        drivers.set("hair", wild)


def test_the_command_lines_drives(tmp_path: Path) -> None:
    assert parse_drives(["pose=a.mp4", "eyes=b=c.mp4"]) == {"pose": Path("a.mp4"), "eyes": Path("b=c.mp4")}
    for wrong in (["pose"], ["hair=a.mp4"], ["pose="], ["pose=a.mp4", "pose=b.mp4"]):
        with pytest.raises(InputError, match="--drive"):
            parse_drives(wrong)
    np.savez(tmp_path / "a.npz", motion=wander(30))
    drivers = open_drivers({"pose": tmp_path / "a.npz", "eyes": tmp_path / "a.npz"})
    followed = drivers.followed(CONTROLS.neutral, 0.5)
    assert [followed[CONTROLS.index(f"follow.{f}")] for f in ("lips", "pose", "eyes")] == [0.0, 0.5, 0.5]


# -- a webcam ----------------------------------------------------------------------------------


def picture(yaw_px: float = 0.0, degrees: float = 0.0) -> NDArray[np.uint8]:
    """The bundled portrait, moved and turned in its frame."""
    loaded = cv2.imread(str(asset_path("demo/astronaut.png")), cv2.IMREAD_COLOR)
    assert loaded is not None
    height, width = loaded.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    matrix[0, 2] += yaw_px
    moved = cv2.warpAffine(loaded, matrix, (width, height))
    return np.ascontiguousarray(moved[..., ::-1], np.uint8)


def feed(driver: WebcamDriver, rgb: NDArray[np.uint8], pictures: int) -> Floats:
    """Show ``rgb`` so often, each looked at; the motion after it."""
    row = driver.row(0)
    for _ in range(pictures):
        driver.put(rgb)
        while driver.busy:
            time.sleep(0.001)
        row = driver.row(0)
    return row


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_webcam_learns_the_rest_follows_and_lets_go(tracker: str) -> None:
    if tracker == "neural" and not weights_path("tracker").is_file():
        pytest.skip("the tracker's weights are not here")
    driver = WebcamDriver(neutral=3, hold=4, tracker=tracker)
    try:
        row = feed(driver, picture(), 10)
        assert driver.error is None
        assert driver.seen
        assert np.abs(row[MOTION.rotation]).max() < np.radians(1.5)
        turned = feed(driver, picture(degrees=10.0), 12)
        assert turned[MOTION.index("rz")] == pytest.approx(np.radians(10.0), abs=np.radians(2.0))
        # A face that is lost is held, then relaxes to rest without a jump.
        lost = np.stack([feed(driver, np.zeros_like(picture()), 1) for _ in range(3)])
        assert lost[-1, MOTION.index("rz")] > np.radians(7.0)
        easing = np.stack([driver.row(0) for _ in range(60)])
        assert np.abs(easing[-1]).max() < 0.01
        assert np.abs(np.diff(easing[:, MOTION.rotation], axis=0)).max() < np.radians(2.0)
    finally:
        driver.close()


def test_a_webcam_takes_only_pictures() -> None:
    driver = WebcamDriver()
    with pytest.raises(InputError, match="uint8"):
        driver.put(np.zeros((4, 4, 3), np.float32))
    assert not driver.row(0).any()
    driver.close()
    with pytest.raises(InputError, match="no tracker"):
        WebcamDriver(tracker="oracle")


# -- where the rows go --------------------------------------------------------------------------


async def test_a_sessions_driver_travels_with_every_frame_and_is_closed_with_it() -> None:
    live = stage()
    first, second = Counting("a", 0.3), Counting("b", 0.5)
    live.session.set_driver("pose", first, share=0.8)
    assert live.session.controls[CONTROLS.index("follow.pose")] == pytest.approx(0.8)
    await live.run_until(400)
    assert first.asked >= 9
    live.session.set_driver("pose", second)
    assert first.closed
    assert not second.closed
    assert live.session.stats()["drivers"] == {"pose": "b"}
    await live.session.close()
    assert second.closed


def test_rendering_follows_a_clips_head() -> None:
    encoder = PpgEncoder(backend="eager")
    motions: list[Floats] = []

    class Watching(SpeechSampler):
        """Keeps what it delivers."""

        def step(self, x, state):  # type: ignore[no-untyped-def]
            chunk = super().step(x, state)
            motions.extend(chunk.data[0].numpy())
            return chunk

    pipeline = Pipeline(encoder, Watching(FEATURES, encoder.spec.output), TinyAnimator())
    clip = ClipDriver(wander(60))
    audio = np.zeros(48_000, np.float32)
    frames = list(render_pictures(pipeline, Cond.default(1), audio, drivers=Drivers({"pose": clip})))
    assert len(frames) == 25
    delivered = np.stack(motions)[:25]
    # The base mixes two frames of `follow`, which is 1 from the start here: no lag at all.
    np.testing.assert_allclose(delivered[:, MOTION.pose], clip.motion[:25, MOTION.pose], atol=1e-5)
