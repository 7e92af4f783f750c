"""The shipped face basis and the script that builds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from engine.config import asset_path
from engine.errors import AssetError
from engine.face.basis import PARTS, FaceBasis, load_basis, read_basis
from engine.face.residual import INNER_LIPS
from engine.types import EXPRESSION_NAMES


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return load_basis()


def unit(name: str, value: float = 1.0) -> np.ndarray:
    out = np.zeros(64, np.float32)
    out[EXPRESSION_NAMES.index(name)] = value
    return out


def rewrite(path: Path, **metadata: str) -> Path:
    with safe_open(asset_path("face_basis.safetensors"), framework="numpy") as file:
        known = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, known | metadata)
    return path


def test_shapes_and_limits(basis: FaceBasis) -> None:
    vertices = len(basis.mean)
    assert asset_path("face_basis.safetensors").stat().st_size <= 12_000_000
    assert basis.identity.shape == (80, vertices, 3)
    assert basis.expression.shape == (64, vertices, 3)
    assert basis.triangles.min() == 0
    assert basis.triangles.max() == vertices - 1
    assert basis.landmark_tri.shape == basis.landmark_bary.shape == (468, 3)
    assert np.allclose(basis.landmark_bary.sum(1), 1, atol=1e-4)
    assert float(basis.metadata["storage_error_cm"]) < 0.01
    assert not basis.mean.flags.writeable


def test_parts_are_contiguous_and_all_there(basis: FaceBasis) -> None:
    assert (np.diff(basis.vertex_part.astype(int)) >= 0).all()
    assert set(basis.vertex_part.tolist()) == set(range(len(PARTS)))
    assert basis.part("face").stop == basis.part("ear").start
    assert basis.skin == slice(0, basis.part("scalp").stop)
    with pytest.raises(ValueError, match="hair"):
        basis.part("hair")


@pytest.mark.parametrize("part", ["face", "teeth_upper", "eye_left", "tongue"])
def test_triangles_wind_outward(basis: FaceBasis, part: str) -> None:
    a, b, c = (basis.mean[basis.triangles_of(part)[:, k]].astype(float) for k in range(3))
    normal = np.cross(b - a, c - a)
    if part == "face":
        front = (a[:, 2] > 8) & (np.abs(a[:, 0]) < 3)
        assert normal[front, 2].mean() > 0
        return
    outward = (a - basis.mean[basis.part(part)].mean(0)) * normal
    assert outward.sum(1).mean() > 0


def test_mirror_pairs_vertices(basis: FaceBasis) -> None:
    mirror = basis.mirror
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    paired = (mirror != np.arange(len(mirror))) | (np.abs(basis.mean[:, 0]) < 0.05)
    assert paired.mean() > 0.99
    across = basis.mean[mirror] * [-1, 1, 1]
    assert np.abs(across - basis.mean)[paired].max() < 0.3
    assert np.median(np.abs(across - basis.mean).max(1)) < 0.01
    blink = EXPRESSION_NAMES.index("eyeBlinkLeft"), EXPRESSION_NAMES.index("eyeBlinkRight")
    left, right = basis.expression[blink[0]], basis.expression[blink[1]][mirror] * [-1, 1, 1]
    assert np.abs(left - right)[paired].max() < 0.3
    assert np.abs(left - right)[paired].mean() < 1e-3


def test_lip_loops_run_from_corner_to_corner(basis: FaceBasis) -> None:
    for loop in (basis.lip_upper, basis.lip_lower):
        x = basis.mean[loop, 0]
        assert x[0] == basis.mean[basis.lip_upper, 0].min()
        assert x[-1] == basis.mean[basis.lip_upper, 0].max()
    opened = basis.shape(expression=unit("jawOpen"))
    upper, lower = opened[basis.lip_upper][20, 1], opened[basis.lip_lower][18, 1]
    assert upper - lower > 2.0
    assert basis.lower[basis.lip_upper[5:-5]].max() < 0.5 < basis.lower[basis.lip_lower[5:-5]].min()


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_lid_loops_run_outward(basis: FaceBasis, side: str, sign: int) -> None:
    upper, lower = basis.lid_left if side == "left" else basis.lid_right
    assert upper[0] == lower[0]
    assert upper[-1] == lower[-1]
    assert sign * basis.mean[upper[-1], 0] > sign * basis.mean[upper[0], 0] > 0
    assert basis.mean[upper, 1].mean() > basis.mean[lower, 1].mean()


def test_identity_units_are_smooth(basis: FaceBasis) -> None:
    """Neighbours move alike: a scrambled vertex order would not."""
    edges = basis.triangles_of("face")[:, :2]
    step = np.linalg.norm(basis.identity[:, edges[:, 0]] - basis.identity[:, edges[:, 1]], axis=2).mean()
    size = np.linalg.norm(basis.identity[:, basis.part("face")], axis=2).mean()
    assert step < 0.2 * size


def test_units_move_what_they_name(basis: FaceBasis) -> None:
    moved = {n: np.linalg.norm(basis.expression[k], axis=1) for k, n in enumerate(EXPRESSION_NAMES)}
    x, skin = basis.mean[:, 0], basis.skin
    for name, size in moved.items():
        assert size.max() > 0.1, name
        if name.endswith("Left") and name not in ("mouthLeft", "jawLeft"):
            assert x[skin][np.argmax(size[skin])] >= -0.1 or size[skin].max() < 0.01, name
    assert moved["jawOpen"][basis.part("teeth_lower")].min() > 1
    assert moved["jawOpen"][basis.part("teeth_upper")].max() < 0.2
    for name in ("tongueOut", "tongueUp", "tongueBack"):
        others = np.ones(len(x), bool)
        others[basis.part("tongue")] = False
        assert moved[name][others].max() == 0
    whole = basis.expression[EXPRESSION_NAMES.index("browInnerUp")]
    halves = [basis.expression[EXPRESSION_NAMES.index(f"browInnerUp{s}")] for s in ("Left", "Right")]
    assert np.abs(whole - sum(halves)).max() < 2e-3


def test_tongue_reaches_over_the_lower_lip(basis: FaceBasis) -> None:
    shape = basis.shape(expression=unit("tongueOut") + unit("jawOpen", 0.5))
    tip = shape[basis.part("tongue"), 2].max()
    assert tip > basis.at_landmarks(shape)[17, 2] + 0.5
    assert np.isfinite(shape).all()


def test_sealed_lips_meet(basis: FaceBasis) -> None:
    def gap(expression: np.ndarray | None) -> float:
        at = basis.at_landmarks(basis.shape(expression=expression))
        return float((at[INNER_LIPS[0], 1] - at[INNER_LIPS[1], 1])[3:-3].mean())

    assert gap(None) > 0.05
    assert gap(unit("lipsSealed")) < 0.03


def test_middle_teeth_touch(basis: FaceBasis) -> None:
    upper = basis.mean[basis.part("teeth_upper")]
    middle = upper[np.abs(upper[:, 0]) < 1]
    assert middle[middle[:, 0] > 0, 0].min() < 0.03


def test_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"missing.*rebuild"):
        read_basis(tmp_path / "none.safetensors")
    with pytest.raises(AssetError, match=r"version 99.*reinstall"):
        read_basis(rewrite(tmp_path / "old.safetensors", version="99"))
    with pytest.raises(AssetError, match="expression units"):
        read_basis(rewrite(tmp_path / "names.safetensors", expression_names='["smile"]'))
    cut = tmp_path / "cut.safetensors"
    shutil.copy(asset_path("face_basis.safetensors"), cut)
    with cut.open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(AssetError, match="damaged"):
        read_basis(cut)


def test_builder_gives_the_shipped_geometry(data: Path, basis: FaceBasis) -> None:
    from engine.train.basis import build

    tensors, metadata = build(data)
    assert int(metadata["vertices"]) == len(basis.mean)
    assert np.array_equal(tensors["mean"], basis.mean)
    assert np.array_equal(tensors["identity"].astype(np.float32), basis.identity)
    assert np.array_equal(tensors["triangles"].astype(np.int32), basis.triangles)
