"""`visavis track`: what is written, refused, resumed and reported."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import asset_path
from engine.errors import ConfigError, InputError
from engine.face.image import load_image
from engine.face.models import model_status
from engine.train.tracks import attempt, clip_name, gather, is_whole, main, track_clip
from engine.types import MOTION

Bytes = NDArray[np.uint8]

have_models = pytest.mark.skipif(
    not all(m.present for m in model_status()), reason="face-model files are not installed (make setup)"
)


def photo() -> Bytes:
    return np.ascontiguousarray(load_image(asset_path("demo/astronaut.png")).rgb[:400, :512], np.uint8)


def write_video(path: Path, frames: list[Bytes], sound: bool = False) -> Path:
    """A small MP4 at 25 frames/s, with a tone where ``sound``."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = file.add_stream("aac", rate=16_000) if sound else None
        for frame in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(video.encode())
        if audio is not None:
            tone = 0.3 * np.sin(np.arange(640 * len(frames)) * 0.2).astype(np.float32)
            block = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            block.sample_rate = 16_000
            file.mux(audio.encode(block))
            file.mux(audio.encode())
    return path


def swaying(count: int = 30) -> list[Bytes]:
    return [np.roll(photo(), round(4 * np.sin(t / 4)), axis=1) for t in range(count)]


def test_names_tell_where_a_clip_came_from(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("talking/grid/a.mp4", "driving/d0.mov", "talking/notes.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    assert list(gather([], data)) == ["grid__a.mp4.npz", "driving__d0.mov.npz"]
    assert list(gather([data / "talking"], None)) == ["grid__a.mp4.npz"]
    assert list(gather([data / "talking/grid/a.mp4"], None)) == ["a.mp4.npz"]
    assert clip_name(data, data / "talking/grid/a.mp4") == "grid__a.mp4.npz"
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match="separately"):
        gather([tmp_path / "a.mp4", data / "talking/grid/a.mp4"], None)
    with pytest.raises(InputError, match=r"missing\.mp4"):
        gather([tmp_path / "missing.mp4"], None)
    with pytest.raises(ConfigError, match="--data"):
        main(["--out", str(tmp_path)])


@have_models
def test_a_silent_clip_is_tracked_whole(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", swaying())
    assert track_clip(clip, tmp_path / "a.npz") == 1.0
    with np.load(tmp_path / "a.npz") as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays["motion"].shape == (30, MOTION.size)
    assert arrays["motion"].dtype == np.float32
    assert np.isfinite(arrays["motion"]).all()
    assert np.abs(arrays["motion"][:, MOTION.rotation]).max() < np.radians(3.0)
    assert arrays["motion"][:, MOTION.index("tx")].std() > 0.01
    assert arrays["points"].shape == (30, 478, 2)
    assert arrays["confidence"].min() > 0.8
    assert arrays["confidence"].max() <= 1.0
    assert arrays["residual"].max() < 3.0
    assert not arrays["has_audio"]
    assert np.array_equal(arrays["audio"], np.zeros(30 * 640, np.int16))
    assert arrays["shots"].tolist() == [[0, 30]]
    assert is_whole(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:2000])
    assert not is_whole(tmp_path / "a.npz")


@have_models
def test_the_longest_shot_is_kept(tmp_path: Path) -> None:
    nearer = np.ascontiguousarray(np.repeat(np.repeat(photo()[20:220, 100:356], 2, 0), 2, 1))
    clip = write_video(tmp_path / "a.mp4", [*swaying(12), *[nearer] * 28], sound=True)
    outcome = attempt(clip, tmp_path / "a.npz")
    assert outcome.state == "tracked"
    assert outcome.shots == 2
    assert outcome.note == "2 shots; kept 0.5..1.6 s"
    assert outcome.has_audio
    with np.load(tmp_path / "a.npz") as file:
        assert not file["valid"][:12].any()
        assert file["valid"][12:].all()
        assert np.isnan(file["motion"][:12]).all()
        assert (file["confidence"][:12] == 0).all()
        assert np.abs(file["audio"].astype(int)).max() > 3000


@have_models
@pytest.mark.parametrize("kind", ["nobody", "small", "short", "broken"])
def test_useless_clips_are_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    clip = tmp_path / "a.mp4"
    small = np.ascontiguousarray(photo()[::4, ::4])
    frames = {
        "nobody": [np.full((64, 64, 3), 90, np.uint8)] * 30,
        "small": [small] * 30,
        "short": swaying(10),
    }
    if kind == "broken":
        clip.write_bytes(b"no video at all")
    else:
        write_video(clip, frames[kind])
    outcome = attempt(clip, tmp_path / "a.npz")
    assert outcome.state == "refused"
    wanted = {"nobody": "no face", "small": "too small", "short": "0.4 s", "broken": "cannot be read"}
    assert wanted[kind] in outcome.note
    assert not (tmp_path / "a.npz").exists()


@have_models
def test_a_second_run_does_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    write_video(clips / "good.mp4", swaying())
    (clips / "broken.mp4").write_bytes(b"no video at all")
    arguments = [str(clips), "--out", str(out)]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "1 of 2 clips tracked" in first
    assert "refused broken.mp4" in first
    assert "without sound: 1 (good.mp4)" in first
    stamp = (out / "good.mp4.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert (out / "good.mp4.npz").stat().st_mtime_ns == stamp
    with (out / "report.csv").open() as file:
        assert sorted(row["state"] for row in csv.DictReader(file)) == ["refused", "tracked"]
    assert main([str(clips / "broken.mp4"), "--out", str(out)]) == 1
    assert not list(out.rglob("*.part"))
